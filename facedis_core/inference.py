"""A trained model on NumPy alone: load it, encode faces, decode latents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np

from facedis_core.bundle import resolve_model
from facedis_core.config import ModelConfig, weight_shapes
from facedis_core.container import all_finite, content_id, read_container, stored
from facedis_core.container_writer import write_container
from facedis_core.errors import InputError, UsageError
from facedis_core.latents import Latents
from facedis_core.metrics import vertex_distance
from facedis_core.preparation import Preparation
from facedis_core.streams import shown

Part = Literal["full", "identity", "expression"]

_NORM_EPSILON = 1e-5  # torch's default, part of the trained function
_HALVED = "_decoder.output.weight"  # what `half_decoders` stores in float16
_VERTEX_BLOCK = 512  # all activations of a block stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Model:
    """A trained auto-encoder: X = X_id + X_exp (eq. 1 of the paper).

    Attributes:
        weights: every learned tensor by its name in the file.
        mean_face: float32 (V, 3) mm.
        origin: float32 (3,) mm; the network sees (X - origin) / scale.
        scale: mm a unit.
        reach_mm: largest distance of a training face to the mean face.
        id: first 12 hex digits of SHA-256 over tensors and config.
    """

    config: ModelConfig
    weights: dict[str, np.ndarray]
    mean_face: np.ndarray
    origin: np.ndarray
    scale: float
    preparation: Preparation
    reach_mm: float
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    id: str = ""
    source: str = ""

    @property
    def triangles(self) -> np.ndarray:
        """int32 (F, 3)."""
        return self.preparation.triangles

    @property
    def topology(self) -> str:
        """Topology id of the faces this model knows."""
        return self.preparation.topology

    def encode(self, vertices: np.ndarray, names: Sequence[str] | None = None) -> Latents:
        """Latent means mu of identity and expression (no sampling).

        Args:
            vertices: (B, V, 3) mm, prepared.
            names: B names; row numbers when left out.

        Raises:
            InputError: another shape, or not finite.
        """
        vertices = self._checked(vertices)
        identity = np.empty((len(vertices), self.config.identity), np.float32)
        expression = np.empty((len(vertices), self.config.expression), np.float32)
        # Face by face, here and in `decode`: products of more rows at once round otherwise, and
        # what a face is must not depend on those beside it.
        for row, face in enumerate(vertices):
            features = self._pool(face)
            identity[row] = self._linear("encoder.identity_mean", features)
            expression[row] = self._linear("encoder.expression_mean", features)
        names = list(names) if names is not None else [str(row) for row in range(len(vertices))]
        return Latents(names, [self.id] * len(names), identity, expression)

    def _linear(self, name: str, values: np.ndarray) -> np.ndarray:
        """One linear layer: (C_in,) -> (C_out,)."""
        weight = self.weights[f"{name}.weight"]
        if weight.dtype != np.float32:  # stored in half precision
            if name not in self._widened:
                self._widened[name] = weight.astype(np.float32)
            weight = self._widened[name]
        return weight @ values + self.weights[f"{name}.bias"]

    def _checked(self, vertices: np.ndarray) -> np.ndarray:
        expected = (self.config.vertices, 3)
        if vertices.ndim != 3 or vertices.shape[1:] != expected:
            raise InputError(
                f"faces of shape {vertices.shape}, expected (B, {expected[0]}, 3) for model "
                f"{self.source or self.id}; prepare them with fd-prep first"
            )
        if not np.isfinite(vertices).all():
            raise InputError("a face has vertices that are not finite; repair the mesh first")
        return vertices

    def _pool(self, face: np.ndarray) -> np.ndarray:
        """PointNet features of one face: the maximum over vertices of the last layer, (C,)."""
        points = face if self.config.points is None else face[self.weights["encoder.points"]]
        *shared, (wide, wide_bias) = self._folded_layers()
        highest = np.full(len(wide_bias), -np.inf, np.float32)
        for start in range(0, len(points), _VERTEX_BLOCK):
            hidden = (points[start : start + _VERTEX_BLOCK] - self.origin) / np.float32(self.scale)
            for weight, bias in shared:
                hidden = hidden @ weight
                hidden += bias
                np.maximum(hidden, 0.0, out=hidden)
            np.maximum(highest, (hidden @ wide).max(axis=0), out=highest)
        # the bias is the same at every vertex and ReLU is monotone, so both follow the maximum
        return np.maximum(highest + wide_bias, 0.0)

    def _folded_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each linear layer with its batch norm folded in: (C_in, C_out), (C_out,)."""
        if not self._folded:
            for index in range(len(self.config.channels)):
                part = {
                    key: self.weights[f"encoder.layers.{index}.{key}"].astype(np.float64)
                    for key in (
                        "linear.weight",
                        "linear.bias",
                        "norm.weight",
                        "norm.bias",
                        "norm.running_mean",
                        "norm.running_var",
                    )
                }
                gain = part["norm.weight"] / np.sqrt(part["norm.running_var"] + _NORM_EPSILON)
                bias = (part["linear.bias"] - part["norm.running_mean"]) * gain + part["norm.bias"]
                weight = np.ascontiguousarray((part["linear.weight"] * gain[:, None]).T, np.float32)
                self._folded.append((weight, bias.astype(np.float32)))
        return self._folded

    # no arguments: a copy made by `replace` with other weights makes them anew
    _folded: list[tuple[np.ndarray, np.ndarray]] = field(
        default_factory=list, init=False, repr=False
    )
    _widened: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def decode(
        self,
        identity: np.ndarray,
        expression: np.ndarray,
        part: Part = "full",
        *,
        offsets: bool = False,
    ) -> np.ndarray:
        """Faces from latents (eq. 1).

        Args:
            identity: (B, D_id).
            expression: (B, D_exp).
            part: `full` X_id + X_exp, `identity` X_id, `expression` the mean face plus X_exp.
            offsets: leave the mean face out.

        Returns:
            float32 (B, V, 3) mm.

        Raises:
            InputError: latents of another size or not finite, or not one identity an expression.
            UsageError: another part.
        """
        if part not in get_args(Part):
            raise UsageError(f"part {part!r}, expected one of {', '.join(get_args(Part))}")
        for name, z, size in (
            ("identity", identity, self.config.identity),
            ("expression", expression, self.config.expression),
        ):
            if z.ndim != 2 or z.shape[1] != size:
                raise InputError(f"{name} latents of shape {z.shape}, expected (B, {size})")
            if not np.isfinite(z).all():
                raise InputError(f"{name} latents are not finite; encode the faces again")
        if len(identity) != len(expression):
            raise InputError(
                f"{len(identity)} identities and {len(expression)} expressions; "
                "expected as many of both, pair them with fd-transfer"
            )
        faces = np.zeros((len(identity), self.mean_face.size), np.float32)
        for row, face in enumerate(faces):
            if part in ("full", "identity"):
                face += self._decoder("identity_decoder", identity[row])
            if part in ("full", "expression"):
                face += self._decoder("expression_decoder", expression[row])
        faces *= np.float32(self.scale)
        offset = faces.reshape(-1, *self.mean_face.shape)
        return offset if offsets else offset + self.mean_face

    def _decoder(self, name: str, z: np.ndarray) -> np.ndarray:
        """Normalised offsets (3 V,) of one decoder."""
        hidden = self._linear(f"{name}.hidden", z.astype(np.float32))
        return self._linear(f"{name}.output", np.maximum(hidden, 0.0))

    def distance_to_mean(self, vertices: np.ndarray) -> np.ndarray:
        """Mean vertex distance of each face to the mean face: (B, V, 3) mm -> (B,) mm."""
        return vertex_distance(vertices, self.mean_face)


def write_model(stream: BinaryIO, model: Model) -> str:
    """Write a model whole; returns its id, which is computed here and stored."""
    half = model.config.half_decoders
    tensors = {
        name: array.astype(np.float16) if half and name.endswith(_HALVED) else array
        for name, array in model.weights.items()
    }
    tensors |= model.preparation.tensors()
    tensors["mean_face"] = model.mean_face
    tensors["origin"] = model.origin
    tensors["scale"] = np.array([model.scale], np.float32)
    config = asdict(model.config)
    model_id = content_id(tensors, config)
    metadata = {
        **model.preparation.metadata(),
        "config": config,
        "id": model_id,
        "reach_mm": model.reach_mm,
        "recipe": model.recipe,
        "metrics": model.metrics,
        "history": model.history,
    }
    write_container(stream, "model", tensors, metadata)
    return model_id


def load_model(source: str | Path | None = None) -> Model:
    """Load a model by path or bundled name; None takes $FACEDIS_MODEL, else the bundled one.

    Raises:
        UsageError: there is no such file or bundled model.
        InputError: not a whole model; every tensor must be there, with its shape, and no other.
    """
    path = resolve_model(source)
    container = read_container(path, "model")
    tensors, metadata, label = container.tensors, container.metadata, shown(path)
    preparation = Preparation.from_container(container, label)
    try:
        config = ModelConfig.from_dict(metadata.get("config", {}))
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    _check_tensors(config, tensors, label)
    reach = stored(metadata, "reach_mm", float, label)
    return Model(
        config=config,
        weights={name: tensors[name] for name in weight_shapes(config)},
        mean_face=tensors["mean_face"],
        origin=tensors["origin"],
        scale=float(tensors["scale"][0]),
        preparation=preparation,
        reach_mm=reach,
        recipe=stored(metadata, "recipe", dict, label),
        metrics=stored(metadata, "metrics", dict, label),
        history=stored(metadata, "history", list, label),
        id=stored(metadata, "id", str, label),
        source=label,
    )


def _check_tensors(config: ModelConfig, tensors: Mapping[str, np.ndarray], label: str) -> None:
    """Every tensor and no other, with its shape and type; numbers that can be computed with."""
    expected = weight_shapes(config) | {
        "mean_face": (config.vertices, 3),
        "vertex_index": (config.vertices,),
        "origin": (3,),
        "scale": (1,),
        "triangles": tensors["triangles"].shape,
    }
    for name in sorted(expected.keys() ^ tensors.keys()):
        odd = "lacks" if name in expected else "holds"
        raise InputError(f"{label} {odd} the tensor {name!r}, against its config; fetch it again")
    for name, shape in expected.items():
        array = tensors[name]
        dtype = "float16" if config.half_decoders and name.endswith(_HALVED) else "float32"
        if name in ("encoder.points", "vertex_index", "triangles"):
            dtype = "int32"
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"{label}: tensor {name!r} has shape {array.shape} of {array.dtype}, "
                f"expected {shape} of {dtype}"
            )
        if array.dtype.kind == "f" and not all_finite(array):
            raise InputError(f"{label}: tensor {name!r} is not finite; train or fetch it again")
        if name.endswith("running_var") and (array < 0).any():
            raise InputError(f"{label}: variances {name!r} are negative; train or fetch it again")
    if not tensors["scale"][0] > 0:
        raise InputError(f"{label} has scale {tensors['scale'][0]}, expected a length in mm")
    points = tensors.get("encoder.points")
    if points is not None and not 0 <= points.min() <= points.max() < config.vertices:
        raise InputError(f"{label}: 'encoder.points' lie outside of {config.vertices} vertices")
