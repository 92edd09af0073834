"""Writing the files that container.py reads: laid out first, then filled in place."""

import json
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from facedis_core.atomic import reserve_space
from facedis_core.container import DTYPE_NAMES, VERSION


@dataclass
class ContainerWriter:
    """Tensors to be filled in place; `metadata` may change as long as its JSON keeps its length.

    `release` gives the memory of pages back that were touched; what is in them stays in the file.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    release: Callable[[], None]


@contextmanager
def container_writer(
    stream: BinaryIO,
    kind: str,
    layout: Mapping[str, tuple[str, tuple[int, ...]]],
    metadata: Mapping[str, Any],
) -> Iterator[ContainerWriter]:
    """Lay out a file and hand out its tensors as writable memory maps, zero-filled.

    Args:
        stream: open for writing; one that cannot be mapped (a pipe) gets the bytes at the end.
        kind: `faceset`, `model` or `discriminator`.
        layout: name -> (NumPy dtype, shape).
        metadata: what goes under the key `facedis`, without `format`.
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
        writer = ContainerWriter(tensors, dict(metadata), partial(_release, pages))
        yield writer
        final, _, _ = _lay_out(kind, layout, writer.metadata)
        if len(final) != len(header):
            raise ValueError("metadata changed its length after the file was laid out")
        raw[: len(final)] = np.frombuffer(final, np.uint8)
        pages.flush()
        if not mappable:
            file.seek(0)
            shutil.copyfileobj(file, stream)


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
    text = json.dumps({**metadata, "format": f"facedis.{kind}/{VERSION}"}, sort_keys=True)
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


def write_container(
    stream: BinaryIO, kind: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write tensors that are in memory; same content, same bytes."""
    layout = {name: (str(array.dtype), array.shape) for name, array in tensors.items()}
    with container_writer(stream, kind, layout, metadata) as writer:
        for name, array in tensors.items():
            writer.tensors[name][...] = array
