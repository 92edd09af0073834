"""Report on models as one HTML page with everything in it, and its figures as PNG files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from facedis_core import sections
from facedis_core.errors import UsageError
from facedis_core.figures import (
    Figure,
    FigureMaker,
    error_figures,
    generated_figures,
    mean_error_figure,
)
from facedis_core.image_files import write_png
from facedis_core.paths import is_file, is_folder
from facedis_core.report_html import embed, render_page
from facedis_core.streams import check_output, open_output, shown
from facedis_core.viewer_payload import viewer_payload

# What `write_figures` names its files, so that nobody else's are counted among them.
_KEYS: Final = "mean-errors|errors-.+|transfer-.+|interpolation-.+|identities"
_FILE: Final = re.compile(rf"[0-9]{{2,}}-({_KEYS})\.png")


class Page(NamedTuple):
    """HTML of a report, and its figures in order."""

    html: str
    figures: list[Figure]


def build_page(maker: FigureMaker, title: str | None = None) -> Page:
    """The report page of a model comparison; the same comparison gives the same bytes.

    `title` defaults to the models' names.
    """
    comparison = maker.comparison
    errors = list(error_figures(maker))
    mean_errors = mean_error_figure(maker)
    generated = list(generated_figures(maker))
    charts, expression_table = sections.errors_by_expression(comparison)
    html = render_page(
        viewer_payload(comparison, maker.options),
        title=title or f"Faces by {', '.join(result.label for result in comparison.models)}",
        facts=sections.comparison_facts(comparison),
        metrics=sections.metrics_section(comparison),
        legend=sections.legend(comparison),
        histograms=sections.error_histograms(comparison),
        expression_charts=charts,
        expression_table=expression_table,
        region_table=sections.errors_by_region(comparison),
        mean_errors=embed(mean_errors),
        error_figures=list(map(embed, errors)),
        generated=list(map(embed, generated)),
    )
    return Page(html, [mean_errors, *errors, *generated])


def check_folder(folder: str, force: bool) -> None:
    """Raise at once what `write_figures` would raise only after the computation.

    UsageError for a file in its place, and for figures in it without `force`; OutputError where
    nothing can be written.
    """
    if is_file(folder):
        raise UsageError(f"{shown(folder)} is a file; expected a folder for --figures")
    there = sorted(path.name for path in _figures_in(folder))
    if there and not force:
        raise UsageError(
            f"{shown(folder)} has figures such as {there[0]}; replace them with --force, or "
            "choose another folder"
        )
    check_output(str(Path(folder) / "01-mean-errors.png"), force, parents=True)


def _figures_in(folder: str) -> list[Path]:
    if not is_folder(folder):
        return []
    return [path for path in Path(folder).iterdir() if _FILE.fullmatch(path.name)]


def write_figures(folder: str, figures: Sequence[Figure], force: bool) -> None:
    """Write each picture as a numbered PNG file into a folder, which is made if it is missing.

    With `force` figures of an earlier report that have no successor are removed: numbers that mean
    two things would lie.
    """
    earlier = set(_figures_in(folder))
    for number, figure in enumerate(figures, 1):
        name = re.sub(r"[^A-Za-z0-9.]+", "-", figure.key)
        target = str(Path(folder) / f"{number:02}-{name}.png")
        with open_output(target, force=force, parents=True) as stream:
            write_png(stream, figure.picture)
        earlier.discard(Path(target))
    for path in earlier:
        path.unlink(missing_ok=True)
