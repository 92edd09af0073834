"""The model of fd-view, without its page."""

import base64
import io
import json
from dataclasses import replace
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from conftest import face, raw_mesh, save_mesh
from raising import raises
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.data.latents import read_latents, write_latents
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.model import load_model
from facedis_core.pipeline.combine import transfer
from facedis_core.pipeline.decode import LatentDecoder
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.faces import MAX_FACES, face_of_bytes, load_faces
from facedis_core.viewer.live_model import LiveModel, Mixture


@pytest.fixture
def encoder(model) -> MeshEncoder:
    return MeshEncoder(model)


@pytest.fixture
def live(encoder, faces) -> LiveModel:
    return LiveModel(encoder, load_faces(encoder, [str(faces)]).faces)


def two_faces(live, **said):
    """A mixture of ann and bob as a page says it, but for what is given."""
    first, second = (live.face(n).as_json() for n in ("0", "1"))
    mixture = {
        "first": first,
        "second": second,
        "share": {"identity": 0, "expression": 1},
        "strength": 1,
        "moves": {"identity": [], "expression": []},
        "part": "full",
    }
    return json.dumps(mixture | said).encode()


class TestGallery:
    def test_a_face_has_what_the_model_lacks_of_it(self, encoder, model):
        found = face_of_bytes(encoder, ply(face(1), "ann"), "ann.ply")
        made = model.decode(found.latents.identity, found.latents.expression)[0]
        assert found.latents.names == ["ann"]
        assert np.array_equal(found.vertices, face(1))
        np.testing.assert_allclose(found.error, np.linalg.norm(made - face(1), axis=1), rtol=1e-5)

    def test_raw_meshes_are_prepared_as_fd_encode_prepares_them(self, encoder):
        stream = io.BytesIO()
        write_mesh(stream, raw_mesh(face(1)), ".obj")
        found = face_of_bytes(encoder, stream.getvalue(), "scan.obj")
        np.testing.assert_allclose(found.vertices, face(1), atol=1e-4)

    def test_latents_are_faces_without_an_error(self, encoder, model, tmp_path):
        stream = io.BytesIO()
        rows = model.encode(np.stack([face(1), face(2)]), ["one", "two"])
        write_latents(stream, rows)
        (tmp_path / "rows.npy").write_bytes(stream.getvalue())
        *found, _ = load_faces(encoder, [str(tmp_path / "r*.npy")]).faces
        assert [one.latents.names for one in found] == [["one"], ["two"]]
        assert found[0].error is None
        assert np.array_equal(found[1].vertices, model.decode(rows.identity, rows.expression)[1])
        dropped = face_of_bytes(encoder, stream.getvalue(), "rows.npy")
        assert np.array_equal(dropped.vertices, found[0].vertices)
        assert "several" in dropped.warning

    def test_plain_rows_and_vertices_are_told_apart_by_every_door(self, encoder, model, tmp_path):
        rows = model.encode(face(1)[None], ["one"])
        both = np.concatenate([rows.identity, rows.expression], axis=1)
        for array, known in ((both, False), (face(1)[None], True), (face(1), True)):
            np.save(tmp_path / "a.npy", array)
            given, _ = load_faces(encoder, [str(tmp_path / "a.npy")]).faces
            dropped = face_of_bytes(encoder, (tmp_path / "a.npy").read_bytes(), "a.npy")
            for one in (given, dropped):
                assert (one.error is not None) == known
                np.testing.assert_allclose(one.latents.identity, rows.identity, atol=1e-4)
            assert dropped.latents.names == (["a"] if known else ["row0000"])

    def test_many_latents_are_spread_before_they_are_decoded(self, encoder, model, monkeypatch):
        """A hundred thousand rows would be gigabytes of vertices."""
        rows = model.encode(face(1)[None].repeat(3 * MAX_FACES, 0))
        stream = io.BytesIO()
        write_latents(stream, rows)
        decoded = []
        monkeypatch.setattr(
            LatentDecoder,
            "face",
            lambda self, rows, row, part: decoded.append(rows.names[row]) or row,
        )
        with NamedTemporaryFile(suffix=".npy") as file:
            file.write(stream.getvalue())
            file.flush()
            gallery = load_faces(encoder, [file.name])
        assert len(decoded) == MAX_FACES == len(gallery.faces) - 1
        assert gallery.warnings == ["600 faces were given; 200 of them are shown, evenly spaced"]
        assert decoded[:2] == [rows.names[0], rows.names[3]]

    def test_many_faces_are_taken_evenly(self, encoder, tmp_path):
        faces = face_set()
        write_face_set(tmp_path / "set.safetensors", faces)
        many = [str(tmp_path / "set.safetensors")] * (1 + MAX_FACES // len(faces.labels.names))
        loose = replace(encoder, far_faces=True)
        found, (warning, *_) = load_faces(loose, many * 2)
        assert len(found) == MAX_FACES + 1
        assert warning.startswith(
            f"{2 * len(many) * len(faces.labels.names)} faces were given; 200"
        )
        assert {one.latents.names[0] for one in found} > set(faces.labels.names[-2:])

    def test_examples_are_for_models_that_they_fit(self, encoder):
        assert len(load_faces(encoder, []).faces) == 1
        faces = load_faces(MeshEncoder(load_model("ict")), []).faces
        names = [one.latents.names[0] for one in faces]
        assert len(names) == 9 + 1
        assert names[1] == "alice_neutral"

    def test_the_mean_face_is_one_of_them(self, encoder, model):
        (mean_face,) = load_faces(encoder, []).faces
        assert np.array_equal(mean_face.vertices, model.mean_face)

    def test_latents_of_another_model_are_refused(self, encoder, other_model_file, tmp_path):
        other = load_model(other_model_file)
        with (tmp_path / "other.npy").open("wb") as stream:
            write_latents(stream, other.encode(face(1)[None]))
        with raises("wrong-model"):
            load_faces(encoder, [str(tmp_path / "other.npy")])


def ply(vertices, name=""):
    stream = io.BytesIO()
    write_mesh(stream, Mesh(vertices, grid_mesh()[1], name, unit_mm=1.0))
    return stream.getvalue()


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


class TestBadFiles:
    @pytest.mark.parametrize("name", WRONG)
    def test_are_told_as_by_fd_encode(self, live, call, tmp_path, name):
        (tmp_path / name).write_bytes(WRONG[name])
        result = call(f"fd-encode {name}")
        with raises(result.kind) as caught:
            live.encoded(WRONG[name], name)
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
    def test_other_kinds_are_refused_whatever_their_names(self, live, name, error):
        with raises(error):
            live.encoded(b"solid\n", name)

    @pytest.mark.parametrize("second", [face(2), face(2) + 300], ids=["face", "far"])
    def test_of_several_meshes_the_first_is_taken(self, live, second):
        found = live.encoded(ply(face(1), "one") + ply(second, "two"), "both.ply")
        assert found.latents.names == ["one"]
        assert "several faces" in found.warning

    def test_a_name_that_no_request_could_carry_is_refused_at_once(self, live):
        files = ply(face(1), "x" * 5000) + ply(face(1), "y")
        with raises("too-large", "5000 characters, expected 4096"):
            live.encoded(files, "both.ply")


class TestMixture:
    def test_is_the_transfer_of_the_command(self, live):
        mixed = live.mixed(live.mixture(two_faces(live, strength=0.5)))
        expected = transfer(live.faces[0].latents, live.faces[1].latents, scale=0.5)
        assert mixed.names == expected.names
        assert mixed.identity.tobytes() == expected.identity.tobytes()
        assert mixed.expression.tobytes() == expected.expression.tobytes()

    def test_moves_are_steps_along_the_directions(self, live):
        moves = {"identity": [0, 2], "expression": [-1]}
        still = live.mixed(live.mixture(two_faces(live)))
        moved = live.mixed(live.mixture(two_faces(live, moves=moves)))
        steps = {part: found.steps for part, found in live.directions.items()}
        np.testing.assert_allclose(
            moved.identity - still.identity, 2 * steps["identity"][1:2], atol=1e-6
        )
        np.testing.assert_allclose(
            moved.expression - still.expression, -steps["expression"][:1], atol=1e-6
        )

    @pytest.mark.parametrize("part", ["full", "identity", "expression"])
    def test_its_face_is_that_of_its_file(self, live, model, part, tmp_path):
        mixture = live.mixture(two_faces(live, part=part))
        rows = live.mixed(mixture)
        (expected,) = model.decode(rows.identity, rows.expression, part)
        assert np.array_equal(live.vertices(mixture), expected)
        for suffix in (".ply", ".obj", ".wrl"):
            path = tmp_path / f"face{suffix}"
            path.write_bytes(live.file(mixture, suffix))
            assert np.array_equal(read_mesh(path).vertices, expected)

    def test_its_latents_are_a_file_of_fd_encode(self, live, model, tmp_path):
        mixture = live.mixture(two_faces(live))
        (tmp_path / "row.npy").write_bytes(live.file(mixture, ".npy"))
        rows = read_latents(str(tmp_path / "row.npy"))
        assert (rows.names, rows.models) == (["ann__bob"], [model.id])

    def test_names_of_any_kind_survive(self, live, tmp_path):
        odd = live.face("0").as_json() | {"name": "\udcff \x00 grün/.."}
        mixture = live.mixture(two_faces(live, first=odd))
        for suffix in (".ply", ".npy"):
            assert live.file(mixture, suffix)

    @pytest.mark.parametrize(
        "said",
        [
            {"part": "half"},
            {"part": []},
            {"strength": "1"},
            {"strength": True},
            {"strength": 1e300},
            {"strength": 10**4000},
            {"strength": float("-inf")},
            {"share": {"identity": 0}},
            {"share": {"identity": 0, "expression": float("nan")}},
            {"moves": {"identity": [0] * 4, "expression": []}},
            {"moves": {"identity": [None], "expression": []}},
            {"moves": 3},
            {"first": {"name": "x", "identity": "AAAA", "expression": ""}},
            {"first": {"name": 5}},
            {"first": {"name": "\ud800", "identity": "A" * 16, "expression": "A" * 11 + "="}},
            {"second": None},
        ],
    )
    def test_what_no_page_says_is_refused(self, live, said):
        with raises("request"):
            live.mixture(two_faces(live, **said))

    @pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'"a"'])
    def test_what_is_no_mixture_is_refused(self, live, said):
        with raises("request"):
            live.mixture(said)

    def test_latents_that_are_not_finite_are_refused(self, live):
        infinite = base64.b64encode(np.full(3, np.inf, "<f4").tobytes()).decode()
        first = live.face("0").as_json() | {"identity": infinite}
        with raises("not-finite"):
            live.vertices(live.mixture(two_faces(live, first=first)))

    def test_other_files_are_refused(self, live):
        with raises("request", r"expected one of \.ply \.obj \.wrl \.npy"):
            live.file(live.mixture(two_faces(live)), ".exe")

    def test_without_moves_there_are_none(self, live):
        row = live.faces[0].latents
        mixed = live.mixed(Mixture(row, row, {"identity": 0.5, "expression": 0.5}))
        assert mixed.names == ["ann"]
        np.testing.assert_allclose(mixed.identity, row.identity)


class TestDescription:
    def test_tells_what_a_page_draws(self, live, model):
        said = json.loads(json.dumps(live.description()))
        assert said["vertices"] == 36
        assert said["faces"] == ["ann", "bob", "cy", "deep/dan", "eva grün", "mean face"]
        triangles = np.frombuffer(base64.b64decode(said["triangles"]), "<u4").reshape(-1, 3)
        assert np.array_equal(triangles, model.triangles)
        assert [len(said["directions"][part]) for part in ("identity", "expression")] == [3, 2]

    @pytest.mark.parametrize("number", ["6", "-1", "", "x", "1" * 99, "²"])
    def test_a_face_that_is_not_there_is_refused(self, live, number):
        with raises("name-unknown"):
            live.face(number)


def test_saved_meshes_are_read_by_bytes_as_from_disk(tmp_path, encoder):
    for suffix in (".ply", ".obj", ".wrl"):
        path = save_mesh(tmp_path / f"face{suffix}", face(5))
        found = face_of_bytes(encoder, path.read_bytes(), path.name)
        assert np.array_equal(found.vertices, read_mesh(path).vertices)
        assert found.latents.names == ["face"]
