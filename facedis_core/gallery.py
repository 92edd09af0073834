"""The faces that a live page mixes: what each is to the model, and where they come from."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.bundle import weights_folder
from facedis_core.decoding import Decoder
from facedis_core.encoding import Encoder, check_face_sets
from facedis_core.errors import InputError
from facedis_core.faces import find_faces, meshes_of_bytes
from facedis_core.latents import Latents, LatentSource, open_latents
from facedis_core.mesh import Mesh, mesh_files
from facedis_core.paths import is_file

MOST_FACES: Final = 200  # to choose from; of more, as many evenly spread


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
            "identity": base64_floats(self.latents.identity),
            "expression": base64_floats(self.latents.expression),
            "vertices": base64_floats(self.vertices),
            "error": None if self.error is None else base64_floats(self.error),
            "warning": self.warning,
        }


def base64_floats(values: NDArray[Any]) -> str:
    """Numbers as base64 of little-endian float32."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def faces_of_bytes(encoder: Encoder, content: bytes, name: str) -> Iterator[Face]:
    """The faces in a file that is not here, by the name it has: meshes, or latents (.npy).

    Raises:
        InputError: what fd-encode, or fd-decode for latents, would raise for the file.
    """
    if Path(name).suffix.lower() == ".npy":
        yield from _decoded(encoder, LatentSource(io.BytesIO(content), name))
        return
    for mesh in meshes_of_bytes(content, name):
        yield _encoded(encoder, mesh, name)


def mean_face(encoder: Encoder) -> Face:
    """The mean face as one to mix with."""
    model = encoder.model
    return _encoded(encoder, Mesh(model.mean_face, model.triangles, "mean face", 1.0), "mean face")


def example_faces(encoder: Encoder) -> list[Face]:
    """The faces that are installed with the commands; none where they do not fit the model."""
    faces: list[Face] = []
    with suppress(InputError):
        for path in mesh_files(weights_folder() / "examples"):
            faces += faces_of_bytes(encoder, path.read_bytes(), path.name)
    return faces


def chosen_faces(encoder: Encoder, inputs: Sequence[str]) -> tuple[list[Face], int]:
    """The faces behind what a user names, MOST_FACES at most, and how many there are.

    Args:
        encoder: says what they are to its model.
        inputs: files of latents, or whatever `find_faces` takes.

    Raises:
        InputError: one cannot be read or does not fit the model; what `find_faces` raises.
    """
    found: list[Face] = []
    meshes: list[str] = []
    for name in inputs:
        if _holds_latents(name):
            with open_latents(name) as source:
                found += _decoded(encoder, source)
        else:
            meshes.append(name)
    faces = find_faces(meshes)
    if not encoder.trust_order:
        check_face_sets(faces, encoder.model)
    items = list(faces.items)
    count = len(found) + len(items)
    for item in _spread(items):
        found += [_encoded(encoder, mesh, item.source) for mesh in item.load()]
    return _spread(found), max(count, len(found))


def _holds_latents(name: str) -> bool:
    if not (name.lower().endswith(".npy") and is_file(name)):
        return False
    with open_latents(name) as source:
        return source.sizes is not None


def _spread(items: list[Any]) -> list[Any]:
    """All, or as many as there may be at even distances: those of a set come person by person."""
    if len(items) <= MOST_FACES:
        return items
    return [items[i * len(items) // MOST_FACES] for i in range(MOST_FACES)]


def _encoded(encoder: Encoder, mesh: Mesh, source: str) -> Face:
    vertices, warning = encoder.prepared(mesh, source)
    latents = encoder.model.encode(vertices[None], [mesh.name])
    (made,) = encoder.model.decode(latents.identity, latents.expression)
    error = np.linalg.norm(vertices.astype(np.float64) - made, axis=1)
    return Face(latents, vertices, error.astype(np.float32), warning)


def _decoded(encoder: Encoder, source: LatentSource) -> Iterator[Face]:
    """Rows of latents as faces; InputError where they are not the model's."""
    model = encoder.model
    for block in source.blocks((model.config.identity, model.config.expression)):
        block.check_model(model.id, model.source)
        for row in range(len(block)):
            latents = block.take([row])
            yield Face(latents, Decoder(model).face(latents, 0, "full"), None)
