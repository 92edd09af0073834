"""Rigs of decoded heads: the identity face, with expressions as morph targets."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.alignment import right_angles
from facedis_core.geometry.surface import unit_vectors, vertex_normals
from facedis_core.io.text import shown
from facedis_core.mesh.appearance import (
    Appearance,
    Material,
    read_appearance,
    without_cut_textures,
)
from facedis_core.model.latent_directions import leading_directions
from facedis_core.model.model import Model
from facedis_core.pipeline.onto import PlacedOriginal
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


# Offsets of a face without expression.
_NO_EXPRESSION_MM: Final = 1e-3
# Mean distance in mm of the frames of an animation to the decoded faces, above which it is told.
_INEXACT_MM: Final = 0.1


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
    """The leading expression directions, a standard deviation each, on the face of a row.

    Where expression latents of zero are an expression, X_exp, as of most trained networks, it comes
    first: with weight 1 of it the others start from the face that the model decodes.
    """
    steps = leading_directions(model, "expression").steps[:count]
    identity = latents.identity[[row] * len(steps)]
    moved = model.decode_vectors(identity, steps, "expression", offsets=True)
    at_rest = model.decode_vectors(
        identity[:1], np.zeros_like(steps[:1]), "expression", offsets=True
    )
    names = [f"expression {number + 1}" for number in range(len(steps))]
    offsets = moved - at_rest
    if np.abs(at_rest).max() > _NO_EXPRESSION_MM:
        names.insert(0, "expression 0")
        offsets = np.concatenate([at_rest, offsets])
    return MorphTargets(names, offsets)


def arkit_weights(model: Model, latents: Latents) -> NDArray[np.float64]:
    """Weights (N, 52) of ARKit's blendshapes, from 0 to 1, that make the expressions of N rows.

    Each row has the blendshapes of its own identity face; equal identities in sequence share them.

    Raises:
        InputError: the model is not of ICT-FaceKit's whole head.
        UsageError: SciPy is not installed.
    """
    weights = []
    shapes = load_blendshapes(model.preparation)
    for _, same in groupby(range(len(latents)), lambda row: latents.identity[row].tobytes()):
        rows = latents.take(list(same))
        z = _row(rows, 0)
        targets = arkit_targets(shapes, shapes.on(model.decode_vectors(*z, "identity")[0]))
        weights.append(blendshape_weights(targets, _expressions(model, rows, z[0])))
    return np.concatenate(weights)


def _row(latents: Latents, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Identity (1, D_id) and expression (1, D_exp) of a row."""
    return latents.identity[row : row + 1], latents.expression[row : row + 1]


def head_rig(
    model: Model,
    latents: Latents,
    row: int,
    *,
    targets: Targets = "arkit",
    count: int = 16,
    frames: NDArray[np.floating[Any]] | Latents | None = None,
    fps: float = 30.0,
    original: PlacedOriginal | None = None,
) -> Rig:
    """The rig of a row of latents: its identity face with morph targets.

    On an original the identity face is the original plus decode(identity) - decode(its own
    latents), in its pose and with its texture coordinates and materials.

    Args:
        model: the model that encoded the latents.
        latents: rows of faces.
        row: which one.
        targets: `arkit`: the 52 blendshapes by name; `directions`: the leading expression
            directions of the model.
        count: number of directions.
        frames: an animation: ARKit weights (K, 52), or latents whose expressions are shown.
        fps: frames a second.
        original: file of the head; None = the decoded face.

    Raises:
        InputError: a model without ARKit's blendshapes, or an original without triangles.
        UsageError: frames of ARKit weights for directions, or SciPy is not installed.
    """
    z = _row(latents, row)
    (face,) = model.decode_vectors(*z, "identity")
    if original is not None:
        face = original.placed.vertices + (face - original.own)
    if targets == "arkit":
        morphs = arkit_targets_of(model, face)
    else:
        morphs = direction_targets(model, latents, row, count)
    animation = None
    warnings: tuple[str, ...] = ()
    name = latents.names[row]
    if frames is not None:
        if isinstance(frames, Latents) and targets == "directions":
            weights, error = _weights_of_directions(model, frames, z[0], morphs)
            if error > _INEXACT_MM:
                warnings = (
                    f"{name}: the {len(morphs.names)} targets of the rig show the frames to "
                    f"{error:.2g} mm on average; a larger --count may come nearer, and meshes of "
                    "fd-decode are exact",
                )
        elif isinstance(frames, Latents):
            weights = blendshape_weights(morphs.offsets, _expressions(model, frames, z[0]))
        elif targets == "arkit":
            weights = np.asarray(frames, np.float64)
        else:
            raise UsageError(
                "an animation of ARKit weights needs ARKit's blendshapes; use --targets arkit, or "
                "animate with latents",
                ErrorCode.OPTION_CONFLICT,
            )
        animation = Animation(np.arange(len(weights)) / fps, weights)
    if original is None:
        surfaces = surfaces_of(model.triangles)
        rig = Rig(name, face, surfaces, morphs.names, morphs.offsets, animation)
    else:
        rig = rig_on_original(name, original, face, morphs, animation)
    return replace(rig, warnings=rig.warnings + warnings)


def rig_on_original(
    name: str,
    original: PlacedOriginal,
    face: NDArray[np.floating[Any]],
    morphs: MorphTargets,
    animation: Animation | None = None,
) -> Rig:
    """A rig with the vertices, texture coordinates, normals and materials of an original file.

    Its first vertices are those of the file, in order; copies for seams of the texture and hard
    edges follow, in mm. They are where the file has them; where that is not upright, such as with z
    up, the rig is turned by right angles.

    Args:
        name: of the mesh.
        original: the file.
        face: (V, 3) mm at rest, in the model's frame.
        morphs: targets in the model's frame.
        animation: of the targets.

    Raises:
        InputError: the file has no triangles.
    """
    mesh, unit = original.file.mesh, original.unit_mm
    if not len(mesh.triangles):
        raise InputError(
            f"{original.file.source} has no triangles; a rig needs a surface, export it with faces",
            ErrorCode.NO_TRIANGLES,
        )
    at_rest = mesh.vertices + original.offsets_in_file(face - original.placed.vertices)
    look = read_appearance(original.file.source, original.file.moved(at_rest), mesh)
    look = without_cut_textures(original.file.source, look)
    plain = not (look.materials or len(look.uv) or look.colors is not None)
    split = look.split(len(mesh.vertices))
    source = np.arange(len(mesh.vertices)) if plain else split.source
    offsets = np.empty((len(morphs.offsets), len(source), 3), np.float32)
    for target, offset in zip(offsets, morphs.offsets, strict=True):
        target[:] = original.offsets_in_file(offset)[source] * unit
    upright = right_angles(original.rotation.T)
    vertices = at_rest[source] * unit
    rig = Rig(name, vertices, [], morphs.names, offsets, animation, rotation=upright)
    if plain:  # as a decoded head
        return replace(rig, surfaces=surfaces_of(mesh.triangles))
    smooth = vertex_normals(at_rest, mesh.triangles)[source]
    colors, warnings = look.colors, look.warnings
    if colors is not None and look.is_textured:  # glTF would multiply them
        colors = None
        warnings += (
            f"{shown(original.file.source)}: the colors of its vertices are left out; the rig has "
            "its textures",
        )
    stored = unit_vectors(np.append(look.normals, np.zeros((1, 3)), axis=0))[split.normal]
    return replace(
        rig,
        surfaces=_surfaces_of_file(look, split.triangles),
        normals=np.where(stored.any(axis=1, keepdims=True), stored, smooth),
        uv=_downwards(look.uv, split.texture),
        colors=None if colors is None else colors[source],
        warnings=warnings,
    )


def _downwards(uv: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Texture coordinates (n, 2) as glTF counts them, v from the top; 0 where there are none."""
    if not len(uv):
        return None
    found = np.append(uv, np.zeros((1, 2)), axis=0)[rows]
    return np.stack([found[:, 0], 1 - found[:, 1]], axis=1)


def _surfaces_of_file(look: Appearance, triangles: NDArray[np.intp]) -> list[Surface]:
    """The triangles by the materials of a file; of skin where it names none."""
    surfaces = []
    skin = Material("skin", (*SKIN, 1.0))
    for number, material in enumerate(look.materials or [skin]):
        red, green, blue, opacity = material.color
        if look.colors is not None and not look.is_textured:  # of vertices, in place of it
            red = green = blue = 1.0
        surfaces.append(
            Surface(
                material.name,
                (red, green, blue),
                triangles[look.material == number],
                opacity,
                material.texture,
                material.cut_out,
            )
        )
    return surfaces


def _expressions(
    model: Model, frames: Latents, identity: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """X_exp (V, 3) of each frame on an identity (1, D_id)."""
    for row in range(len(frames)):
        expression = _row(frames, row)[1]
        yield model.decode_vectors(identity, expression, "expression", offsets=True)[0]


def _weights_of_directions(
    model: Model, frames: Latents, identity: NDArray[np.float32], morphs: MorphTargets
) -> tuple[NDArray[np.float64], float]:
    """Weights (K, T) with which targets come nearest to frames' expressions; the mean error, mm.

    The expressions are those of the frames on an identity (1, D_id).
    """
    flat = morphs.offsets.reshape(len(morphs.names), -1).astype(np.float64)
    products = flat @ flat.T
    weights, errors = [], []
    for offsets in _expressions(model, frames, identity):
        found = np.linalg.lstsq(products, flat @ offsets.ravel(), rcond=None)[0]
        weights.append(found)
        missed = offsets - (found @ flat).reshape(offsets.shape)
        errors.append(np.linalg.norm(missed, axis=1).mean())
    return np.array(weights).reshape(len(frames), len(flat)), float(np.mean(errors or [0.0]))


def surfaces_of(triangles: NDArray[np.int32]) -> list[Surface]:
    """The triangles by material; one of skin where no parts of the topology are known."""
    materials = find_materials(triangles)
    if materials is None:
        return [Surface("skin", SKIN, triangles)]
    colors, drawn = materials.colors, materials.triangles
    of_triangle = colors[drawn[:, 0]]
    found: list[Surface] = []
    for name, color in _MATERIALS.items():
        same = (of_triangle == np.array(color, np.float32)).all(axis=1)
        if same.any():
            found.append(Surface(name, color, drawn[same]))
    return found
