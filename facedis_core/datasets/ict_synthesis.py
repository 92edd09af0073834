"""Synthesis of the open benchmark from ICT-FaceKit: random subjects, expressions, variations.

A subject is a point in ICT-FaceKit's identity space with gains of its own on the expression shapes,
which deformation transfer carries from the generic face to the subject's.
A variation changes one property of every mesh: subjects, labels, names, split, true neutrals and
all other random numbers stay those of the plain set of the same seed, so that a model trained on
the plain set can be measured on faces of another kind.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.datasets.protocols import (
    MESH_STREAM,
    MOTION_STREAM,
    SECOND_STREAM,
    SUBJECT_STREAM,
    random_stream,
)
from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.deformation_transfer import DeformationTransfer
from facedis_core.geometry.surface import unit_vectors

Array = NDArray[np.float32]

IDENTITY_MODES: Final = 100
WEIGHT_CUT: Final = 2.5
SHAPE_GAIN_STD: Final = 0.25
IMBALANCE_STD: Final = 0.1
MESH_GAIN_STD: Final = 0.1
BACKGROUND_STD: Final = 0.03
NOISE_STD_MM: Final = 0.05


@dataclass(frozen=True)
class Variation:
    """Parameters of the meshes of a set; the defaults make the plain set.

    Attributes:
        strength: factor on an expression's apex weights; background activations are unchanged.
        second: whether a mesh that is not neutral also shows a second expression.
        rotation_deg: std of the rotation angle, about a random axis through the centroid.
        translation_mm: std of each coordinate of the translation.
        noise_mm: std of each coordinate of the vertex noise.
    """

    strength: float = 1.0
    second: bool = False
    rotation_deg: float = 0.0
    translation_mm: float = 0.0
    noise_mm: float = NOISE_STD_MM

    def apex(
        self, apexes: NDArray[np.float64], expression: int, random: np.random.Generator
    ) -> NDArray[np.float64]:
        """Apex weights (E,) of row `expression` of the table (K, E); zero for the neutral.

        A second expression is any other row that is not neutral, with equal chance, at its own
        apex. Of two weights of one shape the larger counts, so that no shape is stronger than in
        one of the two expressions alone, which is what `strength` is for.
        """
        apex = apexes[expression]
        if self.second and apex.any():
            others = [k for k, weights in enumerate(apexes) if weights.any() and k != expression]
            apex = np.maximum(apex, apexes[others[random.integers(len(others))]])
        return self.strength * apex

    def place(self, face: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Rotate and translate a mesh (V, 3) mm at random, if the variation does."""
        if not (self.rotation_deg or self.translation_mm):
            return face
        axis = unit_vectors(random.standard_normal(3))
        rotation = rotation_about(axis, np.radians(self.rotation_deg) * random.standard_normal())
        translation = self.translation_mm * random.standard_normal(3)
        centroid = face.mean(axis=0, dtype=np.float64)
        placed: NDArray[Any] = (face - centroid) @ rotation.T + centroid + translation
        return placed.astype(np.float32)


PLAIN: Final = Variation()
# Choices of `fd-prep ict --variation`.
VARIATIONS: Final[Mapping[str, Variation]] = {
    "strong": Variation(strength=1.5),
    "combined": Variation(second=True),
    "moved": Variation(rotation_deg=2.0, translation_mm=1.0),
    "noisy": Variation(noise_mm=0.5),
}


def find_variation(name: str | None) -> Variation:
    """The variation of that name, None = the plain set; UsageError for an unknown name."""
    if name is None:
        return PLAIN
    if name not in VARIATIONS:
        raise UsageError(
            f"--variation is {name!r}, expected one of {', '.join(VARIATIONS)}",
            ErrorCode.OPTION_VALUE,
        )
    return VARIATIONS[name]


@dataclass(frozen=True)
class ExpressionTable:
    """Expressions and their expression shapes.

    Attributes:
        shapes: names (E,) of the shapes, in the order of their random numbers.
        expressions: name -> apex weights of its shapes; none for the neutral.
    """

    shapes: Sequence[str]
    expressions: Mapping[str, Mapping[str, float]]

    @cached_property
    def apexes(self) -> NDArray[np.float64]:
        """Apex weights (K, E) of all expressions."""
        every = self.expressions.values()
        weights = np.array([[used.get(name, 0.0) for name in self.shapes] for used in every])
        weights.flags.writeable = False  # shared by all callers
        return weights


@cache
def expression_table() -> ExpressionTable:
    """The bundled table: the 20 expressions of FaceScape."""
    text = resources.files("facedis_core.datasets").joinpath("ict_expressions.toml").read_text()
    data = tomllib.loads(text)
    return ExpressionTable(
        tuple(data["shapes"]), {name: _both_sides(w) for name, w in data["expressions"].items()}
    )


def _both_sides(weights: Mapping[str, float]) -> dict[str, float]:
    """`smile_LR` becomes `smile_L` and `smile_R`."""
    spread: dict[str, float] = {}
    for shape, weight in weights.items():
        stem = shape.removesuffix("_LR")
        names = (stem,) if stem == shape else (f"{stem}_L", f"{stem}_R")
        spread.update(dict.fromkeys(names, float(weight)))
    return spread


class Subject(NamedTuple):
    """A synthetic subject.

    Attributes:
        identity: weights (100,) of the identity modes.
        gains: (E,) factor on each expression shape, including the left-right imbalance.
    """

    identity: NDArray[np.float64]
    gains: NDArray[np.float64]


def draw_subject(seed: int, number: int) -> Subject:
    """The subject of that number; it does not depend on what else is drawn."""
    random = random_stream(seed, SUBJECT_STREAM, number)
    identity = random.standard_normal(IDENTITY_MODES)
    while (far := np.abs(identity) > WEIGHT_CUT).any():
        identity[far] = random.standard_normal(int(far.sum()))
    shapes = expression_table().shapes
    gains = np.exp(random.normal(0, SHAPE_GAIN_STD, len(shapes)))
    side = np.array([{"_L": 1.0, "_R": -1.0}.get(name[-2:], 0.0) for name in shapes])
    return Subject(identity, gains * (1 + random.normal(0, IMBALANCE_STD) * side))


def draw_activations(
    subject: Subject, apex: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Shape weights (E,) of one mesh: `apex` (E,) times gains, plus background activations.

    The eyeLook shapes have no background, and the neutral is exactly neutral.
    """
    if not apex.any():
        return apex
    gain = np.exp(random.normal(0, MESH_GAIN_STD))
    background = np.abs(random.normal(0, BACKGROUND_STD, len(apex)))
    background[[name.startswith("eyeLook") for name in expression_table().shapes]] = 0
    return apex * subject.gains * gain + background


@dataclass(frozen=True, eq=False)
class IctFaces:
    """ICT-FaceKit's neutral, identity modes and expression shapes, for faces on chosen vertices.

    Attributes:
        raw_vertices: vertex count of the whole mesh.
        chosen: int32 (V,), the chosen raw vertices.
        in_frame: (V,), their indices in the frame: the skin, K vertices, then other chosen
            vertices; W vertices.
        neutral: (W, 3) mm, the generic neutral.
        modes: (100, W, 3) mm, offsets of the identity modes.
        transfer: carries expressions over the skin.
        gradients: (E, F, 3, 3), of the expression shapes on the triangles of the skin.
        shapes: (E, W - K, 3) mm, offsets of the expression shapes beyond the skin: eyeballs, teeth,
            gums and sockets move on all people as on the generic face.
        table: the expressions.
    """

    raw_vertices: int
    chosen: NDArray[np.int32]
    in_frame: NDArray[Any]
    neutral: Array
    modes: Array
    transfer: DeformationTransfer
    gradients: Array
    shapes: Array
    table: ExpressionTable

    def neutral_face(self, seed: int, number: int) -> Array:
        """The subject's true neutral (V, 3) mm, without noise."""
        return self._identity(draw_subject(seed, number))[self.in_frame]

    def faces(
        self, seed: int, number: int, expressions: Sequence[int], variation: Variation = PLAIN
    ) -> Array:
        """Meshes (n, V, 3) mm of one subject with `expressions`, indices into the table.

        Raises UsageError where SciPy is not installed.
        """
        subject = draw_subject(seed, number)
        identity = self._identity(subject)
        # Of all expressions, so that the last bits do not depend on which are asked for.
        streams = [
            [
                random_stream(seed, purpose, number, expression)
                for purpose in (MESH_STREAM, SECOND_STREAM, MOTION_STREAM)
            ]
            for expression in range(len(self.table.expressions))
        ]
        weights = [
            draw_activations(subject, variation.apex(self.table.apexes, k, second), random)
            for k, (random, second, _) in enumerate(streams)
        ]
        offsets = self._offsets(identity, np.array(weights, np.float32))
        faces = np.empty((len(expressions), len(self.chosen), 3), np.float32)
        for face, expression in zip(faces, expressions, strict=True):
            random, _, motion = streams[expression]
            # Drawn for the whole raw mesh, so that any choice of vertices has the same noise.
            noise = random.standard_normal((self.raw_vertices, 3), dtype=np.float32)[self.chosen]
            face[...] = (identity + offsets[expression])[self.in_frame]
            face += np.float32(variation.noise_mm) * noise
            face[...] = variation.place(face, motion)
        return faces

    def _identity(self, subject: Subject) -> Array:
        return self.neutral + np.tensordot(subject.identity.astype(np.float32), self.modes, 1)

    def _offsets(self, identity: Array, weights: Array) -> Array:
        """Expression offsets (n, W, 3) of the frame for shape weights (n, E)."""
        skin = len(self.transfer.fixed)
        # offsets of shapes add up, and are linear in the gradients: so one solution a mesh
        gradients = np.tensordot(weights, self.gradients, 1)
        moved = self.transfer.displacements(identity[:skin], gradients)
        return np.concatenate([moved, np.tensordot(weights, self.shapes, 1)], axis=1)
