"""Inputs and outputs by URL, in the storage of fsspec that is memory."""

import json
import threading
from unittest import mock

import numpy as np
import pytest
from conftest import contents

from facedis_core.io import remote_input

PATTERN = "{subject}_{expression}.ply"
KINDS = ("safetensors", "report.json")

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Storages are asked again at once."""
    monkeypatch.setattr("facedis_core.io.remote._PAUSES", (0.0, 0.0))


@pytest.fixture
def storage(faces):
    """The memory, with `scans/` as the folder `faces`."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name, content in contents(faces).items():
        system.pipe(f"/scans/{name}", content)
    yield system
    system.store.clear()


class TestInputs:
    @pytest.mark.parametrize(
        ("words", "here"),
        [
            ("memory://scans/", "faces"),
            (
                "memory://scans/ann.ply memory://scans/deep/dan.ply",
                "faces/ann.ply faces/deep/dan.ply",
            ),
            ("'memory://scans/*.ply'", "'faces/*.ply'"),
            ("memory://in/scans/ --root memory://in", "faces --root ."),
            ("--files-from memory://list.txt", "faces/bob.ply 'faces/eva grün.ply'"),
        ],
    )
    def test_are_those_of_a_disk(self, call, storage, tmp_path, words, here):
        lines = ["memory://scans/bob.ply", "memory://scans/eva grün.ply"]
        for name, content in contents(tmp_path / "faces").items():
            storage.pipe(f"/in/scans/{name}", content)
        storage.pipe("/list.txt", "\n".join(lines).encode())
        assert call(f"fd-encode {here} -o here.npy").code == 0
        result = call(f"fd-encode {words} -o memory://out/there.npy")
        assert result.code == 0, result.err
        names = np.load(tmp_path / "here.npy")["name"]
        if "--root" in words:
            names = [name.replace("faces/", "scans/") for name in names]
        storage.get_file("/out/there.npy", tmp_path / "there.npy")
        there = np.load(tmp_path / "there.npy")
        assert list(there["name"]) == list(names)
        np.testing.assert_array_equal(there["identity"], np.load(tmp_path / "here.npy")["identity"])

    def test_a_broken_file_is_named_by_its_url(self, call, storage, tmp_path):
        storage.pipe("/scans/bad.ply", b"ply\n")
        result = call("fd-encode memory://scans/ --keep-going --failures f.jsonl -o out.npy")
        assert result.code == 1
        (line,) = (tmp_path / "f.jsonl").read_text().splitlines()
        assert json.loads(line)["item"] == "memory://scans/bad.ply"

    def test_are_read_ahead_and_large_ones_when_they_are_used(self, call, storage, tmp_path):
        threads = set()
        real = remote_input.read_remote

        def read(url, at_most):
            threads.add(threading.current_thread())
            return real(url, at_most)

        assert call("fd-encode memory://scans/ -o ahead.npy").code == 0
        with (
            mock.patch("facedis_core.pipeline.inputs.read_remote", read),
            mock.patch("facedis_core.pipeline.inputs._MOST_AHEAD_BYTES", 100),
        ):
            assert call("fd-encode memory://scans/ -o later.npy").code == 0
        assert len(threads) > 1 and threading.main_thread() not in threads
        assert (tmp_path / "ahead.npy").read_bytes() == (tmp_path / "later.npy").read_bytes()

    def test_a_folder_that_cannot_be_listed_is_not_left_out(self, call, storage):
        real = type(storage).ls

        def ls(self, path, *args, **kwargs):
            if path.endswith("deep"):
                raise PermissionError("secret")
            return real(self, path, *args, **kwargs)

        with mock.patch.object(type(storage), "ls", ls):
            result = call("fd-encode memory://scans/ -o out.npy")
        assert (result.code, result.kind) == (3, "file-unreadable")
        assert "secret" not in result.line

    def test_a_storage_that_fails_while_it_is_read(self, call, storage):
        broken = "fsspec.implementations.memory.MemoryFile.read"
        with mock.patch(broken, side_effect=ConnectionError("key=secret")) as read:
            result = call("fd-encode memory://scans/ann.ply -o out.npy")
        assert read.call_count == 2  # once more
        assert (result.code, result.kind) == (3, "file-unreadable")
        assert "memory://scans/ann.ply" in result.line and "secret" not in result.err

    def test_what_a_url_cannot_be(self, call, storage):
        for url, code, kind in (
            ("memory://scans/absent.ply", 3, "file-missing"),
            ("memory://empty/", 3, "empty"),
            ("memory://scans/ann.vtu", 3, "unsupported"),
            ("memory://scans/set.safetensors", 3, "file-missing"),
            ("what://scans/ann.ply", 3, "unsupported"),
            ("sftp://ann:secret@host/ann.ply", 2, "option-value"),
            ("s3://key:secret@bucket/ann.ply", 2, "option-value"),
            ("https://secret@host/ann.ply", 2, "option-value"),
            ("https://host/ann.ply?signature=secret", 2, "option-value"),
            ("s3://bucket/ann.ply?X-Amz-Signature=secret", 2, "option-value"),
            ("sftp://ann:se/cret@host/ann.ply", 2, "option-value"),
            ("https://host/ann#.ply", 2, "option-value"),
        ):
            result = call(["fd-encode", url, "-o", "out.npy"])
            assert (result.code, result.kind) == (code, kind), result.err
            assert "secret" not in result.line
        result = call("fd-encode 'memory://scans/*.wrl' -o out.npy")
        assert (result.code, result.kind) == (3, "file-missing")
        wrong = "memory://scans/*.wrl does not exist and as a pattern matches nothing"
        assert result.line == f"fd-encode: {wrong}; expected a file"

    def test_originals(self, call, storage, tmp_path):
        assert call("fd-encode 'faces/*.ply' -o z.npy").code == 0
        assert call("fd-encode faces/ann.ply -o one.npy").code == 0
        for place, out in (("faces/", "here"), ("memory://scans/", "there")):
            for line in (
                f"one.npy --onto {place}ann.ply -o {out}.ply",
                f"z.npy --onto {place} -o {out}/{{name}}.ply",
            ):
                result = call(f"fd-decode {line}")
                assert result.code == 0, result.err
        assert (tmp_path / "here.ply").read_bytes() == (tmp_path / "there.ply").read_bytes()
        assert contents(tmp_path / "here") == contents(tmp_path / "there")
        pair = "faces/bob.ply -o pair.ply --force"
        assert call(f"fd-transfer faces/ann.ply {pair}").code == 0
        expected = (tmp_path / "pair.ply").read_bytes()
        assert call(f"fd-transfer memory://scans/ann.ply {pair}").code == 0
        assert (tmp_path / "pair.ply").read_bytes() == expected
        result = call("fd-decode one.npy --onto memory://scans/ann.vtk -o x.vtk")
        assert (result.code, result.kind) == (3, "unsupported")

    def test_odd_names(self, call, storage, tmp_path):
        name = "a b%20ü#;$(x).ply"
        storage.pipe(f"/scans/{name}", storage.cat("/scans/ann.ply"))
        assert call(["fd-encode", f"memory://scans/{name}", "-o", "out.npy"]).code == 0
        assert list(np.load(tmp_path / "out.npy")["name"]) == [name.removesuffix(".ply")]


class TestDataSets:
    """What fd-prep makes of the raw meshes."""

    @pytest.fixture(autouse=True)
    def people(self, storage, faces, tmp_path):
        (tmp_path / "data").mkdir()
        mesh = (faces / "ann.ply").read_bytes()
        for name in ("p1_a.ply", "p1_neutral.ply", "p2_a.ply", "p2_neutral.ply", "notes.txt"):
            (tmp_path / "data" / name).write_bytes(mesh)
            storage.pipe(f"/data/{name}", mesh)

    def prepare(self, call, tmp_path, words):
        """The sets and reports of both, or what was said of the one by URL."""
        made = []
        for place, name in (("data", "here"), ("memory://data", "there")):
            result = call(f"fd-prep folder {place} -j 1 {words} -o {name}.safetensors --force")
            if result.code:
                return result
            made.append([(tmp_path / f"{name}.{kind}").read_bytes() for kind in KINDS])
        assert made[0] == made[1]
        return result

    def test_of_a_folder(self, call, tmp_path):
        assert self.prepare(call, tmp_path, f"--pattern {PATTERN}").code == 0
        assert "notes.txt" in (tmp_path / "there.report.json").read_text()

    def test_of_labels(self, call, storage, tmp_path):
        rows = [f"{p}_{e}.ply,{p},{e}" for p in ("p1", "p2") for e in ("neutral", "a")]
        (tmp_path / "labels.csv").write_text("\n".join(["file,subject,expression", *rows]))
        assert self.prepare(call, tmp_path, "--labels labels.csv").code == 0
        by_path = (tmp_path / "here.safetensors").read_bytes()
        storage.put_file(tmp_path / "labels.csv", "/labels.csv")
        assert self.prepare(call, tmp_path, "--labels memory://labels.csv").code == 0
        assert (tmp_path / "here.safetensors").read_bytes() == by_path
        storage.rm("/data/p1_a.ply")
        result = self.prepare(call, tmp_path, "--labels labels.csv")
        assert (result.code, result.kind) == (3, "file-missing")
        assert "memory://data/ lacks p1_a.ply" in result.line

    def test_a_broken_mesh_is_named_by_its_url(self, call, storage, tmp_path):
        storage.pipe("/data/p1_a.ply", b"ply\n")
        result = self.prepare(call, tmp_path, f"--pattern {PATTERN}")
        assert result.code == 3 and "memory://data/p1_a.ply" in result.line
        line = (
            f"fd-prep folder memory://data --pattern {PATTERN} -j 1 --keep-going -o s.safetensors"
        )
        assert call(line).code == 1
        assert "memory://data/p1_a.ply" in (tmp_path / "s.report.json").read_text()

    def test_of_a_known_layout(self, call, storage):
        for place in ("up/f/2/models_reg", "up/f/10/models_reg"):
            storage.pipe(f"/{place}/1_neutral.obj", b"v 0 0 0\n")
        counted = call("fd-prep facescape memory://up/f --dry-run")
        assert counted.code == 0 and counted.out.startswith(b"what\tname\tfaces")
        for wrong, right in (
            ("memory://up", "memory://up/f has, give"),
            ("memory://up/f/2/models_reg", "give memory://up/f"),
        ):
            result = call(f"fd-prep facescape {wrong} --dry-run")
            assert result.kind == "layout" and right in result.line


class TestOutputs:
    def test_of_meshes_and_arrays(self, call, storage, faces):
        assert call("fd-encode faces -o memory://z.npy").code == 0
        assert call("fd-decode memory://z.npy -o memory://all.ply").code == 0
        assert call("fd-encode faces -o z.npy").code == 0
        assert storage.cat("/all.ply") == call("fd-decode z.npy").out
        assert call("fd-decode memory://z.npy --npy -o memory://all.npy").code == 0
        assert storage.cat("/all.npy").startswith(b"\x93NUMPY")

    def test_of_parts(self, call, storage, faces, tmp_path):
        for number in (1, 2):
            line = f"fd-encode memory://scans/ --shard {number}/2 -o memory://parts/{number}.npy"
            assert call(line).code == 0
        assert call("fd-encode --merge memory://parts/ -o all.npy").code == 0
        assert call("fd-encode faces -o one.npy").code == 0
        assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()

    def test_a_face_set(self, call, storage, tmp_path):
        for name in ("p1_a", "p1_b", "p2_a", "p2_b"):
            (tmp_path / "set").mkdir(exist_ok=True)
            (tmp_path / "set" / f"{name}.ply").write_bytes(storage.cat("/scans/ann.ply"))
        line = "fd-prep folder set --pattern '{subject}_{expression}.ply' -j 1 -o"
        assert call(f"{line} one.safetensors").code == 0
        assert call(f"{line} memory://one.safetensors").code == 0
        assert storage.cat("/one.safetensors") == (tmp_path / "one.safetensors").read_bytes()

    def test_existing_ones_stay(self, call, storage, faces):
        storage.pipe("/z.npy", b"mine")
        result = call("fd-encode faces -o memory://z.npy")
        assert (result.code, result.kind) == (2, "output-exists")
        assert storage.cat("/z.npy") == b"mine"
        assert call("fd-encode faces -o memory://z.npy --force").code == 0
        assert storage.cat("/z.npy") != b"mine"

    def test_what_cannot_be_asked_is_not_replaced(self, call, storage, faces):
        storage.pipe("/z.npy", b"mine")
        broken = "fsspec.implementations.memory.MemoryFileSystem.info"
        with mock.patch(broken, side_effect=ConnectionError("secret")):
            result = call("fd-encode faces -o memory://z.npy")
        assert (result.code, result.kind) == (4, "output-unwritable")
        assert storage.cat("/z.npy") == b"mine"

    def test_are_whole_or_not_there(self, call, storage, faces):
        storage.pipe("/z.npy", b"mine")
        broken = "fsspec.implementations.memory.MemoryFileSystem.pipe_file"
        with mock.patch(broken, side_effect=PermissionError("secret")):
            result = call("fd-encode faces -o memory://z.npy --force")
        assert (result.code, result.kind) == (4, "output-unwritable")
        assert "secret" not in result.line
        assert storage.cat("/z.npy") == b"mine"
        # a command that fails uploads nothing
        assert call("fd-encode faces absent.ply -o memory://new.npy").code == 3
        assert not storage.exists("/new.npy")

    def test_a_file_system_has_them_under_another_name_first(self, call, faces, tmp_path):
        assert (
            call(["fd-encode", f"file://{faces}/*.ply", "-o", f"file://{tmp_path}/z.npy"]).code == 0
        )
        assert call("fd-encode 'faces/*.ply' -o one.npy").code == 0
        assert (tmp_path / "z.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
        before = contents(tmp_path)
        for broken in ("mv", "_open"):
            with mock.patch(
                f"fsspec.implementations.local.LocalFileSystem.{broken}", side_effect=OSError
            ):
                result = call(f"fd-encode faces -o file://{tmp_path}/new.npy")
            assert (result.code, result.kind) == (4, "output-unwritable")
            assert contents(tmp_path) == before

    def test_of_a_folder(self, call, storage, faces, tmp_path):
        assert call("fd-encode faces -o z.npy").code == 0
        assert call("fd-decode z.npy -o here/").code == 0
        for target, words in (
            ("memory://out/", ""),
            ("memory://out/{name}.ply", "--force"),
            ("memory://out/", "--force -j 2"),
        ):
            assert call(["fd-decode", "z.npy", "-o", target, *words.split()]).code == 0
            found = {name: storage.cat(f"/out/{name}") for name in contents(tmp_path / "here")}
            assert found == contents(tmp_path / "here")
        result = call("fd-decode z.npy -o memory://out/")
        assert (result.code, result.kind) == (2, "output-exists")
        assert "memory://out/ann.ply" in result.line
        storage.rm("/out/bob.ply")
        storage.pipe("/out/ann.ply", b"mine")
        assert call("fd-decode z.npy -o memory://out/ --skip-existing").code == 0
        assert storage.cat("/out/ann.ply") == b"mine"
        assert storage.cat("/out/bob.ply") == (tmp_path / "here/bob.ply").read_bytes()
        assert call("fd-decode z.npy -o memory://out/ --force --shard 1/2").code == 0

    def test_of_a_folder_that_cannot_be_written(self, call, storage, faces):
        assert call("fd-encode faces -o z.npy").code == 0
        broken = "fsspec.implementations.memory.MemoryFileSystem.pipe_file"
        with mock.patch(broken, side_effect=PermissionError("secret")):
            result = call("fd-decode z.npy -o memory://out/")
        assert (result.code, result.kind) == (4, "output-unwritable")
        assert "memory://out/ann.ply" in result.line and "secret" not in result.line

    def test_of_a_folder_of_a_file_system(self, call, faces, tmp_path):
        assert call("fd-encode faces -o z.npy").code == 0
        assert call("fd-decode z.npy -o here/").code == 0
        assert call(f"fd-decode z.npy -o file://{tmp_path}/there/").code == 0
        assert contents(tmp_path / "there") == contents(tmp_path / "here")
        result = call(f"fd-decode z.npy -o file://{tmp_path}/there/")
        assert (result.code, result.kind) == (2, "output-exists")


def test_without_fsspec_the_extra_is_named(shell, faces, without_torch):
    result = shell("fd-encode memory://x/a.ply -o out.npy", env=without_torch)
    assert result.code == 2
    assert "'remote' extra" in result.line


class TestUrlsWhereNoneCanBe:
    """Folders that are described or exported; trainings, which write beside their result."""

    @pytest.mark.parametrize(
        "line",
        [
            "fd-info URL",
            "fd-prep --export s.safetensors URL",
        ],
    )
    def test_folders(self, call, storage, line):
        result = call(line.replace("URL", "memory://scans/").split())
        assert (result.code, result.kind) == (3, "unsupported")
        assert "memory://scans is a URL" in result.line.replace("scans/", "scans")
        result = call(line.replace("URL", "sftp://ann:secret@host/scans/").split())
        assert result.code in (2, 3) and "secret" not in result.line

    def test_trainings(self, call, storage):
        result = call("fd-train absent.safetensors -o memory://m.safetensors")
        assert (result.code, result.kind) == (2, "output-pattern")
        assert "file on a disk" in result.line


@pytest.mark.parametrize(
    "words",
    [
        "fd-encode URL.ply -o z.npy",
        "fd-encode --files-from URL.txt -o z.npy",
        "fd-encode faces -o URL.npy",
        "fd-encode faces -m URL.safetensors -o z.npy",
        "fd-encode faces --map URL.safetensors -o z.npy",
        "fd-encode faces --keep-going --failures URL.jsonl -o z.npy",
        "fd-encode faces --root URL -o z.npy",
        "fd-decode z.npy -o URL/",
        "fd-decode z.npy -o URL.txt",
        "fd-info URL",
        "fd-metrics URL.safetensors",
        "fd-render URL.ply -o a.png",
        "fd-render faces -o URL.txt",
        "fd-train URL.safetensors -o m.safetensors",
        "fd-register URL.ply -o URL/",
    ],
)
@pytest.mark.parametrize(
    "url", ["sftp://ann:secret@h/x", "https://h/x?sig=secret&y", "s3://k:secret@b/x"]
)
def test_secrets_are_never_shown(call, faces, words, url):
    result = call(words.replace("URL", url).split())
    assert result.code in (2, 3), result.err
    assert "secret" not in result.err
