"""fd-render: faces to a contact sheet."""

import fd_cli

from pathlib import Path
from typing import Annotated

import typer


def render(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MESH|DIR|SET|-", show_default=False, help="Faces; - or nothing = PLY on stdin."
        ),
    ] = None,
    files_from: fd_cli.FilesFrom = None,
    output: fd_cli.Output = "-",
    columns: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default=False,
            help="Pictures in a row.  [default: what --row-labels ask for, else up to 6]",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=4096, metavar="PX", help="Height of one picture.")
    ] = 256,
    labels: Annotated[bool, typer.Option(help="Write the names below the pictures.")] = True,
    row_labels: Annotated[
        str,
        typer.Option(
            metavar="A,B,...", show_default=False, help="What to write at the left of each row."
        ),
    ] = "",
    force: fd_cli.Force = False,
) -> None:
    """Draw faces in rows and columns, from the front, all at one scale (.png).

    Any meshes do: registered or not, of one topology or of many, as long as they share an
    orientation (y up, the face towards +z) and a unit.
    """
    from facedis_core.errors import UsageError
    from facedis_core.faces import find_faces, gathered
    from facedis_core.render import Camera
    from facedis_core.render import render as picture
    from facedis_core.sheet import contact_sheet, sheet_columns, write_png
    from facedis_core.streams import check_output, open_output

    if Path(output).suffix.lower() not in ("", ".png"):
        raise UsageError(f"{output} would hold a PNG picture; give it a name that ends in .png")
    check_output(output, force)
    faces = find_faces(gathered(inputs or (), files_from))
    items = fd_cli.progress(faces.items, "reading", faces.count)
    meshes = [mesh for item in items for mesh in item.load()]
    rows = row_labels.split(",") if row_labels else []
    columns = sheet_columns(len(meshes), columns, rows)
    camera = Camera.frontal([mesh.vertices for mesh in meshes], size)
    sheet = contact_sheet(
        [picture(mesh, camera) for mesh in fd_cli.progress(meshes, "drawing")],
        columns,
        captions=[mesh.name for mesh in meshes] if labels else [],
        row_labels=rows,
    )
    with open_output(output, force=force) as stream:
        write_png(stream, sheet)


def main() -> None:
    """Entry point of fd-render."""
    fd_cli.run(render)


if __name__ == "__main__":
    main()
