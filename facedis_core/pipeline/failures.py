"""The list of items that a batch skipped, as JSON lines (`--failures`)."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from facedis_core.errors import FacedisError
from facedis_core.io.streams import open_output


class Failure(NamedTuple):
    """A skipped item.

    Attributes:
        item: its path or name.
        kind: code of the error.
        error: message of the error.
    """

    item: str
    kind: str
    error: str

    @classmethod
    def of(cls, item: str, error: FacedisError) -> "Failure":
        """The failure of an item by an error."""
        return cls(item, error.code, str(error))


def write_failures(target: str, failures: Iterable[Failure], *, force: bool) -> None:
    """Write one JSON object a line, with the keys item, kind and error; no line without failures.

    Raises:
        UsageError, OutputError: as `open_output`.
    """
    with open_output(target, force=force, binary=False) as stream:
        for failure in failures:
            stream.write(f"{json.dumps(failure._asdict())}\n".encode())
