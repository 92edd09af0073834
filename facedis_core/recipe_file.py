"""The text of a recipe: a small TOML file that a user may have written."""

import tomllib
from pathlib import Path
from typing import Any

from facedis_core.errors import InputError

_MOST_BYTES = 1 << 16
_LONGEST_LINE = 1000  # a key of very many parts takes the parser the square of their number


def read_recipe_file(path: Path) -> dict[str, Any]:
    """What the file holds.

    Raises InputError where it cannot be read, is too large for a recipe, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES >> 10} kB; expected a recipe in TOML")
    try:
        text = content.decode().replace("\r\n", "\n")
        if any(len(line) > _LONGEST_LINE for line in text.split("\n")):
            raise ValueError(f"it has a line of more than {_LONGEST_LINE} characters")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also what is not UTF-8 and absurd numbers
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not TOML: {reason}") from None
