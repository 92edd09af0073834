"""fd-render: faces to a contact sheet or an animation."""

import fd_cli

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from facedis_core.mesh import Mesh


def render(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FACE|DIR|SET|LATENTS|-",
            show_default=False,
            help="Faces; - or nothing = PLY or latents on stdin.",
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="OUT", help=".png; .gif, .webp or .mp4 move; - = PNG."
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    part: Annotated[
        Literal["full", "identity", "expression"],
        typer.Option("--part", help="Of latents: the face, its identity or its expression."),
    ] = "full",
    view: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="left, half-left, front, half-right, right, or degrees; each face from all.",
        ),
    ] = "front",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="TRUTH",
            show_default=False,
            help="Color by distance in mm to these: one for all, or one a name.",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            show_default=False,
            help="Distances in mm that the colors span.  [default: what 99 % need]",
        ),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Faces in a row.  [default: what labels ask for, else up to 6 pictures]",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=4096, metavar="PX", help="Height of one picture.")
    ] = 256,
    background: Annotated[
        str, typer.Option(metavar="COLOR", help="transparent, a name, or #rrggbb.")
    ] = "#f7f7f7",
    labels: Annotated[bool, typer.Option(help="Write the names below the pictures.")] = True,
    row_labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", show_default=False, help="What to write at the left of each row."
        ),
    ] = "",
    column_labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", show_default=False, help="What to write above each column."
        ),
    ] = "",
    turn: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=180,
            metavar="DEGREES",
            show_default=False,
            help="Animate the sheet: faces turn so far to each side.  [default of one face: 50]",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=60,
            show_default=False,
            help="How long a turn to both sides takes, or all faces do.  [default of a turn: 4]",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=1, max=50, show_default=False, help="Frames a second.  [default: 25]"),
    ] = None,
    bounce: Annotated[
        bool, typer.Option("--bounce", help="Animate faces one by one to the last and back again.")
    ] = False,
    jobs: fd_cli.FaceJobs = 1,
    force: fd_cli.Force = False,
) -> None:
    """Draw faces in rows and columns, all with one camera, or one after another as an animation.

    Any meshes do: registered or not, of one topology or of many, as long as they share an
    orientation (y up, the face towards +z) and a unit. Latents are decoded first. An animation
    (.gif, .webp, .mp4) of one face turns it, one of several has a frame a face, such as fd-interp
    makes, and with --turn it is their contact sheet that turns.
    """
    from facedis_core.animation import Motion, render_frames
    from facedis_core.background import Background
    from facedis_core.camera import parse_views
    from facedis_core.color_scale import ColorScale
    from facedis_core.draw_faces import ModelMeshes
    from facedis_core.errors import UsageError
    from facedis_core.faces import find_faces, gathered
    from facedis_core.image_files import image_format
    from facedis_core.scene import SceneOptions
    from facedis_core.streams import check_output, open_output

    options = SceneOptions(
        views=parse_views(view),
        size=size,
        columns=columns,
        labels=labels,
        row_labels=row_labels.split(",") if row_labels else (),
        column_labels=column_labels.split(",") if column_labels else (),
        background=Background.parse(background),
        scale=ColorScale.parse(value_range) if value_range is not None else None,
    )
    kind = image_format(output, transparent=options.background.color is None)
    if not kind.moves and (bounce or {turn, seconds, fps} != {None}):
        raise UsageError(
            "--turn, --seconds, --fps and --bounce are of animations; give -o a .gif, .webp or .mp4"
        )
    if value_range is not None and against is None:
        raise UsageError("--range spans the distances of --against TRUTH; give both")
    sources = gathered(inputs or (), files_from)
    fd_cli.check_read_once(*sources, against)
    check_output(output, force)
    model_meshes = ModelMeshes(model, part)

    def read(given: list[str]) -> list["Mesh"]:
        faces = find_faces(given, decode=model_meshes.decode)
        items = fd_cli.progress(faces.items, "reading", faces.count)
        return [model_meshes.with_triangles(mesh) for item in items for mesh in item.load()]

    meshes = read(sources)
    truths = read([against]) if against is not None else None
    if not model_meshes.model_used and (part != "full" or model is not None):
        raise UsageError("--part and --model are of latents, and all of these are meshes already")
    motion = Motion(turn, seconds, fps, bounce)
    rate = kind.fps(motion.frame_rate(len(meshes)))
    pictures = render_frames(
        meshes,
        options,
        replace(motion, fps=rate) if kind.moves else None,
        truths=truths,
        jobs=jobs,
        progress=lambda pictures, total: fd_cli.progress(pictures, "drawing", total),
    )
    with open_output(output, force=force) as stream:
        kind.write(stream, pictures, rate)


def main() -> None:
    """Entry point of fd-render."""
    fd_cli.run(render)


if __name__ == "__main__":
    main()
