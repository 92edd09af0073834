"""The face set: registered faces of many people with labels, in one memory-mappable file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from facedis_core.container import container_writer, content_id, read_container
from facedis_core.errors import InputError
from facedis_core.preparation import Preparation

TRAIN: Final = 0
TEST: Final = 1
VALIDATION: Final = 2
SPLITS: Final[Mapping[str, int]] = {"train": TRAIN, "test": TEST, "validation": VALIDATION}


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of each of N faces before any vertex is read.

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


@dataclass(frozen=True, eq=False)
class FaceSet:
    """A face set as it lies on disk; `vertices` is a memory map where the file allows one.

    Attributes:
        vertices: float32 (N, V, 3) mm.
        neutrals: float32 (S, V, 3) mm, each subject's neutral for training, NaN where unknown.
        neutrals_eval: the same for AVD_neu.
        source, protocol: which data set, split how.
        id: first 12 hex digits of SHA-256 over the content.
    """

    vertices: np.ndarray
    labels: Labels
    neutrals: np.ndarray
    neutrals_eval: np.ndarray
    preparation: Preparation
    source: str
    protocol: str
    id: str
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3)."""
        return self.preparation.triangles

    @property
    def topology(self) -> str:
        """Topology id of every face in the set."""
        return self.preparation.topology

    def rows(self, split: int | None) -> np.ndarray:
        """Indices of the faces of one split, ascending; None = all."""
        labels = self.labels
        if split is None:
            return np.arange(len(labels.names))
        return np.flatnonzero(np.asarray(labels.split) == split)

    def mean_face(self, rows: np.ndarray, block: int = 256) -> np.ndarray:
        """Mean of the given faces, (V, 3) float32 mm, in constant memory."""
        total = np.zeros(self.vertices.shape[1:], np.float64)
        for start in range(0, len(rows), block):
            total += self.vertices[rows[start : start + block]].sum(axis=0, dtype=np.float64)
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
}


def load_face_set(source: str | Path) -> FaceSet:
    """Open a face set; the vertices stay on disk until they are used.

    Raises:
        InputError: not a whole face set, or its parts contradict each other.
    """
    label = str(source)
    container = read_container(source, "faceset")
    tensors, metadata = container.tensors, container.metadata
    _check_tensors(tensors, metadata, label)
    labels = Labels(
        names=metadata["names"],
        subjects=metadata["subjects"],
        expressions=metadata["expressions"],
        **{key: tensors[key] for key in ("subject", "expression", "level", "split")},
    )
    return FaceSet(
        vertices=tensors["vertices"],
        labels=labels,
        neutrals=tensors["neutrals"],
        neutrals_eval=tensors["neutrals_eval"],
        preparation=Preparation.from_container(container, label),
        source=str(metadata.get("source", "")),
        protocol=str(metadata.get("protocol", "")),
        id=str(metadata.get("id", "")),
        history=list(metadata.get("history", [])),
    )


def _check_tensors(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], label: str
) -> None:
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in _TENSORS.items():
        if name not in tensors:
            raise InputError(
                f"{label} has no tensor {name!r}; a face set needs it, prepare it again"
            )
        array = tensors[name]
        fits = array.ndim == len(shape) and array.dtype == np.dtype(dtype)
        for want, got in zip(shape, array.shape, strict=False):
            fits &= got == (sizes.setdefault(want, got) if isinstance(want, str) else want)
        if not fits:
            raise InputError(
                f"{label}: tensor {name!r} is {array.dtype} {array.shape}, "
                f"expected {np.dtype(dtype)} {shape} with {sizes}; prepare it again"
            )
    for name, count in (("names", sizes["N"]), ("subjects", sizes["S"])):
        if len(metadata.get(name, ())) != count:
            raise InputError(f"{label}: {name} do not fit the tensors; prepare it again")
    for name, classes in (("subject", "subjects"), ("expression", "expressions")):
        limit, array = len(metadata.get(classes, ())), tensors[name]
        if array.size and not (array.min() >= 0 and array.max() < limit):
            raise InputError(f"{label}: {name} labels lie outside the {limit} {classes}")


@dataclass
class FaceSetWriter:
    """Arrays to fill in place, mm: `vertices` (N, V, 3), both `neutrals` (S, V, 3)."""

    vertices: np.ndarray
    neutrals: np.ndarray
    neutrals_eval: np.ndarray


@contextmanager
def face_set_writer(
    stream: BinaryIO,
    labels: Labels,
    preparation: Preparation,
    *,
    source: str,
    protocol: str,
    history: Sequence[Mapping[str, Any]] = (),
) -> Iterator[FaceSetWriter]:
    """Lay out a face set and fill it through a memory map; labels and id are written for you.

    The neutrals start as NaN (unknown).
    """
    if len(set(labels.names)) != len(labels.names):
        raise InputError("two faces have one name; names must be unique in a face set")
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
    }
    metadata: dict[str, Any] = {
        **preparation.metadata(),
        "source": source,
        "protocol": protocol,
        "names": list(labels.names),
        "subjects": list(labels.subjects),
        "expressions": list(labels.expressions),
        "history": list(history),
        "id": "0" * 12,  # replaced by one of the same length when the content is known
    }
    with container_writer(stream, "faceset", layout, metadata) as writer:
        for name, array in preparation.tensors().items():
            writer.tensors[name][...] = array
        for name in ("subject", "expression", "level", "split"):
            writer.tensors[name][...] = getattr(labels, name)
        faces = FaceSetWriter(
            *(writer.tensors[n] for n in ("vertices", "neutrals", "neutrals_eval"))
        )
        faces.neutrals[...] = np.nan
        faces.neutrals_eval[...] = np.nan
        yield faces
        del metadata["id"], metadata["history"]  # the id names the content, not who made it
        writer.metadata["id"] = content_id(writer.tensors, metadata)
