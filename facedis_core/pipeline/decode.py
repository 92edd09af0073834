"""Decoding of latents to meshes: in files, as PLY after PLY, or as one array of vertices."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

import numpy as np

from facedis_core.data.history import made_by
from facedis_core.data.latents import Latents, concatenate
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.csv_text import brief
from facedis_core.io.npy import encoded_header
from facedis_core.io.paths import OutputPaths, check_name, check_suffix, is_file, is_folder_pattern
from facedis_core.io.remote import connections_to, remote_outputs
from facedis_core.io.remote_output import remote_output_exists, write_remote
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.streams import (
    check_output,
    keeping_existing,
    naming,
    open_output,
    replaced_file,
)
from facedis_core.io.urls import is_url
from facedis_core.mesh.mesh import Mesh, check_written_suffix, write_mesh
from facedis_core.mesh.point_cache import point_cache
from facedis_core.model.model import Model, Part
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.parallel import Workers, in_order

BLOCK_ROWS: Final = 16  # rows decoded at once
_SCENES: Final = (".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz")


@dataclass(frozen=True)
class LatentDecoder:
    """Decodes latents, a part of a row at a time; picklable for workers.

    Attributes:
        model: the model that encoded the latents.
        parts: parts of each face to write, in this order.
        offsets: give offsets without the mean face.
    """

    model: Model
    parts: Sequence[Part] = ("full",)
    offsets: bool = False

    @property
    def used_map(self) -> bool:
        """Whether this process has taken a face through a map, as only `OntoDecoder` does."""
        return False

    def face(self, rows: Latents, row: int, part: Part) -> np.ndarray:
        """One part of one row, (V, 3) mm.

        Raises:
            InputError: latents that cannot be decoded; the message names the row.
        """
        chosen = slice(row, row + 1)
        z = rows.identity[chosen], rows.expression[chosen]
        try:
            (vertices,) = self.model.decode_vectors(*z, part, offsets=self.offsets)
        except InputError as error:
            raise InputError(f"{brief(rows.names[row])}: {error}", error.code) from None
        return vertices

    def vertices(self, rows: Latents, row: int, part: Part, suffix: str) -> np.ndarray:
        """All vertices of the file that `content` makes."""
        return self.face(rows, row, part)

    def mesh(self, rows: Latents, row: int, part: Part) -> Mesh:
        """The face of a row as a mesh with its name."""
        vertices = self.face(rows, row, part)
        return Mesh(vertices, self.model.triangles, rows.names[row], unit_mm=1.0)

    def content(self, rows: Latents, row: int, part: Part, suffix: str) -> bytes:
        """The face of a row as the content of a mesh file in the format of a suffix."""
        stream = io.BytesIO()
        write_mesh(stream, self.mesh(rows, row, part), suffix)
        return stream.getvalue()


class DecodedRows(NamedTuple):
    """Some rows of `decode_to`.

    Attributes:
        rows: number of newly decoded rows.
        used_map: whether a map was needed for them, or for rows before.
    """

    rows: int
    used_map: bool


class LatentBlocks(Protocol):
    """Latents that are read in blocks, as of `LatentSource`, and their name in messages."""

    @property
    def label(self) -> str: ...

    def blocks(
        self, sizes: tuple[int, int] | None = None, *, finite: bool = True
    ) -> Iterator[Latents]: ...


def checked_rows(
    source: LatentBlocks,
    model: Model,
    output: str,
    skip: Callable[[list[Failure]], None] | None = None,
) -> Iterator[Latents]:
    """Blocks of the latents of a source that a model can decode to an output.

    Args:
        source: the latents.
        model: the model to decode them.
        output: path or pattern; with one file per row, each name must be a valid file name.
        skip: called with rows that are left out; None = the first such row raises.

    Raises:
        InputError: a row of another model, not finite, or with an invalid name.
    """
    label = f"{model.source} ({made_by(model.history)})"
    as_files = is_folder_pattern(output)

    def check(rows: Latents) -> None:
        rows.check_model(model.id, label)
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


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Output of decoded latents; an unusable one is refused before any row is read.

    Attributes:
        output: a mesh file, a folder or pattern for one file per row, a point cache of all rows
            (.pc2, .mdd), or `-` for PLY after PLY.
        parts: parts of each face to write.
        array: write one array of vertices per part instead of meshes.
        stream: write row by row.
        skip_existing: leave out rows whose files exist.
        force: replace existing files.
        jobs: worker processes, as of `in_order`; the bytes are the same with any.
        onto: suffix of the original files that faces are written onto; "" = new meshes.
        fps: frames of a point cache a second.

    Raises:
        UsageError: several parts without {part}; one file of all rows with {name}; several arrays
            or a point cache of a stream; options that exclude each other; errors of
            `check_written_suffix` and `check_output`.
        OutputError: errors of `check_output`.
    """

    output: str
    parts: Sequence[Part] = ("full",)
    array: bool = False
    stream: bool = False
    skip_existing: bool = False
    force: bool = False
    jobs: Workers = 1
    onto: str = ""
    fps: float = 30.0

    @property
    def in_one_file(self) -> bool:
        """Whether all rows go into one file by their vertices alone."""
        return self.array or point_cache(self.output) is not None

    @property
    def suffix(self) -> str:
        """The format of outputs whose names do not say."""
        return self.onto or ".ply"

    def __post_init__(self) -> None:
        output, parts = self.output, self.parts
        if self.skip_existing and self.force:
            raise UsageError(
                "--skip-existing keeps existing files, --force replaces them; give one of the two",
                ErrorCode.OPTION_CONFLICT,
            )
        if not 0 < self.fps < np.inf:
            raise UsageError(
                f"{self.fps:g} frames a second, expected a positive number", ErrorCode.OPTION_VALUE
            )
        if len(parts) > 1 and "{part}" not in output:
            raise UsageError(
                f"{len(parts)} parts of each face need {{part}} in the output, such as "
                "-o 'dir/{name}_{part}.ply'",
                ErrorCode.OUTPUT_PATTERN,
            )
        if self.in_one_file and "{name}" in output:
            raise UsageError(
                f"{'--npy' if self.array else Path(output).suffix} writes all faces to one file, "
                f"but the output is {output}",
                ErrorCode.OUTPUT_PATTERN,
            )
        if self.in_one_file and self.stream and (len(parts) > 1 or not self.array):
            raise UsageError(
                "a stream can be one array only; give one --part, or no --stream"
                if self.array
                else f"{output} begins with the number of frames; leave out --stream",
                ErrorCode.OPTION_CONFLICT,
            )
        if not self.array and Path(output).suffix.lower() == ".npy":
            raise UsageError(
                f"{output} can be an array of vertices: add --npy", ErrorCode.OUTPUT_SUFFIX
            )
        for part in parts if not self.in_one_file else ():
            suffix = Path(OutputPaths(output, self.suffix).of("face", part)).suffix
            self._check_suffix(suffix.lower() or self.suffix)
        if self.array:
            check_suffix(output, "an array of vertices", ".npy")
        files = [output.replace("{part}", part) for part in parts] if self.in_one_file else [output]
        for file in files if self.in_one_file or not is_folder_pattern(output) else ():
            if not (self.skip_existing and is_file(file)):
                check_output(file, self.force)

    def check_distinct(self, names: Iterable[str]) -> None:
        """Raise UsageError where two of these rows would be written to one file."""
        check_distinct_files(OutputPaths(self.output, self.suffix), names, self.parts)

    def _check_suffix(self, suffix: str) -> None:
        if suffix in _SCENES:
            raise UsageError(
                f"the output {self.output} is a scene, expected a mesh; write a rig with fd-export",
                ErrorCode.OUTPUT_SUFFIX,
            )
        if not self.onto:
            check_written_suffix(suffix)
        elif suffix != self.onto:
            raise UsageError(
                f"the output {self.output} is {suffix}, but a face is written onto {self.onto}; "
                f"give a name that ends in {self.onto}, or decode without --onto",
                ErrorCode.OUTPUT_SUFFIX,
            )


def decode_to(
    options: DecodeOptions,
    decoder: LatentDecoder,
    blocks: Iterable[Latents],
    skip: Callable[[list[Failure]], None] | None = None,
) -> Iterator[DecodedRows]:
    """Decode latents to an output; yields what has been decoded, block by block.

    Args:
        options: the output.
        decoder: decodes the rows.
        blocks: rows of `checked_rows`.
        skip: called with rows that cannot be decoded to meshes, such as those without an original
            file; None = the first such row raises.

    Raises:
        UsageError: two outputs of one path, or a file exists.
        InputError: latents that cannot be decoded.
        OutputError: an output cannot be written.
    """
    output, jobs, keep_going = options.output, options.jobs, skip is not None
    if options.in_one_file:
        for part in decoder.parts:
            path = output.replace("{part}", part)
            if options.skip_existing and is_file(path):
                continue
            of_part = replace(decoder, parts=[part])
            with open_output(path, force=options.force) as stream:
                if options.array:
                    yield from _write_array(stream, of_part, blocks, jobs)
                else:
                    yield from _write_frames(stream, of_part, concatenate(list(blocks)), options)
    elif is_ply_stream(output):
        if options.suffix != ".ply":
            blocks = _only_row(blocks, options)
        work = _MeshBytes(decoder, options.suffix, keep_going)
        with open_output(output, force=options.force) as stream:
            for done in in_order(work, _split_blocks(blocks), jobs):
                stream.write(done.data)
                stream.flush()
                if skip is not None:
                    skip(done.failures)
                yield done.decoded
    else:
        for done in _write_files(options, decoder, blocks, keep_going):
            if skip is not None:
                skip(done.failures)
            yield done.decoded


def _only_row(blocks: Iterable[Latents], options: DecodeOptions) -> Iterator[Latents]:
    """The blocks, if they have one row; only PLY can follow PLY."""
    rows = 0
    for block in blocks:
        rows += len(block)
        if rows > 1:
            raise UsageError(
                f"several faces cannot follow each other as {options.suffix}; give a folder, "
                "-o dir/",
                ErrorCode.OUTPUT_PATTERN,
            )
        yield block


def _write_array(
    stream: BinaryIO, decoder: LatentDecoder, blocks: Iterable[Latents], jobs: Workers
) -> Iterator[DecodedRows]:
    """Write each block as one float32 array (N, V, 3) mm; yields as `decode_to`."""
    for block in blocks:
        shape = (len(block), *decoder.model.mean_face.shape)
        stream.write(encoded_header(np.dtype("<f4"), shape))
        work = _MeshBytes(decoder, "", keep_going=False, order="<")  # the shape is written already
        for done in in_order(work, _split_blocks([block]), jobs):
            stream.write(done.data)
            yield done.decoded
        stream.flush()


def _write_frames(
    stream: BinaryIO, decoder: LatentDecoder, rows: Latents, options: DecodeOptions
) -> Iterator[DecodedRows]:
    """Write rows as a point cache; yields as `decode_to`.

    Raises:
        InputError: originals with different numbers of vertices.
    """
    cache = point_cache(options.output)
    assert cache is not None
    (part,) = decoder.parts
    count = len(decoder.vertices(rows, 0, part, options.suffix)) if len(rows) else 0
    stream.write(cache.header(len(rows), count, options.fps))
    work = _MeshBytes(decoder, options.suffix, keep_going=False, order=cache.order)
    for done in in_order(work, _split_blocks([rows]), options.jobs):
        if len(done.data) != 12 * count * done.decoded.rows:
            raise InputError(
                f"{options.output} moves one mesh of {count} vertices, but the originals differ; "
                "give one file as the original",
                ErrorCode.VERTEX_COUNT,
            )
        stream.write(done.data)
        yield done.decoded


class _Decoded(NamedTuple):
    """Some rows decoded.

    Attributes:
        data: what follows in a stream.
        decoded: what `decode_to` yields.
        failures: rows that could not be decoded.
    """

    data: bytes
    decoded: DecodedRows
    failures: list[Failure]


# Path and content of a file.
_Content = tuple[str, bytes]


class _OutputFile(NamedTuple):
    """The file for one part of one row."""

    row: int
    part: Part
    path: str


@dataclass(frozen=True)
class _FileWriter:
    """Writes rows to files; picklable for workers.

    Attributes:
        decoder: decodes the rows.
        force: replace existing files.
        skip_existing: leave existing files as they are.
        parents: make missing folders.
        suffix: format of files whose names do not say.
        keep_going: leave out rows that cannot be decoded.
    """

    decoder: LatentDecoder
    force: bool
    skip_existing: bool
    parents: bool
    suffix: str
    keep_going: bool

    def __call__(self, task: tuple[Latents, list[_OutputFile]]) -> _Decoded:
        """Write the files of some rows."""
        failures: list[Failure] = []
        for files in self._rows(task, failures):
            self._write(files)
        return self._decoded(task[0], failures)

    def decode(self, task: tuple[Latents, list[_OutputFile]]) -> tuple[_Decoded, list[_Content]]:
        """The files of some rows, which another process writes."""
        failures: list[Failure] = []
        files = [file for files in self._rows(task, failures) for file in files]
        return self._decoded(task[0], failures), files

    def _decoded(self, rows: Latents, failures: list[Failure]) -> _Decoded:
        done = DecodedRows(len(rows) - len(failures), self.decoder.used_map)
        return _Decoded(b"", done, failures)

    def write(self, decoded: tuple[_Decoded, list[_Content]]) -> _Decoded:
        """Write the files of `decode`."""
        self._write(decoded[1])
        return decoded[0]

    def _rows(
        self, task: tuple[Latents, list[_OutputFile]], failures: list[Failure]
    ) -> Iterator[list[_Content]]:
        """The files of each row; decoded before any is opened, which may be one that is read."""
        rows, targets = task
        for row, parts in groupby(targets, lambda target: target.row):
            files = []
            try:
                for _, part, path in parts:
                    suffix = Path(path).suffix.lower() or self.suffix
                    files.append((path, self.decoder.content(rows, row, part, suffix)))
            except InputError as error:
                if not self.keep_going:
                    raise
                failures.append(Failure.of(rows.names[row], error))
                continue
            yield files

    def _write(self, files: list[_Content]) -> None:
        for path, content in files:
            opened = open_output(path, force=self.force, parents=self.parents)
            with keeping_existing(self.skip_existing), opened as stream:
                stream.write(content)


def _write_files(
    options: DecodeOptions, decoder: LatentDecoder, blocks: Iterable[Latents], keep_going: bool
) -> Iterator[_Decoded]:
    """Write each part of each row to its own file.

    All paths of a block are checked before its first file is written.

    Raises:
        UsageError: two outputs of one path, or a file exists without `force`.
        InputError: an invalid name.
    """
    paths = OutputPaths(options.output, options.suffix)
    remote = is_url(options.output)
    there = remote_outputs(options.output) if remote and not options.force else set[str]()

    def check(path: str) -> None:
        if not remote:
            with keeping_existing(options.skip_existing):
                check_output(path, options.force, parents=paths.many)
        elif path in there:
            raise remote_output_exists(path)

    def tasks() -> Iterator[tuple[Latents, list[_OutputFile]]]:
        for block in blocks:
            targets = [
                _OutputFile(row, part, paths.of(name, part))
                for row, name in enumerate(block.names)
                for part in decoder.parts
            ]
            if options.skip_existing:
                exists = there.__contains__ if remote else is_file
                targets = [target for target in targets if not exists(target.path)]
            for target in targets:
                check(target.path)
            by_block: dict[int, list[_OutputFile]] = defaultdict(list)
            for row, part, path in targets:
                by_block[row // BLOCK_ROWS].append(_OutputFile(row % BLOCK_ROWS, part, path))
            for number, rows in enumerate(_split_blocks([block])):
                yield rows, by_block[number]

    writer = _FileWriter(
        decoder, options.force, options.skip_existing, paths.many, options.suffix, keep_going
    )
    if remote or isinstance(options.jobs, str):  # workers may see other disks
        decoded = in_order(writer.decode, tasks(), options.jobs, lambda task: task[0].names)
        yield from _uploaded(decoded, options.output) if remote else map(writer.write, decoded)
    else:
        yield from in_order(writer, tasks(), options.jobs)


def _uploaded(blocks: Iterable[tuple[_Decoded, list[_Content]]], output: str) -> Iterator[_Decoded]:
    """Write the files of `_FileWriter.decode` to a storage, some ahead, while others are decoded.

    A block is yielded when all of its files are there.
    """
    from facedis_core.io.waiting import in_threads

    install_signal_handlers()  # uploads on their way are finished

    def writes() -> Iterator[Callable[[], _Decoded | None]]:
        for done, files in blocks:
            yield from (partial(write_remote, path, content) for path, content in files)
            yield partial(_same, done)

    # those on their way when another fails are finished
    for done in in_threads(lambda write: write(), writes(), connections_to(output), 2.0):
        if done is not None:
            yield done


def _same(done: _Decoded) -> _Decoded:
    return done


def _split_blocks(blocks: Iterable[Latents]) -> Iterator[Latents]:
    """The same rows in blocks of up to BLOCK_ROWS."""
    for block in blocks:
        for start in range(0, len(block), BLOCK_ROWS):
            yield block.take(slice(start, start + BLOCK_ROWS))


@dataclass(frozen=True)
class _MeshBytes:
    """Turns rows into the bytes of meshes; picklable for workers.

    Attributes:
        decoder: decodes the rows.
        suffix: format of the files.
        keep_going: leave out rows that cannot be decoded.
        order: byte order of the vertices alone, float32; "" = whole files.
    """

    decoder: LatentDecoder
    suffix: str
    keep_going: bool
    order: str = ""

    def __call__(self, rows: Latents) -> _Decoded:
        """The bytes of the parts of each row."""
        data: list[bytes] = []
        failures = []
        for row, name in enumerate(rows.names):
            try:
                data.append(b"".join(self._part(rows, row, part) for part in self.decoder.parts))
            except InputError as error:
                if not self.keep_going:
                    raise
                failures.append(Failure.of(name, error))
        done = DecodedRows(len(data), self.decoder.used_map)
        return _Decoded(b"".join(data), done, failures)

    def _part(self, rows: Latents, row: int, part: Part) -> bytes:
        if self.order:
            vertices = self.decoder.vertices(rows, row, part, self.suffix)
            return vertices.astype(f"{self.order}f4").tobytes()
        return self.decoder.content(rows, row, part, self.suffix)


def check_distinct_files(
    paths: OutputPaths, names: Iterable[str], parts: Sequence[Part] = ("full",)
) -> None:
    """Raise UsageError unless each part of each name is a file of its own, before any is made.

    A name that can be no file is left to whoever reads it.
    """
    for name in names if paths.many else ():
        with suppress(InputError):
            for part in parts:
                paths.of(name, part)


def is_ply_stream(output: str) -> bool:
    """Whether the output is a pipe or device for PLY after PLY."""
    if is_folder_pattern(output) or Path(output).suffix.lower() not in ("", ".ply"):
        return False
    return replaced_file(output) is None
