"""From meshes of many kinds of input to latents and back, in constant memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import SPLITS, load_face_set
from facedis_core.inference import Model, Part
from facedis_core.latents import Latents, concatenate
from facedis_core.mesh import Mesh, mesh_files, read_mesh, read_meshes
from facedis_core.paths import is_folder
from facedis_core.preparation import Align, Units
from facedis_core.streams import open_input

_BLOCK = 16  # faces in memory at once
REFUSED_REACH = 3.0  # times the reach of the training faces

LoadMesh = Callable[[], Mesh]


@dataclass(frozen=True)
class Faces:
    """Meshes of one or several inputs, each read when it is called for.

    Attributes:
        items: one function a mesh; an item that cannot be read raises when called.
        count: how many there are; None = a pipe does not say.
    """

    items: Iterable[LoadMesh]
    count: int | None


def find_faces(inputs: Sequence[str], split: str = "all", *, keep_going: bool = False) -> Faces:
    """What lies behind the inputs: meshes, folders, face sets, `-` for standard input.

    Nothing is read yet but directories and the headers of face sets.

    Args:
        inputs: paths, or `-`.
        split: `train`, `test` or `validation` takes only these faces of face sets; `all`.
        keep_going: an input that cannot be used is an item that raises, like a broken mesh.

    Raises:
        UsageError: standard input twice, or a split where no face set is.
        InputError: an empty folder, a broken face set, a split without faces.
    """
    if list(inputs).count("-") > 1:
        raise UsageError("standard input (-) is named twice; it can be read once")
    sets = [source for source in inputs if _is_face_set(source)]
    if split != "all" and not sets:
        raise UsageError(f"--split {split} needs a face set (.safetensors) among the inputs")
    parts = [_find(source, split, keep_going) for source in inputs]
    counts = [part.count for part in parts if part.count is not None]
    return Faces(
        items=(item for part in parts for item in part.items),
        count=sum(counts) if len(counts) == len(parts) else None,
    )


def _is_face_set(source: str) -> bool:
    return Path(source).suffix.lower() == ".safetensors"


def _find(source: str, split: str, keep_going: bool) -> Faces:
    try:
        if source == "-":
            return Faces(_piped_meshes(), None)
        if is_folder(source):
            return _folder_meshes(Path(source))
        if _is_face_set(source):
            return _face_set_meshes(source, split)
    except InputError as error:
        if not keep_going:
            raise
        return Faces([partial(_failed, error)], 1)
    return Faces([partial(read_mesh, source)], 1)


def _piped_meshes() -> Iterator[LoadMesh]:
    """The meshes of standard input; what breaks the stream is the last item."""
    try:
        with open_input("-") as stream:
            for mesh in read_meshes(stream):
                yield partial(_given, mesh)
    except InputError as error:
        yield partial(_failed, error)


def _given(mesh: Mesh) -> Mesh:
    return mesh


def _failed(error: InputError) -> Mesh:
    raise error


def _folder_meshes(folder: Path) -> Faces:
    def read(path: Path) -> Mesh:
        name = path.relative_to(folder).with_suffix("").as_posix()
        return replace(read_mesh(path), name=name)

    files = mesh_files(folder)
    return Faces([partial(read, path) for path in files], len(files))


def _face_set_meshes(source: str, split: str) -> Faces:
    faces = load_face_set(source)
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(f"{source} has no faces in its {split} split; choose another --split")

    def read(row: int) -> Mesh:
        (vertices,) = faces.read([row])
        return Mesh(vertices, faces.triangles, faces.labels.names[row], unit_mm=1.0)

    return Faces([partial(read, int(row)) for row in rows], len(rows))


def encode_faces(
    model: Model,
    items: Iterable[LoadMesh],
    *,
    units: Units = "auto",
    align: Align = "auto",
    trust_order: bool = False,
    far_faces: bool = False,
    warn: Callable[[str], None] | None = None,
    skip: Callable[[InputError], None] | None = None,
) -> Latents | None:
    """Latents of all items that could be encoded, in order; None where there were none.

    Args:
        model: encodes prepared faces; its preparation takes raw meshes there.
        items: as `find_faces` gives them.
        units: as in `Preparation.apply`.
        align: likewise.
        trust_order: likewise.
        far_faces: also encode what is beyond three times the reach of the training faces.
        warn: called with a line about a face that is doubtful.
        skip: called with the error of an item that is left out; None raises it.

    Raises:
        InputError: an item cannot be read, does not fit the model or is far from any face.
    """

    def prepared(mesh: Mesh) -> np.ndarray:
        vertices = model.preparation.apply(
            mesh, model.mean_face, units=units, align=align, trust_order=trust_order
        )
        distance = float(model.distance_to_mean(vertices[None])[0])
        found = beyond_reach(mesh.name or "mesh", distance, model.reach_mm)
        if found and distance > REFUSED_REACH * model.reach_mm and not far_faces:
            raise InputError(f"{found}; check --units and --align, or pass --force-encode")
        if found and warn is not None:
            warn(f"{found}; its latents are doubtful")
        return vertices

    blocks: list[Latents] = []
    names: list[str] = []
    faces = np.empty((_BLOCK, *model.mean_face.shape), np.float32)
    for item in items:
        try:
            mesh = item()
            faces[len(names)] = prepared(mesh)
        except InputError as error:
            if skip is None:
                raise
            skip(error)
            continue
        names.append(mesh.name)
        if len(names) == _BLOCK:
            blocks.append(model.encode(faces, names))
            names = []
    if names:
        blocks.append(model.encode(faces[: len(names)], names))
    return concatenate(blocks) if blocks else None


def beyond_reach(name: str, distance: float, reach_mm: float) -> str:
    """What to say of a face farther from the mean face than any training face, else nothing.

    Much farther, by REFUSED_REACH, it is no face to the model.
    """
    if distance <= reach_mm:
        return ""
    return (
        f"{name} lies {distance:.3g} mm from the mean face, "
        f"the training faces {reach_mm:.3g} mm at most"
    )


def decode_faces(
    model: Model, latents: Latents, part: Part = "full", *, offsets: bool = False
) -> Iterator[Mesh]:
    """The faces of all rows, in mm, in order and in constant memory.

    Args:
        model: must be the one that encoded them.
        latents: N rows.
        part: as in `Model.decode`.
        offsets: likewise.

    Raises:
        InputError: latents of another model or size.
    """
    latents.check_model(model.id, model.source)
    for start in range(0, len(latents), _BLOCK):
        rows = slice(start, start + _BLOCK)
        faces = model.decode(
            latents.identity[rows], latents.expression[rows], part, offsets=offsets
        )
        for vertices, name in zip(faces, latents.names[rows], strict=True):
            yield Mesh(vertices, model.triangles, name, unit_mm=1.0)
