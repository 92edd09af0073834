"""fd-metrics: measure how well a model or any method reconstructs and disentangles faces."""

import fd_cli

from typing import Annotated, Literal

import typer

from facedis_core.errors import ErrorCode, UsageError


def metrics(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET",
            show_default=False,
            help="Face set; default: standard input. With --combine: reports.",
        ),
    ] = None,
    models: fd_cli.Models = None,
    split: fd_cli.Split = "test",
    truth: Annotated[
        str | None,
        typer.Option("--truth", metavar="DIR|-", help="True meshes, instead of a face set."),
    ] = None,
    predicted: Annotated[
        str | None,
        typer.Option("--predicted", metavar="DIR|-", help="Reconstructions, with the same names."),
    ] = None,
    predicted_identity: Annotated[
        str | None,
        typer.Option(
            "--predicted-identity", metavar="DIR|-", help="Identity faces, with the same names."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="CSV",
            help="Labels of these meshes (name,subject,expression), for more than E_rec.",
        ),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option(
            "--neutral", help="Name of the neutral expression in --labels.  [default: neutral]"
        ),
    ] = None,
    units: fd_cli.Units = "auto",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Also measure linear methods fitted on the training split."
        ),
    ] = False,
    baselines_from: Annotated[
        str | None,
        typer.Option(
            "--baselines-from", metavar="SET", help="Fit the baselines on this face set instead."
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            min=0,
            metavar="N",
            help="Also measure specificity, with N sampled faces, and generality; 100 is a good "
            "number.  [default: not]",
            show_default=False,
        ),
    ] = 0,
    align: fd_cli.AlignPredictions = False,
    device: fd_cli.Device = "cpu",
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="FILE|NAME|all",
            help="Vertices to measure: a file with a mask or with indices (.npy or text), or for "
            "ICT-FaceKit's mesh narrow-face, full-face, head.  [default: those of the set, else "
            "all]",
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            metavar="LIMIT",
            help="Exit 1 unless this limit holds: 'e_rec<=1.2'; repeatable.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REPORT",
            help="Exit 1 if a metric is worse than in this --json report on the same faces.",
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            "--tolerance",
            metavar="2%|X",
            help="Change for the worse that --against accepts, relative or in the metric's unit.  "
            "[default: 0]",
        ),
    ] = None,
    report_format: Annotated[
        Literal["table", "json", "csv", "markdown", "latex"],
        typer.Option("--format", help="Format of the report."),
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    combine: Annotated[
        bool,
        typer.Option(
            "--combine", help="Average reports on several runs (seeds, folds) instead of measuring."
        ),
    ] = False,
    shard: fd_cli.Shard = None,
    merge: fd_cli.Merge = None,
    output: fd_cli.Output = "-",
    per_mesh: Annotated[
        str | None,
        typer.Option(
            "--per-mesh",
            metavar="FILE",
            help="Also write the errors of each mesh: .csv, .md, .tex or .txt.",
        ),
    ] = None,
    per_subject: Annotated[
        str | None,
        typer.Option("--per-subject", metavar="FILE", help="Also write those of each person."),
    ] = None,
    per_expression: Annotated[
        str | None,
        typer.Option(
            "--per-expression", metavar="FILE", help="Also write those of each expression."
        ),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Also write the checks as JUnit XML."),
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Measure models on a face set, or predicted meshes against true ones.

    All lengths are in mm:

    \b
    e_rec           distance of the reconstruction to the input (eq. 9)
    e_dis           spread of one person's identity faces (eq. 10); e_dis_jiang and
                    e_dis_mean_distance are other definitions of the same
    avd_neu         distance of the identity face to the person's true neutral
    e_exp           spread of the expression faces of different people with one
                    expression; e_exp_jiang and e_exp_mean_distance likewise
    between_subject spread of the identity faces of different people
    rank1_*_accuracy
                    recognition among the neutrals, by cosine of identity latents or by
                    vertex distance of identity faces
    expression_from_*_accuracy
                    expression read off identity latents (chance is best) and off expression
                    latents, with expression_chance
    identity_from_expression_accuracy
                    person read off expression latents (chance is best), with
                    identity_from_expression_chance
    specificity     with --samples: distance of sampled faces to the nearest training face
                    (specificity_real: of the measured faces)
    generality_K    with --samples: e_rec from the K strongest latents alone

    The condition of a method is what it knew of neutrals: labelled, present (among a person's
    faces, unlabelled) or absent. The strongest baselines of a model's condition are named.

    Intervals are 95 % bootstrap intervals over people. Several models are compared with the first
    by paired differences. A --check names a number of the JSON output: e_rec is the mean of every
    model, e_dis.median and baselines.pca.e_rec are others. --truth and --predicted match meshes by
    name; with --labels but without --predicted-identity the predicted meshes count as identity
    faces too.

    Examples:
      fd-metrics set.safetensors -m model.safetensors --baselines
      fd-metrics set.safetensors -m a.safetensors -m b.safetensors --format latex -o table.tex
      fd-metrics set.safetensors --json --check 'e_rec<=1.2' --check 'e_dis.median<=0.2'
      fd-metrics --combine seed0.json seed1.json seed2.json
      fd-metrics set.safetensors -m a.safetensors --shard 3/16 -o parts/3.npy
      fd-metrics set.safetensors -m a.safetensors --merge parts/ --json -o metrics.json
      fd-metrics --truth scans/ --predicted mine/ --predicted-identity id/ --labels labels.csv
    """  # noqa: D301 - click keeps the lines after \b as they are
    from facedis_core.evaluate.gates import Check, Tolerance, junit_xml, require_all
    from facedis_core.evaluate.metrics_report import (
        SUFFIXES,
        MetricsOptions,
        measure,
        measure_part,
    )
    from facedis_core.evaluate.tables import format_of
    from facedis_core.io.paths import check_suffix
    from facedis_core.io.streams import check_output, open_output
    from facedis_core.pipeline.shards import Shard

    options = MetricsOptions(
        inputs=inputs or (),
        models=models or (),
        split=split,
        truth=truth,
        predicted=predicted,
        predicted_identity=predicted_identity,
        labels=labels,
        neutral=neutral,
        units=units,
        baselines=baselines,
        baselines_from=baselines_from,
        samples=samples,
        align=align,
        device=device,
        region=region,
        checks=[Check.parse(text) for text in check or ()],
        against=against,
        combine=combine,
        shard=None if shard is None else Shard.parse(shard),
        merge=merge or (),
        details=any((per_mesh, per_subject, per_expression)),
        report_format=report_format,
        as_json=as_json,
        tolerance=None if tolerance is None else Tolerance.parse(tolerance),
    )
    if junit is not None and against is None and not check:
        raise UsageError(
            "--junit writes the results of checks; give --check or --against",
            ErrorCode.OPTION_MISSING,
        )
    if options.of_meshes and labels is None and (per_subject or per_expression):
        raise UsageError(
            "--per-subject and --per-expression need people and expressions; give --labels",
            ErrorCode.OPTION_MISSING,
        )
    fd_cli.check_read_once(*options.sources)
    if options.shard is not None:
        check_suffix(output, "a part of a measurement", ".npy")
        with open_output(output, force=force) as part:
            measure_part(options, part)
        return
    details = {
        "--per-mesh": per_mesh,
        "--per-subject": per_subject,
        "--per-expression": per_expression,
    }
    check_suffix(output, f"a report as {options.format}", SUFFIXES[options.format])
    for target in details.values():
        check_suffix(target, "a table", ".csv", ".md", ".tex")
    check_suffix(junit, "JUnit XML", ".xml")
    targets = {"--output": output, **details, "--junit": junit}
    fd_cli.check_different(targets)
    for target in targets.values():
        if target is not None:
            check_output(target, force, binary=False)

    report, tables, checks = found = measure(options, fd_cli.progress_bar, fd_cli.warn)

    def write(target: str | None, content: str) -> None:
        if target is not None:
            with open_output(target, force=force, binary=False) as stream:
                stream.write(content.encode(errors="surrogateescape"))

    write(output, found.render(options.format))
    for target, table in zip(details.values(), tables or (), strict=False):
        write(target, table.render(format_of(target or "")))
    write(junit, junit_xml("fd-metrics", checks, report).decode() if junit else "")
    require_all([check for group in checks.values() for check in group], report)


def main() -> None:
    """Entry point of fd-metrics."""
    fd_cli.run(metrics)


if __name__ == "__main__":
    main()
