"""Units: by the size of a mesh, of a registered face, and of a batch."""

import numpy as np
import pytest
from conftest import face
from raising import raises
from synthetic import grid_mesh

from facedis_core.data.units import (
    UNITS_MM,
    BatchUnits,
    check_one_size,
    check_units,
    implausible_size,
    size_ratio,
    unit_by_size,
)
from facedis_core.mesh.mesh import Mesh

TRIANGLES = grid_mesh()[1]


@pytest.mark.parametrize(("unit", "mm"), UNITS_MM.items())
@pytest.mark.parametrize("height", [160, 200, 250, 300])
def test_a_face_or_head_in_any_unit(unit, mm, height):
    if unit == "inch" and height > 203:  # in cm it would be half a face
        with raises("unit", r"a.obj could be .* mm in cm or .* mm in inch high; .*cm\|inch"):
            unit_by_size(height / mm, "a.obj")
    else:
        assert unit_by_size(height / mm, "a.obj") == unit


@pytest.mark.parametrize("extent", [0.0, 2e-5, 70.0, 700.0, 1e9, np.inf, np.nan])
def test_no_size_of_a_face(extent):
    with raises("unit", "a.obj is .* not the size of a face in any of mm, cm, dm, m, inch"):
        unit_by_size(extent, "a.obj")
    assert "expected 80 to 600" in implausible_size(extent, "mm", "a.obj")


def test_two_units_that_would_do():
    for extent, both in ((10.0, "cm|inch"), (13.0, "cm|inch"), (5.0, "dm|inch")):
        with raises("unit", both.replace("|", ".*")):
            unit_by_size(extent, "a.obj")


def test_unknown_units():
    with raises("option-value", "--units is 'feet', expected one of auto, mm, cm, dm, m, inch"):
        check_units("feet")


def test_size_ratio_against_a_slow_twin():
    one, other = face(1).astype(float), face(2).astype(float)

    def spread(vertices):
        centroid = sum(vertices) / len(vertices)
        return (sum(((v - centroid) ** 2).sum() for v in vertices) / len(vertices)) ** 0.5

    assert size_ratio(one * 3 + [1e3, 0, 7], other) == pytest.approx(
        3 * spread(one) / spread(other), rel=1e-9
    )
    assert np.isinf(size_ratio(one, 0 * one))


class TestBatch:
    @staticmethod
    def mesh(scale, unit_mm=None, name="ann"):
        return Mesh(face(0) * np.float32(2 * scale), TRIANGLES, name, unit_mm)  # 200 mm

    def test_the_first_decides(self):
        units = BatchUnits()
        for scale in (0.1, 0.05, 0.29):
            made = units.in_mm(self.mesh(scale))
            np.testing.assert_allclose(made.vertices, face(0) * scale * 20, rtol=1e-6)
            assert made.unit_mm == 1.0

    def test_declared_meshes_are_as_they_are(self):
        units = BatchUnits()
        assert units.in_mm(small := self.mesh(0.01, 1.0)) is small
        np.testing.assert_allclose(units.in_mm(self.mesh(0.1)).vertices, face(0) * 2, rtol=1e-6)

    def test_mixed_units_are_refused(self):
        units = BatchUnits()
        units.in_mm(self.mesh(0.1))
        with raises("unit", "bob is .* mm high in cm, .* and ann is in cm by its size"):
            units.in_mm(self.mesh(1, name="bob"))

    def test_what_is_said_is_believed(self):
        units = BatchUnits("inch")
        for scale in (1e-3, 1.0):
            made = units.in_mm(self.mesh(scale))
            np.testing.assert_allclose(made.vertices, face(0) * 2 * scale * 25.4, rtol=1e-5)


def test_one_size():
    truth = face(0) * 2
    for factor in (0.7, 1.0, 1.4, 0.25, 0.0):  # a bad prediction is measured
        check_one_size(truth * factor, truth, "a", "b")
    for factor in (0.1, 10.0, 0.001, 25.4):
        with raises("unit", "a is .* mm high and b .* mm; one of them is in another unit"):
            check_one_size(truth * np.float32(factor), truth, "a", "b")
    check_one_size(truth * 0.01, truth * 0.1, "a", "b")  # offsets
