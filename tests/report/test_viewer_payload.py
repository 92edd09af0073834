"""Quantized vertices of the 3D viewer."""

import base64

import numpy as np
import pytest
from conftest import face

from facedis_core.report.viewer_payload import QuantizedVertices


@pytest.mark.parametrize("width_mm", [1e-3, 30.0, 250.0, 1300.0])
def test_no_coordinate_is_wrong_by_a_hundredth_of_a_millimetre(width_mm: float) -> None:
    rng = np.random.default_rng(3)
    vertices = rng.uniform(-width_mm / 2, width_mm / 2, (5000, 3)) + np.array([900, -400, 0])
    wrong = np.abs(QuantizedVertices.of(vertices).vertices() - vertices)
    assert wrong.max() < 0.01
    assert wrong.max() <= width_mm / (2 * 65535) * (1 + 1e-6) + 1e-12


def test_a_flat_face_stays_flat() -> None:
    vertices = face(1)
    vertices[:, 2] = 7.25
    assert (QuantizedVertices.of(vertices).vertices()[:, 2] == 7.25).all()


def test_packed_is_what_a_page_unpacks() -> None:
    vertices = face(2)
    packed = QuantizedVertices.of(vertices).as_json()
    levels = np.frombuffer(base64.b64decode(packed["levels"]), "<u2").reshape(-1, 3)
    found = np.array(packed["low"]) + np.array(packed["step"]) * levels
    assert np.abs(found - vertices).max() < 0.002
    assert levels.min() == 0
    assert levels.max() == 65535
