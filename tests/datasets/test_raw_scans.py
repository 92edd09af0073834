"""A folder of raw scans as a face set; registration itself is in tests/registration."""

from unittest import mock

import numpy as np
import pytest
from prepared import prepare
from raising import raises

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.prior import prior_of, vertices_of

EXAMPLES = weights_folder() / "examples"


def found(scan, prior, **options):
    """The example face whose first point the scan has; others show no face."""
    if options["force"]:
        return mock.Mock(face=prior.mean)
    for path in EXAMPLES.glob("*.ply"):
        face = read_mesh(path).vertices
        if np.array_equal(face[0], scan.vertices[0]):
            own = vertices_of(load_model("ict-linear").preparation, prior, partly=True)
            on_prior = np.empty_like(prior.mean)
            on_prior[own[own >= 0]] = face[own >= 0]
            return mock.Mock(face=on_prior)
    raise InputError(f"{scan.name}: no face was found in it", ErrorCode.NO_FACE)


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Raw scans of three people, two expressions each, and one that shows nothing."""
    monkeypatch.setenv("FACEDIS_MODEL", "ict-linear")
    monkeypatch.setattr("facedis_core.datasets.scans.find_face", found)
    for path in EXAMPLES.glob("*[el].ply"):
        points = Mesh(read_mesh(path).vertices[:100], np.empty((0, 3), np.int32))
        write_mesh(tmp_path / path.name, points)
    write_mesh(tmp_path / "dan_neutral.ply", Mesh(np.ones((9, 3)), np.empty((0, 3), np.int32)))
    return tmp_path


PATTERN = "{subject}_{expression}.ply"


def test_registered_scans_become_a_face_set(scans, tmp_path):
    made = prepare("scans", scans, tmp_path / "set.safetensors", pattern=PATTERN, keep_going=True)
    model = load_model("ict-linear")
    prior = prior_of(model.preparation)
    known = vertices_of(model.preparation, prior, partly=True) >= 0
    assert made.set.preparation.topology == model.topology
    assert len(made.labels) == 6
    for name in made.labels:
        expected = read_mesh(EXAMPLES / f"{name}.ply").vertices
        np.testing.assert_array_equal(made.face(name)[known], expected[known])
        assert np.linalg.norm(made.face(name) - expected, axis=1).mean() < 1
    assert "dan_neutral.ply" in str(made.report.as_dict())
    assert prior.preparation.raw_topology == model.preparation.raw_topology


def test_doubtful_faces_are_forced(scans, tmp_path):
    options = {"pattern": PATTERN, "force_register": True}
    made = prepare("scans", scans, tmp_path / "set.safetensors", **options)
    assert len(made.labels) == 7
    with raises(ErrorCode.OPTION_CONFLICT, "force-register; it is for scans"):
        prepare("folder", scans, tmp_path / "other.safetensors", **options)


def test_errors(scans, tmp_path):
    target = tmp_path / "set.safetensors"
    with raises(ErrorCode.NO_FACE, "dan_neutral"):
        prepare("scans", scans, target, pattern=PATTERN)
    with raises(ErrorCode.OPTION_CONFLICT):
        prepare("scans", scans, target, pattern=PATTERN, simplify=100)
