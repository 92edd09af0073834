"""fd-metrics: measure how well a model or any method reconstructs and disentangles faces."""

import fd_cli

import io
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from facedis_core.errors import ErrorCode, UsageError

COMPARED = ("e_rec", "e_dis", "avd_neu")


def metrics(
    face_set: Annotated[
        str | None,
        typer.Argument(
            metavar="SET", show_default=False, help="Face set; default: standard input."
        ),
    ] = None,
    model: fd_cli.ModelOption = None,
    split: fd_cli.Split = "test",
    truth: Annotated[
        str | None,
        typer.Option("--truth", metavar="DIR|-", help="True meshes, instead of a face set."),
    ] = None,
    predicted: Annotated[
        str | None,
        typer.Option("--predicted", metavar="DIR|-", help="Predicted meshes, with the same names."),
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
    align: fd_cli.AlignPredictions = False,
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
    as_json: fd_cli.Json = False,
    output: fd_cli.Output = "-",
    per_mesh: Annotated[
        str | None,
        typer.Option("--per-mesh", metavar="CSV", help="Also write the errors per mesh."),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Also write the checks as JUnit XML."),
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Measure a model on a face set, or predicted meshes against true ones.

    All lengths are in mm:

    \b
    e_rec           distance of the reconstruction to the input (eq. 9)
    e_dis           spread of one person's identity faces (eq. 10); e_dis_jiang and
                    e_dis_mean_distance are other definitions of the same
    avd_neu         distance of the identity face to the person's true neutral
    between_subject spread of the identity faces of different people
    rank1_*_accuracy
                    recognition among the neutrals, by cosine of identity latents or by
                    vertex distance of identity faces
    expression_from_*_accuracy
                    expression read off identity latents (chance is best) and off expression
                    latents, with expression_chance

    A --check names a number of the JSON output: e_rec is the model's mean, e_dis.median and
    baselines.pca.e_rec are others. --truth and --predicted match meshes by name; with --labels
    the predicted meshes also count as identity faces.

    Examples:
      fd-metrics set.safetensors -m model.safetensors --baselines
      fd-metrics set.safetensors --json --check 'e_rec<=1.2' --check 'e_dis.median<=0.2'
      fd-metrics --truth scans/ --predicted mine/ --labels labels.csv
    """  # noqa: D301 - click keeps the lines after \b as they are
    from facedis_core.evaluate.gates import Check, Tolerance, junit_xml, require_all
    from facedis_core.evaluate.metrics_report import MetricsOptions, measure
    from facedis_core.io.streams import check_output, open_output

    options = MetricsOptions(
        face_set=face_set,
        model=model,
        split=split,
        truth=truth,
        predicted=predicted,
        labels=labels,
        neutral=neutral,
        units=units,
        baselines=baselines,
        baselines_from=baselines_from,
        align=align,
        checks=[Check.parse(text) for text in check or ()],
        against=against,
        tolerance=None if tolerance is None else Tolerance.parse(tolerance),
    )
    if junit is not None and against is None and not check:
        raise UsageError(
            "--junit writes the results of checks; give --check or --against",
            ErrorCode.OPTION_MISSING,
        )
    fd_cli.check_read_once(*options.sources)
    targets = {"--output": output, "--per-mesh": per_mesh, "--junit": junit}
    fd_cli.check_different(targets)
    for target in targets.values():
        if target is not None:
            check_output(target, force, binary=False)

    report, table, checks = measure(options, fd_cli.progress_bar, fd_cli.warn)

    def write(target: str | None, content: bytes) -> None:
        if target is not None:
            with open_output(target, force=force, binary=False) as stream:
                stream.write(content)

    terminal = output == "-" and sys.stdout.isatty()
    text = json.dumps(report, indent=2, allow_nan=False) if as_json else _page(report, terminal)
    write(output, f"{text.rstrip()}\n".encode())
    write(per_mesh, table.encode(errors="surrogateescape"))
    write(junit, junit_xml("fd-metrics", checks, report) if junit else b"")
    require_all([check for group in checks.values() for check in group], report)


def _page(report: Mapping[str, Any], terminal: bool) -> str:
    """The report as tables: all metrics of the model, then the main metrics of the baselines."""
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False)
    facts = report["provenance"]
    console.print("  ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
    table = Table("metric, mm", "mean", "std", "median", "n")
    for key, value in report["model"].items():
        if isinstance(value, Mapping):
            table.add_row(
                key, *(f"{value[part]:.4f}" for part in ("mean", "std", "median")), str(value["n"])
            )
        elif isinstance(value, float):
            count = "rank1_probes" if key.startswith("rank1") else "expression_faces"
            table.add_row(key, f"{value:.4f}", "", "", str(report["model"][count]))
    console.print(table)
    if "baselines" in report:
        table = Table("mean, mm", *COMPARED)
        for name, found in {"model": report["model"], **report["baselines"]}.items():
            means = [f"{found[key]['mean']:.4f}" if key in found else "" for key in COMPARED]
            table.add_row(name, *means)
        console.print(table)
    return text.getvalue()


def main() -> None:
    """Entry point of fd-metrics."""
    fd_cli.run(metrics)


if __name__ == "__main__":
    main()
