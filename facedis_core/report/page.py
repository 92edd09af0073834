"""Report on models as one HTML page with all in it, figures as PNG and charts as SVG files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.streams import check_output, open_output
from facedis_core.io.text import shown
from facedis_core.pipeline.onto import find_originals
from facedis_core.render.image_files import write_png
from facedis_core.report import sections
from facedis_core.report.charts import svg_file
from facedis_core.report.comparison import compare_models
from facedis_core.report.figures import (
    Figure,
    FigureMaker,
    FigureOptions,
    error_figures,
    generated_figures,
    mean_error_figure,
)
from facedis_core.report.html import embed, render_page
from facedis_core.report.textures import FaceTextures
from facedis_core.report.viewer_payload import viewer_payload

# Names of the files of `write_figures`, so that no other file is replaced or removed.
_KEYS: Final = (
    "mean-errors|errors-.+|transfer-.+|interpolation-.+|identities|doubtful|worst|average|best"
)
_CHARTS: Final = "histogram|expressions|training"
_FILE: Final = re.compile(rf"[0-9]{{2,}}-({_KEYS})\.png|chart-({_CHARTS})-.+\.svg")


@dataclass(frozen=True)
class ReportOptions:
    """Models and faces to compare, and the look of the page.

    Attributes:
        face_set: path of the set; `-` = standard input.
        models: paths or bundled names; None = the default model.
        split: all, train, test or validation.
        baselines: also measure linear methods; None = if the set has training faces.
        align: align predictions rigidly to the truth first.
        title: of the page; None = the models' names.
        figures: number and size of the faces in figures.
        textures: a mesh, or a folder of meshes, whose textures the faces in 3D have; None = skin.

    Raises:
        UsageError: an output that is not named as HTML.
    """

    face_set: str
    models: Sequence[str | None]
    split: str = "test"
    baselines: bool | None = None
    align: bool = False
    title: str | None = None
    figures: FigureOptions = field(default_factory=FigureOptions)
    textures: str | None = None
    output: str = "-"

    def __post_init__(self) -> None:
        check_html(self.output)


def check_html(output: str) -> None:
    """Check the name of a page.

    Raises:
        UsageError: its suffix says that it is something else.
    """
    if Path(output).suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(
            f"{output} is no HTML file; expected a name that ends in .html", ErrorCode.OUTPUT_SUFFIX
        )


class Report(NamedTuple):
    """The HTML page of a report, and its figures and charts in order.

    Attributes:
        charts: file name -> content.
        warnings: lines about textures that are missing.
    """

    html: str
    figures: list[Figure]
    charts: dict[str, bytes]
    warnings: Sequence[str] = ()


def build_report(options: ReportOptions, progress: Progress = no_progress) -> Report:
    """Measure the models and make the page; the same input gives the same bytes.

    Raises:
        InputError, UsageError: as of `find_originals`, `compare_models` and `FaceTextures.of`.
    """
    originals = find_originals(options.textures) if options.textures is not None else None
    comparison = compare_models(
        options.face_set,
        options.models,
        options.split,
        align=options.align,
        baselines=options.baselines,
        progress=progress,
    )
    textures = FaceTextures.of(originals, comparison.faces, comparison.rows) if originals else None
    maker = FigureMaker(comparison, options.figures, progress)
    errors = list(error_figures(maker))
    mean_errors = mean_error_figure(maker)
    generated = list(generated_figures(maker))
    charts, expression_table = sections.errors_by_expression(comparison)
    histograms = sections.error_histograms(comparison)
    training = sections.training_curves(comparison)
    html = render_page(
        viewer_payload(comparison, options.figures, textures),
        title=options.title or f"Faces by {', '.join(r.label for r in comparison.models)}",
        facts=sections.comparison_facts(comparison),
        metrics=sections.metrics_section(comparison),
        legend=sections.legend(comparison),
        histograms=histograms,
        training=training,
        expression_charts=charts,
        expression_table=expression_table,
        region_table=sections.errors_by_region(comparison),
        mean_errors=embed(mean_errors),
        error_figures=list(map(embed, errors)),
        generated=list(map(embed, generated)),
    )
    labels = [result.label for result in comparison.models]
    files = {
        f"chart-{chart.key}.svg": svg_file(chart.svg, chart.caption, labels)
        for chart in (*histograms, *charts, *training)
    }
    warnings = textures.all_warnings() if textures else ()
    return Report(html, [mean_errors, *errors, *generated], files, warnings)


def check_folder(folder: str, force: bool) -> None:
    """Check before the computation that `write_figures` can write into a folder.

    Raises:
        UsageError: it is a file, or has figures already and `force` is not given.
        OutputError: it is not writable.
    """
    if is_file(folder):
        raise UsageError(
            f"{shown(folder)} is a file; --figures needs a folder", ErrorCode.OUTPUT_PATTERN
        )
    there = sorted(path.name for path in _figures_in(folder))
    if there and not force:
        raise UsageError(
            f"{shown(folder)} has figures already, e.g. {there[0]}; replace them with --force, or "
            "choose another folder",
            ErrorCode.OUTPUT_EXISTS,
        )
    check_output(str(Path(folder) / "01-mean-errors.png"), force, parents=True)


def _figures_in(folder: str) -> list[Path]:
    if not is_folder(folder):
        return []
    return [path for path in Path(folder).iterdir() if _FILE.fullmatch(path.name)]


def write_figures(folder: str, report: Report, force: bool) -> None:
    """Write figures as numbered PNG files and charts as SVG files into a folder.

    The folder is made if it is missing. With `force`, other figures and charts of an earlier report
    are removed, so that no number occurs twice.
    """
    earlier = set(_figures_in(folder))
    for name, content in report.charts.items():
        target = str(Path(folder) / name)
        with open_output(target, force=force, parents=True) as stream:
            stream.write(content)
        earlier.discard(Path(target))
    for number, figure in enumerate(report.figures, 1):
        name = re.sub(r"[^A-Za-z0-9.]+", "-", figure.key)
        target = str(Path(folder) / f"{number:02}-{name}.png")
        with open_output(target, force=force, parents=True) as stream:
            write_png(stream, figure.picture)
        earlier.discard(Path(target))
    for path in earlier:
        path.unlink(missing_ok=True)
