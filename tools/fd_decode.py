"""fd-decode: decode latents to meshes."""

import fd_cli

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


class Part(StrEnum):
    """Choices of `--part`; an enum because typer takes no list of a Literal."""

    full = "full"
    identity = "identity"
    expression = "expression"


def decode(
    latents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LATENTS",
            show_default=False,
            help="Latents from fd-encode, fd-transfer or fd-interp; default: stdin.",
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file out.ply, a folder dir/, a pattern 'dir/{name}_{part}.obj', a point cache "
            "of all rows out.pc2 or out.mdd, or - for concatenated PLY.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    part: Annotated[
        list[Part] | None,
        typer.Option(
            "--part",
            metavar="full|identity|expression",
            show_default=False,
            help="The whole face, the identity face, or the expression on the mean face; "
            "repeatable where OUT contains {part}.  [default: full]",
        ),
    ] = None,
    onto: Annotated[
        str | None,
        typer.Option(
            "--onto",
            metavar="MESH|DIR",
            show_default=False,
            help="Write the original file with moved vertices: textures, materials, polygons, unit "
            "and pose stay. A folder: the file of the row's name, or of its identity's.",
        ),
    ] = None,
    detail: Annotated[
        bool,
        typer.Option(
            "--detail/--no-detail",
            help="With --onto: keep what the model misses of the original, such as pores; or write "
            "the decoded face itself.",
        ),
    ] = True,
    normals: Annotated[
        Literal["update", "drop"],
        typer.Option(
            "--normals",
            help="With --onto: turn stored normals with the surface, or leave them out.",
        ),
    ] = "update",
    map_file: fd_cli.MapOption = None,
    units: fd_cli.Units = "auto",
    align: fd_cli.Align = "auto",
    trust_order: fd_cli.TrustOrder = False,
    offsets: Annotated[
        bool,
        typer.Option("--offsets", help="Write offsets to the mean face, in mm, instead of faces."),
    ] = False,
    npy: Annotated[
        bool, typer.Option("--npy", help="Write the vertices as one float32 array (N, V, 3).")
    ] = False,
    fps: Annotated[
        float, typer.Option("--fps", min=0.001, help="With .mdd: frames a second.")
    ] = 30.0,
    shard: fd_cli.Shard = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write each face at once instead of after the last row."),
    ] = False,
    jobs: fd_cli.FaceJobs = 1,
    scheduler: fd_cli.Scheduler = None,
    device: fd_cli.Device = "cpu",
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing", help="Keep existing output files and decode the others."),
    ] = False,
    keep_going: fd_cli.KeepGoing = False,
    failures: fd_cli.Failures = None,
    force: fd_cli.Force = False,
) -> None:
    """Decode latents to faces in mm, in the model's topology (fd-info MODEL shows it).

    A face has the vertices of the model's data set, prepared and aligned: not those that
    preparation removed, and not the pose, unit or texture of the mesh that was encoded; --onto puts
    it onto that mesh. A point cache (PC2, MDD) has a frame for each row, the vertices alone. A
    plain float array (N, D_id + D_exp) is also accepted. Without --stream nothing is written until
    all rows have been read and checked.

    Examples:
      fd-decode faces.npy -o decoded/
      fd-decode alice_smiles.npy --onto alice.obj -o alice_smiles.obj
      fd-decode frames.npy --onto alice.obj -o alice_speaks.pc2
      fd-decode smile.npy --onto rig.obj --map rig.map.safetensors -o rig_smile.obj
      fd-decode faces.npy --part full --part identity -o 'parts/{name}_{part}.obj'
    """
    from facedis_core.data.latents import concatenate, open_latents
    from facedis_core.data.topology_map import read_map
    from facedis_core.errors import ErrorCode, UsageError
    from facedis_core.model.device import on_device
    from facedis_core.model.model_file import load_model
    from facedis_core.pipeline.decode import (
        DecodeOptions,
        LatentBlocks,
        LatentDecoder,
        checked_rows,
        decode_to,
    )
    from facedis_core.pipeline.encode import warn_of_map
    from facedis_core.pipeline.file_lists import expand_pattern
    from facedis_core.pipeline.onto import OntoDecoder, find_originals
    from facedis_core.pipeline.shards import Shard, divide_latents

    given = {**locals()}
    if onto is None:
        idle = ("detail", "normals", "units", "align", "trust_order")
        fd_cli.check_idle(decode, given, "faces are put onto no file, as by --onto", only=idle)
    if Path(output).suffix.lower() not in (".mdd", ".pc2"):
        fd_cli.check_idle(decode, given, "only a point cache has frames", only=("fps",))
    workers = fd_cli.workers(scheduler, jobs)
    fd_cli.check_stream(stream, workers, shard)
    part_of_rows = None if shard is None else Shard.parse(shard)
    sources = [source for given in latents or ["-"] for source in expand_pattern(given)]
    fd_cli.check_read_once(*sources)
    parts: list[Any] = [chosen.value for chosen in dict.fromkeys(part or [Part.full])]
    originals = None if onto is None else find_originals(onto)
    if originals is not None and (npy or offsets):
        raise UsageError(
            "--onto writes whole files; leave out --npy and --offsets", ErrorCode.OPTION_CONFLICT
        )
    if map_file is not None and originals is None:
        raise UsageError(
            "--map carries faces to meshes of its rig; give one with --onto, such as the neutral",
            ErrorCode.OPTION_MISSING,
        )
    options = DecodeOptions(
        output=output,
        parts=parts,
        array=npy,
        stream=stream,
        skip_existing=skip_existing,
        force=force,
        jobs=workers,
        onto="" if originals is None else originals.format_for(output),
        fps=fps,
    )
    if part_of_rows is not None and options.in_one_file and not npy:
        raise UsageError(
            f"{output} is one file of all frames; leave out --shard, or give a folder",
            ErrorCode.OPTION_CONFLICT,
        )
    loaded = load_model(model)
    skipping = fd_cli.Skipping(keep_going, failures, output, force or skip_existing)
    done, used_map = 0, False
    skip = skipping.add if keep_going else None
    with ExitStack() as stack:  # all are open until the end, so that none can be the output
        whole = [stack.enter_context(open_latents(source)) for source in sources]
        opened: Sequence[LatentBlocks] = whole
        if part_of_rows is not None:
            sizes = loaded.config.identity, loaded.config.expression
            opened, names = divide_latents(part_of_rows, whole, sizes)
            options.check_distinct(names)
        rows = (block for source in opened for block in checked_rows(source, loaded, output, skip))
        blocks = rows if stream else [concatenate(list(rows))]
        total = None if stream else sum(map(len, blocks))
        placed = on_device(loaded, device, total, workers)
        decoder = LatentDecoder(placed, options.parts, offsets)
        if originals is not None:
            decoder = OntoDecoder(
                placed,
                options.parts,
                originals=originals,
                detail=detail,
                normals=normals,
                units=units,
                align=align,
                trust_order=trust_order,
                topology_map=None if map_file is None else read_map(map_file),
            )
        with fd_cli.progress_bar("decoding", total) as advance:
            for decoded in decode_to(options, decoder, blocks, skip):
                done += decoded.rows
                used_map |= decoded.used_map
                advance(decoded.rows)
        # other parts of a folder may need the map
        if isinstance(decoder, OntoDecoder) and not (part_of_rows and decoder.originals.by_name):
            warn_of_map(decoder.topology_map, used_map or not done, fd_cli.warn)
    skipping.finish(done)


def main() -> None:
    """Entry point of fd-decode."""
    fd_cli.run(decode)


if __name__ == "__main__":
    main()
