"""FaceWarehouse: 47 shapes in natural order, quads in file order, and a unit told by size."""

import numpy as np
import pytest
import trees
from prepared import check_vertices, counts, open_names, prepare, stem
from raising import raises


def test_the_set_is_what_the_method_says(tmp_path):
    tree = trees.facewarehouse(tmp_path / "data", testers=(2, 10, 141), shapes=(0, 2, 10))
    made = prepare("facewarehouse", tree.root, tmp_path / "set.safetensors")
    assert "3 of 150 people, 3 of 47 meshes each" in made.said[0] and len(made.said) == 1
    assert list(made.labels.items()) == [
        (
            f"Tester_{tester}/Blendshape/shape_{shape}",
            (f"Tester_{tester}", f"shape_{shape}", float(shape > 0), split),
        )
        for tester, split in ((2, "train"), (10, "train"), (141, "test"))
        for shape in (0, 2, 10)
    ]
    assert list(made.set.labels.subjects) == ["Tester_2", "Tester_10", "Tester_141"]
    assert list(made.set.labels.expressions) == ["shape_0", "shape_2", "shape_10"]
    assert made.set.preparation.raw_unit_mm == 100
    # Quads are cut from their first corner, in the order of the file.
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    check_vertices(made.set, tree)
    for subject in made.set.labels.subjects:
        for kind in ("neutrals", "neutrals_eval"):
            rest = made.face(f"{subject}/Blendshape/shape_0")
            np.testing.assert_array_equal(made.neutral(subject, kind), rest)


def test_names_and_counts_of_the_whole_data_set():
    source = open_names("facewarehouse", trees.facewarehouse_names())
    assert not source.notes and not source.findings.missing
    labels, found = source.labels, counts(source.labels)
    assert found["all", ""] == [7050, 6580, 470, 0]
    assert list(labels.expressions) == [f"shape_{shape}" for shape in range(47)]
    assert list(labels.subjects) == [f"Tester_{tester}" for tester in range(1, 151)]
    for number, subject in enumerate(labels.subjects, 1):
        tested = 47 * (number > 140)
        assert found["subject", subject] == [47, 47 - tested, tested, 0]


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000)])
def test_other_units_are_told_by_size(tmp_path, unit, mm):
    tree = trees.facewarehouse(tmp_path / "data", testers=(2,), shapes=(0,), unit_mm=mm)
    made = prepare("facewarehouse", tree.root, tmp_path / "set.safetensors")
    assert made.set.preparation.raw_unit_mm == mm
    assert any(f"meshes are in {unit} by their size: " in line for line in made.said)
    for path, file in tree.files.items():
        np.testing.assert_allclose(made.face(stem(path)), file.face, atol=1e-3)


def test_a_unit_that_is_said_is_believed(tmp_path):
    tree = trees.facewarehouse(tmp_path / "data", testers=(2,), shapes=(0,))
    dm, cm = (
        prepare("facewarehouse", tree.root, tmp_path / f"{unit}.safetensors", units=unit)
        for unit in ("dm", "cm")
    )
    check_vertices(dm.set, tree)
    assert not any("check --units" in line for line in dm.said)
    assert any("mm high in cm, expected 80 to 600" in line for line in cm.said)
    assert cm.set.preparation.raw_unit_mm == 10 and dm.set.history[0].options["units"] == "dm"
    np.testing.assert_allclose(cm.set.vertices * 10, dm.set.vertices, rtol=1e-5)


def test_no_unit_makes_it_a_face(tmp_path):
    tree = trees.facewarehouse(tmp_path / "data", testers=(2,), shapes=(0,), unit_mm=1e5)
    with raises("unit"):
        prepare("facewarehouse", tree.root, tmp_path / "set.safetensors")
    assert not (tmp_path / "set.safetensors").exists()


def test_files_that_are_of_nobody():
    strangers = [
        "Tester_0/Blendshape/shape_0.obj",
        "Tester_151/Blendshape/shape_0.obj",
        "Tester_01/Blendshape/shape_0.obj",
        "Tester_1/Blendshape/shape_47.obj",
        "Tester_1/Blendshape/shape_00.obj",
        "Tester_1/TrainingPose/pose_0.obj",
        "Tester_1/TrainingPose/shape_1.obj",
        "Tester_1/shape_1.obj",
        "Tester_1/Blendshape/shape_1.ply",
    ]
    source = open_names("facewarehouse", [trees.facewarehouse_name(1, 0), *strangers])
    assert source.labels.names == ["Tester_1/Blendshape/shape_0"]
    assert source.findings.unknown == sorted(strangers)


def test_missing_shapes():
    """Those that others have; of a part of the data set everybody may have the same shapes."""
    names = [trees.facewarehouse_name(t, s) for t in (2, 10, 141) for s in (0, 2)]
    assert not open_names("facewarehouse", names).findings.missing
    names.remove("Tester_10/Blendshape/shape_2.obj")
    (missing,) = open_names("facewarehouse", names).findings.missing
    assert missing == ("Tester_10/Blendshape/shape_2.obj", "Tester_10")
