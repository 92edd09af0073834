"""Faces of standard input that arrive while the page is open."""

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from conftest import face
from raising import raises
from synthetic import grid_mesh

import facedis_core.viewer.face_stream
from facedis_core.data.latents import write_latents
from facedis_core.mesh.mesh import Mesh, write_mesh
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.face_stream import MAX_WARNINGS, NEWEST, FaceStream
from facedis_core.viewer.faces import MAX_FACES, face_of_bytes, load_faces


@pytest.fixture
def encoder(model) -> MeshEncoder:
    return MeshEncoder(model)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def stream(encoder, warnings) -> FaceStream:
    return FaceStream(encoder, warnings.append)


def meshes(*vertices, names=("ann", "bob", "cy")):
    data = io.BytesIO()
    for one, name in zip(vertices, names, strict=False):
        write_mesh(data, Mesh(one, grid_mesh()[1], name, unit_mm=1.0))
    return data.getvalue()


def arrays(*arrays):
    data = io.BytesIO()
    for array in arrays:
        np.save(data, array)
    return data.getvalue()


def latents(model, *names):
    """As `--stream` writes them: a block without rows, then one for each row."""
    rows = model.encode_prepared(np.stack([face(n) for n in range(len(names))]), names)
    data = io.BytesIO()
    write_latents(data, rows.take([]))
    for row in range(len(rows)):
        write_latents(data, rows.take([row]))
    return data.getvalue()


def read(stream, data):
    """Read the bytes, and return what the page then is told."""
    stream.read(io.BufferedReader(io.BytesIO(data)))
    return stream.news(-1, 0, ())


def labels(news):
    return [label for _, label in news["faces"]]


def test_faces_of_every_kind_are_as_those_of_files(stream, encoder, model, tmp_path):
    for suffix, data, names in (
        ("ply", meshes(face(1), face(2)), ["ann", "bob"]),
        ("npy", arrays(np.stack([face(1), face(2)]), face(3)), ["row0000", "row0001", "row0002"]),
        ("npy", latents(model, "ann", "bob"), ["ann", "bob"]),
    ):
        (tmp_path / f"a.{suffix}").write_bytes(data)
        *expected, _ = load_faces(encoder, [str(tmp_path / f"a.{suffix}")]).faces
        stream = FaceStream(encoder)
        news = read(stream, data)
        assert (news["state"], news["count"], labels(news)) == ("ended", len(names), names)
        for (key, _), one in zip(news["faces"], expected, strict=True):
            assert np.array_equal(stream.face(key).vertices, one.vertices)
            assert (stream.face(key).error is None) == (one.error is None)
        assert np.array_equal(stream.face(NEWEST).vertices, expected[-1].vertices)


@pytest.mark.parametrize("count", [1, MAX_FACES, MAX_FACES + 1, 5 * MAX_FACES + 3])
def test_of_many_the_newest_and_an_even_choice_are_kept(stream, encoder, monkeypatch, count):
    one = face_of_bytes(encoder, meshes(face(1)), "ann.ply")
    newest = []

    def arriving(encoder, data):
        for number in range(count):
            yield replace(one, warning=str(number))
            newest.append(stream.face(NEWEST).warning)
            assert len(stream.news(-1, 0, ())["faces"]) <= MAX_FACES

    monkeypatch.setattr(facedis_core.viewer.face_stream, "arriving_faces", arriving)
    kept = read(stream, b"")["faces"]
    assert newest == [str(number) for number in range(count)]
    numbers = [int(key.removeprefix("s")) for key, _ in kept]
    if count <= MAX_FACES:
        assert numbers == list(range(count))
    assert MAX_FACES // 2 <= len(numbers) <= MAX_FACES + 1 or count == 1
    assert (numbers[0], numbers[-1]) == (0, count - 1)
    assert len(set(np.diff(numbers[:-1]))) <= 1
    assert [stream.face(key).warning for key, _ in kept] == [str(n) for n in numbers]


def test_a_broken_stream_keeps_its_faces_and_is_told(stream, warnings):
    news = read(stream, meshes(face(1), face(2)) + meshes(face(3))[:-9])
    assert (news["state"], labels(news)) == ("broken", ["ann", "bob"])
    assert "mesh 3" in news["message"]
    assert warnings == [f"{news['message']} (after 2 faces; the page stays open)"]


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x93NUMPY\x01\x00", arrays(np.zeros(3))])
def test_what_holds_no_face_is_told(stream, warnings, data):
    news = read(stream, data)
    assert (news["state"], news["faces"]) == ("broken", [])
    assert "standard input" in news["message"]
    assert len(warnings) == 1
    with raises("name-unknown"):
        stream.face(NEWEST)


def test_unusable_faces_are_skipped(stream, warnings):
    news = read(stream, meshes(face(1), face(2) + 500, face(3)))
    assert (news["state"], labels(news), news["refused"]) == ("ended", ["ann", "cy"], 1)
    assert "mesh 2" in news["message"]
    assert warnings == [f"skipped: {news['message']}"]


def test_latents_of_another_model_are_all_skipped(encoder, other_model_file, warnings):
    from facedis_core.model.model_file import load_model

    stream = FaceStream(encoder, warnings.append)
    news = read(stream, latents(load_model(other_model_file), "ann", "bob"))
    assert (news["count"], news["refused"]) == (0, 2)
    assert "'bob'" in news["message"]


def test_warnings_have_an_end(stream, warnings):
    data = arrays(*[face(0) + 5] * (MAX_WARNINGS + 5))
    assert read(stream, data)["count"] == MAX_WARNINGS + 5
    assert len(warnings) == MAX_WARNINGS + 1
    assert "on the page only" in warnings[-1]


def test_an_unexpected_error_is_told_on_the_page(stream, monkeypatch):
    def arriving(encoder, data):
        yield "odd"
        raise ZeroDivisionError

    monkeypatch.setattr(facedis_core.viewer.face_stream, "arriving_faces", arriving)
    with pytest.raises(ZeroDivisionError):
        stream.read(io.BytesIO())
    news = stream.news(-1, 0, ())
    assert (news["state"], news["refused"]) == ("broken", 1)
    assert "traceback" in news["message"]


def test_equal_names_are_told_apart(stream):
    news = stream.news(-1, 0, ())
    assert (news["state"], news["faces"]) == ("open", [])
    stream.read(io.BufferedReader(io.BytesIO(meshes(*map(face, range(3)), names="aab"))))
    assert labels(stream.news(-1, 0, ["b"])) == [
        "a (standard input, face 1)",
        "a (standard input, face 2)",
        "b (standard input, face 3)",
    ]


def test_news_are_waited_for(stream):
    version = stream.news(-1, 0, ())["version"]
    assert stream.news(version, 0.01, ())["version"] == version
    found = []
    waiting = threading.Thread(target=lambda: found.append(stream.news(version, 20, ())))
    waiting.start()
    read(stream, meshes(face(1)))
    waiting.join(10)
    assert found[0]["version"] > version


@pytest.mark.parametrize("key", ["s1", "s-1", "s", "x", "newest ", "s00"])
def test_a_face_that_is_not_there_is_refused(stream, key):
    read(stream, meshes(face(1)))
    assert stream.face("s0").name == "ann"
    with raises("name-unknown"):
        stream.face(key)
