"""docs/training.md: its scripts for several machines run, with stand-ins for what a cluster has."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
# Says what it was called with.
TORCHRUN = '#!/bin/sh\nprintf "%s\\n" "$*"\n'


def script(language: str, begins: str) -> str:
    """The code block of the page that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    (found,) = [block for block in blocks if block.startswith(begins)]
    return found


@pytest.fixture
def run(tmp_path):
    """Runs a script with stand-ins; the words of each torchrun."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(text: str, programs: dict[str, str], **variables: str) -> list[list[str]]:
        for name, content in {"torchrun": TORCHRUN, **programs}.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o755)
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **variables}
        done = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [shlex.split(line) for line in done.stdout.splitlines()]

    return run


def test_slurm(run, tmp_path):
    text = script("bash", "#!/bin/bash\n#SBATCH --nodes=2")
    programs = {
        "scontrol": '#!/bin/sh\necho "node7\nnode8"\n',
        "srun": '#!/bin/sh\nshift\n"$@"\n"$@"\n',  # both nodes
    }
    variables = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "42"}
    first, second = run(f"set +u\n{text}", programs, **variables)
    assert first == second
    assert first[:4] == ["--nnodes", "2", "--nproc-per-node", "8"]
    assert first[first.index("--rdzv-endpoint") + 1] == "node7:29500"
    assert first[-2:] == ["-o", "mine.safetensors"]
    (tmp_path / "mine.state.safetensors").touch()
    again, _ = run(f"set +u\n{text}", programs, **variables)
    assert again == [*first, "--resume"]


def test_kubernetes(run, tmp_path):
    text = script("yaml", "apiVersion: v1")
    (line,) = re.findall(r"- >\n((?: {14}.*\n)+)", text)
    (name,) = set(re.findall(r"^  name: (.*)", text, re.M))
    (count,) = set(re.findall(r"(?:completions|parallelism): (\d+)", text))
    (first,) = run(" ".join(line.split()), {})
    assert first[:2] == ["--nnodes", count]
    assert first[first.index("--rdzv-endpoint") + 1] == f"{name}-0.{name}:29500"
    assert first[-2:] == ["-o", "mine.safetensors"]
    (tmp_path / "mine.state.safetensors").touch()
    assert run(" ".join(line.split()), {}) == [[*first, "--resume"]]
