"""The open benchmark as a data set: labels, faces and raw meshes; the real data where they are."""

import os
import pickle
from pathlib import Path

import ict_twin
import numpy as np
import pytest
import trees
from prepared import check_map, prepare
from raising import raises

from facedis_core.data.regions import ICT_NARROW_FACE, ICT_SKIN, ICT_TOPOLOGY
from facedis_core.datasets.ict import (
    build_ict_map,
    load_ict_faces,
    load_ict_map,
    open_ict,
    read_generic,
)
from facedis_core.datasets.ict_synthesis import (
    Variation,
    draw_activations,
    draw_subject,
    expression_table,
)
from facedis_core.datasets.protocols import MESH_STREAM, random_stream
from facedis_core.datasets.source import open_source
from facedis_core.geometry.surface import triangle_normals

EVERYBODY = np.zeros(0, int)  # the source makes no difference between faces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ict_twin.write_folder(tmp_path_factory.mktemp("FaceXModel"))


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
    assert tuple(labels.expressions) == trees.FACESCAPE_EXPRESSIONS
    assert (labels.level == (labels.expression > 0)).all() and labels.level.dtype == np.float32
    by_subject = labels.split.reshape(20, 20)
    assert (by_subject == by_subject[:, :1]).all()
    assert np.bincount(by_subject[:, 0]).tolist() == [10, 6, 4]
    assert sorted(row for block in source.blocks() for row in block) == list(range(400))
    with raises("option-value"):
        open_ict(folder, subjects=0)


def test_another_folder(tmp_path):
    with raises("layout", r"generic_neutral_mesh\.obj.*https://"):
        open_source("ict", tmp_path, {})


def test_other_topology_than_the_maps(folder):
    with raises("topology", rf"36 .*26719 .*{ICT_TOPOLOGY}"):
        open_ict(folder).preparation(EVERYBODY, print)


def test_shapes_that_leave_nothing_at_rest(tmp_path):
    folder = ict_twin.write_folder(tmp_path)
    vertices, triangles = ict_twin.raw_neutral()
    ict_twin.write(folder / "jawOpen.obj", vertices + 1, triangles)
    with raises("layout", "move every vertex"):
        open_ict(folder, subjects=2).reader(ict_twin.preparation(), EVERYBODY)


def test_captured_frames_take_the_place_of_expressions(folder, tmp_path):
    recording = tmp_path / "take.csv"
    recording.write_text("JawOpen,MouthLeft\n0,0\n0.5,0\n0.4,1\n")
    source = open_ict(folder, subjects=3, captured=recording)
    assert source.labels.names[3:6] == ["0001_neutral", "0001_frame0001", "0001_frame0002"]
    assert source.labels.level.tolist() == [0, 1, 1] * 3 and set(source.inputs) == {"captured"}
    assert [list(block) for block in source.blocks()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    read = source.reader(ict_twin.preparation(), EVERYBODY).read([3, 5])
    np.testing.assert_allclose(read.faces[0], read.neutral, atol=0.3)  # noise of 0.05 mm
    expected = ict_twin.slow_face(folder, 0, 1, {"jawOpen": 0.4, "mouthLeft": 1}, 2)
    np.testing.assert_allclose(read.faces[1], expected, atol=1e-3)


def test_shapes_that_do_not_fit(tmp_path):
    folder = ict_twin.write_folder(tmp_path)
    vertices, triangles = ict_twin.raw_neutral()
    (folder / "jawOpen.obj").rename(folder / "jawAjar.obj")
    source = open_ict(folder, subjects=2)
    with raises("file-missing", r"jawOpen\.obj"):
        source.reader(ict_twin.preparation(), EVERYBODY)
    ict_twin.write(folder / "jawOpen.obj", np.vstack([vertices, vertices[:1]]), triangles)
    with raises("vertex-count", r"jawOpen\.obj .*37.*36"):
        source.reader(ict_twin.preparation(), EVERYBODY)


def test_a_map_for_other_meshes(folder):
    chosen, triangles = load_ict_map()
    other = ict_twin.preparation()
    strange = type(other)(triangles, chosen, 26719, ICT_TOPOLOGY, 10.0)
    with raises("topology", ICT_TOPOLOGY):
        open_ict(folder, subjects=2).reader(strange, EVERYBODY)


def test_the_map_that_ships():
    chosen, triangles = load_ict_map()
    assert (chosen.shape, triangles.shape) == ((4601,), (9000, 3))
    assert (np.diff(chosen) > 0).all() and chosen.max() < ICT_NARROW_FACE
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
    narrow = generic.triangles[(generic.triangles < ICT_NARROW_FACE).all(axis=1)]
    check_map(generic.vertices * 10, narrow, *load_ict_map())


@real
@pytest.mark.slow
def test_real_expressions_look_like_their_names(generator):
    table = expression_table()
    rest = generator.neutral[:ICT_SKIN]

    def moves(expression, place):
        """Offset (3,) mm at the vertex that is nearest to `place` on the generic face."""
        nearest = np.linalg.norm(rest - place, axis=1).argmin()
        apex = table.apexes[trees.FACESCAPE_EXPRESSIONS.index(expression)].astype(np.float32)
        gradients = np.tensordot(apex[None], generator.gradients, 1)
        return generator.transfer.displacements(generator.neutral[:ICT_SKIN], gradients)[0, nearest]

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
@pytest.mark.slow
def test_real_faces_prepared_and_raw(generic, generator):
    face = generator.faces(11, 4, [1])[0]
    mesh = next(ict_twin.raw_meshes(Path(REAL), 11, 4, ["smile"]))
    assert mesh.vertices.shape == (26719, 3)
    prepared = open_ict(Path(REAL), subjects=2, simplify=9000).preparation(EVERYBODY, print)
    placed = prepared.apply(mesh, None)
    np.testing.assert_allclose(placed, face, atol=1e-3)
    assert 120 < np.ptp(placed[:, 0]) < 180


@real
@pytest.mark.slow
def test_whole_heads_and_their_region(generic, tmp_path):
    made = prepare("ict", Path(REAL), tmp_path / "set.safetensors", subjects=2)
    assert made.set.vertices.shape == (40, 26719, 3)
    np.testing.assert_array_equal(made.set.preparation.triangles, generic.triangles)
    assert made.set.region.tolist() == [k < ICT_NARROW_FACE for k in range(26719)]
    few = prepare("ict", Path(REAL), tmp_path / "few.safetensors", subjects=2, simplify=9000)
    assert few.set.region is None
    chosen = few.set.preparation.vertex_index
    np.testing.assert_array_equal(chosen, load_ict_map().vertex_index)
    np.testing.assert_array_equal(few.set.vertices, made.set.vertices[:, chosen])
    fewer = prepare("ict", Path(REAL), tmp_path / "fewer.safetensors", subjects=2, simplify=2000)
    assert 900 < fewer.set.vertices.shape[1] < 1100


@real
@pytest.mark.slow
def test_expressions_fold_hardly_more_triangles_than_plain_addition(generic):
    """Deformation transfer against the generic offsets added to each neutral, on the whole face."""
    everybody = load_ict_faces(Path(REAL), generic)
    skin = slice(0, ICT_SKIN)
    generic_moves = everybody.transfer.displacements(everybody.neutral[skin], everybody.gradients)
    triangles = generic.triangles[(generic.triangles < ICT_NARROW_FACE).all(axis=1)]
    silent = Variation(noise_mm=0.0)
    for person in range(3):
        subject, neutral = draw_subject(0, person), everybody.neutral_face(0, person)
        before = triangle_normals(neutral, triangles)

        def folded(face, before=before):
            """Number of triangles turned over against the neutral."""
            return int(((triangle_normals(face, triangles) * before).sum(axis=1) < 0).sum())

        shown = list(range(len(everybody.table.expressions)))
        for k, face in zip(shown, everybody.faces(0, person, shown, silent), strict=True):
            apex = everybody.table.apexes[k]
            weights = draw_activations(subject, apex, random_stream(0, MESH_STREAM, person, k))
            plain = neutral[skin] + np.tensordot(weights, generic_moves, 1)
            assert folded(face) <= folded(plain) + 30, (person, k)
