"""What is stored of a network is read back, or refused; its tensors are those of the paper."""

import math
from dataclasses import asdict

import pytest
from raising import raises

from facedis_core.model.config import (
    DiscriminatorConfig,
    LinearConfig,
    PointNetConfig,
    stored_config,
)
from facedis_core.model.networks import model_config

POINTNET = {
    "vertices": 36,
    "identity": 3,
    "expression": 2,
    "channels": [8, 16],
    "decoder_hidden": 256,
    "points": None,
    "half_decoders": False,
}
REGISTERED = {
    "vertices": 36,
    "identity": 3,
    "expression": 2,
    "components": 20,
    "half_basis": True,
}


@pytest.mark.parametrize(
    ("stored", "config"),
    [
        (POINTNET, PointNetConfig(36, 3, 2, (8, 16))),
        (REGISTERED, LinearConfig(36, 3, 2, 20, True)),
    ],
)
def test_what_is_stored_is_read(stored, config):
    assert model_config(stored) == config
    assert model_config(asdict(config)) == config


@pytest.mark.parametrize(
    ("stored", "key"),
    [(POINTNET, key) for key in POINTNET] + [(REGISTERED, key) for key in REGISTERED],
)
def test_every_key_must_be_there(stored, key):
    with raises("metadata", f"'{key}' is missing"):
        model_config({k: v for k, v in stored.items() if k != key})


def test_later_keys_are_stored_only_where_they_say_something():
    plain, offsets = (PointNetConfig(36, 3, 2, (8, 16), encoder_offsets=k) for k in (False, True))
    assert stored_config(plain).keys() == POINTNET.keys()
    assert model_config(stored_config(plain)) == plain
    assert stored_config(offsets).keys() == POINTNET.keys() | {"encoder_offsets"}
    assert model_config(stored_config(offsets)) == offsets
    ours, theirs = offsets.weight_shapes(), plain.weight_shapes()
    assert ours["encoder.layers.0.linear.weight"] == (8, 6)
    assert ours.keys() - theirs.keys() == {"encoder.spread"}


UNFIT = {
    "depth": [3],
    "vertices": ["36", 36.0, True, -36, 10**30],
    "identity": [0, None],
    "channels": [[], 8, "8", [8, "16"], [8, 0], [[8]]],
    "points": [0, 1.5],
    "half_decoders": [0, None],
    "encoder_offsets": [1, None],
}
UNFIT_REGISTERED = {"channels": [[8]], "components": [0, None, "20"], "half_basis": [1]}


@pytest.mark.parametrize(
    ("stored", "key", "value"),
    [
        *((POINTNET, key, value) for key, values in UNFIT.items() for value in values),
        *((REGISTERED, k, value) for k, values in UNFIT_REGISTERED.items() for value in values),
    ],
    ids=str,
)
def test_other_keys_and_values_are_refused(stored, key, value):
    with raises("metadata", key) as caught:
        model_config(stored | {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [None, [], 5, "config"])
def test_other_things_are_refused(config):
    for read in (model_config, DiscriminatorConfig.from_dict):
        with raises("metadata"):
            read(config)


def test_discriminators_likewise():
    stored = {"vertices": 36, "batch_norm": True, "points": 9}
    assert DiscriminatorConfig.from_dict(stored) == DiscriminatorConfig(36, True, 9)
    for change in ({"batch_norm": 1}, {"vertices": None}, {"layers": 2}):
        with raises("metadata"):
            DiscriminatorConfig.from_dict(stored | change)


def test_weights_count_to_the_authors_network():
    shapes = PointNetConfig(4547, 64, 64).weight_shapes()
    learned = (s for name, s in shapes.items() if ".running_" not in name)
    assert sum(math.prod(shape) for shape in learned) == 7_458_834


def test_only_what_is_large_is_stored_in_half_precision():
    for config, halved in (
        (
            PointNetConfig(36, 3, 2, half_decoders=True),
            {"identity_decoder.output.weight", "expression_decoder.output.weight"},
        ),
        (LinearConfig(36, 3, 2, 20, half_basis=True), {"basis"}),
        (PointNetConfig(36, 3, 2), set()),
        (LinearConfig(36, 3, 2, 20), set()),
    ):
        shapes = config.weight_shapes()
        assert {name for name in shapes if config.stored_type(name) == "float16"} == halved
