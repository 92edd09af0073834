"""Training batches: the order of the faces, their partners of the same subject, their neutrals."""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedis_core.data.face_set import TRAIN, FaceSet
from facedis_core.errors import ErrorCode, UsageError
from facedis_core.nn.distributed import shard, world_size
from facedis_core.nn.face_pairs import FacePairs
from facedis_core.train.face_storage import Storage, store_faces
from facedis_core.train.recipe import Recipe
from facedis_core.train.schedule import steps_per_epoch
from facedis_core.train.setup import ORDER, subjects_with_neutral


class Neutrals(NamedTuple):
    """The true neutrals of those faces of a batch whose subject has one.

    Attributes:
        places: (K,) positions of these faces in the batch.
        vertices: (K, V, 3) mm.
        weight: K over the mean K of all processes, so that the mean over the processes of (mean
            over K times weight) is the mean over all these faces.
    """

    places: Tensor
    vertices: Tensor
    weight: float


class Batch(NamedTuple):
    """The faces of one step in this process; lengths in mm.

    Attributes:
        faces: (B, V, 3).
        partners: (B, V, 3) other faces of the same subjects; None in a step without pairs.
        neutrals: None if no face of the whole batch has one.
        train_discriminator: whether the discriminator is trained in this step.
        positions: int (B,) of the faces among the training faces.
    """

    faces: Tensor
    partners: Tensor | None = None
    neutrals: Neutrals | None = None
    train_discriminator: bool = False
    positions: np.ndarray = np.empty(0, np.int64)


def check_batch_size(key: str, batch: int, faces: int) -> None:
    """Raise UsageError unless a batch can be divided among the processes.

    Args:
        key: of the recipe, for the message.
        batch: number of faces in a batch.
        faces: number of training faces; fewer than a batch are one batch.
    """
    processes = world_size()
    if faces < processes:
        raise UsageError(
            f"{faces} training faces are too few for {processes} processes", ErrorCode.PROCESS_COUNT
        )
    used = min(batch, faces)
    if used % processes:
        raise UsageError(
            f"{key} is {batch}, and {used} faces cannot be shared evenly by {processes} processes; "
            f"try --set {key}={max(processes, used - used % processes)}",
            ErrorCode.PROCESS_COUNT,
        )


class TrainingBatches:
    """The batches of every epoch, each divided among the processes.

    Args:
        face_set: only its training split is used.
        recipe: batch size, and which steps need partners: those that train the discriminator, or
            all where identities are exchanged.
        mean_face: (V, 3) mm, for storage as float16 offsets.
        with_discriminator: whether there is a discriminator.
        with_neutrals: whether batches have neutrals.
        seed: of the order of faces and their partners.
        device: of the batches.
        storage: of the training faces.

    Raises:
        InputError: no subject has a neutral.
        UsageError: the batch cannot be divided among the processes, or the faces do not fit on the
            device.
    """

    def __init__(
        self,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        mean_face: np.ndarray,
        with_discriminator: bool,
        with_neutrals: bool,
        seed: int,
        device: torch.device,
        storage: Storage,
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.discriminator_every = recipe.discriminator_every if with_discriminator else None
        self.rows = face_set.rows(TRAIN)
        check_batch_size("batch", recipe.batch, len(self.rows))
        self.subject = np.asarray(face_set.labels.subject)[self.rows]
        self.pairs = FacePairs(self.subject)
        self.faces = store_faces(face_set.vertices, self.rows, device, storage, mean_face)
        self.has_neutral = np.zeros(len(self.rows), bool)
        if with_neutrals:
            self.has_neutral = np.isin(self.subject, subjects_with_neutral(face_set))
            self.neutrals = store_faces(
                face_set.neutrals, np.arange(len(face_set.neutrals)), device
            )

    def epoch(self, number: int, first: int = 0) -> Generator[Batch, None, None]:
        """The batches of the epoch with that number (from 0), starting at step `first`."""
        size = self.recipe.batch
        order, partners = self._draw(number)
        count = steps_per_epoch(len(self.rows), size)
        steps = [slice(k * size, (k + 1) * size) for k in range(first, count)]
        wanted = []
        for step, part in enumerate(steps, start=first):
            positions = [shard(order[part]), shard(partners[part])]
            wanted.append(np.concatenate(positions[: 1 + self._has_pairs(step)]))
        # a face and its partner are read together, while the step before is computed
        steps_read = zip(steps, self.faces.batches(wanted), strict=True)
        for step, (part, both) in enumerate(steps_read, start=first):
            faces, *others = both.split(len(shard(order[part])))
            yield Batch(
                faces,
                others[0] if others else None,
                self._neutrals(order[part]),
                self._trains_discriminator(step),
                shard(order[part]),
            )

    def _draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the faces of an epoch in their order, and of their partners."""
        rng = np.random.default_rng([self.seed, ORDER, number])
        order = rng.permutation(len(self.rows))
        return order, self.pairs.same_subject(order, rng)

    def _has_pairs(self, step: int) -> bool:
        return self.recipe.has_partners or self._trains_discriminator(step)

    def _trains_discriminator(self, step: int) -> bool:
        return self.discriminator_every is not None and step % self.discriminator_every == 0

    def _neutrals(self, positions: np.ndarray) -> Neutrals | None:
        """Neutrals of this process's faces; `positions` are those of the whole batch."""
        share = float(self.has_neutral[positions].mean())
        if not share:
            return None
        ours = shard(positions)
        known = np.flatnonzero(self.has_neutral[ours])
        vertices = self.neutrals.batch(self.subject[ours[known]])
        places = torch.from_numpy(known).to(self.device)
        return Neutrals(places, vertices, len(known) / len(ours) / share)
