"""From latents to meshes, in files or one after another."""

import io
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from facedis_core.data.history import made_by
from facedis_core.data.latents import Latents, LatentSource
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.csv_text import brief
from facedis_core.io.npy import encoded_header
from facedis_core.io.paths import OutputPaths, check_name, is_file, is_folder_pattern
from facedis_core.io.streams import check_output, naming, open_output, replaced_file
from facedis_core.mesh.mesh import Mesh, write_mesh
from facedis_core.model.model import Model, Part
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.parallel import in_order

BLOCK_ROWS = 16  # rows that are decoded before the next ones


@dataclass(frozen=True)
class LatentDecoder:
    """Turns rows into faces; can be sent to another process.

    Attributes:
        model: must be the one that encoded the rows.
        parts: of each face, in this order: `full`, `identity`, `expression`.
        offsets: leave the mean face out.
    """

    model: Model
    parts: Sequence[Part] = ("full",)
    offsets: bool = False

    def face(self, rows: Latents, row: int, part: Part) -> np.ndarray:
        """One part of one row, (V, 3) mm; InputError names a row of which there is no face."""
        chosen = slice(row, row + 1)
        z = rows.identity[chosen], rows.expression[chosen]
        try:
            (vertices,) = self.model.decode(*z, part, offsets=self.offsets)
        except InputError as error:
            raise InputError(f"{brief(rows.names[row])}: {error}", error.code) from None
        return vertices

    def mesh(self, rows: Latents, row: int, part: Part) -> Mesh:
        """The same with triangles and the name of its row."""
        vertices = self.face(rows, row, part)
        return Mesh(vertices, self.model.triangles, rows.names[row], unit_mm=1.0)


def checked_rows(
    source: LatentSource,
    model: Model,
    output: str,
    skip: Callable[[list[Failure]], None] | None = None,
) -> Iterator[Latents]:
    """The rows that the model can decode to an output.

    Args:
        source: where they come from.
        model: what is to decode them.
        output: where they go; with a file a row each name must be one of a file.
        skip: told of rows that are left out; with None the first such row raises.

    Raises:
        InputError: a row is of another model, or not finite, or cannot be a file.
    """
    known = f"{model.source} ({made_by(model.history)})"
    as_files = is_folder_pattern(output)

    def check(rows: Latents) -> None:
        rows.check_model(model.id, known)
        with naming(source.label):
            rows.check_finite()
        for name in rows.names if as_files else ():
            check_name(name)

    sizes = model.config.identity, model.config.expression
    for block in source.blocks(sizes, finite=skip is None):
        if skip is None:
            check(block)
            yield block
            continue
        good, failures = [], []
        for row, name in enumerate(block.names):
            try:
                check(block.take([row]))
                good.append(row)
            except InputError as error:
                failures.append(Failure.of(name, error))
        skip(failures)
        yield block.take(good)


def _split_blocks(blocks: Iterable[Latents]) -> Iterator[Latents]:
    for block in blocks:
        for start in range(0, len(block), BLOCK_ROWS):
            yield block.take(slice(start, start + BLOCK_ROWS))


@dataclass(frozen=True)
class _MeshBytes:
    """Rows as the bytes of meshes of one format, or of their vertices alone."""

    decoder: LatentDecoder
    suffix: str | None

    def __call__(self, rows: Latents) -> bytes:
        data = io.BytesIO()
        for row in range(len(rows)):
            for part in self.decoder.parts:
                if self.suffix is None:
                    data.write(self.decoder.face(rows, row, part).tobytes())
                else:
                    write_mesh(data, self.decoder.mesh(rows, row, part), self.suffix)
        return data.getvalue()


def write_meshes(
    stream: BinaryIO, decoder: LatentDecoder, blocks: Iterable[Latents], *, jobs: int = 1
) -> Iterator[int]:
    """Write PLY after PLY; yields how many rows have just been written."""
    for data, count in _with_counts(_MeshBytes(decoder, ".ply"), _split_blocks(blocks), jobs):
        stream.write(data)
        stream.flush()
        yield count


def write_array(
    stream: BinaryIO, decoder: LatentDecoder, blocks: Iterable[Latents], *, jobs: int = 1
) -> Iterator[int]:
    """Write each block as one float32 array (N, V, 3) in mm; yields as `write_meshes`."""
    for block in blocks:
        shape = (len(block), *decoder.model.mean_face.shape)
        stream.write(encoded_header(np.dtype("<f4"), shape))
        for data, count in _with_counts(_MeshBytes(decoder, None), _split_blocks([block]), jobs):
            stream.write(data)
            yield count
        stream.flush()


def _with_counts(
    work: _MeshBytes, turns: Iterable[Latents], jobs: int
) -> Iterator[tuple[bytes, int]]:
    """What becomes of the blocks, and how many rows each had."""
    counts: deque[int] = deque()

    def noted() -> Iterator[Latents]:
        for rows in turns:
            counts.append(len(rows))
            yield rows

    for data in in_order(work, noted(), jobs):
        yield data, counts.popleft()


class OutputFile(NamedTuple):
    """One part of one row, and the file it becomes."""

    row: int
    part: Part
    path: Path


@dataclass(frozen=True)
class FileWriter:
    """Writes rows to files of their own; can be sent to another process."""

    decoder: LatentDecoder
    force: bool
    parents: bool

    def __call__(self, task: tuple[Latents, list[OutputFile]]) -> int:
        rows, targets = task
        for row, part, path in targets:
            mesh = self.decoder.mesh(rows, row, part)
            with open_output(str(path), force=self.force, parents=self.parents) as stream:
                write_mesh(stream, mesh, path.suffix or ".ply")
        return len(rows)


def write_files(
    decoder: LatentDecoder,
    blocks: Iterable[Latents],
    paths: OutputPaths,
    *,
    force: bool,
    skip_existing: bool = False,
    jobs: int = 1,
) -> Iterator[int]:
    """Write each part of each row to a file of its own; yields how many rows are just done.

    All files of a block are named, and refused, before the first of them is written.

    Raises:
        UsageError: two outputs of one path, or a file exists without `force`.
        InputError: a name that cannot be a file.
    """

    def tasks() -> Iterator[tuple[Latents, list[OutputFile]]]:
        for block in blocks:
            targets = [
                OutputFile(row, part, paths.of(name, part))
                for row, name in enumerate(block.names)
                for part in decoder.parts
            ]
            if skip_existing:
                targets = [target for target in targets if not is_file(target.path)]
            for target in targets:
                check_output(str(target.path), force, parents=paths.many)
            turns: dict[int, list[OutputFile]] = defaultdict(list)
            for row, part, path in targets:
                turns[row // BLOCK_ROWS].append(OutputFile(row % BLOCK_ROWS, part, path))
            for turn, rows in enumerate(_split_blocks([block])):
                yield rows, turns[turn]

    yield from in_order(FileWriter(decoder, force, paths.many), tasks(), jobs)


def check_destination(
    output: str,
    parts: Sequence[Part],
    *,
    force: bool,
    array: bool,
    stream: bool,
    skip_existing: bool = False,
) -> None:
    """Raise at once what is wrong with an output before anything is known of the rows.

    Raises:
        UsageError: several parts without {part}; an array and {name}, or several arrays of a
            stream; what `check_output` raises.
        OutputError: likewise.
    """
    if len(parts) > 1 and "{part}" not in output:
        raise UsageError(
            f"{len(parts)} parts of each face need {{part}} in the output, such as "
            "-o 'dir/{name}_{part}.ply'",
            ErrorCode.OUTPUT_PATTERN,
        )
    if array and "{name}" in output:
        raise UsageError(
            f"--npy writes all faces to one file, but the output is {output}",
            ErrorCode.OUTPUT_PATTERN,
        )
    if array and stream and len(parts) > 1:
        raise UsageError(
            "a stream can be one array only; give one --part, or no --stream",
            ErrorCode.OPTION_CONFLICT,
        )
    if not array and Path(output).suffix.lower() == ".npy":
        raise UsageError(
            f"{output} can be an array of vertices: add --npy", ErrorCode.OUTPUT_SUFFIX
        )
    files = [output.replace("{part}", part) for part in parts] if array else [output]
    for file in files if array or not is_folder_pattern(output) else ():
        if not (skip_existing and is_file(file)):
            check_output(file, force)


def decode_to(
    output: str,
    decoder: LatentDecoder,
    blocks: Iterable[Latents],
    *,
    force: bool = False,
    array: bool = False,
    skip_existing: bool = False,
    jobs: int = 1,
) -> Iterator[int]:
    """Decode all rows to where the output says; yields how many are just done.

    Args:
        output: one mesh file, a folder or pattern for a file a row, or - for PLY after PLY.
        decoder: makes the faces.
        blocks: rows that are sound.
        force: replace files.
        array: write one array of vertices instead of meshes.
        skip_existing: leave out rows whose files are there.
        jobs: processes at once, 0 = one a core; the same bytes with any number.
    """
    if array:
        for part in decoder.parts:
            place = output.replace("{part}", part)
            if skip_existing and is_file(place):
                continue
            with open_output(place, force=force) as stream:
                yield from write_array(stream, replace(decoder, parts=[part]), blocks, jobs=jobs)
    elif _is_stream(output):
        with open_output(output, force=force) as stream:
            yield from write_meshes(stream, decoder, blocks, jobs=jobs)
    else:
        paths = OutputPaths(output)
        yield from write_files(
            decoder, blocks, paths, force=force, skip_existing=skip_existing, jobs=jobs
        )


def _is_stream(output: str) -> bool:
    """Whether mesh after mesh can go there: a pipe or a device, of no other format than PLY."""
    if is_folder_pattern(output) or Path(output).suffix.lower() not in ("", ".ply"):
        return False
    return replaced_file(output) is None
