"""Joint training of the auto-encoder and the identity discriminator: steps and learning rates."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.data.face_set import TEST, TRAIN, VALIDATION, FaceSet
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import evaluate_face_set
from facedis_core.evaluate.prediction import Prediction
from facedis_core.nn import losses
from facedis_core.nn.augment import random_poses
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.distributed import data_parallel, mean_values, shard_of_randn, shared_map
from facedis_core.nn.forward_step import ForwardStep, StepOutput
from facedis_core.nn.inference import TrainedNetwork
from facedis_core.nn.losses import LossWeights
from facedis_core.nn.max_pool.argmax import Precision
from facedis_core.nn.max_pool.layer import set_pooling
from facedis_core.train.batches import Batch, Neutrals, TrainingBatches
from facedis_core.train.face_storage import Storage
from facedis_core.train.learner import Learner
from facedis_core.train.profiling import step_part
from facedis_core.train.recipe import Recipe
from facedis_core.train.schedule import (
    batch_size,
    kl_factor,
    learning_rate_factor,
    steps_per_epoch,
    total_steps,
)
from facedis_core.train.setup import NOISE, recipe_poses
from facedis_core.train.weight_average import WeightAverage

# Splits that are evaluated, by their key in the log.
EVALUATED: Final = {"test": TEST, "validation": VALIDATION}


def loss_weights(recipe: Recipe, kl_factor: float) -> LossWeights:
    """The weights of eq. 8; those of the KL divergences times a factor."""
    return LossWeights(
        reconstruction=recipe.reconstruction,
        kl_identity=recipe.kl_identity * kl_factor,
        kl_expression=recipe.kl_expression * kl_factor,
        neutral=recipe.reconstruction * recipe.neutral,
        neutral_expression=recipe.reconstruction * recipe.neutral_expression,
        neutral_latent=recipe.neutral_latent,
        discriminator=recipe.discriminator,
        laplacian=recipe.laplacian,
        swap=recipe.reconstruction * recipe.swap,
        partner_latent=recipe.partner_latent,
        expression_norm=recipe.expression_norm,
    )


class Trainer(Learner):
    """Joint training: each step trains the discriminator, then the auto-encoder.

    Args:
        network: the auto-encoder.
        discriminator: None trains without one.
        face_set: training faces, and those that are evaluated.
        recipe: batch size, learning rates and loss weights; `recipe` of the trainer has the batch
            size used.
        neutrals: whether to use the subjects' neutrals (`face_set.neutrals`).
        seed: of data order, pairs and noise.
        device: of the networks.
        precision: of the search of the max-pooling.
        storage: of the training faces.

    Raises:
        InputError: `neutrals`, and no training subject has one.
        UsageError: the batch cannot be divided among the processes, or the faces do not fit on the
            device.
    """

    def __init__(
        self,
        network: AutoEncoder,
        discriminator: IdentityDiscriminator | None,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        neutrals: bool,
        seed: int,
        device: torch.device,
        precision: Precision = "fp32",
        storage: Storage = "auto",
    ) -> None:
        faces = len(face_set.rows(TRAIN))
        recipe = replace(recipe, batch=batch_size(recipe.batch, recipe.minimum_batch, faces))
        self.network, self.discriminator = network.to(device), discriminator
        self.face_set, self.recipe, self.neutrals = face_set, recipe, neutrals
        self.pseudo_neutral = recipe.pseudo_neutral
        self.poses = recipe_poses(recipe)
        self.batches = TrainingBatches(
            face_set,
            recipe,
            mean_face=network.mean_face.numpy(force=True),
            with_discriminator=discriminator is not None,
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
        self.laplacian = None
        if recipe.laplacian:
            vertices = network.config.vertices
            self.laplacian = losses.laplacian_matrix(face_set.triangles, vertices).to(device)
        outputs = network.output_parameters()
        ids = {id(each) for each in outputs}
        groups = [
            {"params": [each for each in network.parameters() if id(each) not in ids], "factor": 1},
            {"params": outputs, "factor": recipe.output_learning_rate},
        ]
        self.optimizer = torch.optim.Adam(
            [group for group in groups if group["params"]],
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over the weights instead of ten
        )
        self.optimizers = {"auto_encoder": self.optimizer}
        self.networks = {"auto_encoder": network}
        self.average = None
        if recipe.weight_average:
            self.average = WeightAverage(network, self.steps * recipe.weight_average / 100)
            self.networks["average"] = self.average.network
        self.forward_step = data_parallel(
            ForwardStep(
                network,
                log_variance_limit=recipe.log_variance_limit,
                encode_again=recipe.neutral_latent > 0,
            )
        )
        if discriminator is not None:
            self.networks["discriminator"] = discriminator.to(device)
            self.parallel_discriminator = data_parallel(discriminator)
            self.optimizers["discriminator"] = torch.optim.Adam(
                discriminator.parameters(), recipe.discriminator_learning_rate, fused=True
            )
        for each in self.networks.values():
            set_pooling(each, precision=precision)

    @property
    def result(self) -> AutoEncoder:
        """The network that is evaluated and stored: the average of its weights, if there is one."""
        return self.network if self.average is None else self.average.network

    def _learning_rate(self, step: int) -> float:
        return self.recipe.learning_rate * learning_rate_factor(self.recipe, step, self.steps)

    def _start_training(self) -> None:
        self.network.train()

    def _batches(self, number: int, first: int) -> Generator[Batch, None, None]:
        return self.batches.epoch(number, first)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the discriminator (eq. 7), then one of the auto-encoder (eq. 8)."""
        recipe, normalise = self.recipe, self.network.normalise
        self._set_learning_rates()
        aligned = normalise(batch.faces)
        faces = self._posed(aligned)
        partners = None if batch.partners is None else self._posed(normalise(batch.partners))
        with step_part("auto-encoder forward"):
            output: StepOutput = self.forward_step(faces, partners if recipe.has_partners else None)
        discriminator_values: dict[str, Tensor] = {}
        if batch.train_discriminator:
            assert partners is not None
            with step_part("discriminator step"):
                # posed anew, or the pose alone would tell fakes from real faces
                fakes = self._posed(output.identity_faces.detach())
                discriminator_values = self._discriminator_step(faces, partners, fakes)
        with step_part("losses"):
            terms = self._terms(aligned, faces, output, batch.neutrals)
            epochs = self.steps / self.steps_per_epoch
            weights = loss_weights(recipe, kl_factor(recipe, self.epoch.number, epochs))
            total = losses.weighted_sum(terms, weights)
        with step_part("backward"):
            self.optimizer.zero_grad()
            total.backward()
        with step_part("optimiser"):
            limit = recipe.gradient_clip or float("inf")
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
            values = mean_values(
                terms
                | discriminator_values
                | {"total": total, "gradient_norm": norm, "log_variance_clamped": output.clamped}
            )
            self._check_finite(values)
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.steps_done)
        return values | {"gradient_clipped": float(values["gradient_norm"] > limit)}

    def _set_learning_rates(self) -> None:
        recipe, factor = self.recipe, learning_rate_factor(self.recipe, self.steps_done, self.steps)
        for name, optimizer in self.optimizers.items():
            rate = recipe.learning_rate
            if name == "discriminator":
                rate = recipe.discriminator_learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate * factor * group.get("factor", 1)

    def _posed(self, faces: Tensor) -> Tensor:
        return random_poses(faces, self.poses, self.network.scale)

    def _terms(
        self, aligned: Tensor, faces: Tensor, output: StepOutput, neutrals: Neutrals | None
    ) -> dict[str, Tensor]:
        """The terms of eq. 8 that this training has; `faces` are the `aligned` ones, posed."""
        identity_faces = output.identity_faces
        terms = {
            "reconstruction": losses.reconstruction_loss(identity_faces + output.expression, faces),
            "kl_identity": losses.kl_divergence(*output.posterior.identity),
            "kl_expression": losses.kl_divergence(*output.posterior.expression),
        }
        if neutrals is not None:
            terms |= self._neutral_terms(faces, output, neutrals)
        if output.identity_again is not None:
            terms["neutral_latent"] = losses.neutral_latent_loss(
                output.identity_latent, output.identity_again
            )
        if output.partners is not None:
            swapped = output.partners.identity_faces + output.expression
            terms["swap"] = losses.reconstruction_loss(swapped, faces)
            terms["partner_latent"] = losses.partner_latent_loss(
                output.posterior.identity.mean, output.partners.identity_latent
            )
        if self.recipe.expression_norm:
            # without the motion of the pose, which moves every vertex
            aligned_expression = output.expression - (faces - aligned)
            terms["expression_norm"] = losses.expression_norm_loss(
                aligned_expression, self.recipe.expression_power
            )
        if self.laplacian is not None:
            terms["laplacian"] = losses.laplacian_loss(identity_faces, self.laplacian)
        if self.discriminator is not None:
            terms["discriminator"] = self._generator_loss(faces, self._posed(identity_faces))
        return terms

    def _noisy(self, faces: Tensor) -> Tensor:
        noise = self.recipe.instance_noise
        return faces + noise * shard_of_randn(faces) if noise else faces

    def _discriminator_step(
        self, faces: Tensor, partners: Tensor, fakes: Tensor
    ) -> dict[str, Tensor]:
        """Train on real pairs (X, another face of the subject) and fake pairs (X, X_id).

        Both pairs of a face are neighbours in the batch, as the rows of the processes are.
        """
        assert self.discriminator is not None
        self.discriminator.train().requires_grad_(True)
        optimizer = self.optimizers["discriminator"]
        optimizer.zero_grad()
        first, second = (
            self._noisy(torch.stack(pair, dim=1).flatten(0, 1))
            for pair in ((faces, faces), (partners, fakes))
        )
        logits = self.parallel_discriminator(first, second)
        real, fake = logits.unflatten(0, (-1, 2)).unbind(dim=1)
        result = losses.discriminator_loss(real, fake, self.recipe.label_smoothing)
        result.loss.backward()
        optimizer.step()
        return {
            "discriminator_own": result.loss,
            "real_accuracy": result.real_accuracy,
            "fake_accuracy": result.fake_accuracy,
        }

    def _generator_loss(self, faces: Tensor, identity_faces: Tensor) -> Tensor:
        """In eval mode: the batch statistics of fake pairs alone differ from those in training."""
        assert self.discriminator is not None
        self.discriminator.eval().requires_grad_(False)
        logits = self.discriminator(self._noisy(faces), self._noisy(identity_faces))
        return losses.generator_loss(logits)

    def _neutral_terms(
        self, faces: Tensor, output: StepOutput, neutrals: Neutrals
    ) -> dict[str, Tensor]:
        """Errors of X_id and X_exp against the true neutral, of the faces whose subject has one.

        They are means over these faces in all processes; this process may have none.
        """
        places, truth = neutrals.places, self.network.normalise(neutrals.vertices)
        pairs = {"neutral": (output.identity_faces[places], truth)}
        if self.recipe.neutral_expression:
            pairs["neutral_expression"] = output.expression[places], faces[places] - truth
        if not len(places):
            return {name: predicted.sum() for name, (predicted, _) in pairs.items()}  # zero
        return {
            name: losses.reconstruction_loss(*pair) * neutrals.weight
            for name, pair in pairs.items()
        }

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
                found[name] = evaluate_face_set(
                    self.predict,
                    self.face_set,
                    rows,
                    region=self.face_set.region,
                    ordered_map=shared_map,
                ).metrics
        return found

    @torch.no_grad()
    def predict(self, vertices: np.ndarray) -> Prediction:
        """Reconstructions and identity faces (B, V, 3) mm and latent means of faces in mm."""
        network = TrainedNetwork(self.result)
        faces = torch.tensor(vertices, dtype=torch.float32, device=self.device)
        full, identity, _, posteriors = network(faces)
        return Prediction(
            full.cpu().numpy(),
            identity.cpu().numpy(),
            posteriors.identity.mean.cpu().numpy(),
            posteriors.expression.mean.cpu().numpy(),
        )
