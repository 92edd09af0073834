"""Torch modules and losses. They read no files; keys of a recipe come in as a mapping.

The public names, each imported on first use. They work on plain tensors in any training loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facedis_core.model.config import DiscriminatorConfig, LinearConfig, PointNetConfig
    from facedis_core.model.jiang_config import JiangConfig
    from facedis_core.model.mesh_config import ConvMeshConfig, DiMeshConfig, KacemConfig
    from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
    from facedis_core.nn.conv_mesh import ConvMeshAutoEncoder
    from facedis_core.nn.datasets import FaceDataset, FacePairDataset, FaceSample, PairSample
    from facedis_core.nn.di_mesh import DiMeshAutoEncoder
    from facedis_core.nn.discriminator import IdentityDiscriminator
    from facedis_core.nn.face_pairs import FacePairs
    from facedis_core.nn.inference import (
        DecodedFaces,
        FaceDecoder,
        LatentEncoder,
        TrainedNetwork,
    )
    from facedis_core.nn.jiang import JiangAutoEncoder
    from facedis_core.nn.kacem import KacemAutoEncoder
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
    from facedis_core.nn.objective import LabelledFaces, Objective, Turn
    from facedis_core.nn.pointnet import (
        HiddenLayerDecoder,
        PointNetAutoEncoder,
        PointNetEncoder,
        SharedLayer,
    )

__all__ = [
    "AutoEncoder",
    "ConvMeshAutoEncoder",
    "ConvMeshConfig",
    "DecodedFaces",
    "DiMeshAutoEncoder",
    "DiMeshConfig",
    "DiscriminatorConfig",
    "DiscriminatorLoss",
    "FaceDataset",
    "FaceDecoder",
    "FacePairDataset",
    "FacePairs",
    "FaceSample",
    "Gaussian",
    "HiddenLayerDecoder",
    "IdentityDiscriminator",
    "InitialData",
    "JiangAutoEncoder",
    "JiangConfig",
    "KacemAutoEncoder",
    "KacemConfig",
    "LabelledFaces",
    "LatentEncoder",
    "LinearAutoEncoder",
    "LinearConfig",
    "LossWeights",
    "MaxPoolLinear",
    "Objective",
    "PairSample",
    "PointNetAutoEncoder",
    "PointNetConfig",
    "PointNetEncoder",
    "Posterior",
    "SharedLayer",
    "TrainedNetwork",
    "Turn",
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
    "AutoEncoder": "nn.autoencoder",
    "ConvMeshAutoEncoder": "nn.conv_mesh",
    "ConvMeshConfig": "model.mesh_config",
    "DecodedFaces": "nn.inference",
    "DiMeshAutoEncoder": "nn.di_mesh",
    "DiMeshConfig": "model.mesh_config",
    "DiscriminatorConfig": "model.config",
    "DiscriminatorLoss": "nn.losses",
    "FaceDataset": "nn.datasets",
    "FaceDecoder": "nn.inference",
    "FacePairDataset": "nn.datasets",
    "FacePairs": "nn.face_pairs",
    "FaceSample": "nn.datasets",
    "Gaussian": "nn.autoencoder",
    "HiddenLayerDecoder": "nn.pointnet",
    "IdentityDiscriminator": "nn.discriminator",
    "InitialData": "nn.autoencoder",
    "JiangAutoEncoder": "nn.jiang",
    "JiangConfig": "model.jiang_config",
    "KacemAutoEncoder": "nn.kacem",
    "KacemConfig": "model.mesh_config",
    "LabelledFaces": "nn.objective",
    "LatentEncoder": "nn.inference",
    "LinearAutoEncoder": "nn.linear",
    "LinearConfig": "model.config",
    "LossWeights": "nn.losses",
    "MaxPoolLinear": "nn.max_pool.layer",
    "Objective": "nn.objective",
    "PairSample": "nn.datasets",
    "PointNetAutoEncoder": "nn.pointnet",
    "PointNetConfig": "model.config",
    "PointNetEncoder": "nn.pointnet",
    "Posterior": "nn.autoencoder",
    "SharedLayer": "nn.pointnet",
    "TrainedNetwork": "nn.inference",
    "Turn": "nn.objective",
    "discriminator_loss": "nn.losses",
    "expression_norm_loss": "nn.losses",
    "generator_loss": "nn.losses",
    "kl_divergence": "nn.losses",
    "laplacian_loss": "nn.losses",
    "laplacian_matrix": "nn.losses",
    "neutral_latent_loss": "nn.losses",
    "partner_latent_loss": "nn.losses",
    "pool": "nn.max_pool.layer",
    "pool_reference": "nn.max_pool.layer",
    "reconstruction_loss": "nn.losses",
    "set_pooling": "nn.max_pool.layer",
    "weighted_sum": "nn.losses",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"facedis_core.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
