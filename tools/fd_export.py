"""fd-export: rigs for animation tools, and ARKit weights of faces."""

import fd_cli

from typing import Annotated, Literal

import typer


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="LATENTS|MESH|DIR|-", help="Faces: latents, a mesh or a folder of meshes."
        ),
    ] = "-",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="rig.glb (glTF 2.0) or rig.usdz (USD), a folder dir/ or a pattern "
            "'dir/{name}.usdz', or weights.csv: a line a face.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    targets: Annotated[
        Literal["arkit", "directions"],
        typer.Option(
            "--targets",
            help="Morph targets: ARKit's 52 blendshapes by name, or the leading expression "
            "directions of the model, a standard deviation each.",
        ),
    ] = "arkit",
    count: Annotated[
        int, typer.Option("--count", min=1, help="With --targets directions: how many at most.")
    ] = 16,
    onto: Annotated[
        str | None,
        typer.Option(
            "--onto",
            metavar="MESH|DIR",
            show_default=False,
            help="Export the original file as a rig: its shape, texture coordinates, materials "
            "(of OBJ and PLY) and pose; of another head than the faces, its identity is theirs. A "
            "folder: the file of the row's name, or of its identity's.",
        ),
    ] = None,
    animation: Annotated[
        str | None,
        typer.Option(
            "--animation",
            metavar="FILE",
            show_default=False,
            help="Animate the rig: ARKit weights (.csv, a line a frame) or the expressions of "
            "latents (.npy).",
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option("--fps", min=0.001, help="Frames of the animation a second.")
    ] = 30.0,
    map_file: fd_cli.MapOption = None,
    units: fd_cli.Units = "auto",
    align: fd_cli.Align = "auto",
    trust_order: fd_cli.TrustOrder = False,
    force_encode: fd_cli.ForceEncode = False,
    force: fd_cli.Force = False,
) -> None:
    """Export heads as rigs with morph targets, or expressions as ARKit weights.

    A rig is the identity face of a row, in metres, with its expressions as morph targets, whose
    names are in extras.targetNames. ARKit's blendshapes are carried to the head by deformation
    transfer; they need a model of ICT-FaceKit's whole head. In weights.csv every face has the 52
    weights, from 0 to 1, whose blendshapes come nearest to its expression.

    Examples:
      fd-export alice.npy -o alice.glb
      fd-export alice.obj --onto alice.obj -o alice.glb
      fd-export rig.obj --onto rig.obj --map rig.map.safetensors -o rig.glb
      fd-export alice.npy --animation recording.csv -o alice_speaks.glb
      fd-export frames.npy -o weights.csv
    """
    given = {**locals()}
    from facedis_core.data.topology_map import read_map
    from facedis_core.mesh.mesh import is_mesh_source
    from facedis_core.pipeline.encode import LatentsOfMeshes, warn_of_map
    from facedis_core.rig.export import ExportOptions, export_rigs, export_weights, read_rows

    known = None if map_file is None else read_map(map_file)
    options = ExportOptions(
        output=output,
        targets=targets,
        count=count,
        animation=animation,
        fps=fps,
        onto=onto,
        units=units,
        align=align,
        trust_order=trust_order,
        topology_map=known,
        force=force,
    )
    idle = [] if onto or is_mesh_source(source) else ["units", "align", "trust_order"]
    idle += [] if is_mesh_source(source) else ["force_encode"]
    fd_cli.check_idle(export, given, "the faces are latents, not meshes", only=idle)
    if animation is None:
        fd_cli.check_idle(export, given, "the rig has no --animation", only=("fps",))
    if targets != "directions":
        fd_cli.check_idle(export, given, "--targets are not directions", only=("count",))
    encode = LatentsOfMeshes(model, fd_cli.warn, units, align, trust_order, force_encode, known)
    faces = encode(source)
    loaded = encode.encoder.model
    if faces is None:
        faces = read_rows(source, loaded)
    if options.is_weights:
        export_weights(options, loaded, faces)
        warn_of_map(known, encode.used_map, fd_cli.warn)
    else:
        with fd_cli.progress_bar("exporting", len(faces)) as advance:
            for done in export_rigs(options, loaded, faces, fd_cli.warn, used_map=encode.used_map):
                advance(done)


def main() -> None:
    """Entry point of fd-export."""
    fd_cli.run(export)


if __name__ == "__main__":
    main()
