"""FaceScape: numbers in natural order, who may be shown, missing files, and one simplification."""

from itertools import pairwise

import numpy as np
import pytest
import trees
from prepared import check_simplified, check_vertices, counts, open_names, prepare, stem
from raising import raises

PUBLISHABLE = {"122", "212", "340", "344", "393", "395", "421", "527", "594", "610"}
VARIANTS = tuple(trees.FACESCAPE_FOLDERS)
STRETCHED = "2/models_reg/3_mouth_stretch.obj"

pytest.importorskip("fast_simplification")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three meshes of two people, for one of whom one is missing."""
    made = trees.facescape(
        tmp_path_factory.mktemp("facescape"), ids=(2, 10), expressions=("neutral", "mouth_stretch")
    )
    (made.root / STRETCHED).unlink()
    return made


def people_tested(labels):
    return {labels.subjects[k] for k in np.unique(labels.subject[labels.split == 1])}


def test_the_set_is_what_the_method_says(tree, tmp_path):
    made = prepare("facescape", tree.root, tmp_path / "set.safetensors")
    assert [(name, *label[:3]) for name, label in made.labels.items()] == [
        ("2/models_reg/1_neutral", "2", "neutral", 0),
        ("10/models_reg/1_neutral", "10", "neutral", 0),
        ("10/models_reg/3_mouth_stretch", "10", "mouth_stretch", 1),
    ]
    assert list(made.set.labels.subjects) == ["2", "10"]
    assert list(made.set.labels.expressions) == ["neutral", "mouth_stretch"]
    assert {split for *_, split in made.labels.values()} == {"test", "train"}
    assert made.set.preparation.raw_vertices == 26317 and made.set.preparation.raw_unit_mm == 1
    assert 8900 <= len(made.set.triangles) <= 9000
    check_vertices(made.set, tree)
    check_simplified(made.set, tree, 9000)
    for subject in ("2", "10"):
        for kind in ("neutrals", "neutrals_eval"):
            neutral = made.face(f"{subject}/models_reg/1_neutral")
            np.testing.assert_array_equal(made.neutral(subject, kind), neutral)
    # Every copy of the data set lacks some files, so this is no fault.
    assert made.report.missing == [STRETCHED] and not made.report.fault
    assert f"missing files (1): {STRETCHED}" in made.said

    again = prepare(
        "facescape", tree.root, tmp_path / "again.safetensors", like=tmp_path / "set.safetensors"
    )
    np.testing.assert_array_equal(again.set.vertices, made.set.vertices)
    assert again.set.topology == made.set.topology and again.labels == made.labels


def test_all_vertices(tree, tmp_path):
    made = prepare("facescape", tree.root, tmp_path / "set.safetensors", simplify=0)
    assert np.array_equal(made.set.preparation.vertex_index, range(26317))
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    check_vertices(made.set, tree)


def test_the_paper_split_of_the_whole_data_set():
    source = open_names("facescape", trees.facescape_names())
    labels, found = source.labels, counts(source.labels)
    assert found["all", ""] == [16920, 11840, 5080, 0]  # 846 people, 254 for test
    excluded = [trees.facescape_name(603, e, "trainset") for e in trees.FACESCAPE_EXPRESSIONS]
    assert source.findings.excluded == [stem(name) for name in excluded]
    assert labels.subjects == [str(k) for k in range(1, 848) if k != 603]
    assert tuple(labels.expressions) == trees.FACESCAPE_EXPRESSIONS
    for expression in labels.expressions:
        assert found["expression", expression] == [846, 592, 254, 0]
    for name in labels.subjects:
        faces, train, test, _ = found["subject", name]
        assert (faces, sorted((train, test))) == (20, [0, 20])
    assert people_tested(labels) >= PUBLISHABLE
    everybody = open_names("facescape", trees.facescape_names(), protocol="subjects:0.3")
    found = counts(everybody.labels)
    assert found["all", ""] == [16940, 11860, 5080, 0] and found["subject", "603"][0] == 20
    assert not everybody.findings.excluded and not everybody.notes


def test_the_seed_draws_the_others():
    names = [trees.facescape_name(k, "neutral") for k in range(1, 848)]
    drawn = [people_tested(open_names("facescape", names, seed=s).labels) for s in (0, 0, 1, 2)]
    assert all(len(people) == 254 and people >= PUBLISHABLE for people in drawn)
    assert drawn[0] == drawn[1] != drawn[2] != drawn[3]
    # Two draws of 30 % share about 30 % of it.
    shared = [len((a - PUBLISHABLE) & (b - PUBLISHABLE)) for a, b in pairwise(drawn[1:])]
    assert all(40 < count < 110 for count in shared)
    divided = open_names("facescape", names, validation=0.1).labels
    assert people_tested(divided) == drawn[0]
    assert np.bincount(divided.split).tolist() == [533, 254, 59]


def test_more_people_may_be_shown_than_are_to_be_tested():
    names = [trees.facescape_name(k, "neutral") for k in (1, 122, 212, 340)]
    assert people_tested(open_names("facescape", names).labels) == {"122", "212", "340"}


def test_people_of_several_downloads():
    people = zip((2, 10, 847), VARIANTS, strict=True)
    names = [trees.facescape_name(k, e, v) for k, v in people for e in trees.FACESCAPE_EXPRESSIONS]
    labels = open_names("facescape", names).labels
    assert list(labels.subjects) == ["2", "10", "847"]
    assert tuple(labels.expressions) == trees.FACESCAPE_EXPRESSIONS
    assert list(labels.names) == [stem(name) for name in names]
    assert labels.expression.tolist() == [*range(20)] * 3
    assert labels.subject.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert labels.level.tolist() == ([0.0] + [1.0] * 19) * 3


def test_files_that_are_of_nobody():
    strangers = [
        "848/models_reg/1_neutral.obj",
        "0/models_reg/1_neutral.obj",
        "7/models_reg/1_smile.obj",
        "7/models_reg/21_neutral.obj",
        "7/models_reg/1_neutral.ply",
        "7/models_raw/1_neutral.obj",
        "7/models_reg/deep/1_neutral.obj",
        "7/models_reg/1_neutral.obj.mtl",
    ]
    known = ["8/models_reg/1_neutral.obj", "9/models_reg/1_neutral.obj"]
    source = open_names("facescape", [*known, *strangers])
    assert list(source.labels.subjects) == ["8", "9"]
    assert source.findings.unknown == sorted(strangers)


def test_two_copies_of_one_scan():
    names = ["8/1_neutral.obj", "9/1_neutral.obj"]
    copies = [trees.facescape_name(7, "smile", variant) for variant in VARIANTS[:2]]
    with raises("name-duplicate", "7, 2_smile, 7/2_smile.obj and 7/"):
        open_names("facescape", [*names, *copies])
    unseen = [trees.facescape_name(603, "smile", variant) for variant in VARIANTS]
    source = open_names("facescape", [*names, *unseen])
    assert list(source.labels.subjects) == ["8", "9"]
    assert sorted(source.findings.excluded) == sorted(stem(name) for name in unseen)


def test_only_people_whom_nobody_sees():
    with raises("split-empty"):
        open_names("facescape", [trees.facescape_name(603, "smile")])
