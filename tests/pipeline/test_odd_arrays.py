"""Odd `.npy` files given to every command: one kind for all of them, and one line where refused."""

import numpy as np
import pytest
from conftest import face, save_mesh
from synthetic import latents

from facedis_core.data.latents import write_latents
from facedis_core.errors import InputError
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.faces import face_of_bytes, load_faces

OF_VERTICES = [
    "fd-encode FILE -o out.npy",
    "fd-render FILE -o out.png --size 16",
    "fd-render good.ply --against FILE -o out.png --size 16",
    "fd-info FILE",
]
OF_LATENTS = [
    "fd-decode FILE -o out/",
    "fd-transfer good.npy FILE -o out.npy",
    "fd-interp FILE good.npy -o out.npy",
    "fd-recognize FILE good.npy --pattern {subject}_{expression}",
]
OF_MESHES = [
    "fd-metrics --truth FILE --predicted good.ply --align",
    "fd-metrics --truth good.ply --predicted FILE --align",
]


def with_vertex(value, dtype="f4"):
    vertices = face(0).astype(dtype)
    with np.errstate(over="ignore"):
        vertices[7, 1] = value
    return vertices


GOOD_VERTICES = {
    "float32": face(0),
    "float64": face(0).astype("f8"),
    "float16": face(0).astype("f2"),
    "big endian": face(0).astype(">f8"),
    "Fortran": np.asfortranarray(face(0)),
    "rows": np.stack([face(0), face(1)])[:1],
}
BAD_VERTICES = {
    "nan": (with_vertex(np.nan), "row 0: vertex 7 is not finite"),
    "inf": (with_vertex(-np.inf), "row 0: vertex 7 is not finite"),
    "beyond float32": (with_vertex(1e300, "f8"), "row 0: vertex 7 is not finite"),
    "beyond float16": (with_vertex(1e5, "f2"), "row 0: vertex 7 is not finite"),
    "second row": (np.stack([face(0), with_vertex(np.nan)]), "row 1: vertex 7 is not finite"),
}
NEITHER = {
    "whole numbers": face(0).astype(int),
    "truth values": face(0) > 0,
    "complex": face(0).astype(complex),
    "text": np.array(["a"]),
    "scalar": np.array(1.0),
    "no rows": np.zeros((0, 36, 3)),
    "no vertices": np.zeros((2, 0, 3)),
    "four dimensions": np.zeros((1, 1, 36, 3)),
    "objects": np.array([{}], object),
    "other fields": np.zeros(2, [("name", "U3"), ("age", "f4")]),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_mesh(tmp_path / "good.ply", face(1))
    with (tmp_path / "good.npy").open("wb") as stream:
        write_latents(stream, latents(["ann_neutral", "ann_smile"], model=""))
    return tmp_path


def refused(result, *texts):
    assert result.code == 3
    for text in ("odd.npy", *texts):
        assert text in result.line


@pytest.mark.parametrize("command", OF_VERTICES)
@pytest.mark.parametrize("array", GOOD_VERTICES.values(), ids=GOOD_VERTICES)
def test_vertices_are_vertices(call, here, command, array):
    np.save("odd.npy", array)
    result = call(command.replace("FILE", "odd.npy"))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("command", OF_VERTICES)
@pytest.mark.parametrize(("array", "text"), BAD_VERTICES.values(), ids=BAD_VERTICES)
def test_vertices_that_are_not_finite_are_named(call, here, command, array, text):
    np.save("odd.npy", array)
    refused(call(command.replace("FILE", "odd.npy")), text)


@pytest.mark.parametrize("command", OF_LATENTS)
def test_vertices_are_no_latents(call, here, command):
    for array in (face(0), face(0)[None]):
        np.save("odd.npy", array)
        refused(call(command.replace("FILE", "odd.npy")), "holds vertices", "fd-encode")


@pytest.mark.parametrize("command", OF_MESHES)
def test_an_array_is_no_mesh(call, here, command):
    np.save("odd.npy", face(0))
    refused(call(command.replace("FILE", "odd.npy")), "expected a mesh")


@pytest.mark.parametrize("command", [*OF_VERTICES, *OF_LATENTS])
@pytest.mark.parametrize("array", NEITHER.values(), ids=NEITHER)
def test_arrays_of_neither_kind(call, here, command, array):
    np.save("odd.npy", array)
    refused(call(command.replace("FILE", "odd.npy")))


@pytest.mark.parametrize("command", [*OF_VERTICES, *OF_LATENTS])
@pytest.mark.parametrize("change", [lambda data: data[:-5], lambda data: data + b"more"])
def test_truncated_or_continued(call, here, command, change):
    np.save("odd.npy", np.stack([face(0)] * 2))
    if command in OF_LATENTS:
        (here / "good.npy").rename(here / "odd.npy")
        np.save("good.npy", np.zeros((1, 5)))
    data = change((here / "odd.npy").read_bytes())
    (here / "odd.npy").write_bytes(data)
    refused(call(command.replace("FILE", "odd.npy")))


@pytest.mark.parametrize("command", OF_LATENTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_latents_that_are_not_finite_are_named(call, here, command, value):
    rows = np.load("good.npy").astype([("name", "U12"), ("model", "U12"), ("identity", "f8", 3),
                                       ("expression", "f8", 2)])  # fmt: skip
    rows["expression"][1, 1] = value
    np.save("odd.npy", rows)
    refused(call(command.replace("FILE", "odd.npy")), "'ann_smile' are not finite")


@pytest.mark.parametrize("suffix", [".npy", ".ply"])
@pytest.mark.parametrize("size", [1e10, 1e30, 3e38])
def test_what_is_too_far_away_to_draw_or_to_align(call, here, suffix, size):
    np.save("odd.npy", with_vertex(size))
    save_mesh(here / "odd.ply", with_vertex(size))
    for command in [*OF_VERTICES[1:3], *(OF_MESHES if suffix == ".ply" else [])]:
        result = call(command.replace("FILE", f"odd{suffix}"))
        assert (result.code, result.kind) == (3, "too-large")
        assert "odd" in result.line and "vertex 7 is at" in result.line
    assert call(f"fd-encode odd{suffix} -o out.npy").kind == "far-face"


def test_the_viewer_takes_the_same_arrays(here, model_file):
    encoder = MeshEncoder(load_model(model_file))
    for array in GOOD_VERTICES.values():
        np.save("odd.npy", array)
        assert load_faces(encoder, ["odd.npy"]).faces[0].error is not None
        face_of_bytes(encoder, (here / "odd.npy").read_bytes(), "odd.npy")
    for array in [*(array for array, _ in BAD_VERTICES.values()), *NEITHER.values()]:
        np.save("odd.npy", array)
        with pytest.raises(InputError, match=r"odd\.npy"):
            load_faces(encoder, ["odd.npy"])
    np.save("odd.npy", BAD_VERTICES["nan"][0])
    with pytest.raises(InputError, match=r"odd\.npy: row 0: vertex 7"):
        face_of_bytes(encoder, (here / "odd.npy").read_bytes(), "odd.npy")


def test_a_row_that_is_not_finite_can_be_skipped(call, here):
    np.save("odd.npy", np.stack([face(0), with_vertex(np.nan), face(1)]))
    assert call("fd-encode odd.npy -o out.npy --keep-going").code == 1
    assert np.load("out.npy")["name"].tolist() == ["odd_0000", "odd_0002"]


def test_fd_info_says_what_fd_decode_wrote(call, here):
    for options, faces in (("", 2), ("--stream", 2)):
        assert call(f"fd-decode good.npy --npy {options} -o odd.npy --force").code == 0
        out = call("fd-info odd.npy").out.decode().split()
        assert out[:6] == ["odd.npy:", "vertices", "faces", f"{faces}", "vertices", "36"]
    data = (here / "odd.npy").read_bytes()
    np.save("one.npy", face(0)[:5])
    (here / "odd.npy").write_bytes(data + (here / "one.npy").read_bytes())
    refused(call("fd-info odd.npy"), "5 and of 36 vertices")


@pytest.mark.parametrize("command", [*OF_VERTICES, *OF_LATENTS[:3]])
def test_headers_by_python_2(call, here, command):
    of_latents = command in OF_LATENTS
    np.save("odd.npy", np.load("good.npy")[:1] if of_latents else face(0))
    data = (here / "odd.npy").read_bytes()
    shape, old = (b"(1,), } ", b"(1L,), }") if of_latents else (b"(36, 3), }  ", b"(36L, 3L), }")
    assert data.count(shape) == 1
    (here / "odd.npy").write_bytes(data.replace(shape, old))
    result = call(command.replace("FILE", "odd.npy"))
    assert (result.code, result.err) == (0, "")
