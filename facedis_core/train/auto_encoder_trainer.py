"""What trainings of an auto-encoder share: batches, learning rates, averages, evaluation."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from facedis_core.data.face_set import TEST, TRAIN, VALIDATION, FaceSet
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import evaluate_face_set
from facedis_core.evaluate.prediction import Prediction, predicted_parts
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.distributed import shared_map
from facedis_core.nn.inference import TrainedNetwork
from facedis_core.train.batches import Batch, TrainingBatches
from facedis_core.train.face_storage import Storage
from facedis_core.train.recipe import Recipe
from facedis_core.train.schedule import (
    batch_size,
    learning_rate_factor,
    steps_per_epoch,
    total_steps,
)
from facedis_core.train.setup import NOISE, recipe_poses
from facedis_core.train.trainer import Trainer
from facedis_core.train.weight_average import WeightAverage

# Splits that are evaluated, by their key in the log.
EVALUATED: Final = {"test": TEST, "validation": VALIDATION}


class AutoEncoderTrainer(Trainer):
    """Training of an auto-encoder; a subclass has its optimisers and its steps.

    Args:
        network: the auto-encoder.
        face_set: training faces, and those that are evaluated.
        recipe: batch size, learning rates and loss weights; `recipe` of the trainer has the batch
            size used.
        with_discriminator: whether there is a discriminator of pairs of faces.
        neutrals: whether to use the subjects' neutrals (`face_set.neutrals`).
        seed: of data order, pairs and noise.
        device: of the networks.
        storage: of the training faces.

    Raises:
        InputError: `neutrals`, and no training subject has one.
        UsageError: the batch cannot be divided among the processes, or the faces do not fit on the
            device.
    """

    def __init__(
        self,
        network: AutoEncoder,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        with_discriminator: bool,
        neutrals: bool,
        seed: int,
        device: torch.device,
        storage: Storage,
    ) -> None:
        faces = len(face_set.rows(TRAIN))
        recipe = replace(recipe, batch=batch_size(recipe.batch, recipe.minimum_batch, faces))
        mean_face = network.mean_face.numpy(force=True)
        self.network = network.to(device)
        self.face_set, self.recipe, self.neutrals = face_set, recipe, neutrals
        self.has_discriminator = with_discriminator
        self.pseudo_neutral = recipe.pseudo_neutral
        self.poses = recipe_poses(recipe)
        self.batches = TrainingBatches(
            face_set,
            recipe,
            mean_face=mean_face,
            with_discriminator=with_discriminator,
            with_neutrals=neutrals,
            seed=seed,
            device=device,
            storage=storage,
        )
        super().__init__(
            pairs=self.batches.pairs,
            batch=recipe.batch,
            steps=total_steps(
                epochs=recipe.epochs,
                steps=recipe.steps,
                minimum_steps=recipe.minimum_steps,
                steps_per_epoch=steps_per_epoch(faces, recipe.batch),
            ),
            stream=NOISE,
            seed=seed,
            device=device,
        )
        self.networks = {"auto_encoder": network}
        self.average = None
        if recipe.weight_average:
            self.average = WeightAverage(network, self.steps * recipe.weight_average / 100)
            self.networks["average"] = self.average.network

    @property
    def result(self) -> AutoEncoder:
        """The network that is evaluated and stored: the average of its weights, if there is one."""
        return self.network if self.average is None else self.average.network

    def _learning_rate(self, step: int) -> float:
        return self.recipe.learning_rate * learning_rate_factor(self.recipe, step, self.steps)

    def _set_learning_rates(self) -> None:
        recipe, factor = self.recipe, learning_rate_factor(self.recipe, self.steps_done, self.steps)
        for name, optimizer in self.optimizers.items():
            rate = recipe.learning_rate
            if name == "discriminator":
                rate = recipe.discriminator_learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate * factor * group.get("factor", 1)

    def _start_training(self) -> None:
        self.network.train()

    def _batches(self, number: int, first: int) -> Generator[Batch, None, None]:
        return self.batches.epoch(number, first)

    def _check_finite(self, values: Mapping[str, float]) -> None:
        if not np.isfinite([*values.values()]).all():
            sums = {"total", "gradient_norm"}
            bad = [k for k, value in values.items() if k not in sums and not np.isfinite(value)]
            raise InputError(
                f"training diverged at epoch {self.epoch.number + 1}, step {self.epoch.step + 1}: "
                f"{', '.join(bad) or 'the gradient'} is not finite; lower learning_rate "
                "or discriminator_learning_rate",
                ErrorCode.DIVERGED,
            )

    def evaluate(self, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The metrics of fd-metrics on the test split, and on the validation split if any."""
        found = {}
        for name, split in EVALUATED.items():
            rows = self.face_set.rows(split)
            if len(rows):
                try:
                    found[name] = evaluate_face_set(
                        self.predict,
                        self.face_set,
                        rows,
                        region=self.face_set.region,
                        ordered_map=shared_map,
                    ).metrics
                except InputError as error:
                    if error.code != ErrorCode.NOT_FINITE:
                        raise
                    self.face_set.read(rows)  # raises where the faces themselves are not finite
                    raise InputError(
                        "training diverged: the predictions are not finite; lower learning_rate "
                        "or discriminator_learning_rate",
                        ErrorCode.DIVERGED,
                    ) from error
        return found

    @torch.no_grad()
    def predict(self, vertices: np.ndarray) -> Prediction:
        """Reconstructions and identity faces (B, V, 3) mm and latent means of faces in mm."""
        network = TrainedNetwork(self.result)
        faces = torch.tensor(vertices, dtype=torch.float32, device=self.device)
        full, identity, _, posteriors = network(faces)
        return predicted_parts(
            full.cpu().numpy(),
            identity.cpu().numpy(),
            posteriors.identity.mean.cpu().numpy(),
            posteriors.expression.mean.cpu().numpy(),
        )
