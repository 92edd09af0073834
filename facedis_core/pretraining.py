"""Pre-training of the identity discriminator on pairs of real faces."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core import world
from facedis_core.build import PRETRAIN, UNSEEN, fast_products, step_seed
from facedis_core.config import Recipe
from facedis_core.errors import InputError, Stopped
from facedis_core.faceset import TEST, TRAIN, FaceSet
from facedis_core.networks import IdentityDiscriminator
from facedis_core.pairs import FacePairs
from facedis_core.residence import StreamedFaces, place_faces

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
        world.check_batch("pretrain_batch", recipe.pretrain_batch)
        self.rows = face_set.rows(TRAIN)
        self.pairs = FacePairs(np.asarray(face_set.labels.subject)[self.rows])
        if self.pairs.subjects < 2 or self.pairs.singles == self.pairs.subjects:
            raise InputError(
                f"the training faces show {self.pairs.subjects} people, {self.pairs.singles} of "
                "them once; expected at least two people, and one with two faces"
            )
        self.faces = place_faces(face_set.vertices, self.rows, device)
        self.judge = world.shared(discriminator)
        self.optimizer = torch.optim.Adam(
            discriminator.parameters(), recipe.pretrain_learning_rate, fused=True
        )
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
                unseen = self.accuracy_on_unseen() if world.leads() else None
                record = found | {"unseen_accuracy": unseen}
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
        size, values = self.recipe.pretrain_batch, []
        self.discriminator.train()
        steps = max(1, len(self.rows) // size)
        parts = [
            PairBatch(*(world.part(array[k * size : (k + 1) * size]) for array in batch))
            for k in range(steps)
        ]
        faces = self.faces.each([np.concatenate([part.first, part.second]) for part in parts])
        with fast_products(self.device), closing(faces):
            for step, (part, read) in enumerate(zip(parts, faces, strict=True)):
                torch.manual_seed(step_seed(self.seed, PRETRAIN, self.epoch, step))
                values.append(self._step(read, part.same))
                if not np.isfinite(values[-1][0]):
                    raise InputError(
                        f"pre-training diverged at epoch {self.epoch + 1}, step {step + 1}; "
                        "lower pretrain_learning_rate"
                    )
                on_step(self.epoch + 1, step + 1, steps)
                if step + 1 < steps and should_stop():
                    return None
        loss, accuracy = np.mean(values, axis=0)
        self.epoch += 1
        return {
            "epoch": self.epoch,
            "loss": float(loss),
            "accuracy": float(accuracy),
        }

    def _step(self, faces: Tensor, same: np.ndarray) -> list[float]:
        """One step on pairs (2B, V, 3) mm, first all first faces; the loss and the accuracy."""
        logits, labels = self._judge(self.judge, faces, same)
        smoothing = self.recipe.label_smoothing
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        right = (logits.detach().argmax(dim=1) == labels).to(loss.dtype).mean()
        return world.averaged(torch.stack([loss.detach(), right])).tolist()

    def _judge(self, judge: nn.Module, faces: Tensor, same: np.ndarray) -> tuple[Tensor, Tensor]:
        discriminator = self.discriminator
        first, second = ((faces - discriminator.origin) / discriminator.scale).chunk(2)
        return judge(first, second), torch.from_numpy(same).to(self.device)

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
        faces = StreamedFaces(self.face_set.vertices, rows, self.device)
        right = 0
        for start in range(0, len(rows), self.recipe.pretrain_batch):
            part = slice(start, start + self.recipe.pretrain_batch)
            both = faces.take(np.concatenate([batch.first[part], batch.second[part]]))
            logits, labels = self._judge(self.discriminator, both, batch.same[part])
            right += int((logits.argmax(dim=1) == labels).sum())
        return right / len(rows)
