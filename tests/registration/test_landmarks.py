"""Landmarks and poses: names, files, the pose they give, mistakes that are told."""

import json

import numpy as np
import pytest
from raising import raises
from scipy.spatial import cKDTree

from facedis_core.errors import ErrorCode
from facedis_core.geometry.alignment import RigidTransform, rotation_about
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.fit import Fit, FitOptions, fit_face
from facedis_core.registration.landmark_files import read_landmarks, read_poses
from facedis_core.registration.landmarks import VERTICES, Anchors, anchored_pose, find_anchors
from facedis_core.registration.pairing import Surface
from facedis_core.registration.prior import match_prior
from facedis_core.registration.registration import find_face, register
from facedis_core.registration.search import _unit_of, as_pose

NAMES = VERTICES["8ab3c6fcb4f9"]
TURN = rotation_about(np.array([0.6, 0.0, 0.8]), 2.0)
SHIFT = np.array([100.0, 20, 300])


@pytest.fixture(scope="module")
def model():
    return load_model("ict-linear")


@pytest.fixture(scope="module")
def chosen(model, prior):
    return match_prior(model, prior)


@pytest.fixture(scope="module")
def head():
    return read_mesh(weights_folder() / "examples" / "alice_mouth_stretch.ply")


@pytest.fixture(scope="module")
def surface(prior, head):
    """The narrow face, turned and moved."""
    face = head.vertices[prior.preparation.vertex_index].astype(np.float64)
    points = face @ TURN.T + SHIFT
    return Surface(points, prior.normals(points), cKDTree(points), 2.0)


def landmarks_of(head, names=tuple(NAMES)):
    return {name: head.vertices[NAMES[name]] @ TURN.T + SHIFT for name in names}


def test_landmarks_lie_where_their_names_say(model):
    x, y, z = (model.mean_face[list(NAMES.values())].T).astype(float)
    at = {name: k for k, name in enumerate(NAMES)}
    assert at["nose_tip"] == np.argmax(z)
    assert at["chin"] == np.argmin(y)
    for name, k in at.items():
        side = np.sign(x[k]) if abs(x[k]) > 1 else 0
        assert side == {"left": 1, "right": -1}.get(name.partition("_")[0], 0)
    assert abs(x[at["left_eye_outer"]]) > abs(x[at["left_eye_inner"]]) + 20
    assert y[at["nose_root"]] > y[at["nose_tip"]] > y[at["nose_base"]] > y[at["upper_lip"]]
    assert y[at["upper_lip"]] > y[at["left_mouth_corner"]] > y[at["lower_lip"]] > y[at["chin"]]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Nose Tip", "nose_tip"),
        ("pronasale", "nose_tip"),
        ("nasion", "nose_root"),
        ("subnasale", "nose_base"),
        ("LeftMouthCorner", "left_mouth_corner"),
        ("mouth.right", "right_mouth_corner"),
        ("eye_l_outer", "left_eye_outer"),
        ("en_r", "right_eye_inner"),
        ("outer corner of the left eye", "left_eye_outer"),
        ("mouth_upper_lip", "upper_lip"),
        ("lip lower", "lower_lip"),
        ("Pogonion", "chin"),
    ],
)
def test_names(prior, chosen, given, meant):
    others = [name for name in ("nose_root", "chin", "nose_base", "lower_lip") if name != meant]
    landmarks = dict.fromkeys([given, *others], (1, 2, 3))
    found = find_anchors(landmarks, prior, chosen)
    assert prior.preparation.vertex_index[found.vertex[0]] == NAMES[meant]


def test_vertex_numbers(prior, chosen):
    found = find_anchors({4857: (0, 0, 0), "978": (1, 0, 0), "966": (2, 0, 0)}, prior, chosen)
    assert prior.preparation.vertex_index[found.vertex].tolist() == [4857, 978, 966]
    for number in ("26718", "99999"):
        with raises(ErrorCode.NAME_UNKNOWN, number):
            find_anchors({number: (0, 0, 0)}, prior, chosen)


def test_the_pose_of_landmarks(prior, chosen, head, surface):
    for names in (NAMES, ("nose_tip", "left_eye_outer", "right_eye_outer")):
        anchors = find_anchors(landmarks_of(head, names), prior, chosen)
        pose = anchored_pose(anchors, prior, surface)
        turned = np.degrees(np.arccos((np.trace(pose.rotation @ TURN.T) - 1) / 2))
        assert turned < 8


def swapped(landmarks):
    other = {"left": "right", "right": "left"}
    return {
        "_".join(other.get(word, word) for word in name.split("_")): point
        for name, point in landmarks.items()
    }


FLAT = ("left_eye_outer", "right_eye_outer", "left_mouth_corner", "right_mouth_corner")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: swapped(p), "swapped"),
        (lambda p: swapped({name: p[name] for name in FLAT}), "swapped"),
        (lambda p: {name: point / 1000 for name, point in p.items()}, "unit"),
        (lambda p: {**p, "nose_tip": p["chin"], "chin": p["nose_root"]}, "check their names"),
        (lambda p: {name: p["chin"] + k for k, name in enumerate(p)}, "line"),
    ],
)
def test_wrong_landmarks(prior, chosen, head, surface, change, words):
    anchors = find_anchors(change(landmarks_of(head)), prior, chosen)
    with raises(ErrorCode.OUTLIER, words):
        anchored_pose(anchors, prior, surface)


@pytest.mark.parametrize(
    ("landmarks", "code", "words"),
    [
        ({"nose_tip": (1, 2, 3), "chin": (1, 2, 4)}, ErrorCode.NAME_UNKNOWN, "2 known landmarks"),
        (dict.fromkeys("abcd", (1, 2, 3)), ErrorCode.NAME_UNKNOWN, "expected at least 3 of nose"),
        (dict.fromkeys(("nose_tip", "chin", "upper_lip"), (1, 2)), ErrorCode.ARRAY_SHAPE, "three"),
    ],
)
def test_landmarks_that_say_nothing(prior, chosen, landmarks, code, words):
    with raises(code, words):
        find_anchors(landmarks, prior, chosen)


def test_landmarks_draw_a_fit_along_the_surface(prior, surface):
    # a flat scan, on which distances along normals say nothing of where the face is
    flat = np.mgrid[-80:80:3, -80:80:3, 100:101].reshape(3, -1).T.astype(np.float64)
    scan = Surface(flat, np.tile([0, 0, 1.0], (len(flat), 1)), cKDTree(flat), 3.0)
    vertex = np.arange(0, len(prior.mean), 400)
    anchors = Anchors(("",) * len(vertex), vertex, prior.mean[vertex] + [4.0, 0, 0])
    start = Fit(np.zeros(1), np.eye(3), np.zeros(3))
    options = FitOptions(iterations=4, components=10, vertices=200, data_weight=1.0)
    free = fit_face(prior, scan, start, options)
    drawn = fit_face(prior, scan, start, options, anchors)

    def missed(fit):
        placed = fit.place(prior.face(fit.coefficients))
        return np.linalg.norm(placed[vertex] - anchors.points, axis=1)

    assert missed(drawn).mean() < 0.2 * missed(free).mean()


PP = """<!DOCTYPE PickedPoints>
<PickedPoints><DocumentData/>
<point x="1.5" y="2" z="-3" active="1" name="nose_tip"/>
<point x="0" y="0" z="0" active="0" name="chin"/>
</PickedPoints>"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,x,y,z\nnose_tip,1.5,2,-3\n"),
        ("a.csv", '\ufeff"nose_tip";1.5;2;-3\r\n\r\n'),
        ("a.json", '{"nose_tip": [1.5, 2, -3]}'),
        ("a.json", '[{"name": "nose_tip", "x": 1.5, "y": 2, "z": -3}]'),
        (
            "a.json",
            '{"markups": [{"controlPoints": [{"label": "nose_tip", "position": [1.5, 2, -3]}]}]}',
        ),
        ("a.pp", PP),
    ],
)
def test_files_of_landmarks(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    assert read_landmarks(tmp_path / name) == {"nose_tip": (1.5, 2.0, -3.0)}


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.txt", "", "unsupported"),
        ("a.csv", "1,2,3\n", "csv-syntax"),
        ("a.csv", "nose_tip,a,2,3\n", "csv-value"),
        ("a.csv", ",1,2,3\n", "csv-value"),
        ("a.csv", "a,1,2,3\na,1,2,3\n", "name-duplicate"),
        ("a.json", "[1]", "wrong-kind"),
        ("a.json", '{"a": 1}', "csv-value"),
        ("a.pp", "<point", "wrong-kind"),
        ("a.pp", '<!DOCTYPE a [<!ENTITY b "c">]><a/>', "unsupported"),
    ],
)
def test_files_that_hold_no_landmarks(tmp_path, name, text, code):
    (tmp_path / name).write_text(text)
    with raises(code, name):
        read_landmarks(tmp_path / name)


def test_files_of_poses(tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TURN / 10, SHIFT / 10
    np.savetxt(tmp_path / "a.txt", matrix)
    (tmp_path / "a.json").write_text(json.dumps(matrix.tolist()))
    record = {"name": "x", "rotation": TURN.tolist(), "translation": [10, 2, 30.0], "scale": 0.1}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    for name, key in (("a.txt", None), ("a.json", None), ("a.jsonl", "x")):
        np.testing.assert_allclose(read_poses(tmp_path / name)[key], matrix, atol=1e-12)
    for text in ("1 2 3", '{"name": "x"}'):
        (tmp_path / "b.txt").write_text(text)
        with raises(ErrorCode.WRONG_KIND, "b.txt"):
            read_poses(tmp_path / "b.txt")
    pose = as_pose(matrix)
    assert _unit_of(pose) == "cm"
    np.testing.assert_allclose(pose.rotation, TURN, atol=1e-9)


@pytest.mark.parametrize(
    "pose", [np.eye(3), np.diag([1, 1, -1, 1]), np.diag([1, 2, 1, 1]), np.full((4, 4), np.nan)]
)
def test_poses_that_are_none(pose):
    with raises(ErrorCode.ARRAY_SHAPE):
        as_pose(pose)
    with raises(ErrorCode.UNIT):
        _unit_of(RigidTransform(np.eye(3), np.zeros(3), 0.5))


def test_a_pose_far_from_the_scan(model, prior, surface):
    away = RigidTransform(np.eye(3), np.array([0, 900.0, 0]))
    scan = Mesh(surface.points, prior.triangles, "face", 1.0)
    with raises(ErrorCode.NO_FACE, "check the pose"):
        find_face(scan, prior, pose=away)


@pytest.mark.slow
def test_a_scan_with_landmarks_or_a_pose(model, head):
    scan = Mesh(head.vertices @ TURN.T + SHIFT, head.triangles, "alice", 1.0)
    truth = scan.vertices.astype(np.float64)
    by_points = register(scan, model, landmarks=landmarks_of(head))
    assert set(by_points.landmark_mm) == set(NAMES)
    assert np.mean(list(by_points.landmark_mm.values())) < 1.5
    known = ~np.isnan(by_points.distance_mm)
    by_pose = register(scan, model, pose=by_points.to_scan)
    for found in (by_points, by_pose):
        placed = found.to_scan.apply(found.mesh.vertices.astype(np.float64))
        assert np.linalg.norm(placed - truth, axis=1)[known].mean() < 1
    with raises(ErrorCode.OUTLIER, "alice: left and right"):
        register(scan, model, landmarks=swapped(landmarks_of(head)))
