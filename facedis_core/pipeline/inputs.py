"""Inputs of commands: meshes in files, folders, face sets, arrays and pipes, read when needed."""

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from facedis_core.data.face_set import SPLITS, FaceSet, load_face_set
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.npy import MAGIC
from facedis_core.io.paths import absolute, below, exists, is_file, is_folder
from facedis_core.io.remote import connections_to
from facedis_core.io.remote_input import read_remote
from facedis_core.io.streams import naming, open_input, read_ahead
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url
from facedis_core.mesh.mesh import (
    Mesh,
    check_remote_mesh,
    decode_mesh,
    mesh_files,
    mesh_names,
    read_mesh,
    read_meshes,
)
from facedis_core.mesh.scan_formats import SCAN_FORMATS, read_scan
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.pipeline.file_lists import expand_pattern
from facedis_core.pipeline.file_meshes import (
    DecodeLatents,
    array_meshes,
    decode_file_meshes,
    read_file_meshes,
)

_MOST_AHEAD_BYTES: Final = 1 << 23  # of a file that is downloaded before it is used


class InputItem(NamedTuple):
    """One mesh to read, or the meshes of a file with PLY after PLY; picklable for workers.

    Attributes:
        source: its name in messages and lists of failures.
        load: reads the meshes.
        name: of the mesh; None = known when it is read.
    """

    source: str
    load: Callable[[], Iterable[Mesh]]
    name: str | None = None


@dataclass(frozen=True)
class FaceInputs:
    """The meshes of some inputs.

    Attributes:
        items: in the order of the inputs; an unreadable one raises when it is loaded.
        count: number of items; None = unknown, of a pipe.
        sets: names and face sets among the inputs.
    """

    items: Iterable[InputItem]
    count: int | None
    sets: tuple[tuple[str, FaceSet], ...] = ()


def find_inputs(
    inputs: Sequence[str],
    split: str = "all",
    *,
    root: str | None = None,
    keep_going: bool = False,
    decode: DecodeLatents | None = None,
    scans: bool = False,
) -> FaceInputs:
    """The meshes that the inputs name; only folders and headers of face sets are read yet.

    Args:
        inputs: meshes, folders of meshes, face sets (.safetensors), vertex arrays (.npy), patterns
            that match any of these, or `-` for PLY after PLY or arrays on standard input.
        split: split of face sets: `train`, `test`, `validation` or `all`.
        root: folder that names of files are paths below; None = the stem of a single file, the path
            below its folder for a file of one.
        keep_going: an unusable input becomes an item that raises.
        decode: decodes latents; None = latents are refused.
        scans: also take the formats of raw scans alone.

    Raises:
        UsageError: standard input twice, a split without a face set, or a mesh outside of `root`.
        InputError: an empty folder, a broken face set, or a split without faces.
    """
    parts = find_each_input(
        inputs, split, root=root, keep_going=keep_going, decode=decode, scans=scans
    )
    counts = [part.count for part in parts if part.count is not None]
    return FaceInputs(
        items=(item for part in parts for item in part.items),
        count=sum(counts) if len(counts) == len(parts) else None,
        sets=tuple(named for part in parts for named in part.sets),
    )


def find_each_input(
    inputs: Sequence[str],
    split: str = "all",
    *,
    root: str | None = None,
    keep_going: bool = False,
    decode: DecodeLatents | None = None,
    scans: bool = False,
) -> list[FaceInputs]:
    """The meshes of each input; those of a pattern one by one. As `find_inputs` otherwise."""
    if list(inputs).count("-") > 1:
        raise UsageError(
            "standard input (-) is named twice; it can be read once", ErrorCode.SAME_FILE
        )
    sources = [source for given in inputs for source in expand_pattern(given)]
    if split != "all" and not any(_suffix(source) == ".safetensors" for source in sources):
        raise UsageError(
            f"--split {split} needs a face set (.safetensors) among the inputs",
            ErrorCode.OPTION_CONFLICT,
        )
    names = _distinct_names(sources) if root is None else _names_below(root, sources)
    return [
        _find_one(source, names.get(source), split, root, keep_going, decode, scans)
        for source in sources
    ]


def read_ahead_items(items: Iterable[InputItem]) -> Iterator[InputItem]:
    """The items in order, where files by URL are downloaded some ahead, in threads.

    Errors are raised when the item is loaded, as without.
    """
    remaining = iter(items)
    for item in remaining:
        if isinstance(item.load, _RemoteMeshes):
            from facedis_core.io.waiting import in_threads

            threads = connections_to(item.source)
            yield from in_threads(_downloaded, chain([item], remaining), threads)
        else:
            yield item


def meshes_ahead(sources: Sequence[str]) -> Iterator[Callable[[], Mesh]]:
    """What reads the mesh of each file, as `read_mesh`; those by URL are downloaded some ahead."""
    if any(map(is_url, sources)):
        from facedis_core.io.waiting import in_threads

        yield from in_threads(_mesh_ahead, sources, connections_to(sources[0]))
    else:
        yield from (partial(read_mesh, source) for source in sources)


def stream_items(
    stream: BinaryIO, source: str, decode: DecodeLatents | None = None
) -> Iterator[InputItem]:
    """The meshes or arrays in a stream.

    Args:
        stream: PLY after PLY, or `.npy` arrays.
        source: its name.
        decode: decodes latents; None = latents are refused.

    Raises:
        InputError: unreadable data.
    """
    label = shown(source)
    beginning, stream = read_ahead(stream, 16)  # enough for readers to tell mistaken kinds
    if beginning.startswith(MAGIC):
        meshes = array_meshes(stream, source, decode)
    else:
        meshes = read_meshes(stream, label)
    for number, mesh in enumerate(meshes, 1):
        name = f"{label}, mesh {number}"
        yield InputItem(name, partial(_single, mesh, name))


def array_items(
    stream: BinaryIO, source: str, decode: DecodeLatents | None = None
) -> Iterator[InputItem]:
    """The faces of `.npy` arrays of vertices or latents.

    Args:
        stream: the arrays.
        source: its name.
        decode: decodes latents; None = latents are refused.

    Raises:
        InputError: neither vertices nor latents, or latents without `decode`.
    """
    for number, mesh in enumerate(array_meshes(stream, source, decode)):
        name = f"{source}: row {number}"
        yield InputItem(name, partial(_single, mesh, name))


def _suffix(source: str) -> str:
    return Path(source).suffix.lower()


def _distinct_names(sources: Sequence[str]) -> dict[str, str]:
    """Names for files of one stem: with as many folders before it as make them distinct."""
    by_stem: dict[str, set[str]] = {}
    for source in sources:
        if source != "-":
            by_stem.setdefault(Path(source).stem, set()).add(source)
    names: dict[str, str] = {}
    for same in (same for same in by_stem.values() if len(same) > 1):
        files = {source: absolute(source) for source in same}
        paths = {source: (path.parent / path.stem).parts for source, path in files.items()}
        depth = distinct_depth(paths.values())
        if depth > 1:
            names |= {source: "/".join(parts[-depth:]) for source, parts in paths.items()}
    return names


def distinct_depth(paths: Collection[tuple[str, ...]]) -> int:
    """Number of last parts that tell different paths apart."""
    depth = 1
    while len({parts[-depth:] for parts in paths}) < len(set(paths)):
        depth += 1
    return depth


def _names_below(root: str, sources: Sequence[str]) -> dict[str, str]:
    """Names of files: their paths below a folder, which folders must be below too."""
    names: dict[str, str] = {}
    base = absolute(root)
    for source in sources:
        path = absolute(source)
        if source == "-" or _suffix(source) in (".safetensors", ".npy"):
            continue  # their faces have names
        if not path.is_relative_to(base):
            raise UsageError(
                f"{shown(source)} is not below --root {shown(root)}; give a folder that all "
                "meshes are in",
                ErrorCode.OPTION_VALUE,
            )
        if not is_folder(source):
            names[source] = path.relative_to(base).with_suffix("").as_posix()
    return names


def _find_one(
    source: str,
    name: str | None,
    split: str,
    root: str | None,
    keep_going: bool,
    decode: DecodeLatents | None,
    scans: bool,
) -> FaceInputs:
    """The meshes of one input without a pattern; `name` is that of a single mesh."""
    try:
        if is_url(source):
            return _remote_items(source, name, split, root, decode)
        if source == "-" or (exists(source) and not is_file(source) and not is_folder(source)):
            return FaceInputs(_pipe_items(source, decode), None)
        if is_folder(source):
            return _folder_items(Path(source), Path(source) if root is None else Path(root), scans)
        if _suffix(source) == ".safetensors":
            return _face_set_items(source, split)
        if _suffix(source) == ".npy":
            return FaceInputs(_array_items(source, decode), None)
        if scans and _suffix(source) in SCAN_FORMATS:
            return FaceInputs([_file_item(source, _scan, name)], 1)
    except InputError as error:
        if not keep_going:
            raise
        return FaceInputs([_failed_item(source, error)], 1)
    return FaceInputs([_file_item(source, read_file_meshes, name)], 1)


def _file_item(
    source: str, read: Callable[[str, str | None], Iterable[Mesh]], name: str | None
) -> InputItem:
    """A file, with a name of its own or that of its stem."""
    return InputItem(source, partial(read, source, name), name or Path(source).stem)


def _pipe_items(source: str, decode: DecodeLatents | None) -> Iterator[InputItem]:
    """The meshes or arrays in a pipe; an error becomes the last item."""
    try:
        with open_input(source) as stream:
            yield from stream_items(stream, source, decode)
    except InputError as error:
        yield _failed_item(shown(source), error)


def _array_items(source: str, decode: DecodeLatents | None) -> Iterator[InputItem]:
    """The faces of a `.npy` file; an error becomes the last item."""
    try:
        with open_input(source) as stream:
            yield from array_items(stream, source, decode)
    except InputError as error:
        yield _failed_item(source, error)


def _folder_items(folder: Path, root: Path, scans: bool) -> FaceInputs:
    """The meshes of a folder, named by their paths below `root`."""
    files = mesh_files(folder, SCAN_FORMATS if scans else ())
    base = Path(os.path.relpath(folder, root))
    items = []
    for path in files:
        name = (base / path.relative_to(folder)).with_suffix("").as_posix()
        items.append(InputItem(str(path), partial(_named_mesh, path, name), name))
    return FaceInputs(items, len(files))


def _remote_items(
    url: str, name: str | None, split: str, root: str | None, decode: DecodeLatents | None
) -> FaceInputs:
    """The meshes of a URL: of a file, read when it is needed, or of a folder, which ends in `/`."""
    if _suffix(url) == ".safetensors":
        return _face_set_items(url, split)
    if _suffix(url) == ".npy":
        return FaceInputs(_array_items(url, decode), None)
    if not is_folder(url):
        check_remote_mesh(url)
        return FaceInputs([_remote_item(url, name)], 1)
    above = url if root is None else f"{root.removesuffix('/')}/"
    files = [below(url, file) for file in mesh_names(url)]
    names = [os.path.splitext(file.removeprefix(above))[0] for file in files]  # noqa: PTH122 - keys
    items = [_remote_item(file, own) for file, own in zip(files, names, strict=True)]
    return FaceInputs(items, len(items))


def _face_set_items(source: str, split: str) -> FaceInputs:
    faces = _face_set(source)
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(
            f"{source} has no faces in its {split} split; choose another --split",
            ErrorCode.SPLIT_EMPTY,
        )
    names = faces.labels.names
    items = [
        InputItem(f"{source}: {names[row]}", partial(_face_of_set, source, int(row)), names[row])
        for row in rows
    ]
    return FaceInputs(items, len(rows), ((source, faces),))


def _failed_item(source: str, error: InputError) -> InputItem:
    return InputItem(source, partial(_raise, error))


def _remote_item(url: str, name: str | None) -> InputItem:
    return InputItem(url, _RemoteMeshes(url, name), name or Path(url).stem)


def _mesh_ahead(url: str) -> Callable[[], Mesh]:
    """What reads the mesh of a file that was downloaded, or raises."""
    try:
        check_remote_mesh(url)
        content = _content_ahead(url)
    except InputError as error:
        return partial(_raise, error)
    if content is None:
        return partial(read_mesh, url)
    stream: Any = io.BytesIO(content)
    return partial(decode_mesh, io.BufferedReader(stream), url)  # readers peek


def _content_ahead(url: str) -> bytes | None:
    """The content of a file; None of a large one, which is read when it is used."""
    with naming(url):
        return read_remote(url, _MOST_AHEAD_BYTES)


def _downloaded(item: InputItem) -> InputItem:
    load = item.load
    return item._replace(load=load.downloaded()) if isinstance(load, _RemoteMeshes) else item


# What items load; of the module, since items are pickled.


@dataclass(frozen=True)
class _RemoteMeshes:
    """Reads the meshes of a file by URL, with the name of a single one."""

    url: str
    name: str | None

    def __call__(self) -> Iterator[Mesh]:
        return read_file_meshes(self.url, self.name)

    def downloaded(self) -> Callable[[], Iterable[Mesh]]:
        """The same from memory, or raising; a large file is read when it is used."""
        try:
            content = _content_ahead(self.url)
        except InputError as error:
            return partial(_raise, error)
        if content is None:
            return self
        return partial(decode_file_meshes, content, self.url, self.name)


def _raise(error: InputError) -> Any:
    raise error


def _single(mesh: Mesh, source: str) -> list[Mesh]:
    with naming(source):
        check_finite(mesh.vertices)
    return [mesh]


def _named_mesh(path: Path, name: str) -> list[Mesh]:
    # formats of raw scans are here only where they were asked for
    return [replace(read_scan(path), name=name)]


def _scan(source: str, name: str | None) -> list[Mesh]:
    scan = read_scan(source)
    return [scan if name is None else replace(scan, name=name)]


def _face_of_set(source: str, row: int) -> list[Mesh]:
    faces = _face_set(source)
    (vertices,) = faces.read([row])
    return [Mesh(vertices, faces.triangles, faces.labels.names[row], unit_mm=1.0)]


def _face_set(source: str) -> FaceSet:
    """A face set, loaded once per process and state of its file: each of its items needs it."""
    state = Path(source).stat() if not is_url(source) and is_file(source) else None
    return _loaded(source, state and (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=8)
def _loaded(source: str, state: tuple[int, ...] | None) -> FaceSet:
    return load_face_set(source)
