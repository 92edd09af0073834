"""A folder of meshes of another rig, taken to a model's topology by a map."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.data.topology_map import TopologyMap
from facedis_core.data.units import Units
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.source import FaceBlock, Warn
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.inputs import meshes_ahead


@dataclass(frozen=True, eq=False)
class MappedReader:
    """Reads meshes of a rig as faces of a model.

    Attributes:
        files: (N,) paths or URLs, in the order of the labels.
        preparation: of the faces.
        topology_map: from the rig.
        units: unit of meshes that do not declare one.
        mean_face: (V, 3) mm of the `--like` file.
    """

    files: Sequence[str]
    preparation: Preparation
    topology_map: TopologyMap
    units: Units
    mean_face: NDArray[np.float32] | None

    def read(self, rows: Sequence[int]) -> FaceBlock:
        """The faces (n, V, 3) mm of `rows`."""
        faces = np.full((len(rows), len(self.preparation.vertex_index), 3), np.nan, np.float32)
        failures: dict[int, InputError] = {}
        loading = meshes_ahead([self.files[row] for row in rows])
        for k, (row, read) in enumerate(zip(rows, loading, strict=True)):
            try:
                mesh = replace(read(), name=self.files[row])  # errors name the file
                face = self.topology_map.to_face(mesh, units=self.units)
                faces[k] = self.preparation.apply(face, self.mean_face, align="none")
            except InputError as error:
                failures[row] = error
        return FaceBlock(faces, measured=np.empty((len(rows), 0)), failures=failures)


@dataclass(frozen=True, eq=False)
class MappedSource(MeshFileSource):
    """A folder of meshes of a rig; none has been read.

    Attributes:
        topology_map: from the rig to the topology of the faces.
    """

    topology_map: TopologyMap | None = None

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """That of the default model where the map leads to its topology, else all vertices."""
        known = load_model().preparation
        if self._map.topology in (known.topology, known.raw_topology):
            return known
        count = len(self._map.face)
        return Preparation(
            triangles=self._map.triangles,
            vertex_index=np.arange(count, dtype=np.int32),
            raw_vertices=count,
            raw_topology=self._map.topology,
            raw_unit_mm=1.0,
            alignment=self.align,
        )

    def reader(  # type: ignore[override]  # meshes are mapped, not read in order
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> MappedReader:
        """The reader of all files; InputError where the faces have another topology."""
        if self._map.topology not in (preparation.topology, preparation.raw_topology):
            raise InputError(
                f"map {self._map.source or self._map.id} leads to topology {self._map.topology}, "
                f"--like takes {preparation.raw_topology}; make a map with fd-map -m of its model",
                ErrorCode.TOPOLOGY,
            )
        return MappedReader(self.paths, preparation, self._map, self.units, mean_face)

    @property
    def _map(self) -> TopologyMap:
        assert self.topology_map is not None  # a default, since fields of the base class have some
        return self.topology_map


def mapped(source: MeshFileSource, topology_map: TopologyMap) -> MappedSource:
    """A folder whose meshes are taken to the topology that a map leads to.

    Raises:
        UsageError: the set would have fewer vertices, which a map does not choose.
    """
    if source.simplify is not None:
        raise UsageError(
            "--simplify chooses vertices of the meshes, --map leads to other ones; leave out one, "
            "or give --like a model of fewer vertices",
            ErrorCode.OPTION_CONFLICT,
        )
    values: dict[str, Any] = {f.name: getattr(source, f.name) for f in fields(source)}
    return MappedSource(
        **{**values, "inputs": {**source.inputs, "map": topology_map.id}}, topology_map=topology_map
    )
