"""Whole runs with a real S3 server and a real SFTP server."""

import json
import os
import signal
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import synthetic
from conftest import contents
from storage import SECRET, Storage

pytestmark = pytest.mark.slow
fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["s3", "sftp"])
def storage(request, monkeypatch, faces) -> Storage:
    """A server that holds the folder `faces` as `scans/`, and credentials in fsspec's own place."""
    storage: Storage = request.getfixturevalue(request.param)
    monkeypatch.setitem(fsspec.config.conf, storage.scheme, _credentials(storage))
    for name in storage.names():
        storage.system.rm_file(storage.path(name))
    for name, content in contents(faces).items():
        storage.put(f"scans/{name}", content)
    return storage


@pytest.fixture
def bucket(s3, monkeypatch) -> Storage:
    """The S3 server, empty."""
    monkeypatch.setitem(fsspec.config.conf, "s3", _credentials(s3))
    for name in s3.names():
        s3.system.rm_file(s3.path(name))
    return s3


def _credentials(storage: Storage) -> dict:
    known = {"host", "port", "username"}  # which the URL says
    return {key: value for key, value in storage.options.items() if key not in known}


def _unfinished(storage: Storage) -> list[dict]:
    found = storage.system.call_s3("list_multipart_uploads", Bucket="bucket")
    return found.get("Uploads", [])


def test_runs_from_url_to_url(call, storage, tmp_path):
    url = storage.url
    listed = ["scans/bob.ply", "scans/eva grün.ply", "scans/deep/dan.ply"]
    storage.put("list.txt", "\n".join(f"{url}{name}" for name in listed).encode())
    (tmp_path / "list.txt").write_text("\n".join(n.replace("scans", "faces") for n in listed))
    assert call("fd-encode faces -o here.npy").code == 0
    assert call("fd-encode --files-from list.txt -o listed.npy").code == 0
    here = (tmp_path / "here.npy").read_bytes()
    for line, expected in (
        (f"fd-encode {url}scans/ -o {url}all.npy", here),
        (f"fd-encode --files-from {url}list.txt -o {url}all.npy --force", "listed.npy"),
        (f"fd-encode {url}scans/ --shard 1/2 -o {url}parts/1.npy", None),
        (f"fd-encode {url}scans/ --shard 2/2 -o {url}parts/2.npy", None),
        (f"fd-encode --merge {url}parts/ -o {url}all.npy --force", here),
        (f"fd-encode {url}scans/ --jobs 2 -o {url}all.npy --force", here),
    ):
        if storage.scheme == "sftp" and "parts/1" in line:
            storage.put("parts/0.txt", b"")  # a single output makes no folder
        result = call(line)
        assert result.code == 0, result.err
        if expected is not None:
            wanted = expected if isinstance(expected, bytes) else (tmp_path / expected).read_bytes()
            assert storage.get("all.npy") == wanted
    assert call("fd-decode here.npy -o decoded/").code == 0
    for words in ("", "--force -j 2", "--skip-existing"):
        assert call(f"fd-decode {url}all.npy -o {url}decoded/ {words}").code == 0
    found = [name for name in storage.names() if name.startswith("decoded/")]
    expected = contents(tmp_path / "decoded")
    assert {name.removeprefix("decoded/"): storage.get(name) for name in found} == expected
    assert call(f"fd-decode here.npy -o {url}decoded/").kind == "output-exists"
    assert not [name for name in storage.names() if ".facedis-" in name]

    storage.put("scans/bad.ply", b"ply\n")
    result = call(f"fd-encode {url}scans/ --keep-going --failures {url}f.jsonl -o {url}some.npy")
    assert result.code == 1
    (line,) = storage.get("f.jsonl").decode().splitlines()
    assert json.loads(line)["item"] == f"{url}scans/bad.ply"
    assert storage.get("some.npy") == here
    assert call(f"fd-encode {url}scans/ -o {url}some.npy").kind == "output-exists"
    absent = "s3://absent/z.npy" if storage.scheme == "s3" else f"{url}absent/z.npy"
    result = call(f"fd-encode {url}scans/ -o {absent}")  # before anything is computed
    assert (result.code, result.kind) == (4, "output-unwritable")
    assert "there is no" in result.line


def test_raw_data_and_originals(call, storage, faces, tmp_path):
    url = storage.url
    (tmp_path / "data").mkdir()
    for name in ("p1_a.ply", "p1_neutral.ply", "p2_a.ply", "p2_neutral.ply"):
        storage.put(f"data/{name}", (faces / "ann.ply").read_bytes())
        (tmp_path / "data" / name).write_bytes((faces / "ann.ply").read_bytes())
    words = "--pattern {subject}_{expression}.ply -j 2 -o"
    assert call(f"fd-prep folder data {words} here.safetensors").code == 0
    result = call(f"fd-prep folder {url}data/ {words} {url}there.safetensors")
    assert result.code == 0, result.err
    assert storage.get("there.safetensors") == (tmp_path / "here.safetensors").read_bytes()
    assert call("fd-encode 'faces/*.ply' -o z.npy").code == 0
    for place, out in (("faces", "here"), (f"{url}scans/", "there")):
        assert call(f"fd-decode z.npy --onto {place} -j 2 -o {out}/{{name}}.ply").code == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_training_streams_its_faces(call, storage, tmp_path):
    path = synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())
    url = storage.put("set.safetensors", path.read_bytes())
    words = "--data streamed --set identity=4 --set expression=3 --set batch=6 --steps 4"
    for place, name in (("set.safetensors", "here"), (url, "there")):
        done = call(f"fd-train {place} {words} -o {name}.safetensors")
        assert done.code == 0, done.err
    here, there = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("here", "there"))
    assert here == there


def test_large_outputs_are_of_several_parts(storage, monkeypatch):
    from facedis_core.io.remote_output import open_remote_output

    monkeypatch.setattr("facedis_core.io.remote_output._PART", 5 << 20)  # the least that S3 takes
    content = os.urandom(((11 if storage.scheme == "s3" else 1) << 20) + 1)
    with open_remote_output(f"{storage.url}large.bin") as stream:
        stream.write(content)
    assert storage.get("large.bin") == content
    if storage.scheme == "s3":
        assert storage.system.info(storage.path("large.bin"))["ETag"].endswith('-3"')


@pytest.mark.parametrize("broken", ["upload_part", "complete_multipart_upload", "interrupt"])
def test_an_upload_that_fails_is_aborted(call, bucket, tmp_path, monkeypatch, broken):
    import s3fs

    from facedis_core.errors import OutputError
    from facedis_core.io.remote_output import open_remote_output

    monkeypatch.setattr("facedis_core.io.remote_output._PART", 5 << 20)
    monkeypatch.setattr("facedis_core.io.remote._PAUSES", (0.0,))
    real, done = s3fs.S3File._call_s3, []

    def call_s3(self, method, *args, **kwargs):
        done.append(method)
        if done.count("upload_part") > 1 or method == broken:
            raise KeyboardInterrupt if broken == "interrupt" else ConnectionError("broken")
        return real(self, method, *args, **kwargs)

    expected = KeyboardInterrupt if broken == "interrupt" else OutputError
    with (
        mock.patch.object(s3fs.S3File, "_call_s3", call_s3),
        pytest.raises(expected),
        open_remote_output(f"{bucket.url}large.bin") as stream,
    ):
        stream.write(os.urandom(11 << 20))
    assert done.count("create_multipart_upload") == (1 if broken == "interrupt" else 2)
    assert bucket.names() == [] and _unfinished(bucket) == []


def test_a_process_that_is_killed_leaves_no_file(storage):
    """It kills itself when a part of the file has been written."""
    code = (
        "import os, sys\n"
        "from facedis_core.io import remote_output\n"
        "real = remote_output.in_time\n"
        "def in_time(call):\n"
        "    answer = real(call)\n"
        "    if 'write' in repr(call):\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return answer\n"
        "remote_output.in_time, remote_output._PART = in_time, 5 << 20\n"
        "with remote_output.open_remote_output(sys.argv[1]) as stream:\n"
        "    stream.write(os.urandom(11 << 20))\n"
    )
    env = {**os.environ, **storage.env}
    done = subprocess.run([sys.executable, "-c", code, f"{storage.url}large.bin"], env=env)
    assert done.returncode == -signal.SIGKILL
    assert "large.bin" not in storage.names()


def test_hostile_names(call, storage, tmp_path):
    names = ["a b?#%2e%2e.ply", "née.ply", "a::b.ply", "x[1].ply", "-m.ply", "~.ply"]
    mesh = storage.get("scans/ann.ply")
    for name in names:
        storage.put(f"odd/{name}", mesh)
    storage.put("list", "\n".join(f"{storage.url}odd/{name}" for name in names).encode())
    assert call(f"fd-encode {storage.url}odd/ -o odd.npy").code == 0
    found = np.load(tmp_path / "odd.npy")["name"]
    assert sorted(found) == sorted(name.removesuffix(".ply") for name in names)
    assert call(f"fd-encode --files-from {storage.url}list -o listed.npy").code == 0
    assert list(np.load(tmp_path / "listed.npy")["name"]) == [n.removesuffix(".ply") for n in names]


def test_hostile_keys(call, bucket, faces, tmp_path):
    """Keys that no disk could hold: `..`, `//`, a file that is also a folder, a folder's own."""
    mesh = (faces / "ann.ply").read_bytes()
    keys = ["scans/../up.ply", "scans//double.ply", "scans/a.ply", "scans/a.ply/b.ply"]
    for key in keys:
        bucket.put(key, mesh)
    bucket.system.call_s3("put_object", Bucket="bucket", Key="scans/", Body=b"")
    assert call(f"fd-encode {bucket.url}scans/../up.ply -o one.npy").code == 0
    result = call(f"fd-encode {bucket.url}scans/ --keep-going --failures f.jsonl -o some.npy")
    assert result.code == 1
    refused = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in refused} == {"name-invalid"}  # fd-decode makes files of them
    assert list(np.load(tmp_path / "some.npy")["name"]) == ["a", "a.ply/b"]


def test_credentials_are_never_shown(shell, storage):
    env = {**storage.env, "FSSPEC_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
    env["AWS_MAX_ATTEMPTS"] = "1"  # the backend's own patience
    env.pop("FSSPEC_SFTP_KEY_FILENAME", None)
    result = shell(f"fd-encode {storage.url}scans/ann.ply -o out.npy", env=env)
    assert result.code == 3
    assert SECRET not in result.line and f"{storage.url}scans/ann.ply" in result.line
