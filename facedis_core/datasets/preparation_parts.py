"""Parts of a preparation: the faces of some blocks in a file, and of all blocks from files.

A part holds what the reader of a data set makes of its meshes, not aligned. Everything that needs
the whole set (alignment, neutrals, split, ids) is done by the merge, as in one run.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import BinaryIO, Final

import numpy as np

from facedis_core.datasets.source import FaceBlock
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.npy import NpyReader, write_array
from facedis_core.io.streams import naming, open_input
from facedis_core.pipeline.shards import Shard, more_than_a_part

_WANTED: Final = "a part of fd-prep --shard"


def write_blocks(stream: BinaryIO, blocks: Iterable[FaceBlock]) -> None:
    """Write what was read of each block: faces, the subject's true neutral, failures."""
    for block in blocks:
        measured = np.empty((len(block.faces), 0)) if block.measured is None else block.measured
        count, vertices, _ = block.faces.shape
        rows = np.empty(
            count, [("face", "<f4", (vertices, 3)), ("measured", "<f8", measured.shape[1:])]
        )
        rows["face"], rows["measured"] = block.faces, measured
        write_array(stream, rows)
        neutral = np.empty((0, vertices, 3), "<f4")
        write_array(stream, neutral if block.neutral is None else block.neutral[None])
        failed = [(row, error.code, str(error)) for row, error in block.failures.items()]
        widths = [max([1, *(len(str(each[k])) for each in failed)]) for k in (1, 2)]
        dtype = [("row", "<i8"), ("code", f"<U{widths[0]}"), ("message", f"<U{widths[1]}")]
        write_array(stream, np.array(failed, dtype))


def read_blocks(files: Sequence[str], count: int) -> Generator[FaceBlock, None, None]:
    """All blocks in order.

    Args:
        files: of all shards in order, as of `find_shards`.
        count: number of blocks of the whole set.

    Raises:
        InputError: a file is truncated or damaged.
    """
    for place, file in enumerate(files):
        part = Shard(place + 1, len(files)).part(count)
        with open_input(file) as stream, naming(file):
            reader = NpyReader(stream, _WANTED)
            reader.array()  # the label
            for _ in range(part.stop - part.start):
                yield _block(reader.array(), reader.array(), reader.array())
            if reader.array() is not None:
                raise more_than_a_part()


def _block(
    rows: np.ndarray | None, neutral: np.ndarray | None, failed: np.ndarray | None
) -> FaceBlock:
    if rows is None or neutral is None or failed is None:
        raise InputError("is truncated; run its part again", ErrorCode.TRUNCATED)
    return FaceBlock(
        rows["face"],
        neutral[0] if len(neutral) else None,
        rows["measured"],
        {int(row): InputError(message, code) for row, code, message in failed.tolist()},
    )
