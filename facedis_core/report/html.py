"""HTML of a report page: its Jinja2 template, embedded images, and hashes of its script and style.

Importing this module raises UsageError where Jinja2 or Pillow is not installed.
"""

import io
import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple
from unicodedata import category

from facedis_core import __version__, render
from facedis_core.errors import missing_extra
from facedis_core.report.figures import Figure

try:
    import jinja2
    from PIL import Image
except ModuleNotFoundError:
    raise missing_extra("writing a report", "view") from None

WEB: Final = Path(__file__).parent / "web"
_SHARED_WEB: Final = Path(render.__file__).parent / "web"
_WEBP_QUALITY: Final = 90  # a seventh of the size of a PNG, with no visible loss
_SCROLLING_WIDTH: Final = 900  # pixels of a picture that scrolls on a narrow page


class EmbeddedFigure(NamedTuple):
    """A figure whose picture is a data URL.

    Attributes:
        full_row: takes a whole row of the page.
        scrolls: scrolls sideways where the page is narrow.
    """

    title: str
    caption: str
    url: str
    width: int
    height: int
    full_row: bool
    scrolls: bool


def embed(figure: Figure) -> EmbeddedFigure:
    """The figure with its picture as WebP in a data URL."""
    stream = io.BytesIO()
    Image.fromarray(figure.picture).save(stream, "WEBP", quality=_WEBP_QUALITY)
    height, width = figure.picture.shape[:2]
    return EmbeddedFigure(
        figure.title,
        figure.caption,
        f"data:image/webp;base64,{b64encode(stream.getvalue()).decode()}",
        width,
        height,
        full_row=width > 1.5 * height,
        scrolls=width > _SCROLLING_WIDTH,
    )


def render_page(viewer_payload: dict[str, Any], **context: Any) -> str:
    """The page of `web/report.html`, which needs no other file and no network.

    Args:
        viewer_payload: JSON data of the 3D viewer.
        context: the other variables of the template, which escapes them.
    """
    data = json.dumps(viewer_payload, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # so that no text in it ends the script element
        data = data.replace(character, f"\\u{ord(character):04x}")
    scripts = (_SHARED_WEB / "face_viewer.js", WEB / "report.js")
    return render_template("report.html", scripts, viewer_data=data, **context)


def render_template(template: str, scripts: Iterable[Path], **context: Any) -> str:
    """A page of a template of `web`, with the style of all reports and some scripts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (WEB / "report.css").read_text("utf-8")
    script = "".join(path.read_text("utf-8") for path in scripts)
    return environment.get_template(template).render(
        version=__version__,
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        **context,
    )


def printable(text: str) -> str:
    """The text with a replacement character for each one that is invisible or not in UTF-8."""
    if text.isprintable():  # almost all, and some are pictures
        return text
    # wide and narrow spaces are kept, though Python calls only one of them printable
    return "".join(
        c if c.isprintable() or category(c) == "Zs" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _csp_hash(text: str) -> str:
    """Source expression by which a Content-Security-Policy allows exactly this script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
