"""Trainers for tests, as `fd-train` sets them up."""

import torch

from facedis_core.data.face_set import FaceSet
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import build_auto_encoder, build_discriminator, training_frame
from facedis_core.train.trainer import Trainer


def trainer(
    faces: FaceSet,
    recipe: Recipe,
    *,
    neutrals: bool = False,
    adversary: bool = True,
    seed: int = 0,
) -> Trainer:
    """Fresh networks on the training faces, on the CPU; `adversary` = with a discriminator."""
    frame = training_frame(faces, recipe)
    return Trainer(
        build_auto_encoder(recipe, frame, faces, seed),
        build_discriminator(recipe, frame, seed) if adversary else None,
        faces,
        recipe,
        neutrals=neutrals,
        seed=seed,
        device=torch.device("cpu"),
    )
