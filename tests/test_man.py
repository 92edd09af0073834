"""The man pages, as roff and as a terminal shows them."""

import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer

ROOT = Path(__file__).parent.parent
COMMANDS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"])
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"]

# The backslash last: what it stands before is then gone.
ESCAPES = {
    **{r"\-": "-", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~", r"\(dq": '"'},
    r"\e": "\\",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make man` would write, with every page."""
    target = tmp_path_factory.mktemp("share") / "man" / "man1"
    subprocess.run([sys.executable, ROOT / "docs" / "man.py", target], check=True)
    return target


@pytest.fixture(scope="module")
def man() -> ModuleType:
    """docs/man.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_man", ROOT / "docs" / "man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(roff: str) -> str:
    """What is left of a page without its requests and escapes: the text that a reader sees."""
    text = re.sub(r"\\f[BIR]|\\&", "", roff)
    text = re.sub(r"\\\[u([0-9A-F]{4,6})\]", lambda match: chr(int(match[1], 16)), text)
    for escape, character in ESCAPES.items():
        text = text.replace(escape, character)
    return text


def test_a_page_a_command(folder):
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.1" for name in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
class TestPages:
    def test_all_sections_in_order(self, folder, command):
        text = (folder / f"{command}.1").read_text("utf-8")
        sections = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
        assert [name for name in sections if name != "ARGUMENTS"] == SECTIONS
        if "ARGUMENTS" in sections:
            assert sections.index("ARGUMENTS") == sections.index("OPTIONS") - 1

    def test_every_word_of_the_help_page_is_there(self, folder, command):
        module = command.replace("-", "_")
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
        )
        shown = plain((folder / f"{command}.1").read_text("utf-8"))
        options = set(re.findall(r"(?<![\w-])--?\w[\w-]*", done.stdout))
        assert {"--help", "-h", "--version"} <= options
        assert options <= set(re.findall(r"(?<![\w-])--?\w[\w-]*", shown))
        said = re.sub(r"(Arguments|Options):\n|Usage: ", "", done.stdout).split()
        assert set(said) <= set(shown.split())

    def test_exit_codes_and_variables(self, folder, command):
        shown = plain((folder / f"{command}.1").read_text("utf-8"))
        part = shown.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
        codes = [int(code) for code in re.findall(r"^\d+$", part, re.MULTILINE)]
        assert codes == [0, 1, 2, 3, 4, 70, 130, 141]
        assert "NO_COLOR" in shown
        assert ("FACEDIS_MODEL\n" in shown) == ("--model MODEL" in shown)

    def test_no_line_is_taken_for_a_request_by_mistake(self, folder, command):
        for line in (folder / f"{command}.1").read_text("utf-8").splitlines():
            assert line, "an empty line"
            if line[0] in ".'":
                assert re.match(r"\.(TH|SH|TP|PP|BR|B|nf|fi|nh)\b", line), line
            elif not line.startswith(r"\f"):
                assert not re.search(r"(?<!\\)-|['`^~\"]", line), line
            assert line.isascii()

    @pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
    def test_groff_shows_it_without_a_warning(self, folder, command):
        words = ["groff", "-man", "-ww", "-Tutf8", "-P-c", "-rLL=100n", folder / f"{command}.1"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        text = re.sub(r".\x08", "", done.stdout)
        assert "--version\n              Show the version" in text
        assert text.count(command) >= 2

    @pytest.mark.skipif(shutil.which("lexgrog") is None, reason="man-db is not installed")
    def test_whatis_finds_it(self, folder, command):
        words = ["lexgrog", folder / f"{command}.1"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0
        assert f'"{command} - ' in done.stdout


HOSTILE = r""".starts with a dot
'starts with a quote, has \backslash \fB and \n
--dashes-of-all - kinds `back` ~tilde^ "double" größer … .SH NAME"""


def test_what_roff_would_take_for_its_own(man):
    for line in HOSTILE.splitlines():
        roff = man.escaped(line)
        assert roff.isascii() and roff[0] not in ".'"
        assert not re.search(r"(?<!\\)-", roff)
        assert plain(roff) == line


def hostile(
    value: Annotated[str, typer.Option(metavar="X|-", help=f"Takes {HOSTILE}")] = ".x",
) -> None:
    """Replaced below."""


hostile.__doc__ = f"Do .nothing.\n\n{HOSTILE}\n\n\b\n.one  line\n'two  lines\n"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_shows_it_as_it_was_written(man, tmp_path):
    path = tmp_path / "hostile.1"
    path.write_text(man.page("fd-hostile", hostile, ["fd-hostile", "fd-other"]), "utf-8")
    words = ["groff", "-man", "-ww", "-Tutf8", "-P-c", "-rLL=100n", path]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r".\x08", "", done.stdout)
    words_shown = " ".join(shown.split())
    assert " ".join(HOSTILE.split()) in words_shown
    assert f"Takes {' '.join(HOSTILE.split())}" in words_shown
    assert textwrap.indent(".one  line\n'two  lines\n", " " * 7) in shown


def test_a_folder_must_be_named():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "man.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "where to?" in done.stderr
