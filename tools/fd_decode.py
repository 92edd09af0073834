"""fd-decode: latents to meshes."""

import fd_cli

from enum import StrEnum
from typing import Annotated, Any

import typer


class Part(StrEnum):
    """What `--part` takes; of a Literal typer makes no list."""

    full = "full"
    identity = "identity"
    expression = "expression"


def decode(
    latents: Annotated[
        str, typer.Argument(metavar="LATENTS", help="What fd-encode or fd-transfer wrote.")
    ] = "-",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="out.ply, a folder dir/, a pattern 'dir/{name}_{part}.obj', or - for PLY after "
            "PLY.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    part: Annotated[
        list[Part] | None,
        typer.Option(
            "--part",
            metavar="full|identity|expression",
            show_default=False,
            help="The face, its identity, or its expression on the mean face; repeatable where "
            "OUT has {part}.  [default: full]",
        ),
    ] = None,
    offsets: Annotated[
        bool, typer.Option("--offsets", help="Leave the mean face out: differences to it in mm.")
    ] = False,
    npy: Annotated[
        bool, typer.Option("--npy", help="Write vertices only, as one float32 array (N, V, 3).")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Decode rows as they come, not after the last one.")
    ] = False,
    jobs: fd_cli.FaceJobs = 1,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave the files that are there as they are.")
    ] = False,
    keep_going: fd_cli.KeepGoing = False,
    failures: fd_cli.Failures = None,
    force: fd_cli.Force = False,
) -> None:
    """Turn latents into faces, in mm, as the model that encoded them sees them.

    Also takes a plain float array (N, D_id + D_exp). Nothing is written before the last row has
    come and all are known to be sound, unless --stream asks for it.
    """
    from facedis_core.decoding import Decoder, check_destination, decode_to, sound_rows
    from facedis_core.errors import UsageError
    from facedis_core.inference import load_model
    from facedis_core.latents import concatenate, open_latents

    if skip_existing and force:
        raise UsageError("--skip-existing keeps files, --force replaces them; give one of the two")
    fd_cli.check_stream(stream, jobs)
    parts: list[Any] = [chosen.value for chosen in dict.fromkeys(part or [Part.full])]
    decoder = Decoder(load_model(model), parts, offsets)
    check_destination(
        output, parts, force=force, array=npy, stream=stream, skip_existing=skip_existing
    )
    skipping = fd_cli.Skipping(keep_going, failures, output, force)
    done = 0
    with open_latents(latents) as source:
        rows = sound_rows(source, decoder.model, output, skipping.add if keep_going else None)
        blocks = rows if stream else [concatenate(list(rows))]
        total = None if stream else sum(map(len, blocks))
        with fd_cli.progress_bar("decoding", total) as advance:
            for count in decode_to(
                output,
                decoder,
                blocks,
                force=force,
                array=npy,
                skip_existing=skip_existing,
                jobs=jobs,
            ):
                done += count
                advance(count)
    skipping.finish(done)


def main() -> None:
    """Entry point of fd-decode."""
    fd_cli.run(decode)


if __name__ == "__main__":
    main()
