"""README.md and docs/: examples run as pasted, links lead somewhere, contents are complete."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import face_set, write_face_set

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    text = page.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(page: Path) -> list[str]:
    """Headings of levels 2 and 3 outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^###? (.+)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def environment(commands):
    """Commands and `python` on the PATH, and the bundled default model."""
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "FACEDIS_MODEL": ""}


@pytest.fixture(scope="module")
def demo(environment, tmp_path_factory):
    """A folder like the repository after `make demo`."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "weights").symlink_to(ROOT / "weights")
    script = ["sh", "-eu", str(ROOT / "docs" / "scripts" / "demo.sh")]
    done = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not warnings(done.stderr)
    (folder / "said").write_text(done.stdout)
    return folder


def warnings(stderr):
    """Its lines, except progress, what was done, and that nine faces are few."""
    usual = (
        r"(model \w+|\d+ faces) written|\d+ training faces of|step \d+ of \d+, "
        r"|fd-train: warning: (.* training people are few|the set has 6 training faces)"
        r"|fd-metrics: warning: baseline \w+ left out"
    )
    return [line for line in stderr.splitlines() if not re.match(usual, line)]


def paste(page, folder, environment):
    """Run the shell examples of a page in order, then its Python examples as one program."""
    for block in blocks(page, "sh"):
        line = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        said = warnings(done.stderr)
        assert not said, f"{block}\n{done.stderr}"
    program = "\n".join(blocks(page, "python"))
    line = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{program}\n{done.stderr}"


@pytest.mark.slow
def test_the_demo_leaves_meshes_numbers_a_page_and_pictures(demo):
    examples = {path.stem for path in (ROOT / "weights" / "examples").glob("*.ply")}
    for part in ("reconstruction", "identity", "expression"):
        assert {path.stem for path in (demo / "demo" / part).iterdir()} == examples
    transferred = {path.stem for path in (demo / "demo" / "transfer").iterdir()}
    assert transferred == {f"alice_neutral__{name}" for name in examples}
    metrics = json.loads((demo / "demo" / "metrics.json").read_text())["model"]
    assert metrics["e_rec"]["n"] == len(examples)
    assert (demo / "demo" / "report.html").read_text().startswith("<!")
    assert (demo / "demo" / "sheet.png").read_bytes().startswith(b"\x89PNG")
    said = (demo / "said").read_text()
    for key, name in (("e_rec", "E_rec"), ("e_dis", "E_dis"), ("avd_neu", "AVD_neu")):
        assert re.search(rf"{name} +{metrics[key]['mean']:.2f} mm", said)


@pytest.mark.slow
def test_the_picture_at_the_top_is_what_the_demo_draws(demo):
    assert "(docs/picture.png)" in README.read_text("utf-8").partition("\n## ")[0]
    shown, made = (
        np.asarray(Image.open(path).convert("RGB")).astype(int)
        for path in (ROOT / "docs" / "picture.png", demo / "demo" / "picture.png")
    )
    assert shown.shape == made.shape
    assert np.abs(shown - made).mean() < 0.5  # another BLAS rounds otherwise


def test_the_readme_can_be_pasted_and_python_does_what_the_pipe_does(environment, tmp_path):
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    paste(README, tmp_path, environment)
    by_pipe, by_python = (
        (tmp_path / "try" / f"alice_smiles{way}.ply").read_bytes().partition(b"end_header\n")[2]
        for way in ("", "_too")
    )
    assert by_pipe == by_python
    assert len(by_pipe) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        page.name
        for page in PAGES
        if page != README and (blocks(page, "sh") or blocks(page, "python"))
    ],
)
def test_the_examples_of_a_page_can_be_pasted_after_the_demo(name, demo, environment, tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(demo, folder, symlinks=True)
    paste(ROOT / "docs" / name, folder, environment)


def test_examples_that_are_not_run_have_options_that_exist(call, commands):
    known = {command.name for command in commands.iterdir()}
    lines = [row for page in PAGES for text in blocks(page, "console") for row in text.splitlines()]
    shown = "\n".join(blocks(ROOT / "docs" / "commands.md", "text"))
    lines += [f"$ {example}" for example in re.findall(r"^    (fd-.*)$", shown, re.MULTILINE)]
    assert len(lines) > 30
    helps = {}
    for line in lines:
        assert line.startswith("$ "), line
        for part in re.split(r"[|>]|&&", line[2:]):
            command, *words = shlex.split(part, comments=True) or [""]
            assert command in known or not command.startswith("fd-"), line
            if command in known:
                if command not in helps:
                    text = call(f"{command} --help").out.decode()
                    helps[command] = set(re.findall(r"(?<![\w-])--?\w[\w-]*", text))
                assert {word for word in words if re.match(r"-\w|--", word)} <= helps[command], line


def test_the_workflow_for_users_runs(call, model_file, tmp_path):
    (workflow,) = blocks(ROOT / "docs" / "pipelines-and-ci.md", "yaml")
    (step,) = re.findall(r"- run: >\n((?: {10}.*\n)+)", workflow)
    write_face_set(tmp_path / "faces.safetensors", face_set())
    shutil.copy(model_file, tmp_path / "model.safetensors")
    assert call("fd-metrics faces.safetensors --json -o accepted.json").code == 0
    result = call(" ".join(step.split()))
    assert result.code == 1
    assert "1 of 12 checks failed: e_rec is " in result.line  # the model knows nothing
    for name in re.findall(r"^ {12}(\w+\.\w+)$", workflow, re.MULTILINE):
        assert (tmp_path / name).stat().st_size > 100


def test_the_readme_is_short_and_begins_with_picture_and_need():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert text.index("picture.png") < text.index("What you need") < text.index("\n## ")
    assert "make demo" in text.partition("\n## Commands")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
class TestPages:
    def test_links_within_the_repository_lead_somewhere(self, page):
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), target
            assert not anchor or anchor in map(slug, headings(linked)), target

    def test_the_contents_list_every_section_once(self, page):
        if page.parent != ROOT:  # the others are short
            contents, _, rest = page.read_text("utf-8").partition("\n## ")
            sections = re.findall(r"^## (.+)$", f"## {rest}", re.MULTILINE)
            listed = re.findall(r"\[[^\]]+\]\(#([^)]+)\)", contents)
            assert sorted(listed) == sorted(map(slug, sections))


def test_every_command_has_a_section():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["scripts"]) <= set(headings(ROOT / "docs" / "commands.md"))


def test_trees_and_tables_name_files_that_exist():
    core = ROOT / "facedis_core"
    packages = {path.parent.name for path in core.glob("*/__init__.py")}
    for page in (README, ROOT / "docs" / "design.md"):
        tree = page.read_text("utf-8").partition("```\ntools/")[2].partition("```")[0]
        assert packages <= set(re.findall(r"\w+", tree)), page.name
    for page in PAGES:
        text = page.read_text("utf-8")
        paths = re.findall(r"`((?:facedis_core|tools|tests|weights|docs)/[\w/.]+)`", text)
        modules = re.findall(r"`(facedis_core(?:\.[a-z_]+)+)`", text)
        paths += [module.replace(".", "/") for module in modules]
        for path in (path for path in paths if "NAME" not in path):
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), f"{page.name}: {path}"
