"""fd-encode: meshes to latents."""

from typing import Annotated

import typer

import fd_cli


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESH|DIR|SET|-", show_default=False, help="Faces; - or nothing = PLY on stdin."
        ),
    ] = None,
    output: fd_cli.Output = "-",
    model: fd_cli.ModelOption = None,
    split: fd_cli.Split = "all",
    align: fd_cli.Align = "auto",
    units: fd_cli.Units = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: Annotated[
        bool, typer.Option("--force-encode", help="Also encode what looks like no face.")
    ] = False,
    keep_going: fd_cli.KeepGoing = False,
    force: fd_cli.Force = False,
) -> None:
    """Turn registered faces into latents of identity and expression (.npy).

    Takes meshes as the model knows them or raw ones of its data set, folders of meshes, face
    sets, and PLY after PLY on standard input, in any mixture.
    """
    from facedis_core.encoding import encode_faces, find_faces
    from facedis_core.errors import CheckFailed, InputError
    from facedis_core.inference import load_model
    from facedis_core.latents import write_latents
    from facedis_core.streams import check_output, open_output

    skipped = 0

    def skip(error: InputError) -> None:
        nonlocal skipped
        skipped += 1
        fd_cli.warn(f"skipped: {error}")

    check_output(output, force)
    faces = find_faces(inputs or ["-"], split, keep_going=keep_going)
    latents = encode_faces(
        load_model(model),
        fd_cli.progress(faces.items, "encoding", faces.count),
        units=units,
        align=align,
        trust_order=trust_order,
        far_faces=force_encode,
        warn=fd_cli.warn,
        skip=skip if keep_going else None,
    )
    if latents is not None:
        with open_output(output, force=force) as stream:
            write_latents(stream, latents)
    if skipped:
        done = 0 if latents is None else len(latents)
        raise CheckFailed(f"{skipped} of {skipped + done} faces could not be encoded")


def main() -> None:
    """Entry point of fd-encode."""
    fd_cli.run(encode)


if __name__ == "__main__":
    main()
