"""The stages of gpu.sh: CUDA tests, step ratios, speed of inference, trainings.

Each stage has its own time limit. OUT/results.jsonl gets a line after each, with its seconds, exit
code, versions and figures; OUT/gpu.log has everything that the stages print, at once. facedis need
not be installed: its sources, and the wheels in a folder, are put on PYTHONPATH.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ("torch", "numpy", "typer", "rich", "meshio", "safetensors", "scipy", "pytest")
NEEDED_BY_TESTS = ("hypothesis", "triton")
ENDING = 30  # seconds from SIGTERM, at which a training saves its state, to SIGKILL
VERSIONS = """
import json, platform, torch
found = {"python": platform.python_version(), "torch": torch.__version__}
found["cuda"] = torch.version.cuda
gpus = range(torch.cuda.device_count())
found["gpu"] = ", ".join(torch.cuda.get_device_name(number) for number in gpus)
print(json.dumps(found))
"""


class Stage(NamedTuple):
    """A command with a time limit in seconds."""

    name: str
    limit: float
    command: list[str]


def stages(options: argparse.Namespace) -> list[Stage]:
    """The stages, most valuable first."""
    python, quick, device = sys.executable, options.quick, options.device
    pytest = [python, "-m", "pytest", "-v", "-o", "addopts=", "-m", "not slow"]
    pytest += ["-p", "no:cacheprovider", "--color=no", "--durations=5"]
    tests = [
        *("nn/test_argmax_triton.py", "nn/test_argmax.py", "nn/test_layer.py"),
        *("nn/test_batch_statistics.py", "nn/test_inference.py", "train/test_face_storage.py"),
        *("train/test_adversarial_trainer.py", "train/test_training_step.py"),
        *("train/test_devices.py", "train/test_profiling.py"),
    ]
    if quick:
        tests = ["nn/test_inference.py"]
    ratios = [python, "tests/benchmarks/step_ratios.py", "--json", "--device", device]
    speed = [python, "tests/benchmarks/inference_speed.py", "--json", "--device", device]
    trainings = [python, "docs/scripts/gpu_trainings.py", str(options.out / "trainings")]
    trainings += ["--device", device]
    if quick:
        ratios += ["200x2", "--rounds", "1"]
        speed += ["--batches", "1", "2", "--seconds", "0.05"]
        trainings += ["--epochs", "1", "--seeds", "1", "--points", "32", "--cells", "1"]
    if options.faces is not None:
        trainings += ["--faces", str(options.faces.resolve())]
    if options.ict is not None:
        trainings += ["--ict", str(options.ict.resolve())]
    found = [
        Stage("cuda tests", 150, [*pytest, *(f"tests/{name}" for name in tests)]),
        Stage("step ratios", 180, ratios),
        Stage("inference speed", 75, speed),
    ]
    if quick or options.faces is not None or options.ict is not None:
        found.append(Stage("trainings", 3600, trainings))
    else:
        print("trainings: left out, give --faces or --ict", flush=True)
    return [stage for stage in found if options.only is None or stage.name in options.only]


def unpack_wheels(folder: Path | None, site: Path) -> None:
    """Unpack the wheels of packages that this Python lacks."""
    for wheel in sorted(folder.glob("*.whl")) if folder is not None else ():
        with ZipFile(wheel) as archive:
            modules = {Path(name).parts[0].partition(".")[0] for name in archive.namelist()}
            if any(find_spec(name) for name in modules if name.isidentifier()):
                print(f"{wheel.name}: is there already")
                continue
            archive.extractall(site)
            print(f"{wheel.name}: unpacked")


def run(stage: Stage, seconds: float, log: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a stage for at most some seconds; its figures are what it prints as JSON lines."""
    start = time.monotonic()
    with log.open("ab") as stream:
        stream.write(f"\n== {stage.name}: {' '.join(stage.command)}\n".encode())
        stream.flush()
        begin = stream.tell()
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            process.wait(seconds)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            end(process)
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    figures = []
    for line in lines:
        with suppress(ValueError):
            figures += [json.loads(line)] if line.startswith("{") else []
    return {
        "stage": stage.name,
        "seconds": round(time.monotonic() - start, 1),
        "limit": round(seconds),
        "exit": 124 if timed_out else process.returncode,
        "figures": figures,
        "last_lines": [line for line in lines if line.strip() and not line.startswith("{")][-3:],
    }


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a stage and every process that it started: they may save their state first."""
    deadline = time.monotonic() + ENDING
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Parse the options, run the stages that fit; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for results.jsonl, gpu.log and trainings/")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes of every stage")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all stages together")
    parser.add_argument("--faces", type=Path, help="face set to train on")
    parser.add_argument("--ict", type=Path, help="FaceXModel (folder or tar) to make it from")
    parser.add_argument("--only", metavar="STAGE", action="append", help="repeatable")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of missing packages")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    for signum in (signal.SIGTERM, signal.SIGHUP):  # a stage would go on without us
        signal.signal(signum, lambda number, frame: sys.exit(128 + number))
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    results, log = options.out / "results.jsonl", options.out / "gpu.log"
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        unpack_wheels(options.wheels, site)
        if find_spec("facedis_weights") is None:
            (site / "facedis_weights").symlink_to(ROOT / "weights")
        places = [str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH", ""), str(site)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
            "PYTHONUNBUFFERED": "1",
            "TRITON_CACHE_DIR": str(site / "triton"),
        }
        machine: dict[str, Any] = {}
        failed = False

        def record(result: dict[str, Any]) -> None:
            nonlocal failed
            failed |= bool(result["exit"]) and result["exit"] != 124
            with results.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(result | machine) + "\n")
            print(json.dumps(result), flush=True)

        first = run(Stage("versions", 60, [sys.executable, "-c", VERSIONS]), 60, log, environment)
        machine = {key: value for found in first.pop("figures") for key, value in found.items()}
        sys.path += [str(site)]
        first["missing"] = [name for name in (*NEEDED, *NEEDED_BY_TESTS) if not find_spec(name)]
        if options.device == "cuda" and not machine.get("gpu"):
            first["exit"] = first["exit"] or 1
            first["last_lines"].append("torch finds no GPU; --device cpu runs without one")
        record(first)
        for stage in stages(options) if not first["exit"] else ():
            seconds = min(stage.limit, deadline - time.monotonic() - ENDING)
            if seconds < ENDING:
                print(f"{stage.name}: left out, no time", flush=True)
                continue
            record(run(stage, seconds, log, environment))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
