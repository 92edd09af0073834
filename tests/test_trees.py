"""The made-up data sets against what they promise: sizes, files, truth, and sound surfaces."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trees
from trees import Tree

from facedis_core.errors import InputError
from facedis_core.mesh import read_mesh

SUBJECT = trees.COMA_SUBJECTS[4]
OUTLIER = (SUBJECT, "bareteeth", 7)

SMALL: dict[str, Callable[[Path], Tree]] = {
    "coma": partial(
        trees.coma,
        subjects=[SUBJECT],
        expressions=("bareteeth", "mouth_down", "mouth_side"),
        outliers={OUTLIER},
        encodings=("binary_little_endian", "ascii", "binary_big_endian"),
    ),
    "bu3dfe": partial(trees.bu3dfe, subjects=("F0001", "M0044"), expressions=("HA",)),
    "facescape": partial(trees.facescape, ids=(122,), expressions=("neutral", "jaw_left")),
    "facewarehouse": partial(trees.facewarehouse, testers=(141,), shapes=(0, 3, 46)),
}
SIZES = {
    "coma": (5023, 9844),
    "bu3dfe": (5996, 11753),
    "facescape": (26317, 52261),
    "facewarehouse": (11510, 22800),
}
COUNTS = {"coma": 20466, "bu3dfe": 2500, "facescape": 16940, "facewarehouse": 7050}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in SMALL.items()}


@pytest.fixture(params=SMALL)
def tree(request: pytest.FixtureRequest, built: dict[str, Tree]) -> Tree:
    """Each data set in turn; files must stay as they are."""
    return built[request.param]


@pytest.fixture
def own(tree: Tree, tmp_path: Path) -> Tree:
    """Each data set in turn, to be spoilt."""
    return replace(tree, root=shutil.copytree(tree.root, tmp_path / "own"))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b, axis=-1).mean())


@pytest.mark.parametrize("name", SMALL)
def test_sizes_are_those_of_the_data_set(name: str, built: dict[str, Tree]) -> None:
    topology = built[name].topology
    assert (len(topology.order), len(topology.triangles)) == SIZES[name]


def test_topology_is_an_oriented_surface_with_every_vertex_in_it(tree: Tree) -> None:
    triangles = tree.topology.triangles
    directed = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)  # at most two at an edge, not turned
    assert (directed[:, 0] != directed[:, 1]).all()
    edges = np.unique(np.sort(directed, axis=1), axis=0)
    assert np.array_equal(np.unique(triangles), np.arange(len(tree.topology.order)))
    # One piece with holes for the mouth and the eyes, as the bundled model has them.
    assert len(tree.topology.order) - len(edges) + len(triangles) == -2


def test_no_triangle_of_any_face_is_degenerate_or_folded(tree: Tree) -> None:
    for file in tree.files.values():
        if not np.isnan(file.strength):
            a, b, c = file.vertices[tree.topology.triangles].astype(np.float64).swapaxes(0, 1)
            assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 0.002  # mm^2
            assert (
                trees._cosines(file.vertices.astype(np.float64), tree.topology.triangles).min() > 0
            )


def test_our_readers_return_the_vertices_and_triangles_in_order(tree: Tree) -> None:
    for path, file in tree.files.items():
        mesh = read_mesh(tree.root / path)
        assert mesh.unit_mm is None
        assert np.array_equal(mesh.vertices * np.float32(tree.unit_mm), file.vertices)
        assert np.array_equal(mesh.triangles, tree.topology.triangles)


@pytest.mark.parametrize("name", ["coma", "facewarehouse"])
def test_meshio_returns_the_same(name: str, built: dict[str, Tree]) -> None:
    meshio = pytest.importorskip("meshio")
    tree = built[name]
    for path, file in list(tree.files.items())[:3]:
        mesh = meshio.read(tree.root / path)
        assert np.allclose(mesh.points * tree.unit_mm, file.vertices, rtol=1e-6, atol=1e-6)
        corners = sum(block.data.size for block in mesh.cells)
        assert corners == (tree.topology.polygons >= 0).sum()


def test_texts_hold_what_a_reader_of_three_lines_finds(built: dict[str, Tree]) -> None:
    for path, file in built["facescape"].files.items():
        lines = (built["facescape"].root / path).read_text().splitlines()
        points = [line.split()[1:] for line in lines if line.startswith("v ")]
        assert np.array_equal(np.array(points, float).astype(np.float32), file.vertices)
    for path, file in built["bu3dfe"].files.items():
        text = re.sub("#.*", "", (built["bu3dfe"].root / path).read_text())
        found = re.search(r"\bCoordinate \{\s*point \[([^]]*)\]", text)
        assert found
        numbers = np.array(found[1].replace(",", " ").split(), float)
        assert np.array_equal(numbers.astype(np.float32), file.vertices.ravel())


def test_faces_are_written_as_they_are_but_for_rounding_and_pose(tree: Tree) -> None:
    for file in tree.files.values():
        if tree.stray.endswith(".wrl"):  # a rigid motion keeps lengths
            assert distance(file.vertices, file.face) > 5
            before, after = (
                np.linalg.norm(np.diff(v[::999].astype(np.float64), axis=0), axis=1)
                for v in (file.face, file.vertices)
            )
            assert np.allclose(before, after, atol=1e-3)
        else:
            assert np.abs(file.vertices - file.face).max() < 1e-3


def test_a_wanted_topology_is_a_linear_map(tree: Tree) -> None:
    one, two = (trees.face("ann", e, 1.0).astype(np.float64) for e in ("smile", "anger"))
    register = tree.topology.register
    assert np.allclose(register(2 * one - 3 * two), 2 * register(one) - 3 * register(two))


def test_people_differ_and_expressions_begin_at_their_neutral() -> None:
    assert np.array_equal(trees.face("ann", "smile", 0), trees.face("ann", "anger", 0))
    assert distance(trees.face("ann", "smile", 0), trees.face("bob", "smile", 0)) > 1
    assert distance(trees.face("ann", "smile", 1), trees.face("ann", "anger", 1)) > 1
    half, whole = (
        distance(trees.face("ann", "smile", s), trees.face("ann", "smile", 0)) for s in (-0.5, 1.0)
    )
    assert half == pytest.approx(whole / 2, rel=1e-4)
    assert whole > 1


class TestComa:
    def test_levels_rise_and_fall_as_the_strength_says(self, built: dict[str, Tree]) -> None:
        for expression in ("bareteeth", "mouth_down", "mouth_side"):
            files = built["coma"].find(SUBJECT, expression)
            strength = np.array([file.strength for file in files])
            sound = ~np.isnan(strength)
            level = np.array([distance(f.vertices, files[0].vertices) for f in files])[sound]
            assert len(files) == 20
            assert np.allclose(level / level.max(), np.abs(strength[sound]), atol=1e-4)
            assert strength[[0, 1, -2, -1]].tolist() == [0, 0, 0, 0]
            assert np.abs(strength[sound]).max() == 1

    @pytest.mark.parametrize("expression", trees.COMA_SIDEWAYS)
    @pytest.mark.parametrize("subject", trees.COMA_SUBJECTS[:3])
    def test_the_mouth_goes_to_both_sides(self, subject: str, expression: str) -> None:
        register = trees.coma_topology().register
        rest, one, other = (
            register(trees.face(subject, expression, s))[trees.COMA_MOUTH_VERTEX, 0]
            for s in (0, 1, -1)
        )
        assert one - rest > 3 and other - rest < -3  # mm

    def test_an_outlier_is_one_within_its_sequence(self, built: dict[str, Tree]) -> None:
        files = built["coma"].find(*OUTLIER[:2])
        level = np.array([distance(file.vertices, files[0].vertices) for file in files])
        z = (level - level.mean()) / level.std()
        assert np.flatnonzero(z > 3).tolist() == [OUTLIER[2] - 1]
        assert [i for i, file in enumerate(files) if np.isnan(file.strength)] == [OUTLIER[2] - 1]

    def test_files_are_of_every_encoding_and_none_says_who_made_it(
        self, built: dict[str, Tree]
    ) -> None:
        headers = [
            (built["coma"].root / path).read_bytes().partition(b"end_header")[0]
            for path in built["coma"].files
        ]
        assert not any(b"comment" in header for header in headers)
        formats = Counter(header.splitlines()[1].split()[1] for header in headers)
        assert set(formats) == {b"binary_little_endian", b"ascii", b"binary_big_endian"}


def test_stable_vertices_of_bu3dfe_are_still_and_can_hold_a_face(built: dict[str, Tree]) -> None:
    stable = list(trees.BU3DFE_STABLE)
    for subject in ("F0001", "M0044"):
        (neutral,) = built["bu3dfe"].find(subject, "NE")
        for level in (1, 2, 3, 4):
            (file,) = built["bu3dfe"].find(subject, "HA", level / 4)
            assert np.array_equal(file.face[stable], neutral.face[stable])
            assert distance(file.face, neutral.face) > 0.4 * level
        assert np.ptp(neutral.face[stable], axis=0).min() > 10


def test_both_orders_of_lists_occur_in_vrml(built: dict[str, Tree]) -> None:
    texts = [(built["bu3dfe"].root / path).read_text() for path in built["bu3dfe"].files]
    first = {text.index("texCoord ") < text.index("coord ") for text in texts}
    assert first == {True, False}


def test_textures_have_other_counts_and_numbers_than_vertices(built: dict[str, Tree]) -> None:
    topology = built["facescape"].topology
    assert len(topology.texture) > len(topology.order)
    assert np.array_equal(np.unique(topology.texture_corners[:, :3]), range(len(topology.texture)))
    assert (topology.texture_corners[:, :3] == topology.polygons[:, :3]).mean() < 0.01


def test_facewarehouse_mixes_quads_and_triangles(built: dict[str, Tree]) -> None:
    corners = (built["facewarehouse"].topology.polygons >= 0).sum(axis=1)
    assert set(corners[:50].tolist()) == {3, 4}
    assert (corners == 4).mean() > 0.6
    (file,) = built["facewarehouse"].find("Tester_141", "shape_0")
    assert 0.5 < np.abs(file.vertices).max() / built["facewarehouse"].unit_mm < 2


def test_facescape_faces_can_be_simplified(built: dict[str, Tree]) -> None:
    pytest.importorskip("fast_simplification")
    from facedis_core.simplification import vertex_map

    (neutral,) = built["facescape"].find("122", "neutral")
    kept = vertex_map(neutral.vertices, built["facescape"].topology.triangles, 9000)
    assert 4400 < len(kept.vertex_index) < 4700


def test_missing_files_are_not_there(tmp_path: Path) -> None:
    tree = trees.facescape(
        tmp_path,
        ids=(1, 2),
        variant="trainset",
        expressions=("neutral", "smile"),
        missing={(2, "smile")},
    )
    folder = "facescape_trainset_1_100"
    expected = ["1/models_reg/1_neutral", "1/models_reg/2_smile", "2/models_reg/1_neutral"]
    assert list(tree.files) == [f"{folder}/{name}.obj" for name in expected]
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.obj"))
    assert found == list(tree.files)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_tree_has_the_same_bytes(
    name: str, built: dict[str, Tree], tmp_path: Path
) -> None:
    twin = SMALL[name](tmp_path)
    assert list(twin.files) == list(built[name].files)
    for path in twin.files:
        assert (tmp_path / path).read_bytes() == (built[name].root / path).read_bytes()


class TestSpoiling:
    def test_nan(self, own: Tree) -> None:
        path = list(own.files)[1]
        own.plant_nan(path, vertex=17)
        with pytest.raises(InputError, match="vertex 17 is not finite"):
            read_mesh(own.root / path)

    def test_truncated(self, own: Tree) -> None:
        path = own.root / list(own.files)[1]
        whole = path.stat().st_size
        trees.truncate(path)
        assert path.stat().st_size == whole // 2
        try:
            left = read_mesh(path).triangles
        except InputError:
            return
        assert len(left) < len(own.topology.triangles)  # an OBJ does not say where it ends

    def test_other_vertices(self, own: Tree) -> None:
        path = list(own.files)[1]
        own.drop_vertices(path, 3)
        mesh = read_mesh(own.root / path)
        expected = own.files[path].vertices[:-3]
        assert np.array_equal(mesh.vertices * np.float32(own.unit_mm), expected)
        assert 0 < len(own.topology.triangles) - len(mesh.triangles) < 60

    def test_other_triangles(self, own: Tree) -> None:
        path = list(own.files)[1]
        own.drop_polygon(path)
        mesh = read_mesh(own.root / path)
        assert np.array_equal(mesh.vertices * np.float32(own.unit_mm), own.files[path].vertices)
        assert 1 <= len(own.topology.triangles) - len(mesh.triangles) <= 2

    def test_litter_is_no_file_of_the_set(self, own: Tree) -> None:
        left = own.litter()
        there = {p.relative_to(own.root).as_posix() for p in own.root.rglob("*") if p.is_file()}
        assert there == {*own.files, *left}
        assert not set(left) & set(own.files)
        assert len(read_mesh(own.root / own.stray).vertices) == len(own.topology.order) - 10


class TestNames:
    @pytest.mark.parametrize("name", SMALL)
    def test_whole_sets_have_the_right_size(self, name: str) -> None:
        names = getattr(trees, f"{name}_names")()
        assert len(names) == len(set(names)) == COUNTS[name]

    def test_touching_makes_exactly_these_files(self, tmp_path: Path) -> None:
        trees.touch(tmp_path, trees.facewarehouse_names())
        found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.obj")]
        assert sorted(found) == sorted(trees.facewarehouse_names())

    @pytest.mark.parametrize("name", SMALL)
    def test_meshes_lie_where_the_whole_set_has_them(
        self, name: str, built: dict[str, Tree]
    ) -> None:
        assert set(built[name].files) <= set(getattr(trees, f"{name}_names")())

    def test_meshes_survive_when_the_rest_is_touched(self, own: Tree) -> None:
        path = next(iter(own.files))
        before = (own.root / path).read_bytes()
        trees.touch(own.root, [path, "empty"])
        assert (own.root / path).read_bytes() == before
        assert (own.root / "empty").read_bytes() == b""

    def test_coma(self) -> None:
        names = trees.coma_names()
        pattern = r"(FaceTalk_\d{6}_\d{5}_TA)/(\w+)/\2\.(\d{6})\.ply"
        found = [m.groups() for name in names if (m := re.fullmatch(pattern, name))]
        lengths = Counter(found_in[:2] for found_in in found)
        assert len(found) == len(names)
        assert len(lengths) == 144 and len({s for s, _ in lengths}) == 12
        assert len(set(lengths.values())) > 50
        assert sum(name.endswith(".000001.ply") for name in names) == 144

    def test_bu3dfe(self) -> None:
        pattern = r"([FM]\d{4})_(NE00|(?:AN|DI|FE|HA|SA|SU)0[1-4])(AE|AM|BL|IN|LA|WH)_F3D\.wrl"
        found = [re.fullmatch(pattern, name) for name in trees.bu3dfe_names()]
        assert all(found)
        subjects = Counter(m[1] for m in found if m)
        assert set(subjects.values()) == {25}
        assert Counter(subject[0] for subject in subjects) == {"F": 56, "M": 44}
        assert len({(m[1], m[3]) for m in found if m}) == 100

    @pytest.mark.parametrize("variant", trees.FACESCAPE_FOLDERS)
    def test_facescape(self, variant: str) -> None:
        names = trees.facescape_names(variant)
        assert len(set(names)) == 847 * 20
        last = {
            "models_reg": "847/models_reg/20_brow_lower.obj",
            "plain": "847/20_brow_lower.obj",
            "trainset": "facescape_trainset_801_847/847/models_reg/20_brow_lower.obj",
        }
        assert names[-1] == last[variant]
