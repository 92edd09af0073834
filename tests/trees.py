"""Made-up folders of CoMA, BU-3DFE, FaceScape TU and FaceWarehouse.

Paths, numbers of vertices, units and file formats are those of the data sets; the faces are bent
sheets whose vertices are numbered at random. Files are written without the project's codecs: a
mistake in those cannot hide here. A `Tree` knows what was written.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from zlib import crc32

import numpy as np


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMA_SUBJECTS = _words(
    "FaceTalk_170725_00137_TA FaceTalk_170728_03272_TA FaceTalk_170731_00024_TA "
    "FaceTalk_170809_00138_TA FaceTalk_170811_03274_TA FaceTalk_170811_03275_TA "
    "FaceTalk_170904_00128_TA FaceTalk_170904_03276_TA FaceTalk_170908_03277_TA "
    "FaceTalk_170912_03278_TA FaceTalk_170913_03279_TA FaceTalk_170915_00223_TA"
)
COMA_EXPRESSIONS = _words(
    "bareteeth cheeks_in eyebrow high_smile lips_back lips_up mouth_down mouth_extreme "
    "mouth_middle mouth_open mouth_side mouth_up"
)
# The mouth goes to both sides, and this vertex of it tells to which.
COMA_SIDEWAYS = ("mouth_down", "mouth_middle", "mouth_side", "mouth_up")
COMA_MOUTH_VERTEX = 3506
BU3DFE_SUBJECTS = (*(f"F{n:04d}" for n in range(1, 57)), *(f"M{n:04d}" for n in range(1, 45)))
BU3DFE_EXPRESSIONS = ("AN", "DI", "FE", "HA", "SA", "SU")
BU3DFE_ETHNICITIES = ("AE", "AM", "BL", "IN", "LA", "WH")
# Scans are aligned by these vertices, which no expression moves.
BU3DFE_STABLE = (4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143)
FACESCAPE_EXPRESSIONS = _words(
    "neutral smile mouth_stretch anger jaw_left jaw_right jaw_forward mouth_left mouth_right "
    "dimpler chin_raiser lip_puckerer lip_funneler sadness lip_roll grin cheek_blowing eye_closed "
    "brow_raiser brow_lower"
)
FACESCAPE_FOLDERS = {
    "models_reg": "{id}/models_reg",
    "plain": "{id}",
    "trainset": "facescape_trainset_{first}_{last}/{id}/models_reg",
}


@dataclass(frozen=True, eq=False)
class Sheet:
    """A topology, and where its vertices lie on a sheet.

    Attributes:
        place: (V, 2), from -1 to 1: left to right and bottom to top.
        polygons: int (P, 4), counterclockwise; the fourth corner of a triangle is -1.
        texture: (T, 2), T > V, in an order of its own; the polygons in it: int (P, 4).
    """

    place: np.ndarray
    polygons: np.ndarray
    texture: np.ndarray
    texture_polygons: np.ndarray

    @property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3): quads cut from their first corner, in the order of the file."""
        halves = self.polygons[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
        return halves[halves[:, 2] >= 0].astype(np.int32)

    def part(self, wanted: np.ndarray) -> "Sheet":
        """The wanted polygons alone."""
        return replace(
            self, polygons=self.polygons[wanted], texture_polygons=self.texture_polygons[wanted]
        )

    def face(self, person: str, expression: str, strength: float) -> np.ndarray:
        """A face float32 (V, 3) mm: the neutral at strength 0, the apex at 1, moved in proportion.

        The upper quarter stays as it is. Any text is a person or an expression.
        """
        u, v = self.place.T
        moved = self._waves(expression) + 0.3 * self._waves(f"{person} {expression}")
        moved *= np.clip(1 - 2 * v, 0, 1)[:, None]
        if expression in COMA_SIDEWAYS:  # the mouth one way, on average the face the other way
            moved[:, 0] += 12 * np.exp(-8 * (u**2 + (v + 0.5) ** 2)) - 3
        x, y = 70 * u * (1 - 0.2 * v**2), 95 * v * (1 - 0.2 * u**2)
        flat = np.stack([x, y, 60 - 30 * (u**2 + v**2)], axis=1)
        return (flat + self._waves(person) + strength * moved).astype(np.float32)

    def _waves(self, seed: str) -> np.ndarray:
        random = np.random.default_rng(crc32(seed.encode()))
        frequency, phase = random.normal(0, 1, (2, 6)), random.uniform(0, 6, 6)
        return np.cos(self.place @ frequency + phase) @ random.normal(0, 1.5, (6, 3))


@cache
def sheet(vertices: int, *, quads: bool = False) -> Sheet:
    """Some vertices have their place: CoMA's mouth, and BU-3DFE's stable ones at the top."""
    random = np.random.default_rng(vertices)
    columns = int(vertices**0.5)
    row, column = np.divmod(np.arange(vertices), columns)
    place = np.stack([2 * column / (columns - 1) - 1, 1 - 2 * row / row.max()], axis=1)
    place += random.uniform(-0.4, 0.4, place.shape) / columns  # no three vertices on a line
    order = random.permutation(vertices)  # where each vertex is
    wanted = {
        5023: {COMA_MOUTH_VERTEX: (0.0, -0.5)},
        5996: {k: (n / 7 - 0.85, 0.55 + n % 3 / 5) for n, k in enumerate(BU3DFE_STABLE)},
    }
    for vertex, spot in wanted.get(vertices, {}).items():
        there = np.flatnonzero(order == np.linalg.norm(place - spot, axis=1).argmin())[0]
        order[[vertex, there]] = order[[there, vertex]]
    first = np.flatnonzero(column < columns - 1)
    first = first[first + columns + 1 < vertices]
    polygons = np.argsort(order)[first[:, None] + [0, columns, columns + 1, 1]]
    halved = polygons[:: 10 if quads else 1]
    halves = np.pad(halved[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3), ((0, 0), (0, 1)))
    halves[:, 3] = -1
    whole = np.delete(polygons, np.s_[:: 10 if quads else 1], axis=0)
    polygons = random.permutation(np.concatenate([whole, halves]))
    texture_of = random.permutation(vertices + 50)[:vertices]
    texture = random.uniform(size=(vertices + 50, 2))
    texture_polygons = np.where(polygons < 0, -1, texture_of[polygons])
    return Sheet(place[order], polygons, texture, texture_polygons)


@dataclass(frozen=True, eq=False)
class Written:
    """What one file was written from.

    Attributes:
        path: below the root, with `/`.
        subject, expression: as the path spells them.
        strength: 0 neutral, 1 apex; below 0 to the other side; NaN for an outlier.
        vertices: float32 (V, 3) mm, exactly what the file holds.
        face: float32 (V, 3) mm before the file's rigid pose and rounding.
    """

    path: str
    subject: str
    expression: str
    strength: float
    vertices: np.ndarray
    face: np.ndarray


@dataclass(frozen=True, eq=False)
class Tree:
    """A data set on disk.

    Attributes:
        unit_mm: millimetres of a unit of the files.
        digits: decimals of the coordinates in them.
        encode: path, points (V, 3) in that unit, digits and topology -> the content of a file.
        files: by path, in the order of writing; spoiling a file leaves them as they are.
    """

    root: Path
    topology: Sheet
    unit_mm: float
    digits: int
    encode: Callable[[str, np.ndarray, int, Sheet], bytes]
    files: dict[str, Written] = field(default_factory=dict)

    def add(
        self,
        path: str,
        subject: str,
        expression: str,
        strength: float,
        face: np.ndarray,
        pose: Callable[[np.ndarray], np.ndarray] = lambda vertices: vertices,
    ) -> None:
        """Write a face (V, 3) mm and remember it."""
        vertices = self._write(path, pose(face), self.topology)
        self.files[path] = Written(path, subject, expression, strength, vertices, face)

    def drop_vertices(self, path: str, count: int = 1) -> None:
        """The file loses its last vertices and the polygons at them."""
        vertices = self.files[path].vertices[:-count]
        below = (self.topology.polygons < len(vertices)).all(axis=1)
        self._write(path, vertices, self.topology.part(below))

    def _write(self, path: str, vertices: np.ndarray, topology: Sheet) -> np.ndarray:
        """Write (V, 3) mm; returns them as float32 after rounding to what the file can say."""
        points = np.round(vertices.astype(np.float64) / self.unit_mm, self.digits)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.encode(path, points, self.digits, topology))
        return points.astype(np.float32) * np.float32(self.unit_mm)


def coma(
    root: Path,
    *,
    subjects: Iterable[str] = COMA_SUBJECTS[:2],
    expressions: Sequence[str] = ("bareteeth", "mouth_side", "mouth_up"),
    frames: int = 20,
    outliers: Collection[tuple[str, str, int]] = (),
) -> Tree:
    """PLY, metres, 5,023 vertices: sequences that go from neutral to the apex and back.

    The first two and the last two frames are neutral, all but the first with some noise. Sideways
    expressions go to one side and then to the other. `outliers` are (subject, expression, frame) of
    faces torn to pieces; there is none with z > 3 among fewer than 12 frames.
    """
    tree = Tree(root, sheet(5023), 1000.0, 7, _ply)
    time = np.clip(np.arange(frames) - 1, 0, frames - 3) / (frames - 3)
    for subject in subjects:
        for expression in expressions:
            sideways = expression in COMA_SIDEWAYS
            course = np.sin(2 * np.pi * time) if sideways else np.sin(np.pi * time) ** 2
            course = np.round(course / np.abs(course).max(), 6)
            for frame, strength in enumerate(course.tolist(), 1):
                path = coma_name(subject, expression, frame)
                vertices = tree.topology.face(subject, expression, strength)
                random = np.random.default_rng(crc32(path.encode()))
                if (subject, expression, frame) in outliers:
                    strength = float("nan")
                    vertices += random.normal(0, 60, vertices.shape)
                elif not strength and frame > 1:
                    vertices += random.normal(0, 5e-3, vertices.shape)
                tree.add(path, subject, expression, strength, vertices)
    return tree


def coma_name(subject: str, expression: str, frame: int) -> str:
    """Path below the root; frames count from 1."""
    return f"{subject}/{expression}/{expression}.{frame:06d}.ply"


def coma_names() -> list[str]:
    """All 20,466."""
    sequences = [(s, e) for s in COMA_SUBJECTS for e in COMA_EXPRESSIONS]
    return [
        coma_name(subject, expression, frame)
        for number, (subject, expression) in enumerate(sequences)
        for frame in range(1, 143 + (number < 18))
    ]


def bu3dfe(
    root: Path,
    *,
    subjects: Iterable[str] = ("F0001", "F0011", "M0001"),
    expressions: Sequence[str] = BU3DFE_EXPRESSIONS,
    levels: Sequence[int] = (1, 2, 3, 4),
) -> Tree:
    """VRML, mm, 5,996 vertices: every scan in a rigid pose of its own; the strength is level / 4.

    Before that the stable vertices of a person are where they are in the neutral `NE`, which is
    always there.
    """
    tree = Tree(root, sheet(5996), 1.0, 4, _vrml)
    for subject in subjects:
        for expression, level in [("NE", 0), *((e, k) for e in expressions for k in levels)]:
            path = bu3dfe_name(subject, expression, level)
            vertices = tree.topology.face(subject, expression, level / 4)
            tree.add(path, subject, expression, level / 4, vertices, _pose(path))
    return tree


def _pose(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """A rigid motion by up to 20 degrees and some centimetres, always the same for one name."""
    random = np.random.default_rng(crc32(name.encode()))
    x, y, z = random.uniform(-0.1, 0.1, 3)  # axis times the tangent of half the angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # Cayley's transform of a skew matrix is a rotation, exactly.
    rotation = np.linalg.solve(np.eye(3) - cross, np.eye(3) + cross)
    shift = random.normal(0, 20, 3)
    return lambda vertices: vertices @ rotation.T + shift


def bu3dfe_name(subject: str, expression: str, level: int) -> str:
    """Path below the root; the ethnicity of a subject depends on its name."""
    ethnicity = BU3DFE_ETHNICITIES[crc32(subject.encode()) % len(BU3DFE_ETHNICITIES)]
    return f"{subject}_{expression}{level:02d}{ethnicity}_F3D.wrl"


def bu3dfe_names() -> list[str]:
    """All 2,500."""
    shown = [("NE", 0), *((e, level) for e in BU3DFE_EXPRESSIONS for level in (1, 2, 3, 4))]
    return [bu3dfe_name(s, *scan) for s in BU3DFE_SUBJECTS for scan in shown]


def facescape(
    root: Path,
    *,
    ids: Iterable[int] = (1, 2, 122),
    expressions: Sequence[str] = FACESCAPE_EXPRESSIONS,
) -> Tree:
    """OBJ with a texture, mm, 26,317 vertices."""
    tree = Tree(root, sheet(26317), 1.0, 5, _textured_obj)
    for number in ids:
        for expression in expressions:
            strength = float(expression != "neutral")
            vertices = tree.topology.face(str(number), expression, strength)
            path = facescape_name(number, expression)
            tree.add(path, str(number), expression, strength, vertices)
    return tree


def facescape_name(number: int, expression: str, variant: str = "models_reg") -> str:
    """Path below the root, in one of FACESCAPE_FOLDERS."""
    first = (number - 1) // 100 * 100 + 1
    folder = FACESCAPE_FOLDERS[variant].format(id=number, first=first, last=min(first + 99, 847))
    return f"{folder}/{FACESCAPE_EXPRESSIONS.index(expression) + 1}_{expression}.obj"


def facescape_names() -> list[str]:
    """All 16,940 in the folders of the download, although the real set has gaps."""
    people = range(1, 848)
    return [facescape_name(n, e, "trainset") for n in people for e in FACESCAPE_EXPRESSIONS]


def facewarehouse(
    root: Path,
    *,
    testers: Iterable[int] = (1, 2, 141),
    shapes: Sequence[int] = range(47),
    unit_mm: float = 100.0,
) -> Tree:
    """OBJ, decimetres unless said otherwise, 11,510 vertices; quads, and some triangles."""
    tree = Tree(root, sheet(11510, quads=True), unit_mm, 6, _plain_obj)
    for tester in testers:
        for shape in shapes:
            subject, expression, strength = f"Tester_{tester}", f"shape_{shape}", float(shape > 0)
            vertices = tree.topology.face(subject, expression, strength)
            path = facewarehouse_name(tester, shape)
            tree.add(path, subject, expression, strength, vertices)
    return tree


def facewarehouse_name(tester: int, shape: int) -> str:
    """Path below the root."""
    return f"Tester_{tester}/Blendshape/shape_{shape}.obj"


def facewarehouse_names() -> list[str]:
    """All 7,050."""
    return [facewarehouse_name(t, s) for t in range(1, 151) for s in range(47)]


def touch(root: Path, names: Iterable[str]) -> None:
    """Make empty files, and the folders above them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def truncate(path: Path, part: float = 0.5) -> None:
    """Only the first part of the file is left."""
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])


def _rows(item: str, numbers: np.ndarray) -> bytes:
    """Every row of numbers printed as `item`."""
    return (item * len(numbers) % tuple(numbers.ravel().tolist())).encode()


def _points(item: str, points: np.ndarray, digits: int) -> bytes:
    """`item` with the coordinates of a point in place of {}."""
    return _rows(item.format(" ".join([f"%.{digits}f"] * 3)), points)


_PLY_HEADER = """\
ply
format {} 1.0
element vertex {}
property float x
property float y
property float z
element face {}
property list uchar int vertex_indices
end_header
"""


def _ply(path: str, points: np.ndarray, digits: int, topology: Sheet) -> bytes:
    """Every tenth frame is text."""
    triangles = topology.triangles
    if path.endswith("0.ply"):
        header = _PLY_HEADER.format("ascii", len(points), len(triangles))
        body = _points("{}\n", points, digits) + _rows("3 %d %d %d\n", triangles)
    else:
        header = _PLY_HEADER.format("binary_little_endian", len(points), len(triangles))
        faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
        faces["count"], faces["corners"] = 3, triangles
        body = points.astype("<f4").tobytes() + faces.tobytes()
    return header.encode() + body


def _textured_obj(path: str, points: np.ndarray, digits: int, topology: Sheet) -> bytes:
    corners = np.stack((topology.polygons, topology.texture_polygons), axis=-1)[:, :3] + 1
    return (
        f"mtllib ./{PurePosixPath(path).name}.mtl\n".encode()
        + _points("v {}\n", points, digits)
        + _rows("vt %.6f %.6f\n", topology.texture)
        + b"usemtl material_0\n"
        + _rows("f %d/%d %d/%d %d/%d\n", corners.reshape(-1, 6))
    )


def _plain_obj(path: str, points: np.ndarray, digits: int, topology: Sheet) -> bytes:
    counted = (topology.polygons + 1).tolist()
    faces = "".join(f"f {' '.join(str(c) for c in polygon if c)}\n" for polygon in counted)
    return _points("v {}\n", points, digits) + faces.encode()


_VRML = """\
#VRML V2.0 utf8
# registered scan, [x y z] in mm {right-handed}
Transform {
  children [
    Shape {
      appearance Appearance {
        material Material { diffuseColor 1 1 1 }
        texture ImageTexture { url "scan.bmp" } # beside this file
      }
      geometry IndexedFaceSet {
        solid FALSE
%s      }
    }
  ]
}
"""


def _vrml(path: str, points: np.ndarray, digits: int, topology: Sheet) -> bytes:
    """Half of the files, by their names, have the texture's lists before those of the shape."""
    shape = _points("{},\n", points, digits)
    corners, texture_corners = (
        _rows("%d, %d, %d, -1,\n", polygons[:, :3])
        for polygons in (topology.polygons, topology.texture_polygons)
    )
    texture = _rows("%.6f %.6f,\n", topology.texture)
    lists = [
        b"coord Coordinate {\npoint [ # x y z\n%b]\n}\n" % shape,
        b"coordIndex [\n%b]\n" % corners,
        b"texCoord TextureCoordinate {\npoint [\n%b]\n}\n" % texture,
        b"texCoordIndex [\n%b]\n" % texture_corners,
    ]
    if crc32(path.encode()) % 2:
        lists = lists[2:] + lists[:2]
    return _VRML.encode() % b"".join(lists)
