"""Name patterns such as `{subject}/{expression}.obj`, compiled to regular expressions."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from facedis_core.errors import ErrorCode, UsageError

# The regular expression of each placeholder. The shortest match wins, so that in
# `{subject}_{expression}.ply` an expression may contain underscores and a subject may not.
PLACEHOLDERS: Final[Mapping[str, str]] = {
    "subject": "[^/]+?",
    "expression": "[^/]+?",
    "level": r"\d+(?:\.\d+)?",
}


def compile_pattern(
    pattern: str, required: Sequence[str] = ("subject", "expression")
) -> re.Pattern[str]:
    """The regular expression of a pattern, for paths with `/`.

    A placeholder that occurs twice matches the same text in both places; `*` matches anything but
    a `/`.

    Args:
        pattern: text with placeholders.
        required: placeholders that must occur.

    Raises:
        UsageError: an unknown placeholder, or a required one is missing.
    """
    parts, found = [], set()
    for piece in re.split(r"(\{[^{}]*\}|\*)", pattern):
        name = piece[1:-1] if piece.startswith("{") and piece.endswith("}") else None
        if piece == "*":
            parts.append("[^/]*")
        elif name is None:
            parts.append(re.escape(piece))
        elif name in found:
            parts.append(f"(?P={name})")
        elif name in PLACEHOLDERS:
            parts.append(f"(?P<{name}>{PLACEHOLDERS[name]})")
            found.add(name)
        else:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise UsageError(
                f"pattern {pattern!r} has {piece}, expected {known} or *", ErrorCode.OPTION_VALUE
            )
    for name in required:
        if name not in found:
            raise UsageError(
                f"pattern {pattern!r} does not say where the {name} is; put {{{name}}} there",
                ErrorCode.OPTION_VALUE,
            )
    return re.compile("".join(parts))
