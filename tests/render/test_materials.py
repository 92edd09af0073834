"""Materials: parts of topologies that are known."""

import numpy as np
from synthetic import grid_mesh

from facedis_core.render import materials
from facedis_core.render.materials import PARTS, SKIN, Part, find_materials


def test_an_unknown_topology_is_skin() -> None:
    assert find_materials(grid_mesh(5)[1]) is None


def test_parts_have_their_colors_and_hidden_ones_are_not_drawn(monkeypatch) -> None:
    triangles = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.int32)
    parts = (Part(3, 6, (1, 1, 1)), Part(4, 5, (0, 0, 0)), Part(6, 9, None))
    monkeypatch.setattr(materials, "PARTS", {materials.topology_id(triangles): parts})
    found = find_materials(triangles)
    assert found.triangles.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(found.colors[:3], np.array([SKIN] * 3, np.float32))
    assert found.colors[3:6, 0].tolist() == [1, 0, 1]


def test_parts_of_the_ict_head_end_with_its_vertices() -> None:
    for parts in PARTS.values():
        assert parts[-1].last == 26719
        assert all(0 < part.first < part.last <= parts[-1].last for part in parts)
