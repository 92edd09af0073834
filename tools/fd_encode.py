"""fd-encode: encode meshes as latents."""

import fd_cli

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from facedis_core.data.latents import Latents


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESH|DIR|SET|-", show_default=False, help="Faces; default: PLY on stdin."
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    root: fd_cli.Root = None,
    output: fd_cli.Output = "-",
    model: fd_cli.ModelOption = None,
    map_file: fd_cli.MapOption = None,
    split: fd_cli.Split = "all",
    shard: fd_cli.Shard = None,
    merge: fd_cli.Merge = None,
    align: fd_cli.Align = "auto",
    units: fd_cli.Units = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: fd_cli.ForceEncode = False,
    stream: fd_cli.Stream = False,
    jobs: fd_cli.FaceJobs = 1,
    scheduler: fd_cli.Scheduler = None,
    device: fd_cli.Device = "cpu",
    keep_going: fd_cli.KeepGoing = False,
    failures: fd_cli.Failures = None,
    force: fd_cli.Force = False,
) -> None:
    """Encode registered faces as identity and expression latents (.npy).

    Inputs, in any mixture: meshes in the model's topology, raw meshes of its data set (they are
    prepared as the training data was), folders of meshes, face sets, vertex arrays (.npy), quoted
    glob patterns, and concatenated PLY on standard input. Only the vertices that the model knows
    are encoded: what a raw mesh has beside them does not come back from fd-decode. With --map also
    meshes of another rig. --merge joins the files of all parts of --shard, also those of
    fd-register --latents.

    Examples:
      fd-encode smile.ply -o smile.npy
      fd-encode scans/ --jobs 2 --keep-going --failures failed.jsonl -o faces.npy
      fd-encode rig_smile.obj --map rig.map.safetensors -o smile.npy
      fd-encode scans/ --shard 3/16 -o parts/3.npy
      fd-encode --merge parts/ -o faces.npy
      fd-encode smile.ply | fd-transfer alice.npy - | fd-decode > alice_smiles.ply
    """
    from facedis_core.data.latents import save_latents
    from facedis_core.data.topology_map import read_map
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output
    from facedis_core.model.device import on_device
    from facedis_core.model.model_file import load_model
    from facedis_core.pipeline.encode import (
        BLOCK_FACES,
        MeshEncoder,
        check_face_sets,
        encode_blocks,
        no_latents,
        warn_of_map,
    )
    from facedis_core.pipeline.file_lists import collect_inputs
    from facedis_core.pipeline.shards import Shard, find_part, find_shards, merge_latents

    options = {**locals()}
    workers = fd_cli.workers(scheduler, jobs)
    fd_cli.check_stream(stream, workers, shard)
    check_suffix(output, "latents", ".npy")
    check_output(output, force)
    if merge:
        fd_cli.check_idle(
            encode,
            options,
            "--merge joins what parts have made already",
            but=("merge", "output", "force"),
        )
        merge_latents(find_shards(merge, "fd-encode --shard"), output, force=force)
        return
    skipping = fd_cli.Skipping(keep_going, failures, output, force)
    part = find_part(
        None if shard is None else Shard.parse(shard),
        collect_inputs(inputs or (), files_from),
        split,
        root=root,
        keep_going=keep_going,
    )
    faces = part.inputs
    encoder = MeshEncoder(
        on_device(load_model(model), device, faces.count, workers),
        units=units,
        align=align,
        trust_order=trust_order,
        force_encode=force_encode,
        keep_going=keep_going,
        topology_map=None if map_file is None else read_map(map_file),
    )
    if not trust_order:
        check_face_sets(faces, encoder.model, encoder.topology_map)

    label = part.label("fd-encode", root, encoder.facts)

    def encoded() -> Iterator["Latents"]:
        size = 1 if stream else BLOCK_FACES
        if label:
            yield no_latents(encoder.model)  # what a part without faces makes
        count = mapped = 0
        with fd_cli.progress_bar("encoding", faces.count) as advance:
            for block in encode_blocks(encoder, faces.items, jobs=workers, size=size):
                for line in block.warnings:
                    fd_cli.warn(line)
                skipping.add(block.failures)
                count += len(block.latents)
                mapped += block.mapped
                yield block.latents
                advance(block.items)
        if count and not label:  # other parts may need the map
            warn_of_map(encoder.topology_map, mapped > 0, fd_cli.warn)

    done = save_latents(output, encoded(), force=force, stream=stream, label=label)
    skipping.finish(done)


def main() -> None:
    """Entry point of fd-encode."""
    fd_cli.run(encode)


if __name__ == "__main__":
    main()
