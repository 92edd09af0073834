"""BU-3DFE: flat VRML files, and alignment by neutrals and stable vertices against a slow twin."""

import json
import re

import numpy as np
import pytest
import trees
from prepared import (
    check_simplified,
    check_vertices,
    copied,
    kabsch,
    mean_shape,
    news,
    prepare,
    read_prepared,
    stem,
)

from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError, UsageError
from facedis_core.mesh.mesh import read_mesh

STABLE = [4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143]
TRAINED = ("F0011", "M0001", "M0002")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twelve scans of four people, one of whom is for test; to be left as they are."""
    return trees.bu3dfe(
        tmp_path_factory.mktemp("bu3dfe"),
        subjects=("F0001", *TRAINED),
        expressions=("SU",),
        levels=(2, 4),
    )


@pytest.fixture
def own(tree, tmp_path):
    """The same scans, to be spoilt."""
    return copied(tree, tmp_path / "bu3dfe")


def name_of(subject, expression, level):
    return stem(trees.bu3dfe_name(subject, expression, level))


def slow_twin(tree):
    """METHOD 6: neutrals to the mean neutral of training, the rest to their own neutral."""
    files = {(f.subject, f.expression, f.strength): f.vertices for f in tree.files.values()}
    mean = mean_shape([files[subject, "NE", 0.0] for subject in TRAINED])
    aligned = {}
    for (subject, expression, strength), vertices in files.items():
        neutral = files[subject, "NE", 0.0]
        neutral = kabsch(neutral, mean)(neutral)
        aligned[name_of(subject, expression, round(4 * strength))] = (
            neutral if expression == "NE" else kabsch(vertices, neutral, STABLE)(vertices)
        )
    return aligned


def test_the_set_is_what_the_method_says(call, tree, tmp_path):
    done = call(f"fd-prep bu3dfe {tree.root} -o set.safetensors --jobs 1")
    assert (done.code, news(done)) == (0, "")
    made = read_prepared(tmp_path / "set.safetensors")
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
    for subject in made.set.labels.subjects:
        for kind in ("neutrals", "neutrals_eval"):
            neutral = made.face(name_of(subject, "NE", 0))
            np.testing.assert_array_equal(made.neutral(subject, kind), neutral)

    done = call("fd-info --verify set.safetensors")
    assert (done.code, news(done)) == (0, "")
    assert str(tmp_path).encode() not in (tmp_path / "set.safetensors").read_bytes()


def test_alignment_undoes_the_poses(tree, tmp_path):
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors")
    for subject in ("F0001", *TRAINED):
        (rest,) = tree.find(subject, "NE")
        neutral = made.face(name_of(subject, "NE", 0))
        back = kabsch(rest.face, neutral)
        np.testing.assert_allclose(back(rest.face), neutral, atol=1e-3)
        for file in tree.files.values():
            if file.subject == subject:
                # Where the person's face was before it was given a pose of its own.
                np.testing.assert_allclose(back(file.face), made.face(stem(file.path)), atol=5e-3)
                moved = np.linalg.norm(made.face(stem(file.path)) - neutral, axis=1)
                assert moved[STABLE].max() < 5e-3
                assert (moved.mean() > 0.5) == (file.expression != "NE")


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


def test_like_the_set_itself(tree, tmp_path):
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors")
    again = prepare(
        "bu3dfe", tree.root, tmp_path / "again.safetensors", like=tmp_path / "set.safetensors"
    )
    assert again.set.topology == made.set.topology and again.labels == made.labels
    assert again.set.preparation.stable_vertices == made.set.preparation.stable_vertices
    # A neutral of the set lies where it is told to go, so it stays there.
    np.testing.assert_allclose(again.set.vertices, made.set.vertices, atol=0.02)


def test_simplified(tree, tmp_path):
    pytest.importorskip("fast_simplification")
    options = {"simplify": 7000, "align": "none"}
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", **options)
    check_vertices(made.set, tree)
    check_simplified(made.set, tree, 7000)


def test_simplification_and_stable_vertices(call, tree, tmp_path):
    pytest.importorskip("fast_simplification")
    done = call(f"fd-prep bu3dfe {tree.root} -o set.safetensors --jobs 1 --simplify 3000")
    assert done.code == 2
    assert re.search(r"--simplify drops vertex \d+, which --align stable needs", done.line)
    assert int(re.search(r"vertex (\d+)", done.line)[1]) in STABLE
    assert not list(tmp_path.iterdir())


def test_names_and_counts_of_the_whole_data_set(call, tmp_path):
    trees.touch(tmp_path / "bu3dfe", trees.bu3dfe_names())
    done = call("fd-prep bu3dfe bu3dfe --dry-run")
    assert (done.code, news(done)) == (0, "")
    lines = [line.split("\t") for line in done.out.decode().splitlines()[1:]]
    assert lines[0] == ["all", "-", "2500", "2250", "250", "0"]
    expressions = {line[1]: line[2:] for line in lines if line[0] == "expression"}
    assert list(expressions) == ["NE", "AN", "DI", "FE", "HA", "SA", "SU"]
    assert expressions["NE"] == ["100", "90", "10", "0"]
    assert expressions["SU"] == ["400", "360", "40", "0"]
    subjects = {line[1]: line[2:] for line in lines if line[0] == "subject"}
    assert tuple(subjects) == trees.BU3DFE_SUBJECTS
    tested = [subject for subject, (_, _, test, _) in subjects.items() if test != "0"]
    assert tested == [f"F{number:04d}" for number in range(1, 11)]


@pytest.mark.parametrize("ethnicity", trees.BU3DFE_ETHNICITIES)
def test_levels_and_ethnicities(tmp_path, ethnicity):
    scans = ["NE00", *(f"{e}0{k}" for e in trees.BU3DFE_EXPRESSIONS for k in (1, 2, 3, 4))]
    trees.touch(tmp_path, [f"M0044_{scan}{ethnicity}_F3D.wrl" for scan in scans])
    labels = open_source("bu3dfe", tmp_path, {}).source.labels
    assert len(labels.names) == 25 and list(labels.subjects) == ["M0044"]
    for name, level in zip(labels.names, labels.level, strict=True):
        assert level == int(name[8:10]) / 4


@pytest.mark.parametrize(
    "stranger",
    [
        "F0001_NE01WH",
        "F0001_AN00WH",
        "F0001_AN05WH",
        "F0001_XX01WH",
        "F0001_AN01XX",
        "X0001_AN01WH",
    ],
)
def test_scans_that_there_are_not(tmp_path, stranger):
    trees.touch(tmp_path, ["M0001_NE00AE_F3D.wrl", f"{stranger}_F3D.wrl", "M0001_AN01AE_F2D.wrl"])
    source = open_source("bu3dfe", tmp_path, {}).source
    assert source.labels.names == ["M0001_NE00AE_F3D"]
    assert source.findings.unknown == sorted([f"{stranger}_F3D.wrl", "M0001_AN01AE_F2D.wrl"])


def test_two_scans_of_the_same(tmp_path):
    trees.touch(tmp_path, ["M0001_NE00AE_F3D.wrl", "M0001_NE00WH_F3D.wrl"])
    with pytest.raises(InputError, match=r"two files of M0001_NE00, M0001_NE00AE_F3D\.wrl and M0"):
        open_source("bu3dfe", tmp_path, {})


def test_scans_that_are_not_registered(call, own, tmp_path):
    for k, path in enumerate(own.files):
        own.drop_vertices(path, k + 1)
    done = call("fd-prep bu3dfe bu3dfe -o set.safetensors --jobs 1")
    assert done.code == 3
    message = (
        r"has (\d+) vertices, .* (\d+), expected 5996; BU-3DFE as it is distributed is not reg"
    )
    counts = re.search(message, done.line)
    assert counts and counts[1] != counts[2]
    assert "register every scan to one topology" in done.line
    for options in ({"align": "none"}, {"keep_going": True}):
        with pytest.raises(InputError, match=message):
            prepare("bu3dfe", own.root, tmp_path / "set.safetensors", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["bu3dfe"]


def test_one_scan_that_is_not_registered(own, tmp_path):
    path = trees.bu3dfe_name("M0002", "SU", 4)
    own.drop_vertices(path, 5)
    target = tmp_path / "set.safetensors"
    with pytest.raises(InputError, match=rf"{path} has 5991 vertices, expected 5996 as the others"):
        prepare("bu3dfe", own.root, target)
    made = prepare("bu3dfe", own.root, target, keep_going=True)
    assert list(made.report.failed) == [stem(path)] and made.report.fault
    twin = slow_twin(own)
    del twin[stem(path)]
    assert set(made.labels) == set(twin)
    for name, expected in twin.items():
        np.testing.assert_allclose(made.face(name), expected, atol=5e-3)


def test_another_registration_that_all_scans_have(own, tmp_path):
    for path in own.files:
        own.drop_vertices(path, 6)
    target = tmp_path / "set.safetensors"
    with pytest.raises(
        InputError,
        match="has 5990 vertices, the stable vertices are known for 5996 only; pass "
        "--align rigid or --align none",
    ):
        prepare("bu3dfe", own.root, target)
    made = prepare("bu3dfe", own.root, target, align="none")
    (said,) = made.said
    assert "has 5990 vertices, this data set usually 5996; continuing" in said
    for path, file in own.files.items():
        np.testing.assert_array_equal(made.face(stem(path)), file.vertices[:-6])


def test_a_missing_neutral(call, own, tmp_path):
    for subject in ("F0001", "M0001"):
        (own.root / trees.bu3dfe_name(subject, "NE", 0)).unlink()
    command = "fd-prep bu3dfe bu3dfe -o set.safetensors --jobs 1"
    stopped = call(command)
    assert stopped.code == 3
    assert "bu3dfe lacks F0001_NE00*_F3D.wrl and 1 more; add the files" in stopped.line
    assert call(f"{command} --keep-going").code == 1
    made = read_prepared(tmp_path / "set.safetensors")
    report = json.loads((tmp_path / "set.report.json").read_text())
    missing = ["F0001_NE00*_F3D.wrl", "M0001_NE00*_F3D.wrl"]
    assert report["left_out"]["missing"] == missing
    for subject in ("F0001", "M0001"):
        assert np.isnan(made.neutral(subject)).all()
        assert np.isnan(made.neutral(subject, "neutrals_eval")).all()
    files = {file.path: file.vertices for file in own.files.values()}
    mean = mean_shape([files[trees.bu3dfe_name(s, "NE", 0)] for s in ("F0011", "M0002")])
    for subject in ("F0001", "M0001"):
        vertices = files[trees.bu3dfe_name(subject, "SU", 4)]
        expected = kabsch(vertices, mean, STABLE)(vertices)
        found = made.face(name_of(subject, "SU", 4))
        np.testing.assert_allclose(found, expected, atol=5e-3)


def test_a_neutral_that_is_excluded_is_no_target(tree, tmp_path):
    gone = name_of("M0001", "NE", 0)
    made = prepare("bu3dfe", tree.root, tmp_path / "set.safetensors", exclude={gone})
    assert gone not in made.labels and made.report.excluded == [gone]
    assert not made.report.fault and np.isnan(made.neutral("M0001")).all()
    files = {file.path: file.vertices for file in tree.files.values()}
    mean = mean_shape([files[trees.bu3dfe_name(s, "NE", 0)] for s in ("F0011", "M0002")])
    neutral = files[trees.bu3dfe_name("F0001", "NE", 0)]
    expected = kabsch(neutral, mean)(neutral)
    np.testing.assert_allclose(made.face(name_of("F0001", "NE", 0)), expected, atol=5e-3)


def test_excluding_what_is_missing_makes_the_set_whole(own, tmp_path):
    (own.root / trees.bu3dfe_name("M0001", "SU", 2)).unlink()
    with pytest.raises(InputError, match=r"lacks M0001_SU02\*_F3D\.wrl; "):
        prepare("bu3dfe", own.root, tmp_path / "set.safetensors")
    made = prepare("bu3dfe", own.root, tmp_path / "set.safetensors", exclude={"M0001"})
    assert not made.report.fault and "M0001" not in made.set.labels.subjects


def test_without_a_neutral_to_train_on(own, tmp_path):
    for subject in TRAINED:
        (own.root / trees.bu3dfe_name(subject, "NE", 0)).unlink()
    made = prepare("bu3dfe", own.root, tmp_path / "set.safetensors", keep_going=True)
    (rest,) = own.find("F0001", "NE")
    neutral = made.face(name_of("F0001", "NE", 0))
    for file in own.files.values():
        if file.subject == "F0001":
            expected = kabsch(rest.face, neutral)(file.face)
            np.testing.assert_allclose(made.face(stem(file.path)), expected, atol=5e-3)
    first = made.face(name_of("F0011", "SU", 4))
    for subject in TRAINED[1:]:
        apart = kabsch(made.face(name_of(subject, "SU", 4)), first, STABLE)(first) - first
        assert np.linalg.norm(apart, axis=1).mean() < 3  # mm, so all of them lie together


def test_options_of_others(tree):
    with pytest.raises(UsageError, match="--align is 'affine', expected one of none, rigid, simi"):
        open_source("bu3dfe", tree.root, {"align": "affine"})
    with pytest.raises(UsageError, match="--units is 'inch'"):
        open_source("bu3dfe", tree.root, {"units": "inch"})
