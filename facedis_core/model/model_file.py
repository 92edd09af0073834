"""The file of a model: load, write, and check its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from facedis_core.data.history import HistoryStep
from facedis_core.data.preparation import Preparation
from facedis_core.errors import ErrorCode, InputError, check_argument
from facedis_core.io.paths import check_suffix
from facedis_core.io.safetensors_file import (
    SafetensorsFile,
    content_id,
    not_finite,
    parse_record,
    read_safetensors,
    write_safetensors,
)
from facedis_core.io.streams import naming, open_output
from facedis_core.io.text import shown
from facedis_core.model.bundled import resolve_model
from facedis_core.model.config import ModelConfig, Shapes, stored_config
from facedis_core.model.model import Model
from facedis_core.model.networks import model_config


def write_model(target: str | Path | BinaryIO, model: Model) -> str:
    """Write a model; returns its id, which is computed from the content and stored.

    Args:
        target: a path, whose file is written whole or not at all and replaces another one; or a
            binary stream that can be read as well.
        model: the model; its own `id` and `source` are not used.

    Raises:
        UsageError: a suffix that says otherwise, or an argument of another type.
        InputError: weights that are not finite, after a training that diverged.
        OutputError: the file cannot be written.

    Example:
        >>> model = load_model("ict-linear")
        >>> write_model("mine.safetensors", model) == model.id
        True
    """
    check_argument(model, Model, "write_model: model", "a Model")
    if isinstance(target, str | Path):
        check_suffix(str(target), "weights", ".safetensors")
        with open_output(str(target), force=True) as stream:
            return write_model(stream, model)
    if not hasattr(target, "write"):
        check_argument(target, (), "write_model: target", "a path or a binary stream")
    with np.errstate(over="ignore"):  # of half precision, found below
        tensors = {
            name: array.astype(model.config.stored_type(name), copy=False)
            for name, array in model.weights.items()
        }
    tensors |= model.preparation.tensors()
    tensors["mean_face"] = model.mean_face
    tensors["origin"] = model.origin
    tensors["scale"] = np.array([model.scale], np.float32)
    for name in not_finite(tensors):
        raise InputError(
            f"tensor {name!r} of the model is not finite; if the training diverged, lower "
            "learning_rate",
            ErrorCode.NOT_FINITE,
        )
    config = stored_config(model.config)
    model_id = content_id(tensors, config)
    metadata = {
        **model.preparation.metadata(),
        "config": config,
        "id": model_id,
        "reach_mm": model.reach_mm,
        "recipe": model.recipe,
        "metrics": model.metrics,
        "history": [step.as_json() for step in model.history],
    }
    write_safetensors(target, "model", tensors, metadata)
    return model_id


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a model file, except the preparation."""

    config: dict[str, Any]
    reach_mm: float
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    history: list[HistoryStep]
    id: str


def load_model(source: str | Path | None = None) -> Model:
    """Load a model from a file, or a bundled one.

    Args:
        source: path, URL or bundled name; None = $FACEDIS_MODEL, else the bundled default.

    Raises:
        UsageError: no file and no bundled model of this name.
        InputError: not a model file, or a tensor is missing, unknown or of another shape.

    Example:
        >>> load_model("ict-linear").mean_face.shape  # mm
        (26719, 3)
    """
    check_argument(source, (str, Path, type(None)), "load_model: source", "a path or a name")
    path = resolve_model(source)
    file = read_safetensors(path, "model")
    with naming(path):
        return parse_model(file, shown(path))


def parse_model(file: SafetensorsFile, source: str) -> Model:
    """The model in a safetensors file; errors do not name the file.

    Args:
        file: its content.
        source: its path, for later messages.
    """
    tensors = file.tensors
    preparation = Preparation.from_file(file)
    metadata = parse_record(_Metadata, file.metadata)
    config = model_config(metadata.config, metadata.recipe.get("network"))
    shapes = config.weight_shapes()
    _check_tensors(config, shapes, tensors)
    return Model(
        config=config,
        weights={name: tensors[name] for name in shapes},
        mean_face=tensors["mean_face"],
        origin=tensors["origin"],
        scale=float(tensors["scale"][0]),
        preparation=preparation,
        reach_mm=metadata.reach_mm,
        recipe=metadata.recipe,
        metrics=metadata.metrics,
        history=metadata.history,
        id=metadata.id,
        source=source,
    )


def _check_tensors(config: ModelConfig, shapes: Shapes, tensors: Mapping[str, np.ndarray]) -> None:
    """Check that all tensors, and no others, are there with the right shape, type and values."""
    expected = shapes | {
        "mean_face": (config.vertices, 3),
        "vertex_index": (config.vertices,),
        "origin": (3,),
        "scale": (1,),
        "triangles": tensors["triangles"].shape,
    }
    for name in sorted(expected.keys() ^ tensors.keys()):
        verb = "lacks" if name in expected else "holds"
        raise InputError(
            f"{verb} the tensor {name!r}, against its config; fetch it again", ErrorCode.TENSOR
        )
    for name in not_finite(tensors):
        raise InputError(
            f"tensor {name!r} is not finite; train or fetch it again", ErrorCode.NOT_FINITE
        )
    for name, shape in expected.items():
        array = tensors[name]
        dtype = "int32" if name in ("vertex_index", "triangles") else config.stored_type(name)
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"tensor {name!r} has shape {array.shape} of {array.dtype}, "
                f"expected {shape} of {dtype}",
                ErrorCode.TENSOR,
            )
        if problem := config.weight_problem(name, array):
            raise InputError(
                f"tensor {name!r} {problem}; train or fetch it again", ErrorCode.TENSOR
            )
    if not tensors["scale"][0] > 0:
        raise InputError(
            f"has scale {tensors['scale'][0]}, expected a length in mm", ErrorCode.TENSOR
        )
