"""Steps of every recipe on a device without data: no tensor lies elsewhere, few are waited for.

Torch's meta device stands for a GPU here; values that are asked for are made up.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facedis_core.nn.max_pool import argmax
from facedis_core.train.plan import Plan, PretrainingPlan, TrainingPlan
from facedis_core.train.recipe import recipe_names
from facedis_core.train.run import RunFiles
from facedis_core.train.trainer import Trainer

GPU = torch.device("meta")
FACES = synthetic.face_set(size=10, subjects=20)
STEPS = 100
SMALL = ("identity=4", "batch=8", f"steps={STEPS}")


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices.

    Attributes:
        copied: numbers copied to the device.
        waits: times that values of the device were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copied = self.waits = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to import it takes seconds

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do an operation, or make up its values."""
        kwargs = kwargs or {}
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        # numbers on the CPU are passed with an operation
        devices = {each.device for each in tensors if each.dim() or each.device == GPU}
        name = function.name().partition(".")[0].removeprefix("aten::")
        if name == "copy_":
            assert devices == {args[0].device}
        elif name == "_to_copy":
            (source,) = devices or {torch.device("cpu")}
            target = torch.device(kwargs.get("device") or source)
            if source == GPU and target != GPU:
                self.waits += 1
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            self.copied += args[0].numel() * (source != target)
        else:
            assert len(devices) < 2, f"{name} of {[(t.device.type, t.shape) for t in tensors]}"
        if GPU not in devices:
            return function(*args, **kwargs)
        if name in ("_local_scalar_dense", "nonzero", "bincount"):
            self.waits += 1
        if name == "_local_scalar_dense":
            return 1.0
        if name == "nonzero":
            return args[0].new_zeros((min(7, args[0].numel()), args[0].dim()), dtype=torch.int64)
        if name == "bincount":
            return args[0].new_zeros(kwargs.get("minlength") or args[2])
        if name in ("_sparse_addmm", "mm") and any(each.is_sparse for each in tensors):
            return args[-1].new_empty(len(args[-2]), args[-1].shape[1])
        return function(*args, **kwargs)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the meta device for a GPU where that makes a difference."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda each: each.device == GPU), False)
    monkeypatch.setattr(argmax, "_kernel", lambda *shape: None)
    adam = torch.optim.Adam

    def unfused(*args: Any, fused: bool, **options: Any) -> torch.optim.Optimizer:
        return adam(*args, **options)

    monkeypatch.setattr(torch.optim, "Adam", unfused)


def prepared(plan: Plan) -> Trainer:
    """Its trainer on the device."""
    trainer = plan.prepare(RunFiles.beside("-"), GPU).run.trainer
    tensors = [each for one in trainer.networks.values() for each in one.state_dict().values()]
    assert {each.device for each in tensors} == {GPU}
    return trainer


def second_step(trainer: Trainer, progress: float = 0.0) -> OneDevice:
    """What is copied and waited for in a step; the first one also makes what later ones use."""
    trainer._start_training()
    done = int(progress * trainer.steps)
    trainer.epoch.number, trainer.epoch.step = divmod(done, trainer.steps_per_epoch)
    for _ in range(2):
        batch = next(trainer._batches(0, 0))
        with OneDevice() as found:
            trainer._train_step(batch)
    return found


def small_plan(recipe: str, changes: tuple[str, ...], neutrals: bool) -> TrainingPlan:
    return TrainingPlan(
        face_set=FACES, recipe=recipe, changes=[*SMALL, *changes], neutrals=neutrals
    )


def cases() -> Iterator[Any]:
    """Recipe, changes, whether neutrals are given, part of the steps done, waits in a step."""
    for recipe in sorted({*recipe_names()} - {"coma", "facescape"}):  # as pointnet and bu3dfe
        turns = {"kacem": 3, "di-mesh-encoder": 3}.get(recipe, 1)
        # a pooled layer counts the vertices that it has chosen
        pooled = {"pointnet": 6, "bu3dfe": 6, "pointnet-linear": 2}.get(recipe, 0)
        changes = () if recipe in ("kacem", "conv-mesh-ae") else ("expression=4",)
        changes += ("points=64",) * (recipe == "pointnet-linear")
        yield pytest.param(recipe, changes, True, 0.9, turns + pooled, id=recipe)
    for part in (0.0, 0.3, 0.6):
        yield pytest.param("jiang", ("expression=4",), True, part, 1, id=f"jiang-{part}")
    yield pytest.param("kacem", (), True, 0.0, 1, id="kacem-0.0")
    yield pytest.param("linear", ("pseudo_neutral=none",), False, 0.0, 1, id="swapped")


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("recipe, changes, neutrals, progress, waits", [*cases()])
def test_a_step_is_on_one_device(
    recipe: str, changes: tuple[str, ...], neutrals: bool, progress: float, waits: int
) -> None:
    trainer = prepared(small_plan(recipe, changes, neutrals))
    found = second_step(trainer, progress)
    assert found.waits == waits
    assert found.copied <= trainer.batch  # who is shown
    for network in trainer.networks.values():
        for each in network.parameters():
            assert each.grad is None or each.grad.device == GPU
    with OneDevice() as found:
        trainer.predict(FACES.vertices[:3])
    assert found.copied == FACES.vertices[:3].size


@pytest.mark.usefixtures("made_up")
def test_a_step_of_pre_training_is_on_one_device() -> None:
    trainer = prepared(PretrainingPlan(face_set=FACES, changes=["pretrain_batch=8"]))
    found = second_step(trainer)
    assert (found.copied, found.waits) == (trainer.batch, 3)  # whether pairs are of one person
    with OneDevice():
        trainer.evaluate({"accuracy": 0.5})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recipe, changes, neutrals, progress, waits", [*cases()])
def test_a_gpu_trains_and_predicts_as_a_cpu(
    recipe: str, changes: tuple[str, ...], neutrals: bool, progress: float, waits: int
) -> None:
    plan = small_plan(recipe, changes, neutrals)
    trainer = plan.prepare(RunFiles.beside("-"), torch.device("cuda", 0)).run.trainer
    while not trainer.is_finished:
        record = trainer.run_epochs(5)
        assert record is not None and all(np.isfinite(value) for value in record.values())
    found = trainer.predict(FACES.vertices[:3])
    trainer.device = torch.device("cpu")
    trainer.result.cpu()
    expected = trainer.predict(FACES.vertices[:3])
    for name in ("reconstruction", "identity"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if theirs is None:  # of a network from faces to neutrals alone
            continue
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)  # mm
