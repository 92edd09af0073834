"""What a face set must be, one broken set a rule; ids and values of every kind of file."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from conftest import garbled
from raising import raises
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.data.face_set import DIVIDES_PEOPLE, divides_people, load_face_set
from facedis_core.inspection import verification
from facedis_core.inspection.verification import verify_file
from facedis_core.io.safetensors_file import read_safetensors, write_safetensors

GRID, _ = grid_mesh()


@pytest.fixture
def verified(tmp_path):
    """Write a face set and verify it, warnings go to `verified.warnings`."""

    def verify(faces):
        path = write_face_set(tmp_path / "set.safetensors", faces)
        return verify_file(str(path), read_safetensors(path), verify.warnings.append)

    verify.warnings = []
    return verify


def with_labels(**changes):
    """The made-up set of 10 people and 4 expressions, the last 3 people test, other labels."""
    faces = face_set()
    return replace(faces, labels=replace(faces.labels, **changes))


def test_a_whole_set(verified):
    faces = face_set()
    found = verified(faces)
    mean = faces.vertices.astype(float).mean(0)
    distances = [np.mean([np.linalg.norm(p) for p in face - mean]) for face in faces.vertices]
    assert len(found["id"]) == 12
    assert found["without_neutral"] == found["without_neutral_eval"] == []
    np.testing.assert_allclose(found["mean_face_mm"], mean.max(0) - mean.min(0), rtol=1e-5)
    assert found["mean_distance_mm"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert found["maximum_distance_mm"] == pytest.approx(max(distances), rel=1e-5)
    assert found["farthest"] == faces.labels.names[int(np.argmax(distances))]
    assert not verified.warnings


@pytest.mark.parametrize("faces_at_a_time", [1, 3, 39])
def test_blocks_do_not_show_in_the_findings(verified, monkeypatch, faces_at_a_time):
    faces = face_set()
    faces.neutrals[[2, 9]] = np.nan
    whole = verified(faces)
    monkeypatch.setattr(verification, "_BLOCK_BYTES", faces_at_a_time * GRID.nbytes)
    assert verified(faces) == whole
    assert whole["without_neutral"] == ["person2", "person9"]


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ({"subjects": ["ann", "ann", *map(str, range(8))]}, "name-duplicate: subjects .*'ann'"),
        (
            {"expressions": ["neutral", "smile", "o", "smile"]},
            "name-duplicate: expressions .*'smile'",
        ),
        ({"expressions": ["neutral", "a", "b", "c", "d"]}, "metadata: expression 'd'"),
        (
            {"subject": np.where(np.arange(40) < 4, 1, np.arange(40) // 4).astype(np.int32)},
            "metadata: subject 'person0'",
        ),
    ],
)
def test_classes_are_unique_and_have_faces(verified, labels, error):
    with raises(error):
        verified(with_labels(**labels))


def test_a_set_without_faces(verified):
    faces = face_set(subjects=0, test=0)
    with raises("empty"):
        verified(faces)


@pytest.mark.parametrize(("code", "name"), [(1, "test"), (2, "validation")])
@pytest.mark.parametrize("protocol", ["", "random subjects", "some frames"])
def test_nobody_is_on_both_sides(verified, code, name, protocol):
    split = face_set().labels.split.copy()
    split[[6, 13]] = code  # of persons 1 and 3
    faces = replace(with_labels(split=split), protocol=protocol)
    with raises("split-overlap") as error:
        verified(faces)
    assert f"faces of 'person1' both in train and in {name} (2 subjects in all)" in str(error.value)
    assert repr(protocol) in str(error.value)


def test_test_and_validation_may_share_people(verified):
    split = face_set().labels.split.copy()
    split[-2:] = 2
    assert verified(with_labels(split=split))["id"]


@pytest.mark.parametrize("protocol", ["frames, the first 10 of every 100", "faces of a file"])
def test_a_protocol_may_divide_people(verified, protocol):
    split = np.arange(40).astype(np.uint8) % 3
    assert verified(replace(with_labels(split=split), protocol=protocol))["id"]


def test_how_protocols_begin_that_divide_people():
    assert all(map(divides_people, (*DIVIDES_PEOPLE, "frames, every tenth", "faces of a file")))
    assert not any(map(divides_people, ("", "random subjects", "subjects of a file", "my frames")))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_face_that_is_not_finite_is_named(verified, value):
    faces = face_set()
    faces.vertices[33] = value
    faces.vertices[17, 30, 2] = value
    with raises("not-finite", r"set\.safetensors: .*'person4/expression1'"):
        verified(faces)


@pytest.mark.parametrize("which", ["neutrals", "neutrals_eval"])
@pytest.mark.parametrize(
    ("place", "value"), [((7, 5, 1), np.nan), ((7, 5, 1), np.inf), (7, np.inf)]
)
def test_a_neutral_is_known_or_not(verified, which, place, value):
    faces = face_set()
    getattr(faces, which)[3] = np.nan
    getattr(faces, which)[place] = value
    with raises("not-finite", "'person7'"):
        verified(faces)


def test_neutrals_may_lack(verified):
    faces = face_set(neutrals=False)
    faces.neutrals_eval[4] = 1
    found = verified(faces)
    assert found["without_neutral"] == faces.labels.subjects
    assert len(found["without_neutral_eval"]) == 9
    assert "person4" not in found["without_neutral_eval"]


def all_alike(face):
    """A set of 40 times the same face, which is everybody's neutral as well."""
    vertices = np.broadcast_to(face, (40, *face.shape))
    neutrals = vertices[:10]
    return replace(face_set(), vertices=vertices, neutrals=neutrals, neutrals_eval=neutrals)


@pytest.mark.parametrize(
    ("factor", "shown"),
    [
        *((0.7, "70 x 70 x "), (0.001, "0.1 x 0.1 x "), (6.0, "600 x 600 x ")),
        *((factor, "") for factor in (0.85, 1.0, 4.9)),
    ],
)
def test_a_size_of_no_face_is_doubted(verified, factor, shown):
    found = verified(all_alike(GRID * np.float32(factor)))
    assert found["maximum_distance_mm"] < 1e-3
    assert found["mean_face_mm"][0] == pytest.approx(100 * factor)
    assert len(verified.warnings) == bool(shown)
    for line in verified.warnings:
        assert shown in line and line.endswith(
            "mm is no size of a face; were the units right (fd-prep --units)?"
        )


@pytest.mark.parametrize("harm", ["in metres", "a vertex at 12 m", "lifted by 30 mm"])
def test_the_farthest_face_is_doubted(verified, harm):
    faces = face_set()
    if harm == "in metres":
        faces.vertices[17] /= 1000
    elif harm == "a vertex at 12 m":
        faces.vertices[17, 3, 1] = 12_000
    else:
        faces.vertices[17] += np.float32([0, 30, 0])
    mean = faces.vertices.astype(float).mean(0)
    apart = np.linalg.norm(faces.vertices - mean, axis=2).mean(1)
    found = verified(faces)
    assert found["farthest"] == "person4/expression1"
    (line,) = [line for line in verified.warnings if "no size of a face" not in line]
    assert line.partition(": ")[2] == (
        f"the face 'person4/expression1' lies {apart[17]:.3g} mm from the mean face, the others "
        f"{np.delete(apart, 17).mean():.3g} mm on average; is it broken, or in another unit?"
    )


@pytest.mark.parametrize("keys", [["neutrals"], ["neutrals_eval"], ["neutrals", "neutrals_eval"]])
@pytest.mark.parametrize("alone", [False, True])
def test_the_farthest_neutral_is_doubted_once(verified, keys, alone):
    faces = face_set()
    for key in keys:
        getattr(faces, key)[6] /= 1000
    if alone:  # nobody to compare it with
        for key in ("neutrals", "neutrals_eval"):
            getattr(faces, key)[np.arange(10) != 6] = np.nan
    assert verified(faces)["id"]
    (line,) = verified.warnings
    assert "the neutral of 'person6' lies " in line
    assert (", the others " in line) == (not alone)
    assert line.endswith("; is it broken, or in another unit?")


@pytest.mark.parametrize(("share", "doubted"), [(0.24, 0), (0.26, 1)])
def test_a_quarter_of_the_extent_is_doubted(verified, share, doubted):
    """Half of a set is moved to one side and half to the other, so that the mean stays."""
    faces = all_alike(GRID)
    shift = np.float32(share * np.ptp(GRID, axis=0).max())
    moved = np.repeat(GRID[None], 40, axis=0)
    moved[::2, :, 2] += shift
    moved[1::2, :, 2] -= shift
    assert verified(replace(faces, vertices=moved))["id"]
    assert ["the face 'person" in line for line in verified.warnings] == [True] * doubted


def test_no_vertex_is_there_twice(verified):
    faces = face_set()
    vertex_index = faces.preparation.vertex_index.copy()
    vertex_index[20] = 7
    preparation = replace(faces.preparation, vertex_index=vertex_index)
    with raises("vertex-index", "vertex 7 2 times"):
        verified(replace(faces, preparation=preparation))


def test_a_vertex_map_may_be_in_any_order(verified):
    faces = face_set()
    order = np.random.default_rng(0).permutation(50)[:36].astype(np.int32)
    preparation = replace(faces.preparation, vertex_index=order, raw_vertices=50)
    assert verified(replace(faces, preparation=preparation))["id"]


@pytest.mark.parametrize("code", [1, 2])
def test_somebody_must_be_trained_on(verified, code):
    split = np.full(40, code, np.uint8)
    with raises("split-empty", "40 faces"):
        verified(with_labels(split=split))


@pytest.mark.parametrize(
    "part", ["vertices", "neutrals_eval", "level", "split", "source", "mean_face"]
)
def test_the_id_is_that_of_the_content(tmp_path, model_file, part):
    path = write_face_set(tmp_path / "set.safetensors", face_set())
    path = model_file if part == "mean_face" else path
    file = read_safetensors(path)
    if part == "source":
        changed = garbled(path, metadata={"source": "another"})
    else:
        tensor = np.array(file.tensors[part])
        tensor[0] = 0.5
        if part == "split":  # a whole person, so the labels alone show nothing
            tensor[:4] = 1
        changed = garbled(path, {part: tensor})
    other = tmp_path / "changed.safetensors"
    other.write_bytes(changed)
    with raises("id-mismatch", file.metadata["id"]):
        verify_file(str(other), read_safetensors(other))


def test_history_is_no_part_of_the_content(tmp_path):
    path = write_face_set(tmp_path / "set.safetensors", face_set())
    told = tmp_path / "told.safetensors"
    told.write_bytes(garbled(path, metadata={"history": [{"command": "fd-prep", "version": "0"}]}))
    assert verify_file(str(told), read_safetensors(told))["id"] == load_face_set(path).id


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_training_state_has_no_id_but_values(tmp_path, value):
    path = tmp_path / "state.safetensors"
    with path.open("w+b") as stream:
        write_safetensors(stream, "training", {"weight": np.full((3, 2), value, "<f4")}, {})
    if np.isfinite(value):
        assert verify_file(str(path), read_safetensors(path)) == {"id": None}
    else:
        with raises("not-finite", "'weight'"):
            verify_file(str(path), read_safetensors(path))


def test_memory_does_not_grow_with_the_set(tmp_path):
    faces = face_set(size=60, subjects=120, expressions=6, test=30)  # 31 MB of vertices
    path = write_face_set(tmp_path / "set.safetensors", faces)
    container = read_safetensors(path)
    verify_file(str(path), container)  # imports
    tracemalloc.start()
    try:
        verify_file(str(path), container)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
