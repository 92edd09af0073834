"""Choice of the device on which a model encodes and decodes: NumPy, or torch on a GPU."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Literal

from facedis_core.errors import ErrorCode, UsageError, missing_extra
from facedis_core.model.model import Model

Device = Literal["auto", "cpu", "cuda"]

# Vertices of all faces from which `auto` takes a GPU. NumPy takes 10 to 100 s on a core for ten
# thousand faces of 5,000 vertices; torch and a GPU take some seconds to start.
LEAST_VERTICES: Final = 50_000_000


def on_device(model: Model, device: Device, faces: int | None, jobs: int | str = 1) -> Model:
    """The model, computing on a device; torch is imported only where a GPU may be used.

    Args:
        model: the model.
        device: `cpu` = NumPy, `cuda` = torch on a GPU, `auto` = on a GPU if there is one, torch is
            installed and there are at least LEAST_VERTICES vertices.
        faces: number of faces to encode or decode; None = unknown.
        jobs: number of worker processes, or a scheduler of them; with several, `auto` is `cpu`.

    Raises:
        UsageError: `cuda` with worker processes, without torch or without a GPU.
    """
    if device == "cuda" and jobs != 1:
        raise UsageError(
            "--device cuda computes in one process; leave out --jobs and --scheduler",
            ErrorCode.OPTION_CONFLICT,
        )
    vertices = (faces or 0) * len(model.mean_face)
    if device == "cpu" or (device == "auto" and (jobs != 1 or vertices < LEAST_VERTICES)):
        return model
    if find_spec("torch") is None:
        if device == "auto":
            return model
        raise missing_extra("--device cuda", "train")
    if import_module("torch").cuda.is_available():
        return replace(model, device="cuda")
    if device == "auto":
        return model
    raise UsageError(
        "--device cuda, but torch finds no CUDA device here; use --device cpu", ErrorCode.DEVICE
    )
