"""One table: time and memory of a whole adversarial step with the fast and the reference pooling.

    python tests/benchmarks/step_ratios.py                 every size, some minutes
    python tests/benchmarks/step_ratios.py 4547x32 --rounds 5 --batch-norm

Steps of both take turns, so that what else the machine does falls on both. Peak memory is what
the process held above what it held before its first step, with data and networks in place; each
in a process of its own (on a CPU under Linux only: it reads /proc).
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import get_args

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the commands that train
import torch
from steps import Step, made_up_trainer

from facedis_core.nn.max_pool.layer import Implementation, set_pooling

SIZES = ((1000, 8), (1000, 32), (4547, 8), (4547, 32), (10000, 2), (26000, 2))


def step_of(
    implementation: Implementation,
    vertices: int,
    batch: int,
    *,
    batch_norm: bool = False,
    device: str = "cpu",
) -> Step:
    """A step with this pooling, ready to be run again and again."""
    trainer = made_up_trainer(vertices, batch, batch_norm=batch_norm, device=device)
    for network in trainer.networks.values():
        set_pooling(network, implementation=implementation)
    drawn = next(trainer.batches.epoch(0))
    return lambda: trainer._train_step(drawn)


def peak_memory(
    implementation: Implementation,
    vertices: int,
    batch: int,
    *,
    batch_norm: bool = False,
    device: str = "cpu",
) -> int:
    """Bytes that two steps take above the data, measured in another process."""
    command = [
        sys.executable,
        __file__,
        f"{vertices}x{batch}",
        "--memory-of",
        implementation,
        "--device",
        device,
    ]
    result = subprocess.run(
        command + ["--batch-norm"] * batch_norm,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


def own_peak_memory(step: Step, device: str) -> int:
    """The same in this process."""
    cuda = device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak so far
    before = torch.cuda.memory_allocated() if cuda else held("VmRSS")
    for _ in range(2):  # the second finds the optimisers' state and the first one's leftovers
        step()
    return (torch.cuda.max_memory_allocated() if cuda else held("VmHWM")) - before


def held(key: str) -> int:
    """Bytes of memory that this process holds, now (VmRSS) or at most since the last reset."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def seconds(sides: dict[str, Step], rounds: int) -> dict[str, float]:
    """The median time of a step of each side, after one step to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, step in sides.items():
            start = perf_counter()
            step()
            if number:
                times[name].append(perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", help="vertices x batch, such as 4547x32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-norm", action="store_true", help="in the discriminator too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true", help="print a JSON line a size")
    parser.add_argument("--memory-of", choices=get_args(Implementation), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes] or SIZES
    kind = {"batch_norm": options.batch_norm, "device": options.device}
    if options.device == "cuda":  # both sides, as the commands that train
        torch.set_float32_matmul_precision("high")
    if options.memory_of:
        step = step_of(options.memory_of, *sizes[0], **kind)
        print(own_peak_memory(step, options.device))
        return
    if not options.json:
        print(f"{torch.get_num_threads()} threads; ms a face, MB above the data")
        heading = f"{'reference':>9} {'fast':>7} {'ratio':>6}"
        print(f"{'V':>6} {'batch':>5} {heading}   {heading}")
    for vertices, batch in sizes:
        sides = ("reference", "fast")
        both = {side: step_of(side, vertices, batch, **kind) for side in sides}
        time = seconds(both, options.rounds)
        with ThreadPoolExecutor() as pool:  # most of their time is the start of torch
            found = pool.map(lambda side: peak_memory(side, vertices, batch, **kind), sides)  # noqa: B023 - done before the next size
            memory = dict(zip(sides, found, strict=True))
        if options.json:
            row = {"vertices": vertices, "batch": batch, "seconds": time, "bytes": memory}
            print(json.dumps(row), flush=True)
            continue
        print(f"{vertices:6} {batch:5} ", end="")
        for values, unit in ((time, batch * 1e-3), (memory, 1e6)):
            slow, fast = (values[side] for side in sides)
            print(f"{slow / unit:9.0f} {fast / unit:7.0f} {slow / fast:6.1f}   ", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
