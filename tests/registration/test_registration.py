"""Registration of simulated scans of the example faces, and its steps against slow truths."""

import dataclasses
import json
from unittest import mock

import fast_simplification
import numpy as np
import pytest
from raising import raises
from scipy.spatial import cKDTree
from simulated_scans import simulate_scan

from facedis_core.data.units import UNITS_MM
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform, rotation_about
from facedis_core.geometry.distances import vertex_distance
from facedis_core.geometry.surface import triangle_normals, unit_vectors, vertex_normals
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.features import BINS, point_features
from facedis_core.registration.fit import Fit, FitOptions, fit_face
from facedis_core.registration.lips import lip_gap, with_closed_lips
from facedis_core.registration.outside import seen_from_outside
from facedis_core.registration.pairing import Surface
from facedis_core.registration.pose import find_poses
from facedis_core.registration.prior import Limits, read_prior, write_prior
from facedis_core.registration.refusal import doubt, is_doubtful, refusal
from facedis_core.registration.registration import Registration, find_face, finished, register
from facedis_core.registration.scan import RawScan, consistent_normals, plane_normals
from facedis_core.registration.search import Attempt, unit_candidates

EXAMPLES = weights_folder() / "examples"
MODULE = "facedis_core.registration.search"


@pytest.fixture(scope="module")
def model():
    return load_model("ict-pointnet")


def narrow_face(model, name):
    """An example face, of the vertices of the prior."""
    return Mesh(model.prepare(read_mesh(EXAMPLES / f"{name}.ply")), model.triangles, name, 1.0)


def angle(rotation):
    """Degrees."""
    return np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))


@pytest.mark.parametrize(
    ("name", "kind", "limit"),
    [
        ("alice_smile", "cloud", 1.2),
        pytest.param("bob_mouth_stretch", "single_view", 1.5, marks=pytest.mark.slow),
    ],
)
def test_a_scan_in_any_pose_and_unit(model, prior, name, kind, limit):
    truth = narrow_face(model, name)
    scan = simulate_scan(
        truth.vertices, truth.triangles, seed=3, kind=kind, density=(8000, 9000), clutter=False
    )
    steps = []
    found = register(scan.mesh, model, prior=prior, progress=steps.append)
    assert steps == ["preparing", "pose", "expression", "fit"]
    assert UNITS_MM[found.unit] == scan.unit_mm
    assert angle(found.to_scan.rotation @ scan.rotation.T) < 6
    assert np.array_equal(found.mesh.triangles, model.triangles)
    assert found.mesh.unit_mm == 1.0 and not found.problem
    face = found.mesh.vertices.astype(np.float64)
    placed = found.to_scan.apply(face) * scan.unit_mm
    error = np.linalg.norm(placed - scan.to_scan(truth.vertices), axis=1)
    assert error.mean() < limit
    assert error[found.observed].mean() < limit
    assert (np.isnan(found.distance_mm) == ~found.observed).all()
    assert np.nanmean(found.distance_mm) < 0.4
    assert found.mouth_mm < 0.5 and not found.mouth_is_doubtful
    assert found.coverage > 0.7 and found.margin_mm > 0.2
    recorded = found.as_json()
    assert recorded["unit"] == found.unit and recorded["problem"] == ""


def turned_in_metres(head):
    turn = rotation_about(np.array([0.6, 0.0, 0.8]), 2.0)
    return Mesh((head.vertices @ turn.T + [100, 20, 300]) / 1000, head.triangles, "turned")


def decimated(head):
    points, triangles = fast_simplification.simplify(
        head.vertices, head.triangles, target_reduction=0.7
    )
    return Mesh(points, triangles, "decimated", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("alice_mouth_stretch", lambda head: head),
        ("bob_neutral", turned_in_metres),
        ("alice_smile", decimated),
    ],
)
def test_a_whole_head_with_eyes_and_teeth(model, prior, name, change):
    head = read_mesh(EXAMPLES / f"{name}.ply")
    found = register(change(head), model, prior=prior)
    truth = narrow_face(model, name).vertices
    placed = found.to_scan.apply(found.mesh.vertices.astype(np.float64))
    if found.unit == "m":
        truth = turned_in_metres(Mesh(truth, model.triangles)).vertices
    error = np.linalg.norm(placed - truth, axis=1) * UNITS_MM[found.unit]
    assert error.mean() < 1.0


def test_what_is_inside_a_head_is_not_seen():
    head = read_mesh(EXAMPLES / "alice_neutral.ply")
    normals = triangle_normals(head.vertices, head.triangles).astype(np.float64)
    area = np.linalg.norm(normals, axis=1)
    random = np.random.default_rng(0)
    chosen = random.choice(len(area), 20000, p=area / area.sum())
    weights = random.dirichlet(np.ones(3), len(chosen))
    points = (weights[:, :, None] * head.vertices[head.triangles[chosen]]).sum(axis=1)
    seen = seen_from_outside(points, unit_vectors(normals[chosen]), points, 3.0)
    first = head.triangles[chosen].max(axis=1)
    assert seen[first < 11248].mean() > 0.95  # face, head and neck
    assert seen[(first >= 14062) & (first < 24591)].mean() < 0.05  # gums, teeth, eyeballs


def test_a_single_sheet_hides_nothing(model):
    face = narrow_face(model, "bob_smile")
    points = face.vertices.astype(np.float64)
    normals = vertex_normals(points, face.triangles)
    assert seen_from_outside(points, -normals, points, 2.5).mean() > 0.93  # not nostrils
    assert len(seen_from_outside(points[:0], normals[:0], points, 2.5)) == 0


def test_a_ball_is_no_face(model, prior):
    points = np.random.default_rng(0).standard_normal((3000, 3))
    points *= 95 / np.linalg.norm(points, axis=1, keepdims=True)
    ball = Mesh(points, np.empty((0, 3), np.int32), "ball")
    once = mock.patch("facedis_core.registration.pose.ATTEMPTS", 1)  # is enough for a test
    with once, raises(ErrorCode.NO_FACE, "ball: "):
        register(ball, model, prior=prior, units="mm")


SOUND = Fit(
    np.zeros(1),
    np.eye(3),
    np.zeros(3),
    residual_mm=0.2,
    scan_residual_mm=0.2,
    coverage=0.9,
    prior_distance=1.0,
)


@pytest.mark.parametrize(
    ("change", "margin", "code"),
    [
        ({}, 0.5, ""),
        ({}, np.inf, ""),
        ({"coverage": 0.1}, 0.5, ErrorCode.NO_FACE),
        ({"residual_mm": 3.0}, 0.5, ErrorCode.NO_FACE),
        ({"residual_mm": 0.55, "roughness_mm": 0.5}, 0.5, ""),  # noise
        ({"residual_mm": 0.55, "roughness_mm": 0.1}, 0.5, ErrorCode.NO_FACE),
        ({"residual_mm": 3.0, "roughness_mm": 5.0}, 0.5, ErrorCode.NO_FACE),  # leaves of a tree
        ({"scan_residual_mm": 2.0}, 0.5, ErrorCode.NO_FACE),
        # a stranger, and the back of a head, whose fits are as far from the scan
        ({"residual_mm": 0.47, "prior_distance": 1.41}, 0.5, ""),
        ({"residual_mm": 0.48, "prior_distance": 1.65}, 0.5, ErrorCode.NO_FACE),
        ({"scan_residual_mm": 0.7, "prior_distance": 1.23}, 0.5, ""),
        ({"scan_residual_mm": 0.7, "prior_distance": 1.65}, 0.5, ErrorCode.NO_FACE),
        ({"scan_residual_mm": 1.4}, 0.5, ""),  # hair over the forehead, which is told
        ({"scan_residual_mm": 1.4, "coverage": 0.6}, 0.5, ErrorCode.NO_FACE),
        ({"prior_distance": 5.0}, 0.5, ErrorCode.FAR_FACE),
        ({}, 0.001, ErrorCode.POSE_AMBIGUOUS),
    ],
)
def test_limits(change, margin, code):
    found = refusal(dataclasses.replace(SOUND, **change), margin, Limits())
    assert (found.code if found else "") == code


def test_what_lies_before_a_face_is_told():
    assert not doubt(dataclasses.replace(SOUND, scan_residual_mm=0.7), Limits())
    assert "hair" in doubt(dataclasses.replace(SOUND, scan_residual_mm=1.4), Limits())


def test_an_unlikely_face_loses_and_has_others_tried():
    # a wide-open mouth fitted by a closed one, 4 mm wrong, and the right fit
    wrong = dataclasses.replace(
        SOUND, residual_mm=0.331, scan_residual_mm=0.389, coverage=0.93, prior_distance=1.38
    )
    right = dataclasses.replace(
        SOUND, residual_mm=0.206, scan_residual_mm=0.452, coverage=0.91, prior_distance=0.86
    )
    assert wrong.cost < right.cost and wrong.score > right.score
    assert is_doubtful(wrong) and not is_doubtful(SOUND)


def poses_of(*costs):
    """A mock of the search for poses that finds poses of these costs."""
    poses = [
        dataclasses.replace(SOUND, coverage=1.0, residual_mm=cost, scan_residual_mm=0.0)
        for cost in costs
    ]
    return mock.patch("facedis_core.registration.pose.find_poses", return_value=poses)


@pytest.mark.parametrize("costs", [[2.3, 2.31], [5.9]])  # a ball is alike from all sides
def test_scans_refused_for_their_poses_are_not_fitted(model, prior, costs):
    fits = mock.patch(f"{MODULE}._fitted", side_effect=AssertionError)
    with poses_of(*costs), fits, raises(ErrorCode.NO_FACE, "pass --force-register"):
        register(narrow_face(model, "alice_neutral"), model, prior=prior)


def test_of_two_poses_that_fit_alike_the_better_fit_is_taken(model, prior):
    scan = narrow_face(model, "alice_neutral")
    near = RawScan(scan, 1.0).coarse
    face = Attempt("mm", None, SOUND, near, np.zeros(3))
    cheek = dataclasses.replace(SOUND, coverage=0.4)
    side = dataclasses.replace(face, problem=InputError("cheek", ErrorCode.NO_FACE), fit=cheek)
    with poses_of(1.90, 1.92), mock.patch(f"{MODULE}._fitted", side_effect=[side, face]):
        found = find_face(scan, prior)
    assert found.fit is SOUND and found.margin_mm == pytest.approx(cheek.score - SOUND.score)
    with (
        poses_of(0.90, 0.92),
        mock.patch(f"{MODULE}._fitted", side_effect=[face, face]),
        raises(ErrorCode.POSE_AMBIGUOUS),
    ):
        find_face(scan, prior)
    with poses_of(0.90, 1.92), mock.patch(f"{MODULE}._fitted", side_effect=[face]):
        assert find_face(scan, prior).margin_mm == pytest.approx(1.02)


def test_two_faces_in_one_scan_are_told(model, prior):
    scan = narrow_face(model, "alice_neutral")
    near = RawScan(scan, 1.0).coarse
    away = dataclasses.replace(SOUND, translation=np.array([170.0, 0, 0]))
    found = [Attempt("mm", None, fit, near, np.zeros(3)) for fit in (SOUND, away)]
    poses = [dataclasses.replace(pose, residual_mm=mm) for pose, mm in ((SOUND, 0.6), (away, 0.9))]
    with (
        mock.patch("facedis_core.registration.pose.find_poses", return_value=poses),
        mock.patch(f"{MODULE}._fitted", side_effect=found * 2),
    ):
        with raises(ErrorCode.POSE_AMBIGUOUS, "two faces, 170 mm apart"):
            find_face(scan, prior)
        assert find_face(scan, prior, force=True).fit is SOUND


@pytest.mark.slow
def test_the_faces_of_two_people_are_both_found(model, prior):
    alice, bob = (narrow_face(model, name) for name in ("alice_neutral", "bob_smile"))
    points = np.concatenate([alice.vertices, bob.vertices + np.array([220, 30, 0])])
    triangles = np.concatenate([alice.triangles, bob.triangles + len(alice.vertices)])
    with raises(ErrorCode.POSE_AMBIGUOUS, "two faces"):
        find_face(Mesh(points, triangles, "two", 1.0), prior)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"units": "mile"}, ErrorCode.OPTION_VALUE),
        ({"residual": "all"}, ErrorCode.OPTION_VALUE),
        ({"scan": "scan.ply"}, ErrorCode.ARGUMENT_TYPE),
        ({"scan": Mesh(np.ones((50, 3)), np.empty((0, 3), np.int32), unit_mm=1.0)}, "no-face"),
        ({"scan": Mesh(np.full((50, 3), np.nan), np.empty((0, 3), np.int32))}, "not-finite"),
    ],
)
def test_unusable_arguments(model, prior, change, code):
    given = {"scan": read_mesh(EXAMPLES / "alice_neutral.ply"), **change}
    with raises(code):
        register(given.pop("scan"), model, prior=prior, **given)


@pytest.mark.parametrize(
    ("radius", "first"), [(0.11, "m"), (11.0, "cm"), (150.0, "mm"), (0.25, "m")]
)
def test_the_unit_by_size(radius, first):
    points = np.random.default_rng(0).standard_normal((500, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    mesh = Mesh(points, np.empty((0, 3), np.int32), "ball")
    assert unit_candidates(mesh, "auto")[0] == first
    assert unit_candidates(mesh, "inch") == ["inch"]
    assert unit_candidates(dataclasses.replace(mesh, unit_mm=1.0), "auto") == ["mm"]
    with raises(ErrorCode.UNIT):
        unit_candidates(dataclasses.replace(mesh, vertices=points * 1e5), "auto")


def test_a_fit_finds_the_face_that_the_scan_is(prior):
    rng = np.random.default_rng(1)
    truth = np.zeros(200)
    truth[:30] = rng.normal(0, 0.7, 30)
    face = prior.face(truth)
    scan = Surface(face, prior.normals(face), cKDTree(face), 2.0)
    start = Fit(np.zeros(1), np.eye(3), np.array([0, 0, 2.0]))
    found = fit_face(prior, scan, start, FitOptions(iterations=20, components=60, vertices=1000))
    assert vertex_distance(found.place(prior.face(found.coefficients)), face) < 0.6
    assert found.coverage > 0.95


@pytest.mark.parametrize("is_open", [False, True])
def test_lips_are_closed_where_the_scan_fits_closed_ones_as_well(prior, is_open):
    stretch = prior.starts[prior.expressions.index("mouth_stretch")] - prior.starts[0]
    opened = prior.starts[0] + 0.15 * stretch
    neutral, apart = (lip_gap(prior, prior.face(each)) for each in (prior.starts[0], opened))
    assert neutral + 2 < apart < neutral + 4  # mm
    face = prior.face(opened if is_open else prior.starts[0])
    scan = Surface(face, prior.normals(face), cKDTree(face), 2.0)
    fit = Fit(opened, np.eye(3), np.zeros(3))
    found = with_closed_lips(prior, scan, fit, 3000.0)
    assert (found is fit) == is_open
    assert lip_gap(prior, prior.face(found.coefficients)) < (apart if is_open else neutral) + 0.3


def test_features_do_not_depend_on_the_pose():
    rng = np.random.default_rng(2)
    points = rng.uniform(-50, 50, (300, 3))
    points[:, 2] = points[:, 0] ** 2 / 60
    normals = np.stack([-points[:, 0] / 30, 0 * points[:, 0], np.ones(300)], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)
    found = point_features(points, normals, cKDTree(points))
    moved = points @ turn.T + 7
    again = point_features(moved, normals @ turn.T, cKDTree(moved))
    assert found.shape == (300, 3 * BINS)
    # a neighbour on the border of two bins may fall into the other
    assert np.abs(found - again).mean() < 1e-3
    np.testing.assert_allclose(found.reshape(300, 3, BINS).sum(axis=2), 1, rtol=1e-5)


def test_normals_point_outward():
    rng = np.random.default_rng(3)
    points = rng.standard_normal((2000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    tree = cKDTree(points)
    normals, _ = plane_normals(points[tree.query(points, 12)[1]])
    signed = consistent_normals(points, normals, tree)
    assert ((signed * points).sum(axis=1) > 0.9).all()


def test_a_soup_of_turned_triangles(model):
    truth = narrow_face(model, "alice_neutral")
    turned = truth.triangles.copy()
    turned[::2] = turned[::2, ::-1]
    corners = truth.vertices[turned].reshape(-1, 3)
    soup = Mesh(corners, np.arange(len(corners)).reshape(-1, 3))
    whole = RawScan(truth, 1.0).coarse
    found = RawScan(soup, 1.0).coarse
    _, nearest = whole.tree.query(found.points)
    assert ((found.normals * whole.normals[nearest]).sum(axis=1) > 0.5).mean() > 0.95


def test_the_inside_of_a_mesh_may_be_out(model):
    truth = narrow_face(model, "alice_neutral")
    turned = Mesh(truth.vertices, truth.triangles[:, ::-1])
    scans = [RawScan(mesh, 1.0) for mesh in (truth, turned)]
    right, found = (scan.near(truth.vertices - scan.centre, 5.0) for scan in scans)
    _, nearest = right.tree.query(found.points)
    assert ((found.normals * right.normals[nearest]).sum(axis=1) > 0.5).mean() > 0.97


def test_loose_points_beside_a_few_triangles_are_a_cloud(model):
    face = narrow_face(model, "alice_neutral").vertices
    cloud = RawScan(Mesh(face, np.empty((0, 3), np.int32)), 1.0).coarse
    few = RawScan(Mesh(face, model.triangles[:10]), 1.0).coarse
    np.testing.assert_array_equal(few.points, cloud.points)
    used = np.unique(model.triangles[:2000])
    some = RawScan(Mesh(face, model.triangles[:2000]), 1.0).coarse  # the others were cut off
    distance, _ = cKDTree(face[used] - RawScan(Mesh(face, model.triangles), 1.0).centre).query(
        some.points
    )
    assert distance.max() < 8  # edges are shorter


def test_large_scans_are_looked_at_in_blocks(model):
    face = narrow_face(model, "bob_neutral")
    whole = RawScan(face, 1.0)
    with mock.patch("facedis_core.registration.scan.BLOCK", 700):
        parts = RawScan(face, 1.0)
        parts.centre, parts._vertices = whole.centre, whole._vertices
        near = parts.near(face.vertices[:50] - whole.centre, 10.0)
    expected = whole.near(face.vertices[:50] - whole.centre, 10.0)
    np.testing.assert_allclose(near.points, expected.points, atol=1e-6)


def test_the_roughness_of_a_plane_is_its_noise():
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(0, 80, (4000, 2)), rng.normal(0, 0.05, 4000)])
    plane = Surface(points, np.tile([0, 0, 1.0], (4000, 1)), cKDTree(points), 1.0)
    found = plane.roughness(np.arange(4000)).mean()
    assert found == pytest.approx(np.abs(points[:, 2]).mean(), 0.05)
    assert plane.roughness(np.arange(0)).shape == (0,)


def test_a_mouth_that_fits_worse_than_the_face(model, prior):
    face = prior.face(prior.starts[0])
    normals = prior.normals(face)
    wrong = face.copy()
    wrong[prior.lips] += 1.5 * normals[prior.lips]
    noisy = face + np.random.default_rng(0).normal(0, 0.6, (len(face), 1)) * normals
    every = np.arange(len(face))
    for points, far, doubtful in ((face, False, False), (wrong, True, True), (noisy, True, False)):
        near = Surface(points, normals, cKDTree(points), 2.0)
        rough = float(near.roughness(every).mean()) if points is noisy else 0.0
        fit = dataclasses.replace(SOUND, coefficients=prior.starts[0], roughness_mm=rough)
        found = finished(Attempt("mm", None, fit, near, np.zeros(3)), prior, "none", None)
        assert (found.mouth_mm > 0.4, found.mouth_is_doubtful) == (far, doubtful)


def test_other_poses_are_drawn_where_the_first_ones_are_wrong(prior):
    face = prior.face(prior.starts[0])
    scan = RawScan(Mesh(face, prior.triangles), 1.0)
    right = np.eye(3)[None], -scan.centre[None]
    wrong = np.diag([-1.0, 1, -1])[None], scan.centre[None] * 0
    for drawn in ([wrong, wrong, right, wrong], [right, wrong]):
        with mock.patch("facedis_core.registration.pose.ransac_poses", side_effect=drawn):
            found = find_poses(prior, scan)[0]
        assert np.linalg.norm(found.place(face) + scan.centre - face, axis=1).mean() < 5
    nothing = np.empty((0, 3, 3)), np.empty((0, 3))
    with mock.patch("facedis_core.registration.pose.ransac_poses", return_value=nothing):
        assert find_poses(prior, scan) == []


def test_numbers_that_are_none_do_not_break_the_report(model):
    found = Registration(
        mesh=narrow_face(model, "bob_neutral"),
        to_scan=RigidTransform(np.eye(3), np.zeros(3)),
        unit="mm",
        observed=np.zeros(4601, bool),
        distance_mm=np.full(4601, np.nan, np.float32),
        margin_mm=np.inf,
        coverage=0.5,
        residual_mm=np.nan,
        scan_residual_mm=0.2,
        prior_distance=1.0,
        start="neutral",
        problem="",
        seconds=1.0,
    )
    said = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["residual_mm"] is None and said["margin_mm"] is None and said["mouth_mm"] is None


def test_a_forced_face_of_the_second_unit(prior):
    face = prior.face(prior.starts[0])
    near = Surface(face, prior.normals(face), cKDTree(face), 2.0)
    refused = InputError("far", ErrorCode.FAR_FACE)
    found = [
        Attempt("m", InputError("none", ErrorCode.NO_FACE)),
        Attempt("cm", refused, SOUND, near, np.zeros(3)),
    ]
    cloud = Mesh(np.ones((300, 3)), np.empty((0, 3), np.int32), "two")
    with (
        mock.patch(f"{MODULE}.unit_candidates", return_value=["m", "cm"]),
        mock.patch(f"{MODULE}._attempt", side_effect=found * 2),
    ):
        forced = find_face(cloud, prior, force=True)
        assert (forced.unit, forced.problem) == ("cm", "far")
        with raises(ErrorCode.NO_FACE):
            find_face(cloud, prior)
    with mock.patch(f"{MODULE}._attempt", return_value=found[1]):
        with raises(ErrorCode.FAR_FACE, "far, or pass --force-register"):
            find_face(cloud, prior, units="mm")
        assert find_face(cloud, prior, units="mm", force=True).problem == "far"


@pytest.mark.parametrize(
    ("vertices", "triangles"),
    [
        (np.ones((300, 3)), []),
        (np.repeat([[0, 0, 0], [100, 0, 0]], 200, axis=0), []),
        (np.random.default_rng(0).uniform(-1e30, 1e30, (300, 3)), []),
        (np.random.default_rng(0).uniform(-90, 90, (300, 3)), [[0, 0, 0]]),
        pytest.param(
            np.random.default_rng(0).uniform(-90, 90, (300, 3)),
            [[0, 1, 2]],
            marks=pytest.mark.slow,  # 4 s, as the one before
        ),
        (np.concatenate([np.eye(3), np.full((300, 3), 90.0)]), [[0, 1, 2]]),  # 1 mm2
        (np.random.default_rng(0).uniform(-90, 90, (300, 3)) * [1, 1, 0], []),
        (np.random.default_rng(0).uniform(-90, 90, (300, 3)) * [1, 0, 0], []),
    ],
)
def test_scans_that_show_nothing(model, prior, vertices, triangles):
    scan = Mesh(vertices, np.array(triangles, np.int32).reshape(-1, 3), "nothing")
    with raises(ErrorCode.NO_FACE, "nothing"):
        register(scan, model, prior=prior, units="mm")


def test_a_prior_is_written_and_read(prior, tmp_path):
    changed = dataclasses.replace(prior, limits=Limits(coverage=0.3))
    with (tmp_path / "p.safetensors").open("wb+") as stream:
        written = write_prior(stream, changed)
    again = read_prior(tmp_path / "p.safetensors")
    assert (again.id, again.limits, again.expressions) == (
        written,
        changed.limits,
        prior.expressions,
    )
    assert np.array_equal(again.basis, prior.basis)
    assert np.array_equal(again.mean, prior.mean)
    assert again.expressions[0] == "neutral"
