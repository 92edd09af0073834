"""The open benchmark: what is drawn, how a face comes about; the real data where it is there."""

import os
import pickle
from pathlib import Path

import ict_twin
import numpy as np
import pytest

from facedis_core.datasets.ict import (
    NARROW_VERTICES,
    RAW_TOPOLOGY,
    build_ict_map,
    load_ict_faces,
    load_ict_map,
    open_ict,
    read_generic,
)
from facedis_core.datasets.ict_synthesis import (
    IDENTITY_MODES,
    Subject,
    draw_activations,
    draw_subject,
    expression_table,
)
from facedis_core.datasets.protocols import MESH_STREAM, random_stream
from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError

EVERYBODY = np.zeros(0, int)  # the source makes no difference between faces

FACESCAPE = [
    "neutral",
    "smile",
    "mouth_stretch",
    "anger",
    "jaw_left",
    "jaw_right",
    "jaw_forward",
    "mouth_left",
    "mouth_right",
    "dimpler",
    "chin_raiser",
    "lip_puckerer",
    "lip_funneler",
    "sadness",
    "lip_roll",
    "grin",
    "cheek_blowing",
    "eye_closed",
    "brow_raiser",
    "brow_lower",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ict_twin.write_folder(tmp_path_factory.mktemp("FaceXModel"))


@pytest.fixture(scope="module")
def people():
    return [draw_subject(0, number) for number in range(400)]


def test_the_expressions_are_those_of_facescape_at_their_apex():
    table = expression_table()
    assert list(table.expressions) == FACESCAPE
    assert len(table.shapes) == 55 and list(table.shapes) == sorted(table.shapes)
    for name, weights in table.expressions.items():
        assert set(weights) <= set(table.shapes), name
        assert all(0.7 <= weight <= 1 for weight in weights.values()), name
        assert bool(weights) == (name != "neutral")
        for shape, weight in weights.items():  # a face at rest is symmetric, people are not
            twin = shape[:-2] + {"_L": "_R", "_R": "_L"}.get(shape[-2:], shape[-2:])
            assert weights[twin] == weight


def test_identities_are_normal_and_cut(people):
    weights = np.array([person.identity for person in people])
    assert weights.shape == (400, IDENTITY_MODES)
    assert np.abs(weights).max() <= 2.5
    # The standard deviation of a normal distribution cut at 2.5; clipping would give 0.99.
    assert weights.std() == pytest.approx(0.9546, abs=0.01)
    assert np.abs(weights.mean()) < 0.02
    assert (np.abs(weights) > 2.49).mean() < 0.005


def test_gains_and_imbalance(people):
    shapes = expression_table().shapes
    gains = np.array([person.gains for person in people])
    middle = [k for k, name in enumerate(shapes) if name[-2:] not in ("_L", "_R")]
    assert np.log(gains[:, middle]).std() == pytest.approx(0.25, abs=0.01)
    left = [k for k, name in enumerate(shapes) if name.endswith("_L")]
    right = [shapes.index(shapes[k][:-1] + "R") for k in left]
    # Over the pairs of one person the gains' own spread averages out and the imbalance remains.
    imbalance = np.log(gains[:, left] / gains[:, right]).mean(1) / 2
    expected = np.hypot(0.1, 0.25 / np.sqrt(2 * len(left)))
    assert imbalance.std() == pytest.approx(expected, rel=0.1)


def test_activations():
    table = expression_table()
    subject = Subject(np.zeros(IDENTITY_MODES), np.linspace(0.5, 1.5, len(table.shapes)))
    smile = FACESCAPE.index("smile")
    drawn = np.array(
        [draw_activations(subject, table.apex(smile), random_stream(0, k)) for k in range(600)]
    )
    used = table.apex(smile) > 0
    gaze = np.array([name.startswith("eyeLook") for name in table.shapes])
    assert gaze.sum() == 8 and not drawn[:, gaze].any()
    background = drawn[:, ~used & ~gaze]
    assert background.min() >= 0
    assert np.sqrt((background**2).mean()) == pytest.approx(0.03, rel=0.03)
    gain = (drawn[:, used] - background.mean()).mean(0) / (table.apex(smile) * subject.gains)[used]
    np.testing.assert_allclose(gain, np.exp(0.1**2 / 2), rtol=0.02)
    strength = (drawn[:, used] / (table.apex(smile) * subject.gains)[used]).mean(1)
    assert np.log(strength).std() == pytest.approx(0.1, rel=0.15)
    assert not draw_activations(subject, table.apex(0), random_stream(0, 1)).any()


def naive_normal(vertices, triangles, vertex):
    total = np.zeros(3)
    for i, j, k in triangles:
        if vertex in (i, j, k):
            total += np.cross(vertices[j] - vertices[i], vertices[k] - vertices[i])
    return total / np.linalg.norm(total)


def naive_edge(vertices, triangles, vertex):
    around = {int(j) for t in triangles if vertex in t for j in t} - {vertex}
    return np.mean([np.linalg.norm(vertices[vertex] - vertices[j]) for j in around])


def naive_turn(offset, a, b):
    """Rodrigues' formula for the rotation from a to b, on one vector."""
    axis, cosine = np.cross(a, b), a @ b
    return offset * cosine + np.cross(axis, offset) + axis * (axis @ offset) / (1 + cosine)


def test_a_face_against_a_slow_twin(folder):
    seed, number, expression = 3, 5, FACESCAPE.index("grin")
    chosen = ict_twin.preparation().vertex_index
    generic = read_generic(folder)
    generator = load_ict_faces(folder, generic, chosen)
    found = generator.faces(seed, number, [expression])[0]

    whole = load_ict_faces(folder, generic)
    neutral, triangles = whole.neutral.astype(float), generic.triangles
    subject = draw_subject(seed, number)
    identity = neutral + sum(w * m for w, m in zip(subject.identity, whole.modes, strict=True))
    random = random_stream(seed, MESH_STREAM, number, expression)
    weights = draw_activations(subject, expression_table().apex(expression), random)
    noise = 0.05 * random.standard_normal((len(neutral), 3), dtype=np.float32)
    expected = []
    for v in chosen:
        offset = sum(w * shape[v] for w, shape in zip(weights, whole.shapes, strict=True))
        ratio = naive_edge(identity, triangles, v) / naive_edge(neutral, triangles, v)
        normals = (naive_normal(x, triangles, v) for x in (neutral, identity))
        turned = naive_turn(offset, *normals) * min(max(ratio, 0.5), 2)
        expected.append(identity[v] + turned + noise[v])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(generator.neutral_face(seed, number), identity[chosen], atol=1e-4)
    at_rest = generator.faces(seed, number, [0])[0] - identity[chosen]
    assert at_rest.std() == pytest.approx(0.05, rel=0.2)


def test_a_face_depends_on_nothing_that_is_made_beside_it(folder):
    source = open_ict(folder, subjects=4)
    reader = pickle.loads(pickle.dumps(source.reader(ict_twin.preparation(), EVERYBODY)))
    whole = reader.read(range(40, 60))
    some = reader.read([57, 41])
    np.testing.assert_array_equal(some.faces, whole.faces[[17, 1]])
    np.testing.assert_array_equal(some.neutral, whole.neutral)
    assert np.abs(reader.read([1]).faces[0] - whole.faces[1]).mean() > 0.1
    other = open_ict(folder, subjects=4, seed=1).reader(ict_twin.preparation(), EVERYBODY)
    assert np.abs(other.read([41]).faces[0] - whole.faces[1]).mean() > 0.1


def test_raw_meshes_are_the_set_in_full(folder):
    reader = open_ict(folder, subjects=3, seed=7).reader(ict_twin.preparation(), EVERYBODY)
    meshes = list(ict_twin.raw_meshes(folder, 7, 2, ["neutral", "anger"]))
    assert [mesh.name for mesh in meshes] == ["0002_neutral", "0002_anger"]
    for mesh, face in zip(meshes, reader.read([40, 43]).faces, strict=True):
        prepared = ict_twin.preparation().apply(mesh, None)
        np.testing.assert_allclose(prepared, face, atol=1e-4)


def test_labels(folder):
    source = open_ict(folder, subjects=20, seed=2, validation=0.25)
    labels = source.labels
    assert len(labels.names) == 400 and labels.names[21] == "0001_smile"
    assert list(labels.expressions) == FACESCAPE
    assert (labels.level == (labels.expression > 0)).all() and labels.level.dtype == np.float32
    by_subject = labels.split.reshape(20, 20)
    assert (by_subject == by_subject[:, :1]).all()
    assert np.bincount(by_subject[:, 0]).tolist() == [10, 6, 4]
    assert sorted(row for block in source.blocks() for row in block) == list(range(400))


def test_another_folder(tmp_path):
    with pytest.raises(InputError, match=r"no generic_neutral_mesh.obj; expected .* https://"):
        open_source("ict", tmp_path, {})


def test_other_topology_than_the_maps(folder):
    with pytest.raises(InputError, match=rf"36 vertices .* expected 26719 and {RAW_TOPOLOGY}"):
        open_ict(folder).preparation(EVERYBODY, print)


def test_shapes_that_do_not_fit(tmp_path):
    folder = ict_twin.write_folder(tmp_path)
    vertices, triangles = ict_twin.raw_neutral()
    (folder / "jawOpen.obj").rename(folder / "jawAjar.obj")
    source = open_ict(folder, subjects=2)
    with pytest.raises(InputError, match=r"jawOpen.obj is missing"):
        source.reader(ict_twin.preparation(), EVERYBODY)
    ict_twin.write(folder / "jawOpen.obj", np.vstack([vertices, vertices[:1]]), triangles)
    with pytest.raises(InputError, match=r"jawOpen.obj has 37 vertices, generic.*obj has 36"):
        source.reader(ict_twin.preparation(), EVERYBODY)


def test_a_map_for_other_meshes(folder):
    chosen, triangles = load_ict_map()
    other = ict_twin.preparation()
    strange = type(other)(triangles, chosen, 26719, RAW_TOPOLOGY, 10.0)
    with pytest.raises(InputError, match=rf"for raw meshes of topology {RAW_TOPOLOGY}"):
        open_ict(folder, subjects=2).reader(strange, EVERYBODY)


def test_the_map_that_ships():
    chosen, triangles = load_ict_map()
    assert (chosen.shape, triangles.shape) == ((4601,), (9000, 3))
    assert (np.diff(chosen) > 0).all() and chosen.max() < NARROW_VERTICES
    assert set(triangles.ravel().tolist()) == set(range(len(chosen)))
    assert len({tuple(sorted(t)) for t in triangles.tolist()}) == len(triangles)


REAL = os.environ.get("FACEDIS_ICT", "")
real = pytest.mark.skipif(not REAL, reason="FACEDIS_ICT does not name the folder FaceXModel")


@pytest.fixture(scope="module")
def generic():
    return read_generic(Path(REAL))


@pytest.fixture(scope="module")
def generator(generic):
    return load_ict_faces(Path(REAL), generic, load_ict_map().vertex_index)


@real
def test_the_map_can_be_made_anew(generic):
    pytest.importorskip("fast_simplification", minversion="0.2")
    for shipped, made in zip(load_ict_map(), build_ict_map(generic), strict=True):
        np.testing.assert_array_equal(made, shipped)


@real
def test_the_map_turns_no_triangle(generic):
    from test_simplification import check_map

    narrow = generic.triangles[(generic.triangles < NARROW_VERTICES).all(axis=1)]
    check_map(generic.vertices * 10, narrow, *load_ict_map())


@real
def test_real_expressions_look_like_their_names(generator):
    table = expression_table()
    rest = generator.neutral[generator.in_frame]

    def moves(expression, place):
        """Offset (3,) mm at the vertex that is nearest to `place` on the generic face."""
        nearest = np.linalg.norm(rest - place, axis=1).argmin()
        apex = table.apex(FACESCAPE.index(expression)).astype(np.float32)
        return np.tensordot(apex, generator.shapes[:, nearest], 1)

    chin, corner, brow = (0, -68, 109), (24, -35, 102), (25, 58, 100)
    lid, cheek = (34, 41, 97), (45, -37, 85)
    assert moves("mouth_stretch", chin)[1] < -20
    assert moves("jaw_left", chin)[0] > 5 and moves("jaw_right", chin)[0] < -5
    assert moves("jaw_forward", chin)[2] > 5
    assert moves("mouth_left", corner)[0] > 5 and moves("mouth_right", corner)[0] < -3
    assert moves("smile", corner)[1] > 6 and moves("sadness", corner)[1] < -1
    assert moves("brow_raiser", brow)[1] > 4
    assert moves("brow_lower", brow)[1] < -2 and moves("anger", brow)[1] < -2
    assert moves("eye_closed", lid)[1] < -5
    assert moves("cheek_blowing", cheek)[0] > 3
    assert moves("lip_puckerer", corner)[0] < -3


@real
def test_real_faces_prepared_and_raw(generic, generator):
    face = generator.faces(11, 4, [1])[0]
    mesh = next(ict_twin.raw_meshes(Path(REAL), 11, 4, ["smile"]))
    assert mesh.vertices.shape == (26719, 3)
    prepared = open_ict(Path(REAL), subjects=2).preparation(EVERYBODY, print).apply(mesh, None)
    np.testing.assert_allclose(prepared, face, atol=1e-3)
    assert 120 < np.ptp(prepared[:, 0]) < 180
