"""The evaluation of an untrained network, by as many processes as torchrun starts.

    python -m torch.distributed.run --standalone --nproc-per-node 2 shared_evaluation.py

Prints as JSON the metrics in the main process, the accuracy of an untrained discriminator on
unseen people, and the number of faces that each process predicted.
"""

import json

import synthetic
import torch
from torch import distributed

from facedis_core.nn.distributed import is_main_process, process_group, world_size
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.discriminator_trainer import DiscriminatorTrainer
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import build_auto_encoder, build_discriminator, training_frame

RECIPE = Recipe(identity=5, expression=3, batch=6, pretrain_batch=6)


def main() -> None:
    faces = synthetic.face_set(subjects=12, expressions=35, test=8)  # two batches a person
    device = torch.device("cpu")
    with process_group(device):
        frame = training_frame(faces, RECIPE)
        network = build_auto_encoder(RECIPE, frame, faces, 0)
        trainer = AdversarialTrainer(
            network, None, faces, RECIPE, neutrals=True, seed=0, device=device
        )
        predict, predicted = trainer.predict, []

        def counted(vertices):
            predicted.append(len(vertices))
            return predict(vertices)

        trainer.predict = counted
        found = {"metrics": trainer.evaluate()}
        discriminator = build_discriminator(RECIPE, frame, 0)
        pairs = DiscriminatorTrainer(discriminator, faces, RECIPE, seed=0, device=device)
        found["accuracy"] = pairs.accuracy_on_unseen_subjects()
        numbers = [0] * world_size()
        if world_size() > 1:
            distributed.all_gather_object(numbers, sum(predicted))
        else:
            numbers = [sum(predicted)]
        if is_main_process():
            print(json.dumps({**found, "predicted": numbers}))


if __name__ == "__main__":
    main()
