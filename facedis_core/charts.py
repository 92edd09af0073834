"""Charts as SVG, drawn from numbers; their colors are the page's, by the class of a series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from facedis_core.markup import Markup, element, joined

WIDTH: Final = 400  # units of a drawing; a page shows it in any size
BINS: Final = 40
COLORS: Final = 8  # series that options different
_LONGEST: Final = 20  # signs of a label beside bars

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 42, 14, 8, 40, 210


@dataclass(frozen=True, eq=False)
class Series:
    """Values (n,) of one method; what is not finite is left out."""

    label: str
    values: np.ndarray

    def known(self) -> np.ndarray:
        """The finite ones."""
        return np.asarray(self.values, np.float64)[np.isfinite(self.values)]


def color_class(number: int) -> str:
    """The class of the series of that number."""
    return f"s{number % COLORS}"


def ticks(high: float, most: int = 5) -> list[float]:
    """0, step, 2 step, ... up to `high`, at most so many steps of 1, 2 or 5 times a power of 10."""
    if not high > 0:
        return [0.0]
    power = 10.0 ** np.floor(np.log10(high / most))
    step = next(k * power for k in (1, 2, 5, 10) if high / (k * power) <= most)
    return [float(step * k) for k in range(int(np.floor(high / step + 1e-9)) + 1)]


def shares(series: Sequence[Series]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Edges (BINS + 1,) from 0 common to all series, and the share of each in each bin, (BINS,)."""
    highest = max(float(one.known().max()) for one in series)
    edges = np.linspace(0, highest if highest > 0 else 1.0, BINS + 1)
    counts = [np.histogram(one.known(), edges)[0] for one in series]
    return edges, [count / max(count.sum(), 1) for count in counts]


def histogram(series: Sequence[Series], title: str, unit: str = "mm") -> Markup:
    """How the values from 0 of each series are spread, overlaid; dashed lines are their means."""
    edges, parts = shares(series)
    highest = max(float(part.max()) for part in parts)
    wide, deep = WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + value / edges[-1] * wide

    def y(share: float) -> float:
        return _TOP + deep * (1 - share / highest)

    drawn = [_grid(y(tick), f"{tick:.0%}") for tick in ticks(highest, 4)]
    floor = _TOP + deep
    drawn += [
        element("text", f"{tick:.4g}", x=x(tick), y=floor + 16, text_anchor="middle")
        for tick in ticks(float(edges[-1]))
    ]
    for number, part in enumerate(parts):
        steps = "".join(
            f"V{y(share):.1f}H{x(edge):.1f}" for share, edge in zip(part, edges[1:], strict=True)
        )
        outline = f"M{_LEFT},{floor}{steps}V{floor}"
        drawn.append(element("path", d=outline, class_=f"area {color_class(number)}"))
    for number, one in enumerate(series):
        at = x(float(one.known().mean()))
        marker = {"x1": at, "x2": at, "y1": _TOP, "y2": floor}
        drawn.append(element("line", **marker, class_=f"mean {color_class(number)}"))
    drawn.append(_caption(unit, _HEIGHT - 6))
    told = "; ".join(
        f"{one.label}: mean {one.known().mean():.3g}, {one.known().min():.3g} to "
        f"{one.known().max():.3g} {unit}"
        for one in series
    )
    return _svg(drawn, _HEIGHT, f"Histogram, {title}. {told}")


def bars(labels: Sequence[str], series: Sequence[Series], title: str, unit: str = "mm") -> Markup:
    """A group of bars a label, one bar a series: value k of a series is that of label k."""
    left, thick, apart = 132, 9, 6
    highest = max(float(one.known().max()) for one in series) or 1.0
    wide = WIDTH - left - 40
    group = thick * len(series) + apart
    drawn = []
    for row, label in enumerate(labels):
        top = row * group + apart / 2
        short = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
        middle = top + thick * len(series) / 2
        words = element("title", label)
        drawn.append(element("text", short, words, x=left - 6, y=middle + 4, text_anchor="end"))
        for number, one in enumerate(series):
            value = float(one.values[row])
            if not np.isfinite(value):
                continue
            y, length = top + thick * number, value / highest * wide
            box = {"x": left, "y": y, "width": max(length, 0.5), "height": thick - 1.5}
            drawn.append(element("rect", **box, class_=f"bar {color_class(number)}"))
            at = {"x": left + length + 4, "y": y + 7.5}
            drawn.append(element("text", f"{value:.2f}", **at, class_="small"))
    height = len(labels) * group + 20
    drawn.append(_caption(unit, height - 4))
    return _svg(drawn, height, f"Bars, {title}; the numbers are in the table")


def legend(labels: Sequence[str]) -> Markup:
    """Which color is whose, as a list."""
    return element(
        "ul",
        [element("li", _swatch(number), " ", label) for number, label in enumerate(labels)],
        class_="legend",
    )


def _swatch(number: int) -> Markup:
    box = element("rect", width=12, height=12, rx=2, class_=f"bar {color_class(number)}")
    return element("svg", box, width=12, height=12, aria_hidden="true")


def _grid(y: float, words: str) -> Markup:
    line = element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
    return joined([line, element("text", words, x=_LEFT - 6, y=y + 4, text_anchor="end")])


def _caption(words: str, y: float) -> Markup:
    return element("text", words, x=WIDTH / 2, y=y, text_anchor="middle", class_="unit")


def _svg(drawn: Sequence[Markup], height: float, label: str) -> Markup:
    box = f"0 0 {WIDTH} {height:g}"
    return element("svg", drawn, viewBox=box, role="img", aria_label=label, class_="chart")
