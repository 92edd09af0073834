"""Joint training of the auto-encoder and the identity discriminator: steps and learning rates."""

import torch
from torch import Tensor, nn

from facedis_core.data.face_set import FaceSet
from facedis_core.nn import losses
from facedis_core.nn.augment import random_poses
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.distributed import average_gradients, mean_values, shard_of_randn
from facedis_core.nn.forward_step import StepOutput, forward_step
from facedis_core.nn.losses import LossWeights
from facedis_core.nn.max_pool.argmax import Precision
from facedis_core.nn.max_pool.layer import set_pooling
from facedis_core.train.auto_encoder_trainer import AutoEncoderTrainer
from facedis_core.train.batches import Batch, Neutrals
from facedis_core.train.face_storage import Storage
from facedis_core.train.profiling import step_part
from facedis_core.train.recipe import Recipe
from facedis_core.train.schedule import kl_factor


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


class AdversarialTrainer(AutoEncoderTrainer):
    """Joint training: each step trains the discriminator, then the auto-encoder.

    Args:
        network: the auto-encoder.
        discriminator: None trains without one.
        precision: of the search of the max-pooling.
        face_set, recipe, neutrals, seed, device, storage: as for `AutoEncoderTrainer`, which also
            says what is raised.
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
        super().__init__(
            network,
            face_set,
            recipe,
            with_discriminator=discriminator is not None,
            neutrals=neutrals,
            seed=seed,
            device=device,
            storage=storage,
        )
        self.discriminator = discriminator
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
        if discriminator is not None:
            self.networks["discriminator"] = discriminator.to(device)
            self.optimizers["discriminator"] = torch.optim.Adam(
                discriminator.parameters(), recipe.discriminator_learning_rate, fused=True
            )
        for each in self.networks.values():
            set_pooling(each, precision=precision)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the discriminator (eq. 7), then one of the auto-encoder (eq. 8)."""
        recipe, normalise = self.recipe, self.network.normalise
        self._set_learning_rates()
        aligned = normalise(batch.faces)
        faces = self._posed(aligned)
        partners = None if batch.partners is None else self._posed(normalise(batch.partners))
        with step_part("auto-encoder forward"):
            output = forward_step(
                self.network,
                faces,
                partners if recipe.has_partners else None,
                log_variance_limit=recipe.log_variance_limit,
                encode_again=recipe.neutral_latent > 0,
            )
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
            average_gradients(self.network.parameters())
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
        logits = self.discriminator(first, second)
        real, fake = logits.unflatten(0, (-1, 2)).unbind(dim=1)
        result = losses.discriminator_loss(real, fake, self.recipe.label_smoothing)
        result.loss.backward()
        average_gradients(self.discriminator.parameters())
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
