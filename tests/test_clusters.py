"""docs/clusters.md: its scripts run as they are, with what a cluster gives them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "clusters.md"


def script(language: str, begins: str) -> str:
    """The code block of the page that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    (found,) = [block for block in blocks if block.startswith(begins)]
    return found


@pytest.fixture
def run(commands, model_file, faces, tmp_path):
    """Runs a script in a folder with `scans/`; its command `fd-encode` is ours."""
    shutil.copytree(faces, tmp_path / "scans")
    path = f"{tmp_path / 'bin'}:{commands}:{os.environ['PATH']}"

    def run(text: str, **variables: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "PATH": path, "FACEDIS_MODEL": str(model_file), **variables}
        return subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=env, capture_output=True, text=True
        )

    return run


@pytest.fixture
def at_once(call, faces, tmp_path):
    assert call("fd-encode scans -o one.npy").code == 0
    return (tmp_path / "one.npy").read_bytes()


# A scheduler that runs each task of an array at once, and then what depends on it.
SBATCH = """#!/bin/bash
for word; do
    case $word in
        --parsable) echo 42 ;;
        --wrap) bash -c "${@: -1}" >&2 ;;
        *.sbatch)
            count=$(sed -n 's/^#SBATCH --array=1-//p' "$word")
            for i in $(seq "$count"); do SLURM_ARRAY_TASK_ID=$i bash "$word" >&2; done ;;
    esac
done
"""


@pytest.mark.slow
def test_slurm(run, at_once, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    (tmp_path / "encode.sbatch").write_text(script("bash", "#!/bin/bash").replace("16", "3"))
    done = run(script("bash", "mkdir -p parts\njob="))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "faces.npy").read_bytes() == at_once


def test_registration_by_slurm(run, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fd-register").write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    (tmp_path / "bin" / "fd-register").chmod(0o755)
    done = run(script("bash", "mkdir -p reports"), SLURM_ARRAY_TASK_ID="3")
    assert done.returncode == 0 and (tmp_path / "reports").is_dir()
    assert "--shard 3/16 " in done.stdout and "--report reports/3.jsonl" in done.stdout


@pytest.mark.slow
def test_xargs(run, at_once, tmp_path):
    done = run(script("bash", "mkdir -p parts\nseq").replace("4", "2"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "faces.npy").read_bytes() == at_once


@pytest.mark.slow
def test_kubernetes(run, call, at_once, tmp_path):
    text = script("yaml", "apiVersion")
    (line,) = re.findall(r"- >\n((?: {14}.*\n)+)", text)
    count = re.search(r"completions: (\d+)", text)[1]
    assert f"/{count}" in line
    for index in range(2):
        done = run(" ".join(line.replace("/16", "/2").split()), JOB_COMPLETION_INDEX=str(index))
        assert done.returncode == 0, done.stderr
    assert call("fd-encode --merge parts/ -o faces.npy").code == 0
    assert (tmp_path / "faces.npy").read_bytes() == at_once


@pytest.mark.slow
def test_dask(run, at_once, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "dask"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dask "$@" --no-dashboard\n')
    program.chmod(0o755)
    done = run("set -m\n" + script("bash", "export MALLOC"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "faces.npy").read_bytes() == at_once
