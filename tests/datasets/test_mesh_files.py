"""Mesh files: units, faces that resemble no other, and options of all data sets."""

import re

import numpy as np
import pytest
import trees
from conftest import save_mesh
from prepared import open_names, prepare, scan, write_scans
from raising import raises
from synthetic import grid_mesh

from facedis_core.datasets.source import open_source
from facedis_core.mesh.mesh import topology_id

PATTERN = "{subject}_{expression}.ply"
ALL = np.arange(18)


def test_units(tmp_path):
    vertices, _ = grid_mesh()
    for suffix in (".ply", ".obj"):
        save_mesh(tmp_path / f"a_neutral{suffix}", vertices / 5)
    rows = np.arange(1)
    for unit, factor in (("mm", 1), ("cm", 10), ("m", 1000), (None, 10)):
        for suffix, expected in ((".obj", factor), (".ply", 1)):  # a PLY of ours says mm
            options = {"pattern": f"{{subject}}_{{expression}}{suffix}", "protocol": "subjects:0"}
            source = open_source("folder", tmp_path, {**options, "units": unit}).source
            preparation = source.preparation(rows, lambda line: None)
            made = source.reader(preparation, rows).read([0]).faces[0]
            np.testing.assert_allclose(made, vertices / 5 * expected, rtol=1e-6)
            assert preparation.raw_unit_mm == expected


def test_simplification_keeps_original_vertices(tmp_path):
    pytest.importorskip("fast_simplification")
    options = {"pattern": PATTERN, "simplify": 24}
    source = open_source("folder", write_scans(tmp_path), options).source
    preparation = source.preparation(ALL, pytest.fail)
    assert len(preparation.vertex_index) < 36 and len(preparation.triangles) <= 25
    assert preparation.raw_topology == topology_id(grid_mesh()[1])
    made = source.reader(preparation, ALL).read(ALL).faces
    row = source.labels.names.index("p4_smile")
    np.testing.assert_array_equal(made[row], scan(4, 1)[preparation.vertex_index])


def test_points_alone_are_no_faces(tmp_path):
    save_mesh(tmp_path / "a_neutral.ply", scan(0, 0), np.zeros((0, 3), np.int32))
    source = open_source("folder", tmp_path, {"pattern": PATTERN, "protocol": "subjects:0"}).source
    with raises("no-triangles", r"a_neutral\.ply"):
        source.preparation(np.arange(1), print)


@pytest.mark.parametrize(
    "spoil",
    [lambda v: 0 * v, lambda v: 100 * v, lambda v: v[np.random.default_rng(0).permutation(36)]],
    ids=["no size", "another unit", "another order"],
)
def test_a_mesh_that_is_no_face_like_the_others(tmp_path, spoil):
    root = write_scans(tmp_path / "data")
    save_mesh(root / "p5_smile.ply", spoil(scan(5, 1)))
    target = tmp_path / "set.safetensors"
    with raises("outlier", r"p5_smile\.ply .*--keep-going"):
        prepare("folder", root, target, pattern=PATTERN)
    made = prepare("folder", root, target, pattern=PATTERN, keep_going=True)
    assert list(made.report.failed) == ["p5_smile"] and len(made.labels) == 17


def test_a_reference_that_is_no_face(tmp_path):
    tree = trees.facewarehouse(tmp_path / "data", testers=(1, 2), shapes=(0, 1))
    first = trees.facewarehouse_name(1, 0)
    tree.add(first, "Tester_1", "shape_0", 0.0, 0 * tree.files[first].face)
    target = tmp_path / "set.safetensors"
    with raises("outlier", re.escape(first)):
        prepare("facewarehouse", tree.root, target, protocol="subjects:0")
    made = prepare("facewarehouse", tree.root, target, protocol="subjects:0", keep_going=True)
    assert len(made.labels) == 3
    assert np.isnan(made.neutral("Tester_1")).all() and np.isfinite(made.neutral("Tester_2")).all()


def test_options_that_no_data_set_or_this_one_does_not_have():
    for source, name, option in (
        ("bu3dfe", trees.bu3dfe_name("F0001", "NE", 0), {"align": "affine"}),
        ("coma", trees.coma_name(trees.COMA_SUBJECTS[0], "eyebrow", 1), {"align": "stable"}),
        ("facewarehouse", trees.facewarehouse_name(1, 0), {"units": "feet"}),
    ):
        ((key, value),) = option.items()
        with raises("option-value", f"--{key} is '{value}', expected one of "):
            open_names(source, [name], **option)
