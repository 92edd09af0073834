"""Tables in each format, read back."""

import csv
import io

import pytest

from facedis_core.evaluate.tables import Table, format_of

TABLE = Table(
    ["metric", "n", "mean"],
    [["e_rec", 12, 0.5], ["e_rec", None, float("nan")], ["100% & |x_1|\n", 3, 0.000123456]],
    "a note",
)


def test_csv():
    rows = list(csv.reader(io.StringIO(TABLE.render("csv"))))
    assert rows == [
        ["metric", "n", "mean"],
        ["e_rec", "12", "0.5"],
        ["e_rec", "", ""],
        ["100% & |x_1|\n", "3", "0.000123456"],
    ]


def test_markdown():
    lines = TABLE.render("markdown").splitlines()
    assert lines[:2] == ["| metric | n | mean |", "| --- | ---: | ---: |"]
    assert lines[2] == r"| e\_rec | 12 | 0.5000 |"
    assert lines[4] == r"| '100% & \|x\_1\|\\n' | 3 | 0.00012 |"
    assert all(line.replace(r"\|", "").count("|") == 4 for line in lines[:5])
    assert lines[5:] == ["", "a note"]


def test_latex():
    lines = TABLE.render("latex").splitlines()
    assert lines[:3] == ["% a note", r"\begin{tabular}{lrr}", r"\hline"]
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == 1 + len(TABLE.rows)
    assert all(row.replace(r"\&", "").count("&") == 2 for row in rows)
    assert rows[1] == r"e\_rec & 12 & 0.5000 \\"
    assert rows[3].startswith(r"'100\% \& |x\_1|\textbackslash{}n'")
    assert lines[-1] == r"\end{tabular}"


def test_text():
    lines = TABLE.render("table").splitlines()
    assert lines[0].split() == ["metric", "n", "mean"]
    assert lines[2].split() == ["e_rec", "12", "0.5000"]
    assert lines[3].split() == ["–", "–"]  # the metric is that above
    assert lines[-1] == "a note"


@pytest.mark.parametrize("how", ["table", "csv", "markdown", "latex"])
def test_no_rows(how):
    assert "metric" in Table(["metric", "n"], []).render(how)


@pytest.mark.parametrize(
    ("path", "how"),
    [("a.csv", "csv"), ("b/C.TEX", "latex"), ("a.md", "markdown"), ("a.txt", "table"),
     ("each", "csv"), ("-", "csv")],
)  # fmt: skip
def test_format_of_a_file(path, how):
    assert format_of(path) == how
