"""Pre-training of the identity discriminator on pairs of real faces."""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.data.face_set import TEST, TRAIN, FaceSet
from facedis_core.errors import ErrorCode, InputError
from facedis_core.nn.augment import random_poses
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.distributed import average_gradients, mean_values, shard, shared_map
from facedis_core.nn.face_pairs import FacePairs
from facedis_core.train.batches import check_batch_size
from facedis_core.train.face_storage import Storage, StreamedFaces, store_faces
from facedis_core.train.profiling import step_part
from facedis_core.train.recipe import Recipe
from facedis_core.train.schedule import steps_per_epoch, total_steps
from facedis_core.train.setup import PRETRAIN, UNSEEN, recipe_poses
from facedis_core.train.trainer import Trainer

# Accuracy on test subjects below which the discriminator has learnt little (chance: 0.5).
NEAR_CHANCE = 0.6


class PairPositions(NamedTuple):
    """Positions of the two faces of each pair; `same` is 1 for one subject, 0 for two; all (B,)."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


class PairBatch(NamedTuple):
    """The faces of B pairs, (2B, V, 3) mm, all first faces before all second; `same` is (B,)."""

    faces: Tensor
    same: np.ndarray


def draw_pairs(pairs: FacePairs, faces: np.ndarray, rng: np.random.Generator) -> PairPositions:
    """A partner for each face, with equal chance of the same and of another subject."""
    same = rng.random(len(faces)) < 0.5
    second = np.where(same, pairs.same_subject(faces, rng), pairs.other_subject(faces, rng))
    return PairPositions(faces, second, same.astype(np.int64))


class DiscriminatorTrainer(Trainer):
    """Pre-training of the discriminator with Adam at a constant learning rate.

    Args:
        discriminator: the network.
        face_set: whose training faces are paired.
        recipe: batch, length and learning rate.
        seed: of pairs and poses.
        device: of the network.
        storage: of the training faces.
        mean_face: (V, 3) mm, for storage as float16 offsets.

    Raises:
        InputError: fewer than two subjects, or none with two faces.
        UsageError: the batch cannot be divided among the processes.
    """

    def __init__(
        self,
        discriminator: IdentityDiscriminator,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        storage: Storage = "auto",
        mean_face: np.ndarray | None = None,
    ) -> None:
        self.discriminator = discriminator.to(device)
        self.face_set, self.recipe = face_set, recipe
        self.poses = recipe_poses(recipe)
        self.rows = face_set.rows(TRAIN)
        pairs = FacePairs(np.asarray(face_set.labels.subject)[self.rows])
        super().__init__(
            pairs=pairs,
            batch=recipe.pretrain_batch,
            steps=total_steps(
                epochs=recipe.pretrain_epochs,
                steps=recipe.pretrain_steps,
                minimum_steps=recipe.pretrain_minimum_steps,
                steps_per_epoch=steps_per_epoch(pairs.faces, recipe.pretrain_batch),
            ),
            stream=PRETRAIN,
            seed=seed,
            device=device,
        )
        check_batch_size("pretrain_batch", recipe.pretrain_batch, pairs.faces)
        if not _can_be_paired(self.pairs):
            raise InputError(
                f"the training faces show {self.pairs.subjects} people, "
                f"{self.pairs.single_face_subjects} of them once; expected at least two people, "
                "and one with two faces",
                ErrorCode.TOO_FEW_FACES,
            )
        self.faces = store_faces(face_set.vertices, self.rows, device, storage, mean_face)
        self.optimizer = torch.optim.Adam(
            discriminator.parameters(), recipe.pretrain_learning_rate, fused=True
        )
        self.networks = {"discriminator": discriminator}
        self.optimizers = {"discriminator": self.optimizer}

    def _learning_rate(self, step: int) -> float:
        return self.recipe.pretrain_learning_rate

    def _start_training(self) -> None:
        self.discriminator.train()

    def _batches(self, number: int, first: int) -> Generator[PairBatch, None, None]:
        size, rng = self.recipe.pretrain_batch, np.random.default_rng([self.seed, PRETRAIN, number])
        drawn = draw_pairs(self.pairs, rng.permutation(len(self.rows)), rng)
        steps = [
            PairPositions(*(shard(array[k * size : (k + 1) * size]) for array in drawn))
            for k in range(first, self.steps_per_epoch)
        ]
        wanted = [np.concatenate([step.first, step.second]) for step in steps]
        for step, faces in zip(steps, self.faces.batches(wanted), strict=True):
            yield PairBatch(faces, step.same)

    def _train_step(self, batch: PairBatch) -> dict[str, float]:
        with step_part("discriminator forward"):
            logits, labels = self._classify(batch, with_poses=True)
            smoothing = self.recipe.label_smoothing
            loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        with step_part("backward"):
            self.optimizer.zero_grad()
            loss.backward()
        with step_part("optimiser"):
            average_gradients(self.discriminator.parameters())
            right = (logits.detach().argmax(dim=1) == labels).to(loss.dtype).mean()
            values = mean_values({"loss": loss, "accuracy": right})
            if not np.isfinite(values["loss"]):
                raise InputError(
                    f"pre-training diverged at epoch {self.epoch.number + 1}, step "
                    f"{self.epoch.step + 1}: the loss is not finite; lower pretrain_learning_rate",
                    ErrorCode.DIVERGED,
                )
            self.optimizer.step()
        return values

    def _classify(self, pairs: PairBatch, *, with_poses: bool = False) -> tuple[Tensor, Tensor]:
        """Logits (B, 2) and labels (B,) of the pairs."""
        origin, scale = self.discriminator.origin, self.discriminator.scale
        first, second = ((pairs.faces - origin) / scale).chunk(2)
        if with_poses:
            first, second = (random_poses(half, self.poses, scale) for half in (first, second))
        logits = self.discriminator(first, second)
        return logits, torch.from_numpy(pairs.same).to(self.device)

    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The accuracy on training pairs in this epoch, and on pairs of test subjects now."""
        return {
            "accuracy": record["accuracy"],
            "unseen_accuracy": self.accuracy_on_unseen_subjects(),
        }

    @torch.no_grad()
    def accuracy_on_unseen_subjects(self) -> float | None:
        """Share of pairs classified correctly, of test subjects who have no training face.

        None if there are too few, as in a split by frames.
        """
        subject = np.asarray(self.face_set.labels.subject)
        rows = self.face_set.rows(TEST)
        rows = rows[~np.isin(subject[rows], subject[self.rows])]
        pairs = FacePairs(subject[rows])
        if not _can_be_paired(pairs):
            return None
        rng = np.random.default_rng([self.seed, UNSEEN])
        drawn = draw_pairs(pairs, rng.permutation(len(rows)), rng)
        self.discriminator.eval()
        faces = StreamedFaces(self.face_set.vertices, rows, self.device)

        def hits(start: int) -> int:
            part = slice(start, start + self.recipe.pretrain_batch)
            both = faces.batch(np.concatenate([drawn.first[part], drawn.second[part]]))
            logits, labels = self._classify(PairBatch(both, drawn.same[part]))
            return int((logits.argmax(dim=1) == labels).sum())

        starts = range(0, len(rows), self.recipe.pretrain_batch)
        return sum(shared_map(hits, starts)) / len(rows)


def _can_be_paired(pairs: FacePairs) -> bool:
    """Whether both pairs of one subject and pairs of two subjects exist."""
    return pairs.subjects >= 2 and pairs.single_face_subjects < pairs.subjects
