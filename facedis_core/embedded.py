"""Pictures inside of a page.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import io
from base64 import b64encode
from typing import Final

from facedis_core.errors import MissingExtra
from facedis_core.figures import Figure
from facedis_core.markup import Markup, element

try:
    from PIL import Image
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

# WebP at this quality takes a seventh of a PNG; neither gradients nor letters show it.
_QUALITY: Final = 90
_WIDE: Final = 900  # pixels
_WHOLE: Final = 1.5  # times its height


def embedded(figure: Figure) -> Markup:
    """A figure with its picture as WebP in a data: address, and its caption."""
    held = io.BytesIO()
    Image.fromarray(figure.picture).save(held, "WEBP", quality=_QUALITY, method=6)
    height, width = figure.picture.shape[:2]
    address = f"data:image/webp;base64,{b64encode(held.getvalue()).decode()}"
    words = f"{figure.title}. {figure.caption}"
    image = element("img", src=address, width=width, height=height, alt=words, decoding="async")
    caption = element("figcaption", element("b", figure.title), ". ", figure.caption)
    # a sheet of many faces scrolls by itself where the page is narrow
    kind = {"class_": "frame many", "tabindex": 0} if width > _WIDE else {"class_": "frame"}
    frame = element("div", image, **kind)
    whole = width > _WHOLE * height  # takes all of a row
    return element("figure", frame, caption, class_="picture whole" if whole else "picture")
