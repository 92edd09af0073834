"""fd-prep: a data set on disk to a face set."""

import fd_cli

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from facedis_core.inventory import Count, Report


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
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on where the same command was stopped."),
    ] = True,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Turn a data set into a face set: one topology, millimetres, labels, a split.

    Every mesh is reduced to the same vertices. SOURCE ict makes synthetic people of ICT-FaceKit's
    folder FaceXModel, the open benchmark; folder takes anybody's registered meshes, labelled by
    --pattern or --labels; the others take a data set as it is distributed. What was used and what
    was left out is listed beside the set, in SET.report.json. A run that is stopped leaves
    SET.part, from which the same command goes on.
    """
    from facedis_core.errors import CheckFailed, UsageError
    from facedis_core.follow import load_like
    from facedis_core.inventory import count_faces, listing_lines
    from facedis_core.prepare import Request, prepare_face_set
    from facedis_core.selection import choose, read_exclusion
    from facedis_core.sources import open_source
    from facedis_core.streams import check_output, open_output

    if output is None and not dry_run:
        raise UsageError("where to? name the set with -o SET, or count only with --dry-run")
    report_file = None
    if output is not None:
        check_output(output, force)
        report_file = _report_beside(output, force)
    options = {
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
    }
    opened = open_source(source, root, options)
    chosen = choose(opened.source, read_exclusion(exclude) if exclude else None)
    findings = opened.source.findings
    # Missing files that are a fault end the command, or are named when all is done.
    harmless = chosen.missing if findings.incomplete or dry_run else ()
    # All this is said at the end: an error before it stands alone.
    said = [
        *opened.source.notes,
        *listing_lines(findings, [gap.file for gap in harmless], chosen.strangers),
    ]
    if output is None or dry_run:
        _print_counts(count_faces(opened.source.labels, chosen.rows))
        _warn_of(said)
        return

    def write(report: "Report") -> None:
        if report_file is not None:
            with open_output(report_file, force=True) as stream:
                stream.write(f"{json.dumps(report.as_dict(), indent=1)}\n".encode())

    with fd_cli.progress_bar("preparing", len(chosen.rows)) as advance:
        report = prepare_face_set(
            opened,
            output,
            Request(
                like=load_like(like) if like else None,
                chosen=chosen,
                jobs=jobs,
                keep_going=keep_going,
                resume=resume,
                history=not no_history,
                advance=advance,
                announce=fd_cli.warn,
                warn=said.append,
                on_report=write,
            ),
            force=force,
        )
    _warn_of([*said, *report.lines()])
    if report.fault:
        listed = f"; see {report_file}" if report_file else ""
        raise CheckFailed(
            f"{report.faces} faces are in the set, what is named above is not{listed}"
        )


def _warn_of(lines: list[str]) -> None:
    for line in lines:
        fd_cli.warn(line)


def _report_beside(output: str, force: bool) -> str | None:
    """Where the report goes; nowhere if the set goes to a pipe or a device."""
    from facedis_core.scratch import scratch_folder
    from facedis_core.streams import check_output, replaced_file

    target = replaced_file(output)
    if target is None:
        return None
    report = f"{output.removesuffix('.safetensors')}.report.json"
    if not scratch_folder(target).is_dir():  # else it may be of the run that is gone on with
        check_output(report, force)
    return report


def _print_counts(counts: "Iterable[Count]") -> None:
    """A table for people and for awk: columns divided by tabs."""
    from facedis_core.streams import on_one_line, open_output

    with open_output("-", force=False, binary=False) as stream:
        columns: list[Any] = ["what", "name", "faces", "train", "test", "validation"]
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
