"""fd-prep: a data set on disk to a face set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import fd_cli


def prep(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="What lies there: ict or folder.")
    ],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder with the data.")],
    output: fd_cli.Output,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="MODEL|SET", help="Take its vertex map, triangles, units, alignment."
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            "--exclude", metavar="FILE", help="Faces or subjects to leave out, one a line."
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            "--test", metavar="PART", help="Part of the subjects to test on.  [default: 0.3]"
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option("--validation", metavar="PART", help="Part of the others to validate on."),
    ] = None,
    seed: fd_cli.Seed = 0,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="ict: how many people.  [default: 200]")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern", help="folder: names, as in '{subject}/{expression}.obj'; * is any."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="CSV",
            help="folder: columns file,subject,expression[,level][,split].",
        ),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option("--neutral", help="folder: the neutral expression.  [default: neutral]"),
    ] = None,
    units: Annotated[
        Literal["mm", "cm", "m"] | None,
        typer.Option("--units", help="folder: what meshes are in that do not say.  [default: mm]"),
    ] = None,
    simplify: Annotated[
        int | None,
        typer.Option("--simplify", metavar="FACES", help="folder: keep about so many triangles."),
    ] = None,
    align: Annotated[
        Literal["none", "rigid", "similarity"] | None,
        typer.Option("--align", help="folder: align to the mean face.  [default: none]"),
    ] = None,
    jobs: fd_cli.Jobs = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Turn a data set into a face set: one topology, millimetres, labels, a split by subjects.

    SOURCE ict makes synthetic people of ICT-FaceKit's folder FaceXModel, the open benchmark;
    folder takes registered meshes labelled by --pattern or --labels. Every mesh is reduced to the
    same vertices.
    """
    from facedis_core.prepare import load_like, prepare_face_set, read_names
    from facedis_core.sources import open_source
    from facedis_core.streams import check_output, open_output

    check_output(output, force)
    options = {
        "test": test,
        "validation": validation,
        "seed": seed,
        "subjects": subjects,
        "pattern": pattern,
        "labels": labels,
        "neutral": neutral,
        "units": units,
        "simplify": simplify,
        "align": align,
    }
    opened = open_source(source, root, options)
    for note in opened.source.notes:
        fd_cli.warn(note)
    total = len(opened.source.labels.names)
    with (
        open_output(output, force=force) as stream,
        fd_cli.progress_bar("preparing", total) as advance,
    ):
        prepare_face_set(
            opened,
            stream,
            like=load_like(like) if like else None,
            exclude=read_names(exclude) if exclude else None,
            jobs=jobs,
            history=not no_history,
            advance=advance,
            warn=fd_cli.warn,
        )


def main() -> None:
    """Entry point of fd-prep."""
    fd_cli.run(prep)


if __name__ == "__main__":
    main()
