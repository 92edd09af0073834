"""fd-prep on a few hundred meshes of FaceScape's size, beside a plain program that reads the same.

    python -m pytest tests/benchmarks/test_prep_scale.py -o addopts= --benchmark-group-by=group \
        --benchmark-columns=min,rounds -s

Times are of whole processes, start-up included. What is printed counts the processor's time of the
command and all that it has started, and the memory of the largest of these processes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trees

# 30 files that differ, each linked ten times: the disk's cache holds them, so that this measures
# what we do and not the disk.
DIFFERENT, IDS = (1, 2, 3), tuple(range(1, 31))
EXPRESSIONS = trees.FACESCAPE_EXPRESSIONS[:10]
FILES = len(IDS) * len(EXPRESSIONS)
# What a user with the whole of FaceScape, 16,940 files, is promised.
MOST_SECONDS, MOST_BYTES = 0.150, 2 << 30

# The least that a program in Python has to do: find the numbers of the vertices.
PLAIN = """
import sys
from pathlib import Path
import numpy as np
for path in sorted(Path(sys.argv[1]).rglob("*.obj")):
    lines = path.read_bytes().split(b"\\n")
    vertices = np.array([line.split()[1:4] for line in lines if line[:2] == b"v "], np.float32)
    assert vertices.shape == (26317, 3)
"""
BYTES = """
import sys
from pathlib import Path
for path in sorted(Path(sys.argv[1]).rglob("*.obj")):
    assert len(path.read_bytes()) > 1_000_000
"""


@dataclass(frozen=True)
class Cost:
    """What a process and all that it has started and waited for took.

    Attributes:
        cpu: seconds, of user and system.
        memory: bytes, of the largest one.
    """

    cpu: float
    memory: int


# A process begins with the memory of the one that started it, so a small one has to.
STARTER = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def cost(command: Sequence[str], folder: Path) -> Cost:
    """Run to the end; the command must succeed."""
    starter = [sys.executable, "-c", STARTER, *command]
    done = subprocess.run(starter, cwd=folder, stdout=subprocess.PIPE, check=True)
    cpu, largest = json.loads(done.stdout)
    return Cost(cpu, largest * (1 if sys.platform == "darwin" else 1024))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tree `data`."""
    where = tmp_path_factory.mktemp("scale")
    root = where / "data"
    trees.facescape(root, ids=DIFFERENT, expressions=EXPRESSIONS)
    for number in IDS[len(DIFFERENT) :]:
        for expression in EXPRESSIONS:
            same = trees.facescape_name(DIFFERENT[number % len(DIFFERENT)], expression)
            path = root / trees.facescape_name(number, expression)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(root / same, path)
    return where


@pytest.mark.parametrize("program", ["fd-prep -j 1", "fd-prep -j 2", "plain Python", "only bytes"])
def test_preparing_facescape(benchmark, capsys, commands, folder, program):
    benchmark.group = f"prepare {FILES} files of FaceScape's size"
    if program.startswith("fd-prep"):
        name, *jobs = program.split()
        output = ["-o", "set.safetensors", "--force"]
        command = [str(commands / name), "facescape", "data", *output, *jobs]
    else:
        script = PLAIN if program == "plain Python" else BYTES
        command = [sys.executable, "-c", script, "data"]
    spent = benchmark.pedantic(cost, (command, folder), rounds=1, warmup_rounds=0)
    figures = {
        "files": FILES,
        "cpu_ms_per_file": round(1000 * spent.cpu / FILES, 1),
        "files_per_second": round(FILES / benchmark.stats.stats.min, 1),
        "peak_memory_mb": round(spent.memory / 2**20),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        words = ", ".join(f"{key} {value}" for key, value in figures.items())
        print(f"\n{program}: {words}")
    if program.startswith("fd-prep"):
        assert spent.cpu / FILES <= MOST_SECONDS
        assert spent.memory <= MOST_BYTES
