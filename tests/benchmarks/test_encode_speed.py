"""The NumPy encoder beside the bare matrix products that it cannot do without.

    python -m pytest tests/benchmarks/test_encode_speed.py -o addopts= --benchmark-group-by=group \
        --benchmark-columns=min,median,rounds

The figure in parentheses beside "encode" is its time in units of those products.
"""

from itertools import pairwise

import numpy as np
import pytest
from steps import made_up_trainer

from facedis_core.train.checkpoint import export_model

BLOCK = 512  # vertices; products of more leave the cache and are slower


@pytest.fixture(scope="module", params=[1000, 4547, 26000])
def model(request: pytest.FixtureRequest):
    trainer = made_up_trainer(request.param, 2)
    preparation = trainer.face_set.preparation
    return export_model(
        trainer.network, preparation, reach_mm=9.0, recipe={}, metrics={}, history=[]
    )


@pytest.mark.parametrize("side", ["encode", "products alone"])
def test_one_face(benchmark, model, side: str) -> None:
    vertices = model.config.vertices
    benchmark.group = f"encode V={vertices}"
    widths = (3, *model.config.channels)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(BLOCK, width)).astype(np.float32) for width in widths[:-1]]
    weights = [rng.normal(size=shape).astype(np.float32) for shape in pairwise(widths)]
    outputs = [np.empty((BLOCK, width), np.float32) for width in widths[1:]]

    def products() -> None:
        for start in range(0, vertices, BLOCK):
            count = min(BLOCK, vertices - start)
            for x, weight, y in zip(inputs, weights, outputs, strict=True):
                np.matmul(x[:count], weight, out=y[:count])

    face = model.mean_face[None]
    benchmark(products if side == "products alone" else lambda: model.encode_prepared(face))
