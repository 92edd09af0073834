"""Where files come from, and whether they belong together."""

from collections.abc import Mapping, Sequence
from typing import Any

from facedis_core.errors import InputError
from facedis_core.faceset import FaceSet


def made_by(history: Sequence[Mapping[str, Any]]) -> str:
    """The last command of a history in a few words: `made by fd-train with set ba662f826333`."""
    if not history:
        return "which does not say how it was made"
    last = history[-1]
    used = dict(last.get("inputs", {}))
    if "source" in last.get("options", {}):
        used["source"] = last["options"]["source"]
    words = " and ".join(f"{name} {value}" for name, value in used.items())
    return f"made by {last.get('command')}" + (f" with {words}" if words else "")


def check_topology(faces: FaceSet, label: str, topologies: str | Sequence[str], other: str) -> None:
    """Raise InputError unless the face set is of one of these topologies, those of `other`."""
    expected = [topologies] if isinstance(topologies, str) else topologies
    if faces.topology not in expected:
        raise InputError(
            f"{label} ({made_by(faces.history)}) has topology {faces.topology} "
            f"({faces.vertices.shape[1]} vertices), {other} expects {' or '.join(expected)}; "
            "prepare the set with fd-prep --like"
        )
