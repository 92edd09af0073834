"""The manifest of a batch: what was left out, and why."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from facedis_core.io.streams import open_output


class Failure(NamedTuple):
    """An item that was left out: a path or a name, and what was wrong with it."""

    item: str
    error: str


def write_failures(target: str, failures: Iterable[Failure], *, force: bool) -> None:
    """Write one JSON object `{"item": ..., "error": ...}` a line; an empty file where all is well.

    Raises what `open_output` does.
    """
    with open_output(target, force=force, binary=False) as stream:
        for failure in failures:
            stream.write(f"{json.dumps(failure._asdict())}\n".encode())
