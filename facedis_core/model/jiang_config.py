"""Configuration of the network after Jiang et al. 2019, which convolves over one mesh."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

from facedis_core.model.config import LATER, ModelConfig, Shapes

ORDERS: Final = 3  # Chebyshev polynomials of a convolution
HIDDEN: Final = 300  # width of the dense layers
ENCODER_WIDTHS: Final = (128, 64, 64, 64)  # of the convolutions before the last
LAST_WIDTHS: Final = {"identity": 3, "expression": 1}  # of the last one
FUSION_WIDTHS: Final = (256, 128, 128, 64)
LEAK: Final = 0.1  # of all ReLUs
_CHANNELS: Final = {False: 3, True: 9}  # coordinates, or a deformation representation
_POSITIVE: Final = ("half_range", "eigenvalue", "edge_weights", "steadiness")


@dataclass(frozen=True)
class JiangConfig(ModelConfig):
    """A branch for the identity, one for the expression, and their fusion to a face.

    A branch has an encoder of five convolutions and dense layers, and a dense decoder.

    Attributes:
        mesh_edges: number of edges of the mesh; 0 = not known yet.
        hidden: width of the dense layers between convolutions, latents and features.
        deformation: its features are a deformation representation, not coordinates.
    """

    mesh_edges: int
    hidden: int = HIDDEN
    deformation: bool = field(default=False, metadata=LATER)

    @property
    def channels(self) -> int:
        """Numbers of a vertex that the branches read and make."""
        return _CHANNELS[self.deformation]

    def differences(self, other: Self) -> list[str]:
        """Fields in which the network of a model differs; its mesh is that of the face set."""
        return [key for key in super().differences(other) if key != "mesh_edges"]

    def stored_type(self, name: str) -> str:
        """The type of this tensor in a file."""
        return "int32" if name == "edges" else "float32"

    def weight_shapes(self) -> Shapes:
        """Name and shape of every learned tensor, of the mesh, and of the features."""
        shapes: Shapes = {
            "edges": (self.mesh_edges, 2),
            "eigenvalue": (1,),
            "neutral": (self.vertices, 3),
            "centre": (self.vertices, self.channels),
            "half_range": (self.vertices, self.channels),
        }
        if self.deformation:
            shapes |= {"edge_weights": (self.mesh_edges,), "steadiness": (self.vertices,)}
        for branch, last in LAST_WIDTHS.items():
            size = getattr(self, branch)
            widths = (self.channels, *ENCODER_WIDTHS, last)
            shapes |= self._convolutions(f"{branch}_encoder", widths, branch == "identity")
            for name, inputs, outputs in (
                ("encoder.hidden", self.vertices * last, self.hidden),
                ("encoder.mean", self.hidden, size),
                ("encoder.log_variance", self.hidden, size),
                ("decoder.hidden", size, self.hidden),
                ("decoder.output", self.hidden, self.channels * self.vertices),
            ):
                shapes[f"{branch}_{name}.weight"] = (outputs, inputs)
                shapes[f"{branch}_{name}.bias"] = (outputs,)
        widths = (2 * self.channels, *FUSION_WIDTHS, self.channels)
        return shapes | self._convolutions("fusion", widths, True)

    def weight_problem(self, name: str, array: Any) -> str:
        """An error in the values of a finite tensor, as a predicate; empty if there is none."""
        if name in _POSITIVE and not (array > 0).all():
            return "is not positive"
        if name == "edges" and not 0 <= array.min() <= array.max() < self.vertices:
            return f"has vertices outside of {self.vertices}"
        return ""

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        """The network of a recipe (its fields by name) for faces of V vertices.

        Its mesh is that of the face set.
        """
        sizes = vertices, recipe["identity"], recipe["expression"]
        return cls(*sizes, mesh_edges=0, deformation=recipe["deformation"])

    def _convolutions(self, name: str, widths: tuple[int, ...], biases: bool) -> Shapes:
        """Convolutions, of which those with a bias have one for every vertex."""
        shapes: Shapes = {}
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            shapes[f"{name}.convolutions.{layer}.weight"] = (ORDERS, inputs, outputs)
            if biases:
                shapes[f"{name}.convolutions.{layer}.bias"] = (self.vertices, outputs)
        return shapes
