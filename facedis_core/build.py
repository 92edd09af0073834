"""What a training starts from: the frame of its coordinates, fresh networks, a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedis_core import world
from facedis_core.autoencoder import AutoEncoder, InitialData
from facedis_core.config import used_points
from facedis_core.discriminator import IdentityDiscriminator
from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import TRAIN, FaceSet
from facedis_core.geometry import farthest_points
from facedis_core.inference import Model
from facedis_core.network_table import network_named
from facedis_core.pose import posed
from facedis_core.recipe import Recipe

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


def training_frame(
    face_set: FaceSet, recipe: Recipe, like: Model | None = None, block: int = 256
) -> Frame:
    """Mean face, origin and scale of the training faces, and how far they reach from their mean.

    With a scale in the recipe the origin is zero, as for the paper's sets; otherwise it is the
    centroid of the mean face and the scale the largest distance of a training vertex from it.

    Args:
        face_set: its training split is looked at.
        recipe: its scale and number of points.
        like: a model whose mean face, origin, scale and points are kept.
        block: faces looked at together.

    Raises:
        InputError: no training faces, some that are not finite, or a recipe with another scale
            than the model to follow.
    """
    rows = face_set.rows(TRAIN)
    if len(rows) < 2:
        raise InputError(f"the face set has {len(rows)} training faces, expected at least 2")
    if like is not None and recipe.scale not in (None, like.scale):
        raise InputError(
            f"{like.source} has a scale of {like.scale:g} mm, the recipe {recipe.scale:g}; "
            "adapt it with --set scale=none"
        )
    mean_face = face_set.mean_face(rows) if like is None else like.mean_face
    origin = np.zeros(3, np.float32) if recipe.scale else mean_face.mean(axis=0)
    reach = farthest = 0.0
    for start in range(0, len(rows), block):
        faces = face_set.read(rows[start : start + block])
        distances = np.linalg.norm(faces - mean_face, axis=-1).mean(axis=-1)
        reach = max(reach, float(distances.max()))
        farthest = max(farthest, float(np.linalg.norm(faces - origin, axis=-1).max()))
    points = None
    if like is not None:
        origin, scale, points = like.origin, like.scale, like.weights.get("encoder.points")
    else:
        scale = recipe.scale or farthest
    count = used_points(len(mean_face), recipe.points)
    if points is None and count:
        points = farthest_points(mean_face, count)
    index = None if points is None else torch.tensor(points, dtype=torch.int64)
    return Frame(mean_face, origin, scale, reach, index)


def build_auto_encoder(recipe: Recipe, frame: Frame, face_set: FaceSet, seed: int) -> AutoEncoder:
    """A fresh auto-encoder with the initial weights of the recipe, training faces and seed."""
    data = InitialData(
        face_set.vertices,
        face_set.rows(TRAIN),
        frame.points,
        recipe.pose_degrees,
        recipe.pose_mm,
        zero_decoders=recipe.decoder_init == "zero",
    )
    module: type[AutoEncoder] = network_named(recipe.network).load_torch_module()
    config = recipe.model_config(len(frame.mean_face))
    torch.manual_seed(step_seed(seed, INITIAL, 0))
    return module.fresh(
        config, torch.tensor(frame.mean_face), torch.tensor(frame.origin), frame.scale, data
    )


def build_discriminator(recipe: Recipe, frame: Frame, seed: int) -> IdentityDiscriminator:
    """A fresh discriminator, the same for pre-training and joint training."""
    torch.manual_seed(step_seed(seed, INITIAL, 1))
    config = recipe.discriminator_config(len(frame.mean_face))
    return IdentityDiscriminator(config, torch.tensor(frame.origin), frame.scale, frame.points)


def posed_for(recipe: Recipe, faces: Tensor, scale: Tensor) -> Tensor:
    """Faces (B, V, 3) as the recipe shows them in training; they have `scale` (1,) mm a unit."""
    if not recipe.has_poses:
        return faces
    return posed(faces, recipe.pose_degrees, recipe.pose_mm / scale)


def choose_device(name: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: a GPU where there is one; each process of a machine has its own.

    Raises:
        UsageError: cuda was asked for and there is none, or fewer than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda, but torch finds no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    number, found = world.local_rank(), torch.cuda.device_count()
    if number >= found:
        raise UsageError(
            f"process {number + 1} of this machine has no GPU of its own, there are {found}; "
            f"use --nproc-per-node {found} or --device cpu"
        )
    return torch.device("cuda", number)


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Within, products of float32 on a GPU may use TF32: for training, not for what is measured.

    Products that only choose vertices do so everywhere.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
