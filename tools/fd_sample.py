"""fd-sample: draw new people and expressions."""

import fd_cli

from typing import Annotated

import typer


def sample(
    latents: Annotated[
        str,
        typer.Argument(
            metavar="LATENTS", help="Latents of many faces, whose distribution is sampled."
        ),
    ] = "-",
    output: fd_cli.Output = "-",
    count: Annotated[
        int, typer.Option("-n", min=1, max=1_000_000, help="Number of faces; with --of per person.")
    ] = 1,
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="LATENTS",
            show_default=False,
            help="Give these people new expressions.  [default: new people with new expressions]",
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0,
            help="Factor on the distance from the mean face and the mean expression: below 1 "
            "plainer, above 1 caricatures.",
        ),
    ] = 1.0,
    seed: fd_cli.Seed = 0,
    force: fd_cli.Force = False,
) -> None:
    """Draw new people, or new expressions of given people, like those of given latents.

    Identities come from a Gaussian with the mean and covariance of the latents, expressions from a
    mixture of Gaussians about them. fd-decode --part identity gives new people without expression.

    Examples:
      fd-sample faces.npy -n 20 --seed 1 | fd-decode --part identity -o people/
      fd-sample faces.npy -n 5 --of alice.npy | fd-decode -o alice_moods/
    """
    from facedis_core.data.latents import read_latents, save_latents
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output
    from facedis_core.pipeline.sample import sample as draw

    check_suffix(output, "latents", ".npy")
    check_output(output, force)
    fd_cli.check_read_once(latents, *([of] if of else []))
    known = read_latents(latents)
    people = None if of is None else read_latents(of, sizes=known.sizes)
    drawn = draw(known, count, seed=seed, temperature=temperature, of=people)
    save_latents(output, [drawn], force=force)


def main() -> None:
    """Entry point of fd-sample."""
    fd_cli.run(sample)


if __name__ == "__main__":
    main()
