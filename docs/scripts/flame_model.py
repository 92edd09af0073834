"""Make a model of FLAME's released .pkl, such as generic_model.pkl of FLAME 2020, at rest.

The linear part of FLAME (Li et al. 2017): its shape and expression components, with latents of
maximum a posteriori probability. Joints and the blendshapes of poses are left out, so that a jaw
that is open or shut is shown as far as its expression components do. The file is not part of
facedis; its licence holds for the model made of it.
"""

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.history import HistoryStep
from facedis_core.data.preparation import Preparation
from facedis_core.errors import ErrorCode, FacedisError, InputError
from facedis_core.geometry.flame_like import FlameLike
from facedis_core.io.text import on_one_line
from facedis_core.mesh.mesh import topology_id
from facedis_core.model.config import LinearConfig
from facedis_core.model.model import Model
from facedis_core.model.model_file import write_model
from facedis_core.nn.flame_start import weights_on_basis

SHAPES = 300  # of the components in `shapedirs`; the rest are of expressions
MM = 1000.0  # FLAME's unit is the metre
# What a pickle of arrays is made of; nothing else is called.
_CALLED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("__builtin__", "object"),
    ("builtins", "object"),
    ("__builtin__", "set"),
    ("builtins", "set"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
}


class Attributes:
    """Stands for an object of chumpy or SciPy: only its attributes are kept."""


class FlameUnpickler(pickle.Unpickler):
    """Reads arrays, and attributes of objects of chumpy and SciPy; calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name."""
        if (module, name) in _CALLED:
            return super().find_class(module, name)
        if module.split(".")[0] in ("chumpy", "scipy"):
            return Attributes
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def read_flame(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Template (V, 3) mm, components (V, 3, D) mm a standard deviation, and triangles (F, 3).

    Raises:
        InputError: another file, or arrays that chumpy would have to compute.
    """
    try:
        with path.open("rb") as stream:
            content = FlameUnpickler(stream, encoding="latin1").load()
        template, components, triangles = (
            np.asarray(getattr(found, "x", found))
            for found in (content[key] for key in ("v_template", "shapedirs", "f"))
        )
    except OSError as error:
        raise InputError(
            f"{path}: could not be read ({error.strerror})", ErrorCode.FILE_UNREADABLE
        ) from error
    except Exception as error:  # a damaged pickle raises any
        raise InputError(
            f"{path}: no model of FLAME ({on_one_line(str(error))}); expected a .pkl with "
            "v_template, shapedirs and f",
            ErrorCode.DAMAGED,
        ) from error
    shapes = template.shape, components.shape, triangles.shape
    count = components.shape[2] if components.ndim == 3 else 0
    vertices = template.size // 3
    if shapes != ((vertices, 3), (vertices, 3, max(count, SHAPES + 1)), (len(triangles), 3)):
        raise InputError(
            f"{path}: v_template, shapedirs and f have shapes {shapes}, expected (V, 3), (V, 3, D) "
            f"and (F, 3) with {SHAPES} shape components, then some of expressions",
            ErrorCode.ARRAY_SHAPE,
        )
    return MM * template.astype(float), MM * components.astype(float), triangles.astype(np.int32)


def flame_model(path: Path, identity: int, expression: int, residual: float) -> Model:
    """The model of FLAME's file.

    Args:
        path: of the file.
        identity: number of leading shape components.
        expression: number of leading components of expressions.
        residual: variance of a coordinate about the model, mm^2.

    Raises:
        InputError: errors of `read_flame`.
    """
    options = {"identity": identity, "expression": expression, "residual": residual}
    template, components, triangles = read_flame(path)
    flat = np.moveaxis(components, 2, 0).reshape(components.shape[2], -1)
    known = FlameLike(
        mean_neutral=template.ravel(),
        mean_offset=np.zeros(template.size),
        identity=flat[:SHAPES][:identity],
        expression=flat[SHAPES:][:expression],
        residual=residual,
    )
    parts = np.concatenate([known.identity, known.expression])
    _, deviation, basis = np.linalg.svd(parts, full_matrices=False)
    kept = deviation > 1e-6 * deviation[0]
    config = LinearConfig(
        len(template), len(known.identity), len(known.expression), int(kept.sum())
    )
    mean_face = template.astype(np.float32)
    origin = template.mean(axis=0).astype(np.float32)
    scale = float(np.linalg.norm(template - origin, axis=1).max())
    weights = weights_on_basis(known, config, basis[kept], deviation[kept], mean_face, scale)
    for name in ("identity", "expression"):
        weights[f"encoder.{name}_log_variance"] = np.zeros(getattr(config, name))
    drawn = np.random.default_rng(0).standard_normal((1000, len(parts))) @ parts
    distances = np.linalg.norm(drawn.reshape(len(drawn), -1, 3), axis=2).mean(axis=1)
    return Model(
        config,
        {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()},
        mean_face,
        origin,
        scale,
        Preparation(
            triangles,
            np.arange(len(template), dtype=np.int32),
            len(template),
            topology_id(triangles),
            MM,
            alignment="rigid",
        ),
        reach_mm=float(distances.max()),
        recipe={"network": "linear", "condition": "labelled"},
        history=[HistoryStep("flame_model.py", options=options)],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, write the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pkl", type=Path, help="such as generic_model.pkl")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".safetensors")
    parser.add_argument("--identity", type=int, default=300, help="shape components")
    parser.add_argument("--expression", type=int, default=100, help="expression components")
    parser.add_argument(
        "--residual", type=float, default=0.25, help="variance of a coordinate, mm^2"
    )
    asked = parser.parse_args(arguments)
    if min(asked.identity, asked.expression) < 1 or not asked.residual > 0:
        parser.error("--identity, --expression and --residual have to be positive")
    try:
        model = flame_model(asked.pkl, asked.identity, asked.expression, asked.residual)
        print(f"model {write_model(asked.output, model)} written to {asked.output}")
    except FacedisError as error:
        raise SystemExit(f"flame_model.py: {error}") from error


if __name__ == "__main__":
    main()
