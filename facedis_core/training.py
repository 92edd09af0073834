"""Joint adversarial training of the auto-encoder and the identity discriminator."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core import losses
from facedis_core.build import NOISE, ORDER, step_seed
from facedis_core.config import Recipe
from facedis_core.errors import InputError
from facedis_core.evaluation import Prediction, evaluate_face_set
from facedis_core.faceset import TEST, TRAIN, VALIDATION, FaceSet
from facedis_core.geometry import uniform_laplacian
from facedis_core.networks import AutoEncoder, Gaussian, IdentityDiscriminator, Posterior
from facedis_core.pairs import FacePairs

EVALUATED: Final = {"test": TEST, "validation": VALIDATION}


@dataclass
class Epoch:
    """What is known of an epoch under way; `sums` and `counts` are of the terms of its steps."""

    number: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Count the terms of one step; not every step has every term."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        self.step += 1

    def means(self) -> dict[str, float]:
        """The mean of every term over the steps that had it."""
        return {key: total / self.counts[key] for key, total in self.sums.items()}


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch, but leaves the running statistics alone.

    Predicted faces pass the encoder in training too; what is encoded later are real ones, and the
    running statistics should be theirs.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


class Trainer:
    """The state of one training: networks, optimisers, data, and the epoch under way.

    Args:
        network: the auto-encoder, on `device`.
        discriminator: on `device`; None trains without it.
        neutrals: use the subjects' neutrals (`face_set.neutrals`).
        seed: fixes data order, pairs and noise.
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
    ) -> None:
        self.network, self.discriminator = network.to(device), discriminator
        self.face_set, self.recipe, self.neutrals = face_set, recipe, neutrals
        self.seed, self.device = seed, device
        self.rows = face_set.rows(TRAIN)
        self.subject = np.asarray(face_set.labels.subject)[self.rows]
        self.pairs = FacePairs(self.subject)
        people = np.unique(self.subject)
        if neutrals and np.isnan(face_set.neutrals[people]).all():
            raise InputError("no training subject has a neutral; train with --no-neutrals")
        self.laplacian = self._laplacian() if recipe.laplacian else None
        self.optimizer = torch.optim.Adam(
            network.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over the weights instead of ten
        )
        self.optimizers = {"auto_encoder": self.optimizer}
        self.networks: dict[str, nn.Module] = {"auto_encoder": network}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator.to(device)
            self.optimizers["discriminator"] = torch.optim.Adam(
                discriminator.parameters(), recipe.discriminator_learning_rate, fused=True
            )
        self.epoch = Epoch()

    def _laplacian(self) -> Tensor:
        row, column, value = uniform_laplacian(
            self.face_set.triangles, self.network.config.vertices
        )
        count = self.network.config.vertices
        index = torch.tensor(np.stack([row, column]), dtype=torch.int64)
        values = torch.tensor(value)
        matrix = torch.sparse_coo_tensor(index, values, (count, count), check_invariants=True)
        return matrix.coalesce().to(self.device)

    @property
    def steps(self) -> int:
        """Steps an epoch has; faces that do not fill a batch wait for the next epoch's order."""
        return max(1, len(self.rows) // self.recipe.batch)

    def run_epoch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, Any] | None:
        """Go on with the current epoch to its end; None if `should_stop` ended it before.

        Returns:
            the epoch's record: mean of every term, learning rate, accuracies.

        Raises:
            InputError: a term is not finite; the record of where is in the message.
        """
        epoch, recipe = self.epoch, self.recipe
        rng = np.random.default_rng([self.seed, ORDER, epoch.number])
        order = rng.permutation(len(self.rows))
        partners = self.pairs.same(order, rng)
        factor = recipe.learning_rate_factor ** (epoch.number // recipe.learning_rate_epochs)
        for name, optimizer in self.optimizers.items():
            base = recipe.learning_rate
            if name == "discriminator":
                base = recipe.discriminator_learning_rate
            optimizer.param_groups[0]["lr"] = base * factor
        self.network.train()
        while epoch.step < self.steps:
            torch.manual_seed(step_seed(self.seed, NOISE, epoch.number, epoch.step))
            part = slice(epoch.step * recipe.batch, (epoch.step + 1) * recipe.batch)
            epoch.add(self._step(order[part], partners[part]))
            on_step(epoch.number + 1, epoch.step, self.steps)
            if epoch.step < self.steps and should_stop():
                return None
        done = {"epoch": epoch.number + 1, "learning_rate": recipe.learning_rate * factor}
        self.epoch = Epoch(epoch.number + 1)
        return done | epoch.means()

    def _faces(self, positions: np.ndarray) -> Tensor:
        """Normalised training faces (B, V, 3)."""
        vertices = torch.from_numpy(
            np.ascontiguousarray(self.face_set.vertices[self.rows[positions]])
        )
        return self.network.normalise(vertices.to(self.device))

    def _step(self, positions: np.ndarray, partners: np.ndarray) -> dict[str, float]:
        """One step of the discriminator, then one of the auto-encoder."""
        recipe, network = self.recipe, self.network
        faces = self._faces(positions)
        posterior, clamped = self._clamp(network.encoder(faces))
        identity_latent = posterior.identity.sample()
        identity = network.identity_decoder(identity_latent)
        expression = network.expression_decoder(posterior.expression.sample())
        identity_faces = network.normalised_mean_face + identity
        judged: dict[str, Tensor] = {}
        if self.discriminator is not None and self.epoch.step % recipe.discriminator_every == 0:
            judged = self._discriminator_step(faces, self._faces(partners), identity_faces.detach())
        terms = {
            "reconstruction": losses.reconstruction_loss(identity_faces + expression, faces),
            "kl_identity": losses.kl_loss(posterior.identity),
            "kl_expression": losses.kl_loss(posterior.expression),
        }
        if self.neutrals:
            terms |= self._neutral_terms(positions, faces, identity_faces, expression)
        if recipe.neutral_latent:
            with frozen_statistics(network.encoder):
                again, _ = self._clamp(network.encoder(identity_faces))
            terms["neutral_latent"] = losses.neutral_latent_loss(
                identity_latent, again.identity.sample()
            )
        if self.laplacian is not None:
            terms["laplacian"] = losses.laplacian_loss(identity_faces, self.laplacian)
        if self.discriminator is not None:
            terms["discriminator"] = self._generator_loss(faces, identity_faces)
        total = losses.sum_terms(terms, losses.loss_weights(recipe, self.epoch.number))
        norm = self._descend(total, terms)
        values = {key: float(term.detach()) for key, term in {**terms, **judged}.items()}
        return values | {
            "total": float(total.detach()),
            "gradient_norm": norm,
            "gradient_clipped": float(norm > recipe.gradient_clip > 0),
            "log_variance_clamped": clamped,
        }

    def _clamp(self, posterior: Posterior) -> tuple[Posterior, float]:
        """Keep log-variances within the recipe's limit; also the share that had to be moved."""
        limit = self.recipe.log_variance_limit
        parts = [Gaussian(mean, lv.clamp(-limit, limit)) for mean, lv in posterior]
        moved = torch.cat([lv.detach().abs() > limit for _, lv in posterior], dim=1)
        return Posterior(*parts), float(moved.float().mean())

    def _noisy(self, faces: Tensor) -> Tensor:
        noise = self.recipe.instance_noise
        return faces + noise * torch.randn_like(faces) if noise else faces

    def _discriminator_step(
        self, faces: Tensor, partners: Tensor, fakes: Tensor
    ) -> dict[str, Tensor]:
        """Real pairs (X, another face of the subject) and fake ones (X, X_id), in one batch."""
        discriminator = self.discriminator
        assert discriminator is not None
        discriminator.train().requires_grad_(True)
        optimizer = self.optimizers["discriminator"]
        optimizer.zero_grad()
        logits = discriminator(
            self._noisy(torch.cat([faces, faces])), self._noisy(torch.cat([partners, fakes]))
        )
        real, fake = logits.split(len(faces))
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
        return losses.same_person_loss(logits)

    def _neutral_terms(
        self, positions: np.ndarray, faces: Tensor, identity_faces: Tensor, expression: Tensor
    ) -> dict[str, Tensor]:
        """Errors against the true neutral, for the faces whose subject has one."""
        neutrals = np.asarray(self.face_set.neutrals[self.subject[positions]])
        known = torch.from_numpy(np.isfinite(neutrals).all(axis=(1, 2))).to(self.device)
        if not known.any():
            return {}
        truth = self.network.normalise(torch.from_numpy(neutrals).to(self.device))[known]
        terms = {"neutral": losses.reconstruction_loss(identity_faces[known], truth)}
        if self.recipe.neutral_expression:
            offsets = faces[known] - truth
            terms["neutral_expression"] = losses.reconstruction_loss(expression[known], offsets)
        return terms

    def _descend(self, total: Tensor, terms: Mapping[str, Tensor]) -> float:
        """One Adam step of the auto-encoder, its gradient norm clipped; returns the norm before."""
        self.optimizer.zero_grad()
        total.backward()
        limit = self.recipe.gradient_clip or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        if not np.isfinite(norm):
            bad = [key for key, term in terms.items() if not bool(torch.isfinite(term).all())]
            raise InputError(
                f"training diverged at epoch {self.epoch.number + 1}, step {self.epoch.step + 1}: "
                f"{', '.join(bad) or 'the gradient'} is not finite; lower the learning rate"
            )
        self.optimizer.step()
        return norm

    def evaluate(self) -> dict[str, Any]:
        """The metrics of METHOD on the test faces, and the validation faces if the set has some."""
        found = {}
        for name, split in EVALUATED.items():
            rows = self.face_set.rows(split)
            if len(rows):
                found[name] = evaluate_face_set(self.predict, self.face_set, rows).metrics
        return found

    @torch.no_grad()
    def predict(self, vertices: np.ndarray) -> Prediction:
        """Reconstructions, identity faces and identity latents by the means, (B, V, 3) mm."""
        network = self.network.eval()
        faces = torch.tensor(vertices, dtype=torch.float32, device=self.device)
        posterior = network.encoder(network.normalise(faces))
        identity = network.identity_decoder(posterior.identity.mean) * network.scale
        expression = network.expression_decoder(posterior.expression.mean) * network.scale
        identity_faces = network.mean_face + identity
        return Prediction(
            (identity_faces + expression).cpu().numpy(),
            identity_faces.cpu().numpy(),
            posterior.identity.mean.cpu().numpy(),
        )
