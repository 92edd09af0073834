"""Models and face sets by URL, through the cache."""

import threading
from pathlib import Path
from unittest import mock

import pytest

from facedis_core.data.face_set import load_face_set
from facedis_core.errors import InputError, OutputError
from facedis_core.io import remote_input
from facedis_core.model.model_file import load_model

fsspec = pytest.importorskip("fsspec")
MODEL = "memory://models/m.safetensors"


@pytest.fixture
def storage(model_file, tmp_path, monkeypatch):
    """The memory with a model, and an empty cache."""
    monkeypatch.setenv("FACEDIS_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe("/models/m.safetensors", model_file.read_bytes())
    yield system
    system.store.clear()


@pytest.fixture
def reads():
    """Bytes read of each URL, one number a read."""
    found: list[int] = []
    real = remote_input._read_some

    def read(stream, place, size):
        content = real(stream, place, size)
        found.append(len(content))
        return content

    with (
        mock.patch.object(remote_input, "_read_some", read),
        mock.patch.object(remote_input, "AT_ONCE", 4096),
    ):
        yield found


def copies(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*.safetensors"))


def test_a_model_is_downloaded_once(storage, reads, tmp_path, model_file):
    model = load_model(MODEL)
    assert model.id == load_model(model_file).id and model.source == MODEL
    first = sum(reads)
    assert first == model_file.stat().st_size
    reads.clear()
    assert load_model(MODEL).id == model.id
    assert 0 < sum(reads) < first / 2  # the header alone
    storage.copy("/models/m.safetensors", "/elsewhere.safetensors")
    load_model("memory://elsewhere.safetensors")
    (copy,) = copies(tmp_path)
    assert copy.read_bytes() == model_file.read_bytes()


def test_another_model_of_that_name_is_downloaded(storage, tmp_path, other_model_file):
    before = load_model(MODEL)
    storage.pipe("/models/m.safetensors", other_model_file.read_bytes())
    assert load_model(MODEL).id == load_model(other_model_file).id != before.id
    assert len(copies(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["truncated", "written to", "removed", "of another time"])
def test_a_broken_copy_is_made_again(storage, tmp_path, model_file, damage):
    load_model(MODEL)
    (copy,) = copies(tmp_path)
    content = model_file.read_bytes()
    if damage == "truncated":
        copy.write_bytes(content[:-100])
    elif damage == "removed":
        copy.unlink()
    else:
        copy.write_bytes(content[:-100] + bytes(100))
    if damage == "of another time":  # the disk itself: nothing has written to it
        state = copy.stat()
        (copy.parent / f"{copy.name}.lock").write_text(f"{state.st_size} {state.st_mtime_ns}")
    load_model(MODEL)
    assert copy.read_bytes() == content


def test_what_is_broken_there_is_refused(storage, tmp_path, model_file):
    content = model_file.read_bytes()
    for wrong, kind in (
        (content[:-100], "damaged"),
        (content[:-100] + bytes(100), "damaged"),
        (content + b"more", "damaged"),
        (content[:5], "damaged"),
        (b"", "empty"),
        (b"ply\nformat ascii 1.0\n", "wrong-kind"),
        (b"\xff" * 100, "damaged"),
    ):
        storage.pipe("/models/m.safetensors", wrong)
        with pytest.raises(InputError) as caught:
            load_model(MODEL)
        assert caught.value.code == kind
        assert str(caught.value).startswith(MODEL)


def test_another_kind_is_not_downloaded(storage, reads, tmp_path):
    with pytest.raises(InputError, match="is a model, expected a face set"):
        load_face_set(MODEL)
    assert not copies(tmp_path)


def test_two_at_once_download_once(storage, reads, model_file):
    threads = [threading.Thread(target=load_model, args=(MODEL,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(reads) < 2 * model_file.stat().st_size


def test_a_cache_that_cannot_be_written(storage, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACEDIS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="choose another folder with FACEDIS_CACHE"):
        load_model(MODEL)


def test_where_the_cache_is(storage, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEDIS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_model(MODEL)
    assert list((tmp_path / "xdg" / "facedis").glob("*.safetensors"))


class TestCommands:
    @pytest.fixture
    def face_set(self, call, storage, faces, tmp_path) -> str:
        folder = tmp_path / "people"
        folder.mkdir()
        for person, name in enumerate(("ann", "bob")):
            for kind in ("neutral", "smile"):
                content = (faces / f"{name}.ply").read_bytes()
                (folder / f"{person}_{kind}.ply").write_bytes(content)
        line = "fd-prep folder people --pattern '{subject}_{expression}.ply' -j 1"
        assert call(f"{line} -o set.safetensors").code == 0
        storage.pipe("/set.safetensors", (tmp_path / "set.safetensors").read_bytes())
        return "memory://set.safetensors"

    def test_same_bytes_as_of_files(self, call, storage, faces, face_set, model_file, tmp_path):
        for line in (
            "fd-encode faces -m MODEL -o OUT.npy",
            "fd-encode SET -m MODEL --split train -o OUT.npy",
            "fd-encode SET -m MODEL --jobs 2 -o OUT.npy",
            "fd-decode z.npy -m MODEL --npy -o OUT.npy",
            "fd-metrics SET -m MODEL --split all",
            "fd-prep folder people --pattern '{subject}_{expression}.ply' --like SET -j 1 "
            "-o OUT.safetensors",
            "fd-prep folder people --pattern '{subject}_{expression}.ply' --like MODEL -j 1 "
            "-o OUT.safetensors",
            "fd-info SET --json",
            "fd-info MODEL",
        ):
            if "z.npy" in line:
                assert call("fd-encode faces -o z.npy").code == 0
            here = line.replace("MODEL", str(model_file)).replace("SET", "set.safetensors")
            remote_line = line.replace("MODEL", MODEL).replace("SET", face_set)
            expected, found = (
                call(here.replace("OUT", "here")),
                call(remote_line.replace("OUT", "there")),
            )
            assert (expected.code, found.code) == (0, 0), (line, expected.err, found.err)
            out = expected.out.decode().replace(str(model_file), MODEL)
            assert found.out.decode() == out.replace("set.safetensors", face_set), line
            assert str(tmp_path / "cache") not in found.err
            for made in tmp_path.glob("here.*"):
                there = made.with_name(made.name.replace("here", "there"))
                assert made.read_bytes() == there.read_bytes(), line
                made.unlink()
                there.unlink()
