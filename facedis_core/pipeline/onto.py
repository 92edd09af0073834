"""Decoded faces put onto original mesh files: vertices move, everything else stays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents
from facedis_core.data.preparation import Align, PlacedFace
from facedis_core.data.regions import REGIONS
from facedis_core.data.topology_map import PlacedRig, TopologyMap
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.extension import Extension, head_extension
from facedis_core.io.csv_text import brief
from facedis_core.io.paths import below, is_folder
from facedis_core.io.streams import naming
from facedis_core.io.text import shown
from facedis_core.mesh.mesh import is_mesh_source, mesh_names
from facedis_core.mesh.original import Normals, Original, check_original_suffix, read_original
from facedis_core.model.bundled import DEFAULT_MODEL
from facedis_core.model.model import Model, Part
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.decode import LatentDecoder
from facedis_core.pipeline.encode import check_map, placed_rig

PAIR: Final = "__"  # between the names of identity and expression
_RIDGE: Final = 1e-6  # relative to the mean square of a direction


@dataclass(frozen=True)
class Originals:
    """The original files of decoded faces.

    Attributes:
        source: one file, which is the original of every face, or a folder.
        by_name: the files of a folder by their names, which are paths below it without suffix.
        of_pairs: all faces are named `<identity>__<expression>`, so that a file of the whole name,
            such as an earlier result, is not the original.
    """

    source: str
    by_name: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    of_pairs: bool = False

    def format_for(self, output: str) -> str:
        """The format to write to an output pattern: the one that it names, else that of the files.

        Raises:
            UsageError: it names none, and the files have several.
        """
        files = [file for files in self.by_name.values() for file in files] or [self.source]
        formats = sorted({Path(file).suffix.lower() for file in files})
        if len(formats) == 1:
            return formats[0]
        named = "" if is_folder(output) else Path(output).suffix.lower()
        if named not in formats:
            raise UsageError(
                f"{shown(self.source)} has files {' '.join(formats)}; say which to write, such as "
                f"-o 'dir/{{name}}{formats[0]}'",
                ErrorCode.OUTPUT_PATTERN,
            )
        check_original_suffix(named, self.source)
        return named

    def of(self, name: str, suffix: str) -> str:
        """The original of a face: the file of its name, or of its identity's.

        Args:
            name: of the face; `<identity>__<expression>` after a transfer.
            suffix: format of the file; "" = any.

        Raises:
            InputError: none, or one of another format, or of any format several.
        """
        if not self.by_name:
            return self.source
        parts = name.split(PAIR)
        most = len(parts) - self.of_pairs
        for candidate in (PAIR.join(parts[:count]) for count in range(most, 0, -1)):
            files = self.by_name.get(candidate, ())
            if not suffix and len(files) > 1:
                raise InputError(
                    f"{' and '.join(map(shown, files))} may both be the original of "
                    f"{brief(name)}; give one of them, or put the other elsewhere",
                    ErrorCode.NAME_DUPLICATE,
                )
            for file in files:
                if suffix in ("", Path(file).suffix.lower()):
                    return file
            if files:
                raise InputError(
                    f"the original of {brief(name)} is {shown(files[0])}, but {suffix} is written; "
                    "write the formats one by one, such as -o 'dir/{name}.obj'",
                    ErrorCode.PARTNER_MISSING,
                )
        raise InputError(
            f"{shown(self.source)} has no file for {brief(name)}; expected one of its name or of "
            "its identity's, before the __",
            ErrorCode.PARTNER_MISSING,
        )


def find_originals(source: str, *, of_pairs: bool = False) -> Originals:
    """The originals that `--onto` names: a file or a folder; `of_pairs` as of `Originals`.

    Raises:
        InputError: a folder without meshes, or a format in which vertices cannot be replaced.
        UsageError: neither a mesh nor a folder.
    """
    if not is_mesh_source(source):
        raise UsageError(
            f"{shown(source)} is no mesh that a face can be written onto; give a mesh or a folder "
            "of meshes, or leave out --onto",
            ErrorCode.OPTION_VALUE,
        )
    if not is_folder(source):
        check_original_suffix(Path(source).suffix, source)
        return Originals(source)
    by_name: dict[str, tuple[str, ...]] = {}
    for file in mesh_names(source):
        name = str(PurePosixPath(file).with_suffix(""))
        by_name[name] = (*by_name.get(name, ()), below(source, file))
    return Originals(source, by_name, of_pairs)


@dataclass(frozen=True, eq=False)
class PlacedOriginal:
    """An original in the model's frame.

    Attributes:
        file: the mesh file.
        placed: its face as the model sees it.
        own: what the model makes of that face, float32 (V, 3) mm.
        rest: moves the vertices that the model does not have; None = it has all.
        rig: the original in the topology of a map's rig, of which `placed` is the face; None = it
            has the topology of the model.
    """

    file: Original
    placed: PlacedFace
    own: NDArray[np.float32]
    rest: "RestOfHead | None"
    rig: PlacedRig | None = None

    @property
    def unit_mm(self) -> float:
        """Millimetres per unit of the file."""
        return self.placed.unit_mm if self.rig is None else self.rig.unit_mm

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3), from the model's frame, y up and looking along z, to that of the file."""
        turned: NDArray[np.float64] = self.placed.rotation
        return turned if self.rig is None else self.rig.rotation @ turned

    def offsets_in_file(self, offsets: NDArray[Any]) -> NDArray[np.float64]:
        """Offsets (R, 3) of all vertices of the file, in its unit, from (V, 3) mm of the face."""
        if self.rest is not None:
            offsets = self.rest.displacements(offsets)
        elif self.placed.rows is not None:
            offsets = offsets[np.argsort(self.placed.rows)]
        offsets = self.placed.offsets_in_mesh(offsets)
        return offsets if self.rig is None else self.rig.offsets_in_mesh(offsets)


@dataclass(frozen=True, eq=False)
class RestOfHead:
    """Moves the vertices of a raw mesh that a model does not have; all in the model's frame.

    Where a bundled model has all vertices of that topology, its expressions are fitted to the
    displacements of the face and carry jaw, teeth and lids along, ever less on head and neck,
    which they know badly; what they miss of the face, and everything in other topologies, is
    extended by geometry.

    Attributes:
        extension: for this mesh, from the face.
        expressions: (E, R, 3) expression directions of the bundled model; None = no such model.
        share: (R,) of them that each vertex follows.
    """

    extension: Extension
    expressions: NDArray[np.float32] | None
    share: NDArray[np.float64]

    def displacements(self, known: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements (R, 3) mm of all vertices from those (V, 3) of the face."""
        if self.expressions is None:
            return self.extension.apply(known)
        seen, second = self._system
        weights = np.linalg.solve(second, seen @ known.ravel())
        carried = np.tensordot(weights, self.expressions, 1)
        missed = self.extension.apply(known - carried[self.extension.known])
        return self.share[:, None] * carried + missed

    @cached_property
    def _system(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The directions at the face (E, 3 V), and their normal equations (E, E)."""
        assert self.expressions is not None
        count = len(self.expressions)
        seen = self.expressions[:, self.extension.known].reshape(count, -1).astype(np.float64)
        second = seen @ seen.T
        return seen, second + _RIDGE * np.trace(second) / count * np.eye(count)


@dataclass(frozen=True)
class OntoDecoder(LatentDecoder):
    """Decodes latents onto original files; picklable for workers.

    With `detail` a face is the original plus decode(latents) - decode(its own latents), so that
    what the model cannot represent stays: pores, asymmetries, the exact shape of the person.

    Attributes:
        originals: the files.
        detail: keep what the model misses of the original; else the decoded face itself.
        normals: turn stored normals with the surface, or leave them out.
        units, align, trust_order: as for fd-encode.
        topology_map: takes faces to originals of another topology; None = there are none.

    Raises:
        InputError: the map is for a model of another topology.
    """

    originals: Originals = field(default_factory=lambda: Originals(""))
    detail: bool = True
    normals: Normals = "update"
    units: Units = "auto"
    align: Align = "auto"
    trust_order: bool = False
    topology_map: TopologyMap | None = None
    _last: dict[str, PlacedOriginal] = field(default_factory=dict, repr=False, compare=False)
    _mapped: list[bool] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.topology_map is not None:
            check_map(self.topology_map, self.model)

    def content(self, rows: Latents, row: int, part: Part, suffix: str) -> bytes:
        """The original of a row with the vertices of its face.

        Raises:
            InputError: errors of `vertices`.
        """
        moved = self.vertices(rows, row, part, suffix)
        return self.original(rows.names[row], suffix).file.moved(moved, self.normals)

    def vertices(self, rows: Latents, row: int, part: Part, suffix: str) -> np.ndarray:
        """All vertices of the original of a row, moved, in its unit and pose.

        Raises:
            InputError: no original, an unusable one, or latents that cannot be decoded.
        """
        original = self.original(rows.names[row], suffix)
        face = self.face(rows, row, part).astype(np.float64)
        offsets = face - (original.own if self.detail else original.placed.vertices)
        return original.file.mesh.vertices + original.offsets_in_file(offsets)

    def original(self, name: str, suffix: str = "") -> PlacedOriginal:
        """The original of a face, in a format or any.

        Raises:
            InputError: none, or an unusable one.
        """
        source = self.originals.of(name, suffix)
        if source not in self._last:
            self._last.clear()
            self._last[source] = place_original(self, read_original(source))
            self._mapped.append(self._last[source].rig is not None)
        return self._last[source]

    @property
    def used_map(self) -> bool:
        """Whether an original that this process has read was of the rig of the map."""
        return any(self._mapped)


def place_original(decoder: OntoDecoder, file: Original) -> PlacedOriginal:
    """An original as the model of a decoder sees it.

    Raises:
        InputError: errors of `Preparation.apply`.
    """
    model: Model = decoder.model
    mesh = replace(file.mesh, name="")
    with naming(file.source):
        rig = placed_rig(
            mesh, decoder.topology_map, model, units=decoder.units, trust_order=decoder.trust_order
        )
        mesh = mesh if rig is None else rig.face()
        placed = model.preparation.place(
            mesh,
            model.mean_face,
            units=decoder.units,
            align=decoder.align,
            trust_order=decoder.trust_order,
        )
        own = model.encode_prepared(placed.vertices[None])
        (face,) = model.decode_vectors(own.identity, own.expression)
    rest = None
    if placed.rows is not None and len(placed.rows) < len(mesh.vertices):
        points = placed.from_mesh(mesh.vertices)
        extension = head_extension(points, mesh.triangles, placed.rows)
        topology = model.preparation.raw_topology
        share = _share_of_head(points, mesh.triangles, topology)
        rest = RestOfHead(extension, expressions_of_head(topology), share)
    return PlacedOriginal(file, placed, face, rest, rig)


def _share_of_head(
    points: NDArray[np.floating[Any]], triangles: NDArray[np.int32], raw_topology: str
) -> NDArray[np.float64]:
    """Shares (R,) of 1, which fade on head and neck with the distance from the whole face."""
    share = np.ones(len(points))
    regions = REGIONS.get(raw_topology)
    if regions is not None:
        face, head = regions["full-face"], regions["head"]
        faded = head_extension(points, triangles, np.arange(face)).apply(np.ones((face, 3)))
        share[face:head] = faded[face:head, 0]
    return share


@lru_cache(maxsize=1)
def expressions_of_head(raw_topology: str) -> NDArray[np.float32] | None:
    """Expression directions (E, R, 3) of the bundled model for all vertices of raw meshes.

    None where it is of another topology.
    """
    model = load_model(DEFAULT_MODEL)
    known = model.preparation
    if known.raw_topology != raw_topology or len(known.vertex_index) < known.raw_vertices:
        return None
    identity = np.zeros((model.config.expression, model.config.identity), np.float32)
    expression = np.eye(model.config.expression, dtype=np.float32)
    directions = model.decode_vectors(identity, expression, "expression", offsets=True)
    return directions[:, np.argsort(known.vertex_index)]
