"""Regions: the vertices of a topology that metrics count, by name or from a file."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.csv_text import read_lines, read_text
from facedis_core.io.npy import MAGIC, NpyReader
from facedis_core.io.paths import is_file
from facedis_core.io.streams import naming
from facedis_core.io.text import shown

ALL: Final = "all"
ICT_TOPOLOGY: Final = "8ab3c6fcb4f9"  # of ICT-FaceKit's generic mesh
# What a face scan shows, without ears, neck, teeth and eyeballs.
ICT_NARROW_FACE: Final = 6706
ICT_SKIN: Final = 11248  # with head and neck

# Topology id of raw meshes -> name of a region -> number of raw vertices from the first one.
FACE: Final = "narrow-face"
REGIONS: Final[Mapping[str, Mapping[str, int]]] = {
    ICT_TOPOLOGY: {FACE: ICT_NARROW_FACE, "full-face": 9409, "head": ICT_SKIN},
}


def find_region(
    source: str, preparation: Preparation, *, raw_indices: bool = False
) -> NDArray[np.bool_] | None:
    """The vertices of a region of prepared meshes, (V,) bool; None for `all`.

    Args:
        source: `all`, a name in REGIONS, or a file as of `read_region`. A file comes first.
        preparation: of the meshes.
        raw_indices: vertex indices in a file are those of raw meshes.

    Raises:
        UsageError: neither a file nor a known name.
        InputError: errors of `read_region`.
    """
    if is_file(source):
        return read_region(source, preparation, raw_indices=raw_indices)
    if source == ALL:
        return None
    region = named_region(source, preparation)
    if region is not None:
        return region
    names = [ALL, *REGIONS.get(preparation.raw_topology, ())]
    near = get_close_matches(source, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"
    raise UsageError(
        f"--region {shown(source)} is neither a file nor a region of this topology; {hint}",
        ErrorCode.OPTION_VALUE,
    )


def named_region(name: str, preparation: Preparation) -> NDArray[np.bool_] | None:
    """The vertices of a named region of prepared meshes, (V,) bool; None where it is unknown."""
    count = REGIONS.get(preparation.raw_topology, {}).get(name)
    return None if count is None else np.asarray(preparation.vertex_index < count)


def read_region(
    source: str, preparation: Preparation, *, raw_indices: bool = False
) -> NDArray[np.bool_]:
    """A region (V,) bool from a `.npy` array or from numbers in a text file, with or without title.

    As many numbers as there are vertices, all 0 or 1, are a mask, of prepared or of raw meshes;
    others are vertex indices from 0.

    Raises:
        InputError: unreadable, no such numbers, an index out of range, or no vertex.
    """
    with naming(source):
        values = _numbers(source)
        index, raw = preparation.vertex_index, preparation.raw_vertices
        is_mask = len(values) in (len(index), raw) and np.isin(values, (0, 1)).all()
        if is_mask:
            mask = values.astype(bool)
            region = mask if len(mask) == len(index) else mask[index]
        else:
            count = raw if raw_indices else len(index)
            outside = values[(values < 0) | (values >= count)]
            if len(outside):
                raise InputError(
                    f"has vertex {outside[0]}, the mesh has {count}; expected indices from 0, "
                    f"or {len(index)} values 0 and 1",
                    ErrorCode.VERTEX_INDEX,
                )
            region = np.isin(index if raw_indices else np.arange(count), values)
        if not region.any():
            raise InputError(
                "has no vertex of these meshes; expected at least one", ErrorCode.EMPTY
            )
        return np.asarray(region)


def describe_region(region: NDArray[np.bool_]) -> str:
    """`6706 of 26719 vertices`."""
    return f"{np.count_nonzero(region)} of {len(region)} vertices"


def _numbers(source: str) -> NDArray[Any]:
    """The integers of a file."""
    with Path(source).open("rb") as stream:
        is_array = stream.read(len(MAGIC)) == MAGIC
        if is_array:
            stream.seek(0)
            reader = NpyReader(stream, "a region")
            header = reader.header()
            assert header is not None  # the file begins with the magic bytes
            if header.dtype.kind not in "biu" or len(header.shape) != 1:
                raise InputError(
                    f"holds {header.dtype} {header.shape}; expected a row of integers or booleans",
                    ErrorCode.ARRAY_SHAPE,
                )
            return np.concatenate([np.empty(0, np.int64), *reader.blocks(header)])
    numbers: list[int] = []
    for number, line in enumerate(read_lines(read_text(source), source), 1):
        try:
            numbers += [int(word) for word in re.split(r"[\s,;]+", line.strip()) if word]
        except ValueError:
            if number > 1:
                raise InputError(
                    f"line {number} holds something else than integers; expected vertex indices, "
                    "or 0 and 1",
                    ErrorCode.CSV_VALUE,
                ) from None
    return np.array(numbers, np.int64)
