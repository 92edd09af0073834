"""Folders of CoMA, BU-3DFE, FaceScape TU and FaceWarehouse, made of faces of the bundled model.

Names, numbers of vertices, units, polygons and file formats are those of the data sets, the faces
are not. The topology of 4,601 vertices is refined to the wanted numbers by splitting edges, and the
vertices are then shuffled, so that nothing lies where a careless reader would find it by luck.
Files are written without the project's codecs: a mistake in those cannot hide here. A `Tree` knows
what was written.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zlib import crc32

import numpy as np

from facedis_core.model.model import Model, load_model


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
# The mouth goes to both sides, and this vertex of the lower lip says to which.
COMA_SIDEWAYS = ("mouth_down", "mouth_middle", "mouth_side", "mouth_up")
COMA_MOUTH_VERTEX = 3506
COMA_FRAMES = 20466
BU3DFE_SUBJECTS = (*(f"F{n:04d}" for n in range(1, 57)), *(f"M{n:04d}" for n in range(1, 45)))
BU3DFE_EXPRESSIONS = ("AN", "DI", "FE", "HA", "SA", "SU")
BU3DFE_ETHNICITIES = ("AE", "AM", "BL", "IN", "LA", "WH")
# Scans are aligned by these vertices; here no expression moves them.
BU3DFE_STABLE = (4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143)
FACESCAPE_IDS = tuple(range(1, 848))
FACESCAPE_EXPRESSIONS = _words(
    "neutral smile mouth_stretch anger jaw_left jaw_right jaw_forward mouth_left mouth_right "
    "dimpler chin_raiser lip_puckerer lip_funneler sadness lip_roll grin cheek_blowing eye_closed "
    "brow_raiser brow_lower"
)
FACESCAPE_FOLDERS: Mapping[str, str] = {
    "models_reg": "{id}/models_reg",
    "plain": "{id}",
    "trainset": "facescape_trainset_{first}_{last}/{id}/models_reg",
}
FACEWAREHOUSE_TESTERS = tuple(range(1, 151))
FACEWAREHOUSE_SHAPES = tuple(range(47))

# A decoder moves every vertex on its own, which turns over the tiny triangles within the lips; no
# scanner does that. So faces are moved by a few of their vertices, each for all that is near it.
CONTROLS = 300
NEAR_MM = 10.0
# Nor has a real rim three vertices on a straight line, which a simplified triangle could join.
RIM_OUTWARD = 0.05


@dataclass(frozen=True, eq=False)
class Topology:
    """The registration of a data set, and how a face of 4,601 vertices gets it.

    Attributes:
        splits: passes, each of which makes vertices from all before it.
        order: int (V,) which of the vertices so made each one is.
        polygons: int (P, 4); the fourth corner of a triangle is -1.
        texture: (T, 2), T > V: the texture is cut open along the middle of the face.
        texture_corners: int (P, 4).
    """

    splits: Sequence["Split"]
    order: np.ndarray
    polygons: np.ndarray
    texture: np.ndarray
    texture_corners: np.ndarray

    @cached_property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3): quads cut from their first corner, in the order of the file."""
        halves = self.polygons[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
        return halves[halves[:, 2] >= 0].astype(np.int32)

    def register(self, vertices: np.ndarray) -> np.ndarray:
        """(4601, 3) -> (V, 3), a fixed linear map."""
        for split in self.splits:
            vertices = np.concatenate((vertices, split.made(vertices)))
        return vertices[self.order]


class Split(NamedTuple):
    """Edges cut in the middle.

    Attributes:
        ends: int (k, 2) vertices.
        opposite: int (k,) third vertex of a triangle that has the edge.
        outward: float32 (k, 1) how much further away from that the new vertex is than the middle.
    """

    ends: np.ndarray
    opposite: np.ndarray
    outward: np.ndarray

    def made(self, vertices: np.ndarray) -> np.ndarray:
        """The new vertices (k, 3)."""
        middle = vertices[self.ends].mean(axis=1)
        return middle + self.outward * (middle - vertices[self.opposite])


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


Encode = Callable[[str, np.ndarray, int, Topology], bytes]


@dataclass(frozen=True, eq=False)
class Tree:
    """A data set on disk.

    Attributes:
        unit_mm: millimetres of a unit of the files.
        digits: decimals of the coordinates in them.
        encode: path, points (V, 3) in that unit, digits and topology -> the content of a file.
        stray: where `litter` leaves a mesh that is not of the layout.
        files: by path, in the order of writing; spoiling a file leaves them as they are.
    """

    root: Path
    topology: Topology
    unit_mm: float
    digits: int
    encode: Encode
    stray: str
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

    def find(self, subject: str, expression: str, strength: float | None = None) -> list[Written]:
        """The files of a person's expression, of one strength or of all."""
        return [
            file
            for file in self.files.values()
            if (file.subject, file.expression) == (subject, expression)
            and strength in (None, file.strength)
        ]

    def plant_nan(self, path: str, vertex: int = 0) -> None:
        """One coordinate of a file is no number any more."""
        vertices = self.files[path].vertices.copy()
        vertices[vertex, 1] = np.nan
        self._write(path, vertices, self.topology)

    def drop_vertices(self, path: str, count: int = 1) -> None:
        """The file loses its last vertices and the polygons at them."""
        vertices = self.files[path].vertices[:-count]
        self._write(path, vertices, self._with_polygons(self._polygons_below(len(vertices))))

    def drop_polygon(self, path: str) -> None:
        """The file loses its last polygon and no vertex."""
        rows = np.arange(len(self.topology.polygons) - 1)
        self._write(path, self.files[path].vertices, self._with_polygons(rows))

    def litter(self) -> list[str]:
        """Leave in the root and beside the first mesh what is none of the data set's; its paths."""
        first = PurePosixPath(next(iter(self.files)))
        places = {PurePosixPath(), first.parent}
        names = (".DS_Store", "Thumbs.db", "readme.txt", "texture.jpg", f"._{first.name}")
        paths = [str(place / name) for place in sorted(places) for name in names]
        for path in paths:
            (self.root / path).write_bytes(b"\x00\x05\x16\x07 none of these is a mesh")
        few = self.files[str(first)].vertices[:-10]
        self._write(self.stray, few, self._with_polygons(self._polygons_below(len(few))))
        return [*paths, self.stray]

    def _polygons_below(self, count: int) -> np.ndarray:
        return np.flatnonzero((self.topology.polygons < count).all(axis=1))

    def _with_polygons(self, rows: np.ndarray) -> Topology:
        known = self.topology
        return replace(
            known, polygons=known.polygons[rows], texture_corners=known.texture_corners[rows]
        )

    def _write(self, path: str, vertices: np.ndarray, topology: Topology) -> np.ndarray:
        """Write (V, 3) mm; returns them as float32 after rounding to what the file can say."""
        points = np.round(vertices.astype(np.float64) / self.unit_mm, self.digits)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.encode(path, points, self.digits, topology))
        return points.astype(np.float32) * np.float32(self.unit_mm)


def truncate(path: Path, part: float = 0.5) -> None:
    """Only the first part of the file is left."""
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])


def coma(
    root: Path,
    *,
    subjects: Iterable[str] = COMA_SUBJECTS[:2],
    expressions: Iterable[str] = ("bareteeth", "mouth_side", "mouth_up"),
    frames: int = 20,
    outliers: Collection[tuple[str, str, int]] = (),
    encodings: Sequence[str] = (*["binary_little_endian"] * 9, "ascii"),
) -> Tree:
    """PLY, metres, 5,023 vertices: sequences that go from neutral to the apex and back.

    The first two and the last two frames are the same neutral. mouth_down, mouth_middle, mouth_side
    and mouth_up go to one side and then to the other, vertex 3506 with them.

    Args:
        root: made if need be.
        subjects: names of folders.
        expressions: of every subject.
        frames: of every sequence, at least 8; an outlier cannot have z > 3 among fewer than 12.
        outliers: (subject, expression, frame counted from 1) of faces torn to pieces.
        encodings: formats of PLY that the frames of a sequence have in turn.
    """
    assert frames >= 8, frames
    subjects, expressions = tuple(subjects), tuple(expressions)
    topology = coma_topology()
    turns = {
        coma_name(subject, expression, frame): encodings[(frame - 1) % len(encodings)]
        for subject in subjects
        for expression in expressions
        for frame in range(1, frames + 1)
    }

    def encode(path: str, points: np.ndarray, digits: int, topology: Topology) -> bytes:
        return _ply(points, digits, topology, turns.get(path, encodings[0]))

    stray = f"{subjects[0]}/{expressions[0]}/template.ply"
    tree = Tree(root, topology, 1000.0, 7, encode, stray)
    for subject in subjects:
        for expression in expressions:
            ends = [topology.register(face(subject, expression, s)) for s in (0.0, 1.0)]
            for frame, strength in enumerate(_course(frames, expression in COMA_SIDEWAYS), 1):
                vertices = ends[0] + np.float32(strength) * (ends[1] - ends[0])
                if (subject, expression, frame) in outliers:
                    torn = _random("torn", subject, expression, str(frame))
                    vertices = vertices + torn.normal(0, 60, vertices.shape).astype(np.float32)
                    strength = float("nan")
                path = coma_name(subject, expression, frame)
                tree.add(path, subject, expression, strength, vertices)
    return tree


def _course(frames: int, sideways: bool) -> list[float]:
    """The strength of every frame of a sequence; the largest is 1 or -1."""
    time = np.clip(np.arange(frames) - 1, 0, frames - 3) / (frames - 3)
    course = np.sin(2 * np.pi * time) if sideways else np.sin(np.pi * time) ** 2
    return (np.round(course / np.abs(course).max(), 6) + 0.0).tolist()  # no -0


def coma_name(subject: str, expression: str, frame: int) -> str:
    """Path below the root; frames count from 1."""
    return f"{subject}/{expression}/{expression}.{frame:06d}.ply"


def coma_names() -> list[str]:
    """All 20,466, in 144 sequences of different lengths; what they are lengths of is made up."""
    sequences = [(s, e) for s in COMA_SUBJECTS for e in COMA_EXPRESSIONS]
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(len(sequences), 8.0))
    lengths = 40 + random.multinomial(COMA_FRAMES - 40 * len(sequences), shares)
    return [
        coma_name(subject, expression, frame)
        for (subject, expression), length in zip(sequences, lengths.tolist(), strict=True)
        for frame in range(1, length + 1)
    ]


def bu3dfe(
    root: Path,
    *,
    subjects: Iterable[str] = ("F0001", "F0011", "M0001"),
    expressions: Sequence[str] = BU3DFE_EXPRESSIONS,
    levels: Sequence[int] = (1, 2, 3, 4),
) -> Tree:
    """VRML, mm, 5,996 vertices, 11,753 triangles: every scan in a rigid pose of its own.

    Before that the stable vertices of a person are where they are in the neutral `NE`, which is
    always there. The strength is level / 4.
    """
    topology = bu3dfe_topology()
    subjects = tuple(subjects)
    stray = bu3dfe_name(subjects[0], "NE", 0).replace("F3D", "RAW")
    tree = Tree(root, topology, 1.0, 4, _vrml, stray)
    for subject in subjects:
        for expression, level in [("NE", 0), *((e, k) for e in expressions for k in levels)]:
            vertices = topology.register(face(subject, expression, level / 4))
            path = bu3dfe_name(subject, expression, level)
            tree.add(path, subject, expression, level / 4, vertices, _Pose(path))
    return tree


class _Pose:
    """A rigid motion by up to 20 degrees and some centimetres, always the same for one name."""

    def __init__(self, name: str) -> None:
        random = _random("pose", name)
        x, y, z = random.uniform(-0.1, 0.1, 3)  # axis times the tangent of half the angle
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        # Cayley's transform of a skew matrix is a rotation, exactly.
        self.rotation = np.linalg.solve(np.eye(3) - cross, np.eye(3) + cross)
        self.shift = random.normal(0, 20, 3)

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        return vertices @ self.rotation.T + self.shift


def bu3dfe_name(subject: str, expression: str, level: int) -> str:
    """Path below the root; who a subject is says its name."""
    ethnicity = BU3DFE_ETHNICITIES[crc32(subject.encode()) % len(BU3DFE_ETHNICITIES)]
    return f"{subject}_{expression}{level:02d}{ethnicity}_F3D.wrl"


def bu3dfe_names() -> list[str]:
    """All 2,500."""
    shown = [("NE", 0), *((e, level) for e in BU3DFE_EXPRESSIONS for level in (1, 2, 3, 4))]
    return [
        bu3dfe_name(s, expression, level) for s in BU3DFE_SUBJECTS for expression, level in shown
    ]


def facescape(
    root: Path,
    *,
    ids: Iterable[int] = (1, 2, 122),
    variant: str = "models_reg",
    expressions: Iterable[str] = FACESCAPE_EXPRESSIONS,
    missing: Collection[tuple[int, str]] = (),
) -> Tree:
    """OBJ with a texture, mm, 26,317 vertices, 52,261 triangles.

    `variant` is one of FACESCAPE_FOLDERS; `missing` are (id, expression) that are not written.
    """
    topology = facescape_topology()
    ids, expressions = tuple(ids), tuple(expressions)
    stray = str(PurePosixPath(facescape_name(ids[0], "neutral", variant)).parent / "average.obj")
    tree = Tree(root, topology, 1.0, 5, _textured_obj, stray)
    for number in ids:
        for expression in expressions:
            if (number, expression) not in missing:
                strength = float(expression != "neutral")
                vertices = topology.register(face(str(number), expression, strength))
                path = facescape_name(number, expression, variant)
                tree.add(path, str(number), expression, strength, vertices)
    return tree


def facescape_name(number: int, expression: str, variant: str = "models_reg") -> str:
    """Path below the root."""
    first = (number - 1) // 100 * 100 + 1
    last = min(first + 99, FACESCAPE_IDS[-1])
    folder = FACESCAPE_FOLDERS[variant].format(id=number, first=first, last=last)
    return f"{folder}/{FACESCAPE_EXPRESSIONS.index(expression) + 1}_{expression}.obj"


def facescape_names(variant: str = "models_reg") -> list[str]:
    """All 16,940, although the real set has gaps."""
    return [facescape_name(n, e, variant) for n in FACESCAPE_IDS for e in FACESCAPE_EXPRESSIONS]


def facewarehouse(
    root: Path, *, testers: Iterable[int] = (1, 2, 141), shapes: Iterable[int] = range(47)
) -> Tree:
    """OBJ, decimetres, 11,510 vertices; mostly quads, and some triangles among them."""
    topology = facewarehouse_topology()
    testers, shapes = tuple(testers), tuple(shapes)
    stray = f"Tester_{testers[0]}/TrainingPose/pose_0.obj"
    tree = Tree(root, topology, 100.0, 6, _plain_obj, stray)
    for tester in testers:
        for shape in shapes:
            subject, expression, strength = f"Tester_{tester}", f"shape_{shape}", float(shape > 0)
            vertices = topology.register(face(subject, expression, strength))
            path = facewarehouse_name(tester, shape)
            tree.add(path, subject, expression, strength, vertices)
    return tree


def facewarehouse_name(tester: int, shape: int) -> str:
    """Path below the root."""
    return f"Tester_{tester}/Blendshape/shape_{shape}.obj"


def facewarehouse_names() -> list[str]:
    """All 7,050."""
    return [facewarehouse_name(t, s) for t in FACEWAREHOUSE_TESTERS for s in FACEWAREHOUSE_SHAPES]


def touch(root: Path, names: Iterable[str]) -> None:
    """Empty files where there are none yet: a whole data set to count and to name."""
    paths = [root / name for name in names]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.touch()


def face(person: str, expression: str, strength: float) -> np.ndarray:
    """A face float32 (4601, 3) mm: neutral at strength 0, apex at 1, the other way below 0.

    It moves on a straight line from the person's neutral, so its mean vertex distance to that is
    |strength| times what it is at the apex. Any text is a person or an expression.
    """
    neutral = _neutral(person)
    if strength == 0:
        return neutral
    return neutral + np.float32(strength) * _movement(person, expression)


@lru_cache(256)
def _neutral(person: str) -> np.ndarray:
    z = _random("identity", person).standard_normal((1, 64))
    return (_base() + _offsets("identity", z)[0]).astype(np.float32)


@lru_cache(1024)
def _movement(person: str, expression: str) -> np.ndarray:
    """Offsets (4601, 3) mm from neutral to apex; everybody does it a little differently."""
    z = _random("expression", expression).standard_normal((1, 64))
    z += 0.3 * _random("style", person, expression).standard_normal((1, 64))
    if expression in COMA_SIDEWAYS:
        z = 0.5 * z + 4.0 * _sideways()
    return _calm() * (_offsets("expression", z) - _offsets("expression", 0 * z))[0]


def _random(*key: str) -> np.random.Generator:
    return np.random.default_rng(crc32("/".join(key).encode()))


class _Controls(NamedTuple):
    """The bundled model of a few vertices (C), and their weights (4601, C) on all."""

    model: Model
    weights: np.ndarray


def _offsets(part: str, z: np.ndarray) -> np.ndarray:
    """Offsets (B, 4601, 3) mm of a part of the face, from latents (B, 64)."""
    model, weights = _controls()
    decoded = model.decode(z, z, part=part, offsets=True)  # type: ignore[arg-type]
    return weights @ decoded


@cache
def _controls() -> _Controls:
    points = _base()
    chosen = _spread(points, np.arange(len(points)), CONTROLS)
    distance = np.linalg.norm(points[:, None] - points[chosen], axis=-1)
    weights = np.exp(-0.5 * (distance / NEAR_MM) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = (3 * chosen[:, None] + np.arange(3)).ravel()
    model = load_model("ict-pointnet")
    learned = {
        name: tensor[rows].astype(np.float32) if "decoder.output" in name else tensor
        for name, tensor in model.weights.items()
    }
    config = replace(model.config, vertices=CONTROLS)
    small = replace(model, config=config, weights=learned, mean_face=model.mean_face[chosen])
    return _Controls(small, weights.astype(np.float32))


@cache
def _base() -> np.ndarray:
    """The mean face (4601, 3) mm without its folds: within the lips some triangles lie upside down.

    Vertices near those go to the middle of their neighbours until there are none.
    """
    model = load_model("ict-pointnet")
    points, triangles = model.mean_face.astype(np.float64), model.triangles
    edges = _edges(points, triangles).ends
    ends = np.concatenate((edges, edges[:, ::-1]))
    neighbours = np.bincount(ends[:, 0])[:, None]
    for _ in range(50):
        folded = np.unique(triangles[_cosines(points, triangles) < 0.6])
        if not len(folded):
            return points
        near = np.unique(triangles[np.isin(triangles, folded).any(axis=1)])
        total = np.zeros_like(points)
        np.add.at(total, ends[:, 0], points[ends[:, 1]])
        points[near] = (total / neighbours)[near]
    raise AssertionError("the bundled model's mean face cannot be smoothed")


def _cosines(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Between each triangle's normal and that of the surface around its corners, (F,)."""
    a, b, c = points[triangles].swapaxes(0, 1)
    normals = np.cross(b - a, c - a)
    around = np.zeros_like(points)
    for corner in triangles.T:
        np.add.at(around, corner, normals)
    around = (around / np.linalg.norm(around, axis=1, keepdims=True))[triangles].sum(axis=1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(around, axis=1)
    return (normals * around).sum(axis=1) / lengths


def _spread(points: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Some of the vertices `among`, far from one another; the first is the first of them."""
    chosen = [int(among[0])]
    distance = np.full(len(among), np.inf)
    while len(chosen) < count:
        last = np.linalg.norm(points[among] - points[chosen[-1]], axis=1)
        distance = np.minimum(distance, last)
        chosen.append(int(among[distance.argmax()]))
    return np.array(chosen)


@cache
def _liveliness() -> np.ndarray:
    """How far each vertex goes on average when a face shows something, (4601,) mm."""
    z = np.random.default_rng(0).standard_normal((50, 64))
    moved = _offsets("expression", z) - _offsets("expression", 0 * z[:1])
    return np.linalg.norm(moved, axis=-1).mean(axis=0)


@cache
def _still() -> np.ndarray:
    """As many vertices as scans are aligned by, apart from one another, where faces move least."""
    quiet = np.argsort(_liveliness())[: len(_base()) // 10]
    return _spread(_base(), quiet, len(BU3DFE_STABLE))


@cache
def _calm() -> np.ndarray:
    """How much of an expression comes to each vertex, (4601, 1): none to the still ones."""
    distance = np.linalg.norm(_base()[:, None] - _base()[_still()], axis=-1).min(axis=1)
    return (1 - np.exp(-0.5 * (distance / NEAR_MM) ** 2)).astype(np.float32)[:, None]


@cache
def _mouth() -> int:
    """The vertex in the middle of the face that moves most: it is on the lower lip."""
    middle = np.flatnonzero(np.abs(_base()[:, 0]) < 1)
    return int(middle[_liveliness()[middle].argmax()])


@cache
def _sideways() -> np.ndarray:
    """The direction of expression latents (64,) that moves the mouth most in x."""
    steps = 0.5 * np.eye(64)
    slope = (_offsets("expression", steps) - _offsets("expression", -steps))[:, _mouth(), 0]
    return slope / np.linalg.norm(slope)


@cache
def coma_topology() -> Topology:
    """5,023 vertices; the real set's 9,976 triangles cannot be had by splitting edges."""
    return _topology(5023, 9844, {COMA_MOUTH_VERTEX: _mouth()})


@cache
def bu3dfe_topology() -> Topology:
    """5,996 vertices, 11,753 triangles."""
    places = dict(zip(BU3DFE_STABLE, _still().tolist(), strict=True))
    return _topology(5996, 11753, places)


@cache
def facescape_topology() -> Topology:
    """26,317 vertices, 52,261 triangles."""
    return _topology(26317, 52261, {})


@cache
def facewarehouse_topology() -> Topology:
    """11,510 vertices, 22,800 triangles, most of them joined to quads."""
    return _topology(11510, 22800, {}, quads=True)


def _topology(
    vertices: int, faces: int, places: Mapping[int, int], *, quads: bool = False
) -> Topology:
    """Refine to so many vertices and triangles; `places` are wanted index -> vertex before that."""
    points, triangles, splits = _refine(_base(), load_model("ict").triangles, vertices, faces)
    random = np.random.default_rng(vertices)
    order = random.permutation(vertices)
    for index, vertex in places.items():
        there = int(np.flatnonzero(order == vertex)[0])
        order[[index, there]] = order[[there, index]]
    rank = np.argsort(order)
    triangles = rank[triangles]
    if quads:
        polygons = random.permutation(_quads(points[order], triangles))
    else:
        polygons = np.pad(triangles, ((0, 0), (0, 1)), constant_values=-1)
    return Topology(splits, order, polygons, *_texture(points[order], polygons, random))


class _Edges(NamedTuple):
    """The edges of a mesh, and the longest one of each triangle.

    Attributes:
        ends: int (E, 2) vertices.
        triangles: int (E,) how many triangles have it: 1 on the rim, else 2.
        length: (E,), 0 where an edge is not wanted.
        agreed: bool (E,) no triangle that has it has a longer one.
        longest: int (F,) edge of each triangle.
        turned: int (F, 3) the triangles, with their longest edge first.
    """

    ends: np.ndarray
    triangles: np.ndarray
    length: np.ndarray
    agreed: np.ndarray
    longest: np.ndarray
    turned: np.ndarray


def _edges(points: np.ndarray, triangles: np.ndarray, wanted: Collection[int] = (1, 2)) -> _Edges:
    """`wanted` are edges of one triangle, of two, or both."""
    corners = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).astype(np.int64)
    keys, of, count = np.unique(
        corners[..., 0] * len(points) + corners[..., 1], return_inverse=True, return_counts=True
    )
    ends = np.stack(np.divmod(keys, len(points)), axis=1)
    length = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    length *= np.isin(count, list(wanted))
    rank = np.empty(len(ends), int)  # no two edges are equally long
    rank[np.argsort(length, kind="stable")] = np.arange(len(ends))
    of = of.reshape(-1, 3)
    first = rank[of].argmax(axis=1)[:, None]
    longest = np.take_along_axis(of, first, axis=1)[:, 0]
    agreed = (np.bincount(longest, minlength=len(ends)) == count) & (length > 0)
    turned = np.take_along_axis(triangles, (first + np.arange(3)) % 3, axis=1)
    return _Edges(ends, count, length, agreed, longest, turned)


def _refine(
    points: np.ndarray, triangles: np.ndarray, vertices: int, faces: int
) -> tuple[np.ndarray, np.ndarray, list[Split]]:
    """Split long edges in the middle until there are so many vertices and triangles.

    An edge within makes two triangles more, one on the rim makes one more; so both numbers can be
    met. A pass splits the edges that all their triangles have as the longest, as far as they are in
    the longer half.
    """
    rim = 2 * (vertices - len(points)) - (faces - len(triangles))
    left = {1: rim, 2: vertices - len(points) - rim}
    splits = []
    while wanted := [kind for kind, count in left.items() if count]:
        edges = _edges(points, triangles, wanted)
        good = edges.agreed & (edges.length >= np.median(edges.length[edges.length > 0]))
        by_length = np.argsort(-edges.length, kind="stable")
        by_length = by_length[good[by_length]]
        kinds = [by_length[edges.triangles[by_length] == kind][: left[kind]] for kind in wanted]
        for kind, some in zip(wanted, kinds, strict=True):
            left[kind] -= len(some)
        chosen = np.concatenate(kinds)
        middle = np.full(len(edges.ends), -1)
        middle[chosen] = len(points) + np.arange(len(chosen))
        opposite = np.zeros(len(edges.ends), int)
        opposite[edges.longest] = edges.turned[:, 2]
        outward = np.where(edges.triangles[chosen] == 1, np.float32(RIM_OUTWARD), np.float32(0))
        splits.append(Split(edges.ends[chosen], opposite[chosen], outward[:, None]))
        points = np.concatenate((points, splits[-1].made(points)))
        new = middle[edges.longest]
        (a, b, c), m = edges.turned[new >= 0].T, new[new >= 0]
        halves = (np.stack((a, m, c), axis=1), np.stack((m, b, c), axis=1))
        triangles = np.concatenate((triangles[new < 0], *halves))
    return points, triangles, splits


def _quads(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Polygons (P, 4): triangles joined in twos along their longest edge where both agree on it.

    Cut from its first corner, a quad is the same two triangles again.
    """
    polygons = []
    for _ in range(3):
        edges = _edges(points, triangles, wanted=(2,))
        joined = edges.agreed[edges.longest]
        twos = np.flatnonzero(joined)[np.argsort(edges.longest[joined], kind="stable")]
        one, other = edges.turned[twos[0::2]], edges.turned[twos[1::2]]
        polygons.append(np.concatenate((one[:, [1, 2, 0]], other[:, 2:]), axis=1))
        triangles = triangles[~joined]
    polygons.append(np.pad(triangles, ((0, 0), (0, 1)), constant_values=-1))
    return np.concatenate(polygons)


def _texture(
    points: np.ndarray, polygons: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (T, 2) and corners (P, 4): a vertex between left and right has two."""
    right = points[polygons[:, :3], 0].mean(axis=1) > 0
    seam = np.setdiff1d(np.intersect1d(polygons[right], polygons[~right]), [-1])
    copy = np.arange(len(points))
    copy[seam] = len(points) + np.arange(len(seam))
    corners = np.where(right[:, None], copy[polygons], polygons)
    x, y, z = points[np.concatenate((np.arange(len(points)), seam))].T
    flat = np.stack((0.5 + np.arctan2(x, z) / np.pi / 2, (y - y.min()) / np.ptp(y)), axis=1)
    order = random.permutation(len(flat))
    return flat[order], np.where(polygons < 0, -1, np.argsort(order)[corners])


def _text(item: str, rows: np.ndarray, in_a_line: int = 1) -> bytes:
    """Every row of numbers printed as `item`."""
    lines, rest = divmod(len(rows), in_a_line)
    pattern = (item * in_a_line + "\n") * lines + (item * rest + "\n" if rest else "")
    return (pattern % tuple(rows.ravel().tolist())).encode()


def _decimals(count: int, digits: int) -> str:
    return " ".join([f"%.{digits}f"] * count)


_PLY_HEADER = """\
ply
format {encoding} 1.0
element vertex {vertices}
property float x
property float y
property float z
element face {triangles}
property list uchar int vertex_indices
end_header
"""


def _ply(points: np.ndarray, digits: int, topology: Topology, encoding: str) -> bytes:
    header = _PLY_HEADER.format(
        encoding=encoding, vertices=len(points), triangles=len(topology.triangles)
    )
    if encoding == "ascii":
        body = _text(_decimals(3, digits), points)
    else:
        body = points.astype(">f4" if "big" in encoding else "<f4").tobytes()
    return header.encode() + body + _ply_faces(topology, encoding)


@lru_cache(8)
def _ply_faces(topology: Topology, encoding: str) -> bytes:
    if encoding == "ascii":
        return _text("3 %d %d %d", topology.triangles)
    order = ">" if "big" in encoding else "<"
    rows = np.empty(len(topology.triangles), [("count", "u1"), ("corners", f"{order}i4", 3)])
    rows["count"] = 3
    rows["corners"] = topology.triangles
    return rows.tobytes()


def _textured_obj(path: str, points: np.ndarray, digits: int, topology: Topology) -> bytes:
    library = f"mtllib ./{PurePosixPath(path).name}.mtl\n"
    return library.encode() + _text(f"v {_decimals(3, digits)}", points) + _obj_texture(topology)


@lru_cache(8)
def _obj_texture(topology: Topology) -> bytes:
    """Everything after the vertices, for triangles."""
    corners = np.stack((topology.polygons, topology.texture_corners), axis=-1)[:, :3]
    faces = _text("f %d/%d %d/%d %d/%d", corners.reshape(-1, 6) + 1)
    return _text("vt %.6f %.6f", topology.texture) + b"usemtl material_0\n" + faces


def _plain_obj(path: str, points: np.ndarray, digits: int, topology: Topology) -> bytes:
    return _text(f"v {_decimals(3, digits)}", points) + _obj_faces(topology)


@lru_cache(8)
def _obj_faces(topology: Topology) -> bytes:
    counted = (topology.polygons + 1).tolist()
    return "".join(f"f {' '.join(str(c) for c in p if c)}\n" for p in counted).encode()


_VRML_START = """\
#VRML V2.0 utf8
# registered scan, [x y z] in mm {{right-handed}}
Transform {{
  children [
    Shape {{
      appearance Appearance {{
        material Material {{ diffuseColor 1 1 1 }}
        texture ImageTexture {{ url "{name}.bmp" }} # beside this file
      }}
      geometry IndexedFaceSet {{
        solid FALSE
"""
_VRML_END = b"      }\n    }\n  ]\n}\n"


def _vrml(path: str, points: np.ndarray, digits: int, topology: Topology) -> bytes:
    """Half of the files, by their names, have the texture's lists before those of the shape."""
    items = _text(f"{_decimals(3, digits)}, ", points, 2)
    shape = b"coord Coordinate {\npoint [ # x y z\n" + items + b"]\n}\n"
    corners, texture = _vrml_lists(topology)
    parts = [shape, corners, texture]
    if crc32(path.encode()) % 2:
        parts = [texture, shape, corners]
    start = _VRML_START.format(name=PurePosixPath(path).stem).encode()
    return start + b"".join(parts) + _VRML_END


@lru_cache(8)
def _vrml_lists(topology: Topology) -> tuple[bytes, bytes]:
    """coordIndex, and all of the texture."""
    triple = "%d, %d, %d, -1, "
    corners = _text(triple, topology.polygons[:, :3], 2)
    points = _text("%.6f %.6f, ", topology.texture, 3)
    index = _text(triple, topology.texture_corners[:, :3], 2)
    return (
        b"coordIndex [\n" + corners + b"]\n",
        b"texCoord TextureCoordinate {\npoint [\n" + points + b"]\n}\n"
        b"texCoordIndex [\n" + index + b"]\n",
    )
