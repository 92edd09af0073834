"""Whether what a training starts from fits together: faces, recipe, model, discriminator."""

from dataclasses import asdict

import numpy as np

from facedis_core.build import Frame
from facedis_core.config import ModelConfig
from facedis_core.discriminator import IdentityDiscriminator
from facedis_core.errors import InputError
from facedis_core.faceset import FaceSet
from facedis_core.network_table import network_of
from facedis_core.recipe import Recipe

# Of the scale: a discriminator judges faces in the coordinates it was pre-trained in.
_FRAME_TOLERANCE = 1e-3


def check_same_topology(label: str, topology: str, faces: FaceSet) -> None:
    """A model or discriminator must know the triangles of the faces.

    Raises:
        InputError: it has others.
    """
    if topology != faces.topology:
        raise InputError(
            f"{label} has topology {topology}, the face set has {faces.topology}; "
            "prepare the set with fd-prep --like, or train anew"
        )


def check_network(label: str, found: ModelConfig, recipe: Recipe) -> None:
    """A model to start from must be what the recipe trains; its components may be fewer."""
    wanted = recipe.model_config(found.vertices)
    if type(found) is not type(wanted):
        kind = network_of(found).name
        raise InputError(
            f"{label} is a {kind} network, the recipe trains a {recipe.network} one; "
            f"give a --recipe whose network is {kind}"
        )
    ours, theirs = asdict(wanted), asdict(found)
    odd = [f"{key} {theirs[key]} against {ours[key]}" for key in wanted.differences(found)]
    if odd:
        raise InputError(
            f"{label} is another network than the recipe's: {', '.join(odd)}; adapt it with --set"
        )


def check_discriminator(
    label: str, found: IdentityDiscriminator, recipe: Recipe, frame: Frame
) -> None:
    """A discriminator must be built as the recipe says, and see faces in the same coordinates."""
    wanted = recipe.discriminator_config(len(frame.mean_face))
    if found.config != wanted:
        theirs, asked = (
            ", ".join(f"{key}={value}" for key, value in asdict(config).items())
            for config in (found.config, wanted)
        )
        raise InputError(
            f"{label} was built with {theirs}, the recipe wants {asked}; "
            "pre-train it with the same recipe, --set and --neutrals"
        )
    origin, scale = found.origin.numpy(), float(found.scale)
    if np.abs([*(origin - frame.origin), scale - frame.scale]).max() > _FRAME_TOLERANCE * scale:
        raise InputError(
            f"{label} sees faces from {origin.round(2)} at {scale:g} mm a unit, this "
            f"run has {frame.origin.round(2)} and {frame.scale:g}; pre-train it on the same faces"
        )
