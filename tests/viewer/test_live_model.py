"""The model of fd-view without its page: mixtures of faces, their files, and bad requests."""

import base64
import io
import json

import numpy as np
import pytest
from conftest import face
from images import png
from raising import raises

from facedis_core.data.latents import read_latents, write_latents
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.combine import transfer
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.rig.blendshapes import ARKIT_NAMES, arkit_targets
from facedis_core.viewer.face_stream import FaceStream
from facedis_core.viewer.faces import load_faces
from facedis_core.viewer.live_model import MAX_KEPT, LiveModel, Mixture


@pytest.fixture
def encoder(model) -> MeshEncoder:
    return MeshEncoder(model)


@pytest.fixture
def live(encoder, faces) -> LiveModel:
    return LiveModel(encoder, load_faces(encoder, [str(faces)]))


def two_faces(live, **said):
    """A mixture of ann and bob as a page says it, but for what is given."""
    first, second = (live.face(n).as_json() for n in ("0", "1"))
    mixture = {
        "first": first,
        "second": second,
        "share": {"identity": 0, "expression": 1},
        "strength": 1,
        "moves": {"identity": [], "expression": []},
        "blendshapes": {},
        "part": "full",
        "original": "0",
    }
    return json.dumps(mixture | said).encode()


def test_a_mixture_is_the_transfer_of_the_command(live):
    mixed = live.mixed(live.mixture(two_faces(live, strength=0.5)))
    expected = transfer(live.faces[0].latents, live.faces[1].latents, scale=0.5)
    assert mixed.names == expected.names
    np.testing.assert_array_equal(mixed.identity, expected.identity)
    np.testing.assert_array_equal(mixed.expression, expected.expression)


def test_moves_are_steps_along_the_directions(live):
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
def test_the_face_of_a_mixture_is_that_of_its_file(live, model, part, tmp_path):
    mixture = live.mixture(two_faces(live, part=part))
    rows = live.mixed(mixture)
    (expected,) = model.decode_vectors(rows.identity, rows.expression, part)
    assert np.array_equal(live.vertices(mixture), expected)
    for suffix in (".ply", ".obj", ".wrl"):
        path = tmp_path / f"face{suffix}"
        path.write_bytes(live.file(mixture, suffix))
        assert np.array_equal(read_mesh(path).vertices, expected)


def test_the_latents_of_a_mixture_are_a_file_of_fd_encode(live, model, tmp_path):
    mixture = live.mixture(two_faces(live))
    (tmp_path / "row.npy").write_bytes(live.file(mixture, ".npy"))
    rows = read_latents(str(tmp_path / "row.npy"))
    assert (rows.names, rows.models) == (["ann__bob"], [model.id])


def test_names_of_any_kind_survive(live, tmp_path):
    odd = live.face("0").as_json() | {"name": "\udcff \x00 grün/.."}
    mixture = live.mixture(two_faces(live, first=odd))
    for suffix in (".ply", ".npy"):
        assert live.file(mixture, suffix)


@pytest.mark.parametrize(
    "said",
    [
        {"part": "half"},
        {"part": []},
        {"blendshapes": {"jawOpen": 1}},  # the small model has none
        {"blendshapes": []},
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
def test_what_no_page_says_is_refused(live, said):
    with raises("request"):
        live.mixture(two_faces(live, **said))


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'"a"'])
def test_what_is_no_mixture_is_refused(live, said):
    with raises("request"):
        live.mixture(said)


def test_what_cannot_be_mixed_or_written_is_refused(live, tmp_path):
    infinite = base64.b64encode(np.full(3, np.inf, "<f4").tobytes()).decode()
    first = live.face("0").as_json() | {"identity": infinite}
    with raises("not-finite"):
        live.vertices(live.mixture(two_faces(live, first=first)))
    with raises("request", r"expected one of \.ply \.obj \.wrl \.off \.npy"):
        live.file(live.mixture(two_faces(live)), ".exe")
    np.save(tmp_path / "a.npy", live.model.mean_face)
    with raises("too-large", "5000"):  # no request could carry the name
        live.encoded((tmp_path / "a.npy").read_bytes(), "x" * 5000 + ".npy")


def test_a_mixture_is_written_onto_the_file_of_a_face(live, faces, model, call):
    """As fd-decode --onto writes it; of a file on disk, and of one opened on the page."""
    rows = live.mixed(live.mixture(two_faces(live)))
    path = faces / "ann.ply"
    with (faces / "both.npy").open("wb") as stream:
        write_latents(stream, rows)
    wanted = call(f"fd-decode {faces}/both.npy --onto {path}").out
    assert wanted != path.read_bytes()
    assert live.face("0").as_json()["original"] == ".ply"
    assert live.file(live.mixture(two_faces(live)), "original") == wanted
    opened = live.keep(live.encoded(path.read_bytes(), "C:ann.ply"))
    path.unlink()
    said = two_faces(live, original=opened["key"])
    assert live.file(live.mixture(said), "original") == wanted
    assert live.face("0").as_json()["original"] == ""
    with raises("request", "ann has no file"):
        live.file(live.mixture(two_faces(live)), "original")
    with raises("request", "mean face has no file"):
        live.file(live.mixture(two_faces(live, original="5")), "original")


def test_a_file_that_has_changed_is_not_written_onto(live, faces):
    write_mesh(faces / "ann.ply", Mesh(face(9), live.model.triangles, "ann", unit_mm=1.0))
    with raises("request", "no longer the mesh"):
        live.file(live.mixture(two_faces(live)), "original")


def test_textures_lie_beside_a_mesh(live, faces):
    """Of a file on disk beside it; of an opened one among those that were opened before."""
    triangles = live.model.triangles + 1
    lines = ["mtllib m.mtl", *("v {} {} {}".format(*v) for v in face(1).tolist()), "vt 0 1"]
    lines += ["usemtl skin", *("f {}/1 {}/1 {}/1".format(*t) for t in triangles.tolist()), ""]
    content = "\n".join(lines).encode()
    said = live.keep(live.encoded(content, "mine.obj"))
    assert said["texture"] is None and "its materials m.mtl are missing" in said["warning"]
    library = b"newmtl skin\nmap_Kd C:\\skin.png\n"
    live.lay_beside(library, "m.mtl")
    live.lay_beside(png(1, 2, 3), "textures/skin.png")
    said = live.keep(live.encoded(content, "mine.obj"))
    assert said["texture"]["groups"] == [{"count": 50, "color": [1, 1, 1], "image": 0}]
    for name, data in (("a.obj", content), ("m.mtl", library), ("skin.png", png(1, 2, 3))):
        (faces / name).write_bytes(data)
    of_file = LiveModel(live.encoder, load_faces(live.encoder, [str(faces / "a.obj")]))
    assert of_file.shown(of_file.face("0"))["texture"] == said["texture"]
    with raises("request", "no file of materials"):
        live.lay_beside(b"", "a.exe")


def test_the_latest_opened_files_are_kept(live, faces):
    content = (faces / "ann.ply").read_bytes()
    keys = [live.keep(live.encoded(content, "ann.ply"))["key"] for _ in range(MAX_KEPT + 1)]
    with raises("name-unknown"):
        live.face(keys[0])
    assert live.face(keys[1]).name == "ann"
    assert "key" not in live.keep(live.faces[-1])


def test_without_moves_there_are_none(live):
    row = live.faces[0].latents
    mixed = live.mixed(Mixture(row, row, {"identity": 0.5, "expression": 0.5}))
    assert mixed.names == ["ann"]
    np.testing.assert_allclose(mixed.identity, row.identity)


def test_the_description_tells_what_a_page_draws(live, model):
    said = json.loads(json.dumps(live.description()))
    assert said["vertices"] == 36
    assert said["faces"] == ["ann", "bob", "cy", "deep/dan", "eva grün", "mean face"]
    triangles = np.frombuffer(base64.b64decode(said["surface"]["triangles"]), "<u2").reshape(-1, 3)
    assert np.array_equal(triangles, model.triangles)
    assert said["stream"] is None
    assert [len(said["directions"][part]) for part in ("identity", "expression")] == [3, 2]
    (first, *_) = said["directions"]["identity"]
    assert {"upper", "middle", "lower", "whole"} & set(first["region"].split())
    assert first["mm"] > 0


@pytest.fixture(scope="module")
def heads():
    encoder = MeshEncoder(load_model("ict-linear"))
    return LiveModel(encoder, load_faces(encoder, []))


@pytest.mark.slow  # 4 s: all blendshapes of a head, one by one
def test_blendshapes_are_those_of_the_rig_of_the_identity(heads):
    weights = {"jawOpen": 0.5, "browInnerUp": 1}
    (head,) = heads.model.decode(heads.mixed(heads.mixture(two_faces(heads))), "identity")
    for part, face_of in (("full", head), ("expression", heads.model.mean_face)):
        mixture = heads.mixture(two_faces(heads, blendshapes=weights, part=part))
        before = heads.vertices(heads.mixture(two_faces(heads, part=part)))
        moved = heads.vertices(mixture) - before
        targets = arkit_targets(heads.blendshapes, heads.blendshapes.on(face_of))
        wanted = sum(weight * targets[ARKIT_NAMES.index(name)] for name, weight in weights.items())
        np.testing.assert_allclose(moved, wanted, atol=1e-3)
    identity = heads.mixture(two_faces(heads, blendshapes=weights, part="identity"))
    np.testing.assert_array_equal(heads.vertices(identity), head)
    with raises("request", "latents cannot hold"):
        heads.file(mixture, ".npy")


def test_directions_of_a_bundled_model_are_told_by_parts_of_the_face(heads):
    live = heads
    assert live.description()["blendshapes"] == list(ARKIT_NAMES[:-1])  # but tongueOut
    words = [one["region"] for one in live.description()["directions"]["expression"][:8]]
    assert words[:2] == ["chin and lips", "lips and chin"]
    assert any("brows" in word for word in words)


def test_standard_input_brings_more_faces(encoder, faces):
    stream = FaceStream(encoder)
    live = LiveModel(encoder, load_faces(encoder, [str(faces), "-"]), stream)
    assert live.description()["stream"] == 5
    assert live.news("", 0)["count"] == 0
    data = io.BytesIO()
    for number, name in ((1, "ann"), (2, "zoe")):
        write_mesh(data, Mesh(face(number), live.model.triangles, name, unit_mm=1.0))
    stream.read(io.BufferedReader(io.BytesIO(data.getvalue())))
    news = live.news("0", 0)
    assert news["faces"] == [("s0", "ann (standard input, face 1)"), ("s1", "zoe")]
    assert live.face("s1") is live.face("newest")
    assert live.face("0").name == "ann"
    for key in ("s2", "7", "²"):
        with raises("name-unknown"):
            live.face(key)


def test_without_standard_input_there_are_no_news(live):
    with raises("request"):
        live.news("", 0)
    with raises("name-unknown"):
        live.face("newest")


@pytest.mark.parametrize("number", ["6", "-1", "", "x", "1" * 99, "²"])
def test_a_face_that_is_not_there_is_refused(live, number):
    with raises("name-unknown"):
        live.face(number)
