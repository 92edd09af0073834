"""The faces that a live page mixes: what each is to the model, and where they come from."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.arrays import HEADER, are_latents, faces_of_arrays
from facedis_core.bundle import weights_folder
from facedis_core.decoding import Decoder, sound_rows
from facedis_core.encoding import Encoder, check_face_sets
from facedis_core.errors import InputError
from facedis_core.faces import (
    Item,
    find_faces,
    items_of_stream,
    matches,
    meshes_of_bytes,
    meshes_of_file,
)
from facedis_core.inference import Model
from facedis_core.latents import Latents, LatentSource, open_latents
from facedis_core.mesh import CODECS, Mesh, mesh_files
from facedis_core.metrics import vertex_distances
from facedis_core.paths import is_file
from facedis_core.streams import open_input, read_all
from facedis_core.viewer_payload import to_base64

MAX_PIPE_BYTES: Final = 1 << 30
MAX_FACES: Final = 200  # to choose from; of more, as many evenly_spaced spread


@dataclass(frozen=True, eq=False)
class Face:
    """A face to mix with.

    Attributes:
        latents: one row.
        vertices: (V, 3) mm, what was encoded; of latents what they decode to.
        error: (V,) mm between these and what the model makes of them; None of latents.
        warning: what is doubtful about it, or nothing.
    """

    latents: Latents
    vertices: NDArray[np.float32]
    error: NDArray[np.float32] | None
    warning: str = ""

    def as_json(self) -> dict[str, Any]:
        """Arrays as base64 of little-endian float32."""
        return {
            "name": self.latents.names[0],
            "identity": _floats(self.latents.identity),
            "expression": _floats(self.latents.expression),
            "vertices": _floats(self.vertices),
            "error": None if self.error is None else _floats(self.error),
            "warning": self.warning,
        }


def _floats(values: NDArray[Any]) -> str:
    """Numbers as base64 of little-endian float32."""
    return to_base64(values.astype("<f4"))


def face_of_bytes(encoder: Encoder, content: bytes, name: str) -> Face:
    """The first face in a file that is not here, by the name it has: a mesh, an array, latents.

    Raises:
        InputError: what fd-encode, or fd-decode for latents, would raise for the file.
    """
    if Path(name).suffix.lower() == ".npy" and are_latents(content[:HEADER]):
        blocks = sound_rows(LatentSource(io.BytesIO(content), name), encoder.model, "-")
        rows = next(blocks)
        face, more = _decoded(encoder, rows.take([0])), len(rows) > 1 or _any(blocks)
    else:
        meshes = _meshes(content, name)
        face, more = _encoded(encoder, next(meshes), name), _any(meshes)
    if not more:
        return face
    several = f"{name} holds several faces, of which this is the first"
    return replace(face, warning="; ".join(filter(None, [several, face.warning])))


def _any(more: Iterator[object]) -> bool:
    return next(more, None) is not None


def _meshes(content: bytes, name: str) -> Iterator[Mesh]:
    suffix = Path(name).suffix.lower()
    if suffix not in ("", ".npy", ".stl", *CODECS):  # of .stl there is more to say
        raise InputError(
            f"{name} is no face that a page takes; expected {' '.join(CODECS)} .npy, such as the "
            "latents that fd-encode makes of it"
        )
    if suffix != ".npy":
        return meshes_of_bytes(content, name)
    arrays = faces_of_arrays(io.BytesIO(content), name, None)
    return (replace(mesh, name=Path(name).stem) for mesh in arrays)


def mean_face(encoder: Encoder) -> Face:
    """The mean face as one to mix with."""
    model = encoder.model
    return _encoded(encoder, Mesh(model.mean_face, model.triangles, "mean face", 1.0), "mean face")


def example_faces(encoder: Encoder) -> list[Face]:
    """The faces that are installed with the commands; none where they do not fit the model."""
    files = [str(path) for path in mesh_files(weights_folder() / "examples")]
    meshes = [(path, mesh) for path in files for mesh in meshes_of_file(path)]
    try:
        return [_encoded(encoder, mesh, path) for path, mesh in meshes]
    except InputError:
        return []


def chosen_faces(encoder: Encoder, inputs: Sequence[str]) -> tuple[list[Face], int]:
    """The faces behind what a user names, MAX_FACES at most, and how many there are.

    Args:
        encoder: says what they are to its model.
        inputs: files of latents, or whatever `find_faces` takes.

    Raises:
        InputError: one cannot be read or does not fit the model; what `find_faces` raises.
    """
    found: list[Item | Latents] = []
    meshes: list[str] = []
    for name in (source for given in inputs for source in matches(given)):
        if name == "-":
            found += _piped(encoder.model)
        elif _holds_latents(name):
            with open_latents(name) as source:
                found += _rows(source, encoder.model)
        else:
            meshes.append(name)
    faces = find_faces(meshes)
    if not encoder.trust_order:
        check_face_sets(faces, encoder.model)
    found += faces.items
    loaded = [face for one in _spread(found) for face in _faces_of(encoder, one)]
    return _spread(loaded), max(len(found), len(loaded))


def _piped(model: Model) -> list[Item] | list[Latents]:
    """Meshes, arrays or latents on standard input, all of it: a page shows them again and again."""
    content = read_all("-", MAX_PIPE_BYTES, "faces for a page")
    if are_latents(content):
        return _rows(LatentSource(io.BytesIO(content), "-"), model)
    return list(items_of_stream(io.BytesIO(content), "-"))


def _rows(source: LatentSource, model: Model) -> list[Latents]:
    """Row by row: small, where the faces that they decode to are not."""
    return [rows.take([row]) for rows in sound_rows(source, model, "-") for row in range(len(rows))]


def _holds_latents(name: str) -> bool:
    if not (name.lower().endswith(".npy") and is_file(name)):
        return False
    with open_input(name) as stream:
        return are_latents(stream.read(HEADER))


def _spread(items: list[Any]) -> list[Any]:
    """All, or as many as there may be at even distances: those of a set come person by person."""
    if len(items) <= MAX_FACES:
        return items
    return [items[i * len(items) // MAX_FACES] for i in range(MAX_FACES)]


def _faces_of(encoder: Encoder, one: Item | Latents) -> list[Face]:
    if isinstance(one, Latents):
        return [_decoded(encoder, one)]
    return [_encoded(encoder, mesh, one.source) for mesh in one.load()]


def _encoded(encoder: Encoder, mesh: Mesh, source: str) -> Face:
    vertices, warning = encoder.prepared(mesh, source)
    latents = encoder.model.encode(vertices[None], [mesh.name])
    (made,) = encoder.model.decode(latents.identity, latents.expression)
    error = vertex_distances(vertices, made)
    return Face(latents, vertices, error.astype(np.float32), warning)


def _decoded(encoder: Encoder, latents: Latents) -> Face:
    return Face(latents, Decoder(encoder.model).face(latents, 0, "full"), None)
