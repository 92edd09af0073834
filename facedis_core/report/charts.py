"""Charts as SVG elements; the page's style sheet colors them by the class of each series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

import numpy as np

from facedis_core.report.html import printable
from facedis_core.report.training_log import Curve

WIDTH: Final = 400  # units of the drawing; a page shows it in any size
BINS: Final = 40
COLORS: Final = 8  # distinct colors of series

# Of a chart in a file: the light colors of report.css.
_SERIES_COLORS: Final = (
    *("#2f6fb2", "#d9772b", "#3f9157", "#8a5bb5", "#b8434f", "#7a6a55", "#2a98a8", "#a08b1c"),
)
_FILE_STYLE: Final = (
    "text { font: 12px sans-serif; fill: #1d2024 } .small { font-size: 9.5px; fill: #5c636d } "
    ".unit { fill: #5c636d } .grid { stroke: #d9dadb } .area { fill-opacity: 0.25 } "
    ".mean { stroke-dasharray: 4 3 } .curve { fill: none; stroke-width: 1.4 } "
    + " ".join(
        f".s{number}.area, .s{number}.bar {{ fill: {color} }} "
        f".s{number}.area, .s{number}.mean, .s{number}.curve {{ stroke: {color} }}"
        for number, color in enumerate(_SERIES_COLORS)
    )
)

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
    highest = _highest(series)
    edges = np.linspace(0, highest if highest > 0 else 1.0, BINS + 1)
    counts = [np.histogram(one.known(), edges)[0] for one in series]
    return edges, [count / max(count.sum(), 1) for count in counts]


def _highest(series: Sequence[Series]) -> float:
    """The highest value of all series, of which one at least has any."""
    return float(np.concatenate([one.known() for one in series]).max())


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
        if len(one.known())
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
        if not len(one.known()):
            continue
        at = x(float(one.known().mean()))
        _add(svg, "line", x1=at, x2=at, y1=_TOP, y2=bottom, class_=f"mean {color_class(number)}")
    _add_unit(svg, _HEIGHT - 6)
    return _text_of(svg)


def bars(labels: Sequence[str], series: Sequence[Series], title: str) -> str:
    """SVG of a group of bars per label; value k of each series, in mm, is that of label k."""
    left, thickness, gap = 132, 9, 6
    highest = _highest(series) or 1.0
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


def curves(lines: Sequence[Curve | None], title: str) -> str:
    """SVG of values over the steps of trainings, on a logarithmic scale; None = a line is absent.

    At least one line must be there.
    """
    known = [line for line in lines if line is not None]
    last = max(float(line.steps.max()) for line in known)
    values = np.concatenate([line.values for line in known])
    low, high = np.log10(values.min()), np.log10(values.max())
    low, high = (low, high) if high - low > 0.01 else (low - 0.05, low + 0.05)
    left, width, height = _LEFT + 14, WIDTH - _LEFT - 14 - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    ends = "; ".join(f"{line.label}: {line.values[-1]:.3g} at the end" for line in known)
    svg = _chart(_HEIGHT, f"Curves, {title}. {ends}")

    def y(value: float) -> float:
        return float(_TOP + height * (high - np.log10(value)) / (high - low))

    for tick in _decade_ticks(10**low, 10**high):
        _add(svg, "line", x1=left, x2=WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid")
        _add(svg, "text", f"{tick:.3g}", x=left - 6, y=y(tick) + 4, text_anchor="end")
    for tick in ticks(last):
        x = left + tick / last * width
        _add(svg, "text", f"{tick:,.0f}", x=x, y=_TOP + height + 16, text_anchor="middle")
    for number, line in enumerate(lines):
        if line is not None:
            points = [
                f"{left + step / last * width:.1f},{y(value):.1f}"
                for step, value in zip(line.steps, line.values, strict=True)
            ]
            _add(svg, "path", d=f"M{'L'.join(points)}", class_=f"curve {color_class(number)}")
    _add(svg, "text", "step", x=WIDTH / 2, y=_HEIGHT - 6, text_anchor="middle", class_="unit")
    return _text_of(svg)


def _decade_ticks(low: float, high: float) -> list[float]:
    """Values of 1, 2 and 5 times a power of 10 from low to high; powers alone where many."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    all_ticks = [(k, k * 10.0**power) for power in powers for k in (1, 2, 5)]
    inside = [(k, tick) for k, tick in all_ticks if low * 0.999 <= tick <= high * 1.001]
    most = 6
    chosen = inside if len(inside) <= most else [(k, tick) for k, tick in inside if k == 1]
    return [tick for _, tick in chosen] or [low, high]


def svg_file(svg: str, title: str, labels: Sequence[str]) -> bytes:
    """A chart as a file of its own, with its title above and the labels of its series below."""
    chart = ElementTree.fromstring(svg)
    height = float(chart.get("viewBox", "").split()[3])
    top, line = 24, 16
    whole = height + top + line * len(labels) + 6
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {whole:g}",
            "width": str(2 * WIDTH),
            "height": f"{2 * whole:g}",
        },
    )
    ElementTree.SubElement(root, "title").text = printable(title)
    ElementTree.SubElement(root, "style").text = _FILE_STYLE
    _add(root, "rect", x=0, y=0, width=WIDTH, height=whole, fill="#ffffff")
    _add(root, "text", title, x=WIDTH / 2, y=16, text_anchor="middle", font_weight="bold")
    group = ElementTree.SubElement(root, "g", {"transform": f"translate(0 {top})"})
    group.extend(chart)
    for number, label in enumerate(labels):
        y = top + height + line * (number + 1) - 4
        _add(root, "rect", x=_LEFT, y=y - 9, width=10, height=10, class_=f"bar s{number % COLORS}")
        _add(root, "text", label, x=_LEFT + 16, y=y)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n"


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
