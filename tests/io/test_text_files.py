"""Byte order marks, line ends and encodings: every reader of text takes and refuses the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mesh_files import encoded, face_table, make_ply, nine, vertex_table
from raising import raises

from facedis_core.datasets.folder import open_folder
from facedis_core.datasets.protocols import People, make_split
from facedis_core.datasets.selection import read_exclusion
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.face_labels import read_labels
from facedis_core.evaluate.gates import EarlierReport
from facedis_core.io.text import quoted, with_newlines, without_mark
from facedis_core.mesh.mesh import read_mesh
from facedis_core.pipeline.file_lists import read_file_list
from facedis_core.train.recipe import load_recipe


def mesh(path: Path) -> Any:
    found = read_mesh(path)
    return found.vertices.tolist(), found.triangles.tolist()


def table(path: Path) -> Any:
    for name in ("a.ply", "b.ply"):
        (path.parent / name).touch()
    return open_folder(path.parent, labels=path).labels


def protocol(path: Path) -> Any:
    people = People(["a", "b"], ["ann", "bob"], [0, 1])
    return make_split(f"file:{path}", people).split.tolist()


# Reader -> suffix, text, and what reads it.
READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "obj": (".obj", encoded(nine(), ".obj").decode(), mesh),
    "ply": (".ply", make_ply("ascii", vertex_table(), face_table()).decode(), mesh),
    "vrml": (".wrl", "#VRML V2.0 utf8\n# a\n" + encoded(nine(), ".wrl").decode()[16:], mesh),
    "labels": (
        ".csv",
        "name,subject,expression\na,ann,smile\nb,bob,neutral\n",
        lambda path: read_labels(str(path)),
    ),
    "table": (
        ".csv",
        "file,subject,expression,split\na.ply,ann,smile,train\nb.ply,bob,neutral,test\n",
        lambda path: str(table(path)),
    ),
    "protocol": (".csv", "subject,split\nann,train\nbob,test\n", protocol),
    "exclusion": (".txt", "# those\na\nb\n", lambda path: read_exclusion(path).names),
    "list": (".txt", "a.ply\nb.ply\n", lambda path: read_file_list(str(path))),
    "recipe": (
        ".toml",
        "batch = 8\n[with_neutrals]\nneutral = 1.5\n",
        lambda path: load_recipe(str(path), neutrals=True),
    ),
    "report": (
        ".json",
        json.dumps({"model": {"e_rec": {"mean": 1.0}}, "provenance": {"faces": 1}}, indent=1)
        + "\n",
        lambda path: EarlierReport.read(str(path)).values,
    ),
}
MARK = "\ufeff"
TAKEN: dict[str, Callable[[str], bytes]] = {
    "a byte order mark": lambda text: (MARK + text).encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "lone CR": lambda text: text.replace("\n", "\r").encode(),
    "a mark and CRLF": lambda text: (MARK + text.replace("\n", "\r\n")).encode(),
    "a mark and lone CR": lambda text: (MARK + text.replace("\n", "\r")).encode(),
    "no end of the last line": lambda text: text.rstrip("\n").encode(),
    "empty lines at the end": lambda text: (text + "\n \n").encode(),
}
REFUSED: dict[str, tuple[Callable[[str], bytes], str]] = {
    **{
        encoding: (
            lambda text, encoding=encoding: text.encode(encoding),  # type: ignore[misc]
            "wrong-kind: is text in UTF-.*; save it as UTF-8",
        )
        for encoding in ("utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    },
    "utf-16-be with a mark": (
        lambda text: (MARK + text).encode("utf-16-be"),
        "wrong-kind: is text in UTF-16; save it as UTF-8",
    ),
    "nul bytes": (
        lambda text: (text[: len(text) // 2] + "\0" + text[len(text) // 2 :]).encode(),
        "wrong-kind|mesh-syntax: NUL bytes",
    ),
}


@pytest.mark.parametrize("oddity", TAKEN)
@pytest.mark.parametrize("reader", READERS)
def test_text_that_is_read(tmp_path, reader, oddity):
    suffix, text, read = READERS[reader]
    path = tmp_path / f"text{suffix}"
    path.write_bytes(text.encode())
    expected = read(path)
    path.write_bytes(TAKEN[oddity](text))
    assert read(path) == expected


@pytest.mark.parametrize("oddity", REFUSED)
@pytest.mark.parametrize("reader", [name for name in READERS if name != "report"])
def test_text_that_is_refused(tmp_path, reader, oddity):
    if (reader, oddity) == ("list", "nul bytes"):
        pytest.skip("NULs separate the names of a list")
    suffix, text, read = READERS[reader]
    path = tmp_path / f"text{suffix}"
    encode, error = REFUSED[oddity]
    path.write_bytes(encode(text))
    with raises(error) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


def test_json_may_be_in_any_encoding_of_unicode(tmp_path):
    """As PowerShell writes what fd-metrics prints."""
    suffix, text, read = READERS["report"]
    path = tmp_path / f"text{suffix}"
    path.write_bytes(text.encode("utf-16"))
    assert read(path) == {"e_rec": 1.0}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"1\0002\0003\0", ["1", "2", "3"]),
        (b".\0001\0002\0", [".", "1", "2"]),
        (b"/\0", ["/"]),
        (b"Icon\r\nb\n", ["Icon", "b"]),
    ],
)
def test_lists_of_short_names(tmp_path, content, names):
    (tmp_path / "list").write_bytes(content)
    assert read_file_list(str(tmp_path / "list")) == names


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        ("labels", "name, subject , expression\na, ann , smile\nb,bob, neutral\n"),
        ("labels", ' name, "subject", "expression"\n"a", "ann", "smile"\nb,bob,neutral\n'),
        (
            "table",
            "file, subject, expression,split \na.ply, ann,smile,train\nb.ply,bob, neutral,test",
        ),
        (
            "table",
            'file, "subject",expression, split\na.ply,ann,"smile",train\nb.ply, "bob",neutral,test',
        ),
        ("protocol", " subject , split\nann, train\nbob ,test\n"),
    ],
)
def test_blanks_in_a_table_do_not_count(tmp_path, reader, text):
    suffix, plain, read = READERS[reader]
    path = tmp_path / f"text{suffix}"
    path.write_text(plain)
    expected = read(path)
    path.write_text(text)
    assert read(path) == expected


@pytest.mark.parametrize("reader", ["labels", "table", "protocol"])
def test_a_column_that_occurs_twice(tmp_path, reader):
    suffix, text, read = READERS[reader]
    path = tmp_path / f"text{suffix}"
    path.write_text("".join(f"{line},{line}\n" for line in text.splitlines()))
    with raises("csv-columns: has two columns"):
        read(path)


def test_parts():
    assert without_mark(b"\xef\xbb\xbfa") == b"a" == without_mark(b"a")
    assert without_mark(b"") == b""
    assert without_mark(b"a\0b\0", nuls=True) == b"a\0b\0"
    with pytest.raises(InputError) as caught:
        without_mark(b"\xff\xfe\0\0")
    assert caught.value.code == ErrorCode.WRONG_KIND and "UTF-32" in str(caught.value)
    assert with_newlines(b"a\r\nb\rc\n\rd") == b"a\nb\nc\n\nd"
    assert quoted(b"a\xff\n'" + b"b" * 40, 6) == "'a\\xff\\x0a'bb...'"
