"""Write a man page for every command, from what its --help says: man.py FOLDER."""

import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import fd_parse
from facedis_core import __version__

ROOT = Path(__file__).parent.parent
WIDTH = 78

# Variable, what it does, and the option without which it is of no interest.
ENVIRONMENT = (
    (
        "FACEDIS_MODEL",
        "Model file or bundled name that is taken without --model; --version shows which it is.",
        "--model",
    ),
    (
        "OMP_NUM_THREADS",
        "Threads of a matrix product; 1 if it is not set, and of the commands that train one a "
        "core.",
        None,
    ),
    ("NO_COLOR", "If set, tables and progress are shown without colours.", None),
    ("TERM", "If dumb, they are shown without control characters.", None),
)

SPECIAL = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}


def escaped(text: str) -> str:
    """Text as roff shows it unchanged; on a line of its own also where it begins with a dot."""
    characters = (SPECIAL.get(c, c if c.isascii() else rf"\[u{ord(c):04X}]") for c in text)
    line = "".join(characters)
    return rf"\&{line}" if line.startswith(".") else line


def paragraph(text: str) -> list[str]:
    """A paragraph in short lines."""
    lines = textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False)
    return [escaped(line) for line in lines]


def styled(text: str) -> str:
    """Options in bold, the names of values in italics: `-o, --output OUT`."""
    parts = re.split(r"(?<![\w-])(--?\w[\w-]*)", text)
    found = []
    for number, part in enumerate(parts):
        if number % 2:
            found.append(rf"\fB{escaped(part)}\fR")
        elif re.search(r"\w", part):
            space = part[: len(part) - len(part.lstrip())]
            found.append(rf"{space}\fI{escaped(part.strip())}\fR")
        else:
            found.append(escaped(part))
    return "".join(found)


def tagged(tag: str, text: str) -> list[str]:
    """A term and, indented below it, what it means."""
    return [".TP", tag, *paragraph(text)]


def commands() -> dict[str, Callable[..., Any]]:
    """Every command and the function that does its work: the only public one beside `main`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = {}
    for name, entry in sorted(project["scripts"].items()):
        module = import_module(entry.partition(":")[0])
        own = [
            value
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
            if key != "main" and not key.startswith("_")
        ]
        if len(own) != 1:
            sys.exit(f"{module.__name__} has {len(own)} public functions, expected one and main")
        found[name] = own[0]
    return found


def exit_codes() -> Iterator[tuple[str, str]]:
    """The table of README.md."""
    readme = (ROOT / "README.md").read_text("utf-8")
    part = readme.partition("\n### Exit codes\n")[2].partition("\n#")[0]
    yield from re.findall(r"^\| (\d+) \| (.+) \|$", part, re.MULTILINE)


def description(help_text: str) -> Iterator[str]:
    """The paragraphs below the first; after a backspace they keep their lines, as in --help."""
    for text in help_text.split("\n\n")[1:]:
        yield ".PP"
        if text.lstrip("\n").startswith("\b"):
            lines = text.replace("\b", "").strip("\n").splitlines()
            yield from (".nf", *map(escaped, lines), ".fi")
        else:
            yield from paragraph(" ".join(text.split()))


def page(name: str, function: Callable[..., Any], others: Iterable[str]) -> str:
    """The man page of a command; `others` are those it refers to."""
    command = fd_parse.click_command(function)
    with command.make_context(name, [], resilient_parsing=True) as context:
        pieces = command.collect_usage_pieces(context)
        records = [
            (parameter.param_type_name, parameter.get_help_record(context))
            for parameter in command.get_params(context)
        ]
    help_text = inspect.cleandoc(command.help)
    summary = " ".join(help_text.partition("\n\n")[0].split()).rstrip(".")
    options = [record for kind, record in records if kind == "option"]
    arguments = [record for kind, record in records if kind == "argument"]
    lines = [
        f'.TH {escaped(name.upper())} 1 "" "facedis {escaped(__version__)}" "facedis"',
        ".nh",  # a name that is divided cannot be copied
        ".SH NAME",
        rf"{escaped(name)} \- {escaped(summary[0].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        rf".B {escaped(name)}",
        *(rf"\fI{escaped(piece)}\fR" for piece in pieces),
        ".SH DESCRIPTION",
        *paragraph(f"{summary}."),
        *description(help_text),
    ]
    for heading, part in (("ARGUMENTS", arguments), ("OPTIONS", options)):
        lines += [f".SH {heading}"] if part else []
        for tag, text in part:
            lines += tagged(styled(tag), text)
    lines += [".SH EXIT STATUS"]
    for code, text in exit_codes():
        lines += tagged(rf"\fB{code}\fR", text.replace("`", ""))
    lines += [".SH ENVIRONMENT"]
    for variable, text, option in ENVIRONMENT:
        if option is None or any(option in tag for tag, _ in options):
            lines += tagged(rf"\fB{variable}\fR", text)
    related = [other for other in others if other != name]
    lines += [".SH SEE ALSO"]
    lines += [
        rf".BR {escaped(other)} (1){',' if other != related[-1] else ''}" for other in related
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every page."""
    if len(sys.argv) != 2:
        sys.exit("where to? python docs/man.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    functions = commands()
    for name, function in functions.items():
        (folder / f"{name}.1").write_text(page(name, function, functions), "utf-8")


if __name__ == "__main__":
    main()
