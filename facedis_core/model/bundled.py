"""Bundled models: finding a model by name, listing them; standard library only."""

import json
import os
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.paths import exists, is_file, is_folder
from facedis_core.io.streams import shown

DEFAULT_MODEL: Final = "ict"
MODEL_VARIABLE: Final = "FACEDIS_MODEL"
SUFFIX: Final = ".safetensors"
_ALIKE: Final = 0.85  # of file names, whose suffix is always the same
_LARGEST_HEADER: Final = 100_000_000  # bytes, as safetensors itself has it


def resolve_model(source: str | Path | None) -> str:
    """Path of a model given by path or bundled name (`-` stays: a model may come on a pipe).

    Raises:
        UsageError: neither a file nor a bundled name.
        InputError: a file that is not there, while one of nearly the same name is.
    """
    given = source if source is not None else os.environ.get(MODEL_VARIABLE) or None
    name = str(DEFAULT_MODEL if given is None else given)
    # a folder of that name is not a model: the bundled name stays valid
    found = exists(name) and not is_folder(name)
    bundled = bundled_models()
    if given is not None and (name == "-" or os.sep in name or found or name.endswith(SUFFIX)):
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


def _near(name: str, bundled: Iterable[str]) -> str | None:
    """A similar name of a model file in the same folder, or of a bundled model."""
    file = name.rpartition(os.sep)[2]
    folder = name.removesuffix(file)
    beside = [path.name for path in model_files(folder)]
    near = [f"{folder}{other}" for other in get_close_matches(file, beside, 1, _ALIKE)]
    near += get_close_matches(file.partition(".")[0], list(bundled), 1)
    return next(iter(near), None)


def model_files(folder: str) -> list[Path]:
    """The files of our own format in a folder ("" = the current one); none if it is unreadable."""
    try:
        return sorted([path for path in Path(folder).iterdir() if path.suffix == SUFFIX])
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []


def bundled_models() -> dict[str, Path]:
    """Name -> file of every model that is installed with the commands."""
    return {path.stem: path for path in model_files(str(weights_folder()))}


class ListedModel(NamedTuple):
    """A model that `--model` can take: its name, its id or what is wrong, and why it is default."""

    name: str
    id: str
    default: str = ""


def list_models() -> list[ListedModel]:
    """The bundled models and the default one, also if a file is broken."""
    rows = [(name, str(path)) for name, path in sorted(bundled_models().items())]
    chosen = os.environ.get(MODEL_VARIABLE) or None
    name, reason = (
        (DEFAULT_MODEL, "default")
        if chosen is None
        else (chosen, f"default, from ${MODEL_VARIABLE}")
    )
    try:
        default = (name, resolve_model(chosen))
    except (InputError, UsageError):
        default = (name, "")
    rows += [] if default in rows else [default]
    return [
        ListedModel(shown(name), _id_or_trouble(path), reason if (name, path) == default else "")
        for name, path in rows
    ]


def _id_or_trouble(path: str) -> str:
    try:
        return model_id(path)
    except InputError as error:
        return str(error)


def model_id(path: str | Path) -> str:
    """The id that a model file says it has; only its header is read, without NumPy.

    Raises:
        InputError: no regular file, or no model; the message does not name the file.
    """
    if not is_file(path):
        raise InputError("no such file, or no regular one", ErrorCode.FILE_MISSING)
    try:
        with Path(path).open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 2 <= size <= min(os.fstat(stream.fileno()).st_size - 8, _LARGEST_HEADER):
                raise InputError("not a whole safetensors file", ErrorCode.DAMAGED)
            header = json.loads(stream.read(size))
        metadata = json.loads(header["__metadata__"]["facedis"])
        kind, found = metadata["format"], metadata["id"]
    except OSError as error:
        raise InputError(f"unreadable: {error.strerror}", ErrorCode.FILE_UNREADABLE) from None
    except (ValueError, RecursionError, LookupError, TypeError):
        raise InputError("not a file of facedis", ErrorCode.WRONG_KIND) from None
    if not str(kind).startswith("facedis.model/"):
        raise InputError("not a model", ErrorCode.WRONG_KIND)
    return shown(str(found))


def weights_folder() -> Path:
    """Folder of the bundled models and example faces."""
    spec = find_spec("facedis_weights")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else Path(__file__).parent.parent / "weights"
