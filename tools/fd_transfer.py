"""fd-transfer: the identity of one face with the expression of another."""

import fd_cli

from typing import Annotated

import typer


def transfer(
    identity: Annotated[
        str, typer.Argument(metavar="IDENTITY", help="Latents whose identity is taken.")
    ],
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Latents whose expression is taken.")
    ],
    output: fd_cli.Output = "-",
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every identity with every expression.")
    ] = False,
    scale: Annotated[
        float, typer.Option("--scale", metavar="FACTOR", help="Multiply the expression latents.")
    ] = 1.0,
    stream: fd_cli.Stream = False,
    force: fd_cli.Force = False,
) -> None:
    """Combine the identity of the first latents with the expression of the second.

    One with one, one with many, many with one, or as many with as many, row by row; one of the
    two may be - for standard input, and one a plain float array (N, D_id + D_exp).
    """
    from facedis_core.latents import save_latents
    from facedis_core.pairing import open_pair, paired
    from facedis_core.streams import check_output
    from facedis_core.transfer import transferred

    check_output(output, force)
    with open_pair(identity, expression) as rows:
        combined = transferred(paired(*rows, all_pairs=all_pairs), scale)
        save_latents(output, combined, force=force, stream=stream)


def main() -> None:
    """Entry point of fd-transfer."""
    fd_cli.run(transfer)


if __name__ == "__main__":
    main()
