"""Some steps of a training in double precision, by as many processes as torchrun starts.

    python -m torch.distributed.run --standalone --nproc-per-node 2 shared_steps.py

Prints the terms of every step as JSON. Rounding does not reach what is compared, so that the
processes agree to many digits with a single one or not at all.
"""

import json

import numpy as np
import synthetic
import torch

from facedis_core.nn.distributed import is_main_process, process_group
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import (
    build_auto_encoder,
    build_discriminator,
    step_seed,
    training_frame,
)

RECIPE = Recipe(
    identity=5,
    expression=3,
    batch=6,
    decoder_init="default",
    decoder_components=9,
    encoder_offsets=True,
    output_learning_rate=5.0,
    weight_average=20.0,
    learning_rate=1e-3,
    reconstruction=3.0,
    kl_identity=0.2,
    kl_expression=0.3,
    neutral=0.5,
    neutral_expression=0.7,
    neutral_latent=0.4,
    discriminator=0.6,
    discriminator_batch_norm=True,  # with dropout
    discriminator_every=2,
    discriminator_learning_rate=1e-3,
    laplacian=0.8,
    swap=0.9,
    partner_latent=0.8,
    expression_norm=0.35,
    instance_noise=0.01,
)


def main() -> None:
    faces = synthetic.face_set()
    faces.neutrals[1:4] = np.nan  # a process's part of a batch may have none
    with process_group(torch.device("cpu")):
        frame = training_frame(faces, RECIPE)
        subject = AdversarialTrainer(
            build_auto_encoder(RECIPE, frame, faces, 0).double(),
            build_discriminator(RECIPE, frame, 0).double(),
            faces,
            RECIPE,
            neutrals=True,
            seed=0,
            device=torch.device("cpu"),
        )
        subject.laplacian = subject.laplacian.double()
        subject.network.train()
        found = []
        for step, batch in enumerate(subject.batches.epoch(0)):
            torch.manual_seed(step_seed(0, 0, 0, step))
            subject.epoch.step = step
            found.append(subject._train_step(double(batch)))
        if is_main_process():
            print(json.dumps(found))


def double(batch):
    known = batch.neutrals
    return batch._replace(
        faces=batch.faces.double(),
        partners=None if batch.partners is None else batch.partners.double(),
        neutrals=None if known is None else known._replace(vertices=known.vertices.double()),
    )


if __name__ == "__main__":
    main()
