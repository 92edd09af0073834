"""A history as the commands that repeat it: a shell script, oldest step first.

Files are named by their ids. What a history cannot know, such as the folder of the data, is a shell
variable, and a comment says what it must hold. A file may come from anybody, so nothing of it
reaches the script unquoted, and only commands of ours do.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from facedis_core import __version__
from facedis_core.bundle import bundled_models, model_id
from facedis_core.container import KINDS, read_container, stored
from facedis_core.errors import InputError
from facedis_core.streams import on_one_line, shown

Entry = Mapping[str, Any]


class _Made(NamedTuple):
    """What an input is if a command of ours made it: by which command, and the option for it.

    An option of None is the argument.
    """

    command: str | None
    option: str | None
    what: str


# Inputs that are files of ours, by the key a history has for them; a `like` may be of two kinds.
_MADE: Final[Mapping[str, _Made]] = {
    "set": _Made("fd-prep", None, "face set"),
    "discriminator": _Made("fd-pretrain-disc", "--discriminator", "discriminator"),
    "init": _Made("fd-train", "--init", "model"),
    "like": _Made(None, "--like", "model or face set"),
}
# Inputs that are the user's own files, which only their content identifies.
_GIVEN: Final[Mapping[str, str]] = {
    "labels": "the CSV file",
    "protocol": "the CSV file with the split",
    "exclude": "the list of what to leave out",
    "recipe": "the recipe",
}
_COMMANDS: Final = ("fd-prep", "fd-pretrain-disc", "fd-train")
_NEGATIVE: Final = {"neutrals"}  # options that have a --no- form
_ID: Final = re.compile(r"[0-9a-f]{12}")
_OPTION: Final = re.compile(r"[a-z]+(_[a-z]+)*")


def history_script(source: str) -> str:
    """The commands that made a file of ours, for a shell.

    Raises:
        InputError: no file of ours, or one that does not say how it was made.
    """
    container = read_container(source)
    label = shown(source)
    kind = KINDS[container.kind]
    if container.kind == "training":
        raise InputError(f"{label} is a {kind}, which has no history; take the model")
    history = stored(container.metadata, "history", list, label)
    if not history:
        raise InputError(f"{label} does not say how it was made: it was written with --no-history")
    own = stored(container.metadata, "id", str, label)
    script = _Script(_checked(history, label), own)
    about = f"How {label} ({kind} {on_one_line(own)}) was made, oldest step first."
    return "\n".join([f"# {about}", *script.lines()]) + "\n"


def with_output(history: Sequence[Entry], output: str) -> list[dict[str, Any]]:
    """A history whose last step says the id of what it made: that of the file it was read from."""
    if not history:
        return []
    return [*map(dict, history[:-1]), {**history[-1], "output": output}]


def merged(history: Sequence[Entry], other: Sequence[Entry]) -> list[dict[str, Any]]:
    """One history and what another has beyond it.

    A step that says what it made is the same as one that does not say so and is else equal.
    """
    found = [dict(entry) for entry in history]
    for entry in other:
        same = [i for i, known in enumerate(found) if _same_step(known, entry)]
        if not same:
            found.append(dict(entry))
        elif "output" in entry:
            found[same[0]] = dict(entry)
    return found


def _same_step(one: Entry, other: Entry) -> bool:
    both = "output" in one and "output" in other
    left, right = ({k: v for k, v in e.items() if both or k != "output"} for e in (one, other))
    return left == right


def _checked(history: Sequence[Any], label: str) -> list[Entry]:
    """The entries, if all of them are ones that a command of ours can have written."""
    for entry in history:
        if not _is_step(entry):
            raise InputError(f"{label} has a garbled history; make it again with facedis")
    return list(history)


def _is_step(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or entry.get("command") not in _COMMANDS:
        return False
    inputs, options = entry.get("inputs", {}), entry.get("options", {})
    if not isinstance(inputs, Mapping) or not isinstance(options, Mapping):
        return False
    return all(isinstance(text, str) for text in (*inputs.values(), entry.get("output", "")))


@dataclass
class _Script:
    """The lines that repeat a history whose last step made the file with the id `own`."""

    history: Sequence[Entry]
    own: str
    _variables: dict[tuple[str, str], str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Comments and commands."""
        made = self._outputs()
        there: set[str] = set()
        found = []
        for number, (entry, output) in enumerate(zip(self.history, made, strict=True), 1):
            words, notes = self._command(entry, there)
            if output is None:
                notes.append("which id this gives was not recorded")
            name = f"step-{number}" if output is None else output
            found += [f"# {note}" for note in notes]
            found.append(" ".join([*words, "-o", shlex.quote(f"{name}.safetensors")]))
            there.add(name)
        return found

    def _outputs(self) -> list[str | None]:
        """The id that each step made.

        Where a step does not say it, it is known if only one step can have made what later ones
        read.
        """
        found: list[str | None] = [entry.get("output") for entry in self.history]
        found[-1] = self.own
        for key, made in _MADE.items():
            wanted = {e.get("inputs", {}).get(key) for e in self.history}
            wanted = {i for i in wanted if i and _ID.fullmatch(i)} - set(found)
            makers = [
                i
                for i, entry in enumerate(self.history)
                if entry["command"] == made.command and found[i] is None
            ]
            if len(wanted) == len(makers) == 1:
                found[makers[0]] = wanted.pop()
        return found

    def _command(self, entry: Entry, there: set[str]) -> tuple[list[str], list[str]]:
        """The words of a step but for its output, and what must be said of them."""
        notes = []
        version = str(entry.get("version"))
        if version != __version__:
            notes.append(f"by facedis {on_one_line(version)}; this is {__version__}")
        options = dict(entry.get("options", {}))
        inputs = dict(entry.get("inputs", {}))
        words = [entry["command"]]
        if entry["command"] == "fd-prep":
            source = str(options.pop("source", ""))
            root = self._variable("ROOT", f"of {len(self._variables)}")
            notes.append(f"{root}: the folder with the data of source {on_one_line(source)}")
            words += [shlex.quote(source), f'"${root}"']
        if str(options.get("recipe")).endswith(".toml"):
            inputs.setdefault("recipe", "")
        for key, value in sorted(inputs.items(), key=lambda item: item[0] != "set"):
            if key in _MADE:
                words += self._made(key, value, there, notes)
            elif key in _GIVEN:
                words += self._given(key, value, options.pop(key, ""), notes)
        for key, value in options.items():
            words += _option(entry["command"], key, value)
        return words, notes

    def _variable(self, name: str, content: str) -> str:
        """A variable that stands for this content alone."""
        others = sum(known == name for known, _ in self._variables)
        fresh = f"{name}_{others + 1}" if others else name
        return self._variables.setdefault((name, content), fresh)

    def _given(self, key: str, value: str, option: Any, notes: list[str]) -> list[str]:
        """A file of the user's, which is known by what is in it, or at least by its name."""
        variable = self._variable(key.upper(), value or str(option))
        if value:
            which = f"{_GIVEN[key]} whose SHA-256 begins with {on_one_line(value)}"
        else:
            which = f"{_GIVEN[key]} that was called {on_one_line(str(option))}"
        notes.append(f"{variable}: {which}")
        return [f"--{key}", f'"file:${variable}"' if key == "protocol" else f'"${variable}"']

    def _made(self, key: str, value: str, there: set[str], notes: list[str]) -> list[str]:
        """An input of ours: a file that an earlier step made, a bundled model, or one to bring."""
        made = _MADE[key]
        if key == "discriminator" and not _ID.fullmatch(value):
            return [] if value != "none" else ["--discriminator", "none"]
        name = f"{value}.safetensors"
        if value not in there:
            bundled = _bundled(value) if key in ("like", "init") else None
            name = bundled or name
            if bundled is None:
                notes.append(f"{on_one_line(name)}: a {made.what} of which no step is recorded")
        return [*([made.option] if made.option else []), shlex.quote(name)]


def _bundled(wanted: str) -> str | None:
    """The name of the bundled model with this id."""
    for name, path in bundled_models().items():
        try:
            if model_id(path) == wanted:
                return name
        except InputError:
            continue
    return None


def _option(command: str, key: str, value: Any) -> list[str]:
    """An option as it is typed; a list is an option given several times."""
    if (command, key) == ("fd-prep", "test"):  # as versions before --protocol recorded it
        return ["--protocol", shlex.quote(f"subjects:{value}")]
    if not _OPTION.fullmatch(key):
        return []
    name = f"--{key.replace('_', '-')}"
    if value is True:
        return [name]
    if value is False:
        return [f"--no-{key}"] if key in _NEGATIVE else []
    if isinstance(value, list):
        return [word for item in value for word in (name, shlex.quote(str(item)))]
    return [name, shlex.quote(str(value))]
