"""fd-map: make a map between a rig's topology and a model's."""

import fd_cli

from typing import Annotated, Literal

import typer


def map_topologies(
    rig: Annotated[
        str,
        typer.Argument(
            metavar="RIG", help="The rig's head at rest, mouth closed, in any pose and unit."
        ),
    ],
    registered: Annotated[
        str | None,
        typer.Argument(
            metavar="REGISTERED",
            show_default=False,
            help="The same head in the model's topology, as fd-register writes it.  [default: it "
            "is registered now]",
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="MAP", help="Output file (.safetensors)."),
    ] = "-",
    model: fd_cli.ModelOption = None,
    pose: Annotated[
        str | None,
        typer.Option(
            "--pose",
            metavar="FILE",
            show_default=False,
            help="Pose that takes the face to the rig, as for fd-register: 4 x 4 numbers, or a "
            "line of its --report.  [default: found]",
        ),
    ] = None,
    units: Annotated[
        Literal["auto", "mm", "cm", "dm", "m", "inch"],
        typer.Option(
            "--units",
            help="Unit of a rig that does not declare one; auto = the one in which it has the size "
            "of a head.",
        ),
    ] = "auto",
    force_register: Annotated[
        bool, typer.Option("--force-register", help="Accept a doubtful registration.")
    ] = False,
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Map a rig's topology to a model's, once, from one head at rest.

    With the map fd-encode, fd-transfer and fd-prep take meshes of the rig, and fd-decode --onto
    carries faces back to it. Corresponding points are nearest in place and normal, where both
    surfaces are seen from outside; inner lips, mouth, teeth and eyeballs go with their like, and
    what has no counterpart (ears, back of the head, neck) follows the face and fades.

    Examples:
      fd-map rig_neutral.obj -o rig.map.safetensors
      fd-map rig_neutral.obj registered.ply -o rig.map.safetensors
    """
    from dataclasses import replace

    from facedis_core.data.topology_map import write_map
    from facedis_core.errors import ErrorCode, UsageError
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output, naming, open_output
    from facedis_core.mesh.mesh import read_mesh
    from facedis_core.model.model_file import load_model
    from facedis_core.registration.landmark_files import read_poses
    from facedis_core.registration.mapping import RESTLESS_MM, make_map
    from facedis_core.registration.search import require_scipy

    fd_cli.check_read_once(rig, registered)
    check_suffix(output, "a map", ".safetensors")
    check_output(output, force)
    require_scipy()
    mesh = read_mesh(rig)
    face = None if registered is None else read_mesh(registered)
    given = None
    if pose is not None:
        poses = read_poses(pose)
        given = poses.get(mesh.name, poses.get(None))
        if given is None:
            raise UsageError(
                f"--pose {pose} has none for {mesh.name}; give the report of its registration",
                ErrorCode.OPTION_VALUE,
            )
    with fd_cli.progress_bar("mapping", None), naming(rig):
        made = make_map(
            mesh,
            face,
            model=load_model(model),
            pose=given,
            units=units,
            force=force_register,
            seed=seed,
        )
    with open_output(output, force=force) as stream:
        write_map(stream, replace(made, history=[]) if no_history else made)
    quality = made.quality
    if quality.expression_mm > RESTLESS_MM:
        fd_cli.warn(
            f"{mesh.name} seems to show an expression, which moves its face by up to "
            f"{quality.expression_mm:.0f} mm; a map must be made of the head at rest, its mouth "
            "closed"
        )
    fd_cli.say(
        f"{len(made.rig)} vertices of {mesh.name} <-> {len(made.face)}: {quality.coverage:.0%} of "
        f"the model's visible skin lies on the rig; rig -> model -> rig {quality.round_trip_mm:.2f}"
        " mm on motions of 10 mm"
    )


def main() -> None:
    """Entry point of fd-map."""
    fd_cli.run(map_topologies)


if __name__ == "__main__":
    main()
