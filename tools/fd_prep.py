"""fd-prep: prepare a data set as a face set."""

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
            help="Data set: coma, bu3dfe, facescape, facewarehouse, ict, folder or scans; with "
            "--export a face set.",
        ),
    ],
    root: Annotated[
        str,
        typer.Argument(
            metavar="ROOT",
            help="Folder or URL of the data set; with --export the folder to write.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="SET",
            help="Output file (.safetensors); - is standard output. Not needed with --dry-run.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="MODEL|SET",
            help="Prepare as for this model or set: same vertex map, triangles, unit, alignment.",
        ),
    ] = None,
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="MAP",
            help="folder: map of fd-map (.safetensors) that takes meshes of another rig to the "
            "default model's topology (or that of --like).",
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            "--exclude", metavar="FILE", help="Names of faces or subjects to exclude, one per line."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="Train/test split: paper (the publication's), subjects:PART (random people for "
            "test; PART from 0 to 1), identity-fold:K/N (every N-th person for test, from the K-th "
            "on) or file:CSV (columns subject or name, and split).  [default: paper; ict, "
            "folder and scans subjects:0.3]",
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            "--validation",
            metavar="PART",
            help="Part of the training subjects to split off for validation, such as 0.1.",
        ),
    ] = None,
    seed: fd_cli.Seed = 0,
    simplify: Annotated[
        int | None,
        typer.Option(
            "--simplify",
            metavar="FACES",
            min=0,
            help="Approximate number of triangles to keep; 0 keeps all. ict keeps the narrow face "
            "alone, 9000 by a fixed map.  [default: facescape 9000, others all]",
        ),
    ] = None,
    align: Annotated[
        Literal["none", "rigid", "similarity", "stable"] | None,
        typer.Option(
            "--align",
            help="Alignment to the mean face; stable = to the person's own neutral, by vertices "
            "that expressions hardly move.  [default: bu3dfe stable, others none]",
        ),
    ] = None,
    units: fd_cli.Units = "auto",
    subjects: Annotated[
        int | None, typer.Option("--subjects", help="ict: number of people.  [default: 200]")
    ] = None,
    variation: Annotated[
        Literal["strong", "combined", "moved", "noisy"] | None,
        typer.Option(
            "--variation",
            help="ict: the same people with expressions 1.5 times as strong, two expressions at "
            "once, heads moved (2 degrees, 1 mm), or 0.5 mm of vertex noise.",
        ),
    ] = None,
    captured: Annotated[
        str | None,
        typer.Option(
            "--captured",
            metavar="CSV",
            help="ict: the 19 most different frames of a recording of ARKit weights (such as a "
            "Live Link Face CSV) instead of the expressions.",
        ),
    ] = None,
    drop_neutrals: Annotated[
        bool,
        typer.Option(
            "--drop-neutrals",
            help="Leave out the neutral faces of the people for training, as if nobody had a "
            "neutral scan; people for test and validation keep theirs.",
        ),
    ] = False,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            help="folder, scans: labels from file names, such as '{subject}/{expression}.obj'; * "
            "matches anything.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="CSV",
            help="folder, scans: labels from a table file,subject,expression[,level][,split].",
        ),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option(
            "--neutral",
            help="folder, scans: name of the neutral expression.  [default: neutral]",
        ),
    ] = None,
    force_register: Annotated[
        bool,
        typer.Option(
            "--force-register", help="scans: also take faces whose fit or pose is doubtful."
        ),
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="FILE|NAME",
            help="Vertices that metrics count: a file with a mask or with indices (.npy or text), "
            "or for ICT-FaceKit's mesh narrow-face, full-face, head.  [default: ict narrow-face, "
            "others all]",
        ),
    ] = None,
    shard: fd_cli.Shard = None,
    merge: fd_cli.Merge = None,
    jobs: fd_cli.Jobs = 0,
    scheduler: fd_cli.Scheduler = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="Skip broken and missing meshes; exit 1 if there were any."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only count the faces per class and split; no mesh is read."
        ),
    ] = False,
    export: Annotated[
        bool,
        typer.Option(
            "--export",
            help="Write a face set out as PLY meshes: faces/, neutrals/ and labels.csv in ROOT.",
        ),
    ] = False,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Prepare a data set as a face set: one topology, millimetres, labels, a split.

    Meshes must be registered to one topology, all but those of scans; they are reduced to the same
    vertices. Sources:

    \b
    coma, bu3dfe, facescape, facewarehouse
            the data set as it is distributed
    ict     the open benchmark: synthetic people from ICT-FaceKit's folder FaceXModel
    folder  your own registered meshes, labelled by --pattern or --labels
    scans   your own raw scans, labelled likewise and registered to the default model's topology
            (or that of --like) as by fd-register

    SET.report.json beside the set counts the faces and lists what was skipped or excluded.
    --export is the inverse, for other methods: fd-prep folder ROOT/faces --labels ROOT/labels.csv
    makes the same faces and labels of what it writes.

    Examples:
      fd-prep folder scans/ --pattern '{subject}/{expression}.obj' --units cm -o set.safetensors
      fd-prep scans phone/ --pattern '{subject}/{expression}.ply' --keep-going -o set.safetensors
      fd-prep folder rig/ --map map.safetensors --labels labels.csv -o set.safetensors
      fd-prep coma CoMA/ --dry-run
      fd-prep coma CoMA/ --shard 3/16 -o parts/3.npy
      fd-prep coma CoMA/ --merge parts/ -o set.safetensors
      fd-prep --export set.safetensors meshes/
      fd-prep ict FaceXModel/ --subjects 847 --validation 0.1 -o heads.safetensors
      fd-prep ict FaceXModel/ --simplify 9000 --drop-neutrals -o faces.safetensors
    """  # noqa: D301 - click keeps the lines after \b as they are
    given = {**locals()}
    from facedis_core.datasets.contents import count_faces
    from facedis_core.datasets.prepare import (
        PrepareOptions,
        plan_face_set,
        prepare_face_set,
        prepare_part,
    )
    from facedis_core.errors import CheckFailed, ErrorCode, UsageError
    from facedis_core.pipeline.shards import Shard

    if export:
        from facedis_core.datasets.export import export_face_set

        fd_cli.check_idle(
            prep,
            given,
            "--export writes the set as it is",
            but=("source", "root", "export", "force"),
        )
        if root == "-":
            raise UsageError(
                "--export writes many files, not to standard output; name a folder",
                ErrorCode.OUTPUT_PATTERN,
            )
        with fd_cli.progress_bar("writing", None) as advance:
            count = export_face_set(source, Path(root), force=force, progress=advance)
        fd_cli.say(f"{count} faces written to {root}")
        return
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
            "captured": captured,
            "pattern": pattern,
            "labels": labels,
            "neutral": neutral,
            "map": map_file,
            "units": None if units == "auto" else units,
            "simplify": simplify,
            "align": align,
            "force_register": force_register or None,
        },
        like=like,
        exclude=exclude,
        region=region,
        drop_neutrals=drop_neutrals,
        shard=None if shard is None else Shard.parse(shard),
        merge=merge or (),
        jobs=fd_cli.workers(scheduler, jobs, usual=0),
        keep_going=keep_going,
        dry_run=dry_run,
        history=not no_history,
        force=force,
    )
    fd_cli.check_different({"--like": like, "--map": map_file, "--output": output})
    plan = plan_face_set(options)
    if options.shard is not None:
        with fd_cli.progress_bar("reading", None) as advance:
            prepare_part(plan, advance=advance)
        return
    notes = plan.notes()  # printed at the end, so that an error is a single line
    report = None
    if dry_run:
        _print_counts(count_faces(plan.opened.source.labels, plan.expected_rows))
    else:
        with fd_cli.progress_bar("preparing", len(plan.chosen.rows)) as advance:
            report = prepare_face_set(plan, advance=advance, warn=notes.append)
        notes += report.lines()
    for line in notes:
        fd_cli.warn(line)
    if report is not None:
        fd_cli.say(report.summary("standard output" if output in (None, "-") else output))
    if report is not None and report.fault:
        listed = f"; see {options.report_file}" if options.report_file else ""
        raise CheckFailed(
            f"{report.faces} faces are in the set, those named above are not{listed}",
            ErrorCode.ITEMS_SKIPPED,
        )


def _print_counts(counts: "Iterable[ClassCount]") -> None:
    """Print the counts as a table with tab-separated columns."""
    from facedis_core.io.streams import open_output
    from facedis_core.io.text import on_one_line

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
