"""Training from Python: a face set and a recipe give a model."""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from facedis_core.data.face_set import FaceSet
from facedis_core.errors import ErrorCode, FacedisWarning, UsageError, check_argument
from facedis_core.model.device import Device
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.nn.max_pool.argmax import Precision
from facedis_core.train.face_storage import Storage
from facedis_core.train.plan import TrainingPlan
from facedis_core.train.run import Callbacks, RunFiles
from facedis_core.train.setup import choose_device


def train(
    face_set: FaceSet | str | Path,
    recipe: str | Path = "linear",
    *,
    changes: Mapping[str, Any] | None = None,
    neutrals: bool = False,
    discriminator: str | Path | None = None,
    init: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
    storage: Storage = "auto",
    output: str | Path | None = None,
    resume: bool = False,
    evaluate_every: int | None = None,
    checkpoint_minutes: float = 2.0,
    on_record: Callable[[dict[str, Any]], None] | None = None,
) -> Model:
    """Train a model on the training split of a face set, as fd-train does.

    Args:
        face_set: a face set, or its path.
        recipe: name or TOML file.
        changes: values that replace those of the recipe, such as `{"steps": 300, "batch": 16}`.
        neutrals: train with the neutrals of the set.
        discriminator: file of fd-pretrain-disc, `none`, or None = an untrained one if the recipe
            has a discriminator loss.
        init: file or name of the model whose weights are the initial weights.
        seed: of all random numbers.
        device: `auto` = a GPU if there is one.
        precision: of the search of the max-pooling.
        storage: of the training faces.
        output: file of the model, with a log (.jsonl) and checkpoints beside it, which replace
            others; None = nothing is written.
        resume: continue from the checkpoint of `output`.
        evaluate_every: epochs between evaluations on the test split; None = with every record.
        checkpoint_minutes: minutes between checkpoints.
        on_record: called with every record of the log.

    Returns:
        the trained model.

    Raises:
        UsageError: an unknown recipe, key or value, no GPU, an argument of another type, or one of
            several processes of torchrun.
        InputError: a face set that cannot be trained on, or files that do not fit it.

    Warns:
        FacedisWarning: the set is small for the recipe, or lacks what it needs.

    Example:
        >>> records = []
        >>> model = train(
        ...     "demo/faces.safetensors",
        ...     "linear",
        ...     changes={"steps": 2, "identity": 2, "expression": 2},
        ...     on_record=records.append,
        ... )
        >>> model
        Model(in memory, id ..., linear, 26719 vertices, latents 2 + 2)
        >>> records[-1]["step"]
        2
    """
    path = (str, Path)
    check_argument(face_set, (FaceSet, *path), "train: face_set", "a FaceSet or a path")
    check_argument(recipe, path, "train: recipe", "a name or a path")
    check_argument(changes, (Mapping, type(None)), "train: changes", "a table of values")
    for name, value in (("discriminator", discriminator), ("init", init), ("output", output)):
        check_argument(value, (*path, type(None)), f"train: {name}", "a path")
    check_argument(seed, int, "train: seed", "a whole number")
    check_argument(evaluate_every, (int, type(None)), "train: evaluate_every", "a whole number")
    if device not in get_args(Device):
        raise UsageError(
            f"device is {device!r}, expected one of {', '.join(get_args(Device))}",
            ErrorCode.OPTION_VALUE,
        )
    has_paths = output is not None and not isinstance(face_set, FaceSet)
    if has_paths and Path(str(output)).resolve() == Path(str(face_set)).resolve():
        raise UsageError(
            f"train: face_set and output are both {output}; give two different files",
            ErrorCode.SAME_FILE,
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"train: one of {os.environ['WORLD_SIZE']} processes of torchrun, expected one alone; "
            "train in several with torchrun -m fd_train",
            ErrorCode.OPTION_CONFLICT,
        )
    plan = TrainingPlan(
        face_set=face_set if isinstance(face_set, FaceSet) else str(face_set),
        recipe=str(recipe),
        changes=[f"{key}={value}" for key, value in (changes or {}).items()],
        neutrals=neutrals,
        discriminator=None if discriminator is None else str(discriminator),
        init=None if init is None else str(init),
        seed=seed,
        precision=precision,
        storage=storage,
        evaluate_every=evaluate_every,
        checkpoint_minutes=checkpoint_minutes,
    )
    chosen = choose_device(device)
    with tempfile.TemporaryDirectory() as folder:
        if output is None:
            files = RunFiles(str(Path(folder, "model.safetensors")), None, None, None)
        else:
            files = RunFiles.beside(str(output))
        files.check(force=True)
        run, lines = plan.prepare(files, chosen)
        for line in lines:
            warnings.warn(line, FacedisWarning, stacklevel=3)  # the caller of the package
        run.start(resume=resume)
        run.train(Callbacks(on_record=() if on_record is None else [on_record]))
        model = load_model(files.result)  # its memory map outlives the file
    return replace(model, source="") if output is None else model
