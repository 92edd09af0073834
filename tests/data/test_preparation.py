"""From raw meshes to prepared ones: units, vertex maps, triangles and alignment."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import RAW_EXTRA, face, raw_mesh, raw_order
from raising import raises
from synthetic import grid_mesh

from facedis_core.data.preparation import Preparation
from facedis_core.data.units import UNITS_MM
from facedis_core.io.safetensors_file import SafetensorsFile
from facedis_core.mesh.mesh import Mesh, topology_id

MEAN, TRIANGLES = grid_mesh()
V = len(MEAN)
NONE = np.zeros((0, 3), np.int32)


@pytest.fixture
def reduced():
    """Raw meshes are in cm, have more vertices and another order."""
    raw = raw_mesh(MEAN)
    return Preparation(TRIANGLES, raw_order(V), V + RAW_EXTRA, topology_id(raw.triangles), 10.0)


def equal_counts(unit_mm=1000.0, **options):
    """Raw meshes are the prepared ones in another unit, by default in metres."""
    order = np.arange(V, dtype=np.int32)
    return Preparation(TRIANGLES, order, V, topology_id(TRIANGLES), unit_mm, **options)


def prepared_mesh(vertices, unit_mm=None, triangles=TRIANGLES):
    return Mesh(np.asarray(vertices, np.float32), triangles, "ann", unit_mm)


def close(found, expected, atol=1e-4):
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


class TestAnotherVertexCount:
    def test_raw_becomes_prepared(self, reduced):
        close(reduced.apply(raw_mesh(face(1)), MEAN), face(1))

    @pytest.mark.parametrize("unit_mm", [None, 1.0])
    def test_prepared_stays_itself(self, reduced, unit_mm):
        found = reduced.apply(prepared_mesh(face(1), unit_mm), MEAN)
        np.testing.assert_array_equal(found, face(1))

    def test_the_whole_chain_is_the_formula(self, reduced):
        raw = raw_mesh(face(2))
        expected = np.array([raw.vertices[i] * np.float32(10) for i in reduced.vertex_index])
        np.testing.assert_array_equal(reduced.apply(raw, MEAN), expected)

    @pytest.mark.parametrize("units", ["auto", "cm", "mm"])
    def test_raw_with_our_unit_comment_is_mapped_but_not_scaled(self, reduced, units):
        raw = raw_mesh(face(1) * 10)
        found = reduced.apply(replace(raw, unit_mm=1.0), MEAN, units=units)
        close(found, face(1))

    @pytest.mark.parametrize(("unit", "mm"), UNITS_MM.items())
    def test_any_unit_fits_by_size_or_is_said(self, reduced, unit, mm):
        raw = raw_mesh(face(1) * np.float32(10 / mm))  # of a data set in cm
        prepared = prepared_mesh(face(1) / np.float32(mm))
        for units in ("auto", unit):
            close(reduced.apply(raw, MEAN, units=units), face(1))
            close(reduced.apply(prepared, MEAN, units=units), face(1))
        for other in UNITS_MM.keys() - {unit}:
            with raises("unit", f"ann is .* mm high in {other}, .* pass --units {unit}, in which"):
                reduced.apply(prepared, MEAN, units=other)

    def test_position_rotation_and_a_small_face_do_not_matter(self, reduced):
        turned = 0.75 * (face(1)[:, [1, 0, 2]] * np.float32([-1, 1, 1]) + np.float32([0, 900, 40]))
        close(reduced.apply(prepared_mesh(turned / 10), MEAN), turned, atol=1e-3)

    def test_what_has_no_size_of_a_face_is_in_the_unit_of_the_data_set(self, reduced):
        close(reduced.apply(prepared_mesh(face(1) * 3), MEAN), face(1) * 3)
        close(reduced.apply(raw_mesh(face(1) * 3), MEAN), face(1) * 3)

    @pytest.mark.parametrize("count", [V - 1, V + 1, V + RAW_EXTRA + 1])
    def test_other_counts_are_refused(self, reduced, count):
        mesh = Mesh(np.zeros((count, 3), np.float32), NONE, "ann")
        with raises("vertex-count", f"ann has {count} vertices, expected 36 or 50"):
            reduced.apply(mesh, MEAN)


class TestEqualCounts:
    def test_the_unit_that_fits_is_taken(self):
        preparation = equal_counts()
        close(preparation.apply(prepared_mesh(face(1) / 1000), MEAN), face(1))
        close(preparation.apply(prepared_mesh(face(1)), MEAN), face(1))

    def test_our_comment_decides_before_the_size(self):
        tiny = face(1) / 1000
        close(equal_counts().apply(prepared_mesh(tiny, 1.0), MEAN), tiny, atol=0)

    def test_our_comment_says_that_the_order_is_ours(self):
        turned = replace(equal_counts(), vertex_index=np.arange(V, dtype=np.int32)[::-1])
        close(turned.apply(prepared_mesh(face(1), 1.0), MEAN), face(1), atol=0)
        raw = prepared_mesh(face(1)[::-1] / 1000, triangles=NONE)
        close(turned.apply(raw, MEAN), face(1))

    def test_without_a_mean_face_or_another_unit_a_mesh_is_raw(self):
        close(equal_counts().apply(prepared_mesh(face(1) / 1000), None), face(1))
        close(equal_counts().apply(prepared_mesh(face(1) / 10), None, units="cm"), face(1))
        close(equal_counts(1.0).apply(prepared_mesh(face(1)), MEAN), face(1), atol=0)

    def test_other_counts_are_refused(self):
        mesh = Mesh(np.zeros((5, 3), np.float32), NONE)
        with raises("vertex-count", "5 vertices, expected 36"):
            equal_counts().apply(mesh, MEAN)


class TestTriangles:
    OTHERS = TRIANGLES[:, [0, 2, 1]]

    def test_others_are_refused_unless_the_order_is_trusted(self, reduced):
        mesh = prepared_mesh(face(1), triangles=self.OTHERS)
        with raises("topology", f"{reduced.topology}.*--trust-order"):
            reduced.apply(mesh, MEAN)
        close(reduced.apply(mesh, MEAN, trust_order=True), face(1), atol=0)

    def test_others_of_raw_meshes_likewise(self, reduced):
        mesh = replace(raw_mesh(face(1)), triangles=TRIANGLES)
        with raises("topology", reduced.raw_topology):
            reduced.apply(mesh, MEAN)
        close(reduced.apply(mesh, MEAN, trust_order=True), face(1))

    def test_vertices_alone_are_accepted(self, reduced):
        close(reduced.apply(prepared_mesh(face(1), triangles=NONE), MEAN), face(1), atol=0)
        close(reduced.apply(replace(raw_mesh(face(1)), triangles=NONE), MEAN), face(1))

    def test_with_equal_counts_both_triangulations_are_known(self):
        preparation = replace(equal_counts(), raw_topology=topology_id(self.OTHERS))
        for triangles in (TRIANGLES, self.OTHERS):
            preparation.apply(prepared_mesh(face(1), triangles=triangles), MEAN)
        with raises("topology", "[0-9a-f]{12} or [0-9a-f]{12}"):
            preparation.apply(prepared_mesh(face(1), triangles=TRIANGLES[::-1]), MEAN)


def rotation(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


class TestAlignment:
    MOVED = prepared_mesh(1.3 * MEAN.astype(np.float64) @ rotation(0).T + [30.0, -20.0, 10.0], 1.0)
    TURNED = prepared_mesh(MEAN.astype(np.float64) @ rotation(1).T + [30.0, -20.0, 10.0], 1.0)

    def test_none_leaves_a_mesh_where_it_is(self):
        close(equal_counts().apply(self.TURNED, MEAN), self.TURNED.vertices, atol=0)

    def test_rigid_takes_a_motion_back(self):
        close(equal_counts(alignment="rigid").apply(self.TURNED, MEAN), MEAN)

    def test_rigid_keeps_the_size(self):
        found = equal_counts(alignment="rigid").apply(self.MOVED, MEAN)
        centre = MEAN.mean(axis=0)
        close(found, 1.3 * (MEAN - centre) + centre)

    def test_similarity_takes_the_size_back_too(self):
        close(equal_counts(alignment="similarity").apply(self.MOVED, MEAN), MEAN)

    def test_a_mirrored_face_is_not_mirrored_back(self):
        mirrored = prepared_mesh(MEAN * np.float32([1, 1, -1]), 1.0)
        found = equal_counts(alignment="rigid").apply(mirrored, MEAN)
        assert np.abs(found - MEAN).max() > 1

    def test_the_option_overrides_the_data_set(self):
        close(equal_counts().apply(self.MOVED, MEAN, align="similarity"), MEAN)
        rigid = equal_counts(alignment="rigid")
        close(rigid.apply(self.TURNED, MEAN, align="none"), self.TURNED.vertices, atol=0)

    def test_stable_vertices_alone_decide(self):
        stable = (0, 7, 14, 20, 33)
        grimace = MEAN.astype(np.float64)
        moving = np.setdiff1d(np.arange(V), stable)
        grimace[moving] += np.random.default_rng(0).normal(0, 15, (len(moving), 3))
        turned = prepared_mesh(grimace @ rotation(2).T + [5.0, 6.0, 7.0], 1.0)
        by_stable = equal_counts(alignment="rigid", stable_vertices=stable)
        close(by_stable.apply(turned, MEAN), grimace)
        by_all = equal_counts(alignment="rigid").apply(turned, MEAN)
        assert np.abs(by_all - grimace).max() > 0.1

    @pytest.mark.parametrize("align", ["auto", "rigid", "similarity"])
    def test_without_a_mean_face_nothing_is_aligned(self, align):
        found = equal_counts(alignment="rigid").apply(self.TURNED, None, align=align)
        close(found, self.TURNED.vertices, atol=0)

    def test_units_come_first(self, reduced):
        raw = raw_mesh(self.TURNED.vertices)
        close(replace(reduced, alignment="rigid").apply(raw, MEAN), MEAN, atol=1e-3)


def test_what_is_stored_is_read(reduced):
    known = replace(reduced, alignment="similarity", stable_vertices=(1, 2, 3))
    container = SafetensorsFile("model", known.tensors(), known.metadata())
    found = Preparation.from_file(container)
    assert found.metadata() == known.metadata()
    assert found.stable_vertices == (1, 2, 3)
    np.testing.assert_array_equal(found.triangles, TRIANGLES)
    np.testing.assert_array_equal(found.vertex_index, raw_order(V))


def test_meshes_without_vertices_are_no_data_set():
    empty = Preparation(NONE, np.zeros(0, np.int32), 0, "", 1.0)
    with raises("damaged"):
        Preparation.from_file(SafetensorsFile("model", empty.tensors(), empty.metadata()))
