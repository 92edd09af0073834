"""The linear start of a PointNet: what its layers read, and the faces that it gives."""

import copy

import numpy as np
import pytest
import torch
from synthetic import face_set

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.surface import farthest_points
from facedis_core.nn.max_pool.layer import set_pooling
from facedis_core.nn.pointnet import PointNetAutoEncoder
from facedis_core.nn.pointnet_start import ROOM
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.recipe import load_recipe
from facedis_core.train.setup import build_auto_encoder, training_frame, with_pseudo_neutrals

FACES = face_set(subjects=20, test=4, size=8)


def started(*changes: str, neutrals: bool = True) -> PointNetAutoEncoder:
    sizes = ["identity=8", "expression=6", "points=none", *changes]
    recipe = load_recipe("pointnet-linear", neutrals=neutrals, changes=sizes)
    faces = FACES if neutrals else with_pseudo_neutrals(FACES, recipe)
    frame = training_frame(faces, recipe)
    return build_auto_encoder(recipe, frame, faces, 0, neutrals=True).eval()


def errors(network: PointNetAutoEncoder, rows: np.ndarray) -> tuple[float, float]:
    """Mean vertex distances in mm: of reconstructions, and of identity faces to the neutral."""
    faces = torch.tensor(FACES.read(rows))
    neutral = torch.tensor(FACES.neutrals[np.asarray(FACES.labels.subject)[rows]])
    with torch.no_grad():
        z = network.encode(network.normalise(faces))
        identity = network.mean_face + network.identity_offsets(z.identity.mean) * network.scale
        full = (
            identity
            + network.expression_offsets(z.expression.mean, z.identity.mean) * network.scale
        )
    return (
        float((full - faces).norm(dim=-1).mean()),
        float((identity - neutral).norm(dim=-1).mean()),
    )


@pytest.mark.parametrize("neutrals", [True, False])
def test_unseen_faces_are_reconstructed_and_split_before_the_first_step(neutrals) -> None:
    faces, rows = FACES.read(FACES.rows(TEST)), FACES.rows(TEST)
    mean = FACES.mean_face(FACES.rows(TRAIN))
    from_mean = float(np.linalg.norm(faces - mean, axis=-1).mean())
    full, identity = errors(started(neutrals=neutrals), rows)
    assert full < 0.1 * from_mean
    assert identity < 0.2 * from_mean


def test_three_channels_read_the_offset_of_one_vertex() -> None:
    network = started("points=40")
    rng = np.random.default_rng(0)
    faces = network.mean_face + torch.tensor(rng.normal(0, 5, (6, 64, 3)), dtype=torch.float32)
    seen = network.encoder_input(network.normalise(faces))
    with torch.no_grad():
        read = network.encoder.features(seen)[:, : 3 * 40].unflatten(1, (40, 3))
    points = network.encoder.points
    assert points is not None
    order = farthest_points(network.mean_face[points].numpy(), 40)
    offsets = seen[:, points[order], 3:]
    room = (read - offsets).mean(dim=0)
    assert room.min() > ROOM - 1e-4
    torch.testing.assert_close(read, offsets + room, rtol=0, atol=2e-5)


def test_no_digits_are_lost() -> None:
    network = started()
    faces = network.normalise(torch.tensor(FACES.read(FACES.rows(TEST))))
    twin = copy.deepcopy(network).double()
    set_pooling(twin, implementation="reference")
    with torch.no_grad():
        found, exact = network.encode(faces), twin.encode(faces.double())
        pairs = [
            (
                network.identity_offsets(z.identity.mean.float()),
                network.expression_offsets(z.expression.mean.float(), z.identity.mean.float()),
            )
            for z in (found, exact)
        ]
        for one, other in zip(*pairs, strict=True):
            apart = one - other
            assert apart.norm(dim=-1).max() * network.scale < 1e-4  # mm


def test_statistics_of_batch_norm_stay_those_of_the_start() -> None:
    network = started()
    recipe = load_recipe("pointnet-linear", neutrals=True, changes=["steps=4", "batch=20"])
    before = [layer.norm.running_var.clone() for layer in network.encoder.layers]
    cpu = torch.device("cpu")
    AdversarialTrainer(network, None, FACES, recipe, neutrals=True, seed=0, device=cpu).run_epochs()
    for layer, old in zip(network.encoder.layers, before, strict=True):
        torch.testing.assert_close(layer.norm.running_var, old, rtol=0, atol=0)


@pytest.mark.parametrize("change", ["encoder_offsets=false", "identity=129", "pseudo_neutral=none"])
def test_what_the_start_needs(change) -> None:
    with pytest.raises(UsageError) as error:
        recipe = load_recipe("pointnet-linear", neutrals=False, changes=["points=none", change])
        build_auto_encoder(
            recipe, training_frame(FACES, recipe), FACES, 0, neutrals="pseudo_neutral" not in change
        )
    assert error.value.code == ErrorCode.OPTION_CONFLICT
