"""What a command imports: the time to start is nearly all of what one face takes."""

import sys

import pytest
from conftest import face, save_mesh
from synthetic import face_set, write_face_set

LINES = {
    "fd_encode": "faces/ann.ply -o out.npy",
    "fd_transfer": "ann.npy ann.npy -o out.npy",
    "fd_interp": "ann.npy ann.npy -o out.npy",
    "fd_decode": "ann.npy -o out.ply",
    "fd_metrics": "set.safetensors --json -o out.json",
    "fd_recognize": "set.safetensors --json -o out.json",
    "fd_info": "ann.npy",
}
HEAVY = {"torch", "scipy", "meshio", "matplotlib", "PIL", "rich", "multiprocessing", "pydantic"}
HEAVY |= {"distributed", "dask", "asyncio"}


@pytest.fixture
def ann(call, faces, tmp_path):
    write_face_set(tmp_path / "set.safetensors", face_set())
    assert call("fd-encode faces/ann.ply -o ann.npy").code == 0


def imported(shell, module, words):
    result = shell(f"{sys.executable} -X importtime -m {module} {words}")
    assert result.code == 0, result.err
    return {line.split("|")[-1].strip() for line in result.err.splitlines()}


@pytest.mark.parametrize("module", LINES)
def test_nothing_heavy_is_imported(shell, ann, module):
    modules = imported(shell, module, LINES[module])
    assert "numpy" in modules
    assert not modules & HEAVY


def test_latents_are_transferred_without_a_model(shell, ann):
    modules = imported(shell, "fd_transfer", LINES["fd_transfer"])
    assert not modules & {"facedis_core.model.model", "facedis_core.model.model_file"}


def test_what_a_format_or_an_option_needs_is_imported_then(shell, ann, tmp_path):
    save_mesh(tmp_path / "ann.vtu", face(0))
    assert "meshio" in imported(shell, "fd_encode", "ann.vtu -o out.npy")
    # what is given as a number or a choice is checked by typer's own means
    assert "pydantic" in imported(shell, "fd_encode", "faces/ann.ply --units mm -o mm.npy")
    result = shell("fd-encode faces --jobs many")
    assert result.code == 2
    assert "--jobs" in result.line
