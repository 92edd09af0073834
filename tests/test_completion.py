"""Completion of command lines, by the shells that are here."""

import os
import pty
import select
import shlex
import shutil
import sys
import time
import tomllib
from pathlib import Path

import pytest

from facedis_core.datasets.ict_synthesis import VARIATIONS
from facedis_core.datasets.source import SOURCES
from facedis_core.train.recipe import recipe_names
from fd_completion import SOURCE_NAMES, models, paths, recipes
from fd_parse import COMPLETION

# What bash sets up before it calls the function, here without a terminal.
ASK = """
complete -p {command} > registered
COMP_WORDS=({words}) COMP_CWORD={last} COMP_LINE=x COMP_POINT=1
_facedis {command}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def bash(call, shell, tmp_path):
    """The words that bash offers for the last of these, split at = as bash splits."""
    (tmp_path / "completion.sh").write_bytes(call("fd-info --completion bash").out)

    def complete(*words):
        quoted = " ".join(map(shlex.quote, words))
        ask = ASK.format(command=words[0], words=quoted, last=len(words) - 1)
        result = shell(f"set -u; . ./completion.sh; {ask}")
        assert (result.code, result.err) == (0, "")
        return result.out.decode().split("\n")[:-1]

    return complete


@pytest.fixture
def answer(call):
    """What a command answers to bash for the last of these words."""

    def complete(command, *words):
        line = {"COMP_WORDS": "\n".join([command, *words]), "COMP_CWORD": str(len(words))}
        result = call(command, env={COMPLETION: "complete_bash", **line})
        assert (result.code, result.err) == (0, "")
        return result.out.decode().splitlines()

    return complete


def test_options(answer):
    assert answer("fd-decode", "--pa") == ["--part"]
    offered = answer("fd-encode", "--")
    assert {"--model", "--output", "--force", "--version", "--help"} <= set(offered)
    assert answer("fd-metrics", "--json", "set.safetensors", "--check", "e_rec<=1", "--bas") == [
        "--baselines",
        "--baselines-from",
    ]
    assert answer("fd-train", "--version", "--help", "--neu") == [
        "--neutrals"
    ]  # nothing is printed


def test_choices(answer):
    assert answer("fd-decode", "--part", "") == ["full", "identity", "expression"]
    assert answer("fd-decode", "--part", "id") == ["identity"]
    assert answer("fd-prep", "--variation", "") == list(VARIATIONS)
    assert answer("fd-decode", "--part", "nonsense", "--off") == ["--offsets"]


def test_names_that_come_with_facedis(answer, tmp_path):
    (tmp_path / "my.toml").touch()
    (tmp_path / "mine two.safetensors").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    (tmp_path / "folder" / "deep.safetensors").touch()
    bundled = ["ict-linear", "ict-pointnet"]
    assert answer("fd-encode", "-m", "") == [*bundled, "folder/", "mine two.safetensors"]
    assert answer("fd-encode", "--model", "folder/") == ["folder/deep.safetensors"]
    assert answer("fd-train", "set.safetensors", "--recipe", "") == [
        *recipe_names(),
        "folder/",
        "my.toml",
    ]
    assert answer("fd-train", "--init", "ic") == bundled
    assert answer("fd-train", "--discriminator", "n") == ["none"]
    assert answer("fd-prep", "face") == ["facescape", "facewarehouse"]


def test_what_bash_makes_of_the_answers(bash, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine two.safetensors").touch()
    assert bash("fd-encode", "-m", "") == [
        *("ict-linear", "ict-pointnet"),
        "folder",  # bash adds the / itself
        "mine two.safetensors",
    ]
    assert bash("fd-decode", "--part", "=", "ex") == ["expression"]
    assert bash("fd-decode", "--part", "=") == ["full", "identity", "expression"]
    assert bash("fd-encode", "-o", "") == [""]  # nothing of ours, for which bash has a default
    assert "-o default" in (tmp_path / "registered").read_text()


@pytest.mark.parametrize("words", [("fd-encode", "x"), ("fd-info", ""), ("fd-encode", "-o", "")])
def test_files_are_left_to_bash(answer, words):
    assert answer(*words) == [""]


def test_every_command_is_completed(call, tmp_path):
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
    for name in ("bash", "zsh", "fish"):
        script = call(f"fd-info --completion {name}").out.decode()
        for command in project["project"]["scripts"]:
            assert command in script.split() or f"/{command}" in script, (name, command)
        assert COMPLETION in script


def test_an_answer_needs_no_numpy(shell):
    words = f"{sys.executable} -X importtime -m fd_train"
    asked = f"{COMPLETION}=complete_bash COMP_WORDS='fd-train --recipe fa' COMP_CWORD=2"
    result = shell(f"{asked} {words}")
    assert result.out == b"facescape\n"
    imported = {line.split("|")[-1].strip() for line in result.err.splitlines()}
    assert not imported & {"numpy", "torch", "rich", "safetensors"}


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("zsh", "fd-decode --part id", "_arguments '*: :((\"identity\"))'\n"),
        ("zsh", "fd-decode x", "_files\n"),
        ("fish", "fd-decode --part id", "identity\n"),
        ("fish", "fd-encode --model ict-p", "ict-pointnet\n"),
    ],
)
def test_answers_to_other_shells(call, name, line, expected):
    asked = {COMPLETION: f"complete_{name}", "_TYPER_COMPLETE_ARGS": line}
    result = call(line.split()[0], env={**asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args"})
    assert (result.code, result.out.decode(), result.err) == (0, expected, "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_is_one_that_its_shell_can_read(shell, name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    result = shell(f"fd-info --completion {name} > script; {name} -n script")
    assert (result.code, result.err) == (0, "")


def test_at_a_terminal(call, commands, tmp_path):
    """The tab key in an interactive bash, folders and all."""
    (tmp_path / "completion.sh").write_bytes(call("fd-info --completion bash").out)
    (tmp_path / "models" / "old").mkdir(parents=True)
    (tmp_path / "models" / "a.safetensors").touch()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        path = f"{commands}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TERM": "dumb", "PS1": "> "}
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        os.write(terminal, b". ./completion.sh\n")
        for typed, expected in {
            "fd-decode --par\t": "fd-decode --part ",
            "cat x | fd-decode --part=exp\t": "cat x | fd-decode --part=expression ",
            "fd-encode -m mod\ta\t": "fd-encode -m models/a.safetensors ",
            "fd-encode comp\t": "fd-encode completion.sh ",
        }.items():
            os.write(terminal, typed.encode())
            assert expected in read_until(terminal, expected)
            os.write(terminal, b"\x15\n")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def read_until(terminal: int, expected: str, seconds: float = 30) -> str:
    """What a terminal shows until it shows this, or for so long."""
    shown = b""
    end = time.monotonic() + seconds
    while expected not in shown.decode(errors="replace") and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")


class TestPaths:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("a.toml", "ab.toml", "a.txt", ".hidden.toml", "sub/c.toml", "sub/.d/e.toml"):
            Path(name).parent.mkdir(exist_ok=True, parents=True)
            Path(name).touch()

    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            ("", ["a.toml", "ab.toml", "sub/"]),
            ("ab", ["ab.toml"]),
            (".", [".hidden.toml"]),
            ("./a", ["./a.toml", "./ab.toml"]),
            ("sub", ["sub/"]),
            ("sub/", ["sub/c.toml"]),
            ("sub/.d", ["sub/.d/"]),
            ("none/", []),
            ("a\0b/", []),
            ("x" * 5000 + "/", []),
        ],
    )
    def test_files_of_a_kind_and_folders(self, typed, expected):
        assert paths(typed, ".toml") == expected

    def test_home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path / "sub"))
        assert paths("~/", ".toml") == ["~/c.toml"]

    def test_names_come_first(self):
        Path("facescape.toml").touch()
        assert recipes("faces") == ["facescape", "facescape.toml"]
        assert models("i") == ["ict-linear", "ict-pointnet"]


def test_the_names_of_the_data_sets_are_all_there_are():
    assert set(SOURCE_NAMES) == set(SOURCES)
