"""Encoding of meshes to latents, block by block."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from facedis_core.data.face_set import check_topology
from facedis_core.data.history import made_by
from facedis_core.data.latents import Latents, concatenate
from facedis_core.data.preparation import Align
from facedis_core.data.topology_map import PlacedRig, TopologyMap
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.paths import check_name
from facedis_core.io.streams import naming
from facedis_core.mesh.mesh import Mesh, is_mesh_source
from facedis_core.model.model import Model, PreparedFace
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.inputs import FaceInputs, InputItem, find_inputs, read_ahead_items
from facedis_core.pipeline.parallel import Workers, in_order

BLOCK_FACES: Final = 16  # faces encoded at once


@dataclass(frozen=True)
class EncodedBlock:
    """The result of encoding some items.

    Attributes:
        items: number of items.
        latents: latents of the encoded meshes, in order.
        warnings: lines about doubtful faces.
        failures: items that could not be encoded.
        mapped: number of meshes that were of the rig of the map.
    """

    items: int
    latents: Latents
    warnings: list[str]
    failures: list[Failure]
    mapped: int = 0


@dataclass(frozen=True)
class MeshEncoder:
    """Prepares and encodes meshes; picklable for workers.

    Attributes:
        model: the model, with the preparation of raw meshes.
        units: unit of meshes that do not declare one.
        align: alignment of raw meshes.
        trust_order: accept a different triangulation; the vertex order must match.
        force_encode: encode meshes that are too far from the mean face.
        keep_going: skip items that cannot be encoded.
        topology_map: takes meshes of another topology to that of the model; None = there are none.

    Raises:
        InputError: the map is for a model of another topology.
    """

    model: Model
    units: Units = "auto"
    align: Align = "auto"
    trust_order: bool = False
    force_encode: bool = False
    keep_going: bool = False
    topology_map: TopologyMap | None = None

    def __post_init__(self) -> None:
        if self.topology_map is not None:
            check_map(self.topology_map, self.model)

    def __call__(self, items: Sequence[InputItem]) -> EncodedBlock:
        """Read and encode some items.

        Raises:
            InputError: without `keep_going`: unreadable, or errors of `prepared`.
        """
        rows: list[Latents] = []
        warnings: list[str] = []
        failures: list[Failure] = []
        mapped = 0
        for item in read_ahead_items(items):
            try:
                for mesh in item.load():
                    try:
                        with naming(item.source):  # fd-decode makes a file of it
                            check_name(mesh.name)
                        vertices, warning = self.prepared(mesh, item.source)
                        mapped += self._is_mapped(mesh)
                    except InputError as error:
                        if not self.keep_going:
                            raise
                        failures.append(Failure.of(item.source, error))
                        continue  # the file may have further meshes
                    warnings += [*mesh.warnings, *([warning] if warning else ())]
                    rows.append(self.model.encode_prepared(vertices[None], [mesh.name]))
            except InputError as error:
                if not self.keep_going:
                    raise
                failures.append(Failure.of(item.source, error))
        rows = rows or [no_latents(self.model)]
        return EncodedBlock(len(items), concatenate(rows), warnings, failures, mapped)

    @property
    def facts(self) -> list[Any]:
        """Everything beside the meshes that decides the latents, as values for JSON."""
        map_id = None if self.topology_map is None else self.topology_map.id
        options = self.units, self.align, self.trust_order, self.force_encode, self.keep_going
        return [self.model.id, *options, map_id]

    def prepared(self, mesh: Mesh, source: str) -> PreparedFace:
        """The prepared vertices of a mesh, and a warning or "".

        Raises:
            InputError: errors of `Model.prepare`; the message begins with `source`.
        """
        try:
            return self.model.prepared(
                self._mapped(mesh),
                units=self.units,
                align=self.align,
                trust_order=self.trust_order,
                force_encode=self.force_encode,
            )
        except InputError as error:
            text, own = str(error), f"{mesh.name} "
            if error.code == ErrorCode.FAR_FACE:
                raise InputError(f"{source}: {text}", error.code) from None
            text += f" (model {self.model.source}, {made_by(self.model.history)})"
            if text.startswith(own) and Path(source).stem == Path(mesh.name).name:
                text = f"{source} {text.removeprefix(own)}"  # the name once
            else:
                text = f"{source}: {text}"
            raise InputError(text, error.code) from None

    def _is_mapped(self, mesh: Mesh) -> bool:
        return self.topology_map is not None and needs_map(mesh, self.topology_map, self.model)

    def _mapped(self, mesh: Mesh) -> Mesh:
        """The mesh in the model's topology, if it is of the rig of the map."""
        rig = placed_rig(
            mesh, self.topology_map, self.model, units=self.units, trust_order=self.trust_order
        )
        return mesh if rig is None else rig.face(mesh.name)


def no_latents(model: Model) -> Latents:
    """Latents of a model without rows."""
    return model.encode_prepared(np.empty((0, *model.mean_face.shape), np.float32))


def placed_rig(
    mesh: Mesh, topology_map: TopologyMap | None, model: Model, *, units: Units, trust_order: bool
) -> PlacedRig | None:
    """A mesh as the rig of a map; None where there is no map or it has the model's vertices.

    Raises:
        InputError: errors of `TopologyMap.place`.
    """
    if topology_map is None or not needs_map(mesh, topology_map, model):
        return None
    return topology_map.place(mesh, units=units, trust_order=trust_order)


def needs_map(mesh: Mesh, topology_map: TopologyMap, model: Model) -> bool:
    """Whether a mesh can only be of the rig of a map, since it has not the model's vertices."""
    known = model.preparation
    counts = len(known.vertex_index), known.raw_vertices
    return len(mesh.vertices) not in counts or topology_map.fits(mesh)


def warn_of_map(topology_map: TopologyMap | None, used: bool, warn: Callable[[str], None]) -> None:
    """Warn where there is a map that was not used."""
    if topology_map is not None and not used:
        warn(
            f"--map {topology_map.source or topology_map.id} was not used: no mesh has the "
            f"{len(topology_map.rig)} vertices of its rig, all have those of the model; leave it "
            "out, or give meshes of the rig"
        )


def check_map(found: TopologyMap, model: Model) -> None:
    """Raise InputError if a map leads to another topology than those that a model takes."""
    topologies = [model.topology, model.preparation.raw_topology]
    if found.topology not in topologies:
        raise InputError(
            f"map {found.source or found.id} leads to topology {found.topology}, model "
            f"{model.source} takes {' or '.join(dict.fromkeys(topologies))}; make a map with "
            "fd-map -m of this model",
            ErrorCode.WRONG_MODEL,
        )


def encode_blocks(
    encoder: MeshEncoder, items: Iterable[InputItem], *, jobs: Workers = 1, size: int = BLOCK_FACES
) -> Iterator[EncodedBlock]:
    """Encode all items in order.

    Args:
        encoder: encodes each block.
        items: items of `find_inputs`.
        jobs: worker processes, as of `in_order`; the latents are the same with any.
        size: number of items per block.

    Raises:
        InputError: errors of `MeshEncoder`, or a worker process was killed.
    """
    # workers read their own files
    remaining = read_ahead_items(items) if jobs == 1 else iter(items)
    blocks = iter(lambda: list(islice(remaining, size)), [])
    return in_order(encoder, blocks, jobs)


@dataclass(frozen=True, eq=False)
class LatentsOfMeshes:
    """Latents of meshes among sources of latents; the model is loaded when the first is met.

    Attributes:
        model: path or bundled name; None = the default.
        warn: called with lines about doubtful faces.
        units, align, trust_order, force_encode, topology_map: as of `MeshEncoder`.
    """

    model: str | None
    warn: Callable[[str], None]
    units: Units = "auto"
    align: Align = "auto"
    trust_order: bool = False
    force_encode: bool = False
    topology_map: TopologyMap | None = None
    _mapped: list[bool] = field(default_factory=list, repr=False)

    @cached_property
    def encoder(self) -> MeshEncoder:
        """Encodes the meshes."""
        return MeshEncoder(
            load_model(self.model),
            units=self.units,
            align=self.align,
            trust_order=self.trust_order,
            force_encode=self.force_encode,
            topology_map=self.topology_map,
        )

    def __call__(self, source: str) -> Latents | None:
        """The latents of a mesh or a folder of meshes; None of any other source.

        Raises:
            InputError: errors of `MeshEncoder`.
        """
        if not is_mesh_source(source):
            return None
        block = self.encoder(list(find_inputs([source]).items))
        for line in block.warnings:
            self.warn(line)
        self._mapped.append(block.mapped > 0)
        return block.latents

    @property
    def used_map(self) -> bool:
        """Whether a mesh was of the rig of the map."""
        return any(self._mapped)


def check_face_sets(
    faces: FaceInputs, model: Model, topology_map: TopologyMap | None = None
) -> None:
    """Check that the face sets among the inputs have a known topology, before any is read.

    Raises:
        InputError: another topology than that of prepared or raw meshes, or of the map's rig.
    """
    topologies = [model.topology, *filter(None, [model.preparation.raw_topology])]
    topologies += [] if topology_map is None else [topology_map.rig_topology]
    label = f"model {model.source} ({made_by(model.history)})"
    for source, face_set in faces.sets:
        check_topology(face_set, source, topologies, label)
