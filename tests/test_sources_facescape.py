"""FaceScape: numbers in natural order, who may be shown, missing files, and one simplification."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
import trees
from prepared import check_simplified, check_vertices, copied, news, prepare, read_prepared, stem

from facedis_core.datasets.selection import ExclusionList, select_faces
from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError, UsageError

PUBLISHABLE = {"122", "212", "340", "344", "393", "395", "421", "527", "594", "610"}
# All folders in which the data set is known to lie about.
VARIANTS = tuple(trees.FACESCAPE_FOLDERS)

pytest.importorskip("fast_simplification")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four meshes; to be left as they are."""
    return trees.facescape(
        tmp_path_factory.mktemp("facescape"), ids=(2, 10), expressions=("neutral", "mouth_stretch")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The names of all 16,940 meshes, in the folders of the download."""
    root = tmp_path_factory.mktemp("whole")
    trees.touch(root, trees.facescape_names("trainset"))
    return root


def labels_of(root, **options):
    return open_source("facescape", root, options).source.labels


def people_tested(labels):
    return {labels.subjects[k] for k in np.unique(labels.subject[labels.split == 1])}


def counts(call, root, more=""):
    """What a dry run says: (what, name) -> [faces, train, test, validation]; and its words."""
    done = call(f"fd-prep facescape {root} --dry-run {more}")
    assert done.code == 0
    lines = [line.split("\t") for line in done.out.decode().splitlines()[1:]]
    return {tuple(line[:2]): [int(n) for n in line[2:]] for line in lines}, done.err


def test_the_set_is_what_the_method_says(call, tree, tmp_path):
    done = call(f"fd-prep facescape {tree.root} -o set.safetensors --jobs 1")
    assert (done.code, news(done)) == (0, "")
    made = read_prepared(tmp_path / "set.safetensors")
    assert list(made.labels) == [
        "2/models_reg/1_neutral",
        "2/models_reg/3_mouth_stretch",
        "10/models_reg/1_neutral",
        "10/models_reg/3_mouth_stretch",
    ]
    for name, (subject, expression, level, _) in made.labels.items():
        assert name.startswith(f"{subject}/") and name.endswith(f"_{expression}")
        assert level == (expression != "neutral")
    assert list(made.set.labels.subjects) == ["2", "10"]
    assert list(made.set.labels.expressions) == ["neutral", "mouth_stretch"]
    assert sorted(split for *_, split in made.labels.values()) == ["test"] * 2 + ["train"] * 2
    assert made.set.preparation.raw_vertices == 26317 and made.set.preparation.raw_unit_mm == 1
    assert 8900 <= len(made.set.triangles) <= 9000
    assert 4400 < len(made.set.preparation.vertex_index) < 4700
    check_vertices(made.set, tree)
    for subject in ("2", "10"):
        for kind in ("neutrals", "neutrals_eval"):
            neutral = made.face(f"{subject}/models_reg/1_neutral")
            np.testing.assert_array_equal(made.neutral(subject, kind), neutral)
    assert str(tmp_path).encode() not in (tmp_path / "set.safetensors").read_bytes()

    done = call(
        f"fd-prep facescape {tree.root} -o again.safetensors --like set.safetensors --jobs 1"
    )
    assert (done.code, news(done)) == (0, "")
    again = read_prepared(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(again.set.vertices, made.set.vertices)
    assert again.set.topology == made.set.topology and again.labels == made.labels


def test_the_simplified_faces_are_sound(tree, tmp_path):
    made = prepare("facescape", tree.root, tmp_path / "set.safetensors")
    check_simplified(made.set, tree, 9000)


def test_all_vertices(tree, tmp_path):
    made = prepare("facescape", tree.root, tmp_path / "set.safetensors", simplify=0)
    assert np.array_equal(made.set.preparation.vertex_index, range(26317))
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    check_vertices(made.set, tree)


@pytest.mark.slow
def test_any_person_can_be_the_reference():
    """Which person comes first is chance, so the usual reduction must succeed with each."""
    from facedis_core.geometry.simplification import vertex_map

    topology = trees.facescape_topology()
    failed = []
    for person in ("1", "3", "4"):
        neutral = topology.register(trees.face(person, "neutral", 0))
        try:
            vertex_map(neutral, topology.triangles, 9000)
        except InputError:
            failed.append(person)
    assert not failed


def test_the_paper_split_of_the_whole_data_set(call, whole):
    found, said = counts(call, whole)
    assert found["all", "-"] == [16920, 11840, 5080, 0]  # 846 people, 254 for test
    folder = "facescape_trainset_601_700/603/models_reg/"
    assert said.splitlines() == [
        "fd-prep: warning: faces excluded by the protocol (20): "
        f"{folder}1_neutral, {folder}2_smile, {folder}3_mouth_stretch, ..."
    ]
    subjects = [name for what, name in found if what == "subject"]
    assert subjects == [str(k) for k in range(1, 848) if k != 603]
    expressions = [name for what, name in found if what == "expression"]
    assert tuple(expressions) == trees.FACESCAPE_EXPRESSIONS
    assert all(found["expression", name] == [846, 592, 254, 0] for name in expressions)
    for name in subjects:
        faces, train, test, _ = found["subject", name]
        assert (faces, sorted((train, test))) == (20, [0, 20])
        assert test == 20 or name not in PUBLISHABLE


def test_another_protocol_has_everybody(call, whole):
    found, said = counts(call, whole, "--protocol subjects:0.3")
    assert found["all", "-"] == [16940, 11860, 5080, 0] and said == ""
    assert found["subject", "603"][0] == 20


def test_a_validation_part_leaves_the_test_people_alone(whole):
    plain, divided = labels_of(whole), labels_of(whole, validation=0.1)
    assert people_tested(plain) == people_tested(divided)
    assert np.bincount(divided.split).tolist() == [533 * 20, 254 * 20, 59 * 20]


def test_the_seed_draws_the_others(whole):
    drawn = [people_tested(labels_of(whole, seed=seed)) for seed in (0, 0, 1, 2)]
    assert all(len(people) == 254 and people >= PUBLISHABLE for people in drawn)
    assert drawn[0] == drawn[1] != drawn[2] != drawn[3]
    # Two draws of 30 % share about 30 % of it.
    shared = [len((a - PUBLISHABLE) & (b - PUBLISHABLE)) for a, b in pairwise(drawn[1:])]
    assert all(40 < count < 110 for count in shared)


def test_more_people_may_be_shown_than_are_to_be_tested(tmp_path):
    names = [trees.facescape_name(k, "neutral") for k in (1, 122, 212, 340)]
    trees.touch(tmp_path, names)
    assert people_tested(labels_of(tmp_path)) == {"122", "212", "340"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_naming_variants(tmp_path, variant):
    people = (2, 10, 847)
    names = [
        trees.facescape_name(k, e, variant) for k in people for e in trees.FACESCAPE_EXPRESSIONS
    ]
    trees.touch(tmp_path, reversed(names))
    labels = labels_of(tmp_path)
    assert list(labels.subjects) == ["2", "10", "847"]
    assert tuple(labels.expressions) == trees.FACESCAPE_EXPRESSIONS
    assert list(labels.names) == [stem(name) for name in names]
    assert labels.expression.tolist() == [*range(20)] * 3
    assert labels.subject.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert labels.level.tolist() == ([0.0] + [1.0] * 19) * 3


def test_people_of_several_downloads(tmp_path):
    names = [
        trees.facescape_name(k, "neutral", v) for k, v in zip((3, 20, 100), VARIANTS, strict=True)
    ]
    trees.touch(tmp_path, names)
    labels = labels_of(tmp_path)
    assert list(labels.subjects) == ["3", "20", "100"]
    assert list(labels.names) == [stem(name) for name in names]


@pytest.mark.parametrize(
    "stranger",
    [
        "848/models_reg/1_neutral.obj",
        "0/models_reg/1_neutral.obj",
        "7/models_reg/1_smile.obj",
        "7/models_reg/21_neutral.obj",
        "7/models_reg/1_neutral.ply",
        "7/models_raw/1_neutral.obj",
        "7/models_reg/deep/1_neutral.obj",
        "7/models_reg/1_neutral.obj.mtl",
    ],
)
def test_files_that_are_of_nobody(tmp_path, stranger):
    trees.touch(tmp_path, ["8/models_reg/1_neutral.obj", "9/models_reg/1_neutral.obj", stranger])
    source = open_source("facescape", tmp_path, {}).source
    assert list(source.labels.subjects) == ["8", "9"]
    assert source.findings.unknown == [stranger]


def test_missing_files_are_skipped_and_named(call, tree, tmp_path):
    own = copied(tree, tmp_path / "facescape")
    (own.root / "2/models_reg/3_mouth_stretch.obj").unlink()
    done = call("fd-prep facescape facescape -o set.safetensors --jobs 1")
    assert done.code == 0
    assert news(done) == "fd-prep: warning: missing files (1): 2/models_reg/3_mouth_stretch.obj\n"
    made = read_prepared(tmp_path / "set.safetensors")
    assert len(made.labels) == 3 and "2/models_reg/3_mouth_stretch" not in made.labels
    check_vertices(made.set, own)
    report = json.loads((tmp_path / "set.report.json").read_text())
    assert report["left_out"]["missing"] == ["2/models_reg/3_mouth_stretch.obj"]
    assert report["faces"] == 3


def test_a_person_without_a_neutral(tree, tmp_path):
    own = copied(tree, tmp_path / "facescape")
    (own.root / "10/models_reg/1_neutral.obj").unlink()
    made = prepare("facescape", own.root, tmp_path / "set.safetensors", simplify=0)
    assert (
        np.isnan(made.neutral("10")).all() and np.isnan(made.neutral("10", "neutrals_eval")).all()
    )
    assert np.isfinite(made.neutral("2")).all() and not made.report.fault


def test_two_copies_of_one_scan(tmp_path):
    names = [trees.facescape_name(7, "smile", variant) for variant in VARIANTS[:2]]
    trees.touch(tmp_path, [*names, "8/models_reg/1_neutral.obj"])
    with pytest.raises(
        InputError, match=r"two files of subject 7, 2_smile, 7/2_smile\.obj and 7/mo"
    ):
        open_source("facescape", tmp_path, {})


def test_copies_of_what_nobody_sees_are_no_matter(tmp_path):
    names = [trees.facescape_name(603, "smile", variant) for variant in VARIANTS]
    trees.touch(tmp_path, [*names, "8/1_neutral.obj", "9/1_neutral.obj"])
    source = open_source("facescape", tmp_path, {}).source
    assert list(source.labels.subjects) == ["8", "9"]
    assert sorted(source.findings.excluded) == sorted(stem(name) for name in names)


def test_only_people_whom_nobody_sees(call, tmp_path):
    trees.touch(tmp_path / "facescape", [trees.facescape_name(603, "smile")])
    done = call("fd-prep facescape facescape --dry-run")
    assert done.code == 3
    assert len(done.err.splitlines()) == 1


def chosen_names(root, *listed):
    """Faces that are left when these are to be excluded."""
    source = open_source("facescape", root, {}).source
    rows = select_faces(source, ExclusionList(frozenset(listed), "0" * 12)).rows
    return [source.labels.names[row] for row in rows]


@pytest.mark.parametrize(
    "line",
    [
        "603",
        "603/models_reg/1_neutral",
        "603/models_reg/1_neutral.obj",
        "12/models_reg/2_smile",
        "12/models_reg/2_smile.obj",
    ],
)
def test_a_list_of_broken_meshes_may_name_what_is_not_there_anyway(tmp_path, line):
    """Such a list is passed from one to another, and everybody's copy lacks other files."""
    names = [
        trees.facescape_name(k, e)
        for k in (12, 13, 14, 603)
        for e in ("neutral", "smile")
        if (k, e) != (12, "smile")
    ]
    trees.touch(tmp_path, names)
    expected = [stem(name) for name in names if name[:3] != "603" and name[:4] != "14/m"]
    assert chosen_names(tmp_path, line, "14") == expected
    expected.append("14/models_reg/1_neutral")
    assert chosen_names(tmp_path, line, "14/models_reg/2_smile.obj") == expected


def test_excluding_nobody(call, tmp_path):
    trees.touch(tmp_path / "facescape", [trees.facescape_name(k, "neutral") for k in (12, 13)])
    for line in ("1", "12/models_reg/1_smile", "60", "3"):
        with pytest.raises(InputError, match=f"{line!r} is to be excluded, but no face or subject"):
            chosen_names(tmp_path / "facescape", line)
    (tmp_path / "broken.txt").write_text("121\n")
    done = call("fd-prep facescape facescape --dry-run --exclude broken.txt")
    assert done.code == 3 and "'121' is to be excluded, but no face" in done.line


@pytest.mark.parametrize("spoil", ["truncate", "nan", "vertices", "polygon"])
def test_a_broken_mesh(tree, tmp_path, spoil):
    own = copied(tree, tmp_path / "facescape")
    path = "10/models_reg/3_mouth_stretch.obj"
    if spoil == "truncate":
        trees.truncate(own.root / path)
    elif spoil == "nan":
        own.plant_nan(path)
    elif spoil == "vertices":
        own.drop_vertices(path)
    else:
        own.drop_polygon(path)
    target = tmp_path / "set.safetensors"
    with pytest.raises(InputError, match=rf"{re.escape(path)}.*"):
        prepare("facescape", own.root, target, simplify=0)
    assert not target.exists()
    made = prepare("facescape", own.root, target, simplify=0, keep_going=True)
    assert list(made.report.failed) == [stem(path)] and made.report.fault
    check_vertices(made.set, own)
    assert len(made.labels) == 3


def test_a_missing_package_is_named(shell, tree, without_torch, tmp_path):
    done = shell(f"fd-prep facescape {tree.root} -o set.safetensors --jobs 1", env=without_torch)
    assert done.code == 2 and "pip install" in done.line
    assert not list(tmp_path.iterdir())


def test_options_of_others(tree):
    with pytest.raises(UsageError, match="--align is 'stable'"):
        open_source("facescape", tree.root, {"align": "stable"})
