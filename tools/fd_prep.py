"""fd-prep: a data set on disk to a face set."""

import fd_cli

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from facedis_core.datasets.contents import ClassCount


def prep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="What lies there: coma, bu3dfe, facescape, facewarehouse, ict or folder.",
        ),
    ],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder with the data.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="SET", help="Where to write; - is standard output."),
    ] = None,
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
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="Who is tested on: paper, subjects:PART, identity-fold:K/N or file:CSV.  "
            "[default: paper, of ict and folder subjects:0.3]",
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            "--validation", metavar="PART", help="Part of the other subjects to validate on."
        ),
    ] = None,
    seed: fd_cli.Seed = 0,
    simplify: Annotated[
        int | None,
        typer.Option(
            "--simplify",
            metavar="FACES",
            min=0,
            help="Keep about so many triangles, 0 = all.  [default: facescape 9000, others all]",
        ),
    ] = None,
    align: Annotated[
        Literal["none", "rigid", "similarity", "stable"] | None,
        typer.Option(
            "--align",
            help="Align to the mean face; stable = to one's own neutral by stable vertices.  "
            "[default: bu3dfe stable, others none]",
        ),
    ] = None,
    units: Annotated[
        Literal["mm", "cm", "dm", "m"] | None,
        typer.Option(
            "--units",
            help="What meshes are in that do not say.  [default: coma m, facewarehouse told by "
            "size, others mm]",
        ),
    ] = None,
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="ict: how many people.  [default: 200]")
    ] = None,
    variation: Annotated[
        Literal["strong", "combined", "moved", "noisy"] | None,
        typer.Option(
            "--variation",
            help="ict: the same people, but expressions 1.5 times as strong, two expressions at "
            "once, heads moved (2 degrees, 1 mm), or 0.5 mm of noise.",
        ),
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
    jobs: fd_cli.Jobs = 0,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="Leave out what is broken or missing; exit 1 if anything was."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Count faces by class and split; read no mesh."),
    ] = False,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Turn a data set into a face set: one topology, millimetres, labels, a split.

    Every mesh is reduced to the same vertices. SOURCE ict makes synthetic people of ICT-FaceKit's
    folder FaceXModel, the open benchmark; folder takes anybody's registered meshes, labelled by
    --pattern or --labels; the others take a data set as it is distributed. What was used and what
    was left out is listed beside the set, in SET.report.json.
    """
    from facedis_core.datasets.contents import count_faces
    from facedis_core.datasets.prepare import PrepareOptions, plan_face_set, prepare_face_set
    from facedis_core.errors import CheckFailed

    options = PrepareOptions(
        source=source,
        root=root,
        output=output,
        source_options={
            "protocol": protocol,
            "validation": validation,
            "seed": seed,
            "subjects": subjects,
            "variation": variation,
            "pattern": pattern,
            "labels": labels,
            "neutral": neutral,
            "units": units,
            "simplify": simplify,
            "align": align,
        },
        like=like,
        exclude=exclude,
        jobs=jobs,
        keep_going=keep_going,
        dry_run=dry_run,
        history=not no_history,
        force=force,
    )
    plan = plan_face_set(options)
    notes = plan.notes()  # shown at the end: an error before it stands alone
    report = None
    if dry_run:
        _print_counts(count_faces(plan.opened.source.labels, plan.chosen.rows))
    else:
        with fd_cli.progress_bar("preparing", len(plan.chosen.rows)) as advance:
            report = prepare_face_set(plan, advance=advance, warn=notes.append)
        notes += report.lines()
    for line in notes:
        fd_cli.warn(line)
    if report is not None and report.fault:
        listed = f"; see {options.report_file}" if options.report_file else ""
        raise CheckFailed(
            f"{report.faces} faces are in the set, what is named above is not{listed}"
        )


def _print_counts(counts: "Iterable[ClassCount]") -> None:
    """A table for people and for awk: columns divided by tabs."""
    from facedis_core.io.streams import on_one_line, open_output

    with open_output("-", force=False, binary=False) as stream:
        columns = ["what", "name", "faces", "train", "test", "validation"]
        stream.write(("\t".join(columns) + "\n").encode())
        for count in counts:
            parts = [count.splits[split] for split in columns[3:]]
            fields = [count.what, on_one_line(count.name) or "-", count.faces, *parts]
            stream.write(("\t".join(map(str, fields)) + "\n").encode(errors="replace"))


def main() -> None:
    """Entry point of fd-prep."""
    fd_cli.run(prep)


if __name__ == "__main__":
    main()
