"""Joint adversarial training of the auto-encoder and the identity discriminator."""

from collections.abc import Generator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core import losses, world
from facedis_core.autoencoder import AutoEncoder
from facedis_core.batches import Batch, Neutrals, TrainingBatches
from facedis_core.build import NOISE, posed_for
from facedis_core.discriminator import IdentityDiscriminator
from facedis_core.epochs import Learner
from facedis_core.errors import InputError
from facedis_core.evaluation import evaluate_face_set
from facedis_core.faceset import TEST, VALIDATION, FaceSet
from facedis_core.losses import LossWeights
from facedis_core.maxlinear import set_pooling
from facedis_core.prediction import Prediction
from facedis_core.profiling import step_part
from facedis_core.recipe import Recipe
from facedis_core.residence import Residence
from facedis_core.synthesis import ForwardStep, StepOutput
from facedis_core.winners import Precision

EVALUATED: Final = {"test": TEST, "validation": VALIDATION}


def loss_weights(recipe: Recipe, epoch: int) -> LossWeights:
    """The weights of eq. 8 in the epoch with that number (from 0)."""
    decay = 1.0
    if recipe.kl_decay_epochs:
        decay = max(0.0, (recipe.kl_decay_epochs - epoch) / recipe.kl_decay_epochs)
    return LossWeights(
        reconstruction=recipe.reconstruction,
        kl_identity=recipe.kl_identity * decay,
        kl_expression=recipe.kl_expression * decay,
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
    """The state of one training: networks, optimisers, data, and the epoch under way.

    Args:
        network: the auto-encoder.
        discriminator: None trains without it.
        neutrals: use the subjects' neutrals (`face_set.neutrals`).
        seed: fixes data order, pairs and noise.
        device: where to compute.
        precision: of the products that choose the vertices, the bulk of the work.
        residence: where the faces are meanwhile.
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
        residence: Residence = "auto",
    ) -> None:
        self.network, self.discriminator = network.to(device), discriminator
        self.face_set, self.recipe, self.neutrals = face_set, recipe, neutrals
        self.batches = TrainingBatches(
            face_set,
            recipe,
            centre=network.mean_face.numpy(force=True),
            judged=discriminator is not None,
            neutrals=neutrals,
            seed=seed,
            device=device,
            residence=residence,
        )
        super().__init__(
            epochs=recipe.epochs, steps=self.batches.steps, stream=NOISE, seed=seed, device=device
        )
        self.laplacian = None
        if recipe.laplacian:
            vertices = network.config.vertices
            self.laplacian = losses.laplacian_matrix(face_set.triangles, vertices).to(device)
        self.optimizer = torch.optim.Adam(
            network.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over the weights instead of ten
        )
        self.optimizers = {"auto_encoder": self.optimizer}
        self.networks = {"auto_encoder": network}
        self.forward_step = world.shared(
            ForwardStep(
                network,
                log_variance_limit=recipe.log_variance_limit,
                encode_again=recipe.neutral_latent > 0,
            )
        )
        if discriminator is not None:
            self.networks["discriminator"] = discriminator.to(device)
            self.judge = world.shared(discriminator)
            self.optimizers["discriminator"] = torch.optim.Adam(
                discriminator.parameters(), recipe.discriminator_learning_rate, fused=True
            )
        for one in self.networks.values():
            set_pooling(one, precision=precision)

    def _begin(self, number: int) -> dict[str, float]:
        recipe = self.recipe
        factor = recipe.learning_rate_factor ** (number // recipe.learning_rate_epochs)
        for name, optimizer in self.optimizers.items():
            base = recipe.learning_rate
            if name == "discriminator":
                base = recipe.discriminator_learning_rate
            optimizer.param_groups[0]["lr"] = base * factor
        self.network.train()
        return {"learning_rate": recipe.learning_rate * factor}

    def _batches(self, number: int, first: int) -> Generator[Batch, None, None]:
        return self.batches.epoch(number, first)

    def _step(self, batch: Batch) -> dict[str, float]:
        """One step of the discriminator, then one of the auto-encoder."""
        recipe, normalise = self.recipe, self.network.normalise
        resting = normalise(batch.faces)
        faces = self._posed(resting)
        partners = None if batch.partners is None else self._posed(normalise(batch.partners))
        with step_part("auto-encoder forward"):
            made: StepOutput = self.forward_step(faces, partners if recipe.has_partners else None)
        judged: dict[str, Tensor] = {}
        if batch.judged:
            assert partners is not None
            with step_part("discriminator step"):
                # or their pose would give fakes away
                fakes = self._posed(made.identity_faces.detach())
                judged = self._discriminator_step(faces, partners, fakes)
        with step_part("losses"):
            terms = self._terms(resting, faces, made, batch.neutrals)
            total = losses.weighted_sum(terms, loss_weights(recipe, self.epoch.number))
        with step_part("backward"):
            self.optimizer.zero_grad()
            total.backward()
        with step_part("optimiser"):
            limit = recipe.gradient_clip or float("inf")
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
            values = world.read(
                terms
                | judged
                | {"total": total, "gradient_norm": norm, "log_variance_clamped": made.clamped}
            )
            self._check_finite(values)
            self.optimizer.step()
        return values | {"gradient_clipped": float(values["gradient_norm"] > limit)}

    def _posed(self, faces: Tensor) -> Tensor:
        return posed_for(self.recipe, faces, self.network.scale)

    def _terms(
        self, resting: Tensor, faces: Tensor, made: StepOutput, neutrals: Neutrals | None
    ) -> dict[str, Tensor]:
        """The terms of eq. 8 that this training has, of faces before and after they are posed."""
        identity_faces = made.identity_faces
        terms = {
            "reconstruction": losses.reconstruction_loss(identity_faces + made.expression, faces),
            "kl_identity": losses.kl_divergence(*made.posterior.identity),
            "kl_expression": losses.kl_divergence(*made.posterior.expression),
        }
        if neutrals is not None:
            terms |= self._neutral_terms(faces, made, neutrals)
        if made.identity_again is not None:
            terms["neutral_latent"] = losses.neutral_latent_loss(
                made.identity_latent, made.identity_again
            )
        if made.partners is not None:
            swapped = made.partners.identity_faces + made.expression
            terms["swap"] = losses.reconstruction_loss(swapped, faces)
            terms["partner_latent"] = losses.partner_latent_loss(
                made.posterior.identity.mean, made.partners.identity_latent
            )
        if self.recipe.expression_norm:
            # a turned head is no expression: that moves every vertex
            unposed = made.expression - (faces - resting)
            terms["expression_norm"] = losses.expression_norm_loss(
                unposed, self.recipe.expression_power
            )
        if self.laplacian is not None:
            terms["laplacian"] = losses.laplacian_loss(identity_faces, self.laplacian)
        if self.discriminator is not None:
            terms["discriminator"] = self._generator_loss(faces, self._posed(identity_faces))
        return terms

    def _noisy(self, faces: Tensor) -> Tensor:
        noise = self.recipe.instance_noise
        return faces + noise * world.normal_like(faces) if noise else faces

    def _discriminator_step(
        self, faces: Tensor, partners: Tensor, fakes: Tensor
    ) -> dict[str, Tensor]:
        """Real pairs (X, another face of the subject) and fake ones (X, X_id), in one batch.

        A face's two pairs stand side by side, so that the parts of the processes do.
        """
        assert self.discriminator is not None
        self.discriminator.train().requires_grad_(True)
        optimizer = self.optimizers["discriminator"]
        optimizer.zero_grad()
        first, second = (
            self._noisy(torch.stack(pair, dim=1).flatten(0, 1))
            for pair in ((faces, faces), (partners, fakes))
        )
        real, fake = self.judge(first, second).unflatten(0, (-1, 2)).unbind(dim=1)
        result = losses.discriminator_loss(real, fake, self.recipe.label_smoothing)
        result.loss.backward()
        optimizer.step()
        return {
            "discriminator_own": result.loss,
            "real_accuracy": result.real_accuracy,
            "fake_accuracy": result.fake_accuracy,
        }

    def _generator_loss(self, faces: Tensor, identity_faces: Tensor) -> Tensor:
        """In eval mode: a batch of fakes alone has batch statistics of its own."""
        assert self.discriminator is not None
        self.discriminator.eval().requires_grad_(False)
        logits = self.discriminator(self._noisy(faces), self._noisy(identity_faces))
        return losses.generator_loss(logits)

    def _neutral_terms(
        self, faces: Tensor, made: StepOutput, neutrals: Neutrals
    ) -> dict[str, Tensor]:
        """Errors against the true neutral, for the faces whose subject has one.

        They are means over the known faces of all processes, of which this one may have none.
        """
        place, truth = neutrals.place, self.network.normalise(neutrals.truth)
        pairs = {"neutral": (made.identity_faces[place], truth)}
        if self.recipe.neutral_expression:
            pairs["neutral_expression"] = made.expression[place], faces[place] - truth
        if not len(place):
            return {name: predicted.sum() for name, (predicted, _) in pairs.items()}  # zero
        return {
            name: losses.reconstruction_loss(*pair) * neutrals.share for name, pair in pairs.items()
        }

    def _check_finite(self, values: Mapping[str, float]) -> None:
        if not np.isfinite([*values.values()]).all():
            sums = {"total", "gradient_norm"}
            bad = [k for k, value in values.items() if k not in sums and not np.isfinite(value)]
            raise InputError(
                f"training diverged at epoch {self.epoch.number + 1}, step {self.epoch.step + 1}: "
                f"{', '.join(bad) or 'the gradient'} is not finite; lower learning_rate "
                "or discriminator_learning_rate"
            )

    def evaluate(self, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The metrics of METHOD on the test faces, and the validation faces if the set has some."""
        found = {}
        for name, split in EVALUATED.items():
            rows = self.face_set.rows(split)
            if len(rows):
                found[name] = evaluate_face_set(self.predict, self.face_set, rows).metrics
        return found

    @torch.no_grad()
    def predict(self, vertices: np.ndarray) -> Prediction:
        """Reconstructions, identity faces (B, V, 3) mm and latents, by the means."""
        network = self.network.eval()
        faces = torch.tensor(vertices, dtype=torch.float32, device=self.device)
        posterior = network.encode(network.normalise(faces))
        identity = network.identity_offsets(posterior.identity.mean) * network.scale
        expression = network.expression_offsets(posterior.expression.mean) * network.scale
        identity_faces = network.mean_face + identity
        return Prediction(
            (identity_faces + expression).cpu().numpy(),
            identity_faces.cpu().numpy(),
            posterior.identity.mean.cpu().numpy(),
            posterior.expression.mean.cpu().numpy(),
        )
