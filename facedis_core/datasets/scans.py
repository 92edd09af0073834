"""A folder of the user's raw scans, registered to a model's topology and labelled like a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.data.units import Units
from facedis_core.datasets.folder import open_folder
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.source import FaceBlock, Warn
from facedis_core.errors import InputError
from facedis_core.mesh.scan_formats import read_scan
from facedis_core.model.config import LinearConfig
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.completion import complete_head
from facedis_core.registration.prior import RegistrationPrior, prior_of, vertices_of
from facedis_core.registration.registration import find_face

SCANS_PER_BLOCK: Final = 1  # a scan takes seconds


@dataclass(frozen=True, eq=False)
class ScanReader:
    """Reads and registers raw scans.

    Attributes:
        files: (N,) paths or URLs, in the order of the labels.
        preparation: topology of the faces.
        prior: principal components of these faces.
        model: completes heads of which the prior has the face; None = it has all vertices.
        units: unit of scans that do not declare one.
        seed: of random samples.
        force: take faces whose fit or pose is doubtful.
    """

    files: Sequence[str]
    preparation: Preparation
    prior: RegistrationPrior
    model: Model | None
    units: Units
    seed: int
    force: bool = False

    def read(self, rows: Sequence[int]) -> FaceBlock:
        """The registered faces (n, V, 3) mm of `rows`; refused scans are failures."""
        faces = np.full((len(rows), len(self.preparation.vertex_index), 3), np.nan, np.float32)
        failures: dict[int, InputError] = {}
        chosen = vertices_of(self.preparation, self.prior, partly=self.model is not None)
        for k, row in enumerate(rows):
            path = self.files[row]
            try:
                scan = replace(read_scan(path), name=path)
                found = find_face(
                    scan, self.prior, units=self.units, force=self.force, seed=self.seed
                )
                face = found.face[chosen]
                if self.model is not None:
                    face = complete_head(self.model, chosen >= 0, face)
                faces[k] = face
            except InputError as error:
                failures[row] = error
        return FaceBlock(faces, measured=np.empty((len(rows), 0)), failures=failures)


@dataclass(frozen=True, eq=False)
class ScanSource(MeshFileSource):
    """A folder of raw scans; none has been read.

    Attributes:
        seed: of random samples.
        force_register: take faces whose fit or pose is doubtful.
    """

    seed: int = 0
    force_register: bool = False

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """That of the default model."""
        return load_model().preparation

    def reader(  # type: ignore[override]  # scans are registered, not read in order
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> ScanReader:
        """The reader of all scans; InputError where there is no prior for the topology.

        The default model completes heads of its own topology.
        """
        prior = prior_of(preparation)
        default, model = load_model(), None
        if default.topology == preparation.topology and isinstance(default.config, LinearConfig):
            model = default
        # raises where vertices are lacking
        vertices_of(preparation, prior, partly=model is not None)
        return ScanReader(
            self.paths, preparation, prior, model, self.units, self.seed, self.force_register
        )

    def blocks(self) -> Sequence[Sequence[int]]:
        """Rows in order, SCANS_PER_BLOCK at once."""
        return [range(k, k + SCANS_PER_BLOCK) for k in range(0, len(self.files), SCANS_PER_BLOCK)]


def open_scans(
    root: str | Path,
    *,
    pattern: str | None = None,
    labels: str | Path | None = None,
    neutral: str | None = None,
    protocol: str | None = None,
    validation: float | None = None,
    seed: int = 0,
    units: Units | None = None,
    force_register: bool = False,
) -> ScanSource:
    """Raw scans below `root`, labelled by `pattern` or else by the CSV file `labels`.

    Args:
        root: the folder.
        pattern: as for `open_folder`.
        labels: likewise.
        neutral: likewise.
        protocol: as in `protocols.make_split`.
        validation: likewise.
        seed: of the split and of random samples.
        units: unit of scans that do not declare one; None = by their size.
        force_register: take faces whose fit or pose is doubtful.

    Raises:
        UsageError, InputError: as `open_folder`.
    """
    source = open_folder(
        root,
        pattern=pattern,
        labels=labels,
        neutral=neutral,
        protocol=protocol,
        validation=validation,
        seed=seed,
        units=units,
    )
    values: dict[str, Any] = {f.name: getattr(source, f.name) for f in fields(source)}
    return ScanSource(**values, seed=seed, force_register=force_register)
