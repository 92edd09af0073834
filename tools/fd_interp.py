"""fd-interp: faces on the way from one to another."""

import fd_cli

from typing import Annotated, Literal

import typer


def interpolate(
    first: Annotated[str, typer.Argument(metavar="A", help="Latents where the ways begin.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Latents where they end.")],
    steps: Annotated[
        int, typer.Option("--steps", min=2, metavar="N", help="Rows a pair, A and B among them.")
    ] = 5,
    part: Annotated[
        Literal["both", "identity", "expression"],
        typer.Option("--part", help="What changes; the other part stays that of A."),
    ] = "both",
    output: fd_cli.Output = "-",
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every row of A with every row of B.")
    ] = False,
    stream: fd_cli.Stream = False,
    force: fd_cli.Force = False,
) -> None:
    """Interpolate latents: rows on the straight way from A to B.

    One with one, one with many, many with one, or as many with as many, row by row; one of the
    two may be - for standard input, and one a plain float array (N, D_id + D_exp). The rows are
    named A__B/0, A__B/1, ..., so that fd-decode -o dir/ makes a folder a pair.
    """
    from facedis_core.latents import save_latents
    from facedis_core.pairing import open_pair, paired
    from facedis_core.streams import check_output
    from facedis_core.transfer import interpolated

    check_output(output, force)
    with open_pair(first, second) as rows:
        between = interpolated(paired(*rows, all_pairs=all_pairs), steps, part)
        save_latents(output, between, force=force, stream=stream)


def main() -> None:
    """Entry point of fd-interp."""
    fd_cli.run(interpolate)


if __name__ == "__main__":
    main()
