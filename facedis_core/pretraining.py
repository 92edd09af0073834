"""Pre-training of the identity discriminator on pairs of real faces."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.build import PRETRAIN, UNSEEN, step_seed
from facedis_core.config import Recipe
from facedis_core.errors import InputError, Stopped
from facedis_core.faceset import TEST, TRAIN, FaceSet
from facedis_core.networks import IdentityDiscriminator
from facedis_core.pairs import FacePairs

# Accuracy on unseen people below which the discriminator has not learned to tell them apart.
NEAR_CHANCE = 0.6


class PairBatch(NamedTuple):
    """Positions of two faces a pair, and whether they show one person (1) or two (0); all (B,)."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


def draw_pairs(pairs: FacePairs, faces: np.ndarray, rng: np.random.Generator) -> PairBatch:
    """A partner for each face, with equal chance of the same and of a different subject."""
    same = rng.random(len(faces)) < 0.5
    second = np.where(same, pairs.same(faces, rng), pairs.different(faces, rng))
    return PairBatch(faces, second, same.astype(np.int64))


class PreTrainer:
    """The state of one pre-training; Adam at a constant learning rate.

    Raises:
        InputError: fewer than two people to tell apart, or nobody with two faces.
    """

    def __init__(
        self,
        discriminator: IdentityDiscriminator,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.discriminator = discriminator.to(device)
        self.face_set, self.recipe, self.seed, self.device = face_set, recipe, seed, device
        self.rows = face_set.rows(TRAIN)
        self.pairs = FacePairs(np.asarray(face_set.labels.subject)[self.rows])
        if self.pairs.subjects < 2 or self.pairs.singles == self.pairs.subjects:
            raise InputError(
                f"the training faces show {self.pairs.subjects} people, {self.pairs.singles} of "
                "them once; expected at least two people, and one with two faces"
            )
        self.optimizer = torch.optim.Adam(discriminator.parameters(), recipe.pretrain_learning_rate)
        self.epoch = 0

    def train(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_epoch: Sequence[Callable[[dict[str, Any]], None]] = (),
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, float | None]:
        """All epochs of the recipe; returns the accuracy on training pairs and on unseen people.

        Raises:
            Stopped: `should_stop` said so.
            InputError: the loss is not finite.
        """
        record: dict[str, Any] = {}
        epochs = self.recipe.pretrain_epochs
        while self.epoch < epochs:
            found = self.run_epoch(should_stop, on_step)
            if found is not None:
                record = found | {"unseen_accuracy": self.accuracy_on_unseen()}
                for tell in on_epoch:
                    tell(record)
            if found is None or (self.epoch < epochs and should_stop()):
                raise Stopped(f"stopped in epoch {self.epoch + 1} of {epochs}; nothing was written")
        return {key: record.get(key) for key in ("accuracy", "unseen_accuracy")}

    def run_epoch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, Any] | None:
        """One pass over the training faces; None if `should_stop` ended it before."""
        rng = np.random.default_rng([self.seed, PRETRAIN, self.epoch])
        batch = draw_pairs(self.pairs, rng.permutation(len(self.rows)), rng)
        size, losses, right = self.recipe.pretrain_batch, [], []
        self.discriminator.train()
        steps = max(1, len(self.rows) // size)
        for step in range(steps):
            torch.manual_seed(step_seed(self.seed, PRETRAIN, self.epoch, step))
            part = slice(step * size, (step + 1) * size)
            logits, labels = self._judge(PairBatch(*(array[part] for array in batch)), self.rows)
            loss = functional.cross_entropy(
                logits, labels, label_smoothing=self.recipe.label_smoothing
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.detach()))
            right.append(float((logits.detach().argmax(dim=1) == labels).float().mean()))
            if not np.isfinite(losses[-1]):
                raise InputError(
                    f"pre-training diverged at epoch {self.epoch + 1}, step {step + 1}; "
                    "lower pretrain_learning_rate"
                )
            on_step(self.epoch + 1, step + 1, steps)
            if step + 1 < steps and should_stop():
                return None
        self.epoch += 1
        return {
            "epoch": self.epoch,
            "loss": float(np.mean(losses)),
            "accuracy": float(np.mean(right)),
        }

    def _judge(self, batch: PairBatch, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        faces = []
        for positions in (batch.first, batch.second):
            vertices = np.ascontiguousarray(self.face_set.vertices[rows[positions]])
            faces.append(torch.from_numpy(vertices).to(self.device))
        origin, scale = self.discriminator.origin, self.discriminator.scale
        logits = self.discriminator(*((face - origin) / scale for face in faces))
        return logits, torch.from_numpy(batch.same).to(self.device)

    @torch.no_grad()
    def accuracy_on_unseen(self) -> float | None:
        """Share of pairs judged rightly among test people who are in no training face.

        None where there are too few of them, as in a split by frames.
        """
        subject = np.asarray(self.face_set.labels.subject)
        rows = self.face_set.rows(TEST)
        rows = rows[~np.isin(subject[rows], subject[self.rows])]
        pairs = FacePairs(subject[rows])
        if pairs.subjects < 2 or pairs.singles == pairs.subjects:
            return None
        rng = np.random.default_rng([self.seed, UNSEEN])
        batch = draw_pairs(pairs, rng.permutation(len(rows)), rng)
        self.discriminator.eval()
        right = 0
        for start in range(0, len(rows), self.recipe.pretrain_batch):
            part = slice(start, start + self.recipe.pretrain_batch)
            logits, labels = self._judge(PairBatch(*(array[part] for array in batch)), rows)
            right += int((logits.argmax(dim=1) == labels).sum())
        return right / len(rows)
