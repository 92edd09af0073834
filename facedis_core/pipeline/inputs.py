"""Faces in NumPy arrays: vertices of many in one, or latents that become faces."""

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import SPLITS, FaceSet, load_face_set
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.npy import MAGIC, ArrayHeader, NpyReader
from facedis_core.io.paths import exists, is_file, is_folder
from facedis_core.io.streams import naming, open_input, read_ahead, read_all, shown
from facedis_core.mesh.mesh import Mesh, decode_mesh, mesh_files, read_mesh, read_meshes

# Makes meshes of the latents in a stream of that name.
DecodeLatents = Callable[[BinaryIO, str], Iterator[Mesh]]

_NO_TRIANGLES: Final = np.empty((0, 3), np.int32)
_MISTAKEN: Final = ((0, b"ply", "a PLY mesh; name it .ply"),)
# In the header of latents: the fields of a structured array, or rows of anything but x, y, z.
_LATENTS: Final = re.compile(rb"'descr': \[|'shape': \(\d+, (?!3\))\d+\)")
NPY_HEADER_BYTES: Final = 128  # bytes that every array has before its numbers, enough to tell


def read_face_arrays(stream: BinaryIO, source: str, decode: DecodeLatents | None) -> Iterator[Mesh]:
    """Faces of vertex arrays, or of latents where there is something to decode them.

    Raises:
        InputError: neither, or latents without `decode`.
    """
    beginning, stream = read_ahead(stream, NPY_HEADER_BYTES)
    if decode is not None and holds_latents(beginning):
        return decode(stream, source)
    return _vertex_arrays(stream, source)


def holds_latents(beginning: bytes) -> bool:
    """Whether an array that begins so, with HEADER bytes of it, holds latents, not vertices."""
    return beginning.startswith(MAGIC) and _LATENTS.search(beginning[:NPY_HEADER_BYTES]) is not None


def _vertex_arrays(stream: BinaryIO, source: str) -> Iterator[Mesh]:
    """Faces of float arrays (N, V, 3), named by file and row, or (V, 3), named by file.

    Arrays know neither triangles nor units.
    """
    named = is_file(source)
    stem = f"{Path(source).stem}_" if named else "row"
    reader = NpyReader(stream, "vertices (N, V, 3)", _MISTAKEN)
    count = 0
    with naming(source):
        while (header := reader.header()) is not None:
            _check_vertices(header)
            for block in reader.blocks(header):
                single = len(header.shape) == 2
                for vertices in [block] if single else block:
                    name = Path(source).stem if single and named else f"{stem}{count:04d}"
                    with np.errstate(over="ignore"):  # too large is inf, which is refused later
                        yield Mesh(np.ascontiguousarray(vertices, np.float32), _NO_TRIANGLES, name)
                    count += 1
        if not count:
            raise InputError("holds no faces; expected vertices (N, V, 3)", ErrorCode.EMPTY)


def _check_vertices(header: ArrayHeader) -> None:
    if header.dtype.names is not None:
        raise InputError(
            "holds latents, which are encoded already; expected a mesh", ErrorCode.WRONG_KIND
        )
    dtype, shape, _ = header
    if dtype.kind != "f" or len(shape) not in (2, 3) or shape[-1] != 3 or not shape[-2]:
        raise InputError(
            f"is an array {dtype} {shape}, expected float vertices (N, V, 3) or (V, 3)",
            ErrorCode.ARRAY_SHAPE,
        )


_LONGEST_LIST: Final = 1 << 28
_LONGEST_NAME: Final = 4096
_NO_LIST: Final = (MAGIC, b"ply\n", b"ply\r", b"\x89PNG", b"PK\x03")  # a file in place of a list


class InputItem(NamedTuple):
    """Something to be read, and how messages and lists of failures name it.

    It holds one mesh, but for a file with PLY after PLY. It can be sent to another process, which
    then does the reading.
    """

    source: str
    load: Callable[[], Iterable[Mesh]]


@dataclass(frozen=True)
class FaceInputs:
    """Meshes of one or several inputs.

    Attributes:
        items: in the order of the inputs; what cannot be read raises when it is loaded.
        count: how many there are; None = a pipe does not say.
        sets: the face sets among the inputs, by what the user calls them.
    """

    items: Iterable[InputItem]
    count: int | None
    sets: tuple[tuple[str, FaceSet], ...] = ()


def find_inputs(
    inputs: Sequence[str],
    split: str = "all",
    *,
    keep_going: bool = False,
    decode: DecodeLatents | None = None,
) -> FaceInputs:
    """What lies behind the inputs.

    Nothing is read yet but directories and the headers of face sets.

    Args:
        inputs: meshes, folders of them, face sets (.safetensors), vertex arrays (.npy), patterns
            that match any of these, or `-` for PLY after PLY or arrays on standard input.
        split: `train`, `test` or `validation` takes only these faces of face sets; `all`.
        keep_going: an input that cannot be used is an item that raises, like a broken mesh.
        decode: what makes faces of latents; None = latents are refused.

    Raises:
        UsageError: standard input twice, or a split where no face set is.
        InputError: an empty folder, a broken face set, a split without faces.
    """
    if list(inputs).count("-") > 1:
        raise UsageError(
            "standard input (-) is named twice; it can be read once", ErrorCode.SAME_FILE
        )
    named = [source for given in inputs for source in expand_pattern(given)]
    if split != "all" and not any(_suffix(source) == ".safetensors" for source in named):
        raise UsageError(
            f"--split {split} needs a face set (.safetensors) among the inputs",
            ErrorCode.OPTION_CONFLICT,
        )
    names = _distinct_names(named)
    parts = [_find_one(source, names.get(source), split, keep_going, decode) for source in named]
    counts = [part.count for part in parts if part.count is not None]
    return FaceInputs(
        items=(item for part in parts for item in part.items),
        count=sum(counts) if len(counts) == len(parts) else None,
        sets=tuple(named for part in parts for named in part.sets),
    )


def collect_inputs(inputs: Sequence[str], files_from: str | None) -> list[str]:
    """The inputs named one by one and those that a file lists; standard input where none are.

    Raises:
        UsageError: standard input is to be both a list and faces.
        InputError: as of `read_file_list`.
    """
    if files_from is None:
        return list(inputs) or ["-"]
    if files_from == "-" and "-" in inputs:
        raise UsageError(
            "standard input (-) is a list of files and faces; give a file for one",
            ErrorCode.SAME_FILE,
        )
    return [*inputs, *read_file_list(files_from)]


def read_file_list(source: str) -> list[str]:
    """Names that a file, or standard input for `-`, lists: one a line, or each before a NUL.

    Raises:
        InputError: missing, or no name in it.
    """
    content = read_all(source, _LONGEST_LIST, "a list of files")
    if content.startswith(_NO_LIST):
        raise InputError(
            f"{shown(source)} is no list of files; give it as an input by itself",
            ErrorCode.WRONG_KIND,
        )
    if b"\0" in content:
        lines = content.split(b"\0")
    else:
        lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if any(len(name) > _LONGEST_NAME for name in names):
        raise InputError(
            f"{shown(source)} has a line of more than {_LONGEST_NAME} bytes, no file",
            ErrorCode.TOO_LARGE,
        )
    if not names:
        raise InputError(
            f"{shown(source)} lists no files; expected one a line, or as find -print0",
            ErrorCode.EMPTY,
        )
    return names


def _suffix(source: str) -> str:
    return Path(source).suffix.lower()


def expand_pattern(source: str) -> list[str]:
    """What a pattern that the shell has not replaced stands for; anything else is itself."""
    if source == "-" or not has_magic(source) or exists(source):
        return [source]
    return sorted(glob(source, recursive=True)) or [source]  # noqa: PTH207 - also from the root


def _distinct_names(sources: Sequence[str]) -> dict[str, str]:
    """Names for files whose own names are alike: with as many folders before it as it takes."""
    alike: dict[str, set[str]] = {}
    for source in sources:
        if source != "-":
            alike.setdefault(Path(source).stem, set()).add(source)
    names: dict[str, str] = {}
    for same in (same for same in alike.values() if len(same) > 1):
        # not resolved: a link keeps the name that somebody gave it
        whole = {source: Path(os.path.abspath(source)) for source in same}  # noqa: PTH100
        paths = {source: (path.parent / path.stem).parts for source, path in whole.items()}
        depth = 1
        while len({parts[-depth:] for parts in paths.values()}) < len(set(paths.values())):
            depth += 1
        if depth > 1:
            names |= {source: "/".join(parts[-depth:]) for source, parts in paths.items()}
    return names


def _find_one(
    source: str, name: str | None, split: str, keep_going: bool, decode: DecodeLatents | None
) -> FaceInputs:
    try:
        if source == "-" or (exists(source) and not is_file(source) and not is_folder(source)):
            return FaceInputs(_piped_items(source, decode), None)
        if is_folder(source):
            return _folder_items(Path(source))
        if _suffix(source) == ".safetensors":
            return _face_set_items(source, split)
        if _suffix(source) == ".npy":
            return FaceInputs(_array_items(source, decode), None)
    except InputError as error:
        if not keep_going:
            raise
        return FaceInputs([_failed_item(source, error)], 1)
    return FaceInputs([InputItem(source, partial(read_file_meshes, source, name))], 1)


def read_file_meshes(source: str, name: str | None = None) -> Iterator[Mesh]:
    """The mesh of a file, or PLY after PLY by the names that they carry.

    A single one is called `name`, or as the file is. Raises what `read_mesh` does.
    """
    name = name or Path(source).stem
    if _suffix(source) not in ("", ".ply"):
        yield replace(read_mesh(source), name=name)
        return
    with open_input(source) as stream:
        yield from _plys(stream, source, name)


def decode_file_meshes(content: bytes, source: str) -> Iterator[Mesh]:
    """The same of what a file holds that is not here, and the name that it has.

    Raises what `decode_mesh` does.
    """
    stream: Any = io.BytesIO(content)
    stream = io.BufferedReader(stream)  # readers peek
    if _suffix(source) in ("", ".ply"):
        yield from _plys(stream, source, Path(source).stem)
    else:
        yield decode_mesh(stream, source)


def _plys(stream: BinaryIO, source: str, name: str) -> Iterator[Mesh]:
    meshes = read_meshes(stream, source)
    first, second = next(meshes), next(meshes, None)
    if second is None:
        yield replace(first, name=name)
        return
    yield from (first, second)
    yield from meshes


def _failed_item(source: str, error: InputError) -> InputItem:
    return InputItem(source, partial(_raise, error))


def _raise(error: InputError) -> list[Mesh]:
    raise error


def _single(mesh: Mesh) -> list[Mesh]:
    return [mesh]


def _piped_items(source: str, decode: DecodeLatents | None) -> Iterator[InputItem]:
    """The meshes or arrays in a pipe; what breaks it is the last item."""
    try:
        with open_input(source) as stream:
            yield from stream_items(stream, source, decode)
    except InputError as error:
        yield _failed_item(shown(source), error)


def stream_items(
    stream: BinaryIO, source: str, decode: DecodeLatents | None = None
) -> Iterator[InputItem]:
    """The meshes or arrays in a stream that `source` names; raises what their readers do."""
    label = shown(source)
    beginning, stream = read_ahead(stream, 16)  # as far as readers look for mistakes
    if beginning.startswith(MAGIC):
        found = read_face_arrays(stream, source, decode)
    else:
        found = read_meshes(stream, label)
    for number, mesh in enumerate(found, 1):
        yield InputItem(f"{label}, mesh {number}", partial(_single, mesh))


def _folder_items(folder: Path) -> FaceInputs:
    files = mesh_files(folder)
    return FaceInputs(
        [InputItem(str(path), partial(_mesh_below, folder, path)) for path in files], len(files)
    )


def _mesh_below(folder: Path, path: Path) -> list[Mesh]:
    return [replace(read_mesh(path), name=path.relative_to(folder).with_suffix("").as_posix())]


def _face_set_items(source: str, split: str) -> FaceInputs:
    faces = _opened(source)
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(
            f"{source} has no faces in its {split} split; choose another --split",
            ErrorCode.SPLIT_EMPTY,
        )
    names = faces.labels.names
    items = [
        InputItem(f"{source}: {names[row]}", partial(_face_of_set, source, int(row)))
        for row in rows
    ]
    return FaceInputs(items, len(rows), ((source, faces),))


def _opened(source: str) -> FaceSet:
    """A face set, once per process and state of its file: each of its faces asks for it."""
    state = Path(source).stat() if is_file(source) else None
    return _loaded(source, state and (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=8)
def _loaded(source: str, state: tuple[int, ...] | None) -> FaceSet:
    return load_face_set(source)


def _face_of_set(source: str, row: int) -> list[Mesh]:
    faces = _opened(source)
    (vertices,) = faces.read([row])
    return [Mesh(vertices, faces.triangles, faces.labels.names[row], unit_mm=1.0)]


def _array_items(source: str, decode: DecodeLatents | None) -> Iterator[InputItem]:
    """The faces of arrays in a file; what breaks it is the last item."""
    try:
        with open_input(source) as stream:
            for number, mesh in enumerate(read_face_arrays(stream, source, decode)):
                yield InputItem(f"{source}: row {number}", partial(_single, mesh))
    except InputError as error:
        yield _failed_item(source, error)
