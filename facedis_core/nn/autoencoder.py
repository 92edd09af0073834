"""Base class of the auto-encoders: faces -> distributions of latents -> X_id, X_exp (eq. 1)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.model.config import ModelConfig
from facedis_core.nn.augment import PoseVariation
from facedis_core.nn.distributed import shard_of_randn
from facedis_core.nn.objective import Objective


class Gaussian(NamedTuple):
    """A diagonal normal distribution over latents: both (B, D).

    Example:
        >>> Gaussian(torch.zeros(2, 3), torch.zeros(2, 3)).sample().shape
        torch.Size([2, 3])
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Reparametrised sample, (B, D)."""
        return self.mean + shard_of_randn(self.mean) * (0.5 * self.log_variance).exp()

    def clamped(self, limit: float) -> "Gaussian":
        """With log-variances from -limit to limit."""
        return Gaussian(self.mean, self.log_variance.clamp(-limit, limit))


class Posterior(NamedTuple):
    """Distributions of both latents of a face."""

    identity: Gaussian
    expression: Gaussian


@dataclass(frozen=True, eq=False)
class InitialData:
    """The data from which the initial weights of an auto-encoder may be computed.

    Attributes:
        vertices: (N, V, 3) mm.
        rows: (n,) rows of the training faces.
        subject: (n,) the person of each training face.
        neutrals: (S, V, 3) mm by person, NaN where not known; None = no person's neutral is known.
        triangles: int32 (F, 3); None = not known.
        expression: (n,) the expression of each training face; None = not known.
        points: int64 (K,) vertices that a PointNet sees; None = all.
        poses: the random poses in which training shows them.
        zero_decoders: initialise decoders with zeros, not at random.
        trust: weight of the neutrals in the closed-form start.
        decoder_components: number of principal components of the training faces whose coefficients
            the decoders of a PointNet learn; None = they learn coordinates of vertices.
        linear_start: whether a PointNet starts as a linear model, not at random.
        linear_fit: closed form of the linear network: `split`, or `flame`, FLAME's linear model.
    """

    vertices: np.ndarray
    rows: np.ndarray
    subject: np.ndarray
    neutrals: np.ndarray | None = None
    triangles: np.ndarray | None = None
    expression: np.ndarray | None = None
    points: Tensor | None = None
    poses: PoseVariation = field(default_factory=PoseVariation)
    zero_decoders: bool = True
    trust: float = 1.0
    decoder_components: int | None = None
    linear_start: bool = False
    linear_fit: str = "split"

    def check_neutrals(self, otherwise: str = "") -> None:
        """Raise UsageError where no neutral is known; `otherwise` ends its advice."""
        if self.neutrals is None:
            raise UsageError(
                "the network learns the neutrals of faces; give --neutrals, or "
                f"--set pseudo_neutral=auto{otherwise}",
                ErrorCode.OPTION_CONFLICT,
            )


class AutoEncoder(nn.Module, ABC):
    """A variational auto-encoder with an identity and an expression decoder (eq. 1).

    It works in normalised coordinates, (X - origin) / scale. Subclasses can be made from these four
    arguments alone, to load weights into.

    Attributes:
        is_fitted: whether the initial weights are a fit to the training faces, fit for use.
        is_exportable: whether torch exports it to ONNX.

    Args:
        config: sizes of the network.
        mean_face: (V, 3) mm.
        origin: (3,) mm.
        scale: mm a unit.
    """

    is_exportable: ClassVar[bool] = True

    def __init__(
        self, config: ModelConfig, mean_face: Tensor, origin: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.config = config
        self.is_fitted = False
        self.register_buffer("mean_face", mean_face.float())
        self.register_buffer("origin", origin.float())
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.mean_face: Tensor
        self.origin: Tensor
        self.scale: Tensor

    @classmethod
    @abstractmethod
    def fresh(
        cls, config: Any, mean_face: Tensor, origin: Tensor, scale: float, data: InitialData
    ) -> Self:
        """A network with initial weights; it may have fewer components than the config asks for."""

    def reparametrise(self, data: InitialData) -> None:
        """Change before a training what is learned of the weights, if the data asks for it."""

    def objective(self, recipe: Mapping[str, Any], data: InitialData) -> Objective | None:
        """Losses of its own; None: those of the paper, eq. 7 and 8.

        Args:
            recipe: its fields by name.
            data: the training faces.

        Raises:
            UsageError: the losses need what the data lacks.
        """
        return None

    def output_parameters(self) -> list[nn.Parameter]:
        """The weights of the decoders' last layers, which may have a learning rate of their own."""
        return []

    def model_tensors(self) -> dict[str, Tensor]:
        """The tensors of a model file, by the names of the config; `reparametrise` undone."""
        return self.state_dict()

    @abstractmethod
    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""

    @abstractmethod
    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""

    @abstractmethod
    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D_exp) of people (B, D_id) -> X_exp, (B, V, 3)."""

    def normalise(self, vertices: Tensor) -> Tensor:
        """Mm -> network coordinates."""
        return (vertices - self.origin) / self.scale

    @property
    def normalised_mean_face(self) -> Tensor:
        """(V, 3) in network coordinates."""
        return self.normalise(self.mean_face)
