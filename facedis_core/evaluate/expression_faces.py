"""Expression faces of many people, grouped by expression for E_exp."""

from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Final

import numpy as np

# Bytes of expression faces in memory; more of them are in a temporary file.
_MOST_IN_MEMORY: Final = 1 << 28


@dataclass(frozen=True, eq=False)
class ExpressionLabels:
    """Expressions of N faces.

    Attributes:
        expression: (N,) label.
        level: (N,) intensity from 0 to 1. Where a person shows an expression several times, the
            first face of the highest level counts in E_exp.
    """

    expression: np.ndarray
    level: np.ndarray

    def apexes(self, rows: np.ndarray, subject: np.ndarray) -> np.ndarray:
        """Places in `rows` (n,) of one face for each person and expression, by expression."""
        order = np.lexsort((np.arange(len(rows)), -self.level[rows]))
        pairs = np.stack([self.expression[rows], subject[rows]], axis=1)[order]
        return np.asarray(order[np.unique(pairs, axis=0, return_index=True)[1]])


class ExpressionFaces:
    """Expression faces of chosen meshes, in memory or in a temporary file where they are many."""

    def __init__(self, places: np.ndarray) -> None:
        """Room for the faces at `places` (m,)."""
        self._file = SpooledTemporaryFile(max_size=_MOST_IN_MEMORY)  # noqa: SIM115 - closed on exit
        self._number = {int(place): number for number, place in enumerate(places)}
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> "ExpressionFaces":
        """Self; the file is deleted on exit."""
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def store(self, where: np.ndarray, faces: np.ndarray) -> None:
        """Keep those faces (B, V, 3) mm of the places `where` (B,) that are chosen."""
        self._shape = faces.shape[1:]
        for place, face in zip(where.tolist(), faces, strict=True):
            if place in self._number:
                content = np.ascontiguousarray(face, np.float32).tobytes()
                self._file.seek(self._number[place] * len(content))
                self._file.write(content)

    def read(self, places: np.ndarray) -> np.ndarray | None:
        """The faces at chosen places, float32 (m, V, 3) mm; None where no face was stored."""
        if self._shape is None:
            return None
        size = 4 * int(np.prod(self._shape))
        found = np.empty((len(places), *self._shape), np.float32)
        for face, place in zip(found, places.tolist(), strict=True):
            self._file.seek(self._number[place] * size)
            face[...] = np.frombuffer(self._file.read(size), np.float32).reshape(self._shape)
        return found

    @property
    def places(self) -> np.ndarray:
        """(m,) the chosen places."""
        return np.array([*self._number], int)
