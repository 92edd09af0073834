"""Regions: by name for a known topology, and masks and indices from files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raising import raises
from synthetic import face_set

from facedis_core.data.regions import ICT_TOPOLOGY, find_region, read_region


@pytest.fixture
def preparation():
    """36 of 50 raw vertices, the raw ones in another order."""
    index = np.random.default_rng(0).permutation(50)[:36].astype(np.int32)
    return replace(face_set().preparation, vertex_index=index, raw_vertices=50)


def test_all_is_no_region(preparation):
    assert find_region("all", preparation) is None


@pytest.mark.parametrize(("name", "count"), [("narrow-face", 6706), ("full-face", 9409)])
def test_names_of_the_ict_mesh_are_by_raw_vertex(preparation, name, count):
    index = np.array([0, 6705, 6706, 9408, 9409, 26718], np.int32)
    ict = replace(preparation, vertex_index=index, raw_vertices=26719, raw_topology=ICT_TOPOLOGY)
    np.testing.assert_array_equal(find_region(name, ict), index < count)


def test_an_unknown_name(preparation):
    with raises("option-value", "narrow-face is neither a file nor .* known here: all"):
        find_region("narrow-face", preparation)
    ict = replace(preparation, raw_topology=ICT_TOPOLOGY)
    with raises("option-value", "did you mean narrow-face"):
        find_region("narow-face", ict)


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".csv"])
@pytest.mark.parametrize("raw", [False, True])
def test_masks_and_indices(preparation, tmp_path, suffix, raw):
    count = 50 if raw else 36
    chosen = np.sort(np.random.default_rng(1).permutation(count)[:9])
    mask = np.isin(np.arange(count), chosen)
    expected = mask[preparation.vertex_index] if raw else mask
    path = str(tmp_path / f"region{suffix}")

    def written(values):
        if suffix == ".npy":
            np.save(path, values)
        else:
            separator = "\n" if suffix == ".txt" else ","
            text = separator.join(str(int(value)) for value in values)
            Path(path).write_text(f"vertex\n{text}\n" if suffix == ".csv" else text)
        return path

    for values in (mask, mask.astype(np.uint8)):
        np.testing.assert_array_equal(read_region(written(values), preparation), expected)
    found = read_region(written(chosen), preparation, raw_indices=raw)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(find_region(path, preparation, raw_indices=raw), expected)


@pytest.mark.parametrize(
    ("content", "kind", "named"),
    [
        ("3\n36\n", "vertex-index", "has vertex 36, the mesh has 36"),
        ("-1", "vertex-index", "-1"),
        ("1 2\nthree", "csv-value", "line 2"),
        ("", "empty", "no vertex"),
        ("\n".join("0" * 36), "empty", "no vertex"),
        ("1.5", "empty", "no vertex"),
    ],
)
def test_bad_texts(preparation, tmp_path, content, kind, named):
    (tmp_path / "region.txt").write_text(content)
    with raises(kind, named):
        read_region(str(tmp_path / "region.txt"), preparation)


@pytest.mark.parametrize("values", [np.zeros((36, 1), bool), np.zeros(36), np.array(["a"])])
def test_bad_arrays(preparation, tmp_path, values):
    np.save(tmp_path / "region.npy", values)
    with raises("array-shape"):
        read_region(str(tmp_path / "region.npy"), preparation)
