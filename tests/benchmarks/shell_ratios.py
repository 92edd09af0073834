"""What commands cost beside what they need at the least, as ratios in one run.

    python tests/benchmarks/shell_ratios.py [--rounds 9] [--faces 2000] [--jobs 2]

Start-up: each command's --help beside `import typer`; encoding one face beside the imports that it
cannot do without; the pipe of three. Batches: encoding a folder beside the forward passes alone,
on as many cores. All sides take turns, and the fastest of each is compared. Exits with 1 where a
budget is not met, which on a busy machine says more about the machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from facedis_core.mesh.mesh import read_mesh, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model

EXAMPLES = weights_folder() / "examples"
COMMANDS = (
    *("encode", "transfer", "interp", "decode", "metrics", "render"),
    *("run", "info", "prep", "train", "pretrain-disc"),
)
BUDGETS = {"--help / import typer": 2.5, "fd-encode / its imports": 2.0, "pipe of three, s": 0.6}
BATCH_BUDGET = 1.5


def fastest(lines: dict[str, str], rounds: int, folder: str) -> dict[str, float]:
    """Seconds of each line in bash, the least of so many rounds."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FACEDIS_MODEL": ""}
    least = dict.fromkeys(lines, float("inf"))
    for _ in range(rounds):
        for name, line in lines.items():
            start = time.perf_counter()
            subprocess.run(["bash", "-c", line], check=True, cwd=folder, env=environment)
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def start_up(rounds: int, folder: str) -> dict[str, float]:
    """The three figures of BUDGETS."""
    face = EXAMPLES / "alice_neutral.ply"
    quiet = "> /dev/null"
    lines = {
        "typer": "python -c 'import typer'",
        "imports": "python -c 'import numpy, typer, safetensors.numpy'",
        "encode": f"fd-encode {face} > alice.npy",
        "pipe": f"fd-encode {face} | fd-transfer alice.npy - | fd-decode {quiet}",
    }
    lines |= {f"help {command}": f"fd-{command} --help {quiet}" for command in COMMANDS}
    least = fastest(lines, rounds, folder)
    for name, seconds in least.items():
        print(f"  {name:20} {seconds * 1e3:6.0f} ms")
    forward = forward_seconds(read_mesh(face).vertices[None])
    slowest = max(least[f"help {command}"] for command in COMMANDS)
    return {
        "--help / import typer": slowest / least["typer"],
        "fd-encode / its imports": (least["encode"] - forward) / least["imports"],
        "pipe of three, s": least["pipe"],
    }


def forward_seconds(faces: np.ndarray) -> float:
    """One forward pass of the bundled model."""
    model = load_model("ict-linear")
    model.encode_prepared(faces[:1])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.encode_prepared(faces)
        times.append((time.perf_counter() - start) / len(faces))
    return min(times)


def batch(count: int, jobs: int, folder: str) -> float:
    """Seconds of encoding a folder of faces by seconds of its forward passes on as many cores."""
    example = read_mesh(EXAMPLES / "alice_neutral.ply")
    rng = np.random.default_rng(0)
    Path(folder, "faces").mkdir()
    faces = example.vertices + rng.normal(0, 0.05, (50, *example.vertices.shape)).astype("f4")
    for number in range(count):
        with Path(folder, "faces", f"{number:05d}.ply").open("wb") as stream:
            write_mesh(stream, type(example)(faces[number % 50], example.triangles, "", 1.0))
    forward = forward_seconds(faces) * count / jobs
    line = f"fd-encode faces --jobs {jobs} > /dev/null"
    seconds = fastest({"batch": line}, 3, folder)["batch"]
    print(f"  {count} faces, {jobs} processes {seconds:6.2f} s, forward passes {forward:6.2f} s")
    return seconds / forward


def main() -> None:
    """Print the figures beside their budgets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = start_up(wanted.rounds, folder)
        name = f"{wanted.faces} faces / their forward passes"
        found[name] = batch(wanted.faces, wanted.jobs, folder)
    budgets = {**BUDGETS, name: BATCH_BUDGET}
    for key, value in found.items():
        print(f"{key:40} {value:5.2f}  budget {budgets[key]:.2f}")
    sys.exit(any(value > budgets[key] for key, value in found.items()))


if __name__ == "__main__":
    main()
