"""The batches of a training: the order of its faces, their partners and their neutrals."""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedis_core import world
from facedis_core.build import ORDER
from facedis_core.errors import InputError
from facedis_core.faceset import TRAIN, FaceSet
from facedis_core.pairs import FacePairs
from facedis_core.recipe import Recipe
from facedis_core.residence import Residence, place_faces


class Neutrals(NamedTuple):
    """The true neutrals of those faces of a batch whose subject has one.

    Attributes:
        place: (K,) which faces these are.
        truth: (K, V, 3) mm.
        share: K over the mean K of all processes, so that the mean over processes of each one's
            mean times its share is the mean over all these faces.
    """

    place: Tensor
    truth: Tensor
    share: float


class Batch(NamedTuple):
    """What this process sees in one step; lengths in mm.

    Attributes:
        faces: (B, V, 3).
        partners: (B, V, 3) other faces of the same people; None in a step without pairs.
        judged: whether the discriminator takes a step of its own.
        neutrals: None where no process has any.
    """

    faces: Tensor
    partners: Tensor | None = None
    neutrals: Neutrals | None = None
    judged: bool = False


class TrainingBatches:
    """Draws the batches of every epoch; a step's batch is shared out among the processes.

    Args:
        face_set: its training split is used.
        recipe: batch size, and in which steps there are pairs: where the discriminator takes a
            step, and where identities are exchanged in all.
        centre: (V, 3) mm, what float16 offsets are to.
        judged: whether there is a discriminator.
        neutrals: whether steps need neutrals.
        seed: fixes order and pairs.
        device: where batches go.
        residence: where the faces are meanwhile.

    Raises:
        InputError: nobody has a neutral.
        UsageError: the batch does not divide among the processes, or the faces do not fit.
    """

    def __init__(
        self,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        centre: np.ndarray,
        judged: bool,
        neutrals: bool,
        seed: int,
        device: torch.device,
        residence: Residence,
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.judged_every = recipe.discriminator_every if judged else None
        self.rows = face_set.rows(TRAIN)
        world.check_batch("batch", recipe.batch, len(self.rows))
        self.subject = np.asarray(face_set.labels.subject)[self.rows]
        self.pairs = FacePairs(self.subject)
        self.faces = place_faces(face_set.vertices, self.rows, device, residence, centre)
        self.has_neutral = np.zeros(len(self.rows), bool)
        if neutrals:
            people = np.unique(self.subject)
            known = [bool(np.isfinite(face_set.neutrals[person]).all()) for person in people]
            if not any(known):
                raise InputError("no training subject has a neutral; train with --no-neutrals")
            self.has_neutral = np.isin(self.subject, people[known])
            everybody = np.arange(len(face_set.neutrals))
            self.neutrals = place_faces(face_set.neutrals, everybody, device)

    @property
    def steps(self) -> int:
        """Steps an epoch has; faces that do not fill a batch wait for the next epoch's order."""
        return max(1, len(self.rows) // self.recipe.batch)

    def epoch(self, number: int, first: int = 0) -> Generator[Batch, None, None]:
        """The batches of the epoch with that number (from 0), from its step `first` on."""
        size = self.recipe.batch
        order, partners = self._draw(number)
        steps = [slice(k * size, (k + 1) * size) for k in range(first, self.steps)]
        wanted = []
        for step, part in enumerate(steps, start=first):
            both = [world.part(order[part]), world.part(partners[part])]
            wanted.append(np.concatenate(both[: 1 + self._has_pairs(step)]))
        # a face and its partner are read together, the next step's while this one computes
        steps_read = zip(steps, self.faces.each(wanted), strict=True)
        for step, (part, read) in enumerate(steps_read, start=first):
            faces, *others = read.split(len(world.part(order[part])))
            neutrals = self._neutrals(order[part])
            yield Batch(faces, others[0] if others else None, neutrals, self._judged(step))

    def _draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the faces of an epoch in their order, and of their partners."""
        rng = np.random.default_rng([self.seed, ORDER, number])
        order = rng.permutation(len(self.rows))
        return order, self.pairs.same(order, rng)

    def _has_pairs(self, step: int) -> bool:
        return self.recipe.has_partners or self._judged(step)

    def _judged(self, step: int) -> bool:
        return self.judged_every is not None and step % self.judged_every == 0

    def _neutrals(self, positions: np.ndarray) -> Neutrals | None:
        """Of our part of the faces at `positions`, which are those of all processes."""
        everybodys = float(self.has_neutral[positions].mean())
        if not everybodys:
            return None
        mine = world.part(positions)
        known = np.flatnonzero(self.has_neutral[mine])
        truth = self.neutrals.take(self.subject[mine[known]])
        place = torch.from_numpy(known).to(self.device)
        return Neutrals(place, truth, len(known) / len(mine) / everybodys)
