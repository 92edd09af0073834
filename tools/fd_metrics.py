"""fd-metrics: how well a model, or any method, splits and reconstructs faces."""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fd_cli
from facedis_core.errors import InputError, UsageError

if TYPE_CHECKING:
    from facedis_core.evaluation import Evaluation

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
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    output: fd_cli.Output = "-",
    per_mesh: Annotated[
        str | None, typer.Option("--per-mesh", metavar="CSV", help="Write the errors of each mesh.")
    ] = None,
    force: fd_cli.Force = False,
) -> None:
    """Measure a model on a face set, or predicted meshes against true ones.

    Lengths are in mm. A --check names a number of the JSON output: a bare name is the model's
    mean, others are e_dis.median, baselines.pca.e_rec; several are allowed. With --truth and
    --predicted meshes are matched by name; the labels make identity faces of the predicted ones.
    """
    from facedis_core.checks import Check, require
    from facedis_core.streams import check_output, open_output

    checks = [Check.parse(text) for text in check or ()]
    for target in (output,) if per_mesh is None else (output, per_mesh):
        check_output(target, force, binary=False)
    if per_mesh is not None and os.path.realpath(output) == os.path.realpath(per_mesh):
        raise UsageError(f"--output and --per-mesh are both {output}; give two names")
    if neutral is not None and labels is None:
        raise UsageError("--neutral names an expression in --labels; give both")
    if truth is None and predicted is None and labels is None:
        source = face_set or "-"
        _read_once(source, model, baselines_from)
        report, table = _measure_set(
            source, model, split, align, baselines or baselines_from is not None, baselines_from
        )
    else:
        if truth is None or predicted is None:
            raise UsageError("--truth and --predicted belong together; give both")
        if face_set or model or baselines or baselines_from or split != "test":
            raise UsageError(
                "SET, --model, --split and --baselines do not go with --truth; leave them out"
            )
        _read_once(truth, predicted, labels)
        report, table = _measure_meshes(truth, predicted, labels, neutral, align)
    terminal = output == "-" and sys.stdout.isatty()
    text = json.dumps(report, indent=2, allow_nan=False) if as_json else _page(report, terminal)
    with open_output(output, force=force, binary=False) as stream:
        stream.write(f"{text.rstrip()}\n".encode())
    if per_mesh is not None:
        with open_output(per_mesh, force=force, binary=False) as stream:
            stream.write(table.encode(errors="surrogateescape"))
    require(checks, report)


def _read_once(*sources: str | None) -> None:
    if sources.count("-") > 1:
        raise UsageError("standard input (-) is named twice; give a file for one of them")


def _measure_set(
    source: str, model: str | None, split: str, align: bool, linear: bool, fitted_on: str | None
) -> tuple[dict[str, Any], str]:
    """The report on a face set and the table of its meshes."""
    from facedis_core.evaluation import check_topology, evaluate_face_set, model_predictor
    from facedis_core.faceset import SPLITS, load_face_set
    from facedis_core.inference import load_model

    faces, trained = load_face_set(source), load_model(model)
    check_topology(faces, source, trained.topology, f"model {trained.source or trained.id}")
    known = faces.labels
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(f"{source} has no faces in its {split} split; choose another --split")
    training = load_face_set(fitted_on) if fitted_on is not None else faces
    if linear:
        check_topology(training, fitted_on or source, faces.topology, source)
    with fd_cli.progress_bar("measuring", len(rows)) as advance:
        found = evaluate_face_set(
            model_predictor(trained), faces, rows, align=align, progress=advance
        )
    report: dict[str, Any] = {"model": found.metrics}
    facts = _facts(align, found, len(set(known.subject[rows].tolist())))
    facts |= {"model": trained.id, "set": faces.id, "source": faces.source, "split": split}
    if linear:
        from facedis_core.baselines import evaluate_baselines, fit_baselines

        components = trained.config.identity + trained.config.expression
        with fd_cli.progress_bar("baselines", None) as advance:
            fitted = fit_baselines(training, components)
            report["baselines"] = evaluate_baselines(
                fitted, faces, rows, align=align, progress=advance
            )
        facts["baselines_set"] = training.id
    report["provenance"] = facts
    named = [
        (
            known.names[row],
            known.subjects[known.subject[row]],
            known.expressions[known.expression[row]],
        )
        for row in rows
    ]
    return report, _csv(named, found)


def _measure_meshes(
    truth: str, predicted: str, labels: str | None, neutral: str | None, align: bool
) -> tuple[dict[str, Any], str]:
    """The report on predicted meshes and the table of them."""
    from facedis_core.comparison import compare

    with fd_cli.progress_bar("measuring", None) as advance:
        found = compare(truth, predicted, labels, neutral=neutral, align=align, progress=advance)
    people = len({label.subject for label in found.labels}) or None
    known = [(label.subject, label.expression) for label in found.labels]
    pairs = zip(found.names, known or [("", "")] * len(found.names), strict=True)
    report = {
        "model": found.evaluation.metrics,
        "provenance": _facts(align, found.evaluation, people),
    }
    return report, _csv([(name, *label) for name, label in pairs], found.evaluation)


def _facts(align: bool, found: "Evaluation", subjects: int | None) -> dict[str, Any]:
    from facedis_core import __version__

    facts = {"version": __version__, "aligned": align, "faces": len(found.rows)}
    return facts if subjects is None else {**facts, "subjects": subjects}


def _csv(named: Sequence[tuple[str, str, str]], found: "Evaluation") -> str:
    """One line a mesh; a value that a mesh does not have is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "subject", "expression", *found.per_mesh])
    for label, values in zip(named, zip(*found.per_mesh.values(), strict=True), strict=True):
        writer.writerow([*label, *("" if value != value else f"{value:.6g}" for value in values)])
    return text.getvalue()


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
        elif key.endswith("_accuracy"):
            table.add_row(key, f"{value:.4f}", "", "", str(report["model"]["rank1_probes"]))
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
