"""CoMA: sequences on disk against METHOD's levels, outliers, sides, neutrals and split."""

import pickle
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pytest
import trees
from prepared import check_simplified, check_vertices, counts, open_names, prepare, stem
from raising import raises

from facedis_core.datasets.coma import levels_by_distance
from facedis_core.datasets.source import open_source
from facedis_core.mesh.mesh import Mesh, write_mesh

ANN, BOB = trees.COMA_SUBJECTS[:2]
OUTLIERS = {(ANN, "bareteeth", 7), (BOB, "mouth_up", 13)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """120 frames of two people; to be left as they are."""
    return trees.coma(tmp_path_factory.mktemp("coma"), outliers=OUTLIERS)


@pytest.fixture
def small(tmp_path):
    """24 frames of one person, to be spoilt."""
    expressions = ("bareteeth", "mouth_side")
    return trees.coma(tmp_path / "coma", subjects=(ANN,), expressions=expressions, frames=12)


class Frame(NamedTuple):
    expression: str
    level: float
    test: bool


class Twin(NamedTuple):
    frames: dict
    outliers: list


def slow_twin(tree, gone=()):
    """METHOD 6, frame by frame; the paths `gone` cannot be used."""
    sequences = {}
    for path in tree.files:
        if path not in gone:
            sequences.setdefault(str(PurePosixPath(path).parent), []).append(path)
    test = {path: i % 100 < 10 for i, path in enumerate(tree.files)}
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
            expected = np.mean(rest, axis=0)
            np.testing.assert_allclose(made.neutral(subject, kind), expected, atol=2e-5)


def test_the_set_is_what_the_method_says(tree, tmp_path):
    made = prepare("coma", tree.root, tmp_path / "set.safetensors", simplify=5000)
    twin = slow_twin(tree)
    torn = {f"{subject}/{e}/{e}.{frame:06d}" for subject, e, frame in OUTLIERS}
    assert set(made.report.outliers) == set(twin.outliers) == torn
    check_labels(made, twin)  # with levels, sides and outliers of all vertices
    check_vertices(made.set, tree)
    check_simplified(made.set, tree, 5000)
    assert made.set.protocol == "frames, the first 10 of every 100"
    assert sum(frame.test for frame in twin.frames.values()) == 19
    counted = counts(made.set.labels)
    assert counted["expression", "bareteeth"] == [39, 30, 9, 0]
    assert counted["subject", ANN] == [59, 50, 9, 0]
    sides = [counted["expression", f"mouth_side_{side}"][0] for side in ("left", "right")]
    assert sum(sides) == 40 and min(sides) > 10
    again = prepare(
        "coma", tree.root, tmp_path / "again.safetensors", like=tmp_path / "set.safetensors"
    )
    np.testing.assert_array_equal(again.set.vertices, made.set.vertices)
    assert again.set.topology == made.set.topology and again.labels == made.labels


def test_all_vertices_and_neutrals(call, tree, tmp_path):
    made = prepare("coma", tree.root, tmp_path / "set.safetensors")
    check_neutrals(made, slow_twin(tree), tree)
    check_vertices(made.set, tree)
    assert np.array_equal(made.set.triangles, tree.topology.triangles)
    assert made.set.preparation.raw_unit_mm == 1000
    # This is worth something only where it matters which faces at rest count.
    assert not np.array_equal(made.set.neutrals, made.set.neutrals_eval)
    assert str(tree.root).encode() not in (tmp_path / "set.safetensors").read_bytes()
    assert call("fd-info --verify set.safetensors").code == 0


def test_blocks_may_be_read_by_several_processes(tree):
    """Each has a reader of its own, which may begin in the middle of a sequence."""
    source = open_source("coma", tree.root, {}).source
    rows = np.arange(len(source.files))
    preparation = source.preparation(rows, print)
    pickled = pickle.dumps(source.reader(preparation, rows))
    whole = pickle.loads(pickled).read(rows)
    for block in source.blocks():
        part = pickle.loads(pickled).read(block)
        np.testing.assert_array_equal(part.measured, whole.measured[block])
        np.testing.assert_array_equal(part.faces, whole.faces[block])


def test_names_and_counts_of_the_whole_data_set():
    # the number of frames is right, so nobody says that they count without a gap
    names = [name.replace(".000005.", ".999999.") for name in trees.coma_names()]
    source = open_names("coma", names)
    assert not source.notes and not source.findings.missing
    labels, found = source.labels, counts(source.labels)
    assert tuple(labels.expressions) == trees.COMA_EXPRESSIONS
    assert tuple(labels.subjects) == trees.COMA_SUBJECTS
    assert found["all", ""] == [20466, 18416, 2050, 0]
    for what in ("expression", "subject"):
        assert sum(values[0] for key, values in found.items() if key[0] == what) == 20466


def test_gaps_in_the_frames_and_a_sequence_that_others_have():
    shown = [(s, e) for s in (ANN, BOB) for e in ("bareteeth", "lips_up")]
    names = [trees.coma_name(s, e, k) for s, e in shown for k in range(1, 9)]
    gone = [trees.coma_name(ANN, "bareteeth", k) for k in (2, 4, 5, 6)]
    gone += [name for name in names if name.startswith(f"{BOB}/lips_up/")]
    source = open_names("coma", [name for name in names if name not in gone])
    assert [(m.file, m.subject) for m in source.findings.missing] == [
        (f"{ANN}/bareteeth/bareteeth.000002.ply", ANN),
        (f"{ANN}/bareteeth/bareteeth.000004-000006.ply", ANN),
        (f"{BOB}/lips_up/lips_up.*.ply", BOB),
    ]
    assert "a part of CoMA, 20 of 20466 frames" in source.notes[0]


@pytest.mark.parametrize("how", ["broken", "excluded"])
def test_the_second_frame_takes_the_place_of_the_first(small, tmp_path, how):
    path = trees.coma_name(ANN, "mouth_side", 1)
    target = tmp_path / "set.safetensors"
    if how == "broken":
        trees.truncate(small.root / path)
        made = prepare("coma", small.root, target, keep_going=True)
        assert list(made.report.failed) == [stem(path)]
    else:
        made = prepare("coma", small.root, target, exclude={stem(path)})
        assert made.report.excluded == [stem(path)]
    twin = slow_twin(small, gone={path})
    assert twin.frames[stem(trees.coma_name(ANN, "mouth_side", 2))].level == 0
    check_labels(made, twin)
    check_neutrals(made, twin, small)


def test_prepared_meshes_among_raw_ones_are_failures_of_their_own(small, tmp_path):
    """Of the vertices that a simplified set has, and without triangles."""
    rows = np.arange(24)
    small_map = open_source("coma", small.root, {"simplify": 5000}).source.preparation(rows, print)
    path = trees.coma_name(ANN, "bareteeth", 1)
    points = Mesh(small.files[path].vertices[small_map.vertex_index], np.zeros((0, 3), np.int32))
    with (small.root / path).open("wb") as stream:
        write_mesh(stream, points, ".ply")
    source = open_source("coma", small.root, {}).source
    block = source.reader(small_map, rows).read(rows)
    assert list(block.failures) == [0] and block.failures[0].code == "no-triangles"
    twin = slow_twin(small, gone={path})
    labels = source.label_rows(rows[1:], block.measured[1:]).labels
    expected = [frame.level for frame in twin.frames.values()]
    np.testing.assert_allclose(labels.level, expected, atol=1e-5)


def test_files_that_say_what_they_are_in(small, tmp_path):
    path = trees.coma_name(ANN, "mouth_side", 5)
    mesh = Mesh(small.files[path].vertices, small.topology.triangles, unit_mm=1.0)
    with (small.root / path).open("wb") as stream:
        write_mesh(stream, mesh, ".ply")
    made = prepare("coma", small.root, tmp_path / "set.safetensors")
    check_labels(made, slow_twin(small))
    check_vertices(made.set, small)


def test_scans_that_are_not_registered(small, tmp_path):
    for k, path in enumerate(small.files):
        small.drop_vertices(path, k + 1)
    with raises("vertex-count", "CoMA .*5023"):
        prepare("coma", small.root, tmp_path / "set.safetensors")


def test_levels_and_outliers_against_a_loop():
    rng = np.random.default_rng(0)
    sequence = rng.permutation(np.repeat(np.arange(5), 40))
    distance = np.abs(rng.standard_t(2, len(sequence)))
    distance[sequence == 4] = 0  # nothing moves
    stays, level = levels_by_distance(distance, sequence)
    for number in range(4):
        mine = [k for k in range(len(sequence)) if sequence[k] == number]
        mean = sum(distance[k] for k in mine) / len(mine)
        spread = (sum((distance[k] - mean) ** 2 for k in mine) / len(mine)) ** 0.5
        sound = [k for k in mine if (distance[k] - mean) / spread <= 3]
        assert len(sound) < len(mine)
        assert [k for k in mine if stays[k]] == sound
        apex = max(distance[k] for k in sound)
        for k in sound:
            assert level[k] == pytest.approx(distance[k] / apex, rel=1e-12)
    assert stays[sequence == 4].all() and not level[sequence == 4].any()
