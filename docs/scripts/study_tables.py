"""Tables of a study as Markdown, from all reports in its folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resumable import e_rec_by_epoch, last_change, minutes
from study import CONDITIONS, KINDS, Cell, Study

from facedis_core.inspection.file_info import parameters
from facedis_core.model.model_file import load_model

BASELINES = {
    "mean_face": "mean face",
    "pca": "PCA, not split",
    "ridge_identity_mean": "ridge to the person's mean face",
    "ridge_pseudo_neutral": "ridge to the pseudo-neutral",
    "ridge_neutral": "ridge to the neutral",
    "flame_like_pseudo": "FLAME's linear model, pseudo-neutrals",
    "flame_like": "FLAME's linear model",
}
COLUMNS = {"E_rec": "e_rec", "E_dis": "e_dis", "AVD_neu": "avd_neu"}
PROBES = {
    "person from z_id": "rank1_cosine_accuracy",
    "person from z_exp": "identity_from_expression_accuracy",
    "expression from z_id": "expression_from_identity_accuracy",
}
VARIATIONS = {
    "plain": "as in training",
    "moved": "moved (2 degrees, 1 mm)",
    "strong": "strong (1.5 times)",
    "combined": "two expressions at once",
    "captured": "captured (a recording of ARKit weights)",
    "noisy": "noisy (0.5 mm at every vertex)",
}


def number(metrics: Mapping[str, Any], key: str) -> float | None:
    """A metric, or the mean of its summary."""
    found = metrics.get(key)
    return found["mean"] if isinstance(found, Mapping) else found


def shown(value: float | None, digits: int = 3) -> str:
    """A number as text; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    for row in (heading, ["---"] * len(heading), *rows):
        yield f"| {' | '.join(row)} |"


def tables(study: Study) -> Iterator[str]:
    """All tables that have a row, line by line."""
    cells = [cell for kind in KINDS.values() for cell in kind]
    whole = [cell for cell in cells if not cell.few]
    trained = [cell for cell in cells if not cell.is_closed_form]
    parts = {
        "Test people, with the first seed": first_seed(study, whole),
        "Ratios to the strongest baselines of the condition": ratios(study, whole),
        "Ranges over seeds": seeds(study, whole),
        "Test people shown otherwise": variations(study, whole),
        "Trained on a quarter of the people": first_seed(study, [c for c in cells if c.few]),
        "All systems": systems(study, whole),
        "Length of the trainings": lengths(study, trained),
    }
    start = ""
    for title, part in parts.items():
        heading, line, *rows = part
        if rows:
            yield f"{start}## {title}\n"
            yield from (heading, line, *rows)
            start = "\n"


def first_seed(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Models with intervals, and the baselines with as many latents, by condition."""
    seen: set[str] = set()
    rows = []
    for condition in CONDITIONS:
        own = [cell for cell in cells if cell.condition == condition]
        found = {cell: study.report(cell, study.seeds[0]) for cell in own}
        if any(found.values()):
            rows.append([f"**{condition}**", *[""] * (1 + len(COLUMNS) + len(PROBES))])
        for group in dict.fromkeys(cell.group for cell in own):
            members = [cell for cell in own if cell.group == group and found[cell]]
            for cell in members:
                report = found[cell] or {}
                rows.append(
                    [
                        cell.title,
                        cell.latents,
                        *(
                            with_interval(report["model"], report["intervals"], key)
                            for key in COLUMNS.values()
                        ),
                        *(shown(number(report["model"], key)) for key in PROBES.values()),
                    ]
                )
            baselines = (found[members[0]] or {})["baselines"] if members else {}
            for key, title in BASELINES.items():
                metrics = baselines.get(key, {})
                if metrics.get("condition") != condition:
                    continue
                row = [title, str(metrics.get("components", 0))]
                row += [shown(number(metrics, each)) for each in COLUMNS.values()]
                row += [shown(number(metrics, each)) for each in PROBES.values()]
                if (line := " ".join([condition, *row])) not in seen:
                    seen.add(line)
                    rows.append(row)
    yield from markdown(["mm", "latents", *COLUMNS, *PROBES], rows)


def with_interval(metrics: Mapping[str, Any], intervals: Mapping[str, Any], key: str) -> str:
    """`0.267 (0.261 to 0.274)`."""
    interval = intervals.get(key)
    end = f" ({interval['low']:.3f} to {interval['high']:.3f})" if interval else ""
    return shown(number(metrics, key)) + end


def label(cell: Cell) -> list[str]:
    """Condition, title and latents of a cell."""
    return [cell.condition, cell.title, cell.latents]


def ratios(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """The models' metrics divided by those of the strongest baselines, which are named."""
    rows = []
    for cell in cells:
        report = study.report(cell, study.seeds[0])
        if report and report["strongest"]:
            strongest = [report["strongest"].get(key, {}) for key in COLUMNS.values()]
            rows.append(
                label(cell)
                + [
                    f"{shown(best.get('ratio'), 2)} ({BASELINES[best['baseline']]})" if best else ""
                    for best in strongest
                ]
            )
    yield from markdown(["condition", "model", "latents", *COLUMNS], rows)


def seeds(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Least and largest of each metric over the seeds."""
    rows = []
    for cell in cells:
        reports = [study.report(cell, seed) for seed in study.seeds]
        if found := [report["model"] for report in reports if report]:
            row = [*label(cell), str(len(found))]
            for key in COLUMNS.values():
                values = [v for metrics in found if (v := number(metrics, key)) is not None]
                row.append(f"{min(values):.3f} to {max(values):.3f}" if values else "")
            rows.append(row)
    yield from markdown(["condition", "model", "latents", "seeds", *COLUMNS], rows)


def variations(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Metrics on every variation, each with its ratio to the strongest baseline of the set."""
    rows = []
    for cell in cells:
        for name, title in VARIATIONS.items():
            report = study.report(cell, study.seeds[0], name)
            if report is None or cell.people == "dropped":
                continue
            row = [*label(cell), title]
            for key in COLUMNS.values():
                row.append(with_interval(report["model"], report["intervals"], key))
                row.append(shown(report["strongest"].get(key, {}).get("ratio"), 2))
            row.append(shown(number(report["model"], PROBES["person from z_exp"])))
            rows.append(row)
    columns = [word for key in COLUMNS for word in (key, "ratio")]
    heading = ["condition", "model", "latents", "faces", *columns, "person from z_exp"]
    yield from markdown(heading, rows)


def systems(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Errors of every model of the first seed, its size, and how long it trains and encodes."""
    rows, seed = [], study.seeds[0]
    for cell in cells:
        path, report = study.path(f"{cell.key}-{seed}.safetensors"), study.report(cell, seed)
        if report is None or not path.exists():
            continue
        curve = e_rec_by_epoch(path)
        rows.append(
            [
                *label(cell),
                *(
                    with_interval(report["model"], report["intervals"], key)
                    for key in COLUMNS.values()
                ),
                f"{parameters(load_model(path).weights):,}",
                minutes(path),
                f"{study.encode_ms(cell, seed):.2g}",
                "closed form" if cell.is_closed_form else last_change(curve) if curve else "?",
            ]
        )
    heading = [*("condition", "model", "latents"), *COLUMNS, "parameters", "minutes"]
    yield from markdown([*heading, "ms to encode", "change in the last tenth"], rows)


def lengths(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Minutes of a training, and how E_rec changes with its epochs, of the first seed."""
    rows = []
    for cell in cells:
        model = study.path(f"{cell.key}-{study.seeds[0]}.safetensors")
        if curve := e_rec_by_epoch(model):
            length = [minutes(model), last_change(curve), text(curve)]
            rows.append([cell.condition, cell.title, *length])
    heading = [
        "condition",
        "model",
        "minutes",
        "change in the last tenth",
        "E_rec, else AVD_neu (after epochs)",
    ]
    yield from markdown(heading, rows)


def text(curve: Mapping[int, float]) -> str:
    """E_rec over the epochs."""
    return ", ".join(f"{e_rec:.3f} ({n})" for n, e_rec in curve.items())
