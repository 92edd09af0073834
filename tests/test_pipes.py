"""The commands together, in real shells."""

import os
import pty
import subprocess

import numpy as np
import pytest
from conftest import face, raw_mesh, save_mesh

from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.bundled import weights_folder

PIPE = "fd-encode bob.obj | fd-transfer ann.npy - | fd-decode"


@pytest.fixture
def ann_and_bob(call, tmp_path):
    """`ann.npy`, and `bob.obj` as the data set has it."""
    save_mesh(tmp_path / "ann.ply", face(0))
    raw = raw_mesh(face(1))
    save_mesh(tmp_path / "bob.obj", raw.vertices, raw.triangles)
    assert call("fd-encode ann.ply -o ann.npy").code == 0


def test_encode_transfer_decode(shell, by_files, model, tmp_path):
    result = shell(f"{PIPE} > out.ply")
    assert result.code == 0
    assert not result.err
    assert (tmp_path / "out.ply").read_bytes() == by_files
    ann, bob = model.encode_prepared(face(0)[None]), model.encode_prepared(face(1)[None])
    truth = model.decode_vectors(ann.identity, bob.expression)[0]
    mesh = read_mesh(tmp_path / "out.ply")
    np.testing.assert_allclose(mesh.vertices, truth, atol=1e-3)
    assert b"name=ann__bob" in (tmp_path / "out.ply").read_bytes()[:300]


@pytest.fixture
def by_files(call, ann_and_bob, tmp_path):
    """What the pipe must write, made by the commands one after another."""
    assert call("fd-encode bob.obj -o bob.npy").code == 0
    assert call("fd-transfer ann.npy bob.npy -o both.npy").code == 0
    assert call("fd-decode both.npy -o both.ply").code == 0
    return (tmp_path / "both.ply").read_bytes()


def test_runs_without_torch(shell, by_files, without_torch):
    result = shell(PIPE, env=without_torch)
    assert result.code == 0
    assert result.out == by_files


@pytest.mark.parametrize("command", ["fd-encode many", "fd-decode many.npy"])
def test_when_the_reader_leaves_it_dies_silently(call, shell, tmp_path, command):
    for seed in range(200):
        save_mesh(tmp_path / f"many/{seed}{'x' * 100}.ply", face(seed))
    assert call("fd-encode many -o many.npy").code == 0
    result = shell(f"{command} | head -c 100 > /dev/null; echo ${{PIPESTATUS[0]}}")
    assert result.out == b"141\n"
    assert not result.err


def test_an_error_upstream_writes_nothing_downstream(shell, ann_and_bob, tmp_path):
    result = shell(
        "fd-encode nothing.obj | fd-transfer ann.npy - | fd-decode -o out.ply;echo ${PIPESTATUS[@]}"
    )
    assert result.out == b"3 3 3\n"
    assert len(result.err.splitlines()) == 3
    assert not (tmp_path / "out.ply").exists()


def test_a_fifo_and_a_device_are_written_in_place(shell, by_files, tmp_path):
    line = "mkfifo pipe && (fd-encode bob.obj -o pipe & fd-transfer ann.npy pipe -o /dev/stdout)"
    result = shell(f"{line} | fd-decode")
    assert result.code == 0, result.err
    assert result.out == by_files
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("command", ["fd-encode ann.ply", "fd-decode ann.npy"])
def test_data_is_never_written_to_a_terminal(commands, ann_and_bob, tmp_path, model_file, command):
    terminal, slave = pty.openpty()
    program, *words = command.split()
    done = subprocess.run(
        [str(commands / program), *words],
        stdout=slave,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "FACEDIS_MODEL": str(model_file)},
        timeout=60,
    )
    os.close(slave)
    os.close(terminal)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_any_name_travels_from_end_to_end(call, tmp_path):
    names = {"it's", "a  b", "ünï 😀", "50%", "-dash", "a=b,c", "{name}", "dots.in.it", "sub/name"}
    for name in names:
        save_mesh(tmp_path / "in" / f"{name}.ply", face(0))
    latents = call("fd-encode in").out
    assert call("fd-decode -o out/", stdin=latents).code == 0
    again = call("fd-encode", stdin=call("fd-decode", stdin=latents).out).out
    assert call("fd-decode -o again/", stdin=again).code == 0
    for folder in (tmp_path / "out", tmp_path / "again"):
        found = {str(path.relative_to(folder)) for path in folder.rglob("*.ply")}
        assert found == {f"{name}.ply" for name in names}


@pytest.mark.skipif(
    not (weights_folder() / "ict-linear.safetensors").exists(), reason="no model is bundled"
)
def test_the_bundled_model_needs_no_option(shell, tmp_path):
    bundled = weights_folder() / "examples"
    face_file = sorted(path for path in bundled.iterdir() if path.suffix in (".ply", ".obj"))[0]
    env = {"FACEDIS_MODEL": ""}
    assert shell(f"fd-encode '{face_file}' | fd-decode > out.ply", env=env).code == 0
    assert len(read_mesh(tmp_path / "out.ply").vertices) > 1000
