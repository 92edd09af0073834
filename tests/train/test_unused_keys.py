"""Recipe keys that are refused because a network makes no use of them, against trainings."""

import pytest
import synthetic

from facedis_core.train import recipe as recipes
from facedis_core.train.training import train

FACES = synthetic.face_set(subjects=6, expressions=4, test=2, neutrals=True)
OTHERWISE = {
    "target": "neutral",
    "linear_fit": "flame",
    "decoder_init": "default",
    "optimizer": "sgd",
    **dict.fromkeys(("deformation", "linear_start", "half_decoders", "encoder_offsets"), True),
    **dict.fromkeys(("latent_relu", "discriminator_batch_norm"), False),
    **dict.fromkeys(("components", "bilinear", "points", "decoder_components"), 3),
    "discriminator_every": 2,
    **dict.fromkeys(("label_smoothing", "momentum", "instance_noise", "expression_power"), 0.25),
}


@pytest.mark.parametrize(
    "name",
    [
        *("kacem", "di-mesh-encoder"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("linear", "pointnet", "conv-mesh-ae", "jiang")
        ),
    ],
)
def test_they_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_check_use", lambda key, recipe: None)
    small = {"identity": 4, "expression": 3, "steps": 4, "batch": 8}
    refused = [key for key, of in recipes._PROPERTIES.items() if of.of and name not in of.of]
    assert refused
    plain, other = (
        train(FACES, name, changes=small | changes, neutrals=True)
        for changes in ({}, {key: OTHERWISE.get(key, 7.5) for key in refused})
    )
    for key, weight in plain.weights.items():
        assert weight.tobytes() == other.weights[key].tobytes(), key
