"""Variations of the open benchmark: the same people, shown as the plain set never shows them.

A variation changes one thing about every mesh and nothing else: people, labels, names, split, true
neutrals and all other random numbers are those of the plain set of the same seed. A model trained
on the plain set can so be measured on faces that were not made the way its training faces were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import UsageError
from facedis_core.geometry import rotation_about, unit_vectors

NOISE_STD_MM: Final = 0.05


@dataclass(frozen=True)
class Variation:
    """How meshes of a set are made; what is not given is as in the plain set.

    Attributes:
        strength: factor on an expression's weights at its apex. The background activations stay as
            they are: they are what a face does beside its expression, and stronger ones would be a
            second change.
        second: whether a mesh that is not neutral shows another expression with its own.
        rotation_deg: std of the angle that a mesh is turned by, about an axis of any direction
            through its centroid.
        translation_mm: std of each coordinate of what a mesh is then moved by.
        noise_mm: std of each coordinate of the noise at a vertex.
    """

    strength: float = 1.0
    second: bool = False
    rotation_deg: float = 0.0
    translation_mm: float = 0.0
    noise_mm: float = NOISE_STD_MM

    def apex(
        self, apexes: NDArray[np.float64], expression: int, random: np.random.Generator
    ) -> NDArray[np.float64]:
        """Weights (E,) at the apex of row `expression` of the table (K, E); a neutral's are zero.

        A second expression is any other of the table that is not neutral, each as likely, at its
        own apex. Of two weights of one shape the larger counts: no shape is then used more strongly
        than one of the two expressions alone would, which is what `strength` is for, and what the
        first expression shows is still there. Only a second one that pulls the other way, such as
        the jaw to the left and to the right, takes from it.
        """
        apex = apexes[expression]
        if self.second and apex.any():
            others = [k for k, weights in enumerate(apexes) if weights.any() and k != expression]
            apex = np.maximum(apex, apexes[others[random.integers(len(others))]])
        return self.strength * apex

    def place(self, face: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Where a finished mesh (V, 3) mm lies: turned and moved; as it is if it is not moved."""
        if not (self.rotation_deg or self.translation_mm):
            return face
        axis = unit_vectors(random.standard_normal(3))
        rotation = rotation_about(axis, np.radians(self.rotation_deg) * random.standard_normal())
        translation = self.translation_mm * random.standard_normal(3)
        centroid = face.mean(axis=0, dtype=np.float64)
        placed: NDArray[Any] = (face - centroid) @ rotation.T + centroid + translation
        return placed.astype(np.float32)


PLAIN: Final = Variation()
# What `fd-prep ict --variation` knows.
VARIATIONS: Final[Mapping[str, Variation]] = {
    "strong": Variation(strength=1.5),
    "combined": Variation(second=True),
    "moved": Variation(rotation_deg=2.0, translation_mm=1.0),
    "noisy": Variation(noise_mm=0.5),
}


def find_variation(name: str | None) -> Variation:
    """The variation of that name, None = the plain set; UsageError where there is none."""
    if name is None:
        return PLAIN
    if name not in VARIATIONS:
        raise UsageError(f"--variation is {name!r}, expected one of {', '.join(VARIATIONS)}")
    return VARIATIONS[name]
