"""BU-3DFE: flat VRML files, and alignment by neutrals and stable vertices against a slow twin."""

import numpy as np
import pytest
import trees
from prepared import check_vertices, counts, kabsch, mean_shape, open_names, prepare, stem
from raising import raises

from facedis_core.mesh.mesh import read_mesh

STABLE = [4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143]
TRAINED = ("F0011", "M0001", "M0002")


@pytest.fixture
def tree(tmp_path):
    """Twelve scans of four people, one of whom is for test."""
    everybody = ("F0001", *TRAINED)
    return trees.bu3dfe(tmp_path / "bu3dfe", subjects=everybody, expressions=("SU",), levels=(2, 4))


def name_of(subject, expression, level):
    return stem(trees.bu3dfe_name(subject, expression, level))


def slow_twin(tree, neutrals=("F0001", *TRAINED)):
    """METHOD 6: neutrals to the mean neutral of training, the rest to their own neutral.

    Those without a neutral follow the mean neutral by the stable vertices.
    """
    files = {(f.subject, f.expression, f.strength): f.vertices for f in tree.files.values()}
    mean = mean_shape([files[subject, "NE", 0.0] for subject in TRAINED if subject in neutrals])
    aligned = {}
    for (subject, expression, strength), vertices in files.items():
        neutral = mean
        if subject in neutrals:
            neutral = files[subject, "NE", 0.0]
            neutral = kabsch(neutral, mean)(neutral)
        aligned[name_of(subject, expression, round(4 * strength))] = (
            neutral if expression == "NE" else kabsch(vertices, neutral, STABLE)(vertices)
        )
    return aligned


def test_the_set_is_what_the_method_says(tree, tmp_path):
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors")
    assert made.labels == {
        name_of(subject, expression, level): (
            subject,
            expression,
            level / 4,
            "test" if subject == "F0001" else "train",
        )
        for subject in ("F0001", *TRAINED)
        for expression, level in (("NE", 0), ("SU", 2), ("SU", 4))
    }
    assert list(made.labels) == sorted(stem(path) for path in tree.files)
    assert list(made.set.labels.expressions) == ["NE", "SU"]
    assert list(made.set.labels.subjects) == ["F0001", *TRAINED]
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    assert np.array_equal(made.set.preparation.vertex_index, range(5996))
    assert list(made.set.preparation.stable_vertices) == STABLE
    assert made.set.preparation.raw_unit_mm == 1
    for name, expected in slow_twin(tree).items():
        np.testing.assert_allclose(made.face(name), expected, atol=5e-3)
    for file in tree.files.values():  # the poses of the scans are undone
        neutral = made.face(name_of(file.subject, "NE", 0))
        moved = np.linalg.norm(made.face(stem(file.path)) - neutral, axis=1)
        assert moved[STABLE].max() < 5e-3
        assert (moved.mean() > 0.5) == (file.expression != "NE")
        for kind in ("neutrals", "neutrals_eval"):
            np.testing.assert_array_equal(made.neutral(file.subject, kind), neutral)

    again = prepare(
        "bu3dfe", tree.root, tmp_path / "again.safetensors", like=tmp_path / "set.safetensors"
    )
    assert again.set.topology == made.set.topology and again.labels == made.labels
    assert again.set.preparation.stable_vertices == made.set.preparation.stable_vertices
    # A neutral of the set lies where it is told to go, so it stays there.
    np.testing.assert_allclose(again.set.vertices, made.set.vertices, atol=0.02)


def test_without_alignment(tree, tmp_path):
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", align="none")
    check_vertices(made.set, tree)
    assert made.set.preparation.alignment == "none" and not made.set.preparation.stable_vertices


def test_rigid_alignment(tree, tmp_path):
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", align="rigid")
    assert made.set.preparation.alignment == "rigid" and not made.set.preparation.stable_vertices
    names = made.set.labels.names
    files = [tree.files[f"{name}.wrl"].vertices for name in names]
    target = mean_shape([files[row] for row in made.set.rows(0)])
    for row, vertices in enumerate(files):
        expected = kabsch(vertices, target)(vertices)
        np.testing.assert_allclose(made.set.vertices[row], expected, atol=5e-3)
        # What a raw scan becomes when it is encoded.
        raw = read_mesh(tree.root / f"{names[row]}.wrl")
        encoded = made.set.preparation.apply(raw, target.astype(np.float32))
        np.testing.assert_allclose(encoded, made.set.vertices[row], atol=5e-3)


def test_a_missing_neutral(tree, tmp_path):
    for subject in ("F0001", "M0001"):
        (tree.root / trees.bu3dfe_name(subject, "NE", 0)).unlink()
    with raises("file-missing", r"F0001_NE00\*_F3D\.wrl and 1 more"):
        prepare("bu3dfe", tree.root, tmp_path / "set.safetensors")
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", keep_going=True)
    assert made.report.missing == ["F0001_NE00*_F3D.wrl", "M0001_NE00*_F3D.wrl"]
    twin = slow_twin(tree, neutrals=("F0011", "M0002"))
    for name in made.labels:
        np.testing.assert_allclose(made.face(name), twin[name], atol=5e-3)
    for subject in ("F0001", "M0001"):
        assert np.isnan(made.neutral(subject)).all()
        assert np.isnan(made.neutral(subject, "neutrals_eval")).all()


def test_without_a_neutral_to_train_on(tree, tmp_path):
    gone = {name_of(subject, "NE", 0) for subject in TRAINED}
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", exclude=gone)
    rest = tree.files[trees.bu3dfe_name("F0001", "NE", 0)]
    neutral = made.face(name_of("F0001", "NE", 0))
    for file in tree.files.values():
        if file.subject == "F0001":
            expected = kabsch(rest.face, neutral)(file.face)
            np.testing.assert_allclose(made.face(stem(file.path)), expected, atol=5e-3)
    first = made.face(name_of("F0011", "SU", 4))
    for subject in TRAINED[1:]:
        apart = kabsch(made.face(name_of(subject, "SU", 4)), first, STABLE)(first) - first
        assert np.linalg.norm(apart, axis=1).mean() < 3  # mm, so all of them lie together


def test_vertices_that_are_not_known_to_be_stable(tree, tmp_path):
    with raises("option-conflict", r"--simplify drops vertex \d+") as raised:
        prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", simplify=3000)
    assert int(str(raised.value).split()[3].rstrip(",")) in STABLE
    for path in tree.files:
        tree.drop_vertices(path, 6)
    with raises("vertex-count", "5990"):
        prepare("bu3dfe", tree.root, tmp_path / "set.safetensors")
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", align="none")
    assert any("has 5990 vertices, this data set usually 5996" in line for line in made.said)
    for path, file in tree.files.items():
        np.testing.assert_array_equal(made.face(stem(path)), file.vertices[:-6])


@pytest.mark.parametrize("options", [{}, {"align": "none", "keep_going": True}])
def test_scans_that_are_not_registered(tree, tmp_path, options):
    for k, path in enumerate(tree.files):
        tree.drop_vertices(path, k + 1)
    with raises("vertex-count", "BU-3DFE"):
        prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["bu3dfe"]


def test_names_and_counts_of_the_whole_data_set():
    source = open_names("bu3dfe", trees.bu3dfe_names())
    assert not source.notes and not source.findings.missing
    labels, found = source.labels, counts(source.labels)
    assert list(labels.expressions) == ["NE", "AN", "DI", "FE", "HA", "SA", "SU"]
    assert tuple(labels.subjects) == trees.BU3DFE_SUBJECTS
    assert found["all", ""] == [2500, 2250, 250, 0]
    assert found["expression", "NE"] == [100, 90, 10, 0]
    assert found["expression", "SU"] == [400, 360, 40, 0]
    tested = [name for (what, name), n in found.items() if what == "subject" and n[2]]
    assert tested == [f"F{number:04d}" for number in range(1, 11)]
    for name, level in zip(labels.names, labels.level, strict=True):
        assert level == int(name[8:10]) / 4
    part = open_names("bu3dfe", trees.bu3dfe_names()[-50:])
    assert "2 of 100 people, 25 of 25 meshes each" in part.notes[0]


def test_scans_that_there_are_not():
    codes = ["F0001_NE01WH", "F0001_AN00WH", "F0001_AN05WH", "F0001_XX01WH", "F0001_AN01XX"]
    strangers = [f"{code}_F3D.wrl" for code in (*codes, "X0001_AN01WH")]
    strangers += ["M0001_AN01AE_F2D.wrl", "M0001_AN01AE_F3D.obj"]
    source = open_names("bu3dfe", ["M0001_NE00AE_F3D.wrl", *strangers])
    assert source.labels.names == ["M0001_NE00AE_F3D"]
    assert source.findings.unknown == sorted(strangers)


def test_two_scans_of_the_same():
    with raises("name-duplicate", "M0001_NE00AE_F3D.wrl and M0001_NE00WH"):
        open_names("bu3dfe", ["M0001_NE00AE_F3D.wrl", "M0001_NE00WH_F3D.wrl"])
