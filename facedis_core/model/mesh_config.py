"""Configurations of networks that convolve over a mesh and pool it, after CoMA."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Self

from facedis_core.errors import ErrorCode, InputError
from facedis_core.model.config import MAY_BE_ZERO, ModelConfig, Shapes

CHANNELS: Final = (16, 16, 16, 32)
ORDERS: Final = 6


@dataclass(frozen=True)
class MeshConfig(ModelConfig):
    """Chebyshev convolutions on a hierarchy of meshes (Ranjan et al. 2018).

    An encoder has for each mesh but the coarsest a convolution, ReLU and pooling, then a dense
    layer; a decoder is the reverse, with a last convolution to three channels.

    Attributes:
        levels: number of vertices of each coarser mesh.
        edges: number of edges of each mesh but the coarsest.
        channels: of the convolution on each mesh, the finest first.
        orders: number of Chebyshev polynomials of a convolution.
    """

    levels: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()
    channels: tuple[int, ...] = CHANNELS
    orders: int = ORDERS

    def __post_init__(self) -> None:
        if self.levels and not len(self.levels) == len(self.edges) == len(self.channels):
            raise InputError(
                f"stored configuration does not fit this facedis: {len(self.levels)} levels, "
                f"{len(self.edges)} edges and {len(self.channels)} channels, expected as many",
                ErrorCode.METADATA,
            )

    def on_meshes(self, levels: tuple[int, ...], edges: tuple[int, ...]) -> Self:
        """The configuration on a hierarchy; on a short one without the channels of the finest."""
        channels = self.channels[-len(levels) :]
        return replace(self, levels=levels, edges=edges, channels=channels)

    def differences(self, other: Self) -> list[str]:
        """Fields in which the network of a model differs; its meshes are those of the face set."""
        found = ("levels", "edges", "channels")
        return [key for key in super().differences(other) if key not in found]

    def stored_type(self, name: str) -> str:
        """The type of this tensor in a file."""
        return "int32" if name.endswith((".edges", ".kept", ".corners")) else "float32"

    def mesh_shapes(self) -> Shapes:
        """The meshes, and the deviation by which coordinates are standardised."""
        shapes: Shapes = {"deviation": (self.vertices, 3)}
        sizes = (self.vertices, *self.levels)
        for level, edges in enumerate(self.edges):
            shapes |= {
                f"meshes.{level}.edges": (edges, 2),
                f"meshes.{level}.kept": (sizes[level + 1],),
                f"meshes.{level}.corners": (sizes[level], 3),
                f"meshes.{level}.weights": (sizes[level], 3),
            }
        return shapes

    def encoder_shapes(self, name: str, outputs: int) -> Shapes:
        """The layers of an encoder with so many outputs."""
        shapes, width = Shapes(), 3
        for level, channels in enumerate(self.channels):
            shapes[f"{name}.convolutions.{level}.weight"] = (self.orders, width, channels)
            shapes[f"{name}.convolutions.{level}.bias"] = (channels,)
            width = channels
        shapes[f"{name}.dense.weight"] = (outputs, self.levels[-1] * width)
        shapes[f"{name}.dense.bias"] = (outputs,)
        return shapes

    def decoder_shapes(self, name: str, inputs: int) -> Shapes:
        """The layers of a decoder with so many inputs."""
        width, shapes = self.channels[-1], Shapes()
        shapes[f"{name}.dense.weight"] = (self.levels[-1] * width, inputs)
        shapes[f"{name}.dense.bias"] = (self.levels[-1] * width,)
        for step, channels in enumerate(self.channels[::-1]):
            shapes[f"{name}.convolutions.{step}.weight"] = (self.orders, width, channels)
            shapes[f"{name}.convolutions.{step}.bias"] = (channels,)
            width = channels
        shapes[f"{name}.output.weight"] = (self.orders, width, 3)
        return shapes

    def weight_problem(self, name: str, array: Any) -> str:
        """An error in the values of a finite tensor, as a predicate; empty if there is none."""
        if name == "deviation" and not (array > 0).all():
            return "is not positive"
        if self.stored_type(name) == "int32":
            _, level, kind = name.split(".")
            size = (self.vertices, *self.levels)[int(level) + (kind == "corners")]
            if not 0 <= array.min() <= array.max() < size:
                return f"has vertices outside of {size}"
        return ""


@dataclass(frozen=True)
class ConvMeshConfig(MeshConfig):
    """CoMA: one latent, from which its decoder makes the neutral of a face, or the face itself.

    The other half has no latents: X is X_id, or the mean face plus X_exp.

    Attributes:
        latent_relu: whether latents pass a ReLU.
    """

    identity: int = field(metadata=MAY_BE_ZERO)
    expression: int = field(metadata=MAY_BE_ZERO)
    latent_relu: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.identity) == bool(self.expression):
            raise InputError(
                f"stored configuration does not fit this facedis: latents {self.identity} + "
                f"{self.expression}, expected those of one half",
                ErrorCode.METADATA,
            )

    @property
    def latent(self) -> int:
        """D, of the half that there is."""
        return self.identity or self.expression

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor, and of the meshes."""
        return {
            **self.mesh_shapes(),
            **self.encoder_shapes("encoder", self.latent),
            **self.decoder_shapes("decoder", self.latent),
        }

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices.

        Its meshes are those of the face set.
        """
        identity = recipe["identity"] if recipe["target"] == "neutral" else 0
        expression = 0 if identity else recipe["expression"]
        return cls(vertices, identity, expression, latent_relu=recipe["latent_relu"])


@dataclass(frozen=True)
class KacemConfig(MeshConfig):
    """An auto-encoder on meshes, and a generator from latents of faces to those of neutrals.

    It has no expression latents: X is X_id.

    Attributes:
        hidden: width of the generator's two hidden layers.
    """

    identity: int
    expression: int = field(metadata=MAY_BE_ZERO)
    hidden: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expression:
            raise InputError(
                f"stored configuration does not fit this facedis: {self.expression} expression "
                "latents, expected none",
                ErrorCode.METADATA,
            )

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor, and of the meshes."""
        shapes = {
            **self.mesh_shapes(),
            **self.encoder_shapes("encoder", self.identity),
            **self.decoder_shapes("decoder", self.identity),
        }
        widths = (self.identity, self.hidden, self.hidden, self.identity)
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            shapes[f"generator.{layer}.weight"] = (outputs, inputs)
            shapes[f"generator.{layer}.bias"] = (outputs,)
        return shapes

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices."""
        return cls(vertices, recipe["identity"], 0)


@dataclass(frozen=True)
class DiMeshConfig(MeshConfig):
    """Two variational encoders, a decoder of neutrals, and one of faces from both latents.

    Attributes:
        joint: number of inputs of the decoder of faces, D_id + D_exp.
    """

    joint: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.joint != self.identity + self.expression:
            raise InputError(
                f"stored configuration does not fit this facedis: joint is {self.joint}, expected "
                f"{self.identity} + {self.expression}",
                ErrorCode.METADATA,
            )

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor, and of the meshes."""
        return {
            **self.mesh_shapes(),
            **self.encoder_shapes("identity_encoder", 2 * self.identity),
            **self.encoder_shapes("expression_encoder", 2 * self.expression),
            **self.decoder_shapes("identity_decoder", self.identity),
            **self.decoder_shapes("decoder", self.joint),
        }

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices."""
        sizes = recipe["identity"], recipe["expression"]
        return cls(vertices, *sizes, joint=sum(sizes))
