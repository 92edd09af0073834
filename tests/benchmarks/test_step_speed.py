"""A whole adversarial step beside the same step the ordinary way.

    python -m pytest tests/benchmarks/test_step_speed.py -o addopts= --benchmark-group-by=group \
        --benchmark-columns=min,median,rounds

`extra_info` of a result has the peak memory above the data. `step_ratios.py` prints both as one
table of ratios, the sides taking turns.
"""

import pytest
import torch
from dense_step import DenseStep
from step_ratios import SIZES, peak_memory, step_of
from steps import made_up_trainer

from facedis_core.batches import Batch


@pytest.mark.parametrize("batch_norm", [False, True])
def test_both_sides_take_the_same_step(batch_norm: bool) -> None:
    """In double precision: in single the dense side's own rounding would hide an error."""
    trainer = made_up_trainer(150, 4, batch_norm=batch_norm)
    trainer.network.double()
    trainer.discriminator.double()
    trainer.laplacian = trainer.laplacian.double()
    dense = DenseStep(trainer)
    batch = next(trainer.batches.epoch(0))
    normalise = trainer.network.normalise
    batch = Batch(batch.faces.double(), batch.partners.double(), judged=True)
    for seed in range(3):
        torch.manual_seed(seed)
        ours = trainer._step(batch)
        torch.manual_seed(seed)
        theirs = dense.step(normalise(batch.faces), normalise(batch.partners))
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-8), (name, seed)


@pytest.mark.parametrize("side", ["ours", "dense"])
@pytest.mark.parametrize(("vertices", "batch"), SIZES)
def test_step(benchmark, vertices: int, batch: int, side: str) -> None:
    benchmark.group = f"step V={vertices} batch={batch}"
    benchmark.extra_info["peak_bytes"] = peak_memory(side, vertices, batch)
    benchmark.pedantic(step_of(side, vertices, batch), rounds=2, warmup_rounds=1)
