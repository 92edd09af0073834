"""What the 3D viewer of a report holds: faces and ways between faces, few and in few bytes."""

from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.colours import Scale, ramp
from facedis_core.inference import LatentPart, Model, Part
from facedis_core.judged import Verdict, chosen
from facedis_core.latents import Latents
from facedis_core.metrics import vertex_distances
from facedis_core.mixtures import encoded, interpolation_ends, latent_way
from facedis_core.packing import Quantised, base64_of
from facedis_core.render import to_srgb
from facedis_core.studio import Look

# Pieces of a way between two faces. Within one the page blends vertices, which is the decoder's own
# way where it is linear; elsewhere more pieces come nearer to it.
PIECES: Final = (1, 2, 4, 8)
ENOUGH_MM: Final = 0.05  # that no vertex may be wrong by, if so many pieces can do that


def viewer_data(verdict: Verdict, look: Look) -> dict[str, Any]:
    """Best, average and worst faces of each model by reconstruction, and an interpolation, as JSON.

    Vertices are packed as of `Quantised`; each face has its truth once, and of each model the full
    face and the identity. Where the truth of identities is unknown, `neutral` is None.
    """
    rows: dict[int, int] = {}
    groups, errors = [], []
    for judged in verdict.models:
        picks = chosen(judged, "full", look.faces)
        told = judged.errors.per_mesh["full"]
        items = [
            {
                "face": rows.setdefault(row, len(rows)),
                "label": f"{word}: {verdict.faces.labels.names[row]}",
                "error": round(float(told[np.searchsorted(judged.errors.rows, row)]), 4),
            }
            for word, row in picks
        ]
        groups.append({"label": judged.label, "items": items})
    faces = []
    for row in rows:
        shown = [verdict.show(judged.model, row) for judged in verdict.models]
        errors += [face.errors(part) for face in shown for part in _both(face.parts)]
        neutral = verdict.neutral(row)
        faces.append(
            {
                "truth": _packed(shown[0].sample.truth[0]),
                "neutral": None if neutral is None else _packed(neutral),
                "made": [
                    {
                        "full": _packed(face.sample.prediction.reconstruction),
                        "identity": _packed(face.sample.prediction.identity),
                    }
                    for face in shown
                ],
            }
        )
    scale = look.scale or Scale.around(errors)
    triangles = _indices(verdict.faces.triangles, verdict.faces.vertices.shape[1])
    return {
        "models": [judged.label for judged in verdict.models],
        "triangles": base64_of(triangles),
        "wide": triangles.itemsize > 2,
        "ramp": base64_of(to_srgb(ramp())),
        "range": [scale.low, scale.high],
        "groups": groups,
        "faces": faces,
        "way": _way(verdict),
    }


def _both(known: dict[Part, Any]) -> list[Part]:
    return [part for part in ("full", "identity") if part in known]


def _packed(vertices: np.ndarray | None) -> dict[str, Any]:
    assert vertices is not None
    return Quantised.of(vertices.reshape(-1, 3)).packed()


def _indices(triangles: np.ndarray, count: int) -> np.ndarray:
    """In 16 bits where these can name every vertex."""
    return triangles.astype("<u2" if count <= 1 << 16 else "<u4")


def _way(verdict: Verdict) -> dict[str, Any] | None:
    """Identity faces and expression offsets of each model between two faces of the set."""
    found = verdict.cast
    if found is None:
        return None
    ends = interpolation_ends(verdict, found)
    labels = verdict.faces.labels
    return {
        "ends": [labels.names[row] for row in ends],
        "models": [
            _blends(judged.model, encoded(verdict, judged, ends)) for judged in verdict.models
        ],
    }


def _blends(model: Model, ends: Latents) -> dict[str, Any]:
    identity, expression = steps_of(model, ends, "identity"), steps_of(model, ends, "expression")
    return {
        "identity": [_packed(shape) for shape in identity.shapes],
        "expression": [_packed(shape) for shape in expression.shapes],
        "apart": identity.apart + expression.apart,
    }


class Steps(NamedTuple):
    """Shapes (k, V, 3) mm on a way, to be joined by straight pieces.

    `apart` is how far in mm a vertex is from its true place half way between two, at most.
    """

    shapes: np.ndarray
    apart: float


def steps_of(model: Model, ends: Latents, varied: LatentPart) -> Steps:
    """The way between two rows: the fewest shapes that come within ENOUGH_MM of it, or the most.

    Identity faces where the identity changes, expression offsets where the expression does: as
    X = X_id + X_exp (eq. 1), their sums are all faces of both ways.
    """
    for pieces in PIECES:
        finer = _decoded(model, ends, varied, 2 * pieces)
        straight = (finer[:-2:2] + finer[2::2]) / 2
        steps = Steps(finer[::2], float(vertex_distances(straight, finer[1::2]).max()))
        if steps.apart <= ENOUGH_MM:
            break
    return steps


def _decoded(model: Model, ends: Latents, varied: LatentPart, pieces: int) -> np.ndarray:
    rows = latent_way(ends, pieces + 1, varied)
    if varied == "identity":
        return model.decode(rows.identity, rows.expression, "identity")
    return model.decode(rows.identity, rows.expression, "expression", offsets=True)
