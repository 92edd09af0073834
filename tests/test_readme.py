"""What README.md shows can be pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_architecture import SHARED

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.xdist_group("readme")  # what is pasted takes half a minute, once
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def pasted(commands, tmp_path_factory):
    """A folder in which every shell example has run, in order, with the bundled model."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "weights").symlink_to(ROOT / "weights")
    path = f"{commands}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FACEDIS_MODEL": ""}
    for block in blocks("sh"):
        line = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        assert not done.stderr, block
    return folder


def test_the_demo_leaves_meshes_numbers_and_a_picture(pasted):
    examples = {path.stem for path in (ROOT / "weights" / "examples").glob("*.ply")}
    for part in ("reconstruction", "identity", "expression"):
        assert {path.stem for path in (pasted / "demo" / part).iterdir()} == examples
    transferred = {path.stem for path in (pasted / "demo" / "transfer").iterdir()}
    assert transferred == {f"alice_neutral__{name}" for name in examples}
    metrics = json.loads((pasted / "demo" / "metrics.json").read_text())
    assert metrics["model"]["e_rec"]["n"] == len(examples)
    assert (pasted / "demo" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_at_the_top_is_what_the_demo_draws(pasted, commands):
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "FACEDIS_MODEL": ""}
    line = ["sh", "-eu", str(ROOT / "docs" / "scripts" / "picture.sh")]
    subprocess.run(line, cwd=pasted, env=environment, check=True)
    assert "(docs/picture.png)" in README.partition("\n## ")[0]
    shown, made = (
        np.asarray(Image.open(path).convert("RGB")).astype(int)
        for path in (ROOT / "docs" / "picture.png", pasted / "demo" / "picture.png")
    )
    assert shown.shape == made.shape
    assert np.abs(shown - made).mean() < 0.5  # another BLAS rounds otherwise


def test_the_python_example_does_what_the_pipe_does(pasted):
    (program,) = blocks("python")
    environment = {**os.environ, "FACEDIS_MODEL": ""}
    subprocess.run([sys.executable, "-c", program], cwd=pasted, env=environment, check=True)
    by_pipe = (pasted / "demo" / "alice_smiles.ply").read_bytes()
    by_python = (pasted / "demo" / "alice_smiles_too.ply").read_bytes()
    body = b"end_header\n"
    assert by_python.partition(body)[2] == by_pipe.partition(body)[2]


def test_what_takes_long_at_least_has_the_right_options(commands):
    lines = [line[2:] for block in blocks("console") for line in block.splitlines()]
    known = {command.name for command in commands.iterdir()}
    for line in lines:
        for part in re.split(r"[|>]|&&", line):
            command, *words = shlex.split(part, comments=True) or [""]
            assert command in known or not command.startswith("fd-")
            if command in known:
                page = subprocess.run(
                    [commands / command, "--help"], capture_output=True, text=True
                )
                options = {word for word in words if re.match(r"-\w|--", word)}
                assert options <= set(re.findall(r"(?<![\w-])--?\w[\w-]*", page.stdout)), line


def test_it_opens_with_two_commands():
    first = blocks("console")[0].splitlines()
    assert [line.partition("#")[0].strip() for line in first] == ["$ make demo", "$ make test"]
    assert README.index("make demo") < README.index("\n## ")


def test_the_layout_names_every_file_of_the_library_and_every_folder():
    layout = README.partition("\n## Layout\n")[2].partition("\n## ")[0]
    words = set(re.findall(r"\w+", layout))
    modules = {path.stem for path in (ROOT / "facedis_core").glob("*.py")}
    modules |= {path.stem for path in (ROOT / "tools").glob("*.py") if path.stem in SHARED}
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert modules | folders <= words | {"__init__"}
