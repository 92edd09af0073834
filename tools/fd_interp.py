"""fd-interp: interpolate between faces in latent space."""

import fd_cli

from typing import Annotated, Literal

import typer


def interpolate(
    first: Annotated[str, typer.Argument(metavar="A", help="Start latents.")],
    second: Annotated[str, typer.Argument(metavar="B", help="End latents.")],
    steps: Annotated[
        int,
        typer.Option(
            "--steps", min=2, max=100_000, metavar="N", help="Rows per pair, including A and B."
        ),
    ] = 5,
    part: Annotated[
        Literal["both", "identity", "expression"],
        typer.Option("--part", help="Latents to interpolate; the others stay those of A."),
    ] = "both",
    output: fd_cli.Output = "-",
    all_pairs: Annotated[
        bool,
        typer.Option("--all-pairs", help="Interpolate between every row of A and every row of B."),
    ] = False,
    stream: fd_cli.Stream = False,
    force: fd_cli.Force = False,
) -> None:
    """Interpolate linearly between latents A and B.

    One row with one, one with many, many with one, or equal numbers row by row; --all-pairs
    combines every row of one with every row of the other. One of the two inputs may be - for
    standard input, and one may be a plain float array (N, D_id + D_exp).
    The rows are named A__B/0, A__B/1, ..., so that fd-decode -o dir/ makes one folder per pair.

    Examples:
      fd-interp alice.npy bob.npy --steps 7 | fd-decode -o between/
    """
    from facedis_core.data.latents import save_latents
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output
    from facedis_core.pipeline.combine import interpolate_blocks, open_pair, pair_rows

    check_suffix(output, "latents", ".npy")
    check_output(output, force)
    with open_pair(first, second) as rows:
        between = interpolate_blocks(pair_rows(*rows, all_pairs=all_pairs), steps, part)
        save_latents(output, between, force=force, stream=stream)


def main() -> None:
    """Entry point of fd-interp."""
    fd_cli.run(interpolate)


if __name__ == "__main__":
    main()
