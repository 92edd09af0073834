"""Sequences: frames from the last one, the identity held, a lost face searched for again."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from raising import raises

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import rotation_about
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.fit import Fit
from facedis_core.registration.outside import seen_from_outside
from facedis_core.registration.scan import RawScan
from facedis_core.registration.search import NEAR_MM, Attempt
from facedis_core.registration.sequence import LAST, FaceTracker, identity_of

SEARCH = "facedis_core.registration.sequence.find_attempt"
OUTSIDE = "facedis_core.registration.scan.seen_from_outside"
SHIFT = np.array([5.0, 3, 400])


@pytest.fixture(scope="module")
def model():
    return load_model("ict-pointnet")


@pytest.fixture(scope="module")
def person(prior):
    """Coefficients of a person's neutral face."""
    coefficients = prior.starts[0].copy()
    coefficients[:20] += np.random.default_rng(3).normal(0, 0.5, 20)
    return coefficients


def frame_of(prior, coefficients, turn, name):
    points = prior.face(coefficients) @ turn.T + SHIFT
    return Mesh(points, prior.triangles, name, 1.0)


def yaw(degrees):
    return rotation_about(np.array([0, 1.0, 0]), np.radians(degrees))


def searched(prior, person, turns):
    """A search that finds the true faces; the number of calls is that of the turns used."""

    def search(frame, *args, **options):
        scan = RawScan(frame, 1.0)
        fit = Fit(person, turns.pop(0), SHIFT - scan.centre, 0.1, 0.1, 0.9, 1.0)
        return Attempt("mm", None, fit, scan.near(fit.place(prior.mean), NEAR_MM), scan.centre)

    return search


def test_frames_follow_the_last_and_lost_ones_are_searched_for(model, prior, person):
    smile = prior.starts[prior.expressions.index("smile")] - prior.starts[0]
    frames = [(person + part * smile, yaw(4 * k)) for k, part in enumerate((0, 0.3, 0.6))]
    frames.append((person, yaw(180)))
    turns, looks = [yaw(0), yaw(180)], []
    track = FaceTracker(model, prior)
    with (
        mock.patch(SEARCH, searched(prior, person, turns)),
        mock.patch(OUTSIDE, wraps=seen_from_outside) as look,
    ):
        for k, (coefficients, turn) in enumerate(frames):
            found = track(frame_of(prior, coefficients, turn, f"frame{k}"))
            truth = prior.face(coefficients) @ turn.T + SHIFT
            placed = found.to_scan.apply(found.mesh.vertices.astype(np.float64))
            assert np.linalg.norm(placed - truth, axis=1).mean() < 0.6
            assert (found.start == LAST) == (k in (1, 2))
            assert track.lost == (k == 3) and not track.is_other
            looks.append(look.call_count)
    assert not turns
    # whether a scan hides something is known from the second frame on, unless it is lost
    assert looks[:3] == [1, 2, 2] and looks[3] >= 4


def test_another_person_is_told(model, prior, person):
    """Who fits neither from the last frame nor with the identity held; later ones hold its own."""
    track = FaceTracker(model, prior)
    other = person + 0.1
    worse = Attempt("mm", InputError("it fits worse", ErrorCode.NO_FACE))
    for coefficients in (person, other):
        with (
            mock.patch(SEARCH, searched(prior, coefficients, [yaw(0)])),
            mock.patch.object(FaceTracker, "_held", return_value=worse),
            mock.patch.multiple(
                "facedis_core.registration.sequence",
                fit_face=mock.DEFAULT,
                finished=mock.DEFAULT,
                registration_of=mock.DEFAULT,
            ),
        ):
            track(frame_of(prior, coefficients, yaw(0), "frame"))
        assert track.is_other == track.lost == (coefficients is other)
    np.testing.assert_array_equal(track._identity.mean, other)


def test_a_frame_without_a_face_leaves_the_last_one(model, prior, person):
    track = FaceTracker(model, prior)
    with mock.patch(SEARCH, searched(prior, person, [yaw(0)])):
        track(frame_of(prior, person, yaw(0), "frame0"))
    few = Mesh(np.zeros((50, 3)), np.empty((0, 3), np.int32), "frame1", 1.0)
    refused = InputError("frame1: no face", ErrorCode.NO_FACE)
    with mock.patch(SEARCH, side_effect=refused), raises(ErrorCode.NO_FACE):
        track(few)
    assert track(frame_of(prior, person, yaw(2), "frame2")).start == LAST


def test_the_identity_is_stiffer_than_expressions(prior, person):
    belief = identity_of(prior, person)
    smile = prior.starts[prior.expressions.index("smile")] - prior.starts[0]
    other = np.random.default_rng(0).normal(0, 1, len(person))
    other *= np.linalg.norm(smile) / np.linalg.norm(other)
    assert smile @ belief.precision @ smile < 1.01 < 0.05 * (other @ belief.precision @ other)


@pytest.mark.slow
def test_a_sequence_of_a_head(model):
    heads = [
        read_mesh(weights_folder() / "examples" / f"bob_{x}.ply") for x in ("neutral", "smile")
    ]
    track = FaceTracker(model)
    starts = []
    for k, part in enumerate((0, 0.25, 0.5)):
        turn = yaw(3 * k)
        mixed = (1 - part) * heads[0].vertices + part * heads[1].vertices
        found = track(replace(heads[0], vertices=mixed @ turn.T + SHIFT))
        truth = model.prepare(replace(heads[0], vertices=mixed), align="none") @ turn.T + SHIFT
        placed = found.to_scan.apply(found.mesh.vertices.astype(np.float64))
        assert np.linalg.norm(placed - truth, axis=1).mean() < 1.0
        starts.append(found.start)
    assert starts[1:] == [LAST, LAST]
