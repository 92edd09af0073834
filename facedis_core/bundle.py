"""The models and example faces that are installed with the commands."""

import os
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from facedis_core.errors import UsageError
from facedis_core.paths import exists, is_folder

DEFAULT_MODEL: Final = "ict"


def resolve_model(source: str | Path | None) -> str:
    """Path of a model given by path or bundled name (`-` stays: a model may come on a pipe)."""
    given = source if source is not None else os.environ.get("FACEDIS_MODEL") or None
    name = str(DEFAULT_MODEL if given is None else given)
    # a folder is no model: beside data of the same name, a bundled name stays one
    found = exists(name) and not is_folder(name)
    if given is not None and (
        name == "-" or os.sep in name or found or name.endswith(".safetensors")
    ):
        return name
    bundled = {path.stem: path for path in weights_folder().glob("*.safetensors")}
    if name not in bundled:
        near = get_close_matches(name, bundled, 1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"bundled: {', '.join(sorted(bundled)) or 'none'}"
        )
        raise UsageError(f"there is no model {name!r}, neither a file nor a bundled name; {hint}")
    return str(bundled[name])


def weights_folder() -> Path:
    """Where the bundled models and example faces are installed."""
    spec = find_spec("facedis_weights")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else Path(__file__).parent.parent / "weights"
