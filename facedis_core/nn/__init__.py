"""Torch modules and losses; no files and no recipes.

The public names, each imported on first use. They work on plain tensors in any training loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
    from facedis_core.nn.datasets import FaceDataset, FacePairDataset, FaceSample, PairSample
    from facedis_core.nn.discriminator import IdentityDiscriminator
    from facedis_core.nn.face_pairs import FacePairs
    from facedis_core.nn.linear import LinearAutoEncoder
    from facedis_core.nn.losses import (
        DiscriminatorLoss,
        LossWeights,
        discriminator_loss,
        expression_norm_loss,
        generator_loss,
        kl_divergence,
        laplacian_loss,
        laplacian_matrix,
        neutral_latent_loss,
        partner_latent_loss,
        reconstruction_loss,
        weighted_sum,
    )
    from facedis_core.nn.max_pool.layer import MaxPoolLinear, pool, pool_reference, set_pooling
    from facedis_core.nn.pointnet import (
        HiddenLayerDecoder,
        PointNetAutoEncoder,
        PointNetEncoder,
        SharedLayer,
    )

__all__ = [
    "AutoEncoder",
    "DiscriminatorLoss",
    "FaceDataset",
    "FacePairDataset",
    "FacePairs",
    "FaceSample",
    "Gaussian",
    "HiddenLayerDecoder",
    "IdentityDiscriminator",
    "InitialData",
    "LinearAutoEncoder",
    "LossWeights",
    "MaxPoolLinear",
    "PairSample",
    "PointNetAutoEncoder",
    "PointNetEncoder",
    "Posterior",
    "SharedLayer",
    "discriminator_loss",
    "expression_norm_loss",
    "generator_loss",
    "kl_divergence",
    "laplacian_loss",
    "laplacian_matrix",
    "neutral_latent_loss",
    "partner_latent_loss",
    "pool",
    "pool_reference",
    "reconstruction_loss",
    "set_pooling",
    "weighted_sum",
]

_MODULES = {
    "AutoEncoder": "autoencoder",
    "DiscriminatorLoss": "losses",
    "FaceDataset": "datasets",
    "FacePairDataset": "datasets",
    "FacePairs": "face_pairs",
    "FaceSample": "datasets",
    "Gaussian": "autoencoder",
    "HiddenLayerDecoder": "pointnet",
    "IdentityDiscriminator": "discriminator",
    "InitialData": "autoencoder",
    "LinearAutoEncoder": "linear",
    "LossWeights": "losses",
    "MaxPoolLinear": "max_pool.layer",
    "PairSample": "datasets",
    "PointNetAutoEncoder": "pointnet",
    "PointNetEncoder": "pointnet",
    "Posterior": "autoencoder",
    "SharedLayer": "pointnet",
    "discriminator_loss": "losses",
    "expression_norm_loss": "losses",
    "generator_loss": "losses",
    "kl_divergence": "losses",
    "laplacian_loss": "losses",
    "laplacian_matrix": "losses",
    "neutral_latent_loss": "losses",
    "partner_latent_loss": "losses",
    "pool": "max_pool.layer",
    "pool_reference": "max_pool.layer",
    "reconstruction_loss": "losses",
    "set_pooling": "max_pool.layer",
    "weighted_sum": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
