"""Tables of a study as Markdown, from all reports in its folder."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from study import KINDS, Cell, Study

CONVERGED = 0.01  # largest relative change of E_rec over the last tenth of a training

BASELINES = {
    "mean_face": "mean face",
    "pca": "PCA",
    "ridge_identity_mean": "ridge to the person's mean face",
    "ridge_identity_mean_2x": "ridge to the person's mean face, 2x coefficients",
    "ridge_pseudo_neutral": "ridge to the pseudo-neutral",
    "ridge_pseudo_neutral_2x": "ridge to the pseudo-neutral, 2x coefficients",
    "ridge_neutral": "ridge to the neutral (neutrals)",
    "ridge_neutral_2x": "ridge to the neutral, 2x coefficients (neutrals)",
    "flame_like_pseudo": "FLAME's linear model, pseudo-neutrals",
    "flame_like": "FLAME's linear model (neutrals)",
}
SHORT = {"E_rec": ("e_rec", "mean"), "E_dis": ("e_dis", "mean"), "AVD_neu": ("avd_neu", "mean")}
COLUMNS = {
    **SHORT,
    "E_dis (Jiang)": ("e_dis_jiang", "mean"),
    "between subjects": ("between_subject", "mean"),
    "rank-1 (vertices)": ("rank1_vertex_accuracy",),
}
RECOGNITION = {
    "rank-1": ("model", "rank1_cosine_accuracy"),
    "rank-5": ("model", "rank5_cosine_accuracy"),
    "AUC": ("model", "auc_cosine"),
    "EER": ("model", "eer_cosine"),
}
LATENTS = {
    "expression from z_id": ("expression_from_identity_accuracy",),
    "from z_exp": ("expression_from_expression_accuracy",),
    "chance": ("expression_chance",),
}
VARIATION_HEADINGS = {
    "quarter": "Trained on a quarter of the people",
    "strong": "Expressions 1.5 times as strong",
    "combined": "Two expressions at once",
    "moved": "Faces moved by 1 mm and 2 degrees",
    "noisy": "0.5 mm of noise",
}


def value(report: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """A number of a report, or None."""
    found: Any = report
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def numbers(
    reports: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[str]]
) -> list[str]:
    """Mean and standard deviation over seeds for each column."""
    cells = []
    for path in columns.values():
        values = [found for report in reports if (found := value(report, path)) is not None]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{fmean(values):.3f}{spread}" if values else "")
    return cells


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    for row in (heading, ["---"] * len(heading), *rows):
        yield f"| {' | '.join(row)} |"


def tables(study: Study) -> Iterator[str]:
    """All tables, line by line."""
    cells = [cell for kind in KINDS.values() for cell in kind]
    whole = [cell for cell in cells if study.metrics(cell, "whole")]
    yield "## The test people\n"
    linear = study.report("baselines_on_whole.json")["baselines"]
    rows = [
        [title, *numbers([linear[key]], COLUMNS), "", "", ""]
        for key, title in BASELINES.items()
        if key in linear  # fd-metrics leaves out those that repeat others
    ]
    for cell in whole:
        found = study.metrics(cell, "whole")
        training = [str(len(found)), minutes(study, cell), last_change(study, cell)]
        rows.append([cell.title, *numbers(found, COLUMNS), *training])
    yield from markdown(["mm", *COLUMNS, "seeds", "minutes", "E_rec, change in last tenth"], rows)
    yield "\n## Convergence\n"
    rows = [[cell.title, curve(study, cell)] for cell in whole]
    yield from markdown(["", "E_rec in mm (after epochs)"], rows)
    yield "\n## Recognition, and expression in the latents\n"
    rows = [
        [
            cell.title,
            *numbers(study.reports(cell, "recognized"), RECOGNITION),
            *numbers(study.metrics(cell, "whole"), LATENTS),
        ]
        for cell in whole
    ]
    yield from markdown(["", *RECOGNITION, *LATENTS], rows)
    for name, heading in VARIATION_HEADINGS.items():
        if not study.path(f"baselines_on_{name}.json").exists():
            continue
        yield f"\n## {heading}\n"
        linear = study.report(f"baselines_on_{name}.json")["baselines"]
        rows = [
            [title, *numbers([linear[key]], SHORT)]
            for key, title in BASELINES.items()
            if key in linear
        ]
        saw = f"baselines_that_saw_{name}.json"
        if study.path(saw).exists():
            linear = study.report(saw)["baselines"]
            rows += [
                [f"{title}; fitted on such faces", *numbers([linear[key]], SHORT)]
                for key, title in BASELINES.items()
                if key in linear and key != "mean_face"
            ]
        rows += [
            [cell.title, *numbers(found, SHORT)]
            for cell in cells
            if (found := study.metrics(cell, name))
        ]
        yield from markdown(["mm", *SHORT], rows)


def minutes(study: Study, cell: Cell) -> str:
    """Mean minutes of a training, without pre-training its discriminator."""
    found = study.out.glob(f"{cell.key}-[0-9]*.safetensors.made")
    texts = [path.read_text().splitlines()[0].split() for path in found]
    more = "+" if any(len(text) > 1 for text in texts) else ""
    return f"{fmean(float(text[0]) for text in texts) / 60:.1f}{more}" if texts else ""


def e_rec_by_epoch(study: Study, cell: Cell) -> dict[int, float]:
    """Epoch -> test E_rec in mm, of the first seed."""
    log = min(study.out.glob(f"{cell.key}-[0-9]*.jsonl"))
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return {r["epoch"]: r["test"]["e_rec"]["mean"] for r in records if "test" in r}


def curve(study: Study, cell: Cell) -> str:
    """E_rec over the epochs, as text."""
    return ", ".join(f"{e_rec:.3f} ({n})" for n, e_rec in e_rec_by_epoch(study, cell).items())


def last_change(study: Study, cell: Cell) -> str:
    """Relative change of E_rec over the last tenth of the training of the first seed, as text."""
    e_rec = e_rec_by_epoch(study, cell)
    end = max(e_rec)
    before = max((epoch for epoch in e_rec if epoch <= 0.9 * end), default=end)
    if before == end:
        return "?"
    # evaluated less often than every tenth: the part of the change that a tenth has
    change = (e_rec[end] / e_rec[before] - 1) * min(1.0, 0.1 * end / (end - before))
    return f"{change:+.1%}" + ("" if abs(change) < CONVERGED else ", not converged")
