"""The reference mesh: the first one like most of those that are compared."""

import numpy as np
import pytest
from conftest import save_mesh
from raising import raises
from synthetic import grid_mesh

from facedis_core.datasets.reference_mesh import MOST_COMPARED, MOST_OPENED, find_reference_mesh
from facedis_core.datasets.source import open_source


def write(folder, *kinds):
    """A mesh of each kind: a size, `turned`, `bare` or `broken`; their paths in order."""
    paths = []
    for k, kind in enumerate(kinds):
        path = folder / f"{k}_{kind}.ply"
        vertices, triangles = grid_mesh(kind if isinstance(kind, int) else 6)
        if kind == "turned":
            triangles = triangles[::-1]
        save_mesh(path, vertices, triangles[:0] if kind == "bare" else triangles)
        if kind == "broken":
            path.write_bytes(path.read_bytes()[:-5])
        paths.append(path)
    return paths


def find(paths, expected=None, *, keep_going=False, warn=pytest.fail):
    return find_reference_mesh(
        paths, expected, advice="register them", keep_going=keep_going, warn=warn
    )


@pytest.mark.parametrize(
    ("kinds", "expected", "chosen"),
    [
        ((6,), None, 0),
        ((5, 6, 5, 6, 6), None, 1),
        ((5, 6, 4, 6), None, 1),
        (("turned", 6, 6), None, 1),
        ((6, "turned", "turned"), None, 1),
        (("bare", 6, 6), None, 1),  # points can be faces of a set whose others have triangles
        ((5, 4, 6), None, 0),
        ((5, 6, 5, 6), None, 0),
        ((5, 5, 5, 6, 6, 6, 6), None, 0),  # only the first few are compared
        ((6, 6, 6, 6, 6, "broken"), None, 0),
        ((5, 5, 5, 5, 6), 36, 4),  # one that fits is worth more than many that do not
        ((5, 6, 4, 3, 7), 36, 1),
        (("turned", 6, 6, 5, 5), 36, 1),
        ((6, 5), 36, 0),
    ],
)
def test_the_first_of_the_largest_group_and_those_that_fit_before_others(
    tmp_path, kinds, expected, chosen
):
    paths = write(tmp_path, *kinds)
    found = find(paths, expected)
    assert found.path == paths[chosen]
    vertices, _ = grid_mesh(kinds[chosen] if kinds[chosen] != "turned" else 6)
    assert len(found.mesh.vertices) == len(vertices)
    spans = [max(column) - min(column) for column in vertices.T.tolist()]
    assert found.extent == pytest.approx(max(spans))


def test_another_count_than_expected_if_meshes_agree(tmp_path):
    paths = write(tmp_path, 5, 5, 4, 5, 5)
    said = []
    assert find(paths, 36, warn=said.append).path == paths[0]
    assert len(said) == 1 and f"{paths[0]} has 25 vertices, this data set usually 36" in said[0]


@pytest.mark.parametrize("kinds", [(5, 4), (5, 4, 5, 4), (5, 4, 3, 7, 8), (5, 5, 4, 3, 7)])
@pytest.mark.parametrize("keep_going", [False, True])
def test_meshes_that_do_not_agree(tmp_path, kinds, keep_going):
    with raises("vertex-count", r"has 25 vertices, .* 16, expected 36; register them"):
        find(write(tmp_path, *kinds), 36, keep_going=keep_going)


def test_broken_meshes(tmp_path):
    paths = write(tmp_path, "broken", 6, "broken", 6)
    with raises("truncated", r"0_broken\.ply"):
        find(paths)
    assert find(paths, keep_going=True).path == paths[1]
    with raises("truncated", r"0_broken\.ply"):
        find(paths[::2], keep_going=True)
    with raises("empty"):
        find([])
    with raises("no-triangles", r"0_bare\.ply"):
        find(write(tmp_path, "bare", "bare", 6))
    (broken, whole, *_) = paths  # the search ends
    assert find([broken] * (MOST_OPENED - 1) + [whole], keep_going=True).path == whole
    with raises("truncated"):
        find([broken] * MOST_OPENED + [whole], keep_going=True)
    assert MOST_COMPARED == 5


def test_candidates_are_neutrals_then_others_whatever_the_split(tmp_path):
    for subject in ("ann", "bob", "cy"):
        for expression in ("smile", "neutral"):
            save_mesh(tmp_path / "scans" / f"{subject}_{expression}.ply", grid_mesh()[0])
    (tmp_path / "split.csv").write_text("subject,split\nann,test\nbob,train\ncy,validation\n")
    protocol = f"file:{tmp_path / 'split.csv'}"
    options = {"pattern": "{subject}_{expression}.ply", "protocol": protocol}
    source = open_source("folder", tmp_path / "scans", options).source
    order = [source.labels.names[row] for row in source.candidates]
    assert order == [
        *("ann_neutral", "bob_neutral", "cy_neutral"),
        *("ann_smile", "bob_smile", "cy_smile"),
    ]


def test_what_is_excluded_is_no_reference(tmp_path):
    for subject, size in (("ann", 5), ("bob", 6), ("cy", 6)):
        save_mesh(tmp_path / f"{subject}_neutral.ply", *grid_mesh(size))
    options = {"pattern": "{subject}_{expression}.ply", "protocol": "subjects:0"}
    source = open_source("folder", tmp_path, options).source
    for rows, vertices in (([0], 25), ([1, 2], 36)):
        assert source.preparation(np.array(rows), print).raw_vertices == vertices


def test_what_its_reader_leaves_out_is_said_once(tmp_path):
    vertices, triangles = grid_mesh()
    lines = [f"v {x} {y} {z}" for x, y, z in vertices.tolist()]
    lines += ["f {} {} {}".format(*row) for row in (triangles + 1).tolist()]
    for name in ("a.obj", "b.obj"):
        (tmp_path / name).write_text("\n".join([*lines, "f 1 2", ""]))
    told: list[str] = []
    find([tmp_path / "a.obj", tmp_path / "b.obj"], warn=told.append)
    (line,) = told
    assert "a.obj: 1 of 51 faces" in line
