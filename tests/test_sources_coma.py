"""CoMA: sequences on disk against METHOD's levels, outliers, sides, neutrals and split."""

import json
from pathlib import PurePosixPath
from typing import NamedTuple

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

from facedis_core.datasets.coma import settle_levels
from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError, UsageError
from facedis_core.mesh.mesh import Mesh, write_mesh

ANN, BOB, CY = trees.COMA_SUBJECTS[:3]
OUTLIERS = {(ANN, "bareteeth", 7), (BOB, "mouth_up", 13)}


def make_tree(root, **options):
    """Sequences whose faces at rest differ a little, so that it matters which of them count."""
    tree = trees.coma(root, **options)
    for path, file in list(tree.files.items()):
        if file.strength == 0 and not path.endswith(".000001.ply"):
            noise = np.random.default_rng(len(path) + hash_of(path)).normal(0, 5e-3, (5023, 3))
            face = (file.face + noise).astype(np.float32)
            tree.add(path, file.subject, file.expression, 0.0, face)
    return tree


def hash_of(path):
    return sum((k + 1) * byte for k, byte in enumerate(path.encode()))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """120 frames of two people; to be left as they are."""
    return make_tree(
        tmp_path_factory.mktemp("coma"),
        subjects=(ANN, BOB),
        expressions=("bareteeth", "mouth_side", "mouth_up"),
        outliers=OUTLIERS,
    )


@pytest.fixture
def small(tmp_path):
    """24 frames of one person, to be spoilt."""
    return make_tree(
        tmp_path / "coma", subjects=(ANN,), expressions=("bareteeth", "mouth_side"), frames=12
    )


class Frame(NamedTuple):
    expression: str
    level: float
    test: bool


class Twin(NamedTuple):
    frames: dict
    outliers: list


def slow_twin(tree, listed=None, gone=()):
    """METHOD 6, frame by frame; `listed` are all paths on disk, those `gone` cannot be used."""
    listed = sorted(tree.files if listed is None else listed)
    test = {path: i % 100 < 10 for i, path in enumerate(listed)}
    sequences = {}
    for path in listed:
        if path not in gone:
            sequences.setdefault(str(PurePosixPath(path).parent), []).append(path)
    frames, outliers = {}, []
    for sequence, paths in sequences.items():
        vertices = {path: tree.files[path].vertices.astype(np.float64) for path in paths}
        first = vertices[paths[0]]
        distance = {p: np.linalg.norm(vertices[p] - first, axis=1).mean() for p in paths}
        values = np.array(list(distance.values()))
        z = dict(zip(paths, (values - values.mean()) / values.std(), strict=True))
        apex = max(distance[path] for path in paths if z[path] <= 3)
        for path in paths:
            expression = sequence.rpartition("/")[2]
            if expression in ("mouth_down", "mouth_middle", "mouth_side", "mouth_up"):
                left = vertices[path][3506, 0] < first[3506, 0]
                expression += "_left" if left else "_right"
            if z[path] > 3:
                outliers.append(stem(path))
            else:
                frames[stem(path)] = Frame(expression, distance[path] / apex, test[path])
    return Twin(frames, outliers)


def check_labels(made, twin):
    """Names in order, subjects, expressions, levels and split are the twin's."""
    found = made.labels
    assert list(found) == list(twin.frames)
    for name, frame in twin.frames.items():
        subject, expression, level, split = found[name]
        assert subject == name.split("/")[0]
        assert (expression, split) == (frame.expression, "test" if frame.test else "train")
        assert level == pytest.approx(frame.level, abs=1e-5)
    assert list(made.set.labels.expressions) == sorted({f.expression for f in twin.frames.values()})


def check_neutrals(made, twin, tree):
    for subject in made.set.labels.subjects:
        for kind, tested in (("neutrals", False), ("neutrals_eval", True)):
            rest = [
                tree.files[f"{name}.ply"].vertices.astype(np.float64)
                for name, frame in twin.frames.items()
                if name.startswith(subject) and frame.level <= 0.01 and (tested or not frame.test)
            ]
            found = made.neutral(subject, kind)
            if rest:
                np.testing.assert_allclose(found, np.mean(rest, axis=0), atol=2e-5)
            else:
                assert np.isnan(found).all()


def test_the_set_is_what_the_method_says(call, tree, tmp_path):
    done = call(f"fd-prep coma {tree.root} -o set.safetensors --jobs 1")
    twin = slow_twin(tree)
    assert done.code == 0
    said = "fd-prep: warning: faces dropped as outliers (2): "
    assert news(done) == said + ", ".join(twin.outliers) + "\n"
    made = read_prepared(tmp_path / "set.safetensors")
    check_labels(made, twin)
    check_neutrals(made, twin, tree)
    check_vertices(made.set, tree)
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    assert made.set.preparation.raw_unit_mm == 1000
    assert made.set.source == "coma" and list(made.set.labels.subjects) == [ANN, BOB]
    # The twin is worth something only where its faces at rest, sides and splits differ.
    assert not np.array_equal(made.set.neutrals, made.set.neutrals_eval)
    shown = {label[1] for label in made.labels.values()}
    assert {"bareteeth", "mouth_side_left", "mouth_side_right", "mouth_up_left"} <= shown
    assert sum(frame.test for frame in twin.frames.values()) == 19

    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.report.json", "set.safetensors"]
    report = json.loads((tmp_path / "set.report.json").read_text())
    torn = {f"{subject}/{e}/{e}.{frame:06d}" for subject, e, frame in OUTLIERS}
    assert set(report["left_out"]["outliers"]) == set(twin.outliers) == torn
    assert report["faces"] == 118 and report["left_out"]["failed"] == {}
    counted = {
        (c["what"], c["name"]): (c["faces"], c["train"], c["test"]) for c in report["counts"]
    }
    assert counted[("all", "")] == (118, 99, 19)
    assert counted[("expression", "bareteeth")] == (39, 30, 9)
    assert counted[("subject", ANN)] == (59, 50, 9)
    sides = [counted[("expression", f"mouth_side_{side}")][0] for side in ("left", "right")]
    assert sum(sides) == 40 and min(sides) > 10

    done = call("fd-info --verify set.safetensors")
    assert (done.code, news(done)) == (0, "")
    assert b"frames, the first 10 of every 100" in done.out


def test_simplified(tree, tmp_path):
    pytest.importorskip("fast_simplification")
    torn = [path for path, file in tree.files.items() if np.isnan(file.strength)]
    made = prepare("coma", tree.root, tmp_path / "set.safetensors", simplify=5000)
    check_vertices(made.set, tree)
    check_simplified(made.set, tree, 5000)
    # Levels, sides and outliers are those of all vertices.
    check_labels(made, slow_twin(tree))
    assert len(made.report.outliers) == len(torn) == 2
    again = prepare(
        "coma", tree.root, tmp_path / "again.safetensors", like=tmp_path / "set.safetensors"
    )
    np.testing.assert_array_equal(again.set.vertices, made.set.vertices)
    assert again.set.topology == made.set.topology and again.labels == made.labels


def test_the_same_bytes_from_two_processes(shell, tree, tmp_path):
    assert shell(f"fd-prep coma {tree.root} -o two.safetensors --jobs 2").code == 0
    prepare("coma", tree.root, tmp_path / "one.safetensors", seed=0)
    one, two = ((tmp_path / f"{jobs}.safetensors").read_bytes() for jobs in ("one", "two"))
    assert one == two
    assert str(tree.root).encode() not in one


def test_aligned(tree, tmp_path):
    made = prepare("coma", tree.root, tmp_path / "set.safetensors", align="rigid")
    check_labels(made, slow_twin(tree))
    files = [tree.files[f"{name}.ply"].vertices for name in made.set.labels.names]
    trained = made.set.rows(0)
    target = mean_shape([files[row] for row in trained], rounds=4)
    for row, vertices in enumerate(files):
        expected = kabsch(vertices, target)(vertices)
        np.testing.assert_allclose(made.set.vertices[row], expected, atol=2e-3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The names of all 20,466 frames; nobody says that they count without a gap."""
    root = tmp_path_factory.mktemp("whole")
    trees.touch(root, [name.replace(".000005.", ".999999.") for name in trees.coma_names()])
    return root


def test_names_and_counts_of_the_whole_data_set(call, whole):
    done = call(f"fd-prep coma {whole} --dry-run")
    assert (done.code, news(done)) == (0, "")
    lines = [line.split("\t") for line in done.out.decode().splitlines()]
    assert lines[0] == ["what", "name", "faces", "train", "test", "validation"]
    assert lines[1] == ["all", "-", "20466", "18416", "2050", "0"]
    assert [line[1] for line in lines if line[0] == "expression"] == list(trees.COMA_EXPRESSIONS)
    assert [line[1] for line in lines if line[0] == "subject"] == list(trees.COMA_SUBJECTS)
    for what in ("expression", "subject"):
        assert sum(int(line[2]) for line in lines if line[0] == what) == 20466


def test_leaving_one_person_out(whole):
    labels = open_source("coma", whole, {"protocol": "identity-fold:12/12"}).source.labels
    tested = labels.split == 1
    assert {labels.subjects[k] for k in labels.subject[tested]} == {trees.COMA_SUBJECTS[11]}
    assert tested.sum() == (labels.subject == 11).sum()


def test_all_twelve_expressions_are_classes_in_order(tmp_path):
    names = [trees.coma_name(ANN, e, 1) for e in trees.COMA_EXPRESSIONS]
    trees.touch(tmp_path, names)
    labels = open_source("coma", tmp_path, {"protocol": "subjects:0"}).source.labels
    assert tuple(labels.expressions) == trees.COMA_EXPRESSIONS
    assert list(labels.names) == [stem(name) for name in names]


@pytest.mark.parametrize("spoil", ["truncate", "nan", "vertices"])
def test_a_broken_first_frame(call, small, tmp_path, spoil):
    path = trees.coma_name(ANN, "bareteeth", 1)
    if spoil == "truncate":
        trees.truncate(small.root / path)
    elif spoil == "nan":
        small.plant_nan(path, 17)
    else:
        small.drop_vertices(path, 3)
    command = "fd-prep coma coma -o set.safetensors --jobs 1"
    stopped = call(command)
    assert stopped.code == 3 and "bareteeth.000001" in stopped.line
    assert "--keep-going" in stopped.line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coma"]
    done = call(f"{command} --keep-going")
    assert done.code == 1
    assert f"faces that could not be used (1): {stem(path)}" in done.err
    made = read_prepared(tmp_path / "set.safetensors")
    twin = slow_twin(small, gone={path})
    assert twin.frames[stem(trees.coma_name(ANN, "bareteeth", 2))].level == 0
    check_labels(made, twin)
    check_neutrals(made, twin, small)
    report = json.loads((tmp_path / "set.report.json").read_text())
    assert list(report["left_out"]["failed"]) == [stem(path)]


def test_an_excluded_first_frame(call, small, tmp_path):
    path = trees.coma_name(ANN, "mouth_side", 1)
    (tmp_path / "bad.txt").write_text(f"{stem(path)}\n")
    done = call("fd-prep coma coma -o set.safetensors --jobs 1 --exclude bad.txt")
    assert done.code == 0
    made = read_prepared(tmp_path / "set.safetensors")
    check_labels(made, slow_twin(small, gone={path}))
    assert list(made.set.history[0].inputs) == ["exclude"]
    report = json.loads((tmp_path / "set.report.json").read_text())
    assert report["left_out"]["excluded"] == [stem(path)]


def test_an_excluded_subject(tree, tmp_path):
    made = prepare("coma", tree.root, tmp_path / "set.safetensors", exclude={ANN})
    gone = [path for path in tree.files if path.startswith(ANN)]
    check_labels(made, slow_twin(tree, gone=gone))
    assert list(made.set.labels.subjects) == [BOB]
    assert len(made.report.excluded) == len(gone)


def test_a_gap_in_the_frames(call, small, tmp_path):
    path = trees.coma_name(ANN, "bareteeth", 5)
    (small.root / path).unlink()
    command = "fd-prep coma coma -o set.safetensors --jobs 1"
    stopped = call(command)
    assert stopped.code == 3
    assert stopped.err.splitlines()[-1].startswith(f"fd-prep: coma lacks {path}; ")
    done = call(f"{command} --keep-going")
    assert done.code == 1
    made = read_prepared(tmp_path / "set.safetensors")
    # Frames count as they lie there, so a frame that is not there moves those behind it.
    twin = slow_twin(small, listed=[p for p in small.files if p != path])
    check_labels(made, twin)
    assert [f.test for f in twin.frames.values()] == [True] * 10 + [False] * 13
    report = json.loads((tmp_path / "set.report.json").read_text())
    assert report["left_out"]["missing"] == [path]


def test_a_sequence_that_others_have(tmp_path):
    names = [
        trees.coma_name(s, e, k)
        for s in (ANN, BOB)
        for e in ("bareteeth", "lips_up")
        for k in (1, 2, 3, 4)
    ]
    trees.touch(tmp_path, [name for name in names if not name.startswith(f"{BOB}/lips_up/")])
    (missing,) = open_source("coma", tmp_path, {}).source.findings.missing
    assert missing.file == f"{BOB}/lips_up/lips_up.*.ply" and missing.subject == BOB


def test_neutrals_of_training_may_be_unknown(tmp_path):
    tree = make_tree(tmp_path / "coma", subjects=(ANN, BOB), expressions=("bareteeth",), frames=20)
    for frame in (19, 20):  # all of Ann's faces at rest that are left are for test
        path = trees.coma_name(ANN, "bareteeth", frame)
        (tree.root / path).unlink()
        del tree.files[path]
    made = prepare("coma", tree.root, tmp_path / "set.safetensors")
    twin = slow_twin(tree)
    check_neutrals(made, twin, tree)
    assert np.isnan(made.neutral(ANN)).all()
    assert np.isfinite(made.neutral(ANN, "neutrals_eval")).all()
    assert np.isfinite(made.neutral(BOB)).all()
    # With people split instead, nothing is held back.
    (tmp_path / "people.csv").write_text(f"subject,split\n{ANN},test\n{BOB},train\n")
    made = prepare(
        "coma", tree.root, tmp_path / "p.safetensors", protocol=f"file:{tmp_path / 'people.csv'}"
    )
    np.testing.assert_array_equal(made.set.neutrals, made.set.neutrals_eval)
    assert np.isfinite(made.set.neutrals).all()


def test_a_sequence_in_which_nothing_moves(tmp_path):
    tree = trees.coma(tmp_path / "coma", subjects=(ANN,), expressions=("mouth_up",), frames=12)
    rest = tree.files[trees.coma_name(ANN, "mouth_up", 1)].face
    for path in list(tree.files):
        tree.add(path, ANN, "mouth_up", 0.0, rest)
    made = prepare("coma", tree.root, tmp_path / "set.safetensors")
    assert not made.set.labels.level.any() and not made.report.outliers
    np.testing.assert_allclose(made.neutral(ANN), rest, atol=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_side_is_told_from_the_corner_of_the_mouth_alone(tmp_path, side):
    tree = trees.coma(tmp_path / "coma", subjects=(ANN,), expressions=("mouth_middle",), frames=12)
    path = trees.coma_name(ANN, "mouth_middle", 6)
    moved = tree.files[path].vertices.copy()
    first = tree.files[trees.coma_name(ANN, "mouth_middle", 1)].vertices
    moved[:, 0] += 3 if side == "left" else -3  # all the others go the other way
    moved[3506, 0] = first[3506, 0] + (-0.5 if side == "left" else 0.5)
    tree.add(path, ANN, "mouth_middle", 1.0, moved)
    made = prepare("coma", tree.root, tmp_path / "set.safetensors")
    assert made.labels[stem(path)][1] == f"mouth_middle_{side}"


def test_scans_that_are_not_registered(call, small):
    for k, path in enumerate(small.files):
        small.drop_vertices(path, k + 1)
    done = call("fd-prep coma coma -o set.safetensors --jobs 1")
    assert done.code == 3
    assert "CoMA is registered to 5023 vertices; take its registered meshes" in done.line


def test_prepared_meshes_among_raw_ones_are_failures_of_their_own(small, tmp_path):
    pytest.importorskip("fast_simplification")
    made = prepare("coma", small.root, tmp_path / "small.safetensors", simplify=5000)
    path = trees.coma_name(ANN, "bareteeth", 1)
    small.drop_vertices(path, 5023 - len(made.set.preparation.vertex_index))
    content = (small.root / path).read_bytes()  # a cloud of points, of which no triangle is wrong
    header, _, body = content.partition(b"end_header\n")
    faces = next(line for line in header.splitlines() if line.startswith(b"element face"))
    size = 12 * len(made.set.preparation.vertex_index)
    bare = header.replace(faces, b"element face 0") + b"end_header\n" + body[:size]
    (small.root / path).write_bytes(bare)
    with pytest.raises(InputError, match=r"000001\.ply has no triangles, .*; CoMA is reg"):
        prepare(
            "coma",
            small.root,
            tmp_path / "set.safetensors",
            like=tmp_path / "small.safetensors",
        )
    made = prepare(
        "coma",
        small.root,
        tmp_path / "set.safetensors",
        like=tmp_path / "small.safetensors",
        keep_going=True,
    )
    assert list(made.report.failed) == [stem(path)]
    check_labels(made, slow_twin(small, gone={path}))


def test_units(small, tmp_path):
    made = prepare("coma", small.root, tmp_path / "set.safetensors", units="mm")
    path = trees.coma_name(ANN, "bareteeth", 1)
    assert any("for a face; check --units" in line for line in made.said)
    np.testing.assert_allclose(made.face(stem(path)) * 1000, small.files[path].vertices, rtol=1e-6)


def test_files_that_say_what_they_are_in(small, tmp_path):
    path = trees.coma_name(ANN, "mouth_side", 5)
    with (small.root / path).open("wb") as stream:
        write_mesh(
            stream, Mesh(small.files[path].vertices, small.topology.triangles, unit_mm=1.0), ".ply"
        )
    made = prepare("coma", small.root, tmp_path / "set.safetensors")
    check_labels(made, slow_twin(small))
    check_vertices(made.set, small)


def test_options_of_others(tree):
    with pytest.raises(UsageError, match="which vertices are stable is known for bu3dfe only"):
        open_source("coma", tree.root, {"align": "stable"})
    with pytest.raises(UsageError, match="--validation takes a part of the subjects, but the prot"):
        open_source("coma", tree.root, {"validation": 0.5})
    with pytest.raises(UsageError, match="source coma has no option --pattern"):
        open_source("coma", tree.root, {"pattern": "x"})


def test_levels_and_outliers_against_a_loop():
    rng = np.random.default_rng(0)
    sequence = rng.permutation(np.repeat(np.arange(5), 40))
    distance = np.abs(rng.standard_t(2, len(sequence)))
    stays, level = settle_levels(distance, sequence)
    for number in range(5):
        mine = [k for k in range(len(sequence)) if sequence[k] == number]
        mean = sum(distance[k] for k in mine) / len(mine)
        spread = (sum((distance[k] - mean) ** 2 for k in mine) / len(mine)) ** 0.5
        sound = [k for k in mine if (distance[k] - mean) / spread <= 3]
        assert len(sound) < len(mine)
        assert [k for k in mine if stays[k]] == sound
        apex = max(distance[k] for k in sound)
        for k in sound:
            assert level[k] == pytest.approx(distance[k] / apex, rel=1e-12)


def test_litter_is_left_out_and_named(call, tree, tmp_path):
    own = copied(tree, tmp_path / "coma")
    left = own.litter()
    done = call("fd-prep coma coma --dry-run")
    seen = [path for path in left if not PurePosixPath(path).name.startswith(".")]
    assert done.code == 0
    assert (
        f"warning: files ignored because they do not belong to this layout ({len(seen)}): "
        in news(done)
    )
    assert b"all\t-\t120\t" in done.out
