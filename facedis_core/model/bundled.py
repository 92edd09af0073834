"""Bundled models: paths by name, and a list with ids; needs only the standard library."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from facedis_core.errors import ErrorCode, FacedisError, InputError, UsageError
from facedis_core.io.paths import exists, is_file, is_folder
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url

DEFAULT_MODEL: Final = "ict-linear"
MODEL_VARIABLE: Final = "FACEDIS_MODEL"
SUFFIX: Final = ".safetensors"
_TYPO_SIMILARITY: Final = 0.85  # of file names, which share the suffix
_MOST_HEADER_BYTES: Final = 100_000_000  # the limit of safetensors


class ListedModel(NamedTuple):
    """A model to choose.

    Attributes:
        name: bundled name, or path.
        id: its id, or what is wrong with its file.
        default: why it is the default; "" for others.
    """

    name: str
    id: str
    default: str = ""


def resolve_model(source: str | Path | None) -> str:
    """The path of a model.

    Args:
        source: path, URL or bundled name; `-` = standard input, None = $FACEDIS_MODEL, else the
            default.

    Raises:
        UsageError: neither a file nor a bundled name.
        InputError: a missing file with a similar name to that of another model.
    """
    given = source if source is not None else os.environ.get(MODEL_VARIABLE) or None
    name = str(DEFAULT_MODEL if given is None else given)
    if is_url(name):
        return name
    # a folder of that name is not a model: the bundled name stays valid
    is_model_file = exists(name) and not is_folder(name)
    bundled = bundled_models()
    is_path = name == "-" or os.sep in name or is_model_file or name.endswith(SUFFIX)
    if given is not None and is_path:
        near = None if name == "-" or exists(name) else _near(name, bundled)
        if near is not None:
            raise InputError(
                f"{shown(name)} does not exist; did you mean {near!r}?", ErrorCode.FILE_MISSING
            )
        return name
    if name not in bundled:
        near = _near(name, bundled)
        hint = (
            f"did you mean {near!r}?"
            if near is not None
            else f"bundled: {', '.join(sorted(bundled)) or 'none'}"
        )
        raise UsageError(
            f"there is no model {name!r}, neither a file nor a bundled name; {hint}",
            ErrorCode.MODEL_MISSING,
        )
    return str(bundled[name])


def model_files(folder: str) -> list[Path]:
    """The safetensors files in a folder ("" = the current one); none where it is unreadable."""
    try:
        return sorted([path for path in Path(folder).iterdir() if path.suffix == SUFFIX])
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []


def bundled_models() -> dict[str, Path]:
    """Name -> path of every bundled model."""
    return {path.stem: path for path in model_files(str(weights_folder()))}


def list_models() -> list[ListedModel]:
    """The bundled models and the default model, usable or not."""
    models = [(name, str(path)) for name, path in sorted(bundled_models().items())]
    chosen = os.environ.get(MODEL_VARIABLE) or None
    name, reason = (
        (DEFAULT_MODEL, "default")
        if chosen is None
        else (chosen, f"default, from ${MODEL_VARIABLE}")
    )
    try:
        default = (name, resolve_model(chosen))
    except FacedisError:
        default = (name, "")
    models += [] if default in models else [default]
    listed = []
    for name, path in models:
        try:
            found = model_id(path)
        except InputError as error:
            found = str(error)
        listed.append(ListedModel(shown(name), found, reason if (name, path) == default else ""))
    return listed


def model_id(path: str | Path) -> str:
    """The id in the header of a model file.

    Raises:
        InputError: not a model file; the message does not name the path.
    """
    return shown(str(_metadata(path)["id"]))


def bundled_topologies() -> dict[str, str]:
    """Name of every usable bundled model -> id of its topology."""
    found = {}
    for name, path in sorted(bundled_models().items()):
        with suppress(InputError):
            found[name] = str(_metadata(path).get("topology"))
    return found


def _metadata(path: str | Path) -> dict[str, Any]:
    """The metadata in the header of a model file; raises as `model_id`."""
    if not is_file(path):
        raise InputError("no such file, or no regular one", ErrorCode.FILE_MISSING)
    try:
        with Path(path).open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 2 <= size <= min(os.fstat(stream.fileno()).st_size - 8, _MOST_HEADER_BYTES):
                raise InputError("not a whole safetensors file", ErrorCode.DAMAGED)
            header = json.loads(stream.read(size))
        metadata: dict[str, Any] = json.loads(header["__metadata__"]["facedis"])
        kind, _ = metadata["format"], metadata["id"]
    except OSError as error:
        raise InputError(f"unreadable: {error.strerror}", ErrorCode.FILE_UNREADABLE) from None
    except (ValueError, RecursionError, LookupError, TypeError):
        raise InputError("not a file of facedis", ErrorCode.WRONG_KIND) from None
    if not str(kind).startswith("facedis.model/"):
        raise InputError("not a model", ErrorCode.WRONG_KIND)
    return metadata


def weights_folder() -> Path:
    """Folder of the bundled models and example faces."""
    spec = find_spec("facedis_weights")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else Path(__file__).parent.parent / "weights"


def _near(name: str, bundled: Iterable[str]) -> str | None:
    """A similar name of a model file in the same folder, or of a bundled model."""
    file = name.rpartition(os.sep)[2]
    folder = name.removesuffix(file)
    beside = [path.name for path in model_files(folder)]
    near = [f"{folder}{other}" for other in get_close_matches(file, beside, 1, _TYPO_SIMILARITY)]
    near += get_close_matches(file.partition(".")[0], list(bundled), 1)
    return next(iter(near), None)
