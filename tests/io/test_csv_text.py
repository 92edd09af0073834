"""Text that users write, and text that nobody would: refused in one line, or read."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from raising import raises

from facedis_core.datasets import folder, selection
from facedis_core.datasets.folder import open_folder
from facedis_core.datasets.protocols import People, make_split
from facedis_core.datasets.selection import read_exclusion
from facedis_core.errors import InputError
from facedis_core.evaluate.face_labels import read_labels
from facedis_core.io import csv_text
from facedis_core.io.csv_text import read_lines, read_table, read_text

MB = 1 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for name in ("a.ply", "b.ply"):
        (root / name).touch()
    return root


def as_labels(path, root):
    return read_labels(str(path))


def as_table(path, root):
    return open_folder(root, labels=path)


def as_protocol(path, root):
    return make_split(f"file:{path}", People(["a", "b"], ["ann", "bob"], [0, 1]))


def as_exclusion(path, root):
    return read_exclusion(path)


READERS = [as_labels, as_table, as_protocol, as_exclusion]

FIELD = st.sampled_from(
    [
        *("a", "b", "a.ply", "b.ply", "ann", "bob", "neutral", "smile", "train", "test", "0.5", ""),
        *("name", "file", "subject", "expression", "split", "level", '"a,b"', '"', "#", "../a.ply"),
        *("\0", "\ufeff", "9" * 5000, "a" * 2000, " a ", "\r", '"\n"', "/a.ply", "\x1b[0m", "é"),
    ]
)
TABLE = st.lists(st.lists(FIELD, max_size=5).map(",".join), max_size=6).map("\n".join)


@pytest.mark.parametrize("read", READERS)
@settings(max_examples=100)
@given(content=TABLE.map(str.encode) | st.binary(max_size=100))
def test_any_text_is_read_or_refused(read, root, tmp_path, content):
    path = tmp_path / "text.csv"
    path.write_bytes(content)
    try:
        read(path, root)
    except InputError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 3000


@pytest.fixture
def low_limits(monkeypatch):
    """Tables that are too large are of hundreds of kilobytes here, not of dozens of megabytes."""
    monkeypatch.setattr(csv_text, "_MOST_BYTES", MB)
    monkeypatch.setattr(csv_text, "_MOST_LINES", 20_000)
    monkeypatch.setattr(selection, "_MOST_NAMES", 2000)
    monkeypatch.setattr(folder, "_MOST_MISSING", 1000)


HUGE = {
    "blanks": b" " * (MB + 1),
    "a line": b"name,subject,expression\n" + b"a" * MB,
    "a quoted field": b'name,subject,expression\n"' + b"a\n" * 50_000,
    "empty lines": b"subject,split\n" + b"\n" * 50_000,
    "commas": b"file,subject,expression\n" + b"," * 100_000,
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", HUGE)
def test_what_is_no_table_is_refused_in_little_memory(read, root, tmp_path, low_limits, case):
    path = tmp_path / "text.csv"
    path.write_bytes(HUGE[case])
    tracemalloc.start()
    try:
        with raises("too-large|csv-columns") as caught:
            read(path, root)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    assert peak < 3 * len(HUGE[case]) + MB


def test_labels_of_others_take_no_memory(tmp_path):
    path = tmp_path / "labels.csv"
    rows = "".join(f"n{k},s{k},smile\n" for k in range(10_000))
    path.write_text("name,subject,expression\n" + rows)
    tracemalloc.start()
    try:
        found = read_labels(str(path), {"n7"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.keys() == {"n7"}
    assert peak < 4 * path.stat().st_size + MB
    assert len(read_labels(str(path))) == 10_000


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ("", "label-missing: n0 and others"),
        ("a.ply,ann,smile\n", "label-missing: 1 files .* 2001, such as n0"),
    ],
)
def test_labels_of_another_folder_are_noticed_early(root, tmp_path, low_limits, first, error):
    path = tmp_path / "labels.csv"
    rows = "".join(f"n{k},s{k},smile\n" for k in range(3000))
    path.write_text("file,subject,expression\n" + first + rows)
    with raises(error):
        open_folder(root, labels=path)


def test_very_many_names_to_exclude(tmp_path, low_limits):
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{k}\n" for k in range(2001)))
    with raises("too-large", "more than 2000 names"):
        read_exclusion(path)
    path.write_text("a\n" * 2001 + "b\n")
    assert read_exclusion(path).names == {"a", "b"}
    path.write_bytes(b"\xef\xbb\xbf# all\r\n\r\n a b \r\nc\rd")
    assert read_exclusion(path).names == {"a b", "c", "d"}


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=("Cs",)), max_size=9), min_size=2, max_size=2
        ),
        max_size=5,
    )
)
def test_what_csv_writes_is_read(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["one", "two"], *rows])
    found = read_table(text.getvalue().encode(), "x.csv", lambda header: None)
    plain = [[value.strip() for value in row] for row in rows if any(map(str.strip, row))]
    assert [list(line.values.values()) for line in found] == plain


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(sign, name):
    content = sign.join(["file", "subject", "expression"]).encode() + b"\n"
    with raises("csv-syntax", f"a.csv has columns separated by {name}; save it with commas"):
        list(read_table(content, "a.csv", lambda header: None))


def test_empty_rows_of_spreadsheets(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,subject,expression\n,,\na,ann,smile\n , ,\t\n,,\n")
    assert read_labels(str(path)).keys() == {"a"}


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_lines_are_those_of_python(content, mark):
    # Python takes a part of the mark, and nothing else, for an empty text
    assume(mark + content not in (b"\xef", b"\xef\xbb"))
    try:
        expected = io.StringIO((mark + content).decode("utf-8-sig"), newline="").readlines()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            list(read_lines(mark + content, "x"))
    else:
        assert list(read_lines(mark + content, "x")) == expected


def test_text_that_is_no_file(tmp_path):
    for path, error in ((tmp_path / "none", "file-missing"), (tmp_path, "not-a-file")):
        with raises(error):
            read_text(str(path))
