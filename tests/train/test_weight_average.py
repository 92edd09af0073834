"""Averaged weights against the sum written out, and in a training."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from torch import nn
from trainers import trainer

from facedis_core.train.recipe import Recipe
from facedis_core.train.weight_average import WeightAverage

RECIPE = Recipe(identity=4, expression=3, batch=7, steps=5, learning_rate=1e-2, reconstruction=40.0)


def test_weights_fade_exponentially_after_a_plain_mean_of_the_first() -> None:
    network = nn.BatchNorm1d(3)
    average = WeightAverage(network, steps=4.0)
    values = torch.randn(12, 3)
    expected = torch.zeros(3)
    for step, value in enumerate(values):
        with torch.no_grad():
            network.weight.copy_(value)
            network.running_mean.copy_(2 * value)
        part = max(1 / (step + 1), 1 - np.exp(-1 / 4))
        expected = (1 - part) * expected + part * value
        average.update(step)
        if step == 2:
            torch.testing.assert_close(average.network.weight, values[:3].mean(dim=0))
    torch.testing.assert_close(average.network.weight, expected)
    torch.testing.assert_close(average.network.running_mean, 2 * expected)
    assert torch.equal(network.weight, values[-1])
    assert not average.network.training and not average.network.weight.requires_grad


@pytest.mark.parametrize("part", [0.0, 40.0])
def test_the_average_is_what_a_training_evaluates_and_stores(part: float) -> None:
    run = trainer(synthetic.face_set(), replace(RECIPE, weight_average=part), adversary=False)
    run.run_epochs()
    faces = run.face_set.vertices[:2]
    found = run.predict(faces)
    assert (run.result is run.network) == (part == 0)
    run.network.eval()
    x = run.network.normalise(torch.tensor(faces))
    trained = run.network.encode(x).identity.mean.numpy(force=True)
    assert np.allclose(found.identity_latent, trained) == (part == 0)
