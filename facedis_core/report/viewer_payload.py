"""Data of the report's 3D viewer: example faces and an interpolation, packed as JSON."""

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.latents import Latents
from facedis_core.geometry.distances import vertex_distances
from facedis_core.model.model import LatentPart, Model, Part
from facedis_core.render.color_scale import ColorScale, colormap
from facedis_core.render.page_surface import page_surface, to_base64
from facedis_core.render.shading import to_srgb
from facedis_core.report.comparison import FaceResult, ModelComparison, example_rows
from facedis_core.report.figures import (
    FigureOptions,
    encode_rows,
    interpolate_part,
    interpolation_ends,
)
from facedis_core.report.textures import FaceTextures

# Numbers of straight segments tried for an interpolation. The page blends vertices within a
# segment, which equals the decoder where that is linear; elsewhere more segments come closer.
SEGMENTS: Final = (1, 2, 4, 8)
TOLERANCE_MM: Final = 0.05  # largest vertex error at which no more segments are tried

_LEVELS: Final = (1 << 16) - 1
_PARTS: Final[tuple[Part, ...]] = ("full", "identity")


class QuantizedVertices(NamedTuple):
    """Vertices as `low` + `step` * `levels`, 16 bits per coordinate.

    The error of a coordinate is at most half a step: 0.002 mm where a face is 250 mm wide.

    Attributes:
        low, step: float64 (3,) mm.
        levels: uint16 (V, 3).
    """

    low: np.ndarray
    step: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, vertices: np.ndarray) -> "QuantizedVertices":
        """Quantize vertices (V, 3) mm over their range on each axis."""
        exact = np.asarray(vertices, np.float64)
        low = exact.min(axis=0)
        step = (exact.max(axis=0) - low) / _LEVELS
        steps = np.where(step > 0, step, 1.0)
        return cls(low, step, np.round((exact - low) / steps).astype(np.uint16))

    def vertices(self) -> np.ndarray:
        """The vertices with their rounding errors, float64 (V, 3) mm."""
        return self.low + self.step * self.levels

    def as_json(self) -> dict[str, Any]:
        """Values for JSON; levels as base64 of little-endian uint16."""
        low, step = self.low.tolist(), self.step.tolist()
        return {"low": low, "step": step, "levels": to_base64(self.levels.astype("<u2"))}


def viewer_payload(
    comparison: ModelComparison, options: FigureOptions, textures: FaceTextures | None = None
) -> dict[str, Any]:
    """Best, average and worst faces of each model by reconstruction, and an interpolation, as JSON.

    Each face has its truth once, and the full face and identity predicted by each model, None where
    a model has latents of the other half alone. Where the true identity is unknown, `neutral` is
    None. Faces of a model without reconstruction are those by the identity. The texture of a face,
    and of the interpolation that of its first end, is a place in `textures`; None = none.
    """
    numbers: dict[int, int] = {}  # row of the set -> place in `faces`
    groups = []
    for result in comparison.models:
        part: Part = "full" if result in comparison.having("full") else "identity"
        by_mesh = result.errors.by_mesh(part)
        items = [
            {
                "face": numbers.setdefault(row, len(numbers)),
                "label": f"{kind}: {comparison.faces.labels.names[row]}",
                "error": round(float(by_mesh[np.searchsorted(result.errors.rows, row)]), 4),
            }
            for kind, row in example_rows(result, part, options.faces)
        ]
        kind = "reconstruction" if part == "full" else "identity"
        groups.append({"label": f"by {kind}, {result.label}", "items": items})
    faces, errors = [], []
    for row in numbers:
        by_model = [comparison.face_result(result.model, row) for result in comparison.models]
        errors += [face.errors(part) for face in by_model for part in _PARTS if part in face.parts]
        neutral = comparison.neutral(row)
        faces.append(
            {
                "truth": _packed(by_model[0].faces.truth),
                "neutral": None if neutral is None else _packed(neutral),
                "texture": textures and textures.place(row),
                "predicted": list(map(_prediction, by_model)),
            }
        )
    scale = options.scale or ColorScale.covering(errors)
    shape = comparison.models[0].model.mean_face
    interpolation = _interpolation(comparison, textures)
    return {
        "models": [result.label for result in comparison.models],
        "surface": page_surface(shape, comparison.faces.triangles),
        "colormap": to_base64(to_srgb(colormap())),
        "range": [scale.low, scale.high],
        "groups": groups,
        "faces": faces,
        "interpolation": interpolation,
        "textures": textures.found if textures else [],
    }


def _prediction(face: FaceResult) -> dict[str, Any]:
    prediction = face.faces.prediction
    parts = {"full": prediction.reconstruction, "identity": prediction.identity}
    return {name: None if part is None else _packed(part) for name, part in parts.items()}


def _packed(vertices: np.ndarray) -> dict[str, Any]:
    return QuantizedVertices.of(vertices.reshape(-1, 3)).as_json()


def _interpolation(
    comparison: ModelComparison, textures: FaceTextures | None
) -> dict[str, Any] | None:
    """Identity faces and expression offsets of each model between two faces of the set.

    The expressions are those of the person half way between both, where a model's depend on it.
    """
    examples = comparison.transfer_examples
    if examples is None:
        return None
    ends = interpolation_ends(comparison, examples)
    models = []
    for result in comparison.models:
        latents = encode_rows(comparison, result, ends)
        between = replace(latents, identity=latents.identity.mean(axis=0, keepdims=True)[[0, 0]])
        identity = interpolation_shapes(result.model, latents, "identity")
        expression = interpolation_shapes(result.model, between, "expression")
        error = identity.max_error + expression.max_error
        models.append(
            {
                "identity": list(map(_packed, identity.shapes)),
                "expression": list(map(_packed, expression.shapes)),
                "max_error": error + _dependence(result.model, latents, between),
            }
        )
    return {
        "ends": [comparison.faces.labels.names[row] for row in ends],
        "texture": textures and textures.place(ends[0]),
        "models": models,
    }


def _dependence(model: Model, ends: Latents, between: Latents) -> float:
    """Largest distance in mm of X_exp of the identities of two rows to X_exp of that between."""
    if not (model.config.identity and model.config.expression):
        return 0.0
    expression = ends.expression[[0, 0, 1, 1]]
    own, shown = (
        model.decode_vectors(each.identity[[0, 1, 0, 1]], expression, "expression", offsets=True)
        for each in (ends, between)
    )
    return float(vertex_distances(own, shown).max())


class InterpolationShapes(NamedTuple):
    """Shapes (k, V, 3) mm to be joined by straight segments.

    `max_error` is the largest distance in mm of a vertex half way along a segment to its decoded
    place.
    """

    shapes: np.ndarray
    max_error: float


def interpolation_shapes(model: Model, ends: Latents, varied: LatentPart) -> InterpolationShapes:
    """Shapes between two rows of latents: the fewest within TOLERANCE_MM, or the most there may be.

    Identity faces where the identity varies, expression offsets where the expression does: by
    X = X_id + X_exp (eq. 1) their sums are the faces between any two of them. Without latents of
    that part they are the mean face, or no offset.
    """
    if not getattr(model.config, varied):
        still = model.mean_face if varied == "identity" else np.zeros_like(model.mean_face)
        return InterpolationShapes(np.stack([still, still]), 0.0)
    for segments in SEGMENTS:
        rows = interpolate_part(ends, 2 * segments + 1, varied)
        finer = model.decode_vectors(
            rows.identity, rows.expression, varied, offsets=varied == "expression"
        )
        halfway = (finer[:-2:2] + finer[2::2]) / 2
        error = float(vertex_distances(halfway, finer[1::2]).max())
        if error <= TOLERANCE_MM:
            break
    return InterpolationShapes(finer[::2], error)
