"""Training of a network that has losses of its own: its players take turns in every step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.data.face_set import FaceSet
from facedis_core.nn.augment import random_poses
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.distributed import average_gradients, mean_values
from facedis_core.nn.objective import AUTO_ENCODER, KnownNeutrals, LabelledFaces, Objective, Turn
from facedis_core.train.auto_encoder_trainer import AutoEncoderTrainer
from facedis_core.train.batches import Batch
from facedis_core.train.face_storage import Storage
from facedis_core.train.profiling import step_part
from facedis_core.train.recipe import Recipe


class ObjectiveTrainer(AutoEncoderTrainer):
    """Each step updates the parameters of the players of an objective, one after the other.

    Args:
        network: the auto-encoder.
        objective: its losses.
        face_set, recipe, neutrals, seed, device, storage: as for `AutoEncoderTrainer`.
    """

    def __init__(
        self,
        network: AutoEncoder,
        objective: Objective,
        face_set: FaceSet,
        recipe: Recipe,
        *,
        neutrals: bool,
        seed: int,
        device: torch.device,
        storage: Storage = "auto",
    ) -> None:
        super().__init__(
            network,
            face_set,
            recipe,
            with_discriminator=False,
            neutrals=neutrals,
            seed=seed,
            device=device,
            storage=storage,
        )
        self.objective = objective
        self.networks |= {name: each.to(device) for name, each in objective.networks.items()}
        self.optimizers = {name: self._optimizer(name) for name in objective.networks}
        expression = np.asarray(face_set.labels.expression)[self.batches.rows]
        self.person, self.expression = (
            torch.from_numpy(np.unique(each, return_inverse=True)[1].astype(np.int64)).to(device)
            for each in (self.batches.subject, expression)
        )

    def _optimizer(self, player: str) -> torch.optim.Optimizer:
        recipe, parameters = self.recipe, self.objective.parameters(player)
        groups: list[dict[str, Any]] = [
            {"params": parameters.decayed, "weight_decay": recipe.weight_decay},
            {"params": parameters.others, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum)
        return torch.optim.Adam(groups, recipe.learning_rate, fused=True)

    def _start_training(self) -> None:
        for network in self.objective.networks.values():
            network.train()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        self._set_learning_rates()
        values: dict[str, float] = {}
        turns = self.objective.turns(self._labelled(batch))
        while True:
            with step_part("losses"):
                turn = next(turns, None)
            if turn is None:
                break
            values |= self._update(turn)
        if self.average is not None:
            self.average.update(self.steps_done)
        return values

    def _labelled(self, batch: Batch) -> LabelledFaces:
        normalise, known = self.network.normalise, batch.neutrals
        positions = torch.from_numpy(batch.positions).to(self.device)
        neutrals = None
        if known is not None:
            neutrals = KnownNeutrals(known.places, normalise(known.vertices), known.weight)
        return LabelledFaces(
            random_poses(normalise(batch.faces), self.poses, self.network.scale),
            self.person[positions],
            self.expression[positions],
            neutrals,
            self.steps_done / self.steps,
        )

    def _update(self, turn: Turn) -> dict[str, float]:
        """One step of the optimiser of a player; the values for the log."""
        optimizer = self.optimizers[turn.player]
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        with step_part("backward"):
            optimizer.zero_grad()
            turn.total.backward()
        with step_part("optimiser"):
            average_gradients(parameters)
            limit = self.recipe.gradient_clip or float("inf")
            norm = nn.utils.clip_grad_norm_(parameters, limit)
            found: dict[str, Tensor] = {**turn.terms, **turn.values}
            if turn.player == AUTO_ENCODER:
                found |= {"total": turn.total, "gradient_norm": norm}
            values = mean_values(found)
            self._check_finite(values)
            optimizer.step()
        return values
