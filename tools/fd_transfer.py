"""fd-transfer: combine the identity of one face with the expression of another."""

import fd_cli

from typing import Annotated

import typer


def transfer(
    identity: Annotated[
        str, typer.Argument(metavar="IDENTITY", help="Latents that give the identity.")
    ],
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Latents that give the expression.")
    ],
    output: fd_cli.Output = "-",
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Combine every identity with every expression.")
    ] = False,
    scale: Annotated[
        float, typer.Option("--scale", metavar="FACTOR", help="Factor on the expression latents.")
    ] = 1.0,
    stream: fd_cli.Stream = False,
    force: fd_cli.Force = False,
) -> None:
    """Combine the identity of the first latents with the expression of the second.

    One row with one, one with many, many with one, or equal numbers row by row; --all-pairs
    combines every row of one with every row of the other. One of the two inputs may be - for
    standard input, and one may be a plain float array (N, D_id + D_exp).

    Examples:
      fd-transfer alice.npy bob_smile.npy | fd-decode > alice_smiles.ply
      fd-transfer alice.npy faces.npy --scale 1.5 | fd-decode -o exaggerated/
    """
    from facedis_core.data.latents import save_latents
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output
    from facedis_core.pipeline.combine import open_pair, pair_rows, transfer_blocks

    check_suffix(output, "latents", ".npy")
    check_output(output, force)
    with open_pair(identity, expression) as rows:
        combined = transfer_blocks(pair_rows(*rows, all_pairs=all_pairs), scale)
        save_latents(output, combined, force=force, stream=stream)


def main() -> None:
    """Entry point of fd-transfer."""
    fd_cli.run(transfer)


if __name__ == "__main__":
    main()
