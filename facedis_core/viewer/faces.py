"""Faces of fd-view: read from files, pipes and uploads, and encoded by its model."""

import io
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, LatentSource, array_kind, open_latents
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.distances import vertex_distances
from facedis_core.io.npy import peek_header
from facedis_core.io.paths import absolute, is_file, is_folder
from facedis_core.io.streams import naming, open_input
from facedis_core.mesh.mesh import CODECS, Mesh, mesh_files
from facedis_core.mesh.original import Original
from facedis_core.mesh.scan_formats import SCAN_FORMATS
from facedis_core.model.bundled import weights_folder
from facedis_core.pipeline.decode import LatentDecoder, checked_rows
from facedis_core.pipeline.encode import MeshEncoder, check_face_sets
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.file_lists import expand_pattern
from facedis_core.pipeline.file_meshes import decode_file_meshes, read_file_meshes
from facedis_core.pipeline.inputs import (
    InputItem,
    array_items,
    distinct_depth,
    find_each_input,
    stream_items,
)
from facedis_core.render.page_surface import to_base64

ORIGINALS: Final = (".obj", ".ply")  # in which vertices are replaced one by one
MAX_FACES: Final = 200  # of more faces, this number is taken, evenly spaced


@dataclass(frozen=True, eq=False)
class ViewerFace:
    """A face with its latents.

    Attributes:
        latents: one row.
        vertices: (V, 3) mm, the encoded mesh, or the decoded latents.
        error: (V,) mm, distances of the mesh to its reconstruction; None for latents.
        warning: a line about a doubtful face, else empty.
        source: the file that it comes from, as it was given.
        original: the mesh file of the page; None = it may be a file of this machine.
    """

    latents: Latents
    vertices: NDArray[np.float32]
    error: NDArray[np.float32] | None
    warning: str = ""
    source: str = ""
    original: Original | None = None

    @property
    def original_suffix(self) -> str:
        """Format of the file onto which mixtures can be written; "" = none."""
        suffix = Path(self.source).suffix.lower() if self.original is None else self.original.suffix
        found = suffix in ORIGINALS and (self.original is not None or is_file(self.source))
        return suffix if found else ""

    @property
    def name(self) -> str:
        """Name of the face."""
        return self.latents.names[0]

    def as_json(self) -> dict[str, Any]:
        """Arrays as base64 of little-endian float32."""
        return {
            "name": self.name,
            "identity": floats_base64(self.latents.identity),
            "expression": floats_base64(self.latents.expression),
            "vertices": floats_base64(self.vertices),
            "error": None if self.error is None else floats_base64(self.error),
            "warning": self.warning,
            "original": self.original_suffix,
        }


def floats_base64(values: NDArray[Any]) -> str:
    """Values in C order as base64 of little-endian float32."""
    return to_base64(values.astype("<f4"))


class ViewerFaces(NamedTuple):
    """Faces to choose from on the page.

    Attributes:
        faces: in the order of the inputs; the last one is the mean face.
        warnings: lines about them.
        stream_place: number of faces before those of standard input; None = that is no input.
    """

    faces: list[ViewerFace]
    warnings: list[str]
    stream_place: int | None


class _Found(NamedTuple):
    """A face or the faces of a file, not read yet, and the place of the input among all."""

    place: int
    source: str
    item: InputItem | Latents


def load_faces(encoder: MeshEncoder, inputs: Sequence[str]) -> ViewerFaces:
    """The faces that a user names, or else the bundled examples, and the model's mean face.

    At most MAX_FACES are taken. Bundled examples are left out where they do not fit the model.
    Standard input is not read here, but by `arriving_faces`.

    Args:
        encoder: the model, and how meshes are aligned to it.
        inputs: files of latents, or what `find_inputs` takes; `-` = standard input.

    Raises:
        InputError: unreadable input, or faces that do not fit the model.
    """
    model = encoder.model
    mesh = Mesh(model.mean_face, model.triangles, "mean face", 1.0)
    mean_face = replace(encoded_face(encoder, mesh, "mean face"), source=Path(model.source).stem)
    if not inputs:
        return ViewerFaces([*_bundled_faces(encoder), mean_face], [], None)
    sources = [source for given in inputs for source in expand_pattern(given)]
    found = _found_faces(encoder, sources)
    loaded = [
        (one.place, replace(face, source=one.source))
        for one in _spread(found)
        for face in _faces_of(encoder, one.item)
    ]
    given, loaded = max(len(found), len(loaded)), _spread(loaded)
    warnings = [face.warning for _, face in loaded if face.warning]
    if len(loaded) < given:
        shown = f"{given} faces were given; {len(loaded)} of them are shown, evenly spaced"
        warnings.insert(0, shown)
    stream_place = None
    if "-" in sources:
        stream_place = sum(place < sources.index("-") for place, _ in loaded)
    return ViewerFaces([*(face for _, face in loaded), mean_face], warnings, stream_place)


def choice_labels(faces: Sequence[ViewerFace]) -> list[str]:
    """Labels of faces in a list, all different.

    The name of a face; where others have that name, with the end of its file's path that tells the
    files apart, and a number where one file has several.
    """
    paths: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)  # by name and source
    for face in faces:
        paths[face.name][face.source] = absolute(face.source).parts
    depths = {name: distinct_depth(found.values()) for name, found in paths.items()}
    sharing = Counter(face.name for face in faces)
    labels: list[str] = []
    for face in faces:
        label = face.name
        if sharing[label] > 1:
            end = paths[label][face.source][-depths[label] :]
            label += f" ({'/'.join(end)})"
        labels.append(unused(label, labels))
    return labels


def unused(label: str, others: Collection[str]) -> str:
    """The label, with a number if others have it."""
    numbered = (f"{label} {number}" if number > 1 else label for number in count(1))
    return next(one for one in numbered if one not in others)


def face_of_bytes(encoder: MeshEncoder, content: bytes, name: str) -> ViewerFace:
    """The first face of an uploaded file: a mesh, a vertex array or latents, by the file's name.

    Raises:
        InputError: as fd-encode, or fd-decode for latents, would raise for the file.
    """
    if Path(name).suffix.lower() == ".npy" and _holds_latents(io.BytesIO(content), name):
        blocks = checked_rows(LatentSource(io.BytesIO(content), name), encoder.model, "-")
        rows = next(blocks)
        face, more = _decoded(encoder, rows.take([0])), len(rows) > 1 or _any(blocks)
    else:
        meshes = meshes_of_bytes(content, name)
        mesh, more = next(meshes), _any(meshes)
        face = encoded_face(encoder, mesh, name)
        if Path(name).suffix.lower() in ORIGINALS and not more:
            face = replace(face, original=Original(name, mesh, content))
    if not more:
        return face
    several = f"{name} has several faces; the first is shown"
    return replace(face, warning="; ".join(filter(None, [several, face.warning])))


def _any(more: Iterator[object]) -> bool:
    return next(more, None) is not None


def meshes_of_bytes(content: bytes, name: str) -> Iterator[Mesh]:
    """The meshes of an uploaded file: of a mesh format, or rows of vertices.

    Raises:
        InputError: unreadable, or of another kind.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in ("", ".npy", ".stl", *CODECS):  # the mesh reader explains .stl
        raise InputError(
            f"{name} cannot be opened by fd-view; expected {' '.join((*CODECS, *SCAN_FORMATS))} or "
            ".npy, such as latents by fd-encode",
            ErrorCode.UNSUPPORTED,
        )
    if suffix != ".npy":
        return decode_file_meshes(content, name)
    rows = array_items(io.BytesIO(content), name)
    return (replace(mesh, name=Path(name).stem) for row in rows for mesh in row.load())


def _bundled_faces(encoder: MeshEncoder) -> list[ViewerFace]:
    """The example faces that are installed; none where they do not fit the model."""
    files = [str(path) for path in mesh_files(weights_folder() / "examples")]
    meshes = [(path, mesh) for path in files for mesh in read_file_meshes(path)]
    try:
        return [encoded_face(encoder, mesh, path) for path, mesh in meshes]
    except InputError:
        return []


def arriving_faces(encoder: MeshEncoder, stream: BinaryIO) -> Iterator[ViewerFace | str]:
    """The faces of standard input as they come: PLY after PLY, arrays of vertices, or latents.

    Instead of a face that cannot be used comes the reason; others may follow.

    Raises:
        InputError: no more can be read.
    """
    with naming("-"):
        header, stream = peek_header(stream)
        holds_latents = header is not None and array_kind(header) == "latents"
    if not holds_latents:
        for item in stream_items(stream, "-"):
            try:
                yield from _faces_of(encoder, item)
            except InputError as error:
                yield str(error)
        return
    refused: list[Failure] = []
    for rows in checked_rows(LatentSource(stream, "-"), encoder.model, "-", refused.extend):
        yield from (failure.error for failure in refused)
        refused.clear()
        for row in range(len(rows)):
            try:
                yield _decoded(encoder, rows.take([row]))
            except InputError as error:
                yield str(error)


def _found_faces(encoder: MeshEncoder, sources: Sequence[str]) -> list[_Found]:
    """What some files hold, in their order; standard input is left out."""
    files = [(place, source) for place, source in enumerate(sources) if source != "-"]
    latents = {source for _, source in files if _is_latent_file(source)}
    parts = find_each_input([source for _, source in files if source not in latents])
    for part in parts if not encoder.trust_order else ():
        check_face_sets(part, encoder.model)
    meshes = iter(parts)
    found: list[_Found] = []
    for place, source in files:
        if source in latents:
            # one row each; they are decoded later, as faces need far more memory
            with open_latents(source) as opened:
                for rows in checked_rows(opened, encoder.model, "-"):
                    found += [_Found(place, source, rows.take([n])) for n in range(len(rows))]
        else:
            in_folder = is_folder(source)
            for item in next(meshes).items:
                found.append(_Found(place, item.source if in_folder else source, item))
    return found


def _is_latent_file(name: str) -> bool:
    if not (name.lower().endswith(".npy") and is_file(name)):
        return False
    with open_input(name) as stream:
        return _holds_latents(stream, name)


def _holds_latents(stream: BinaryIO, source: str) -> bool:
    with naming(source):
        header, _ = peek_header(stream)
        return header is not None and array_kind(header) == "latents"


def _spread(items: list[Any]) -> list[Any]:
    """All items, or MAX_FACES of them, evenly spaced: those of a set come person by person."""
    if len(items) <= MAX_FACES:
        return items
    return [items[i * len(items) // MAX_FACES] for i in range(MAX_FACES)]


def _faces_of(encoder: MeshEncoder, one: InputItem | Latents) -> list[ViewerFace]:
    if isinstance(one, Latents):
        return [_decoded(encoder, one)]
    return [encoded_face(encoder, mesh, one.source) for mesh in one.load()]


def encoded_face(encoder: MeshEncoder, mesh: Mesh, source: str) -> ViewerFace:
    """A mesh with its latents and the distances to its reconstruction.

    Raises:
        InputError: errors of `MeshEncoder.prepared`.
    """
    vertices, warning = encoder.prepared(mesh, source)
    latents = encoder.model.encode_prepared(vertices[None], [mesh.name])
    (made,) = encoder.model.decode_vectors(latents.identity, latents.expression)
    error = vertex_distances(vertices, made)
    warning = "; ".join(filter(None, [*mesh.warnings, warning]))
    return ViewerFace(latents, vertices, error.astype(np.float32), warning)


def _decoded(encoder: MeshEncoder, latents: Latents) -> ViewerFace:
    return ViewerFace(latents, LatentDecoder(encoder.model).face(latents, 0, "full"), None)
