"""How a word on a command line may go on, where the options themselves do not say.

Standard library only: a shell asks at every press of the tab key.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from facedis_core.bundle import SUFFIX, bundled_models
from facedis_core.recipe import recipe_names

# As in facedis_core.sources, which needs NumPy.
SOURCE_NAMES: Final = ("coma", "bu3dfe", "facescape", "facewarehouse", "ict", "folder")


def models(incomplete: str) -> list[str]:
    """Bundled models, files that may be models, and folders on the way to them."""
    return _starting(incomplete, bundled_models()) + paths(incomplete, SUFFIX)


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with facedis, and TOML files."""
    return _starting(incomplete, recipe_names()) + paths(incomplete, ".toml")


def sources(incomplete: str) -> list[str]:
    """Data sets that fd-prep knows."""
    return _starting(incomplete, SOURCE_NAMES)


def discriminators(incomplete: str) -> list[str]:
    """None, or files."""
    return _starting(incomplete, ["none"]) + paths(incomplete, SUFFIX)


# By what the help page calls a value; what is not here is a file, which shells know themselves.
SUGGESTIONS: Final[Mapping[str, Callable[[str], list[str]]]] = {
    "MODEL": models,
    "MODEL|SET": models,
    "NAME|FILE": recipes,
    "DISC|none": discriminators,
    "SOURCE": sources,
}


def paths(incomplete: str, suffix: str) -> list[str]:
    """Files with this suffix, and folders with a / at the end, that begin with what is typed."""
    prefix = incomplete[: incomplete.rfind("/") + 1]
    start = incomplete.removeprefix(prefix)
    found = []
    try:
        entries = sorted(Path(os.path.expanduser(prefix)).iterdir())  # noqa: PTH111 - "" stays ""
    except (OSError, RuntimeError, ValueError):
        return []
    for entry in entries:
        hidden = entry.name.startswith(".") and not start
        if entry.name.startswith(start) and not hidden:
            if entry.is_dir():
                found.append(f"{prefix}{entry.name}/")
            elif entry.suffix == suffix:
                found.append(f"{prefix}{entry.name}")
    return found


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
