"""A report on models as one page that needs nothing else: no network, no second file."""

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

from facedis_core import __version__, sections
from facedis_core.errors import UsageError
from facedis_core.figures import (
    Figure,
    FigureMaker,
    error_figures,
    generated_figures,
    mean_error_figure,
)
from facedis_core.image_files import write_png
from facedis_core.markup import Markup, element, joined
from facedis_core.paths import is_file, is_folder
from facedis_core.sections import Section
from facedis_core.streams import check_output, open_output, shown
from facedis_core.viewer_payload import viewer_payload

# What `write_figures` names its files, so that nobody else's are counted among them.
_KEYS: Final = "mean-errors|errors-.+|transfer-.+|interpolation-.+|identities"
_FILE: Final = re.compile(rf"[0-9]{{2,}}-({_KEYS})\.png")


class Page(NamedTuple):
    """A page, and its figures in their order."""

    html: str
    figures: list[Figure]


def page(maker: FigureMaker, title: str | None = None) -> Page:
    """The page on a comparison; the same comparison gives the same characters.

    `title` is what the models' names say where there is none.
    """
    comparison = maker.comparison
    if not title:
        title = f"Faces by {', '.join(result.label for result in comparison.models)}"
    errors = list(error_figures(maker))
    where = mean_error_figure(maker)
    mixed = list(generated_figures(maker))
    content = [
        sections.metrics(comparison),
        sections.distributions(comparison),
        sections.expressions(comparison),
        sections.places(comparison, where),
        Section("viewer-3d", "Faces in 3D", Markup(_web("viewer.html"))),
        sections.extremes(errors),
    ]
    content += [sections.mixtures(mixed)] if mixed else []
    html = _page(
        title, sections.summary(comparison), content, viewer_payload(comparison, maker.options)
    )
    return Page(html, [where, *errors, *mixed])


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


def _page(title: str, summary: Markup, content: Sequence[Section], faces: dict[str, Any]) -> str:
    style, script = _web("report.css"), _web("viewer.js") + _web("report.js")
    rules = (
        "default-src 'none'",
        "img-src data:",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        "base-uri 'none'",
        "form-action 'none'",
    )
    links = [element("a", part.title, href=f"#{part.key}") for part in content]
    return Template(_web("report.html")).substitute(
        policy="; ".join(rules),
        generator=f"facedis {__version__}",
        title=joined([title]),
        style=style,
        script=script,
        summary=summary,
        links=joined(links),
        sections=joined(part.html() for part in content),
        viewer_data=_json(faces),
    )


def _web(name: str) -> str:
    return files("facedis_core").joinpath("web", name).read_text("utf-8")


def _hash(text: str) -> str:
    """By which a policy allows this text and no other to be run, or to be a style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
