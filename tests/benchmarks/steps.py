"""Made-up trainings of any size, as both sides of the benchmarks use them."""

from collections.abc import Callable

import numpy as np
import torch

from facedis_core.data.face_set import FaceSet, Labels
from facedis_core.data.preparation import Preparation
from facedis_core.mesh.mesh import topology_id
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import build_auto_encoder, build_discriminator, training_frame

Step = Callable[[], dict[str, float]]


def bent_sheet(vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) mm and triangles of a bent sheet of 200 mm."""
    side = int(np.ceil(np.sqrt(vertices)))
    row, column = np.divmod(np.arange(side * side), side)
    x, y = 200 * column / side - 100, 200 * row / side - 100
    corner = np.flatnonzero(column < side - 1)
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + side], axis=1),
            np.stack([corner + 1, corner + side + 1, corner + side], axis=1),
        ]
    )
    sheet = np.stack([x, y, 60 - (x**2 + y**2) / 200], axis=1)[:vertices]
    return sheet.astype(np.float32), triangles[(triangles < vertices).all(axis=1)].astype(np.int32)


def made_up_faces(vertices: int, people: int, kinds: int = 2, seed: int = 0) -> FaceSet:
    """`people` smooth shapes with `kinds` smooth expressions each, all of them for training."""
    rng = np.random.default_rng(seed)
    mean, triangles = bent_sheet(vertices)
    waves = np.sin(mean @ rng.normal(0, 0.03, (3, 12)) + rng.uniform(0, 6, 12))  # (V, 12)
    neutral = mean + np.einsum("vk,skc->svc", waves, rng.normal(0, 2, (people, 12, 3)))
    offset = np.einsum("vk,ekc->evc", waves, rng.normal(0, 1, (kinds, 12, 3)))
    faces = (neutral[:, None] + offset).reshape(-1, vertices, 3).astype(np.float32)
    count = np.arange(people * kinds)
    labels = Labels(
        names=[f"face{n}" for n in count],
        subjects=[f"person{s}" for s in range(people)],
        expressions=[f"expression{e}" for e in range(kinds)],
        subject=(count // kinds).astype(np.int32),
        expression=(count % kinds).astype(np.int32),
        level=np.ones(len(count), np.float32),
        split=np.zeros(len(count), np.uint8),
    )
    none = np.full((people, vertices, 3), np.nan, np.float32)
    index = np.arange(vertices, dtype=np.int32)
    preparation = Preparation(triangles, index, vertices, topology_id(triangles), 1.0)
    return FaceSet(faces, labels, none, none, preparation, "made-up", "", "")


def made_up_trainer(
    vertices: int, batch: int, *, batch_norm: bool = False, device: str = "cpu"
) -> AdversarialTrainer:
    """A whole adversarial training, before its first step; decoders that give a real face."""
    recipe = Recipe(
        batch=batch,
        decoder_init="default",
        laplacian=1e-2,
        discriminator=1e-2,
        discriminator_batch_norm=batch_norm,
    )
    face_set = made_up_faces(vertices, people=batch)
    frame = training_frame(face_set, recipe)
    network = build_auto_encoder(recipe, frame, face_set, seed=0)
    with torch.no_grad():  # X_id starts within millimetres of a face, as it is after an epoch
        for decoder in (network.identity_decoder, network.expression_decoder):
            decoder.output.weight.mul_(0.1)
            decoder.output.bias.zero_()
    trainer = AdversarialTrainer(
        network,
        build_discriminator(recipe, frame, seed=0),
        face_set,
        recipe,
        neutrals=False,
        seed=0,
        device=torch.device(device),
    )
    trainer.network.train()
    return trainer
