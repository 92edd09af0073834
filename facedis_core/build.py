"""What a training starts from: the frame of its coordinates, fresh networks, a device."""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedis_core.config import Recipe
from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import TRAIN, FaceSet
from facedis_core.geometry import farthest_points
from facedis_core.networks import AutoEncoder, IdentityDiscriminator

# Streams of random numbers, each with seeds of its own.
ORDER: Final = 1
NOISE: Final = 2
INITIAL: Final = 3
PRETRAIN: Final = 4
UNSEEN: Final = 5


class Frame(NamedTuple):
    """Where the network's coordinates lie: (X - origin) / scale; mean_face and origin in mm."""

    mean_face: np.ndarray
    origin: np.ndarray
    scale: float
    reach_mm: float
    points: Tensor | None


def step_seed(seed: int, stream: int, epoch: int, step: int = 0) -> int:
    """A seed of its own for every step, so that a resumed run draws what an unbroken one draws."""
    state = np.random.SeedSequence([seed, stream, epoch, step]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def training_frame(face_set: FaceSet, recipe: Recipe, block: int = 256) -> Frame:
    """Mean face, origin and scale of the training faces, and how far they reach from their mean.

    With a scale in the recipe the origin is zero, as for the paper's sets; otherwise it is the
    centroid of the mean face and the scale the largest distance of a training vertex from it.

    Raises:
        InputError: no training faces, or some that are not finite.
    """
    rows = face_set.rows(TRAIN)
    if len(rows) < 2:
        raise InputError(f"the face set has {len(rows)} training faces, expected at least 2")
    mean_face = face_set.mean_face(rows)
    if not np.isfinite(mean_face).all():
        raise InputError("a training face is not finite; find it with fd-info --verify")
    origin = np.zeros(3, np.float32) if recipe.scale else mean_face.mean(axis=0)
    reach = farthest = 0.0
    for start in range(0, len(rows), block):
        faces = face_set.vertices[rows[start : start + block]]
        distances = np.linalg.norm(faces - mean_face, axis=-1).mean(axis=-1)
        reach = max(reach, float(distances.max()))
        farthest = max(farthest, float(np.linalg.norm(faces - origin, axis=-1).max()))
    count = recipe.model_config(len(mean_face)).points
    points = farthest_points(mean_face, count) if count else None
    return Frame(
        mean_face,
        origin,
        recipe.scale or farthest,
        reach,
        None if points is None else torch.tensor(points, dtype=torch.int64),
    )


def build_auto_encoder(recipe: Recipe, frame: Frame, seed: int) -> AutoEncoder:
    """A fresh auto-encoder with the initial weights of the recipe and seed."""
    torch.manual_seed(step_seed(seed, INITIAL, 0))
    network = AutoEncoder(
        recipe.model_config(len(frame.mean_face)),
        torch.tensor(frame.mean_face),
        torch.tensor(frame.origin),
        frame.scale,
        frame.points,
    )
    if recipe.decoder_init == "zero":
        network.initialise_decoders_to_zero()
    return network


def build_discriminator(recipe: Recipe, frame: Frame, seed: int) -> IdentityDiscriminator:
    """A fresh discriminator, the same for pre-training and joint training."""
    torch.manual_seed(step_seed(seed, INITIAL, 1))
    config = recipe.discriminator_config(len(frame.mean_face))
    return IdentityDiscriminator(config, torch.tensor(frame.origin), frame.scale, frame.points)


def choose_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: a GPU where there is one.

    Raises:
        UsageError: cuda was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda, but torch finds no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
