"""Setup of a training: coordinate frame, initial networks, device, and checks of its inputs."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedis_core.data.face_set import TRAIN, FaceSet
from facedis_core.data.pseudo_neutrals import pseudo_neutrals
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.surface import farthest_points
from facedis_core.model.config import ModelConfig, used_points
from facedis_core.model.model import Model
from facedis_core.model.networks import network_named, network_of
from facedis_core.nn.augment import PoseVariation
from facedis_core.nn.autoencoder import AutoEncoder, InitialData
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.distributed import local_rank
from facedis_core.nn.matmul_precision import matmul_precision
from facedis_core.train.recipe import Recipe

# Streams of random numbers of one seed: each use draws from a stream of its own.
ORDER: Final = 1
NOISE: Final = 2
INITIAL: Final = 3
PRETRAIN: Final = 4
UNSEEN: Final = 5

_NEUTRALS_AT_ONCE: Final = 64  # in memory

# Largest difference of two coordinate frames that count as the same, relative to the scale.
_FRAME_TOLERANCE: Final = 1e-3


class CoordinateFrame(NamedTuple):
    """The normalised coordinates (X - origin) / scale of a training.

    Attributes:
        mean_face: (V, 3) mm, of the training faces.
        origin: (3,) mm.
        scale: mm per unit.
        reach_mm: largest mean vertex distance of a training face to the mean face.
        points: int64 (K,), the vertices that PointNets see; None = all.
    """

    mean_face: np.ndarray
    origin: np.ndarray
    scale: float
    reach_mm: float
    points: Tensor | None


def step_seed(seed: int, stream: int, epoch: int, step: int = 0) -> int:
    """The seed of one training step, so that a resumed run draws the same numbers."""
    state = np.random.SeedSequence([seed, stream, epoch, step]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def training_frame(
    face_set: FaceSet, recipe: Recipe, like: Model | None = None, block: int = 256
) -> CoordinateFrame:
    """The coordinate frame of the training faces.

    If the recipe has a scale, the origin is zero, as for the paper's data sets; else it is the
    centroid of the mean face, and the scale the largest distance of a training vertex from it.

    Args:
        face_set: only its training split is used.
        recipe: its scale and number of points.
        like: a model whose mean face, origin, scale and points are kept.
        block: number of faces in memory at a time.

    Raises:
        InputError: fewer than two training faces, faces that are not finite or only a point, or a
            recipe with another scale than that of `like`.
    """
    rows = face_set.rows(TRAIN)
    if len(rows) < 2:
        raise InputError(
            f"the face set has {len(rows)} training faces, expected at least 2",
            ErrorCode.TOO_FEW_FACES,
        )
    if like is not None and recipe.scale not in (None, like.scale):
        raise InputError(
            f"{like.source} has a scale of {like.scale:g} mm, the recipe {recipe.scale:g}; "
            "keep the model's with --set scale=none",
            ErrorCode.RECIPE_MISMATCH,
        )
    mean_face = face_set.mean_face(rows) if like is None else like.mean_face
    origin = np.zeros(3, np.float32) if recipe.scale else mean_face.mean(axis=0)
    reach = farthest = 0.0
    for start in range(0, len(rows), block):
        faces = face_set.read(rows[start : start + block])
        distances = np.linalg.norm(faces - mean_face, axis=-1).mean(axis=-1)
        reach = max(reach, float(distances.max()))
        farthest = max(farthest, float(np.linalg.norm(faces - origin, axis=-1).max()))
    if not farthest:
        raise InputError(
            "the training faces have all their vertices in one point; prepare the set again",
            ErrorCode.FACES_ALIKE,
        )
    scale, points = recipe.scale or farthest, None
    if like is not None:
        origin, scale, points = like.origin, like.scale, like.weights.get("encoder.points")
    count = used_points(len(mean_face), recipe.points)
    if points is None and count:
        region = np.arange(len(mean_face))
        if face_set.region is not None and np.count_nonzero(face_set.region) >= count:
            region = np.flatnonzero(face_set.region)
        points = region[farthest_points(mean_face[region], count)]
    index = None if points is None else torch.tensor(points, dtype=torch.int64)
    return CoordinateFrame(mean_face, origin, scale, reach, index)


def recipe_poses(recipe: Recipe) -> PoseVariation:
    """The random poses of the training faces."""
    return PoseVariation(recipe.pose_degrees, recipe.pose_mm)


def with_pseudo_neutrals(face_set: FaceSet, recipe: Recipe) -> FaceSet | None:
    """The face set with estimates in place of all neutrals; None if the recipe wants none.

    Raises:
        InputError: a training face is not finite.
    """
    if recipe.pseudo_neutral == "none":
        return None
    found = pseudo_neutrals(face_set, face_set.rows(TRAIN), recipe.pseudo_neutral)
    return replace(face_set, neutrals=found.faces)


def subjects_with_neutral(face_set: FaceSet) -> np.ndarray:
    """The training subjects whose neutral the face set has, ascending.

    Raises:
        InputError: there is none.
    """
    subjects = np.unique(np.asarray(face_set.labels.subject)[face_set.rows(TRAIN)])
    starts = range(_NEUTRALS_AT_ONCE, len(subjects), _NEUTRALS_AT_ONCE)
    known = np.concatenate(
        [
            np.isfinite(face_set.neutrals[part]).all(axis=(1, 2))
            for part in np.split(subjects, starts)
        ]
    )
    if not known.any():
        raise InputError(
            "no training subject has a neutral; train with --no-neutrals",
            ErrorCode.NEUTRAL_MISSING,
        )
    return subjects[known]


def initial_data(
    recipe: Recipe, frame: CoordinateFrame, face_set: FaceSet, *, neutrals: bool
) -> InitialData:
    """What the initial weights of an auto-encoder may be computed from.

    Args:
        recipe: of the training.
        frame: of the training faces.
        face_set: its training split.
        neutrals: whether the neutrals of the face set may be used.

    Raises:
        InputError: `neutrals`, and no training subject has one.
    """
    rows = face_set.rows(TRAIN)
    if neutrals:
        subjects_with_neutral(face_set)
    return InitialData(
        face_set.vertices,
        rows,
        np.asarray(face_set.labels.subject)[rows],
        face_set.neutrals if neutrals else None,
        np.asarray(face_set.triangles),
        np.asarray(face_set.labels.expression)[rows],
        frame.points,
        recipe_poses(recipe),
        zero_decoders=recipe.decoder_init == "zero",
        trust=recipe.trust,
        decoder_components=recipe.decoder_components,
        linear_start=recipe.linear_start,
        linear_fit=recipe.linear_fit,
    )


def build_auto_encoder(
    recipe: Recipe, frame: CoordinateFrame, face_set: FaceSet, seed: int, *, neutrals: bool = False
) -> AutoEncoder:
    """An auto-encoder with the initial weights of the recipe, training faces and seed."""
    data = initial_data(recipe, frame, face_set, neutrals=neutrals)
    module: type[AutoEncoder] = network_named(recipe.network).load_torch_module()
    config = recipe.model_config(len(frame.mean_face))
    torch.manual_seed(step_seed(seed, INITIAL, 0))
    network = module.fresh(
        config, torch.tensor(frame.mean_face), torch.tensor(frame.origin), frame.scale, data
    )
    network.reparametrise(data)
    return network


def build_discriminator(recipe: Recipe, frame: CoordinateFrame, seed: int) -> IdentityDiscriminator:
    """A discriminator with random weights, the same for pre-training and joint training."""
    torch.manual_seed(step_seed(seed, INITIAL, 1))
    config = recipe.discriminator_config(len(frame.mean_face))
    return IdentityDiscriminator(config, torch.tensor(frame.origin), frame.scale, frame.points)


def check_same_topology(label: str, topology: str, faces: FaceSet) -> None:
    """Raise InputError unless a model or discriminator has the topology of the face set."""
    if topology != faces.topology:
        raise InputError(
            f"{label} has topology {topology}, the face set has {faces.topology}; "
            "prepare the set with fd-prep --like, or train without this file",
            ErrorCode.TOPOLOGY,
        )


def check_network(label: str, found: ModelConfig, recipe: Recipe) -> None:
    """Raise InputError unless the model of `--init` has the network of the recipe."""
    wanted = recipe.model_config(found.vertices)
    if type(found) is not type(wanted):
        kind = network_of(found).name
        raise InputError(
            f"{label} is a {kind} network, the recipe trains a {recipe.network} one; "
            f"give a --recipe whose network is {kind}",
            ErrorCode.RECIPE_MISMATCH,
        )
    ours, theirs = asdict(wanted), asdict(found)
    odd = [f"{key} {theirs[key]} against {ours[key]}" for key in wanted.differences(found)]
    if odd:
        raise InputError(
            f"{label} and the recipe have different networks: {', '.join(odd)}; "
            "change the recipe with --set",
            ErrorCode.RECIPE_MISMATCH,
        )


def check_discriminator(
    label: str, found: IdentityDiscriminator, recipe: Recipe, frame: CoordinateFrame
) -> None:
    """Raise InputError unless a discriminator has the layers of the recipe and the same frame."""
    wanted = recipe.discriminator_config(len(frame.mean_face))
    if found.config != wanted:
        theirs, ours = (
            ", ".join(f"{key}={value}" for key, value in asdict(config).items())
            for config in (found.config, wanted)
        )
        raise InputError(
            f"{label} was built with {theirs}, the recipe has {ours}; "
            "pre-train it with the same --recipe, --set and --neutrals",
            ErrorCode.RECIPE_MISMATCH,
        )
    origin, scale = found.origin.numpy(), float(found.scale)
    if np.abs([*(origin - frame.origin), scale - frame.scale]).max() > _FRAME_TOLERANCE * scale:
        raise InputError(
            f"{label} normalises faces by origin {origin.round(2)} and {scale:g} mm a unit, this "
            f"run by {frame.origin.round(2)} and {frame.scale:g}; pre-train it on the same faces",
            ErrorCode.RECIPE_MISMATCH,
        )


def choose_device(name: str) -> torch.device:
    """`cpu`, `cuda` or `auto`: a GPU if there is one; each process of a machine has its own.

    Raises:
        UsageError: no GPU, or fewer GPUs than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda, but torch finds no CUDA device here; use --device cpu", ErrorCode.DEVICE
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    number, found = local_rank(), torch.cuda.device_count()
    if number >= found:
        raise UsageError(
            f"process {number + 1} of this machine has no GPU of its own, there are {found}; "
            f"use --nproc-per-node {found} or --device cpu",
            ErrorCode.DEVICE,
        )
    return torch.device("cuda", number)


def allow_tf32(device: torch.device) -> AbstractContextManager[None]:
    """Allow TF32 products on a GPU: for training steps, not for evaluation.

    The search of the max-pooling uses TF32 in every step: its products only choose vertices.
    """
    return matmul_precision("high") if device.type == "cuda" else nullcontext()
