"""Histories of face sets and models: the commands that made a file, oldest first."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from facedis_core import __version__
from facedis_core.io.text import on_one_line

_ID: Final = re.compile("[0-9a-f]{12}")


@dataclass(frozen=True)
class HistoryStep:
    """One command that made a file.

    Options that do not change the result (output names, `--force`, `--jobs`) are left out, and so
    are absolute paths: the same work gives the same bytes wherever it is done.

    Attributes:
        inputs: ids of the files it read, by their role.
        options: the options that affect the result.
        output: id of the file it made; empty = unknown.
    """

    command: str
    version: str = __version__
    inputs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    output: str = ""

    def as_json(self) -> dict[str, Any]:
        """The step as files store it, keys sorted."""
        found = dict(sorted(asdict(self).items()))
        if not self.output:
            del found["output"]
        return found

    def __str__(self) -> str:
        """One line: `fd-train 0.1 recipe=pointnet seed=0 set:0e95c7a4a03b -> a46f6b5a8c3f`."""
        words = [self.command, self.version]
        words += [f"{name}={_text(value)}" for name, value in self.options.items()]
        words += [f"{name}:{_text(value)}" for name, value in self.inputs.items()]
        words += ["->", self.output] if self.output else []
        return " ".join(map(on_one_line, words))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def history_step(
    command: str, inputs: Mapping[str, str], options: Mapping[str, Any]
) -> HistoryStep:
    """The step that this version of a command is; options that are None are left out."""
    given = {key: value for key, value in options.items() if value is not None}
    return HistoryStep(command, inputs=dict(inputs), options=given)


def with_output(history: Sequence[HistoryStep], output: str) -> list[HistoryStep]:
    """A history whose last step has the id of the file that the history was read from."""
    return [*history[:-1], *(replace(last, output=output) for last in history[-1:])]


def merged(history: Sequence[HistoryStep], other: Sequence[HistoryStep]) -> list[HistoryStep]:
    """One history and the steps of another that it lacks.

    A step with an output is the same as one without that is otherwise equal.
    """
    found = list(history)
    for step in other:
        same = [i for i, known in enumerate(found) if _same(known, step)]
        if not same:
            found.append(step)
        elif step.output:
            found[same[0]] = step
    return found


def _same(one: HistoryStep, other: HistoryStep) -> bool:
    if one.output and other.output:
        return one == other
    return replace(one, output="") == replace(other, output="")


def made_by(history: Sequence[HistoryStep]) -> str:
    """The last command of a history in a few words: `made by fd-train with set ba662f826333`."""
    if not history:
        return "which does not say how it was made"
    last = history[-1]
    # a role without a file has a word in place of an id, such as `discriminator: none`
    used = {name: id for name, id in last.inputs.items() if _ID.fullmatch(str(id))}
    if "source" in last.options:
        used["source"] = last.options["source"]
    words = " and ".join([f"{name} {value}" for name, value in used.items()])
    return f"made by {last.command}" + (f" with {words}" if words else "")
