"""fd-transfer: the identity of one face with the expression of another."""

from typing import Annotated

import typer

import fd_cli


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
    force: fd_cli.Force = False,
) -> None:
    """Combine the identity of the first latents with the expression of the second.

    One with one, one with many, many with one, or as many with as many, row by row; one of the
    two may be - for standard input, and one a plain float array (N, D_id + D_exp).
    """
    from facedis_core.errors import UsageError
    from facedis_core.latents import read_latents_pair, write_latents
    from facedis_core.streams import check_output, open_output
    from facedis_core.transfer import transfer as combine

    if identity == expression == "-":
        raise UsageError("standard input (-) is named twice; give a file for one of the two")
    check_output(output, force)
    rows = read_latents_pair(identity, expression)
    combined = combine(*rows, all_pairs=all_pairs, scale=scale)
    with open_output(output, force=force) as stream:
        write_latents(stream, combined)


def main() -> None:
    """Entry point of fd-transfer."""
    fd_cli.run(transfer)


if __name__ == "__main__":
    main()
