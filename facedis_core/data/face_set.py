"""FaceSet: registered faces of many people with labels, in one memory-mapped file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.history import HistoryStep, made_by
from facedis_core.data.preparation import Preparation
from facedis_core.data.rows import Rows, row_numbers
from facedis_core.errors import (
    ErrorCode,
    InputError,
    UsageError,
    check_argument,
    missing_extra,
)
from facedis_core.io.safetensors_file import (
    SafetensorsFile,
    content_id,
    parse_record,
    read_safetensors,
    release_pages,
    safetensors_writer,
)
from facedis_core.io.streams import naming

if TYPE_CHECKING:
    from facedis_core.nn.datasets import FaceDataset, FacePairDataset

Split = Literal["train", "test", "validation"]
TRAIN: Final = 0
TEST: Final = 1
VALIDATION: Final = 2
SPLITS: Final[Mapping[str, int]] = {"train": TRAIN, "test": TEST, "validation": VALIDATION}

# First words of the protocols that put faces of one person into several splits on purpose.
DIVIDES_PEOPLE: Final = ("frames", "faces")


def divides_people(protocol: str) -> bool:
    """Whether a protocol splits each person's faces, as CoMA's does, instead of the people."""
    return protocol.startswith(DIVIDES_PEOPLE)


@dataclass(frozen=True, eq=False, repr=False)
class Labels:
    """Names, subjects, expressions, levels and splits of N faces.

    Attributes:
        names: unique, one a face.
        subjects, expressions: the classes; `subject` and `expression` index into them.
        subject, expression: int32 (N,).
        level: float32 (N,), 0 neutral to 1 apex.
        split: uint8 (N,), 0 train, 1 test, 2 validation.
    """

    names: Sequence[str]
    subjects: Sequence[str]
    expressions: Sequence[str]
    subject: np.ndarray
    expression: np.ndarray
    level: np.ndarray
    split: np.ndarray

    def __repr__(self) -> str:
        people, kinds = len(self.subjects), len(self.expressions)
        return f"Labels({len(self.names)} faces, {people} people, {kinds} expressions)"

    def subset(self, rows: np.ndarray) -> "Labels":
        """The labels of some rows; subjects and expressions that no longer occur are dropped."""
        subjects, subject = np.unique(self.subject[rows], return_inverse=True)
        expressions, expression = np.unique(self.expression[rows], return_inverse=True)
        return Labels(
            names=[self.names[row] for row in rows],
            subjects=[self.subjects[k] for k in subjects],
            expressions=[self.expressions[k] for k in expressions],
            subject=subject.astype(np.int32),
            expression=expression.astype(np.int32),
            level=self.level[rows],
            split=self.split[rows],
        )


@dataclass(frozen=True, eq=False, repr=False)
class FaceSet:
    """A face set as it lies on disk; `vertices` is a memory map where the file allows one.

    An index gives the vertices of a face, (V, 3) mm, a slice or a list of rows those of several.

    Attributes:
        vertices: float32 (N, V, 3) mm.
        neutrals: float32 (S, V, 3) mm, each subject's neutral for training, NaN where unknown.
        neutrals_eval: the same for AVD_neu.
        source, protocol: which data set, split how.
        id: first 12 hex digits of SHA-256 over the content.
        region: (V,) bool, the vertices that metrics count; None = all.

    Example:
        >>> faces = load_face_set("demo/faces.safetensors")
        >>> faces
        FaceSet(folder, 9 faces of 3 people, 3 expressions, 26719 vertices: 6 train, 3 test)
        >>> len(faces), faces[0].shape, faces[:4].shape, faces.labels.names[0]
        (9, (26719, 3), (4, 26719, 3), 'alice_mouth_stretch')
    """

    vertices: np.ndarray
    labels: Labels
    neutrals: np.ndarray
    neutrals_eval: np.ndarray
    preparation: Preparation
    source: str
    protocol: str
    id: str
    history: list[HistoryStep] = field(default_factory=list)
    region: np.ndarray | None = None

    @property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3)."""
        return self.preparation.triangles

    @property
    def topology(self) -> str:
        """Topology id of every face in the set."""
        return self.preparation.topology

    def __len__(self) -> int:
        return len(self.labels.names)

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        faces = self.read(row_numbers(rows, len(self), "a FaceSet"))
        return faces[0] if isinstance(rows, int | np.integer) else faces

    def __repr__(self) -> str:
        labels = self.labels
        counts = {name: len(self.rows(split)) for name, split in SPLITS.items()}
        splits = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return (
            f"FaceSet({self.source}, {len(self)} faces of {len(labels.subjects)} people, "
            f"{len(labels.expressions)} expressions, {self.vertices.shape[1]} vertices: {splits})"
        )

    @overload
    def torch_dataset(
        self, split: Split | None = "train", *, pairs: Literal[False] = False
    ) -> "FaceDataset": ...

    @overload
    def torch_dataset(
        self, split: Split | None = "train", *, pairs: Literal[True]
    ) -> "FacePairDataset": ...

    def torch_dataset(
        self, split: Split | None = "train", *, pairs: bool = False
    ) -> "FaceDataset | FacePairDataset":
        """The faces of a split as a data set of torch, in mm.

        Args:
            split: `train`, `test` or `validation`; None = all faces.
            pairs: with each face, another face and the neutral of the same subject.

        Raises:
            UsageError: torch is not installed, or an unknown split.
            InputError: the split has no faces.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> faces = load_face_set("demo/faces.safetensors")
            >>> batches = DataLoader(faces.torch_dataset("train", pairs=True), batch_size=4)
            >>> next(iter(batches)).partner.shape
            torch.Size([4, 26719, 3])
        """
        try:
            datasets = import_module("facedis_core.nn.datasets")
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise missing_extra("torch_dataset", "train") from None
        rows = self.rows(split)
        if not len(rows):
            raise InputError(f"the set has no {split} faces", ErrorCode.SPLIT_EMPTY)
        subject, expression = (
            np.asarray(values)[rows] for values in (self.labels.subject, self.labels.expression)
        )
        if not pairs:
            return datasets.FaceDataset(self.vertices, rows, subject, expression)
        return datasets.FacePairDataset(self.vertices, rows, subject, expression, self.neutrals)

    def rows(self, split: int | str | None) -> np.ndarray:
        """Indices of the faces of one split, ascending.

        Args:
            split: `train`, `test` or `validation`, or its number in `labels.split`; None = all.

        Raises:
            UsageError: an unknown name or number.
        """
        labels = self.labels
        if isinstance(split, str):
            if split not in SPLITS:
                raise UsageError(
                    f"there is no split {split!r}, expected one of {', '.join(SPLITS)}",
                    ErrorCode.OPTION_VALUE,
                )
            split = SPLITS[split]
        if split is None:
            return np.arange(len(labels.names))
        if split not in SPLITS.values():
            raise UsageError(
                f"there is no split {split}, expected one of {sorted(SPLITS.values())}",
                ErrorCode.OPTION_VALUE,
            )
        return np.flatnonzero(np.asarray(labels.split) == split)

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The given faces, (n, V, 3) float32 mm, in memory.

        Raises:
            InputError: one is not finite.
        """
        faces = np.asarray(self.vertices[rows])
        finite = np.isfinite(faces).all(axis=(1, 2))
        if not finite.all():
            name = self.labels.names[rows[int(np.argmin(finite))]]
            raise InputError(
                f"the face {name!r} of the set is not finite; prepare the set again",
                ErrorCode.NOT_FINITE,
            )
        return faces

    def release(self) -> None:
        """Give back the memory of the faces that were read; they stay in the file."""
        release_pages(self.vertices)

    def mean_face(self, rows: np.ndarray, block: int = 256) -> np.ndarray:
        """Mean of the given faces, (V, 3) float32 mm, in constant memory."""
        total = np.zeros(self.vertices.shape[1:], np.float64)
        for start in range(0, len(rows), block):
            total += self.read(rows[start : start + block]).sum(axis=0, dtype=np.float64)
        return (total / max(len(rows), 1)).astype(np.float32)


_TENSORS: Final[Mapping[str, tuple[str, tuple[str | int, ...]]]] = {
    "vertices": ("<f4", ("N", "V", 3)),
    "triangles": ("<i4", ("F", 3)),
    "vertex_index": ("<i4", ("V",)),
    "subject": ("<i4", ("N",)),
    "expression": ("<i4", ("N",)),
    "level": ("<f4", ("N",)),
    "split": ("|u1", ("N",)),
    "neutrals": ("<f4", ("S", "V", 3)),
    "neutrals_eval": ("<f4", ("S", "V", 3)),
    "region": ("|u1", ("V",)),
}
_OPTIONAL: Final = ("region",)


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a face set, but for its preparation."""

    source: str
    protocol: str
    names: list[str]
    subjects: list[str]
    expressions: list[str]
    history: list[HistoryStep]
    id: str


def load_face_set(source: str | Path) -> FaceSet:
    """Open a face set; the vertices stay on disk until they are used.

    Raises:
        InputError: not a whole face set, or its parts contradict each other.
        UsageError: an argument of another type.

    Example:
        >>> load_face_set("demo/faces.safetensors").rows("train")
        array([3, 4, 5, 6, 7, 8])
    """
    check_argument(source, (str, Path), "load_face_set: source", "a path")
    file = read_safetensors(source, "faceset")
    with naming(source):
        return parse_face_set(file)


def stream_face_set(url: str) -> FaceSet:
    """Open a face set by URL whose faces stay there: they are read as they are used.

    Nothing of them is kept, neither in memory nor on disk, so a set may be larger than both. The
    file must stay as it is meanwhile.

    Raises:
        InputError: errors of `load_face_set`, or the storage does not answer, now or when a face
            is read.
        UsageError: the extra `remote` or the storage's package is missing.
    """
    from facedis_core.io.remote_tensors import open_remote_safetensors

    file = open_remote_safetensors(url, "faceset", ("vertices", "neutrals", "neutrals_eval"))
    with naming(url):
        return parse_face_set(file)


def parse_face_set(file: SafetensorsFile) -> FaceSet:
    """The face set in a file that has been read; errors do not name it."""
    tensors = file.tensors
    sizes = _check_tensors(tensors)
    metadata = parse_record(_Metadata, file.metadata)
    labels = Labels(
        names=metadata.names,
        subjects=metadata.subjects,
        expressions=metadata.expressions,
        **{key: tensors[key] for key in ("subject", "expression", "level", "split")},
    )
    _check_labels(labels, sizes)
    return FaceSet(
        vertices=tensors["vertices"],
        labels=labels,
        neutrals=tensors["neutrals"],
        neutrals_eval=tensors["neutrals_eval"],
        preparation=Preparation.from_file(file),
        source=metadata.source,
        protocol=metadata.protocol,
        id=metadata.id,
        history=metadata.history,
        region=np.asarray(tensors["region"], bool) if "region" in tensors else None,
    )


def check_topology(faces: FaceSet, label: str, topologies: str | Sequence[str], other: str) -> None:
    """Raise InputError unless the face set is of one of these topologies, those of `other`."""
    expected = [topologies] if isinstance(topologies, str) else topologies
    if faces.topology not in expected:
        raise InputError(
            f"{label} ({made_by(faces.history)}) has topology {faces.topology} "
            f"({faces.vertices.shape[1]} vertices), {other} expects {' or '.join(expected)}; "
            "prepare the set with fd-prep --like",
            ErrorCode.TOPOLOGY,
        )


def _check_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Every tensor with its type and a shape that fits the others; returns the sizes."""
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in _TENSORS.items():
        if name not in tensors:
            if name in _OPTIONAL:
                continue
            raise InputError(
                f"has no tensor {name!r}; a face set needs it, prepare it again", ErrorCode.TENSOR
            )
        array = tensors[name]
        fits = array.ndim == len(shape) and array.dtype == np.dtype(dtype)
        for want, got in zip(shape, array.shape, strict=False):
            fits &= got == (sizes.setdefault(want, got) if isinstance(want, str) else want)
        if not fits:
            raise InputError(
                f"tensor {name!r} is {array.dtype} {array.shape}, "
                f"expected {np.dtype(dtype)} {shape} with {sizes}; prepare it again",
                ErrorCode.TENSOR,
            )
    region = tensors.get("region")
    if region is not None and not (np.isin(region, (0, 1)).all() and region.any()):
        raise InputError(
            "tensor 'region' has values other than 0 and 1, or no vertex; prepare it again",
            ErrorCode.DAMAGED,
        )
    return sizes


def _check_labels(labels: Labels, sizes: Mapping[str, int]) -> None:
    for words, found, count in (
        ("names", labels.names, sizes["N"]),
        ("subjects", labels.subjects, sizes["S"]),
    ):
        if len(found) != count:
            raise InputError(
                f"has {len(found)} {words} for {count}; prepare it again", ErrorCode.METADATA
            )
    twin = _twin(labels.names)
    if twin is not None:
        raise InputError(
            f"has two faces named {twin!r}; prepare it again", ErrorCode.NAME_DUPLICATE
        )
    for name, classes, limit in (
        ("subject", "subjects", len(labels.subjects)),
        ("expression", "expressions", len(labels.expressions)),
        ("split", "splits", len(SPLITS)),
    ):
        array = getattr(labels, name)
        if array.size and not (array.min() >= 0 and array.max() < limit):
            raise InputError(f"{name} labels lie outside the {limit} {classes}", ErrorCode.DAMAGED)
    if not ((labels.level >= 0) & (labels.level <= 1)).all():  # NaN is neither
        raise InputError(
            "a level lies outside of 0 neutral to 1 apex; prepare it again", ErrorCode.DAMAGED
        )


def _twin(names: Sequence[str]) -> str | None:
    """The first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


@dataclass
class FaceSetWriter:
    """Arrays to fill in place, mm: `vertices` (N, V, 3), both `neutrals` (S, V, 3).

    `release` gives back the memory of what has been filled; it stays in the file.
    """

    vertices: np.ndarray
    neutrals: np.ndarray
    neutrals_eval: np.ndarray
    release: Callable[[], None]


@contextmanager
def face_set_writer(
    stream: BinaryIO,
    labels: Labels,
    preparation: Preparation,
    *,
    source: str,
    protocol: str,
    history: Sequence[HistoryStep] = (),
    region: np.ndarray | None = None,
) -> Iterator[FaceSetWriter]:
    """Lay out a face set and fill it through a memory map; labels and id are written for you.

    The neutrals start as NaN (unknown). `region` (V,) are the vertices that metrics count.
    """
    twin = _twin(labels.names)
    if twin is not None:
        raise InputError(
            f"two faces are named {twin!r}; names must be unique in a face set",
            ErrorCode.NAME_DUPLICATE,
        )
    sizes: dict[str | int, int] = {
        "N": len(labels.names),
        "V": len(preparation.vertex_index),
        "F": len(preparation.triangles),
        "S": len(labels.subjects),
        3: 3,
    }
    layout = {
        name: (dtype, tuple(sizes[axis] for axis in shape))
        for name, (dtype, shape) in _TENSORS.items()
        if name != "region" or region is not None
    }
    metadata: dict[str, Any] = {
        **preparation.metadata(),
        "source": source,
        "protocol": protocol,
        "names": list(labels.names),
        "subjects": list(labels.subjects),
        "expressions": list(labels.expressions),
        "history": [step.as_json() for step in history],
        "id": "0" * 12,  # replaced by one of the same length when the content is known
    }
    with safetensors_writer(stream, "faceset", layout, metadata) as writer:
        for name, array in preparation.tensors().items():
            writer.tensors[name][...] = array
        if region is not None:
            writer.tensors["region"][...] = region
        for name in ("subject", "expression", "level", "split"):
            writer.tensors[name][...] = getattr(labels, name)
        tensors = writer.tensors
        faces = FaceSetWriter(
            tensors["vertices"], tensors["neutrals"], tensors["neutrals_eval"], writer.release
        )
        faces.neutrals[...] = np.nan
        faces.neutrals_eval[...] = np.nan
        yield faces
        del metadata["id"], metadata["history"]  # the id names the content, not who made it
        writer.metadata["id"] = content_id(writer.tensors, metadata, writer.release)


class NeutralFace(NamedTuple):
    """One person's neutral.

    Attributes:
        subject: whose.
        row: which face of the set it is; -1 where it is none.
        vertices: (V, 3) mm.
    """

    subject: int
    row: int
    vertices: np.ndarray


def neutral_faces(face_set: FaceSet, people: Iterable[int]) -> Iterator[NeutralFace]:
    """The neutral of each of these people: the first face of level 0, else the neutral mesh.

    People without either are left out.

    Raises:
        InputError: a face is not finite.
    """
    labels = face_set.labels
    for person in people:
        faces = np.flatnonzero((labels.subject == person) & (labels.level == 0))
        if len(faces):
            yield NeutralFace(int(person), int(faces[0]), face_set.read(faces[:1])[0])
        elif np.isfinite(face_set.neutrals_eval[person]).all():
            yield NeutralFace(int(person), -1, np.asarray(face_set.neutrals_eval[person]))
