"""Names that say who shows what: `{subject}/{expression}.obj` as a regular expression."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from facedis_core.errors import UsageError

# What a placeholder of a pattern stands for; the shortest match wins, so that in
# `{subject}_{expression}.ply` an expression may contain underscores and a subject may not.
PLACEHOLDERS: Final[Mapping[str, str]] = {
    "subject": "[^/]+?",
    "expression": "[^/]+?",
    "level": r"\d+(?:\.\d+)?",
}


def compile_pattern(
    pattern: str, needed: Sequence[str] = ("subject", "expression")
) -> re.Pattern[str]:
    """`{subject}/{expression}.obj` as a regular expression for paths with `/`.

    A placeholder that occurs twice stands for the same text in both places.
    Raises UsageError for unknown placeholders, and where one that is needed is missing.
    """
    parts, seen = [], set()
    for piece in re.split(r"(\{[^{}]*\}|\*)", pattern):
        name = piece[1:-1] if piece.startswith("{") and piece.endswith("}") else None
        if piece == "*":
            parts.append("[^/]*")
        elif name is None:
            parts.append(re.escape(piece))
        elif name in seen:
            parts.append(f"(?P={name})")
        elif name in PLACEHOLDERS:
            parts.append(f"(?P<{name}>{PLACEHOLDERS[name]})")
            seen.add(name)
        else:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise UsageError(f"pattern {pattern!r} has {piece}, expected {known} or *")
    for name in needed:
        if name not in seen:
            raise UsageError(
                f"pattern {pattern!r} does not say where the {name} is; put {{{name}}} there"
            )
    return re.compile("".join(parts))
