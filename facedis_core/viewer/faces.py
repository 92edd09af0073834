"""Faces of fd-view: read from files, pipes and uploads, and encoded by its model."""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, LatentSource, array_kind, open_latents
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.distances import vertex_distances
from facedis_core.io.npy import peek_header
from facedis_core.io.paths import is_file
from facedis_core.io.streams import naming, open_input, read_all
from facedis_core.mesh.mesh import CODECS, Mesh, mesh_files
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model import Model
from facedis_core.pipeline.decode import LatentDecoder, checked_rows
from facedis_core.pipeline.encode import MeshEncoder, check_face_sets
from facedis_core.pipeline.inputs import (
    InputItem,
    array_items,
    decode_file_meshes,
    expand_pattern,
    find_inputs,
    read_file_meshes,
    stream_items,
)

MAX_PIPE_BYTES: Final = 1 << 30
MAX_FACES: Final = 200  # of more faces, this number is taken, evenly spaced


@dataclass(frozen=True, eq=False)
class ViewerFace:
    """A face with its latents.

    Attributes:
        latents: one row.
        vertices: (V, 3) mm, the encoded mesh, or the decoded latents.
        error: (V,) mm, distances of the mesh to its reconstruction; None for latents.
        warning: a line about a doubtful face, else empty.
    """

    latents: Latents
    vertices: NDArray[np.float32]
    error: NDArray[np.float32] | None
    warning: str = ""

    def as_json(self) -> dict[str, Any]:
        """Arrays as base64 of little-endian float32."""
        return {
            "name": self.latents.names[0],
            "identity": floats_base64(self.latents.identity),
            "expression": floats_base64(self.latents.expression),
            "vertices": floats_base64(self.vertices),
            "error": None if self.error is None else floats_base64(self.error),
            "warning": self.warning,
        }


def floats_base64(values: NDArray[Any]) -> str:
    """Values in C order as base64 of little-endian float32."""
    return b64encode(values.astype("<f4").tobytes()).decode()


class ViewerFaces(NamedTuple):
    """Faces to choose from on the page, and warnings about them."""

    faces: list[ViewerFace]
    warnings: list[str]


def load_faces(encoder: MeshEncoder, inputs: Sequence[str]) -> ViewerFaces:
    """The faces that a user names, or else the bundled examples, and the model's mean face.

    At most MAX_FACES are taken. Bundled examples are left out where they do not fit the model.

    Args:
        encoder: the model, and how meshes are aligned to it.
        inputs: files of latents, or what `find_inputs` takes; `-` = standard input.

    Raises:
        InputError: unreadable input, or faces that do not fit the model.
    """
    warnings = []
    if inputs:
        faces, count = _named_faces(encoder, inputs)
        if len(faces) < count:
            warnings.append(
                f"{count} faces were given; {len(faces)} of them are shown, evenly spaced"
            )
        warnings += [face.warning for face in faces if face.warning]
    else:
        faces = _bundled_faces(encoder)
    model = encoder.model
    mean_face = Mesh(model.mean_face, model.triangles, "mean face", 1.0)
    return ViewerFaces([*faces, _encoded(encoder, mean_face, "mean face")], warnings)


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
        meshes = _meshes(content, name)
        face, more = _encoded(encoder, next(meshes), name), _any(meshes)
    if not more:
        return face
    several = f"{name} has several faces; the first is shown"
    return replace(face, warning="; ".join(filter(None, [several, face.warning])))


def _any(more: Iterator[object]) -> bool:
    return next(more, None) is not None


def _meshes(content: bytes, name: str) -> Iterator[Mesh]:
    suffix = Path(name).suffix.lower()
    if suffix not in ("", ".npy", ".stl", *CODECS):  # the mesh reader explains .stl
        raise InputError(
            f"{name} cannot be opened by fd-view; expected {' '.join(CODECS)} or .npy, such as "
            "latents by fd-encode",
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
        return [_encoded(encoder, mesh, path) for path, mesh in meshes]
    except InputError:
        return []


def _named_faces(encoder: MeshEncoder, inputs: Sequence[str]) -> tuple[list[ViewerFace], int]:
    """The faces of some inputs, at most MAX_FACES, and how many there are."""
    found: list[InputItem | Latents] = []
    meshes: list[str] = []
    for name in (source for given in inputs for source in expand_pattern(given)):
        if name == "-":
            found += _piped(encoder.model)
        elif _is_latent_file(name):
            with open_latents(name) as source:
                found += _rows(source, encoder.model)
        else:
            meshes.append(name)
    faces = find_inputs(meshes)
    if not encoder.trust_order:
        check_face_sets(faces, encoder.model)
    found += faces.items
    loaded = [face for one in _spread(found) for face in _faces_of(encoder, one)]
    return _spread(loaded), max(len(found), len(loaded))


def _piped(model: Model) -> list[InputItem] | list[Latents]:
    """Meshes, vertex arrays or latents on standard input, all held in memory."""
    content = read_all("-", MAX_PIPE_BYTES, "faces for fd-view")
    if _holds_latents(io.BytesIO(content), "-"):
        return _rows(LatentSource(io.BytesIO(content), "-"), model)
    return list(stream_items(io.BytesIO(content), "-"))


def _rows(source: LatentSource, model: Model) -> list[Latents]:
    """One row each; they are decoded later, as faces need far more memory."""
    return [
        rows.take([row]) for rows in checked_rows(source, model, "-") for row in range(len(rows))
    ]


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
    return [_encoded(encoder, mesh, one.source) for mesh in one.load()]


def _encoded(encoder: MeshEncoder, mesh: Mesh, source: str) -> ViewerFace:
    vertices, warning = encoder.prepared(mesh, source)
    latents = encoder.model.encode_prepared(vertices[None], [mesh.name])
    (made,) = encoder.model.decode_vectors(latents.identity, latents.expression)
    error = vertex_distances(vertices, made)
    warning = "; ".join(filter(None, [*mesh.warnings, warning]))
    return ViewerFace(latents, vertices, error.astype(np.float32), warning)


def _decoded(encoder: MeshEncoder, latents: Latents) -> ViewerFace:
    return ViewerFace(latents, LatentDecoder(encoder.model).face(latents, 0, "full"), None)
