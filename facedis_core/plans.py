"""From what a user asks for to a run that can start: files read, checked, fitted together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from facedis_core import world
from facedis_core.autoencoder import AutoEncoder
from facedis_core.build import (
    Frame,
    build_auto_encoder,
    build_discriminator,
    training_frame,
)
from facedis_core.checkpoint import (
    export_model,
    load_discriminator,
    network_from_model,
    write_discriminator,
)
from facedis_core.discriminator import IdentityDiscriminator
from facedis_core.errors import UsageError
from facedis_core.faceset import TEST, FaceSet, load_face_set
from facedis_core.fitting import check_discriminator, check_network, check_same_topology
from facedis_core.history import HistoryStep, history_step, merged, with_output
from facedis_core.inference import load_model, write_model
from facedis_core.pretraining import PreTrainer
from facedis_core.recipe import Recipe, load_recipe, recipe_for, recipe_names
from facedis_core.residence import Residence
from facedis_core.runs import RunFiles, TrainingRun
from facedis_core.streams import file_id
from facedis_core.training import Trainer
from facedis_core.winners import Precision

NO_DISCRIMINATOR = "none"
UNTRAINED_DISCRIMINATOR = "untrained"


@dataclass(frozen=True, kw_only=True)
class PretrainingPlan:
    """What to pre-train on what: paths and names as a user gives them.

    Attributes:
        face_set: path of the set.
        recipe: name or TOML file; None takes the one of the set's source.
        changes: `key=value` strings that replace values of the recipe.
        neutrals: take the recipe's values for training with neutrals.
        checkpoint_minutes: how much work a run loses that is killed.
        with_history: store the commands that made the result in it.
    """

    face_set: str
    recipe: str | None = None
    changes: Sequence[str] = ()
    neutrals: bool = False
    seed: int = 0
    checkpoint_minutes: float = 2.0
    with_history: bool = True

    def load_recipe(self, faces: FaceSet) -> Recipe:
        """The recipe with its changes.

        Raises:
            UsageError: unknown recipe, key or value.
        """
        name = self.recipe or recipe_for(faces.source)
        return load_recipe(name, neutrals=self.neutrals, changes=self.changes)

    def options(self, faces: FaceSet) -> dict[str, Any]:
        """What of this affects the result, for the history."""
        return {
            "recipe": Path(self.recipe or recipe_for(faces.source)).name,
            "set": list(self.changes) or None,
            "neutrals": self.neutrals,
            "seed": self.seed,
        }

    def own_recipe(self) -> dict[str, str]:
        """The id of a recipe of the user's own, for the history; its name says little."""
        if self.recipe is None or self.recipe in recipe_names():
            return {}
        return {"recipe": file_id(Path(self.recipe).read_bytes())}


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(PretrainingPlan):
    """What to train on what.

    Attributes:
        discriminator: path of a pre-trained one, `none`, or None for a fresh one.
        init: model to take the first weights from.
        precision: of the products that choose the vertices, fp32 or bf16.
        residence: where the faces are while it trains.
        evaluate_every: epochs between two looks at the test faces.
    """

    discriminator: str | None = None
    init: str | None = None
    precision: Precision = "fp32"
    residence: Residence = "auto"
    evaluate_every: int = 1

    def options(self, faces: FaceSet) -> dict[str, Any]:
        """What of this affects the result, for the history."""
        return super().options(faces) | self.unusual()

    def unusual(self) -> dict[str, Any]:
        """Ways of computing that are not the usual one and change the result."""
        unusual: dict[str, Any] = {}
        if self.precision != "fp32":
            unusual["precision"] = self.precision
        if self.residence == "half":
            unusual["data"] = self.residence
        return unusual


@dataclass
class _Parts:
    """What has been read so far: provenance, ids of inputs, and things the user should know."""

    history: list[HistoryStep]
    inputs: dict[str, str]
    notes: list[str] = field(default_factory=list)


class PreparedRun(NamedTuple):
    """A run that is ready, and notes for the person who started it."""

    run: TrainingRun
    notes: list[str]


def prepare_pretraining(
    plan: PretrainingPlan, files: RunFiles, device: torch.device
) -> PreparedRun:
    """Read and check everything a pre-training needs.

    Raises:
        UsageError: unknown recipe or key, or a batch that does not divide among processes.
        InputError: not a whole face set, or one with too few people.
    """
    faces = load_face_set(plan.face_set)
    recipe = plan.load_recipe(faces)
    identity = recipe.as_dict()
    identity |= {"set id": faces.id, "neutrals": plan.neutrals, "seed": plan.seed}
    world.check_alike(identity, device)
    network = build_discriminator(recipe, training_frame(faces, recipe), plan.seed)
    inputs = {"set": faces.id, **plan.own_recipe()}
    entry = history_step("fd-pretrain-disc", inputs, plan.options(faces))
    history = [*with_output(faces.history, faces.id), entry] if plan.with_history else []
    run = TrainingRun(
        PreTrainer(network, faces, recipe, seed=plan.seed, device=device),
        files,
        lambda stream, metrics: write_discriminator(
            stream, network, faces.topology, metrics, history
        ),
        identity=identity,
        checkpoint_minutes=plan.checkpoint_minutes,
    )
    return PreparedRun(run, [])


def prepare_run(plan: TrainingPlan, files: RunFiles, device: torch.device) -> PreparedRun:
    """Read and check everything a training needs.

    Raises:
        UsageError: unknown recipe or key, or a batch that does not divide among processes.
        InputError: files that are broken or do not belong together.
    """
    faces = load_face_set(plan.face_set)
    recipe = plan.load_recipe(faces)
    parts = _Parts(with_output(faces.history, faces.id), {"set": faces.id})
    frame, network = _auto_encoder(plan, recipe, faces, parts)
    discriminator = _discriminator(plan, recipe, frame, faces, parts)
    adversary = NO_DISCRIMINATOR if discriminator is None else UNTRAINED_DISCRIMINATOR
    inputs = {"discriminator": adversary, **parts.inputs}
    identity = recipe.as_dict() | {f"{key} id": value for key, value in inputs.items()}
    identity |= {"neutrals": plan.neutrals, "seed": plan.seed} | plan.unusual()
    world.check_alike(identity, device)
    trainer = Trainer(
        network,
        discriminator,
        faces,
        recipe,
        neutrals=plan.neutrals,
        seed=plan.seed,
        device=device,
        precision=plan.precision,
        residence=plan.residence,
    )
    singles = trainer.batches.pairs.singles
    if singles and (discriminator is not None or recipe.has_partners):
        parts.notes.append(f"{singles} training subjects have one face, which is its own partner")
    if recipe.has_partners and singles == trainer.batches.pairs.subjects:
        parts.notes.append("nobody has two faces, so nothing tells identity from expression")
    if recipe.points and not hasattr(network.config, "points"):
        parts.notes.append(
            f"the {recipe.network} network looks at all vertices, whatever points says"
        )
    if not len(faces.rows(TEST)):
        parts.notes.append("the set has no test faces; the log will show losses only")
    entry = history_step("fd-train", {**inputs, **plan.own_recipe()}, plan.options(faces))
    history = [*parts.history, entry] if plan.with_history else []

    def write(stream: BinaryIO, metrics: dict[str, Any]) -> str:
        model = export_model(
            network,
            faces.preparation,
            reach_mm=frame.reach_mm,
            recipe=recipe.as_dict(),
            metrics=metrics,
            history=history,
        )
        return write_model(stream, model)

    run = TrainingRun(
        trainer,
        files,
        write,
        identity=identity,
        evaluate_every=plan.evaluate_every,
        checkpoint_minutes=plan.checkpoint_minutes,
    )
    return PreparedRun(run, parts.notes)


def _auto_encoder(
    plan: TrainingPlan, recipe: Recipe, faces: FaceSet, parts: _Parts
) -> tuple[Frame, AutoEncoder]:
    """A fresh network, or that of `--init` in the frame it was trained in."""
    if plan.init is None:
        frame = training_frame(faces, recipe)
        return frame, build_auto_encoder(recipe, frame, faces, plan.seed)
    model = load_model(plan.init)
    check_same_topology(plan.init, model.topology, faces)
    check_network(plan.init, model.config, recipe)
    if model.config.fixed_basis and recipe.has_poses and not model.recipe.get("pose_degrees"):
        parts.notes.append(
            f"{plan.init} has only seen heads that lie alike, and its components, which stay, hold "
            "no others; train anew to keep poses out of the identity"
        )
    parts.inputs["init"] = model.id
    parts.history = merged(parts.history, with_output(model.history, model.id))
    return training_frame(faces, recipe, like=model), network_from_model(model)


def _discriminator(
    plan: TrainingPlan, recipe: Recipe, frame: Frame, faces: FaceSet, parts: _Parts
) -> IdentityDiscriminator | None:
    """The pre-trained one, a fresh one, or none; it must be built as the recipe says."""
    if plan.discriminator == NO_DISCRIMINATOR:
        return None
    if not recipe.discriminator:
        if plan.discriminator is not None:
            raise UsageError(
                f"the recipe has no use for {plan.discriminator}, its weight `discriminator` is 0; "
                "leave out --discriminator, or give it a weight with --set discriminator=W"
            )
        return None
    if plan.discriminator is None:
        parts.notes.append(
            "the discriminator starts untrained; the paper pre-trains it with fd-pretrain-disc"
        )
        return build_discriminator(recipe, frame, plan.seed)
    stored = load_discriminator(plan.discriminator)
    check_same_topology(plan.discriminator, stored.topology, faces)
    check_discriminator(plan.discriminator, stored.network, recipe, frame)
    parts.inputs["discriminator"] = stored.id
    parts.history = merged(parts.history, with_output(stored.history, stored.id))
    return stored.network
