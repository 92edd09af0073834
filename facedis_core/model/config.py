"""Network configurations: sizes, enough to rebuild a network and to check its tensors."""

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Final, Self, TypeVar, cast

from facedis_core.data.history import HistoryStep
from facedis_core.errors import ErrorCode, InputError

Shapes = dict[str, tuple[int, ...]]  # tensor name -> shape
Config = TypeVar("Config")

POINTNET_CHANNELS: Final = (64, 64, 64, 128, 1024)
LARGEST: Final = 2**31 - 1  # limit of all whole numbers
_HEADS: Final = (
    "identity_mean",
    "identity_log_variance",
    "expression_mean",
    "expression_log_variance",
)
_SMALLEST_NORMAL: Final = 2.0**-126  # of float32

# Metadata of a field that the first model files lack: it is stored only where it differs from its
# default, so that a file of a network without it has the same bytes in every version.
LATER: Final = {"later": True}

# Metadata of the size of a latent that a network may lack.
MAY_BE_ZERO: Final = {"may_be_zero": True}


@dataclass(frozen=True)
class ModelConfig(ABC):
    """Sizes of an auto-encoder (section III of the paper).

    Attributes:
        vertices: V.
        identity, expression: latent sizes.
        fixed_basis: whether its decoders have a basis of faces that training does not change.
    """

    fixed_basis: ClassVar[bool] = False

    vertices: int
    identity: int
    expression: int

    @abstractmethod
    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor."""

    @abstractmethod
    def stored_type(self, name: str) -> str:
        """The type of this tensor in a file."""

    @classmethod
    @abstractmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices."""

    def differences(self, other: Self) -> list[str]:
        """Fields in which the network of a model differs from this one, which is to be trained."""
        own, others = asdict(self), asdict(other)
        return [key for key in own if others[key] != own[key]]

    def weight_problem(self, name: str, array: Any) -> str:
        """An error in the values of a finite tensor, as a predicate; empty if there is none."""
        return ""


@dataclass(frozen=True)
class PointNetConfig(ModelConfig):
    """The paper's network: a PointNet encoder, decoders with one hidden layer.

    Attributes:
        channels: widths of the encoder's shared per-vertex layers.
        decoder_hidden: width of the hidden layer of each decoder.
        points: number of vertices that the encoder sees (farthest-point sampling); None = all.
        half_decoders: the decoders' last layers are stored in float16, which halves the file.
        encoder_offsets: the encoder sees six numbers a vertex, the position in the mean face and
            the offset from it in units of `encoder.spread`, instead of the vertex's position.
    """

    channels: tuple[int, ...] = POINTNET_CHANNELS
    decoder_hidden: int = 256
    points: int | None = None
    half_decoders: bool = False
    encoder_offsets: bool = field(default=False, metadata=LATER)

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor."""
        shapes: Shapes = {}
        width = 6 if self.encoder_offsets else 3
        for index, channels in enumerate(self.channels):
            _linear(shapes, f"encoder.layers.{index}.linear", width, channels)
            for key in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"encoder.layers.{index}.norm.{key}"] = (channels,)
            width = channels
        for head in _HEADS:
            _linear(shapes, f"encoder.{head}", width, getattr(self, head.split("_")[0]))
        for name in ("identity", "expression"):
            _linear(shapes, f"{name}_decoder.hidden", getattr(self, name), self.decoder_hidden)
            _linear(shapes, f"{name}_decoder.output", self.decoder_hidden, 3 * self.vertices)
        if self.points is not None:
            shapes["encoder.points"] = (self.points,)
        if self.encoder_offsets:
            shapes["encoder.spread"] = (1,)
        return shapes

    def stored_type(self, name: str) -> str:
        """The type of this tensor in a file."""
        if name == "encoder.points":
            return "int32"
        halved = self.half_decoders and name.endswith("_decoder.output.weight")
        return "float16" if halved else "float32"

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices."""
        return cls(
            vertices,
            recipe["identity"],
            recipe["expression"],
            points=used_points(vertices, recipe["points"]),
            half_decoders=recipe["half_decoders"],
            encoder_offsets=recipe["encoder_offsets"],
        )

    def weight_problem(self, name: str, array: Any) -> str:
        """An error in the values of a finite tensor, as a predicate; empty if there is none."""
        if name.endswith("running_var") and (array < 0).any():
            return "has negative variances"
        if name == "encoder.spread" and not (array > _SMALLEST_NORMAL).all():
            return "is not positive"
        return _points_problem(name, array, self.vertices)


@dataclass(frozen=True)
class LinearConfig(ModelConfig):
    """Linear maps of principal components, for faces in dense correspondence.

    With `bilinear` the map of the expression latent depends on the identity latent.

    Attributes:
        components: number K of principal components, the orthonormal rows of `basis` (K, 3V).
        half_basis: the basis is stored in float16, which halves the file.
        points: number P of vertices that the encoder sees; None = all, with the same basis.
        encoder_components: number of rows of the encoder's own basis (.., 3P), if there are points.
        bilinear: number of expression directions whose X_exp depends on the identity latent as
            well; None = X_exp depends on the expression latent alone.
    """

    fixed_basis: ClassVar[bool] = True

    components: int
    half_basis: bool = False
    points: int | None = field(default=None, metadata=LATER)
    encoder_components: int | None = field(default=None, metadata=LATER)
    bilinear: int | None = field(default=None, metadata=LATER)

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor."""
        shapes: Shapes = {
            "basis": (self.components, 3 * self.vertices),
            "deviation": (self.components,),
        }
        seen = self.components
        if self.points is not None:
            seen = self.encoder_components or 0
            shapes["encoder.points"] = (self.points,)
            shapes["encoder.basis"] = (seen, 3 * self.points)
            shapes["encoder.deviation"] = (seen,)
        for name in ("identity", "expression"):
            size = getattr(self, name)
            _linear(shapes, f"encoder.{name}_mean", seen, size)
            shapes[f"encoder.{name}_log_variance"] = (size,)
            _linear(shapes, f"{name}_decoder", size, self.components)
        if self.bilinear is not None:
            products = self.identity * self.bilinear
            shapes["bilinear.factors.weight"] = (self.bilinear, self.expression)
            shapes["bilinear.products.weight"] = (self.components, products)
        return shapes

    def stored_type(self, name: str) -> str:
        """The type of this tensor in a file."""
        if name == "encoder.points":
            return "int32"
        large = ("basis", "encoder.basis", "bilinear.products.weight")
        halved = self.half_basis and name in large
        return "float16" if halved else "float32"

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices.

        Training faces that span fewer components give a smaller one, and so do latents where the
        encoder sees points.
        """
        keys = ("identity", "expression", "components", "half_decoders")
        config = cls(vertices, *(recipe[key] for key in keys))
        if recipe["bilinear"] is not None:
            config = replace(config, bilinear=min(recipe["bilinear"], config.expression))
        points = used_points(vertices, recipe["points"])
        if points is None:
            return config
        return replace(config, points=points, encoder_components=config.components)

    def differences(self, other: Self) -> list[str]:
        """Fields in which the network of a model differs from this one, which is to be trained.

        It may have fewer components, if its training faces spanned no more.
        """
        limits = {"components": other.components <= self.components}
        if self.encoder_components is not None and other.encoder_components is not None:
            limits["encoder_components"] = other.encoder_components <= self.encoder_components
        return [key for key in super().differences(other) if not limits.get(key)]

    def weight_problem(self, name: str, array: Any) -> str:
        """An error in the values of a finite tensor, as a predicate; empty if there is none."""
        # a quotient by less than the smallest normal number may overflow
        if name.endswith("deviation") and not (array > _SMALLEST_NORMAL).all():
            return "is not positive"
        return _points_problem(name, array, self.vertices)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of an identity discriminator.

    Attributes:
        vertices: V.
        batch_norm: whether its layers have batch norm.
        points: number of vertices that it sees (farthest-point sampling); None = all.
    """

    vertices: int
    batch_norm: bool = False
    points: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DiscriminatorConfig":
        """Read a stored configuration; errors as of `read_config`."""
        return read_config(cls, values)


@dataclass(frozen=True)
class DiscriminatorMetadata:
    """The metadata of a discriminator's file."""

    config: dict[str, Any]
    topology: str
    metrics: dict[str, Any]
    history: list[HistoryStep]
    id: str


def used_points(vertices: int, points: int | None) -> int | None:
    """Number of vertices that PointNets see, when `points` of V are asked for; None = all."""
    return points if points and points < vertices else None


def stored_config(config: ModelConfig) -> dict[str, Any]:
    """The fields of a configuration as a model file has them."""
    values = asdict(config)
    for each in fields(config):
        if each.metadata.get("later") and values[each.name] == each.default:
            del values[each.name]
    return values


def later_fields(cls: type) -> frozenset[str]:
    """Names of the fields that a file may lack."""
    return frozenset(each.name for each in fields(cls) if each.metadata.get("later"))


def read_config(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Read a stored configuration.

    Args:
        cls: class of the configuration.
        values: its fields, from JSON.

    Raises:
        InputError: a field is missing or unknown, or has an impossible value.
    """
    wrong = "stored configuration does not fit this facedis"
    if not isinstance(values, Mapping):
        raise InputError(
            f"{wrong}: it is {reprlib.repr(values)}, expected a table", ErrorCode.METADATA
        )
    known = {f.name: f for f in fields(cast(Any, cls))}
    types = {name: f.type for name, f in known.items()}
    odd = sorted((types.keys() ^ values.keys()) - (later_fields(cls) - values.keys()))
    if odd:
        raise InputError(
            f"{wrong}: {reprlib.repr(odd[0])} is missing or unknown", ErrorCode.METADATA
        )
    for key, value in values.items():
        lacks = value == 0 and type(value) is int and known[key].metadata.get("may_be_zero")
        if not lacks and not _fits(value, types[key]):
            raise InputError(f"{wrong}: {key} is {reprlib.repr(value)}", ErrorCode.METADATA)
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _points_problem(name: str, array: Any, vertices: int) -> str:
    """The error in the vertices that an encoder sees."""
    if name == "encoder.points" and not 0 <= array.min() <= array.max() < vertices:
        return f"has points outside of {vertices} vertices"
    return ""


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value from JSON fits a field: positive integers, lists of them, booleans, None."""
    if annotation == tuple[int, ...]:
        return (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(_fits(item, int) for item in value)
        )
    if annotation is bool or isinstance(value, bool):
        return annotation is bool and isinstance(value, bool)
    return isinstance(value, annotation) and (value is None or 0 < value <= LARGEST)


def _linear(shapes: Shapes, name: str, inputs: int, outputs: int) -> None:
    """Add the tensors of a linear layer."""
    shapes[f"{name}.weight"] = (outputs, inputs)
    shapes[f"{name}.bias"] = (outputs,)
