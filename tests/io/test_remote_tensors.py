"""Rows of tensors by URL: those of an array, whatever the storage does meanwhile."""

import time

import numpy as np
import pytest
from raising import raises
from synthetic import face_set, write_face_set

from facedis_core.data.face_set import load_face_set, stream_face_set
from facedis_core.io import remote_input, remote_tensors
from facedis_core.io.remote_input import read_remote_ranges
from facedis_core.io.remote_tensors import RemoteRows

fsspec = pytest.importorskip("fsspec")
ARRAY = np.random.default_rng(0).normal(size=(9, 5, 3)).astype("<f4")


@pytest.fixture
def storage(monkeypatch):
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe("/array.bin", b"before" + ARRAY.tobytes() + b"after")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    yield system
    system.store.clear()


@pytest.fixture
def rows(storage):
    return RemoteRows("memory://array.bin", 6, ARRAY.dtype, ARRAY.shape)


@pytest.fixture
def asked(monkeypatch):
    """The ranges that are asked for, together."""
    found = []

    def read(url, ranges, **options):
        found.append(ranges)
        return read_remote_ranges(url, ranges, **options)

    monkeypatch.setattr(remote_tensors, "read_remote_ranges", read)
    return found


@pytest.mark.parametrize(
    "index",
    [
        *(4, -1, np.int64(2), slice(None), slice(7, 2, -2), slice(3, 3), [5, 0, 5, 8], []),
        *(np.arange(9) % 2 == 0, (slice(None), [4, 0]), (slice(1, 8), slice(2, 4))),
        *(([7, 1], slice(1, 3)), ([7, 1], slice(2, 2)), (3, [0, 4]), (3, slice(1, 9))),
    ],
)
def test_every_index_that_is_used(rows, index):
    if isinstance(index, list) and not index:
        index = np.empty(0, int)
    np.testing.assert_array_equal(rows[index], ARRAY[index], strict=True)


def test_what_is_not_taken(rows):
    with pytest.raises(IndexError):
        rows[9]
    for index in (([1, 2], [0, 1]), (slice(None), slice(0, 4, 2))):
        with pytest.raises(TypeError):
            rows[index]


def test_as_np_take_asks(rows):
    out = np.empty((3, 5, 3), np.float32)
    np.take(rows, np.array([8, 1, 8]), axis=0, out=out, mode="clip")
    np.testing.assert_array_equal(out, ARRAY[[8, 1, 8]])


def test_neighbours_are_read_together_and_parts_stay_small(rows, asked, monkeypatch):
    row = ARRAY[0].nbytes
    rows[[6, 1, 2, 3]]
    assert asked == [[(6 + row, 6 + 4 * row), (6 + 6 * row, 6 + 7 * row)]]
    asked.clear()
    monkeypatch.setattr(remote_tensors, "_BATCH_BYTES", 3 * row)
    monkeypatch.setattr(remote_tensors, "_RANGE_BYTES", 2 * row)
    np.testing.assert_array_equal(rows[:], ARRAY)
    assert [[(end - start) // row for start, end in ranges] for ranges in asked] == [[2, 1]] * 3


class Answers:
    """A storage that gives these answers, then the parts themselves; as the asynchronous ones."""

    async_impl = True

    def __init__(self, storage, *answers):
        self.storage, self.answers, self.asked = storage, list(answers), []

    def cat_ranges(self, paths, starts, ends, on_error):
        self.asked.append(len(paths))
        parts = zip(paths, starts, ends, strict=True)
        return [self.answers.pop(0) if self.answers else self.storage.cat_file(*p) for p in parts]


def test_only_what_is_missing_is_asked_for_again(rows, storage, monkeypatch):
    row = ARRAY[3].tobytes()
    unreliable = Answers(storage, row, ConnectionResetError(), row[:-1], TimeoutError(), EOFError())
    monkeypatch.setattr(remote_input, "storage_of", lambda url: (unreliable, "/array.bin"))
    np.testing.assert_array_equal(rows[[3, 5, 7]], ARRAY[[3, 5, 7]])
    assert unreliable.asked == [3, 2, 2]


def test_a_server_that_gives_whole_files(rows, storage, monkeypatch):
    answers = Answers(storage, storage.cat_file("/array.bin"))
    monkeypatch.setattr(remote_input, "storage_of", lambda url: (answers, "/array.bin"))
    with raises("unsupported", "no parts of files"):
        rows[[3]]


def test_a_storage_that_stays_away(rows, storage):
    storage.pipe("/array.bin", b"short")
    with raises("file-unreadable", "memory://array.bin"):
        rows[[3]]
    storage.rm("/array.bin")
    with raises("file-missing", "memory://array.bin"):
        rows[[3]]


class TestFaceSet:
    @pytest.fixture
    def path(self, tmp_path):
        return write_face_set(tmp_path / "set.safetensors", face_set())

    def test_is_that_of_the_file(self, storage, path, asked):
        storage.pipe("/set.safetensors", path.read_bytes())
        here, there = load_face_set(path), stream_face_set("memory://set.safetensors")
        assert not asked  # no face yet
        assert (there.id, there.topology, repr(there)) == (here.id, here.topology, repr(here))
        assert there.labels.names == here.labels.names
        np.testing.assert_array_equal(there[[3, 1]], here[[3, 1]])
        np.testing.assert_array_equal(there.neutrals[:], here.neutrals)
        np.testing.assert_array_equal(
            there.mean_face(there.rows(None)), here.mean_face(here.rows(None))
        )
        there.release()

    @pytest.mark.parametrize("other", ["of its size", "shorter", "without an id"])
    def test_that_becomes_another_one(self, storage, path, other):
        storage.pipe("/set.safetensors", path.read_bytes())
        there = stream_face_set("memory://set.safetensors")
        there[[3, 1]]
        changed = face_set()
        if other == "shorter":
            changed = face_set(expressions=2)
        changed.vertices[0] += 1
        content = write_face_set(path.with_name("other.safetensors"), changed).read_bytes()
        if other == "without an id":
            content = bytes(len(content))
        storage.pipe("/set.safetensors", content)
        with raises("file-unreadable", "set.safetensors has become another file .* id " + there.id):
            there[[3, 1]]
        storage.pipe("/set.safetensors", path.read_bytes())  # the same one again is none
        there[[3, 1]]

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            (lambda content: content[:-1], "damaged"),
            (lambda content: content + b"x", "damaged"),
            (lambda content: content[:40], "damaged"),
            (lambda content: b"", "empty"),
            (lambda content: b"ply\n" + content, "wrong-kind"),
            (
                lambda content: content.replace(b"facedis.faceset/1", b"facedis.faceset/9"),
                "format-version",
            ),
            (
                lambda content: content.replace(b"facedis.faceset/1", b"facedis.model/1  "),
                "wrong-kind",
            ),
        ],
    )
    def test_what_is_none(self, storage, path, change, kind):
        storage.pipe("/set.safetensors", change(path.read_bytes()))
        with raises(kind, "memory://set.safetensors"):
            stream_face_set("memory://set.safetensors")
