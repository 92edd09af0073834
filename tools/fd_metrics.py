"""fd-metrics: how well a model, or any method, splits and reconstructs faces."""

import fd_cli

import io
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from facedis_core.errors import UsageError

COMPARED = ("e_rec", "e_dis", "avd_neu")


def metrics(
    face_set: Annotated[
        str | None,
        typer.Argument(
            metavar="SET", show_default=False, help="Face set; - or nothing = standard input."
        ),
    ] = None,
    model: fd_cli.ModelOption = None,
    split: fd_cli.Split = "test",
    truth: Annotated[
        str | None,
        typer.Option("--truth", metavar="DIR|-", help="True meshes in mm, in place of a face set."),
    ] = None,
    predicted: Annotated[
        str | None,
        typer.Option("--predicted", metavar="DIR|-", help="Predicted meshes of the same names."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="CSV", help="name,subject,expression of these meshes: all metrics."
        ),
    ] = None,
    neutral: Annotated[
        str | None,
        typer.Option("--neutral", help="The neutral expression in --labels.  [default: neutral]"),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also linear methods fitted on the training split.")
    ] = False,
    baselines_from: Annotated[
        str | None,
        typer.Option("--baselines-from", metavar="SET", help="Fit them on this set instead."),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Move predictions rigidly onto the truth (BU3DFE).")
    ] = False,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="LIMIT", help="Exit 1 unless it holds: 'e_rec<=1.2'."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REPORT",
            help="Exit 1 if a metric is worse than in this earlier --json report.",
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            "--tolerance",
            metavar="2%|X",
            help="How much worse --against lets it be, relative or in its unit.  [default: 0]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    output: fd_cli.Output = "-",
    per_mesh: Annotated[
        str | None, typer.Option("--per-mesh", metavar="CSV", help="Write the errors of each mesh.")
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Write how the checks went as JUnit XML."),
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Measure a model on a face set, or predicted meshes against true ones.

    Lengths are in mm. A --check names a number of the JSON output: a bare name is the model's
    mean, others are e_dis.median, baselines.pca.e_rec; several are allowed. --against compares
    the model's mean errors and accuracies with those of a report on the same faces. With --truth
    and --predicted meshes are matched by name; the labels make identity faces of the predicted.
    """
    from facedis_core.checks import Check, require
    from facedis_core.junit import junit_xml
    from facedis_core.measurement import Ways, measure_meshes, measure_set
    from facedis_core.regression import EarlierReport, Tolerance
    from facedis_core.streams import check_output, open_output

    checks = {"check": [Check.parse(text) for text in check or ()]}
    if tolerance is not None and against is None:
        raise UsageError("--tolerance is how much worse than --against REPORT; give both")
    margin = Tolerance.parse(tolerance) if tolerance is not None else Tolerance()
    if junit is not None and against is None and not check:
        raise UsageError("--junit writes how checks went; give --check or --against")
    targets = {"--output": output, "--per-mesh": per_mesh, "--junit": junit}
    fd_cli.check_different(targets)
    for target in targets.values():
        if target is not None:
            check_output(target, force, binary=False)
    if neutral is not None and labels is None:
        raise UsageError("--neutral names an expression in --labels; give both")
    if truth is None and predicted is None and labels is None:
        source = "-" if face_set is None else face_set
        fd_cli.check_read_once(source, model, baselines_from, against)
    else:
        if truth is None or predicted is None:
            raise UsageError("--truth and --predicted belong together; give both")
        if face_set or model or baselines or baselines_from or split != "test":
            raise UsageError(
                "SET, --model, --split and --baselines do not go with --truth; leave them out"
            )
        fd_cli.check_read_once(truth, predicted, labels, against)
    earlier = EarlierReport.read(against) if against is not None else None
    ways = Ways(align, earlier.require_same if earlier else None, fd_cli.progress_bar)
    if truth is None or predicted is None:
        linear = baselines or baselines_from is not None
        report, table = measure_set(
            source, model, split, ways, baselines=linear, fitted_on=baselines_from
        )
    else:
        report, table = measure_meshes(truth, predicted, labels, neutral, ways)
    if earlier:
        checks["against"] = earlier.checks(margin)
    terminal = output == "-" and sys.stdout.isatty()
    text = json.dumps(report, indent=2, allow_nan=False) if as_json else _page(report, terminal)
    with open_output(output, force=force, binary=False) as stream:
        stream.write(f"{text.rstrip()}\n".encode())
    if per_mesh is not None:
        with open_output(per_mesh, force=force, binary=False) as stream:
            stream.write(table.encode(errors="surrogateescape"))
    if junit is not None:
        with open_output(junit, force=force, binary=False) as stream:
            stream.write(junit_xml("fd-metrics", checks, report))
    require([check for group in checks.values() for check in group], report)


def _page(report: Mapping[str, Any], terminal: bool) -> str:
    """The report for people: every metric of the model, then the main ones of the baselines."""
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
