"""Our safetensors files, read and written: tensors and one JSON string of metadata.

The JSON lies under the single metadata key `facedis` with sorted keys, because several metadata
keys come out in random order and the same content must give the same bytes. Its `checksum` is that
of all tensors and of the rest of the JSON; face sets, which are large and mapped, have none.
"""

import hashlib
import json
import math
import mmap
import os
import re
import reprlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args, get_origin

import numpy as np

from facedis_core import __version__
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.atomic import reserve_space
from facedis_core.io.cache import CachedFile, cached_file
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.streams import naming, open_input
from facedis_core.io.text import on_one_line, shown
from facedis_core.io.urls import is_url

R = TypeVar("R")

KINDS = {
    "faceset": "face set",
    "model": "model",
    "discriminator": "discriminator",
    "training": "training state",
    "prior": "registration prior",
    "map": "map between topologies",
    "blendshapes": "blendshapes",
}
_WRITERS = {
    "faceset": "fd-prep",
    "model": "fd-train",
    "discriminator": "fd-pretrain-disc",
    "map": "fd-map",
}
_VERSIONS = {
    "faceset": 1,
    "model": 1,
    "discriminator": 1,
    "training": 2,
    "prior": 1,
    "map": 1,
    "blendshapes": 1,
}  # of the formats
_CHECKED = ("model", "discriminator", "training", "prior", "map")  # have a checksum
_HASHED_AT_ONCE = 1 << 25
_READ_AT_ONCE = 1 << 22

LARGEST_HEADER = 1 << 25  # bytes; a million names of faces take about as much
_LONGEST_TEXT = 1000  # characters of a value that messages quote

_HALF_INFINITY, _HALF_SIGN = 0x7C00, 0x8000  # bits of float16; those of NaN are higher
_MISTAKEN = {b"\x93NUMPY": "latents or another .npy array", b"ply\n": "a PLY mesh"}
_TEXT_BYTES = 64  # of a file that begins with nothing else but text, no header of ours does
_TEXT = {*b"\t\r\n", *range(0x20, 0x7F)}
_ENDS = re.compile(rb'"data_offsets"\s*:\s*\[\s*[0-9]{1,18}\s*,\s*([0-9]{1,18})\s*\]')

_DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "|u1", "I64": "<i8", "F64": "<f8"}
DTYPE_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


@dataclass(frozen=True)
class SafetensorsFile:
    """The content of one file: its kind, its tensors and its metadata."""

    kind: str
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def read_safetensors(source: str | Path, *kinds: str) -> SafetensorsFile:
    """Read a safetensors file of ours; tensors of a file on disk are memory maps.

    Args:
        source: a path, `-` for standard input, or a URL, which is mapped from a copy in the cache.
        kinds: expected ones, such as `faceset` and `model`; none takes any.

    Raises:
        InputError: missing, truncated, not safetensors, not ours, another kind or version, or
            changed since it was written (face sets: see fd-info --verify).
    """
    path = str(source)
    if is_url(path):
        return _read_remote(path, kinds)
    if path != "-" and is_folder(path):
        raise InputError(f"{shown(path)} is a folder, {_expected(kinds)}", ErrorCode.NOT_A_FILE)
    with open_input(path) as stream, naming(path):
        if path != "-" and is_file(path) and os.fstat(stream.fileno()).st_size:
            return parse_safetensors(np.memmap(stream, np.uint8, "r"), *kinds)
        return _parse_read(_read_promised(stream), kinds)


def _parse_read(data: bytes | bytearray, kinds: Sequence[str]) -> SafetensorsFile:
    if not data:
        raise InputError(f"is empty, {_expected(kinds)}", ErrorCode.EMPTY)
    return parse_safetensors(np.frombuffer(data, np.uint8), *kinds)


def _read_remote(url: str, kinds: Sequence[str]) -> SafetensorsFile:
    """Read a file by way of the cache, whose copies have the id of the header for a name.

    The header holds an id or a checksum of all that follows it.
    """

    def cached(again: bool) -> CachedFile:
        with open_input(url) as stream, naming(url):
            beginning = _read_header(stream)
            size = _promised(beginning)
            if not size:
                _parse_read(beginning, kinds)  # says what is wrong with it
            _check_format(_our_metadata(json.loads(beginning[8:])), kinds)
            name = f"{hashlib.sha256(beginning).hexdigest()[:24]}.safetensors"
            return cached_file(name, size, _pieces(beginning, stream, url), again=again)

    copy = cached(again=False)
    with naming(url):
        try:
            return parse_safetensors(np.memmap(copy.path, np.uint8, "r"), *kinds)
        except InputError as error:
            if copy.is_new or error.code != ErrorCode.DAMAGED:
                raise
    copy = cached(again=True)
    with naming(url):
        return parse_safetensors(np.memmap(copy.path, np.uint8, "r"), *kinds)


def _read_header(stream: BinaryIO) -> bytes:
    """The length and the header at the beginning of a file, or what there is in their place."""
    start = stream.read(8)
    size = int.from_bytes(start, "little")
    return start + stream.read(size if len(start) == 8 and size <= LARGEST_HEADER else _TEXT_BYTES)


def _promised(beginning: bytes) -> int:
    """Bytes of the whole file, by its header; 0 where it has none."""
    if len(beginning) < 10 or len(beginning) - 8 != int.from_bytes(beginning[:8], "little"):
        return 0
    return len(beginning) + max((int(m[1]) for m in _ENDS.finditer(beginning)), default=0)


def _pieces(beginning: bytes, stream: BinaryIO, url: str) -> Iterator[bytes]:
    yield beginning
    while True:
        with naming(url):
            piece = stream.read(_READ_AT_ONCE)
        if not piece:
            return
        yield piece


def parse_safetensors(data: np.ndarray, *kinds: str) -> SafetensorsFile:
    """Parse the bytes (uint8) of a file; errors do not name it."""
    header, start = _parse_header(data, _expected(kinds))
    metadata = _our_metadata(header)
    found = _check_format(metadata, kinds)
    tensors = {name: _tensor(data, start, entry) for name, entry in header.items()}
    if found in _CHECKED:
        _check_checksum(found, tensors, metadata)
    del metadata["format"]
    return SafetensorsFile(found, tensors, metadata)


def parse_record(cls: type[R], values: Mapping[str, Any]) -> R:
    """A dataclass from a JSON object with the names of its fields; other names are ignored.

    Fields are texts (printable), numbers (finite), booleans, `dict`, `list`, `list[str]`,
    `dict[str, float]`, other dataclasses, or lists of these; a field with a default may be missing.

    Raises:
        InputError: a value is missing or of another type.
    """
    known: Any = cls
    found = {}
    for field in fields(known):
        if field.name not in values:
            if field.default is MISSING and field.default_factory is MISSING:
                raise InputError(
                    f"lacks {field.name!r} in its metadata; make it again with facedis",
                    ErrorCode.METADATA,
                )
            continue
        value = values[field.name]
        kind: Any = get_origin(field.type) or field.type
        part: Any = get_args(field.type)[-1] if get_args(field.type) else Any
        inner = hasattr(kind, "__dataclass_fields__")
        inner_part = hasattr(part, "__dataclass_fields__")
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**63 else math.inf
        fits = type(value) is (dict if inner else kind)
        if fits and part is not Any:
            items = list(value.values() if kind is dict else value)
            fits = set(map(type, items)) <= {dict if inner_part else part}
            fits = fits and (part is not float or all(map(math.isfinite, items)))
        if isinstance(value, float):
            fits = fits and math.isfinite(value)
        if isinstance(value, str):
            fits = fits and value.isprintable() and len(value) <= _LONGEST_TEXT
        if not fits:
            raise InputError(
                f"garbles {field.name!r} in its metadata; make it again with facedis",
                ErrorCode.METADATA,
            )
        if inner:
            value = parse_record(kind, value)
        if inner_part:
            value = [parse_record(part, item) for item in value]
        found[field.name] = value
    return cls(**found)


def _read_promised(stream: BinaryIO) -> bytearray:
    """Read as many bytes as the header announces, and one more to detect a longer stream."""
    data = bytearray(stream.read(8))
    size = int.from_bytes(data, "little")
    if len(data) == 8 and size <= LARGEST_HEADER:
        data += stream.read(size)
        left = max((int(m[1]) for m in _ENDS.finditer(data)), default=0) + 1
        while left > 0 and (piece := stream.read(min(left, _READ_AT_ONCE))):
            data += piece
            left -= len(piece)
    return data


def _expected(kinds: Sequence[str]) -> str:
    """What a message expects: `expected a map between topologies, as fd-map writes it`."""
    if not kinds:
        return "expected a facedis file, such as a model, a face set or a map"
    names = " or a ".join(KINDS[kind] for kind in kinds)
    writers = " or ".join(_WRITERS[kind] for kind in kinds if kind in _WRITERS)
    return f"expected a {names}" + (f", as {writers} writes it" if writers else "")


def _parse_header(data: np.ndarray, expected: str) -> tuple[dict[str, Any], int]:
    from safetensors import SafetensorError, deserialize, safe_open

    for magic, what in _MISTAKEN.items():
        if data[: len(magic)].tobytes() == magic:
            raise InputError(f"holds {what}, {expected}", ErrorCode.WRONG_KIND)
    if len(data) and not set(data[:_TEXT_BYTES].tobytes()) - _TEXT:
        raise InputError(f"is a text, such as a mesh or a table, {expected}", ErrorCode.WRONG_KIND)
    wrong = f"not a whole safetensors file; {expected}"
    size = int.from_bytes(data[:8].tobytes(), "little") if len(data) >= 8 else 0
    if not 2 <= size <= len(data) - 8:
        raise InputError(wrong, ErrorCode.DAMAGED)
    if size > LARGEST_HEADER:
        raise InputError(f"{wrong}: its header has {size >> 20} MB", ErrorCode.TOO_LARGE)
    try:  # the library's own validation: overlaps, holes, shapes, offsets past the end
        if isinstance(data, np.memmap):
            with safe_open(str(data.filename), framework="np"):
                pass
        else:
            deserialize(data.tobytes())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{wrong} ({on_one_line(str(error)[:200])})", ErrorCode.DAMAGED) from None
    return json.loads(data[8 : 8 + size].tobytes()), 8 + size


def _our_metadata(header: dict[str, Any]) -> dict[str, Any]:
    text = (header.pop("__metadata__", None) or {}).get("facedis")
    if text is None:
        raise InputError(
            "is a safetensors file, but not one that facedis wrote", ErrorCode.WRONG_KIND
        )
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError("has facedis metadata that is not a JSON object", ErrorCode.METADATA)
    return metadata


def _check_format(metadata: Mapping[str, Any], kinds: Sequence[str]) -> str:
    """`facedis.model/1` -> `model`; complain where it is not what the caller needs."""
    found = metadata.get("format", "")
    name, _, version = str(found if isinstance(found, str) else type(found)).partition("/")
    prefix, _, name = name.partition(".")
    if prefix != "facedis" or name not in KINDS:
        raise InputError(
            f"is of the unknown kind {reprlib.repr(found)}; expected a facedis file",
            ErrorCode.WRONG_KIND,
        )
    if kinds and name not in kinds:
        raise InputError(f"is a {KINDS[name]}, {_expected(kinds)}", ErrorCode.WRONG_KIND)
    if version != str(_VERSIONS[name]):
        raise InputError(
            f"has format version {on_one_line(version[:60])}{_made_by(metadata)}, facedis "
            f"{__version__} reads {_VERSIONS[name]}; use that version, or make the file again",
            ErrorCode.FORMAT_VERSION,
        )
    return name


def _made_by(metadata: Mapping[str, Any]) -> str:
    """`, written by facedis 0.3.0`, if the history says so."""
    try:
        version = metadata["history"][-1]["version"]
    except (LookupError, TypeError):
        return ""
    return f", written by facedis {on_one_line(str(version)[:60])}"


def _format(kind: str) -> str:
    return f"facedis.{kind}/{_VERSIONS[kind]}"


def _tensor(data: np.ndarray, start: int, entry: dict[str, Any]) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise InputError(
            f"holds a tensor of type {entry['dtype']}, which facedis never writes", ErrorCode.TENSOR
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
        raise InputError(
            "holds a tensor of a shape that facedis never writes", ErrorCode.TENSOR
        ) from None


def _check_checksum(kind: str, tensors: Mapping[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Take the checksum out of the metadata and compare it with that of the content.

    Models and discriminators of facedis 0.1 may have none.
    """
    if "checksum" not in metadata and kind != "training":
        return
    stored = metadata.pop("checksum", None)
    if stored != _checksum(tensors, metadata):
        raise InputError(
            "does not match its checksum: it was damaged or changed; use another copy of it",
            ErrorCode.DAMAGED,
        )


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """CRC-32 of metadata and tensors, in hex: a cryptographic hash takes three times as long."""
    value = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for part in _tensor_parts(tensors):
        value = zlib.crc32(part, value)
    return f"{value:08x}"


def _tensor_parts(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """Name, type and shape, then the bytes of each tensor, by name."""
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        yield json.dumps([name, array.dtype.str, list(array.shape)]).encode()
        content = array.reshape(-1).view(np.uint8)
        for start in range(0, len(content), _HASHED_AT_ONCE):
            yield content[start : start + _HASHED_AT_ONCE].data


def not_finite(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the float tensors with an infinite value or NaN; half precision by its bits."""
    found = []
    for name, array in tensors.items():
        if array.dtype == np.float16:  # as numbers it takes many times longer
            positive = array.view(np.int16).max(initial=0)
            negative = array.view(np.uint16).max(initial=0)
            finite = bool(positive < _HALF_INFINITY and negative < _HALF_INFINITY + _HALF_SIGN)
        else:
            finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        found += [] if finite else [name]
    return found


def content_id(
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    release: Callable[[], None] = lambda: None,
) -> str:
    """First 12 hex digits of SHA-256 over the sorted (name, dtype, shape, bytes) and the config.

    `release` is called now and then, when what has been read is no longer needed.
    """
    digest = hashlib.sha256()
    for part in _tensor_parts(tensors):
        digest.update(part)
        release()
    digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()[:12]


@dataclass
class SafetensorsWriter:
    """Tensors to be filled in place; `metadata` may change as long as its JSON keeps its length.

    `release` gives the memory of pages back that were touched; what is in them stays in the file.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    release: Callable[[], None]


@contextmanager
def safetensors_writer(
    stream: BinaryIO,
    kind: str,
    layout: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, Any],
) -> Iterator[SafetensorsWriter]:
    """Lay out a file and hand out its tensors as writable memory maps, zero-filled.

    Args:
        stream: open for writing; one that cannot be mapped (a pipe) gets the bytes at the end.
        kind: `faceset`, `model` or `discriminator`.
        layout: name -> (NumPy dtype, shape).
        metadata: JSON object under the key `facedis`, without `format`.
    """
    mappable = _is_mappable(stream)
    with tempfile.TemporaryFile() if not mappable else _borrowed(stream) as file:
        header, offsets, size = _lay_out(kind, layout, metadata)
        file.write(header)
        file.truncate(len(header) + size)
        file.flush()
        reserve_space(file.fileno(), len(header) + size)
        pages = mmap.mmap(file.fileno(), len(header) + size)
        raw = np.frombuffer(pages, np.uint8)
        tensors = {
            name: raw[len(header) + offsets[name] :][: _nbytes(dtype, shape)]
            .view(dtype)
            .reshape(shape)
            for name, (dtype, shape) in layout.items()
        }
        writer = SafetensorsWriter(tensors, dict(metadata), partial(_release, pages))
        yield writer
        final, _, _ = _lay_out(kind, layout, writer.metadata)
        if len(final) != len(header):
            raise ValueError("metadata changed its length after the file was laid out")
        raw[: len(final)] = np.frombuffer(final, np.uint8)
        pages.flush()
        if not mappable:
            file.seek(0)
            shutil.copyfileobj(file, stream)


def release_pages(array: np.ndarray) -> None:
    """Give back the memory of a memory map that was read; nothing for other arrays."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        _release(owner)


def _release(pages: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _is_mappable(stream: BinaryIO) -> bool:
    try:
        return stream.fileno() >= 0 and stream.seekable() and stream.readable()
    except OSError:  # io.BytesIO has no file
        return False


@contextmanager
def _borrowed(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _lay_out(
    kind: str, layout: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, Any]
) -> tuple[bytes, dict[str, int], int]:
    """Header bytes, offset of each tensor after the header, and the size of all tensors.

    Wider types first, then by name, so that every tensor is aligned to its own type.
    """
    order = sorted(layout, key=lambda name: (-np.dtype(layout[name][0]).itemsize, name))
    text = json.dumps({**metadata, "format": _format(kind)}, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {"facedis": text}}
    offsets, end = {}, 0
    for name in order:
        dtype, shape = layout[name]
        offsets[name], end = end, end + _nbytes(dtype, shape)
        header[name] = {
            "dtype": DTYPE_NAMES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [offsets[name], end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded, offsets, end


def write_safetensors(
    stream: BinaryIO, kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write tensors that are in memory, in models with a checksum; same content, same bytes."""
    layout = {name: (str(array.dtype), array.shape) for name, array in tensors.items()}
    metadata = dict(metadata)
    if kind in _CHECKED:
        metadata["checksum"] = _checksum(tensors, {**metadata, "format": _format(kind)})
    with safetensors_writer(stream, kind, layout, metadata) as writer:
        for name, array in tensors.items():
            writer.tensors[name][...] = array
