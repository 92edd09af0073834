"""Heads that stand otherwise are drawn upright."""

import numpy as np
import pytest

from facedis_core.geometry.alignment import rotation_about
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model_file import load_model
from facedis_core.render.upright import upright

X, Y, Z = np.eye(3)


@pytest.fixture(scope="module")
def face():
    model = load_model("ict-pointnet")
    return Mesh(model.mean_face, model.triangles, "face", 1.0)


def turned(mesh, axis, degrees):
    turn = rotation_about(axis, np.radians(degrees))
    return Mesh((mesh.vertices @ turn.T + [5, 60, 7]).astype(np.float32), mesh.triangles, "face")


@pytest.mark.parametrize(("axis", "degrees"), [(X, 90), (X, -90), (X, 180), (Z, 90), (Z, 180)])
@pytest.mark.parametrize("aside", [0, 12])
def test_y_is_up_again(face, axis, degrees, aside):
    """A head that is also turned a little aside stays so."""
    wanted = turned(face, Y, aside).vertices
    found = upright(turned(turned(face, Y, aside), axis, degrees)).vertices
    middle = found.mean(axis=0) - wanted.mean(axis=0)
    np.testing.assert_allclose(found - middle, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("axis", "degrees"), [(X, 0), (Y, 50), (Y, 90), (Y, 180), (X, 30), (Z, 40)]
)
def test_faces_that_look_aside_or_nod_stay_as_they_are(face, axis, degrees):
    given = turned(face, axis, degrees)
    assert upright(given) is given


def test_other_topologies_stay_as_they_are(face):
    other = Mesh(face.vertices, face.triangles[::-1], "other")
    given = turned(other, X, 90)
    assert upright(given) is given


def test_an_axis_that_is_told(face):
    """Of any topology: z is up and the face looks along -y, as in Blender."""
    other = Mesh(face.vertices, face.triangles[::-1], "other")
    given = turned(other, X, 90)
    nose = given.vertices[face.vertices[:, 2].argmax()] - given.vertices.mean(axis=0)
    assert nose[1] < -20
    found = upright(given, "z").vertices
    middle = found.mean(axis=0) - face.vertices.mean(axis=0)
    np.testing.assert_allclose(found - middle, face.vertices, atol=1e-3)
    given = turned(face, X, 90)
    assert upright(given, "y") is given
