"""A whole adversarial step with the fast pooling beside the same step with the reference.

    python -m pytest tests/benchmarks/test_step_speed.py -o addopts= --benchmark-group-by=group \
        --benchmark-columns=min,median,rounds

`extra_info` of a result has the peak memory above the data. `step_ratios.py` prints both as one
table of ratios, the sides taking turns.
"""

import pytest
from step_ratios import SIZES, peak_memory, step_of

from facedis_core.nn.max_pool.layer import Implementation


@pytest.mark.parametrize("implementation", ["fast", "reference"])
@pytest.mark.parametrize(("vertices", "batch"), SIZES)
def test_step(benchmark, vertices: int, batch: int, implementation: Implementation) -> None:
    benchmark.group = f"step V={vertices} batch={batch}"
    benchmark.extra_info["peak_bytes"] = peak_memory(implementation, vertices, batch)
    benchmark.pedantic(step_of(implementation, vertices, batch), rounds=2, warmup_rounds=1)
