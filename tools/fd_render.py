"""fd-render: draw faces as a contact sheet or an animation."""

import fd_cli

from typing import Annotated, Literal

import typer


def render(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FACE|DIR|SET|LATENTS|-",
            show_default=False,
            help="Faces; default: PLY or latents on stdin.",
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    root: fd_cli.Root = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Picture (.png) or animation (.gif, .webp, .mp4); - is PNG on standard output.",
        ),
    ] = "-",
    model: fd_cli.ModelOption = None,
    part: Annotated[
        Literal["full", "identity", "expression"],
        typer.Option("--part", help="Part of latents to draw."),
    ] = "full",
    units: fd_cli.Units = "auto",
    view: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Views of each face: left, half-left, front, half-right, right, or degrees.",
        ),
    ] = "front",
    up: Annotated[
        Literal["auto", "y", "z"],
        typer.Option(
            help="Axis of meshes that is up; auto = found in the topology of a bundled model, else "
            "y. With z up the face looks along -y."
        ),
    ] = "auto",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="TRUTH",
            show_default=False,
            help="Color each face by its vertex distances to a true mesh: one for all faces, or a "
            "folder with the same names.",
        ),
    ] = None,
    value_range: fd_cli.ColorRange = None,
    texture: Annotated[
        bool, typer.Option(help="Draw textures, or colors of vertices, of OBJ and PLY.")
    ] = True,
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Faces per row.  [default: by the labels, else up to 6 pictures]",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=4096, metavar="PX", help="Height of one picture in pixels.")
    ] = 256,
    background: Annotated[
        str,
        typer.Option(metavar="COLOR", help="Background: transparent, a color name, or #rrggbb."),
    ] = "#f7f7f7",
    labels: Annotated[bool, typer.Option(help="Write the names below the faces.")] = True,
    row_labels: Annotated[
        str,
        typer.Option(metavar="A,B,...", show_default=False, help="Labels at the left of the rows."),
    ] = "",
    column_labels: Annotated[
        str,
        typer.Option(metavar="A,B,...", show_default=False, help="Labels above the columns."),
    ] = "",
    turn: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=180,
            metavar="DEGREES",
            show_default=False,
            help="Animation: turn all faces to each side by this angle; 0 = show one face after "
            "another.  [default: 50 for one face, else 0]",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=60,
            show_default=False,
            help="Animation: duration in seconds.  [default: 4 for a turn, else by --fps]",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=50,
            show_default=False,
            help="Animation: frames per second.  [default: 25]",
        ),
    ] = None,
    bounce: Annotated[
        bool,
        typer.Option("--bounce", help="Animation: after the last face go back to the first."),
    ] = False,
    jobs: fd_cli.FaceJobs = 1,
    force: fd_cli.Force = False,
) -> None:
    """Draw faces as a contact sheet, or as an animation.

    All faces are drawn by one camera. Meshes may be of any topology, or of several, but must share
    an orientation (y up, the face towards +z, or --up z); latents are decoded first. An animation
    of one face turns it; an animation of several shows one per frame, as for fd-interp, or turns
    their contact sheet with --turn.

    Examples:
      fd-render faces/ --view front,half-right -o sheet.png
      fd-encode faces/ | fd-decode | fd-render --against faces/ -o errors.png
      fd-interp a.npy b.npy --steps 25 | fd-render --bounce -o morph.gif
    """
    from facedis_core.io.streams import check_output, open_output
    from facedis_core.pipeline.file_lists import collect_inputs
    from facedis_core.render.animation import Motion
    from facedis_core.render.background import Background
    from facedis_core.render.camera import parse_views
    from facedis_core.render.color_scale import ColorScale
    from facedis_core.render.draw_faces import RenderOptions, draw_faces
    from facedis_core.render.scene import SceneOptions

    options = RenderOptions(
        sources=collect_inputs(inputs or (), files_from),
        root=root,
        output=output,
        scene=SceneOptions(
            views=parse_views(view),
            size=size,
            columns=columns,
            labels=labels,
            row_labels=row_labels.split(",") if row_labels else (),
            column_labels=column_labels.split(",") if column_labels else (),
            background=Background.parse(background),
            scale=ColorScale.parse(value_range) if value_range is not None else None,
            up=up,
        ),
        motion=Motion(turn, seconds, fps, bounce),
        against=against,
        units=units,
        texture=texture,
        model=model,
        part=part,
        jobs=jobs,
    )
    fd_cli.check_read_once(*options.sources, against)
    check_output(output, force)
    drawing = draw_faces(options, fd_cli.progress_bar, fd_cli.warn)
    with open_output(output, force=force) as stream:
        options.format.write(stream, drawing.frames, drawing.fps)


def main() -> None:
    """Entry point of fd-render."""
    fd_cli.run(render)


if __name__ == "__main__":
    main()
