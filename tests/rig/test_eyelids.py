"""Eyelids: on heads of other people they meet, and cover the eyeball."""

from dataclasses import replace

import numpy as np
import pytest

from facedis_core.data.regions import ICT_SKIN
from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.model_file import load_model
from facedis_core.rig.blendshapes import ARKIT_NAMES, load_blendshapes
from facedis_core.rig.eyelids import LidOverEye, clearance, closing_lid, sphere_centre

EYEBALLS = {"eyeBlink_L": slice(21451, 22221), "eyeBlink_R": slice(23021, 23791)}
PEOPLE = ["alice_neutral", "bob_smile", "carol_smile"]


@pytest.fixture(scope="module")
def model():
    return load_model("ict-linear")


@pytest.fixture(scope="module")
def shapes(model):
    return load_blendshapes(model.preparation)


@pytest.fixture(scope="module")
def heads(model):
    rows = [model.encode(read_mesh(f"weights/examples/{name}.ply")) for name in PEOPLE]
    return [model.decode(row, "identity")[0] for row in rows]


@pytest.fixture(scope="module")
def lids(shapes):
    """The closing of each eye, by the name of its blendshape."""
    generic = shapes.generic.astype(float)
    return {
        name: closing_lid(
            generic, shapes.offsets[shapes.names.index(name)].astype(float), ICT_SKIN, eyeball
        )
        for name, eyeball in EYEBALLS.items()
    }


def touching(generic, offsets):
    """Pairs (n, 2) of skin that the closed lid brings together: its rim and what it meets."""
    at, closed = generic[:ICT_SKIN], (generic + offsets)[:ICT_SKIN]
    motion = np.linalg.norm(offsets[:ICT_SKIN], axis=1)
    moving = np.flatnonzero(motion > 0.02)
    pairs = []
    for one in np.flatnonzero(motion > 3):
        far = moving[np.linalg.norm(at[moving] - at[one], axis=1) > 3]
        apart = np.linalg.norm(closed[far] - closed[one], axis=1)
        if apart.min() < 0.8:
            pairs.append((one, far[apart.argmin()]))
    return np.array(pairs)


@pytest.mark.parametrize("name", EYEBALLS)
def test_lids_meet_and_cover_the_eye(shapes, lids, heads, name):
    generic, lid = shapes.generic.astype(float), lids[name]
    offsets = shapes.offsets[shapes.names.index(name)].astype(float)
    pairs = touching(generic, offsets)
    assert len(pairs) > 10
    one, other = pairs.T
    wanted = (generic + offsets)[one] - (generic + offsets)[other]
    for head in heads:
        moved = head.astype(float)
        moved[lid.vertices] += lid.on(head)
        gap = np.linalg.norm(moved[one] - moved[other] - wanted, axis=1)
        assert gap.mean() < 0.35 and gap.max() < 1.0  # mm; 1.0 and 2.0 by gradients alone
        outside = (lid.clearance > 0) & (np.linalg.norm(lid.offsets, axis=1) > 0.3)
        assert clearance(moved[lid.vertices], head[lid.eyeball])[outside].min() > -0.02
        assert np.abs(lid.on(head)).max() < 16


def test_what_would_enter_a_ball_is_pushed_out():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(400, 3))
    ball *= 12 / np.linalg.norm(ball, axis=1, keepdims=True)
    away = ball[:4] / 12
    head = np.concatenate([away * [[15], [15], [11], [15]], ball])
    lid = LidOverEye(np.arange(4), slice(4, None), np.array([1, -0.5, 1, 1]))
    offsets = np.zeros_like(head)
    offsets[:4] = away * [[-4], [-4], [-1], [-2]]  # at 11, 11, 10 and 13 mm
    found = lid.pushed(head, offsets)
    # to 12.25, to as deep as on the generic head, to as deep as at rest, not at all
    np.testing.assert_allclose(found, away * [[1.25], [0.5], [1], [0]], atol=0.02)


@pytest.mark.slow  # 10 s: the deformation transfer
@pytest.mark.parametrize("name", ["eyeLookDown_L", "eyeLookUp_R", "eyeSquint_L"])
def test_lids_stay_outside_of_the_eye(shapes, heads, name):
    """No deeper than on the generic head and at rest, though the eyeball turns."""
    place, eyeball = shapes.names.index(name), EYEBALLS[f"eyeBlink{name[-2:]}"]
    generic, offsets = shapes.generic.astype(float), shapes.offsets[place].astype(float)
    lid = np.flatnonzero(np.linalg.norm(offsets[:ICT_SKIN], axis=1) > 0.5)
    ball = (generic + offsets)[eyeball]
    known = clearance((generic + offsets)[lid], ball)
    arkit = ARKIT_NAMES.index(name.replace("_L", "Left").replace("_R", "Right"))
    weights = np.eye(len(ARKIT_NAMES))[arkit]
    for head in heads:
        moved = head + shapes.mixed_on(head, weights)
        wanted = np.minimum(np.minimum(known, 0), clearance(head[lid], head[eyeball]))
        assert (clearance(moved[lid], moved[eyeball]) - wanted).min() > -0.05
        follows = np.linalg.norm((moved - head)[lid], axis=1).mean()
        assert follows > 0.75 * np.linalg.norm(offsets[lid], axis=1).mean()  # the lid, the gaze


def test_a_warp_that_is_linear_is_followed_exactly(shapes, lids):
    """A head that is turned, stretched and moved closes its eyes likewise."""
    generic, lid = shapes.generic.astype(float), lids["eyeBlink_L"]
    change = np.array([[1.1, 0.1, 0], [-0.1, 1.1, 0.05], [0, -0.05, 1.1]])
    np.testing.assert_allclose(lid.on(generic), lid.offsets, atol=1e-3)
    lid = replace(lid, clearance=np.full(len(lid.vertices), -1.0))  # no ball when it is stretched
    np.testing.assert_allclose(
        lid.on(generic @ change.T + [5, 6, 7]), lid.offsets @ change.T, atol=1e-3
    )


def test_the_centre_of_a_ball():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = 15 * directions + [1, 2, 3]
    np.testing.assert_allclose(sphere_centre(ball), [1, 2, 3], atol=1e-9)
    ball[0] = 17 * directions[0] + [1, 2, 3]
    beside = np.array([[1, 2, 3]]) + 16 * directions[:1]
    np.testing.assert_allclose(clearance(beside, ball), [-1], atol=0.1)
