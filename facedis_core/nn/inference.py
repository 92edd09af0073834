"""Trained networks in torch: a model's network with its weights, and its faces in mm."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.errors import ErrorCode, InputError, UsageError, check_argument
from facedis_core.model.model import Model
from facedis_core.model.networks import network_of
from facedis_core.model.numpy_forward import LatentMeans
from facedis_core.nn.autoencoder import AutoEncoder, Posterior

_MODEL_BUFFERS = ("mean_face", "origin", "scale")


class DecodedFaces(NamedTuple):
    """Faces from latent means: X = X_id + X_exp (eq. 1).

    Attributes:
        reconstruction: X, (B, V, 3) mm.
        identity: identity faces X_id, (B, V, 3) mm.
        expression: expression offsets X_exp, (B, V, 3) mm.
        posteriors: distributions of both latents; the faces are those of their means.
    """

    reconstruction: Tensor
    identity: Tensor
    expression: Tensor
    posteriors: Posterior


class TrainedNetwork(nn.Module):
    """A trained auto-encoder on faces in mm, in evaluation mode and without sampling.

    Args:
        network: the auto-encoder.

    Example:
        >>> network = load_model("ict-linear").to_torch("cpu")
        >>> faces = torch.from_numpy(read_mesh("weights/examples/bob_smile.ply").vertices[None])
        >>> network(faces).reconstruction.shape
        torch.Size([1, 26719, 3])
    """

    def __init__(self, network: AutoEncoder) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) mm -> distributions of both latents, (B, D_id) and (B, D_exp).

        Raises:
            UsageError: no tensor.
            InputError: another shape or type than the network's.
        """
        mean = self.network.mean_face
        check_argument(faces, Tensor, "faces", f"a tensor (B, {len(mean)}, 3)")
        if faces.shape[1:] != mean.shape or faces.dtype != mean.dtype:
            raise InputError(
                f"faces are {faces.dtype} of shape {tuple(faces.shape)}, expected {mean.dtype} "
                f"(B, {len(mean)}, 3)",
                ErrorCode.ARRAY_SHAPE,
            )
        return self.network.encode(self.network.normalise(faces))

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D_id) -> X_id minus the mean face, (B, V, 3) mm."""
        return self.network.identity_offsets(z) * self.network.scale

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D_exp) of people (B, D_id) -> X_exp, (B, V, 3) mm."""
        return self.network.expression_offsets(z, identity) * self.network.scale

    def forward(self, faces: Tensor) -> DecodedFaces:
        """Encode faces (B, V, 3) mm and decode their latent means."""
        posteriors = self.encode(faces)
        identity = self.network.mean_face + self.identity_offsets(posteriors.identity.mean)
        expression = self.expression_offsets(posteriors.expression.mean, posteriors.identity.mean)
        return DecodedFaces(identity + expression, identity, expression, posteriors)


class LatentEncoder(nn.Module):
    """The encoder of a trained auto-encoder as a module of its own, for export.

    Raises:
        InputError: torch does not export this network.

    Example:
        >>> encoder = LatentEncoder(load_model("ict-linear").to_torch())
        >>> identity, expression = encoder(torch.zeros(2, 26719, 3))
        >>> identity.shape, expression.shape
        (torch.Size([2, 92]), torch.Size([2, 44]))
    """

    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__()
        _check_exportable(network)
        self.network = network
        self.eval()

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Faces (B, V, 3) mm -> latent means (B, D_id) and (B, D_exp)."""
        posteriors = self.network.encode(faces)
        return posteriors.identity.mean, posteriors.expression.mean


class FaceDecoder(nn.Module):
    """The decoders of a trained auto-encoder as a module of its own, for export.

    Raises:
        InputError: torch does not export this network.

    Example:
        >>> decoder = FaceDecoder(load_model("ict-linear").to_torch())
        >>> decoder(torch.zeros(2, 92), torch.zeros(2, 44)).shape
        torch.Size([2, 26719, 3])
    """

    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__()
        _check_exportable(network)
        self.network = network
        self.eval()

    def forward(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Latents (B, D_id) and (B, D_exp) -> faces X_id + X_exp (eq. 1), (B, V, 3) mm."""
        offsets = self.network.identity_offsets(identity)
        shown = self.network.expression_offsets(expression, identity)
        return self.network.network.mean_face + offsets + shown


class ArrayForward:
    """Encoder and decoders of a model on NumPy arrays, in batches on a device.

    Args:
        model: the model.
        device: of torch.
        batch: number of faces computed at once.
    """

    def __init__(self, model: Model, device: torch.device | str, batch: int = 256) -> None:
        self.network = trained_network(model, device)
        self.device, self.batch = device, batch

    @torch.no_grad()
    def encode(self, faces: np.ndarray) -> LatentMeans:
        """Faces (B, V, 3) mm -> latent means (B, D_id) and (B, D_exp)."""
        config = self.network.network.config
        identity = np.empty((len(faces), config.identity), np.float32)
        expression = np.empty((len(faces), config.expression), np.float32)
        for start in range(0, len(faces), self.batch):
            part = slice(start, start + self.batch)
            posteriors = self.network.encode(self._tensor(faces[part]))
            identity[part] = posteriors.identity.mean.numpy(force=True)
            expression[part] = posteriors.expression.mean.numpy(force=True)
        return LatentMeans(identity, expression)

    @torch.no_grad()
    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Offsets (B, 3V) mm from the mean face of latents (B, D_id) and (B, D_exp).

        Of X_id (part `identity`), of X_exp (`expression`), or of their sum (`full`).
        """
        faces = np.empty((len(identity), self.network.network.mean_face.numel()), np.float32)
        for start in range(0, len(faces), self.batch):
            rows = slice(start, start + self.batch)
            z, shown = self._tensor(identity[rows]), self._tensor(expression[rows])
            parts = []
            if part in ("full", "identity"):
                parts.append(self.network.identity_offsets(z))
            if part in ("full", "expression"):
                parts.append(self.network.expression_offsets(shown, z))
            faces[rows] = torch.stack(parts).sum(dim=0).flatten(1).numpy(force=True)
        return faces

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)


def _check_exportable(network: TrainedNetwork) -> None:
    """Raise InputError where the words of torch would be a page about its own internals."""
    if not network.network.is_exportable:
        name = network_of(network.network.config).name
        raise InputError(
            f"torch does not export the network {name} to ONNX; encode and decode with NumPy, or "
            "call the network itself",
            ErrorCode.UNSUPPORTED,
        )


def network_from_model(model: Model) -> AutoEncoder:
    """The torch network of a model, with its weights."""
    weights = {name: torch.tensor(array) for name, array in model.weights.items()}
    module: type[AutoEncoder] = network_of(model.config).load_torch_module()
    network = module(
        model.config, torch.tensor(model.mean_face), torch.tensor(model.origin), model.scale
    )
    load_state(network, weights, model.source or "the model")
    return network


def trained_network(model: Model, device: torch.device | str = "cpu") -> TrainedNetwork:
    """A model as a torch module on a device; for `Model.to_torch`.

    Raises:
        UsageError: torch has no such device here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device is {str(device)!r}, which torch does not have here: "
            f"{str(error).splitlines()[0]}; use cpu",
            ErrorCode.DEVICE,
        ) from error
    return TrainedNetwork(network_from_model(model)).to(device)


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
    """Load all tensors and no others; batch norm's counters of batches may be missing.

    Raises:
        InputError: a tensor is missing, unknown or has another shape.
    """
    wanted = {k for k in network.state_dict() if not k.endswith("num_batches_tracked")}
    wanted -= set(_MODEL_BUFFERS) - set(tensors)
    if wanted != set(tensors):
        odd = sorted(wanted ^ set(tensors))[0]
        raise InputError(
            f"{label}: tensor {odd!r} is missing or unknown to its config", ErrorCode.TENSOR
        )
    try:
        network.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise InputError(
            f"{label}: {str(error).splitlines()[-1].strip()}", ErrorCode.TENSOR
        ) from None
