"""One table: faces encoded and decoded a second, in NumPy and in torch, by size of the batch.

    python tests/benchmarks/inference_speed.py                   NumPy, and torch on a CPU
    python tests/benchmarks/inference_speed.py --device cuda     and on a GPU

Meshes are neither read nor written. Torch takes faces from the memory of the host and returns them
there, as a command would.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the commands that train
import numpy as np
import torch

from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model

MODELS = ("ict-linear", "ict-pointnet")
WAYS = {"NumPy": "cpu", "torch cpu": "cpu:0", "torch cuda": "cuda"}  # by `Model.device`
Work = Callable[[], object]


def faces_per_second(work: Work, batch: int, seconds: float) -> float:
    """Of the fastest of repeated calls, after one to warm up."""
    work()
    end, fastest = perf_counter() + seconds, float("inf")
    while fastest == float("inf") or perf_counter() < end:
        start = perf_counter()
        work()
        fastest = min(fastest, perf_counter() - start)
    return batch / fastest


def encoding_and_decoding(model: Model, faces: np.ndarray) -> tuple[Work, Work]:
    """Of faces (B, V, 3) mm."""
    z = model.encode_prepared(faces)
    latents = z.identity, z.expression
    return lambda: model.encode_prepared(faces), lambda: model.decode_vectors(*latents)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true", help="print a JSON line a row")
    options = parser.parse_args()
    if not options.json:
        print(f"{torch.get_num_threads()} threads; faces a second")
        print(f"{'model':>12} {'V':>6} {'by':>10} {'batch':>5} {'encode':>8} {'decode':>8}")
    for name in MODELS:
        model = load_model(name)
        for batch in options.batches:
            faces = np.repeat(model.mean_face[None], batch, axis=0)
            for way, device in WAYS.items():
                if device == "cuda" and options.device != "cuda":
                    continue
                works = encoding_and_decoding(replace(model, device=device), faces)
                encode, decode = (faces_per_second(each, batch, options.seconds) for each in works)
                row = {
                    "model": name,
                    "vertices": len(model.mean_face),
                    "by": way,
                    "batch": batch,
                    "encode": encode,
                    "decode": decode,
                }
                line = "{model:>12} {vertices:>6} {by:>10} {batch:>5} {encode:8.1f} {decode:8.1f}"
                print(json.dumps(row) if options.json else line.format(**row), flush=True)


if __name__ == "__main__":
    main()
