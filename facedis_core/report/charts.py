"""Charts as SVG elements; the page's style sheet colors them by the class of each series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

import numpy as np

from facedis_core.report.html import printable

WIDTH: Final = 400  # units of the drawing; a page shows it in any size
BINS: Final = 40
COLORS: Final = 8  # distinct colors of series

_MAX_LABEL: Final = 20  # characters
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 42, 14, 8, 40, 210


@dataclass(frozen=True, eq=False)
class Series:
    """Values (n,) of one method; values that are not finite are left out."""

    label: str
    values: np.ndarray

    def known(self) -> np.ndarray:
        """The finite values."""
        return np.asarray(self.values, np.float64)[np.isfinite(self.values)]


def color_class(number: int) -> str:
    """CSS class of the series of that number."""
    return f"s{number % COLORS}"


def ticks(high: float, most: int = 5) -> list[float]:
    """0, step, 2 step, ... up to `high`: at most `most` steps of 1, 2 or 5 times a power of 10."""
    if not high > 0:
        return [0.0]
    power = 10.0 ** np.floor(np.log10(high / most))
    step = next(k * power for k in (1, 2, 5, 10) if high / (k * power) <= most)
    return [float(step * k) for k in range(int(np.floor(high / step + 1e-9)) + 1)]


def shares(series: Sequence[Series]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Bin edges (BINS + 1,) from 0, common to all series, and each series' shares (BINS,)."""
    highest = max(float(one.known().max()) for one in series)
    edges = np.linspace(0, highest if highest > 0 else 1.0, BINS + 1)
    counts = [np.histogram(one.known(), edges)[0] for one in series]
    return edges, [count / max(count.sum(), 1) for count in counts]


def histogram(series: Sequence[Series], title: str) -> str:
    """SVG of overlaid histograms of values in mm from 0; dashed lines are the means."""
    edges, parts = shares(series)
    highest = max(float(part.max()) for part in parts)
    width, height = WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bottom = _TOP + height
    summaries = "; ".join(
        f"{one.label}: mean {one.known().mean():.3g}, {one.known().min():.3g} to "
        f"{one.known().max():.3g} mm"
        for one in series
    )
    svg = _chart(_HEIGHT, f"Histogram, {title}. {summaries}")

    def x(value: float) -> float:
        return _LEFT + value / edges[-1] * width

    def y(share: float) -> float:
        return _TOP + height * (1 - share / highest)

    for tick in ticks(highest, 4):
        _add(svg, "line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid")
        _add(svg, "text", f"{tick:.0%}", x=_LEFT - 6, y=y(tick) + 4, text_anchor="end")
    for tick in ticks(float(edges[-1])):
        _add(svg, "text", f"{tick:.4g}", x=x(tick), y=bottom + 16, text_anchor="middle")
    for number, part in enumerate(parts):
        steps = "".join(
            f"V{y(share):.1f}H{x(edge):.1f}" for share, edge in zip(part, edges[1:], strict=True)
        )
        outline = f"M{_LEFT},{bottom}{steps}V{bottom}"
        _add(svg, "path", d=outline, class_=f"area {color_class(number)}")
    for number, one in enumerate(series):
        at = x(float(one.known().mean()))
        _add(svg, "line", x1=at, x2=at, y1=_TOP, y2=bottom, class_=f"mean {color_class(number)}")
    _add_unit(svg, _HEIGHT - 6)
    return _text_of(svg)


def bars(labels: Sequence[str], series: Sequence[Series], title: str) -> str:
    """SVG of a group of bars per label; value k of each series, in mm, is that of label k."""
    left, thickness, gap = 132, 9, 6
    highest = max(float(one.known().max()) for one in series) or 1.0
    width = WIDTH - left - 40
    group = thickness * len(series) + gap
    height = len(labels) * group + 20
    svg = _chart(height, f"Bars, {title}; the numbers are in the table")
    for row, label in enumerate(labels):
        top = row * group + gap / 2
        short = label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"
        middle = top + thickness * len(series) / 2
        text = _add(svg, "text", short, x=left - 6, y=middle + 4, text_anchor="end")
        _add(text, "title", label)
        for number, one in enumerate(series):
            value = float(one.values[row])
            if not np.isfinite(value):
                continue
            y, length = top + thickness * number, value / highest * width
            bar = _add(svg, "rect", x=left, y=y, width=max(length, 0.5), height=thickness - 1.5)
            bar.set("class", f"bar {color_class(number)}")
            _add(svg, "text", f"{value:.2f}", x=left + length + 4, y=y + 7.5, class_="small")
    _add_unit(svg, height - 4)
    return _text_of(svg)


def _chart(height: float, description: str) -> ElementTree.Element:
    box = f"0 0 {WIDTH} {height:g}"
    attributes = {"viewBox": box, "role": "img", "class": "chart"}
    return ElementTree.Element("svg", attributes | {"aria-label": printable(description)})


def _add_unit(svg: ElementTree.Element, y: float) -> None:
    _add(svg, "text", "mm", x=WIDTH / 2, y=y, text_anchor="middle", class_="unit")


def _add(
    parent: ElementTree.Element, tag: str, text: str = "", **attributes: float | str
) -> ElementTree.Element:
    """Append an element; names of attributes have _ for -, and a trailing _ for Python's words."""
    names = [name.rstrip("_").replace("_", "-") for name in attributes]
    values = [v if isinstance(v, str) else f"{v:.5g}" for v in attributes.values()]
    child = ElementTree.SubElement(parent, tag, dict(zip(names, values, strict=True)))
    child.text = printable(text)
    return child


def _text_of(svg: ElementTree.Element) -> str:
    return ElementTree.tostring(svg, encoding="unicode")
