"""Which mesh of a data set says what all of them are like."""

import re

import numpy as np
import pytest
from conftest import save_mesh
from raising import raises
from synthetic import grid_mesh

from facedis_core.datasets.reference_mesh import MOST_COMPARED, MOST_OPENED, find_reference_mesh
from facedis_core.datasets.source import open_source


def grid(size=6):
    """Vertices and triangles of a sheet; another size is another registration."""
    return grid_mesh(size)


def write(folder, *kinds):
    """A mesh of each kind: a size, `turned`, `bare` or `broken`; their paths in order."""
    paths = []
    for k, kind in enumerate(kinds):
        path = folder / f"{k}_{kind}.ply"
        vertices, triangles = grid(kind if isinstance(kind, int) else 6)
        if kind == "turned":
            triangles = triangles[::-1]
        save_mesh(path, vertices, triangles[:0] if kind == "bare" else triangles)
        if kind == "broken":
            path.write_bytes(path.read_bytes()[:-5])
        paths.append(path)
    return paths


def find(paths, expected=None, *, keep_going=False):
    """The reference and what was said."""
    said = []
    found = find_reference_mesh(
        paths, expected, advice="register them", keep_going=keep_going, warn=said.append
    )
    return found, said


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        ((6,), 0),
        ((6, 6, 6), 0),
        ((5, 6, 6), 1),
        ((5, 6, 5, 6, 6), 1),
        ((5, 6, 4, 6), 1),
        (("turned", 6, 6), 1),
        ((6, "turned", "turned"), 1),
        ((5, 4, 6), 0),
        ((5, 6, 5, 6), 0),
        ((5, 5, 5, 6, 6, 6, 6), 0),  # only the first few are compared
    ],
)
def test_the_first_of_the_largest_group(tmp_path, kinds, chosen):
    paths = write(tmp_path, *kinds)
    found, said = find(paths)
    assert found.path == paths[chosen] and not said
    assert len(found.mesh.vertices) == (kinds[chosen] ** 2 if kinds[chosen] != "turned" else 36)


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        ((5, 5, 5, 5, 6), 4),  # one that fits is worth more than many that do not
        ((5, 6, 4, 3, 7), 1),
        (("turned", 6, 6, 5, 5), 1),
        ((6, 5), 0),
    ],
)
def test_those_of_the_expected_count_come_first(tmp_path, kinds, chosen):
    paths = write(tmp_path, *kinds)
    found, said = find(paths, 36)
    assert found.path == paths[chosen] and not said


def test_another_count_than_expected_if_meshes_agree(tmp_path):
    paths = write(tmp_path, 5, 5, 4, 5, 5)
    found, said = find(paths, 36)
    assert found.path == paths[0]
    assert said == [
        f"{paths[0]} has 25 vertices, this data set usually 36; continuing, because the first "
        "meshes agree"
    ]


@pytest.mark.parametrize("kinds", [(5, 4), (5, 4, 5, 4), (5, 4, 3, 7, 8), (5, 5, 4, 3, 7)])
@pytest.mark.parametrize("keep_going", [False, True])
def test_meshes_that_do_not_agree(tmp_path, kinds, keep_going):
    paths = write(tmp_path, *kinds)
    with raises("vertex-count") as caught:
        find(paths, 36, keep_going=keep_going)
    counts = re.findall(
        r"has (\d+) vertices, .* (\d+), expected 36; register them", str(caught.value)
    )
    assert counts and counts[0][0] != counts[0][1]
    assert len(str(caught.value).splitlines()) == 1


def test_a_broken_mesh(tmp_path):
    paths = write(tmp_path, "broken", 6, "broken", 6)
    with raises("truncated", r"0_broken\.ply"):
        find(paths)
    found, _ = find(paths, keep_going=True)
    assert found.path == paths[1]


def test_a_broken_mesh_that_nobody_looks_at(tmp_path):
    paths = write(tmp_path, *[6] * MOST_COMPARED, "broken")
    assert find(paths)[0].path == paths[0]


def test_only_broken_meshes(tmp_path):
    paths = write(tmp_path, "broken", "broken")
    with raises("truncated", r"0_broken\.ply"):
        find(paths, keep_going=True)
    with raises("empty"):
        find([])


def test_the_search_ends(tmp_path):
    (broken,) = write(tmp_path, "broken")
    (whole,) = write(tmp_path / "whole", 6)
    assert find([broken] * (MOST_OPENED - 1) + [whole], keep_going=True)[0].path == whole
    with raises("truncated", "broken"):
        find([broken] * MOST_OPENED + [whole], keep_going=True)


def test_points_alone_are_no_reference(tmp_path):
    with raises("no-triangles", r"0_bare\.ply"):
        find(write(tmp_path, "bare", "bare", 6))
    # Points can be faces of a set whose other meshes have triangles.
    assert find(paths := write(tmp_path, "bare", 6, 6))[0].path == paths[1]


def test_its_extent_is_that_of_the_longest_axis(tmp_path):
    (path,) = write(tmp_path, 6)
    vertices, _ = grid()
    spans = [max(column) - min(column) for column in vertices.T.tolist()]
    assert find([path])[0].extent == pytest.approx(max(spans))


def test_candidates_are_neutrals_then_others_whatever_the_split(tmp_path):
    vertices, triangles = grid()
    for subject in ("ann", "bob", "cy"):
        for expression in ("smile", "neutral"):
            save_mesh(tmp_path / "scans" / f"{subject}_{expression}.ply", vertices, triangles)
    (tmp_path / "split.csv").write_text("subject,split\nann,test\nbob,train\ncy,validation\n")
    source = open_source(
        "folder",
        tmp_path / "scans",
        {
            "pattern": "{subject}_{expression}.ply",
            "protocol": f"file:{tmp_path / 'split.csv'}",
        },
    ).source
    order = [source.labels.names[row] for row in source.candidates]
    assert order == [
        *("ann_neutral", "bob_neutral", "cy_neutral"),
        *("ann_smile", "bob_smile", "cy_smile"),
    ]


def test_what_is_excluded_is_no_reference(tmp_path):
    for subject, size in (("ann", 5), ("bob", 6), ("cy", 6)):
        save_mesh(tmp_path / f"{subject}_neutral.ply", *grid(size))
    options = {"pattern": "{subject}_{expression}.ply", "protocol": "subjects:0"}
    source = open_source("folder", tmp_path, options).source
    alone = source.preparation(np.array([0]), lambda line: None)
    assert alone.raw_vertices == 25
    others = source.preparation(np.array([1, 2]), lambda line: None)
    assert others.raw_vertices == 36
