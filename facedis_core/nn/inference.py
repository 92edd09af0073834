"""Trained networks in torch: a model's network with its weights, and its faces in mm."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facedis_core.errors import ErrorCode, InputError
from facedis_core.model.model import Model
from facedis_core.model.networks import network_of
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
    """

    def __init__(self, network: AutoEncoder) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) mm -> distributions of both latents, (B, D_id) and (B, D_exp)."""
        return self.network.encode(self.network.normalise(faces))

    def identity_faces(self, z: Tensor) -> Tensor:
        """Identity latents (B, D_id) -> X_id, (B, V, 3) mm."""
        return self.network.mean_face + self.network.identity_offsets(z) * self.network.scale

    def expression_offsets(self, z: Tensor) -> Tensor:
        """Expression latents (B, D_exp) -> X_exp, (B, V, 3) mm."""
        return self.network.expression_offsets(z) * self.network.scale

    def forward(self, faces: Tensor) -> DecodedFaces:
        """Encode faces (B, V, 3) mm and decode their latent means."""
        posteriors = self.encode(faces)
        identity = self.identity_faces(posteriors.identity.mean)
        expression = self.expression_offsets(posteriors.expression.mean)
        return DecodedFaces(identity + expression, identity, expression, posteriors)


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
    """A model as a torch module on a device; for `Model.to_torch`."""
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
