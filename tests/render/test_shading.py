"""Shaded pictures: orientation, light, edges, and the same light in pages."""

import re
from pathlib import Path

import numpy as np
import pytest
from raising import raises
from synthetic import grid_mesh

from facedis_core.mesh.mesh import Mesh
from facedis_core.render import color_scale, openings, shading
from facedis_core.render.camera import MARGIN, Camera
from facedis_core.render.color_scale import STEPS, ColorScale, colormap
from facedis_core.render.shading import (
    Light,
    VertexColoring,
    render_mesh,
    shade_matte,
    shade_skin,
    to_srgb,
)

BACKGROUND = to_srgb(np.array(shading.BACKGROUND))
SIZE = 48


def mesh(vertices: object, triangles: object = ((0, 1, 2),)) -> Mesh:
    return Mesh(np.array(vertices, np.float32), np.array(triangles, np.int32))


def oklab(linear: np.ndarray) -> np.ndarray:
    """The inverse of `oklab_to_linear`."""
    cones = np.maximum(linear @ np.linalg.inv(color_scale._TO_RGB).T, 0)
    return np.cbrt(cones) @ np.linalg.inv(color_scale._TO_CONES).T


def covered(picture: np.ndarray) -> np.ndarray:
    """Which pixels (H, W) show anything but background."""
    return (picture != BACKGROUND).any(-1)


def dome(bump: tuple[float, float]) -> Mesh:
    """A curved sheet 200 mm wide and high with its nose at `bump`."""
    x, y = np.meshgrid(np.linspace(-100, 100, 41), np.linspace(-100, 100, 41))
    z = 60 * np.exp(-((x - bump[0]) ** 2 + (y - bump[1]) ** 2) / 900) - (x**2 + y**2) / 200
    return mesh(np.stack([x, y, z], -1).reshape(-1, 3), grid_mesh(41)[1])


def test_y_is_up_x_is_right_and_the_viewer_is_on_positive_z() -> None:
    face = dome((40, 60))
    camera = Camera.framing([face.vertices], SIZE)
    column, row, _ = camera.project(np.array([[40, 60, 0]]))[0]
    assert column > camera.width / 2
    assert row < camera.height / 2
    near, far = camera.project(np.array([[0, 0, 9], [0, 0, -9]]))[:, 2]
    assert near > far


def test_light_comes_from_the_upper_left() -> None:
    picture = render_mesh(dome((0, 0)), Camera.framing([dome((0, 0)).vertices], 2 * SIZE)).mean(-1)
    centre, off = SIZE, SIZE // 4
    assert picture[centre - off, centre - off] > picture[centre + off, centre + off] + 30


def test_every_face_of_a_sheet_is_whole() -> None:
    faces = [dome((0, 0)), mesh(dome((0, 0)).vertices * [0.5, 1.4, 1] + [30, 10, 0])]
    camera = Camera.framing([face.vertices for face in faces], SIZE)
    for face in faces:
        column, row, _ = camera.project(face.vertices).T
        assert column.min() > 1
        assert column.max() < camera.width - 1
        assert row.min() > 1
        assert row.max() < camera.height - 1


@pytest.mark.parametrize("stretch", [(1, 50), (50, 1), (0, 1), (1, 0), (0, 0)])
def test_no_shape_makes_an_absurd_picture(stretch: tuple[float, float]) -> None:
    face = dome((0, 0)).vertices * [*stretch, 1]
    camera = Camera.framing([face], SIZE)
    assert camera.height == SIZE
    assert SIZE // 2 <= camera.width <= 2 * SIZE
    column, row, _ = camera.project(face).T
    assert column.min() >= 0
    assert column.max() <= camera.width
    assert row.min() >= 0
    assert row.max() <= SIZE


def test_the_winding_of_a_mesh_does_not_matter() -> None:
    face = dome((20, 30))
    turned = mesh(face.vertices, face.triangles[:, ::-1])
    camera = Camera.framing([face.vertices], SIZE)
    assert np.array_equal(render_mesh(face, camera), render_mesh(turned, camera))


@pytest.mark.parametrize("winding", [1, -1])
def test_insides_are_darker_and_cooler_than_outsides(winding: int) -> None:
    face = dome((0, 0))
    face = mesh(face.vertices, face.triangles[:, ::winding])
    camera = Camera.framing([face.vertices], SIZE)
    front, back = (render_mesh(face, camera, view).astype(float) for view in (0, 180))
    front, back = front[covered(front)].mean(0), back[covered(back)].mean(0)
    assert back.mean() < 0.75 * front.mean()
    assert back[2] / back[0] > 1.1 * front[2] / front[0]


@pytest.mark.parametrize("view", [0, 40])
def test_no_background_shows_through_a_slit(view: float) -> None:
    """As between the lips of a mask; its outline stays what it was."""
    whole = dome((0, 0))
    x, y, _ = whole.vertices[whole.triangles].mean(1).T
    slit = mesh(whole.vertices, whole.triangles[(abs(x) > 40) | (abs(y + 30) > 4)])
    camera = Camera.framing([whole.vertices], SIZE)
    pictures = [render_mesh(face, camera, view) for face in (whole, slit)]
    assert np.array_equal(*map(covered, pictures))
    assert pictures[1].min() < pictures[0].min()


def test_a_scale_keeps_its_colors_where_the_surface_faces_the_viewer() -> None:
    face = mesh([[0, 0, 0], [100, 0, 0], [0, 100, 0]])
    scale = ColorScale(0, 1)
    camera = Camera.framing([face.vertices], SIZE)
    for value in (0, 0.3, 1):
        coloring = VertexColoring(np.full(3, float(value)), scale)
        colors = render_mesh(face, camera, coloring=coloring).reshape(-1, 3)
        assert (colors == to_srgb(scale.colors(np.array([value])))).all(1).any()


def test_shading_hardly_moves_a_color_along_its_scale() -> None:
    """At 45 degrees it is that of a value 1.5 % of the range away at most, at 60 degrees 4 %."""
    for degrees, most in ((45, 0.015), (60, 0.04)):
        normal = np.array([[np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))]])
        seen = oklab(shade_matte(np.repeat(normal, STEPS, 0), colormap()))
        distances = np.linalg.norm(seen[:, None] - oklab(colormap()), axis=-1)
        assert np.abs(distances.argmin(1) - np.arange(STEPS)).max() <= most * STEPS


def test_edges_are_smooth() -> None:
    face = mesh([[0, 0, 0], [100, 10, 0], [40, 100, 0]])
    picture = render_mesh(face, Camera.framing([face.vertices], SIZE))
    # The two colors, and mixtures of one, two or three quarters along the edges.
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 5


def test_a_picture_is_not_empty_and_not_full() -> None:
    face = dome((0, 0))
    picture = render_mesh(face, Camera.framing([face.vertices], SIZE))
    assert picture.dtype == np.uint8
    assert picture.shape == (SIZE, SIZE, 3)
    assert 0.6 < covered(picture).mean() < 0.95
    assert not covered(picture)[[0, -1]].any()


def test_a_transparent_picture_has_the_colors_of_the_opaque_one() -> None:
    face = dome((0, 0))
    camera = Camera.framing([face.vertices], SIZE)
    opaque, clear = (render_mesh(face, camera, background=b) for b in (shading.BACKGROUND, None))
    cover = clear[..., 3]
    assert {0, 128, 255} <= set(np.unique(cover)) <= {0, 64, 128, 191, 255}  # samples of a pixel
    assert np.array_equal(clear[cover == 255][:, :3], opaque[cover == 255])
    assert (opaque[cover == 0] == BACKGROUND).all()


def test_triangles_without_area_and_loose_vertices_are_left_out() -> None:
    face = dome((0, 0))
    camera = Camera.framing([face.vertices], SIZE)
    vertices = np.concatenate([face.vertices, [[0, 0, 500]]]).astype(np.float32)
    line = [[0, 0, 1], [5, 5, 5], [0, 1, 2]]
    more = Mesh(vertices, np.concatenate([face.triangles, line]).astype(np.int32))
    assert np.array_equal(covered(render_mesh(more, camera)), covered(render_mesh(face, camera)))


def test_points_alone_make_no_picture() -> None:
    points = Mesh(dome((0, 0)).vertices, np.empty((0, 3), np.int32), name="cloud")
    with raises("no-triangles", "cloud"):
        render_mesh(points, Camera.framing([points.vertices], SIZE))


def test_shade_is_brightest_towards_the_key_light() -> None:
    directions = np.random.default_rng(2).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colors = shade_skin(directions, np.array(shading.SKIN))
    brightest = directions[colors.sum(1).argmax()]
    key = np.array(shading.KEY.direction) / np.linalg.norm(shading.KEY.direction)
    assert brightest @ key > 0.8
    assert (colors > 0).all()


def test_srgb_keeps_black_and_white_and_cuts_the_rest() -> None:
    linear = np.array([-1, 0, 0.0031308, 0.2159, 1, 7])
    assert to_srgb(linear).tolist() == [0, 0, 10, 128, 255, 255]


def test_a_large_picture_is_drawn_in_bands_that_fit(monkeypatch) -> None:
    """By default one has some thousand rows of a face; nothing may be seen where they meet."""
    face = dome((20, -10))
    camera = Camera.framing([face.vertices], 61)
    whole = render_mesh(face, camera, 20)
    monkeypatch.setattr(shading, "MAX_SAMPLES", 4 * camera.width * 7)
    assert [band.height for band in camera.bands(7)] == [7] * 8 + [5]
    parts = render_mesh(face, camera, 20)
    assert whole.shape == parts.shape
    assert (whole != parts).any(-1).mean() < 1e-3  # a sample's centre on an edge may round away


def test_pages_have_the_light_of_pictures() -> None:
    """The shader's numbers are written there once more: a page has no other way to them."""
    page = (Path(shading.__file__).parent / "web" / "face_viewer.js").read_text()
    written = {
        name: tuple(map(float, numbers.split(",")))
        for name, numbers in re.findall(r"(\w+) = (?:vec3\(|\[)([-., 0-9]+)[)\]]", page)
    }
    for name in ("KEY", "FILL", "RIM"):
        assert Light(written[f"TO_{name}"], written[name]) == getattr(shading, name)
    for name in ("SKY", "GROUND", "WRAP", "INSIDE", "LINING", "LINING_OF_VALUES", "SKIN"):
        assert written[name] == getattr(shading, name)
    assert f"const float GLOSS = {shading.GLOSS}, SHADOW = {shading.SHADOW};" in page
    assert "GLOSS * pow(max(dot(n, halfway), 0.0), 20.0)" in page
    assert "matte = 1.0 - (1.0 - SHADOW) * aside * aside;" in page
    assert f"const MARGIN = {MARGIN};" in page
    assert f"const DEPTH = {openings.DEPTH};" in page
