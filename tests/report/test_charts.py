"""Charts: what is drawn equals what was counted."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from facedis_core.report.charts import (
    BINS,
    WIDTH,
    Series,
    bars,
    curves,
    histogram,
    shares,
    svg_file,
    ticks,
)
from facedis_core.report.training_log import Curve


def series(*values: float) -> Series:
    return Series("a < b", np.array(values))


def test_shares_are_counted() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.gamma(2, 1, 500), rng.gamma(9, 1, 70)
    one[3] = np.nan
    edges, found = shares([Series("one", one), Series("other", other)])
    assert edges[0] == 0
    assert edges[-1] == max(np.nanmax(one), other.max())
    assert len(edges) == BINS + 1
    for values, part in zip((one, other), found, strict=True):
        known = [value for value in values if value == value]
        for low, high, share in zip(edges, edges[1:], part, strict=False):
            last = high == edges[-1]
            inside = [value for value in known if low <= value < high or (last and value == high)]
            assert share == pytest.approx(len(inside) / len(known))


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (6.2, [0, 2, 4, 6]),
        (0.037, [0, 0.01, 0.02, 0.03]),
        (50, [0, 10, 20, 30, 40, 50]),
        (0, [0]),
    ],
)
def test_ticks_are_round(high: float, expected: list[float]) -> None:
    assert ticks(high) == pytest.approx(expected)


def drawing(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0), (3.0,), (0.0, 0.0), (1e-9, 2e-9)])
def test_a_histogram_stays_on_its_paper(values: tuple[float, ...]) -> None:
    svg = drawing(histogram([series(*values), series(*values, 1.5)], "errors"))
    height = float(svg.attrib["viewBox"].split()[3])
    areas = [path.attrib["d"] for path in svg.iter("path")]
    assert len(areas) == 2
    for area in areas:
        assert all(0 <= float(x) <= WIDTH for x in re.findall(r"H([\d.e-]+)", area))
        assert all(0 <= float(y) <= height for y in re.findall(r"V([\d.e-]+)", area))
    assert "mean" in svg.attrib["aria-label"]
    assert "a < b" in svg.attrib["aria-label"]


def test_bars_are_as_long_as_their_values() -> None:
    one, other = series(1.0, 4.0, np.nan), series(2.0, 0.0, 3.0)
    svg = drawing(bars(["x", "y & z", "a very long name of an expression"], [one, other], "t"))
    lengths = [float(box.attrib["width"]) for box in svg.iter("rect")]
    unit = lengths[2] / 4.0
    assert lengths == pytest.approx([unit, 2 * unit, 4 * unit, 0.5, 3 * unit], abs=0.01)
    titles = [title.text for title in svg.iter("title")]
    assert titles == ["x", "y & z", "a very long name of an expression"]


def test_labels_are_escaped_and_printable() -> None:
    name = "</text><script>alert('1')</script>\0"
    svg = bars([name], [Series(name, np.array([1.0]))], name)
    histograms = histogram([Series(name, np.array([1.0]))], name)
    for chart in (svg, histograms):
        assert "<script" not in chart
        drawing(chart)  # well-formed, so that no character is left that XML lacks


@pytest.mark.parametrize("values", [(1e-4, 3e-2, 5.0), (2.0, 2.0), (0.8, 0.9, 0.7)])
def test_curves_stay_on_their_paper(values: tuple[float, ...]) -> None:
    steps = np.arange(1.0, len(values) + 1) * 100
    svg = drawing(curves([None, Curve("one", steps, np.array(values))], "loss"))
    height = float(svg.attrib["viewBox"].split()[3])
    (path,) = svg.iter("path")
    assert path.attrib["class"] == "curve s1"
    points = [tuple(map(float, point.split(","))) for point in path.attrib["d"][1:].split("L")]
    assert len(points) == len(values)
    assert all(0 <= x <= WIDTH and 0 <= y <= height for x, y in points)
    # higher values lie higher, and equal ratios are equal distances
    order = np.argsort([y for _, y in points], kind="stable")
    assert [values[place] for place in order] == sorted(values, reverse=True)
    labels = [text.text for text in svg.iter("text")]
    assert "step" in labels
    assert len(labels) >= 4


def test_a_chart_as_a_file_stands_alone() -> None:
    svg = histogram([series(1.0, 2.0), series(3.0)], "errors")
    root = ElementTree.fromstring(svg_file(svg, "A & B", ["one", "<two>"]))
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg"
    texts = [text.text for text in root.iter(f"{name}text")]
    assert {"A & B", "one", "<two>"} <= set(texts)
    style = root.find(f"{name}style")
    assert style is not None
    classes = {word for e in root.iter() for word in e.get("class", "").split()}
    assert all(f".{word}" in str(style.text) for word in classes)
    low = float(root.attrib["viewBox"].split()[3])
    assert all(float(text.attrib["y"]) < low for text in root.iter(f"{name}text"))
