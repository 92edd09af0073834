"""Face sets: what is written is read, what contradicts itself is refused, vertices stay on disk."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import garbled
from raising import raises
from synthetic import face_set, labels, write_face_set

from facedis_core.data.face_set import (
    TEST,
    TRAIN,
    VALIDATION,
    face_set_writer,
    load_face_set,
    neutral_faces,
)
from facedis_core.data.history import HistoryStep
from facedis_core.mesh.mesh import topology_id


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_face_set(tmp_path_factory.mktemp("set") / "set.safetensors", face_set())


def bytes_of(faces, history=(), **changes):
    stream = io.BytesIO()
    options = {"source": faces.source, "protocol": faces.protocol, "history": history} | changes
    with face_set_writer(stream, faces.labels, faces.preparation, **options) as writer:
        for name in ("vertices", "neutrals", "neutrals_eval"):
            getattr(writer, name)[...] = getattr(faces, name)
    return stream.getvalue()


@pytest.fixture
def load(tmp_path):
    def load_bytes(data):
        path = tmp_path / "loaded.safetensors"
        path.write_bytes(data)
        return load_face_set(path)

    return load_bytes


class TestRoundTrip:
    def test_a_region(self, load):
        region = np.arange(36) % 3 == 0
        whole, found = load(bytes_of(face_set())), load(bytes_of(face_set(), region=region))
        assert whole.region is None
        np.testing.assert_array_equal(found.region, region)
        assert found.region.dtype == bool
        assert found.id != whole.id

    def test_what_is_written_is_read(self, written):
        faces, found = face_set(), load_face_set(written)
        for name in ("vertices", "triangles", "neutrals", "neutrals_eval"):
            np.testing.assert_array_equal(getattr(found, name), getattr(faces, name))
        for name in ("subject", "expression", "level", "split"):
            expected = getattr(faces.labels, name)
            np.testing.assert_array_equal(getattr(found.labels, name), expected)
            assert getattr(found.labels, name).dtype == expected.dtype
        for name in ("names", "subjects", "expressions"):
            assert getattr(found.labels, name) == getattr(faces.labels, name)
        assert (found.source, found.protocol) == (faces.source, faces.protocol)
        assert found.topology == faces.topology == topology_id(faces.triangles)
        assert found.history == []
        assert found.vertices.dtype == np.float32

    def test_a_pipe_gets_the_bytes_of_a_file(self, written):
        assert bytes_of(face_set()) == written.read_bytes()

    def test_neutrals_are_unknown_until_they_are_given(self, load):
        faces = face_set(subjects=3, test=1)
        stream = io.BytesIO()
        with face_set_writer(
            stream, faces.labels, faces.preparation, source="s", protocol="p"
        ) as writer:
            writer.neutrals[1] = faces.neutrals[1]
        found = load(stream.getvalue())
        assert not found.vertices.any()
        assert np.isnan(found.neutrals[[0, 2]]).all()
        assert np.isnan(found.neutrals_eval).all()
        np.testing.assert_array_equal(found.neutrals[1], faces.neutrals[1])

    def test_names_keep_every_character(self, load):
        faces = face_set(subjects=1, expressions=3, test=0)
        names = ["eva grün/smile 😀", "a\nb", "\udcff"]
        found = load(bytes_of(replace(faces, labels=replace(faces.labels, names=names))))
        assert found.labels.names == names

    def test_two_faces_of_one_name_are_refused(self):
        faces = face_set(subjects=1, test=0)
        twins = replace(faces, labels=replace(faces.labels, names=["a", "b", "a", "c"]))
        with raises("name-duplicate", "'a'"):
            bytes_of(twins)


class TestId:
    def test_same_content_same_bytes(self):
        assert bytes_of(face_set()) == bytes_of(face_set())

    def test_does_not_depend_on_who_made_it(self, load):
        one, other = (load(bytes_of(face_set(), history=h)) for h in ([], [HistoryStep("fd-prep")]))
        assert one.id == other.id
        assert other.history == [HistoryStep("fd-prep")]
        assert len(one.id) == 12
        assert set(one.id) != {"0"}

    def test_depends_on_everything_else(self, load):
        faces = face_set(subjects=3, test=1)
        known, prepared = faces.labels, faces.preparation
        different = [
            faces,
            face_set(subjects=3, test=1, seed=1),
            face_set(subjects=3, test=2),
            face_set(subjects=3, test=1, neutrals=False),
            replace(faces, source="other"),
            replace(faces, protocol="other"),
            replace(faces, labels=replace(known, names=[f"{n}x" for n in known.names])),
            replace(faces, labels=replace(known, subjects=["x", "y", "z"])),
            replace(faces, preparation=replace(prepared, raw_unit_mm=10.0)),
            replace(faces, preparation=replace(prepared, alignment="rigid")),
        ]
        assert len({load(bytes_of(f)).id for f in different}) == len(different)


def test_the_first_face_of_level_0_else_the_neutral_mesh_else_nobody():
    faces = face_set()
    level = faces.labels.level.copy()
    level[[1, 2]] = 0  # person 0 has three of them
    level[[4, 8]] = 0.5  # persons 1 and 2 have none
    neutrals = faces.neutrals_eval.copy()
    neutrals[2] = np.nan
    changed = replace(faces, labels=replace(faces.labels, level=level), neutrals_eval=neutrals)
    found = list(neutral_faces(changed, [0, 1, 2, 3]))
    assert [(each.subject, each.row) for each in found] == [(0, 0), (1, -1), (3, 12)]
    np.testing.assert_array_equal(found[0].vertices, faces.vertices[0])
    np.testing.assert_array_equal(found[1].vertices, neutrals[1])


class TestUse:
    def test_rows_of_a_split(self):
        known = labels(subjects=3, expressions=2, test=1)
        split = np.array([TRAIN, VALIDATION, TEST, TEST, TRAIN, VALIDATION], np.uint8)
        faces = face_set(subjects=3, expressions=2, test=1)
        faces = replace(faces, labels=replace(known, split=split))
        assert faces.rows(TRAIN).tolist() == [0, 4]
        assert faces.rows(TEST).tolist() == [2, 3]
        assert faces.rows(VALIDATION).tolist() == [1, 5]
        assert faces.rows(None).tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize("block", [1, 7, 256])
    def test_the_mean_face_is_the_mean_of_these_rows(self, written, block):
        faces = load_face_set(written)
        rows = faces.rows(TRAIN)
        expected = np.asarray(faces.vertices)[rows].astype(np.float64).mean(axis=0)
        found = faces.mean_face(rows, block)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    def test_the_mean_of_no_face_is_zero(self, written):
        faces = load_face_set(written)
        assert not faces.mean_face(np.array([], np.intp)).any()


N, V, F, S = 40, 36, 50, 10
NAMES = [str(n) for n in range(N)]


def numbers(value, shape=(N,), dtype=np.int32):
    return np.full(shape, value, dtype)


BAD_TENSORS = {
    "vertices of float64": ({"vertices": np.zeros((N, V, 3))}, "tensor: 'vertices' is float64"),
    "vertices of others": (
        {"vertices": numbers(0, (N, V - 1, 3), np.float32)},
        "tensor: 'vertex_index'",
    ),
    "vertices flat": ({"vertices": numbers(0, (N, V * 3), np.float32)}, "tensor: 'vertices' is"),
    "two coordinates": ({"vertices": numbers(0, (N, V, 2), np.float32)}, "tensor: 'vertices' is"),
    "quads": ({"triangles": numbers(0, (F, 4))}, "tensor: 'triangles' is"),
    "wide triangles": ({"triangles": numbers(0, (F, 3), np.int64)}, "tensor: 'triangles' is int64"),
    "triangles of others": ({"triangles": numbers(1, (F, 3))}, "damaged"),
    "triangles outside": ({"triangles": numbers(V, (F, 3))}, "vertex-index: 'triangles' .* 36"),
    "negative triangles": ({"triangles": numbers(-1, (F, 3))}, "vertex-index: 'triangles'"),
    "vertex index outside": (
        {"vertex_index": numbers(V, (V,))},
        "vertex-index: 'vertex_index' .* 36",
    ),
    "labels of others": ({"subject": numbers(0, (N + 1,))}, "tensor: 'subject' is"),
    "subject outside": ({"subject": numbers(S)}, "damaged: subject labels .* 10"),
    "negative subject": ({"subject": numbers(-1)}, "damaged: subject labels"),
    "expression outside": ({"expression": numbers(4)}, "damaged: expression labels .* 4"),
    "unknown split": ({"split": numbers(3, dtype=np.uint8)}, "damaged: split labels .* 3"),
    "level above": ({"level": numbers(1.5, dtype=np.float32)}, "damaged: level"),
    "level below": ({"level": numbers(-0.5, dtype=np.float32)}, "damaged: level"),
    "level unknown": ({"level": numbers(np.nan, dtype=np.float32)}, "damaged: level"),
    "neutrals of others": (
        {"neutrals": numbers(0, (S, V + 1, 3), np.float32)},
        "tensor: 'neutrals' is",
    ),
    "region of others": ({"region": numbers(1, (V + 1,), np.uint8)}, "tensor: 'region' is"),
    "region of no vertex": ({"region": numbers(0, (V,), np.uint8)}, "damaged: 'region'"),
    "region of twos": ({"region": numbers(2, (V,), np.uint8)}, "damaged: 'region'"),
    "fewer neutrals": (
        {"neutrals_eval": numbers(0, (1, V, 3), np.float32)},
        "tensor: 'neutrals_eval'",
    ),
}
BAD_METADATA = {
    "fewer names": ({"names": NAMES[1:]}, "metadata: 39 names for 40"),
    "names a text": ({"names": "x" * N}, "metadata: garbles 'names'"),
    "names a number": ({"names": N}, "metadata: garbles 'names'"),
    "names of numbers": ({"names": list(range(N))}, "metadata: garbles 'names'"),
    "twins": ({"names": [*NAMES[1:], "1"]}, "name-duplicate: '1'"),
    "more subjects": ({"subjects": NAMES}, "metadata: 40 subjects for 10"),
    "expressions null": ({"expressions": None}, "metadata: garbles 'expressions'"),
    "source a number": ({"source": 5}, "metadata: garbles 'source'"),
    "history a text": ({"history": "fd-prep"}, "metadata: garbles 'history'"),
    "id null": ({"id": None}, "metadata: garbles 'id'"),
    "other topology": ({"topology": "0" * 12}, "damaged: '000000000000'"),
    "topology null": ({"topology": None}, "metadata: garbles 'topology'"),
    "raw vertices a text": ({"raw_vertices": "36"}, "metadata: garbles 'raw_vertices'"),
    "raw vertices few": ({"raw_vertices": 35}, "vertex-index: 35"),
    "unit zero": ({"raw_unit_mm": 0}, "metadata: raw unit is 0"),
    "unit unknown": ({"raw_unit_mm": float("nan")}, "metadata: garbles 'raw_unit_mm'"),
    "alignment a text": ({"alignment": "none"}, "metadata: garbles 'alignment'"),
    "alignment empty": ({"alignment": {}}, "metadata: lacks 'kind'"),
    "unknown alignment": (
        {"alignment": {"kind": "warp", "stable_vertices": []}},
        "metadata: 'warp', expected one of none, rigid, similarity",
    ),
    "stable vertex outside": (
        {"alignment": {"kind": "rigid", "stable_vertices": [36]}},
        "vertex-index: 36, of 36",
    ),
    "stable vertex a text": (
        {"alignment": {"kind": "rigid", "stable_vertices": ["1"]}},
        "vertex-index: '1'",
    ),
}
NEEDED = (
    *("vertices", "triangles", "vertex_index", "subject", "expression", "level", "split"),
    *("neutrals", "neutrals_eval", "names", "subjects", "expressions", "source", "protocol"),
    *("id", "history", "topology", "raw_vertices", "raw_topology", "raw_unit_mm", "alignment"),
)


class TestBadSets:
    @pytest.mark.parametrize(("tensors", "error"), BAD_TENSORS.values(), ids=BAD_TENSORS)
    def test_tensors_that_contradict_each_other(self, written, load, tensors, error):
        with raises(error) as caught:
            load(garbled(written, tensors))
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(("metadata", "error"), BAD_METADATA.values(), ids=BAD_METADATA)
    def test_metadata_that_contradicts_them(self, written, load, metadata, error):
        with raises(error) as caught:
            load(garbled(written, metadata=metadata))
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("name", NEEDED)
    def test_missing_parts(self, written, load, name):
        with raises("tensor|metadata", name):
            load(garbled(written, drop=(name,)))

    def test_what_is_garbled_by_nothing_is_whole(self, written, load):
        assert load(garbled(written)).id == load_face_set(written).id

    def test_a_model_is_none(self, model_file):
        with raises("wrong-kind", "is a model, expected a face set"):
            load_face_set(model_file)

    def test_a_truncated_one(self, written, load):
        data = written.read_bytes()
        for length in (0, 5, 500, len(data) // 2, len(data) - 1):
            with raises("damaged" if length else "empty"):
                load(data[:length])


def resident():
    """Bytes of memory that this process holds now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say")
def test_vertices_stay_on_disk_until_they_are_used(tmp_path):
    N, V, S = 2000, 100_000, 500  # 3.6 GB of holes
    shapes = {
        "vertices": ("F32", (N, V, 3)),
        "neutrals": ("F32", (S, V, 3)),
        "neutrals_eval": ("F32", (S, V, 3)),
        "triangles": ("I32", (1, 3)),
        "vertex_index": ("I32", (V,)),
        "subject": ("I32", (N,)),
        "expression": ("I32", (N,)),
        "level": ("F32", (N,)),
        "split": ("U8", (N,)),
    }
    triangles = np.zeros((1, 3), np.int32)
    metadata = {
        "format": "facedis.faceset/1",
        "topology": topology_id(triangles),
        "raw_vertices": V,
        "raw_topology": "",
        "raw_unit_mm": 1.0,
        "alignment": {"kind": "none", "stable_vertices": []},
        "names": [str(n) for n in range(N)],
        "subjects": [str(s) for s in range(S)],
        "expressions": ["neutral"],
        "source": "",
        "protocol": "",
        "history": [],
        "id": "",
    }
    header, end = {"__metadata__": {"facedis": json.dumps(metadata)}}, 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + int(np.prod(shape)) * (1 if dtype == "U8" else 4)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path / "large.safetensors"
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    before = resident()
    faces = load_face_set(path)
    assert not faces.vertices[1234, 5].any()
    assert not faces.mean_face(np.array([3, 1500]), block=1).any()
    assert resident() - before < 64 * 2**20
    faces.mean_face(np.arange(100), block=1)
    assert resident() - before > 100 * 2**20
    faces.release()
    assert resident() - before < 64 * 2**20 and not faces.vertices[1234, 5].any()
