"""Pre-training of the identity discriminator on pairs of real faces."""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core import world
from facedis_core.build import PRETRAIN, UNSEEN, posed_for
from facedis_core.discriminator import IdentityDiscriminator
from facedis_core.epochs import Learner
from facedis_core.errors import InputError
from facedis_core.faceset import TEST, TRAIN, FaceSet
from facedis_core.pairs import FacePairs
from facedis_core.profiling import step_part
from facedis_core.recipe import Recipe
from facedis_core.residence import StreamedFaces, place_faces

# Accuracy on unseen people below which the discriminator has not learned to tell them apart.
NEAR_CHANCE = 0.6


class PairBatch(NamedTuple):
    """Positions of two faces a pair, and whether they show one person (1) or two (0); all (B,)."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


class Pairs(NamedTuple):
    """The faces of pairs, first all first ones, (2B, V, 3) mm; one person (1) or two (0), (B,)."""

    faces: Tensor
    same: np.ndarray


def draw_pairs(pairs: FacePairs, faces: np.ndarray, rng: np.random.Generator) -> PairBatch:
    """A partner for each face, with equal chance of the same and of a different subject."""
    same = rng.random(len(faces)) < 0.5
    second = np.where(same, pairs.same(faces, rng), pairs.different(faces, rng))
    return PairBatch(faces, second, same.astype(np.int64))


class PreTrainer(Learner):
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
        self.face_set, self.recipe = face_set, recipe
        self.rows = face_set.rows(TRAIN)
        super().__init__(
            epochs=recipe.pretrain_epochs,
            steps=max(1, len(self.rows) // recipe.pretrain_batch),
            stream=PRETRAIN,
            seed=seed,
            device=device,
        )
        world.check_batch("pretrain_batch", recipe.pretrain_batch, len(self.rows))
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
        self.networks = {"discriminator": discriminator}
        self.optimizers = {"discriminator": self.optimizer}

    def _begin(self, number: int) -> dict[str, float]:
        self.discriminator.train()
        return {}

    def _batches(self, number: int, first: int) -> Generator[Pairs, None, None]:
        size, rng = self.recipe.pretrain_batch, np.random.default_rng([self.seed, PRETRAIN, number])
        drawn = draw_pairs(self.pairs, rng.permutation(len(self.rows)), rng)
        parts = [
            PairBatch(*(world.part(array[k * size : (k + 1) * size]) for array in drawn))
            for k in range(first, self.steps)
        ]
        wanted = [np.concatenate([part.first, part.second]) for part in parts]
        for part, faces in zip(parts, self.faces.each(wanted), strict=True):
            yield Pairs(faces, part.same)

    def _step(self, batch: Pairs) -> dict[str, float]:
        smoothing = self.recipe.label_smoothing
        with step_part("discriminator forward"):
            logits, labels = self._judge(self.judge, batch, posed=True)
            loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        with step_part("backward"):
            self.optimizer.zero_grad()
            loss.backward()
        with step_part("optimiser"):
            right = (logits.detach().argmax(dim=1) == labels).to(loss.dtype).mean()
            values = world.read({"loss": loss, "accuracy": right})
            if not np.isfinite(values["loss"]):
                raise InputError(
                    f"pre-training diverged at epoch {self.epoch.number + 1}, step "
                    f"{self.epoch.step + 1}: the loss is not finite; lower pretrain_learning_rate"
                )
            self.optimizer.step()
        return values

    def _judge(
        self, judge: nn.Module, pairs: Pairs, *, posed: bool = False
    ) -> tuple[Tensor, Tensor]:
        origin, scale = self.discriminator.origin, self.discriminator.scale
        first, second = ((pairs.faces - origin) / scale).chunk(2)
        if posed:
            first, second = (posed_for(self.recipe, half, scale) for half in (first, second))
        return judge(first, second), torch.from_numpy(pairs.same).to(self.device)

    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The accuracy on training pairs in that epoch, and on unseen people now."""
        unseen = self.accuracy_on_unseen()
        return {"accuracy": record["accuracy"], "unseen_accuracy": unseen}

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
            logits, labels = self._judge(self.discriminator, Pairs(both, batch.same[part]))
            right += int((logits.argmax(dim=1) == labels).sum())
        return right / len(rows)
