"""The three parts of a face, X = X_id + X_exp (eq. 1), and how far each is from its truth.

Truths are those of the paper's figures 5 to 10 (Gu, Pears, Sun, FG 2023): of the full face the
face, of the identity the person's neutral, of the expression the mean face plus what is between the
face and that neutral.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from facedis_core.inference import Part
from facedis_core.metrics import vertex_distances
from facedis_core.prediction import Sample

PARTS: Final[tuple[Part, ...]] = ("full", "identity", "expression")


class Compared(NamedTuple):
    """One part of B faces as it is and as it was made, both (B, V, 3) mm."""

    truth: np.ndarray
    made: np.ndarray


def parts(
    sample: Sample, neutral: np.ndarray | None, mean_face: np.ndarray
) -> Iterator[tuple[Part, Compared]]:
    """The parts of faces of one person of which truth and prediction are both known.

    The predicted expression is the mean face plus reconstruction minus identity face, which is
    X_exp; of predictions that were aligned first it is that of the aligned ones.

    Args:
        sample: B faces and what is predicted for them.
        neutral: (V, 3) mm the person's true neutral; None = unknown.
        mean_face: (V, 3) mm that expressions are shown on.
    """
    truth, (full, identity, *_) = sample.truth, sample.prediction
    if full is not None:
        yield "full", Compared(truth, full)
    if neutral is None or identity is None:
        return
    yield "identity", Compared(np.broadcast_to(neutral, identity.shape), identity)
    if full is not None:
        made = mean_face + (full - identity)
        yield "expression", Compared(mean_face + (truth - neutral), made)


@dataclass
class PartErrors:
    """Watches an evaluation of `rows`: the errors of each part, by mesh and by vertex.

    Of the full face and the identity these are E_rec (eq. 9) and AVD_neu; of the expression the
    same distance, d(X_exp, face - neutral), which the paper shows but does not name.

    Attributes:
        rows: (n,) ascending.
        mean_face: (V, 3) mm.
        per_mesh: part -> (n,) mm, NaN where a mesh has no such error.
    """

    rows: np.ndarray
    mean_face: np.ndarray
    per_mesh: dict[Part, np.ndarray] = field(default_factory=dict)
    _sums: dict[Part, np.ndarray] = field(default_factory=dict)
    _motion: np.ndarray | None = None

    def __call__(self, rows: np.ndarray, sample: Sample, neutral: np.ndarray | None) -> None:
        """Take in some more faces of one person."""
        where = np.searchsorted(self.rows, rows)
        for part, (truth, made) in parts(sample, neutral, self.mean_face):
            distances = vertex_distances(made, truth)  # (B, V)
            unknown = np.full(len(self.rows), np.nan)
            self.per_mesh.setdefault(part, unknown)[where] = distances.mean(-1)
            self._sums.setdefault(part, np.zeros(len(self.mean_face)))[:] += distances.sum(0)
            if part == "expression":
                motion = vertex_distances(truth, self.mean_face).sum(0)
                self._motion = motion if self._motion is None else self._motion + motion

    def per_vertex(self, part: Part) -> np.ndarray:
        """The mean error of each vertex over the faces that have one, (V,) mm."""
        return self._sums[part] / self._count(part)

    def motion(self) -> np.ndarray | None:
        """How far true expressions move each vertex on average, (V,) mm; None = unknown."""
        return None if self._motion is None else self._motion / self._count("expression")

    def _count(self, part: Part) -> int:
        return int(np.count_nonzero(np.isfinite(self.per_mesh[part])))
