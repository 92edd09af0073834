"""The files we exchange besides meshes: safetensors with one JSON string of metadata.

The JSON lies under the single metadata key `facedis` with sorted keys, because several metadata
keys come out in random order and the same content must give the same bytes.
"""

import hashlib
import json
import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from facedis_core import __version__
from facedis_core.errors import InputError
from facedis_core.paths import is_file
from facedis_core.streams import on_one_line, open_input, shown

T = TypeVar("T")

KINDS = {
    "faceset": "face set",
    "model": "model",
    "discriminator": "discriminator",
    "training": "training state",
}
VERSION = 1
_HASHED_AT_ONCE = 1 << 25
_READ_AT_ONCE = 1 << 22

# Lists and words take many times more memory than text.  What is written here is for the most part
# tensors, so that a header much smaller than its file, or small at all, is all there can be.
_LARGEST_HEADER = 100_000_000  # that the format allows
_USUAL_HEADER = 1 << 22
_LARGEST_PART = 0.25  # of the file, where it is larger than that
_BYTES_EACH = 100  # of memory, of a word or number, or a list
_BYTES_EACH_TABLE = 240
_ALWAYS_TAKEN = 1 << 25
_DEEPEST = 24  # lists and tables in one another
_LONGEST_WORD = 1024
_LONGEST_LINE = 1 << 14  # of the log that the state of a training has

_HALF_EXPONENT = np.uint16(0x7C00)  # all ones in what is not finite
_MISTAKEN = {b"\x93NUMPY": "latents or another .npy array", b"ply\n": "a PLY mesh"}
_ENDS = re.compile(rb'"data_offsets"\s*:\s*\[\s*[0-9]{1,18}\s*,\s*([0-9]{1,18})\s*\]')

_DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "|u1", "I64": "<i8", "F64": "<f8"}
DTYPE_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


@dataclass(frozen=True)
class Container:
    """The content of one file: its kind, its tensors and its metadata."""

    kind: str
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def read_container(source: str | Path, kind: str | None = None) -> Container:
    """Read a safetensors file of ours; tensors of a file on disk are memory maps.

    Args:
        source: a path, or `-` for standard input.
        kind: `faceset`, `model` or `discriminator`; None takes any.

    Raises:
        InputError: missing, truncated, not safetensors, not ours, another kind or version.
    """
    label = shown(source)
    return parse_container(_content(str(source), label), kind, label)


def parse_container(data: np.ndarray, kind: str | None, label: str) -> Container:
    """The same from bytes (uint8) that have been read already; `label` names them in messages."""
    header, start = _parse_header(data, label)
    metadata = _our_metadata(header, len(data), label)
    found = _check_format(metadata.pop("format", ""), kind, label)
    tensors = {name: _tensor(data, start, entry, label) for name, entry in header.items()}
    return Container(found, tensors, metadata)


def stored(metadata: Mapping[str, Any], key: str, kind: type[T], label: str) -> T:
    """A value of some metadata, which must be there and of this type.

    Floats must be finite, texts printable.

    Raises:
        InputError: it is missing or of another type.
    """
    value = metadata.get(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**63 else math.inf
    disguised = isinstance(value, bool) and kind is not bool  # Python's booleans are integers
    infinite = isinstance(value, float) and not math.isfinite(value)
    illegible = isinstance(value, str) and not value.isprintable()
    if isinstance(value, kind) and not (disguised or infinite or illegible):
        return value
    what = "garbles" if key in metadata else "lacks"
    raise InputError(f"{label} {what} {key!r} in its metadata; make it again with facedis")


def _content(path: str, label: str) -> np.ndarray:
    """The bytes of a file: a map where they lie on a disk, else read to the end."""
    with open_input(path) as stream:
        try:
            if path != "-" and is_file(path) and os.fstat(stream.fileno()).st_size:
                return np.memmap(stream, np.uint8, "r")
            data = _read_promised(stream, label)
        except OSError as error:
            raise InputError(f"{label} could not be read: {error.strerror}") from None
    if not data:
        raise InputError(f"{label} is empty, expected a facedis model or face set")
    return np.frombuffer(data, np.uint8)


def _read_promised(stream: BinaryIO, label: str) -> bytearray:
    """As much as the header says, and a byte more where there is one: a pipe need never end."""
    data = bytearray(stream.read(8))
    size = int.from_bytes(data, "little")
    if len(data) == 8 and size <= _LARGEST_HEADER:
        data += stream.read(size)
        left = max((int(m[1]) for m in _ENDS.finditer(data)), default=0) + 1
        while left > 0 and (piece := stream.read(min(left, _READ_AT_ONCE))):
            data += piece
            left -= len(piece)
    return data


def _parse_header(data: np.ndarray, label: str) -> tuple[dict[str, Any], int]:
    from safetensors import SafetensorError, safe_open

    for magic, what in _MISTAKEN.items():
        if data[: len(magic)].tobytes() == magic:
            raise InputError(f"{label} holds {what}, expected a facedis model or face set")
    wrong = f"{label} is not a whole safetensors file; expected a facedis model or face set"
    size = int.from_bytes(data[:8].tobytes(), "little") if len(data) >= 8 else 0
    if not 2 <= size <= min(len(data) - 8, _LARGEST_HEADER):
        raise InputError(wrong)
    header = data[8 : 8 + size].tobytes()
    if size > max(_USUAL_HEADER, _LARGEST_PART * len(data)):
        raise InputError(f"{wrong}: {size >> 20} of its {len(data) >> 20} MB are its header")
    _check_weight([header.count(mark) for mark in (b",", b"[", b"{")], len(data), label)
    if isinstance(data, np.memmap):
        try:  # the library's own validation: overlaps, holes, shapes, offsets past the end
            with safe_open(str(data.filename), framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(f"{wrong} ({on_one_line(str(error)[:200])})") from None
    else:
        from safetensors import deserialize

        try:
            deserialize(data.tobytes())
        except SafetensorError as error:
            raise InputError(f"{wrong} ({on_one_line(str(error)[:200])})") from None
    return json.loads(header), 8 + size


def _check_weight(marks: list[int], size: int, label: str) -> None:
    """Raise InputError on JSON that would take far more memory than its file, of `size` bytes.

    `marks` are its commas, brackets and braces.
    """
    commas, lists, tables = marks
    weight = _BYTES_EACH * (commas + lists) + _BYTES_EACH_TABLE * tables
    if weight > _ALWAYS_TAKEN + 2 * size:
        raise InputError(
            f"{label} has some {weight >> 20} MB of words and numbers beside its tensors; "
            "expected a facedis model or face set"
        )


def _our_metadata(header: dict[str, Any], size: int, label: str) -> dict[str, Any]:
    text = (header.pop("__metadata__", None) or {}).get("facedis")
    if text is None:
        raise InputError(f"{label} is a safetensors file, but not one that facedis wrote")
    _check_weight(
        [text.count(mark) for mark in ",[{"], size, label
    )  # escaped there, its commas may have been hidden
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{label} has facedis metadata that is not a JSON object")
    training = str(metadata.get("format")).startswith("facedis.training/")
    if not _is_usual(metadata, _DEEPEST, _LONGEST_LINE if training else _LONGEST_WORD):
        raise InputError(f"{label} has facedis metadata with longer or deeper parts than we write")
    return metadata


def _is_usual(value: Any, depth: int, longest: int) -> bool:
    """Whether words are short enough for a message, and nothing lies very deep."""
    if isinstance(value, str):
        return len(value) <= longest
    if not isinstance(value, dict | list):
        return True
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return depth > 0 and all(_is_usual(part, depth - 1, longest) for part in parts)


def _check_format(found: Any, kind: str | None, label: str) -> str:
    """`facedis.model/1` -> `model`; complain where it is not what the caller needs."""
    name, _, version = str(found if isinstance(found, str) else type(found)).partition("/")
    prefix, _, name = name.partition(".")
    if prefix != "facedis" or name not in KINDS:
        raise InputError(
            f"{label} is of the unknown kind {reprlib.repr(found)}; expected a facedis file"
        )
    if kind is not None and name != kind:
        raise InputError(f"{label} is a {KINDS[name]}, expected a {KINDS[kind]}")
    if version != str(VERSION):
        raise InputError(
            f"{label} has format version {shown(version[:60])}, this facedis reads {VERSION}; "
            "update it"
        )
    return name


def _tensor(data: np.ndarray, start: int, entry: dict[str, Any], label: str) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise InputError(
            f"{label} holds a tensor of type {entry['dtype']}, which facedis never writes"
        )
    first, last = entry["data_offsets"]
    # a plain array over the map: keeps the file mapped, without memmap's slow slicing
    raw = np.asarray(data)[start + first : start + last]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if (start + first) % dtype.itemsize:
        raw = raw.copy()
    try:
        return raw.view(dtype).reshape(entry["shape"])
    except (ValueError, OverflowError):  # so many dimensions, or so large beside a zero
        raise InputError(f"{label} holds a tensor of a shape that facedis never writes") from None


def all_finite(array: np.ndarray) -> bool:
    """Whether no value is infinite or NaN; of half precision by its bits, which is faster."""
    if array.dtype == np.float16:
        return bool((array.view(np.uint16) & _HALF_EXPONENT).max(initial=0) < _HALF_EXPONENT)
    return bool(np.isfinite(array).all())


def content_id(
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    release: Callable[[], None] = lambda: None,
) -> str:
    """First 12 hex digits of SHA-256 over the sorted (name, dtype, shape, bytes) and the config.

    `release` is called now and then, when what has been read is no longer needed.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        content = array.reshape(-1).view(np.uint8)
        for start in range(0, len(content), _HASHED_AT_ONCE):
            digest.update(content[start : start + _HASHED_AT_ONCE].data)
            release()
    digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def history_entry(
    command: str, inputs: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """One line of provenance: the command, its version, the ids it read, the options that matter.

    Options that do not change the result (output names, `--force`, `--jobs`) have no place here,
    nor have absolute paths: the same work gives the same bytes wherever it is done.
    """
    return {
        "command": command,
        "version": __version__,
        "inputs": dict(inputs),
        "options": {key: value for key, value in options.items() if value is not None},
    }
