"""Rigs of decoded heads: the identity face, with expressions as morph targets."""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents
from facedis_core.errors import ErrorCode, InputError
from facedis_core.model.latent_directions import leading_directions
from facedis_core.model.model import Model
from facedis_core.render.materials import (
    GUMS,
    IRIS,
    MOUTH,
    PUPIL,
    SCLERA,
    SKIN,
    TEETH,
    find_materials,
)
from facedis_core.rig.blendshapes import (
    ARKIT_NAMES,
    arkit_targets,
    blendshape_weights,
    load_blendshapes,
)
from facedis_core.rig.gltf import Animation, Rig, Surface

Targets = Literal["arkit", "directions"]

_MATERIALS: Final = {
    "skin": SKIN,
    "mouth": MOUTH,
    "gums": GUMS,
    "teeth": TEETH,
    "sclera": SCLERA,
    "iris": IRIS,
    "pupil": PUPIL,
}


class MorphTargets(NamedTuple):
    """Names (T,) and offsets (T, V, 3) mm at weight 1."""

    names: Sequence[str]
    offsets: NDArray[np.float32]


def arkit_targets_of(model: Model, identity: NDArray[np.float32]) -> MorphTargets:
    """ARKit's 52 blendshapes of an identity face (V, 3) mm.

    Raises:
        InputError: the model is not of ICT-FaceKit's whole head.
        UsageError: SciPy is not installed.
    """
    shapes = load_blendshapes(model.preparation)
    return MorphTargets(ARKIT_NAMES, arkit_targets(shapes, shapes.on(identity)))


def direction_targets(model: Model, latents: Latents, row: int, count: int) -> MorphTargets:
    """The leading expression directions, a standard deviation each, on the face of a row."""
    steps = leading_directions(model, "expression").steps[:count]
    identity = latents.identity[[row] * len(steps)]
    moved = model.decode_vectors(identity, steps, "expression", offsets=True)
    at_rest = model.decode_vectors(
        identity[:1], np.zeros_like(steps[:1]), "expression", offsets=True
    )
    names = [f"expression {number + 1}" for number in range(len(steps))]
    return MorphTargets(names, moved - at_rest)


def arkit_weights(model: Model, latents: Latents) -> NDArray[np.float64]:
    """Weights (N, 52) of ARKit's blendshapes, from 0 to 1, that make the expressions of N rows.

    Each row has the blendshapes of its own identity face; equal identities in sequence share them.

    Raises:
        InputError: the model is not of ICT-FaceKit's whole head.
        UsageError: SciPy is not installed.
    """
    weights = np.empty((len(latents), len(ARKIT_NAMES)))
    shapes = load_blendshapes(model.preparation)
    last: NDArray[Any] | None = None
    for row in range(len(latents)):
        z = latents.identity[row : row + 1], latents.expression[row : row + 1]
        if last is None or not np.array_equal(z[0], last):
            last = z[0]
            (identity,) = model.decode_vectors(*z, "identity")
            targets = arkit_targets(shapes, shapes.on(identity))
        offsets = model.decode_vectors(*z, "full") - identity
        weights[row] = blendshape_weights(targets, offsets)[0]
    return weights


def head_rig(
    model: Model,
    latents: Latents,
    row: int,
    *,
    targets: Targets = "arkit",
    count: int = 16,
    frames: NDArray[np.floating[Any]] | Latents | None = None,
    fps: float = 30.0,
) -> Rig:
    """The rig of a row of latents: its identity face with morph targets.

    Args:
        model: the model that encoded the latents.
        latents: rows of faces.
        row: which one.
        targets: `arkit`: the 52 blendshapes by name; `directions`: the leading expression
            directions of the model.
        count: number of directions.
        frames: an animation: ARKit weights (K, 52), or latents whose expressions are shown.
        fps: frames a second.

    Raises:
        InputError: a model without ARKit's blendshapes, or frames of ARKit weights for directions.
        UsageError: SciPy is not installed.
    """
    z = latents.identity[row : row + 1], latents.expression[row : row + 1]
    (face,) = model.decode_vectors(*z, "identity")
    if targets == "arkit":
        morphs = arkit_targets_of(model, face)
    else:
        morphs = direction_targets(model, latents, row, count)
    animation = None
    if frames is not None:
        if isinstance(frames, Latents):
            weights = _weights_of(model, frames, morphs, targets, z[0])
        elif targets == "arkit":
            weights = np.asarray(frames, np.float64)
        else:
            raise InputError(
                "an animation of ARKit weights needs ARKit's blendshapes; use --targets arkit, or "
                "animate with latents",
                ErrorCode.TOPOLOGY,
            )
        animation = Animation(np.arange(len(weights)) / fps, weights)
    name = latents.names[row]
    return Rig(name, face, surfaces_of(model.triangles), morphs.names, morphs.offsets, animation)


def _weights_of(
    model: Model, frames: Latents, morphs: MorphTargets, kind: Targets, identity: NDArray[Any]
) -> NDArray[np.float64]:
    """Weights (K, T) with which the morph targets show the expressions of frames."""
    weights = np.empty((len(frames), len(morphs.names)))
    flat = morphs.offsets.reshape(len(morphs.names), -1).astype(np.float64)
    for row in range(len(frames)):
        expression = frames.expression[row : row + 1]
        offset = model.decode_vectors(identity, expression) - model.decode_vectors(
            identity, expression, "identity"
        )
        if kind == "arkit":
            weights[row] = blendshape_weights(morphs.offsets, offset)[0]
        else:
            weights[row] = np.linalg.lstsq(flat @ flat.T, flat @ offset[0].ravel(), rcond=None)[0]
    return weights


def surfaces_of(triangles: NDArray[np.int32]) -> list[Surface]:
    """The triangles by material; one of skin where no parts of the topology are known."""
    materials = find_materials(triangles)
    if materials is None:
        return [Surface("skin", SKIN, triangles)]
    colors, drawn = materials
    of_triangle = colors[drawn[:, 0]]
    found: list[Surface] = []
    for name, color in _MATERIALS.items():
        same = (of_triangle == np.array(color, np.float32)).all(axis=1)
        if same.any():
            found.append(Surface(name, color, drawn[same]))
    return found
