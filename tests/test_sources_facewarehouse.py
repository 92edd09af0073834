"""FaceWarehouse: 47 shapes in natural order, quads in file order, and a unit told by size."""

from dataclasses import replace

import numpy as np
import pytest
import trees
from prepared import check_simplified, check_vertices, copied, news, prepare, read_prepared, stem

from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError
from facedis_core.mesh.mesh import topology_id

UNITS_MM = {"mm": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Nine meshes in decimetres; to be left as they are."""
    root = tmp_path_factory.mktemp("facewarehouse")
    return trees.facewarehouse(root, testers=(2, 10, 141), shapes=(0, 2, 10))


def in_another_unit(tree, root, unit_mm, digits=6):
    """The same faces, written in another unit."""
    other = replace(tree, root=root, unit_mm=unit_mm, digits=digits, files={})
    for file in tree.files.values():
        other.add(file.path, file.subject, file.expression, file.strength, file.face)
    return other


def test_the_set_is_what_the_method_says(call, tree, tmp_path):
    done = call(f"fd-prep facewarehouse {tree.root} -o set.safetensors --jobs 1")
    said = "fd-prep: warning: this is a part of FaceWarehouse: 3 of 150 people, 3 of 47 meshes each"
    assert (done.code, done.err) == (0, f"{said}\n")
    made = read_prepared(tmp_path / "set.safetensors")
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
    check_vertices(made.set, tree)
    for subject in made.set.labels.subjects:
        for kind in ("neutrals", "neutrals_eval"):
            rest = made.face(f"{subject}/Blendshape/shape_0")
            np.testing.assert_array_equal(made.neutral(subject, kind), rest)
    assert str(tmp_path).encode() not in (tmp_path / "set.safetensors").read_bytes()

    # Quads are cut from their first corner, in the order of the file.
    expected = []
    for line in (tree.root / "Tester_2/Blendshape/shape_0.obj").read_text().splitlines():
        if line.startswith("f "):
            corners = [int(corner) - 1 for corner in line.split()[1:]]
            expected += [[corners[0], *corners[k : k + 2]] for k in range(1, len(corners) - 1)]
    assert np.array_equal(made.set.triangles, expected)

    done = call(
        f"fd-prep facewarehouse {tree.root} -o again.safetensors --like set.safetensors --jobs 1"
    )
    assert (done.code, news(done)) == (0, "")
    again = read_prepared(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(again.set.vertices, made.set.vertices)


def test_names_and_counts_of_the_whole_data_set(call, tmp_path):
    trees.touch(tmp_path / "facewarehouse", reversed(trees.facewarehouse_names()))
    done = call("fd-prep facewarehouse facewarehouse --dry-run")
    assert (done.code, news(done)) == (0, "")
    lines = [line.split("\t") for line in done.out.decode().splitlines()[1:]]
    assert lines[0] == ["all", "-", "7050", "6580", "470", "0"]
    expressions = [line[1] for line in lines if line[0] == "expression"]
    assert expressions == [f"shape_{shape}" for shape in range(47)]
    subjects = {line[1]: line[2:] for line in lines if line[0] == "subject"}
    assert list(subjects) == [f"Tester_{tester}" for tester in range(1, 151)]
    for subject, counted in subjects.items():
        test = int(subject.rpartition("_")[2]) > 140
        assert counted == ["47", *(("0", "47") if test else ("47", "0")), "0"]


@pytest.mark.parametrize("unit", ["mm", "cm", "m"])
def test_other_units_are_told_by_size(tree, tmp_path, unit):
    other = in_another_unit(tree, tmp_path / "data", UNITS_MM[unit])
    made = prepare("facewarehouse", other.root, tmp_path / "set.safetensors")
    assert made.set.preparation.raw_unit_mm == UNITS_MM[unit]
    assert any(f"assuming that meshes are in {unit}: " in line for line in made.said)
    for file in tree.files.values():
        np.testing.assert_allclose(made.face(stem(file.path)), file.face, atol=1e-3)


def test_a_unit_that_is_said_is_believed(call, tree, tmp_path):
    command = f"fd-prep facewarehouse {tree.root} --jobs 1 --units"
    done = call(f"{command} dm -o dm.safetensors")
    assert (done.code, news(done)) == (0, "")
    done = call(f"{command} cm -o cm.safetensors")
    assert done.code == 0
    assert "mm high in cm, expected 80 to 600 for a face; check --units" in news(done)
    dm, cm = (read_prepared(tmp_path / f"{unit}.safetensors").set for unit in ("dm", "cm"))
    check_vertices(dm, tree)
    assert cm.preparation.raw_unit_mm == 10 and dm.history[0].options["units"] == "dm"
    np.testing.assert_allclose(cm.vertices * 10, dm.vertices, rtol=1e-5)


def test_no_unit_makes_it_a_face(tree, tmp_path):
    one = replace(tree, files={p: f for p, f in tree.files.items() if f.subject == "Tester_2"})
    other = in_another_unit(one, tmp_path / "data", 1e5)
    with pytest.raises(
        InputError, match="units high, not the size of a face in any of mm, cm, dm, m; "
    ):
        prepare("facewarehouse", other.root, tmp_path / "set.safetensors")
    assert not (tmp_path / "set.safetensors").exists()


def test_simplified(tree, tmp_path):
    pytest.importorskip("fast_simplification")
    made = prepare("facewarehouse", tree.root, tmp_path / "set.safetensors", simplify=9000)
    check_vertices(made.set, tree)
    check_simplified(made.set, tree, 9000)


@pytest.mark.parametrize(
    "stranger",
    [
        "Tester_0/Blendshape/shape_0.obj",
        "Tester_151/Blendshape/shape_0.obj",
        "Tester_01/Blendshape/shape_0.obj",
        "Tester_1/Blendshape/shape_47.obj",
        "Tester_1/Blendshape/shape_00.obj",
        "Tester_1/TrainingPose/pose_0.obj",
        "Tester_1/TrainingPose/shape_1.obj",
        "Tester_1/shape_1.obj",
        "Tester_1/Blendshape/shape_1.ply",
    ],
)
def test_files_that_are_of_nobody(tmp_path, stranger):
    trees.touch(tmp_path, [trees.facewarehouse_name(1, 0), stranger])
    source = open_source("facewarehouse", tmp_path, {}).source
    assert source.labels.names == ["Tester_1/Blendshape/shape_0"]
    assert source.findings.unknown == [stranger]


def test_a_missing_shape(call, tree, tmp_path):
    own = copied(tree, tmp_path / "data")
    (own.root / trees.facewarehouse_name(10, 2)).unlink()
    command = "fd-prep facewarehouse data -o set.safetensors --jobs 1"
    stopped = call(command)
    assert stopped.code == 3
    assert "data lacks Tester_10/Blendshape/shape_2.obj; add the files" in stopped.line
    done = call(f"{command} --keep-going")
    assert done.code == 1 and "Tester_10/Blendshape/shape_2.obj" in done.err
    assert len(read_prepared(tmp_path / "set.safetensors").labels) == 8
    (tmp_path / "without.txt").write_text("Tester_10/Blendshape/shape_2.obj\n")
    done = call(f"{command} --force --exclude without.txt")
    assert done.code == 0 and len(done.err.splitlines()) == 1  # of the unit


def test_other_triangles(tree, tmp_path):
    own = copied(tree, tmp_path / "data")
    path = trees.facewarehouse_name(141, 10)
    own.drop_polygon(path)
    with pytest.raises(
        InputError, match=r"shape_10\.obj has other triangles than the others; take"
    ):
        prepare("facewarehouse", own.root, tmp_path / "set.safetensors")
    made = prepare("facewarehouse", own.root, tmp_path / "set.safetensors", keep_going=True)
    assert list(made.report.failed) == [stem(path)] and made.report.fault
    assert made.set.preparation.raw_topology == topology_id(tree.topology.triangles)
    check_vertices(made.set, own)
