"""Faces of fd-view: read, encoded, chosen from many, and refused as fd-encode refuses them."""

import io
from dataclasses import replace

import numpy as np
import pytest
from conftest import face, raw_mesh, save_mesh
from raising import raises
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.data.latents import write_latents
from facedis_core.mesh.mesh import read_mesh, write_mesh
from facedis_core.mesh.ply import write as write_ply
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.decode import LatentDecoder
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.faces import (
    MAX_FACES,
    ViewerFace,
    choice_labels,
    face_of_bytes,
    load_faces,
    unused,
)


@pytest.fixture
def encoder(model) -> MeshEncoder:
    return MeshEncoder(model)


def ply(vertices, name=""):
    stream = io.BytesIO()
    write_ply(stream, vertices, grid_mesh()[1], name, True)  # also what write_mesh refuses
    return stream.getvalue()


def test_a_face_has_what_the_model_lacks_of_it(encoder, model):
    found = face_of_bytes(encoder, ply(face(1), "ann"), "ann.ply")
    made = model.decode_vectors(found.latents.identity, found.latents.expression)[0]
    assert found.latents.names == ["ann"]
    assert np.array_equal(found.vertices, face(1))
    np.testing.assert_allclose(found.error, np.linalg.norm(made - face(1), axis=1), rtol=1e-5)


def test_raw_meshes_are_prepared_as_fd_encode_prepares_them(encoder):
    stream = io.BytesIO()
    write_mesh(stream, raw_mesh(face(1)), ".obj")
    found = face_of_bytes(encoder, stream.getvalue(), "scan.obj")
    np.testing.assert_allclose(found.vertices, face(1), atol=1e-4)


def test_latents_are_faces_without_an_error(encoder, model, tmp_path):
    stream = io.BytesIO()
    rows = model.encode_prepared(np.stack([face(1), face(2)]), ["one", "two"])
    write_latents(stream, rows)
    (tmp_path / "rows.npy").write_bytes(stream.getvalue())
    *found, _ = load_faces(encoder, [str(tmp_path / "r*.npy")]).faces
    assert [one.latents.names for one in found] == [["one"], ["two"]]
    assert found[0].error is None
    assert np.array_equal(
        found[1].vertices, model.decode_vectors(rows.identity, rows.expression)[1]
    )
    dropped = face_of_bytes(encoder, stream.getvalue(), "rows.npy")
    assert np.array_equal(dropped.vertices, found[0].vertices)
    assert "several" in dropped.warning


def test_plain_rows_and_vertices_are_told_apart_by_every_door(encoder, model, tmp_path):
    rows = model.encode_prepared(face(1)[None], ["one"])
    both = np.concatenate([rows.identity, rows.expression], axis=1)
    for array, known in ((both, False), (face(1)[None], True), (face(1), True)):
        np.save(tmp_path / "a.npy", array)
        given, _ = load_faces(encoder, [str(tmp_path / "a.npy")]).faces
        dropped = face_of_bytes(encoder, (tmp_path / "a.npy").read_bytes(), "a.npy")
        for one in (given, dropped):
            assert (one.error is not None) == known
            np.testing.assert_allclose(one.latents.identity, rows.identity, atol=1e-4)
        assert dropped.latents.names == (["a"] if known else ["row0000"])


def test_many_latents_are_spread_before_they_are_decoded(encoder, model, monkeypatch, tmp_path):
    """A hundred thousand rows would be gigabytes of vertices."""
    rows = model.encode_prepared(face(1)[None].repeat(3 * MAX_FACES, 0))
    with (tmp_path / "rows.npy").open("wb") as stream:
        write_latents(stream, rows)
    decoded = []
    monkeypatch.setattr(
        LatentDecoder,
        "face",
        lambda self, rows, row, part: decoded.append(rows.names[row]) or row,
    )
    found = load_faces(encoder, [str(tmp_path / "rows.npy")])
    assert len(decoded) == MAX_FACES == len(found.faces) - 1
    assert found.warnings == ["600 faces were given; 200 of them are shown, evenly spaced"]
    assert decoded[:2] == [rows.names[0], rows.names[3]]


def test_many_faces_are_taken_evenly(encoder, tmp_path):
    names = face_set().labels.names
    path = write_face_set(tmp_path / "set.safetensors", face_set())
    count = 2 * (1 + MAX_FACES // len(names))
    found, (warning, *_), _ = load_faces(replace(encoder, force_encode=True), [str(path)] * count)
    assert len(found) == MAX_FACES + 1
    assert warning.startswith(f"{count * len(names)} faces were given; 200")
    assert {one.latents.names[0] for one in found} > set(names[-2:])


def test_faces_are_listed_in_the_order_given(encoder, model, tmp_path):
    for folder in ("x", "y"):
        save_mesh(tmp_path / folder / "ann.ply", face(1))
    with (tmp_path / "rows.npy").open("wb") as stream:
        write_latents(stream, model.encode_prepared(np.stack([face(1), face(2)]), ["cy", "bob"]))
    given = [tmp_path / "y/ann.ply", tmp_path / "rows.npy", "-", tmp_path / "x" / "*.ply"]
    found = load_faces(encoder, list(map(str, given)))
    names = ["y/ann", "cy", "bob", "x/ann", "mean face"]
    assert [one.name for one in found.faces] == names
    assert found.stream_place == 3
    for inputs, place in ((given[:2], None), ([], None), (["-"], 0)):
        assert load_faces(encoder, list(map(str, inputs))).stream_place == place


def test_the_place_of_standard_input_is_kept_where_faces_are_left_out(encoder, model, tmp_path):
    rows = model.encode_prepared(face(1)[None].repeat(MAX_FACES, 0))
    for name in ("a", "b"):
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, rows)
    found = load_faces(encoder, [str(tmp_path / "a.npy"), "-", str(tmp_path / "b.npy")])
    assert (len(found.faces), found.stream_place) == (MAX_FACES + 1, MAX_FACES // 2)


@pytest.mark.parametrize(
    ("faces", "labels"),
    [
        ([("ann", "a.ply"), ("bob", "a.ply")], ["ann", "bob"]),
        ([("ann", "a.ply"), ("ann", "a.obj")], ["ann (a.ply)", "ann (a.obj)"]),
        ([("ann", "x/a.npy"), ("ann", "y/a.npy")], ["ann (x/a.npy)", "ann (y/a.npy)"]),
        (
            [("ann", "a.npy"), ("bob", "a.npy"), ("ann", "a.npy"), ("ann", "b.npy")],
            ["ann (a.npy)", "bob", "ann (a.npy) 2", "ann (b.npy)"],
        ),
        ([("ann", "./a.npy"), ("ann", "a.npy")], ["ann (a.npy)", "ann (a.npy) 2"]),
        ([("a", "a"), ("a", "a"), ("a (a) 2", "b")], ["a (a)", "a (a) 2", "a (a) 2 2"]),
    ],
)
def test_faces_of_one_name_have_different_labels(model, faces, labels):
    rows = model.encode_prepared(face(1)[None])
    given = [
        ViewerFace(replace(rows, names=[name]), face(1), None, source=source)
        for name, source in faces
    ]
    assert choice_labels(given) == labels


def test_a_number_makes_a_label_unused():
    assert unused("a", ()) == "a"
    assert unused("a", ("a", "a 2", "a 4")) == "a 3"


def test_examples_are_for_models_that_they_fit(encoder, model):
    (mean_face,) = load_faces(encoder, []).faces
    assert np.array_equal(mean_face.vertices, model.mean_face)
    faces = load_faces(MeshEncoder(load_model("ict-linear")), []).faces
    assert len(faces) == 9 + 1 and faces[1].latents.names == ["alice_neutral"]


def test_latents_of_another_model_are_refused(encoder, other_model_file, tmp_path):
    other = load_model(other_model_file)
    with (tmp_path / "other.npy").open("wb") as stream:
        write_latents(stream, other.encode_prepared(face(1)[None]))
    with raises("wrong-model"):
        load_faces(encoder, [str(tmp_path / "other.npy")])


def test_saved_meshes_are_read_by_bytes_as_from_disk(tmp_path, encoder):
    for suffix in (".ply", ".obj", ".wrl"):
        path = save_mesh(tmp_path / f"face{suffix}", face(5))
        found = face_of_bytes(encoder, path.read_bytes(), path.name)
        assert np.array_equal(found.vertices, read_mesh(path).vertices)
        assert found.latents.names == ["face"]


WRONG = {
    "cut.ply": ply(face(1))[:-40],
    "empty.ply": b"",
    "text.ply": b"hello\n",
    "text.obj": b"hello\n",
    "points.obj": b"v 0 0 0\n",
    "huge.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 2000000000\n"
    b"property float x\nproperty float y\nproperty float z\nend_header\n",
    "nan.ply": ply(np.full_like(face(1), np.nan)),
    "far.ply": ply(face(1) + 300),
    "other.ply": ply(face(1)[:9]),
    "latents.ply": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_files_are_told_as_by_fd_encode(encoder, call, tmp_path, name):
    (tmp_path / name).write_bytes(WRONG[name])
    result = call(f"fd-encode {name}")
    with raises(result.kind) as caught:
        face_of_bytes(encoder, WRONG[name], name)
    assert result.line == f"fd-encode: {caught.value}"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a.stl", "unsupported: STL .* expected .ply .obj .wrl"),
        ("a.vtk", "unsupported: expected .ply .obj .wrl"),
        ("a.safetensors", "unsupported: expected .ply .obj .wrl"),
        ("/etc/passwd", "wrong-kind: passwd, mesh 1"),
        ("a.npy", "wrong-kind: a.npy"),
        ("", "wrong-kind: PLY"),
    ],
)
def test_other_kinds_are_refused_whatever_their_names(encoder, name, error):
    with raises(error):
        face_of_bytes(encoder, b"solid\n", name)


@pytest.mark.parametrize("second", [face(2), face(2) + 300], ids=["face", "far"])
def test_of_several_meshes_the_first_is_taken(encoder, second):
    found = face_of_bytes(encoder, ply(face(1), "one") + ply(second, "two"), "both.ply")
    assert found.latents.names == ["one"]
    assert "several faces" in found.warning
