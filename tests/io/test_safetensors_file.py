"""Our safetensors files against the library itself, and against everything that is none."""

import io
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field, make_dataclass
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from raising import raises

from facedis_core.io.safetensors_file import (
    content_id,
    not_finite,
    parse_record,
    read_safetensors,
    safetensors_writer,
    write_safetensors,
)

METADATA = {"zeta": 1, "alpha": ["eva grün 😀", None], "middle": {"b": 1.5, "a": True}}


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "vertices": rng.normal(size=(4, 5, 3)).astype(np.float32),
        "half": rng.normal(size=7).astype(np.float16),
        "triangles": np.arange(9, dtype=np.int32).reshape(3, 3),
        "split": np.array([0, 1, 2], np.uint8),
        "wide": np.array([1.5, -2.5]),
        "long": np.array([2**40, -1]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def encoded(arrays=None, metadata=METADATA, kind="model"):
    stream = io.BytesIO()
    write_safetensors(stream, kind, tensors() if arrays is None else arrays, metadata)
    return stream.getvalue()


def header_of(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def file_of(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def with_text(text):
    return file_of({"__metadata__": {"facedis": text}})


@pytest.fixture
def read(tmp_path):
    def read_bytes(data, *kinds):
        path = tmp_path / "file.safetensors"
        path.write_bytes(data)
        return read_safetensors(path, *kinds)

    return read_bytes


class TestRoundTrip:
    def test_what_is_written_is_read(self, read):
        container = read(encoded(), "model")
        assert container.kind == "model"
        assert container.metadata == METADATA
        assert container.tensors.keys() == tensors().keys()
        for name, array in tensors().items():
            found = container.tensors[name]
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            np.testing.assert_array_equal(found, array)

    def test_same_content_same_bytes_in_any_order(self):
        arrays = dict(reversed(tensors().items()))
        metadata = dict(reversed(METADATA.items()))
        assert encoded(arrays, metadata) == encoded()
        assert encoded(tensors(1)) != encoded()

    def test_without_tensors(self, read):
        container = read(encoded({}, {}))
        assert container.tensors == container.metadata == {}

    def test_the_library_reads_the_same_bytes(self):
        found = safetensors.numpy.load(encoded())
        assert found.keys() == tensors().keys()
        for name, array in tensors().items():
            assert found[name].dtype == array.dtype
            assert found[name].tobytes() == array.tobytes()

    def test_what_the_library_writes_is_read(self, read):
        header, _ = header_of(encoded())
        container = read(safetensors.numpy.save(tensors(), header["__metadata__"]))
        assert container.metadata == METADATA
        for name, array in tensors().items():
            np.testing.assert_array_equal(container.tensors[name], array)

    def test_metadata_is_one_sorted_text(self):
        header, _ = header_of(encoded())
        assert list(header["__metadata__"]) == ["facedis"]
        text = header["__metadata__"]["facedis"]
        checksum = json.loads(text)["checksum"]
        ours = {"format": "facedis.model/1", "checksum": checksum}
        assert text == json.dumps(METADATA | ours, sort_keys=True)

    def test_every_tensor_lies_where_its_type_may(self):
        data = encoded()
        header, body = header_of(data)
        for name, entry in header.items():
            if name != "__metadata__":
                start = len(data) - len(body) + entry["data_offsets"][0]
                assert start % tensors()[name].itemsize == 0

    def test_tensors_that_lie_askew_are_read_all_the_same(self, read):
        values = np.array([1.5, -2.5], np.float32)
        entries = {
            "__metadata__": {"facedis": '{"format": "facedis.model/1"}'},
            "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        }
        found = read(file_of(entries, b"\x07" + values.tobytes())).tensors["b"]
        np.testing.assert_array_equal(found, values)


class TestChecksum:
    @pytest.mark.parametrize("kind", ["model", "discriminator", "training"])
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (np.float32(2.5).tobytes(), np.float32(2.625).tobytes()),  # the scalar
            (b"zeta", b"beta"),
            (b"1.5", b"1.6"),
            (b'"half"', b'"haIf"'),
            (b"[3,3]", b"[9,1]"),
        ],
    )
    def test_every_change_is_noticed(self, read, kind, old, new):
        data = encoded(kind=kind)
        assert data.count(old) == 1
        with raises("damaged", "checksum"):
            read(data.replace(old, new))

    def test_files_without_one_are_read_but_no_training_state(self, read):
        assert read(encoded().replace(b"checksum", b"checkmat")).metadata["checkmat"]
        with raises("damaged", "checksum"):
            read(encoded(kind="training").replace(b"checksum", b"checkmat"))

    def test_face_sets_have_none(self):
        assert b"checksum" not in encoded(kind="faceset")


class TestStreams:
    def test_files_pipes_and_memory_hold_the_same_bytes(self, tmp_path):
        with (tmp_path / "a").open("w+b") as stream:
            write_safetensors(stream, "model", tensors(), METADATA)
        with (tmp_path / "b").open("wb") as stream:  # cannot be read, so not be mapped
            write_safetensors(stream, "model", tensors(), METADATA)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == encoded()
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as stream:
            write_safetensors(stream, "model", tensors(), METADATA)
        with os.fdopen(reading, "rb") as stream:
            assert stream.read() == encoded()

    def test_a_named_pipe_and_standard_input(self, tmp_path):
        program = (
            "import sys; from facedis_core.io.safetensors_file import read_safetensors;"
            "print([read_safetensors(p).tensors['wide'].tolist() for p in sys.argv[1:]])"
        )
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as stream:  # small enough for the pipe's buffer
            stream.write(encoded())
        done = subprocess.run(
            [sys.executable, "-c", program, "-", f"/dev/fd/{reading}"],
            input=encoded(),
            pass_fds=[reading],
            capture_output=True,
            check=True,
        )
        os.close(reading)
        assert done.stdout == b"[[1.5, -2.5], [1.5, -2.5]]\n"

    def test_a_writer_fills_in_place(self, tmp_path):
        path = tmp_path / "file.safetensors"
        layout = {"a": ("<f4", (2, 3)), "b": ("<i4", ())}
        with (
            path.open("w+b") as stream,
            safetensors_writer(stream, "faceset", layout, {"id": "0000"}) as writer,
        ):
            assert not writer.tensors["a"].any()
            writer.tensors["a"][1] = 7
            writer.tensors["b"][...] = 8
            writer.metadata["id"] = "abcd"
        container = read_safetensors(path, "faceset")
        assert container.metadata == {"id": "abcd"}
        assert container.tensors["a"].tolist() == [[0, 0, 0], [7, 7, 7]]
        assert container.tensors["b"] == 8

    def test_metadata_must_keep_its_length(self):
        with (
            pytest.raises(ValueError, match="length"),
            safetensors_writer(io.BytesIO(), "model", {}, {"id": "0000"}) as writer,
        ):
            writer.metadata["id"] = "0000 and more than padding"

    def test_a_file_is_mapped_and_cannot_be_changed_by_accident(self, read):
        found = read(encoded()).tensors["vertices"]
        assert not found.flags.writeable
        assert not found.flags.owndata


HEADER, BODY = header_of(encoded())
SIZE = len(encoded()) - len(BODY)
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
OURS = {"facedis": '{"format": "facedis.model/1"}'}

BAD = {
    "empty": (b"", "empty"),
    "text": (b"solid cube\n facet normal 0 0 1\n", "wrong-kind: is a text, such as a mesh"),
    "pickle": (pickle.dumps({"weights": [1.0, 2.0]}), "damaged"),
    "numpy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "wrong-kind"),
    "foreign": (safetensors.numpy.save({"a": np.ones(3)}), "wrong-kind"),
    "foreign metadata": (
        safetensors.numpy.save({"a": np.ones(3)}, {"format": "pt"}),
        "wrong-kind",
    ),
    "no metadata": (file_of({"__metadata__": None}), "wrong-kind|damaged"),
    "huge header": ((2**63).to_bytes(8, "little") + b"{}", "damaged"),
    "huge header that is there": (b"\xff" * 5000, "damaged"),
    "header past the end": ((100).to_bytes(8, "little") + b"{}" * 10, "damaged"),
    "header no JSON": (file_of(b"{]      "), "damaged"),
    "header no UTF-8": (file_of(b'{"\xff": 1}'), "damaged"),
    "header of brackets": (file_of(b"[" * 100_000), "damaged"),
    "overlap": (file_of({"__metadata__": OURS, "a": ENTRY, "b": ENTRY}, bytes(4)), "damaged"),
    "surplus bytes": (encoded() + b"\0", "damaged"),
    "shape and size": (
        file_of({"__metadata__": OURS, "a": ENTRY | {"shape": [2]}}, bytes(4)),
        "damaged",
    ),
    "huge shape": (
        file_of({"__metadata__": OURS, "a": ENTRY | {"shape": [2**62, 2**62]}}, bytes(4)),
        "damaged",
    ),
    "a type of others": (
        file_of({"__metadata__": OURS, "a": ENTRY | {"dtype": "BF16", "shape": [2]}}, bytes(4)),
        "tensor: BF16",
    ),
    "a header of 33 MB": (file_of(b'{"a":' + b" " * (33 << 20) + b"1}"), "too-large|damaged"),
    "deep metadata": (with_text("[" * 500 + "]" * 500), "metadata"),
    "a wild shape": (
        file_of({"__metadata__": OURS, "a": ENTRY | {"shape": [0, 2**62], "data_offsets": [0, 0]}}),
        "tensor|damaged",
    ),
    "metadata no JSON": (with_text("{]"), "metadata"),
    "metadata empty": (with_text(""), "metadata"),
    "metadata a list": (with_text("[]"), "metadata"),
    "metadata of brackets": (with_text("[" * 100_000), "metadata"),
    "metadata a huge number": (with_text("9" * 5000), "metadata"),
    "no format": (with_text("{}"), "wrong-kind: ''"),
    "format a list": (with_text('{"format": ["facedis.model/1"]}'), "wrong-kind"),
    "format without its prefix": (with_text('{"format": "model/1"}'), "wrong-kind: 'model/1'"),
    "unknown kind": (with_text('{"format": "facedis.song/1"}'), "wrong-kind"),
    "another kind": (
        encoded(kind="faceset"),
        "wrong-kind: is a face set, expected a model, as fd-train writes it",
    ),
    "another version": (
        with_text('{"format": "facedis.model/2"}'),
        "format-version: 2, .* 1",
    ),
    "no version": (with_text('{"format": "facedis.model"}'), "format-version"),
    "version of lines": (with_text('{"format": "facedis.model/1\\n2"}'), "format-version"),
}


@pytest.mark.parametrize("beginning", [b"", encoded(), b"\x20" + bytes(7), bytes(8), b"\xff" * 8])
def test_an_endless_pipe_is_left(endless_pipe, beginning):
    """After what its header promises, and a byte more."""
    with raises("damaged" if beginning else "wrong-kind: is a text"):
        read_safetensors(endless_pipe("pipe", b"7" * 2**16, beginning))


class TestBadFiles:
    @pytest.mark.parametrize("source", ["file", "pipe"])
    @pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD)
    def test_are_refused_in_one_line(self, read, monkeypatch, data, error, source):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with raises(error) as caught:
            read(data, "model") if source == "file" else read_safetensors("-", "model")
        assert str(caught.value).isprintable()
        assert source == "file" or str(caught.value).startswith("standard input: ")

    @pytest.mark.parametrize("length", [1, 7, 8, 9, SIZE - 1, SIZE, SIZE + 1, SIZE + len(BODY) - 1])
    def test_truncated_ones_are_refused(self, read, length):
        with raises("damaged") as caught:
            read(encoded()[:length])
        assert "\n" not in str(caught.value)

    def test_names_that_are_no_file(self, tmp_path):
        for name, error in (
            (tmp_path / "nothing", "file-missing"),
            (tmp_path, "not-a-file"),
            (tmp_path / ("x" * 300), "file-unreadable"),
            ("a\0b", "file-unreadable"),
        ):
            with raises(error) as caught:
                read_safetensors(name)
            assert str(caught.value).isprintable()

    def test_a_folder_of_meshes_is_no_face_set(self, tmp_path):
        with raises("not-a-file", "is a folder, expected a face set, as fd-prep writes it"):
            read_safetensors(tmp_path, "faceset")

    def test_standard_input_is_no_folder_of_that_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "-").mkdir()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(encoded())))
        assert read_safetensors("-").kind == "model"

    def test_a_name_with_a_line_break_stays_on_one_line(self, tmp_path):
        path = tmp_path / "two\nlines \udcff"
        path.write_bytes(encoded())
        assert read_safetensors(path).kind == "model"
        path.write_bytes(encoded()[:-1])
        with raises("damaged") as caught:
            read_safetensors(path)
        assert str(caught.value).isprintable()


MIXED = {
    "text": "a",
    "whole": 3,
    "real": 1.5,
    "flag": True,
    "nan": math.nan,
    "huge": 10**400,
    "long": "a" * 2000,
}


@dataclass(frozen=True)
class Inner:
    key: str
    size: int = 0


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: list[Inner]
    words: list[str]
    other: dict[str, Any] = field(default_factory=dict)


class TestRecord:
    def field(self, key, kind):
        made = make_dataclass("Made", [(key, kind)])
        return getattr(parse_record(made, MIXED), key)

    def test_values_of_the_right_type(self):
        assert self.field("text", str) == "a"
        assert self.field("flag", bool) is True
        assert self.field("real", float) == 1.5
        found = self.field("whole", float)
        assert type(found) is float
        assert found == 3

    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            *(("text", int), ("real", int), ("flag", int), ("flag", float), ("nan", float)),
            *(
                ("huge", float),
                ("text", list[str]),
                ("whole", dict[str, Any]),
                ("whole", bool),
                ("long", str),
            ),
        ],
    )
    def test_others_are_garbled(self, key, kind):
        with raises("metadata", f"^garbles '{key}'"):
            self.field(key, kind)

    def test_missing_ones(self):
        with raises("metadata", r"^lacks 'other'"):
            self.field("other", str)

    def test_records_in_records(self):
        values = {"inner": {"key": "a", "size": 2, "more": 1}, "many": [{"key": "b"}], "words": []}
        assert parse_record(Outer, values) == Outer(Inner("a", 2), [Inner("b")], [])

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"inner": "a"}, "metadata: garbles 'inner'"),
            ({"inner": {}}, "metadata: lacks 'key'"),
            ({"many": {}}, "metadata: garbles 'many'"),
            ({"many": ["a"]}, "metadata: garbles 'many'"),
            ({"many": [{"key": 1}]}, "metadata: garbles 'key'"),
            ({"words": ["a", 1]}, "metadata: garbles 'words'"),
            ({"words": "ab"}, "metadata: garbles 'words'"),
        ],
    )
    def test_wrong_parts_are_named(self, changes, error):
        values = {"inner": {"key": "a"}, "many": [], "words": [], **changes}
        with raises(error):
            parse_record(Outer, values)


class TestContentId:
    def test_depends_on_every_name_type_shape_value_and_the_config(self):
        base = content_id({"a": np.arange(6, dtype=np.int32)}, {"x": 1})
        others = [
            content_id({"b": np.arange(6, dtype=np.int32)}, {"x": 1}),
            content_id({"a": np.arange(6, dtype=np.int64)}, {"x": 1}),
            content_id({"a": np.arange(6, dtype=np.int32).reshape(2, 3)}, {"x": 1}),
            content_id({"a": np.arange(1, 7, dtype=np.int32)}, {"x": 1}),
            content_id({"a": np.arange(6, dtype=np.int32)}, {"x": 2}),
        ]
        assert len({base, *others}) == 6
        assert len(base) == 12
        assert int(base, 16) >= 0

    def test_does_not_depend_on_order_or_memory(self):
        arrays = tensors()
        turned = {name: np.asfortranarray(a) for name, a in reversed(arrays.items())}
        assert content_id(turned, {"b": 1, "a": 2}) == content_id(arrays, {"a": 2, "b": 1})


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_what_is_not_finite_is_found_in_any_precision(dtype):
    largest = np.finfo(dtype).max
    values = np.array([0, -0.0, 1, -largest, largest, np.finfo(dtype).tiny], dtype)
    whole = np.arange(3, dtype=np.int32)
    assert not_finite({"a": values, "b": values[:0], "c": whole}) == []
    for bad in (np.nan, -np.nan, np.inf, -np.inf):
        broken = np.array([*values, bad], dtype)
        assert not_finite({"a": values, "b": broken, "c": whole}) == ["b"]
