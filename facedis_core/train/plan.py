"""Options of fd-train and fd-pretrain-disc, and the runs that are prepared from them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, get_args

import numpy as np
import torch

from facedis_core.data.face_set import TRAIN, FaceSet, load_face_set, stream_face_set
from facedis_core.data.history import HistoryStep, history_step, merged, with_output
from facedis_core.data.pseudo_neutrals import LEAST_FACES, concentration
from facedis_core.errors import ErrorCode, UsageError
from facedis_core.evaluate.conditions import training_condition
from facedis_core.io.streams import file_id
from facedis_core.io.urls import is_url
from facedis_core.model.model_file import load_model, write_model
from facedis_core.model.networks import network_named
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.inference import network_from_model
from facedis_core.nn.max_pool.argmax import Precision
from facedis_core.nn.max_pool.layer import has_pooling
from facedis_core.nn.objective import Objective
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.auto_encoder_trainer import EVALUATED, AutoEncoderTrainer
from facedis_core.train.checkpoint import (
    export_model,
    load_discriminator,
    write_discriminator,
)
from facedis_core.train.discriminator_trainer import DiscriminatorTrainer
from facedis_core.train.face_storage import Storage
from facedis_core.train.objective_trainer import ObjectiveTrainer
from facedis_core.train.recipe import Recipe, load_recipe, recipe_content
from facedis_core.train.run import RunFiles, TrainingRun, check_same_run
from facedis_core.train.setup import (
    INITIAL,
    CoordinateFrame,
    build_auto_encoder,
    build_discriminator,
    check_discriminator,
    check_network,
    check_same_topology,
    initial_data,
    recipe_poses,
    step_seed,
    subjects_with_neutral,
    training_frame,
    with_pseudo_neutrals,
)
from facedis_core.train.trainer import Trainer

NO_DISCRIMINATOR: Final = "none"
UNTRAINED_DISCRIMINATOR: Final = "untrained"
_WITH_DISCRIMINATOR: Final = (
    "choose a recipe with one (pointnet, coma, bu3dfe, facescape), or set a weight with --set "
    "discriminator=W"
)


class PreparedRun(NamedTuple):
    """A run that can start, and warnings for the user."""

    run: TrainingRun
    warnings: list[str]


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """Options of both commands.

    Attributes:
        face_set: a face set, or its path.
        recipe: name or TOML file.
        changes: `key=value` strings that override values of the recipe.
        neutrals: train with neutrals.
        storage: of the training faces.
        seed: of all random numbers.
        checkpoint_minutes: minutes between checkpoints.
        with_history: store the commands that made the result in it.

    Raises:
        UsageError: a number out of range or an unknown choice.
    """

    face_set: FaceSet | str
    recipe: str = "linear"
    changes: Sequence[str] = ()
    neutrals: bool = False
    storage: Storage = "auto"
    seed: int = 0
    checkpoint_minutes: float = 2.0
    with_history: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more", ErrorCode.OPTION_VALUE)
        if not self.checkpoint_minutes >= 0:
            raise UsageError(
                f"checkpoint_minutes is {self.checkpoint_minutes}, expected 0 or more",
                ErrorCode.OPTION_VALUE,
            )
        _check_choice("storage", self.storage, Storage)

    @abstractmethod
    def prepare(self, files: RunFiles, device: torch.device) -> PreparedRun:
        """Read and check all inputs and build the networks.

        Raises:
            UsageError: unknown recipe or key, or a batch that cannot be divided among processes.
            InputError: files that are broken or do not belong together.
        """

    def load_recipe(self) -> Recipe:
        """The recipe with its changes.

        Raises:
            UsageError: unknown recipe, key or value.
        """
        return load_recipe(self.recipe, neutrals=self.neutrals, changes=self.changes)

    def _load_face_set(self) -> FaceSet:
        found = self.face_set
        if self.storage == "streamed" and is_url(found):
            return stream_face_set(str(found))
        return found if isinstance(found, FaceSet) else load_face_set(found)

    def _history_step(self, command: str, inputs: dict[str, str]) -> HistoryStep:
        """The history entry of the command: ids of inputs, and options that affect the result."""
        if content := recipe_content(self.recipe):
            inputs = inputs | {"recipe": file_id(content)}
        options = {
            "recipe": Path(self.recipe).name,
            "set": list(self.changes) or None,
            "neutrals": self.neutrals,
            "seed": self.seed,
        }
        return history_step(command, inputs, options | self._numerical_options())

    def _numerical_options(self) -> dict[str, Any]:
        """Options for speed or memory that are not the default and change the result."""
        return {"data": self.storage} if self.storage == "half" else {}


@dataclass(frozen=True, kw_only=True)
class PretrainingPlan(Plan):
    """Options of fd-pretrain-disc."""

    recipe: str = "pointnet"

    def prepare(self, files: RunFiles, device: torch.device) -> PreparedRun:
        """Read and check all inputs and build the discriminator; raises as `Plan.prepare`."""
        faces = self._load_face_set()
        recipe = self.load_recipe()
        module = network_named(recipe.network).load_torch_module()
        if module.objective is not AutoEncoder.objective:
            raise UsageError(
                f"the {recipe.network} network has losses of its own and no use for a "
                "discriminator of faces; train it with fd-train alone",
                ErrorCode.OPTION_CONFLICT,
            )
        if not recipe.discriminator:
            raise UsageError(
                "the recipe trains without a discriminator, its weight `discriminator` is 0; "
                f"{_WITH_DISCRIMINATOR}",
                ErrorCode.OPTION_CONFLICT,
            )
        identity = recipe.as_dict()
        identity |= {"set id": faces.id, "neutrals": self.neutrals, "seed": self.seed}
        identity |= self._numerical_options()
        check_same_run(identity, device)
        frame = training_frame(faces, recipe)
        network = build_discriminator(recipe, frame, self.seed)
        step = self._history_step("fd-pretrain-disc", {"set": faces.id})
        history = [*with_output(faces.history, faces.id), step] if self.with_history else []
        discriminator_trainer = DiscriminatorTrainer(
            network,
            faces,
            recipe,
            seed=self.seed,
            device=device,
            storage=self.storage,
            mean_face=frame.mean_face,
        )
        run = TrainingRun(
            discriminator_trainer,
            files,
            lambda stream, metrics: write_discriminator(
                stream, network, faces.topology, metrics, history
            ),
            identity=identity,
            checkpoint_minutes=self.checkpoint_minutes,
        )
        advice = "look at the accuracy on unseen people"
        return PreparedRun(run, _size_warnings(discriminator_trainer, recipe, advice))


def _check_choice(key: str, value: str, choices: Any) -> None:
    known = get_args(choices)
    if value not in known:
        raise UsageError(f"{key} is {value!r}, expected {', '.join(known)}", ErrorCode.OPTION_VALUE)


@dataclass
class _Inputs:
    """Files read so far: their histories and ids, and warnings about them."""

    history: list[HistoryStep]
    ids: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, id: str, history: list[HistoryStep]) -> None:
        self.ids[name] = id
        self.history = merged(self.history, with_output(history, id))


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Plan):
    """Options of fd-train.

    Attributes:
        discriminator: path of a pre-trained one, `none`, or None = an untrained one.
        init: model whose weights and coordinate frame are the start.
        precision: of the search of the max-pooling.
        evaluate_every: epochs between evaluations on the test split; None = with every log record.
    """

    discriminator: str | None = None
    init: str | None = None
    precision: Precision = "fp32"
    evaluate_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise UsageError(
                f"evaluate_every is {self.evaluate_every}, expected 1 or more",
                ErrorCode.OPTION_VALUE,
            )
        _check_choice("precision", self.precision, Precision)

    def prepare(self, files: RunFiles, device: torch.device) -> PreparedRun:
        """Read and check all inputs and build both networks; raises as `Plan.prepare`."""
        faces = self._load_face_set()
        recipe = self._with_chosen_pseudo_neutral(self.load_recipe(), faces)
        inputs = _Inputs(with_output(faces.history, faces.id), {"set": faces.id})
        estimated = None if self.neutrals else with_pseudo_neutrals(faces, recipe)
        known = faces if estimated is None else estimated
        has_neutrals = self.neutrals or estimated is not None
        frame, network = self._auto_encoder(recipe, known, has_neutrals, inputs)
        if recipe.steps == 0 and not network.is_fitted:
            start = "random weights" if self.init is None else f"the weights of {self.init}"
            raise UsageError(
                f"the recipe has 0 steps, which leaves {start} as they are; give a length with "
                "--epochs or --steps",
                ErrorCode.OPTION_CONFLICT,
            )
        data = initial_data(recipe, frame, known, neutrals=has_neutrals)
        torch.manual_seed(step_seed(self.seed, INITIAL, 2))
        objective = network.objective(recipe.as_dict(), data)
        discriminator = None
        if objective is None:
            discriminator = self._discriminator(recipe, frame, faces, inputs)
        elif self.discriminator not in (None, NO_DISCRIMINATOR):
            raise UsageError(
                f"the {recipe.network} network has losses of its own and no use for "
                f"{self.discriminator}; leave out --discriminator",
                ErrorCode.OPTION_CONFLICT,
            )
        default = NO_DISCRIMINATOR if discriminator is None else UNTRAINED_DISCRIMINATOR
        ids = {"discriminator": default, **inputs.ids}
        identity = recipe.as_dict() | {f"{key} id": value for key, value in ids.items()}
        identity |= {"neutrals": self.neutrals, "seed": self.seed} | self._numerical_options()
        check_same_run(identity, device)
        trainer = self._trainer(
            network, discriminator, objective, known, recipe, neutrals=has_neutrals, device=device
        )
        if self.precision != "fp32" and not any(map(has_pooling, trainer.networks.values())):
            raise UsageError(
                f"--precision is of the max-pool of PointNets, and the network is {recipe.network};"
                " leave it out",
                ErrorCode.OPTION_CONFLICT,
            )
        step = self._history_step("fd-train", ids)
        history = [*inputs.history, step] if self.with_history else []
        condition = training_condition(faces, neutrals=self.neutrals)

        def write(stream: BinaryIO, metrics: dict[str, Any]) -> str:
            model = export_model(
                trainer.result,
                faces.preparation,
                reach_mm=frame.reach_mm,
                recipe=recipe.as_dict() | {"condition": condition},
                metrics=metrics,
                history=history,
            )
            return write_model(stream, model)

        run = TrainingRun(
            trainer,
            files,
            write,
            identity=identity,
            evaluate_every=self.evaluate_every,
            checkpoint_minutes=self.checkpoint_minutes,
        )
        advice = "compare the model with fd-metrics --baselines"
        warnings = _size_warnings(trainer, recipe, advice) + _data_warnings(trainer)
        if has_neutrals:
            warnings += _neutral_warnings(faces, labelled=self.neutrals)
        return PreparedRun(run, inputs.warnings + warnings)

    def _trainer(
        self,
        network: AutoEncoder,
        discriminator: IdentityDiscriminator | None,
        objective: Objective | None,
        faces: FaceSet,
        recipe: Recipe,
        *,
        neutrals: bool,
        device: torch.device,
    ) -> AutoEncoderTrainer:
        """The trainer of the paper's losses, or of an objective."""
        if objective is not None:
            return ObjectiveTrainer(
                network,
                objective,
                faces,
                recipe,
                neutrals=neutrals,
                seed=self.seed,
                device=device,
                storage=self.storage,
            )
        return AdversarialTrainer(
            network,
            discriminator,
            faces,
            recipe,
            neutrals=neutrals,
            seed=self.seed,
            device=device,
            precision=self.precision,
            storage=self.storage,
        )

    def _with_chosen_pseudo_neutral(self, recipe: Recipe, faces: FaceSet) -> Recipe:
        """The recipe with the estimate of neutrals that is made: `none` for labelled neutrals."""
        if self.neutrals:
            return replace(recipe, pseudo_neutral="none")
        if recipe.pseudo_neutral == "auto":
            return replace(recipe, pseudo_neutral=concentration(faces, faces.rows(TRAIN)).kind)
        return recipe

    def _numerical_options(self) -> dict[str, Any]:
        options = super()._numerical_options()
        return options if self.precision == "fp32" else {**options, "precision": self.precision}

    def _auto_encoder(
        self, recipe: Recipe, faces: FaceSet, neutrals: bool, inputs: _Inputs
    ) -> tuple[CoordinateFrame, AutoEncoder]:
        """A new network, or that of `init` in its coordinate frame."""
        if self.init is None:
            frame = training_frame(faces, recipe)
            network = build_auto_encoder(recipe, frame, faces, self.seed, neutrals=neutrals)
            return frame, network
        model = load_model(self.init)
        check_same_topology(self.init, model.topology, faces)
        check_network(self.init, model.config, recipe)
        was_posed = model.recipe.get("pose_degrees")
        if model.config.fixed_basis and recipe_poses(recipe) and not was_posed:
            inputs.warnings.append(
                f"{self.init} was trained on aligned heads, and its components, which stay fixed, "
                "describe no other poses; train without --init to keep poses out of the identity"
            )
        inputs.add("init", model.id, model.history)
        frame, network = training_frame(faces, recipe, like=model), network_from_model(model)
        network.reparametrise(initial_data(recipe, frame, faces, neutrals=neutrals))
        return frame, network

    def _discriminator(
        self, recipe: Recipe, frame: CoordinateFrame, faces: FaceSet, inputs: _Inputs
    ) -> IdentityDiscriminator | None:
        """The pre-trained discriminator, an untrained one, or none."""
        if self.discriminator == NO_DISCRIMINATOR:
            return None
        if not recipe.discriminator:
            if self.discriminator is not None:
                raise UsageError(
                    f"the recipe has no use for {self.discriminator}, its weight `discriminator` "
                    f"is 0; leave out --discriminator, {_WITH_DISCRIMINATOR}",
                    ErrorCode.OPTION_CONFLICT,
                )
            return None
        if self.discriminator is None:
            inputs.warnings.append(
                "the discriminator starts untrained; the paper pre-trains it with fd-pretrain-disc"
            )
            return build_discriminator(recipe, frame, self.seed)
        stored = load_discriminator(self.discriminator)
        check_same_topology(self.discriminator, stored.topology, faces)
        check_discriminator(self.discriminator, stored.network, recipe, frame)
        inputs.add("discriminator", stored.id, stored.history)
        return stored.network


def _size_warnings(trainer: Trainer, recipe: Recipe, advice: str) -> list[str]:
    """Warnings about a set that is smaller than the recipe is meant for."""
    people, faces, warnings = trainer.pairs.subjects, trainer.pairs.faces, []
    if people < recipe.identity:
        warnings.append(
            f"{people} training people are few for {recipe.identity} identity latents; {advice}"
        )
    if trainer.steps and faces < trainer.batch:
        warnings.append(
            f"the set has {faces} training faces, fewer than a batch of {trainer.batch}"
        )
    return warnings


def _data_warnings(trainer: AutoEncoderTrainer) -> list[str]:
    """Warnings about faces that this training can make little of."""
    recipe, pairs, warnings = trainer.recipe, trainer.batches.pairs, []
    single = pairs.single_face_subjects
    if trainer.steps and single and (trainer.has_discriminator or recipe.has_partners):
        warnings.append(f"{single} training subjects have one face, which is its own partner")
    if recipe.has_partners and single == pairs.subjects:
        warnings.append("no subject has two faces, so identity and expression cannot be separated")
    if not any(len(trainer.face_set.rows(split)) for split in EVALUATED.values()):
        warnings.append("the set has no test or validation faces; the log will have losses only")
    return warnings


def _neutral_warnings(face_set: FaceSet, *, labelled: bool) -> list[str]:
    """Warnings about training people whose neutral is not known, or can hardly be estimated."""
    subject = np.asarray(face_set.labels.subject)[face_set.rows(TRAIN)]
    people, faces = np.unique(subject, return_counts=True)
    if labelled:
        missing = len(people) - len(subjects_with_neutral(face_set))
        warning = (
            f"{missing} of {len(people)} training people have no neutral; identity faces are "
            "fitted to the neutrals of the others"
        )
        return [warning] if missing else []
    if 1 < faces.max() < LEAST_FACES:
        return [
            f"no training person has {LEAST_FACES} faces, which an estimate of neutrals needs; "
            "train with --neutrals if the set has them"
        ]
    return []
