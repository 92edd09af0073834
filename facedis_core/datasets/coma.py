"""CoMA (Ranjan et al. 2018): sequences of extreme expressions, `FaceTalk_*_TA/<name>/*.ply`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.datasets.labels import LabelledFile, open_labelled
from facedis_core.datasets.layout import Layout, missing_of_each
from facedis_core.datasets.mesh_files import MeshFileReader, MeshFileSource
from facedis_core.datasets.protocols import People, Published
from facedis_core.datasets.source import LabelledRows, ListingReport, MeshOptions, MissingFile
from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.mesh import Mesh, read_mesh

EXPRESSIONS: Final = (
    "bareteeth",
    "cheeks_in",
    "eyebrow",
    "high_smile",
    "lips_back",
    "lips_up",
    "mouth_down",
    "mouth_extreme",
    "mouth_middle",
    "mouth_open",
    "mouth_side",
    "mouth_up",
)
# These go to either side; the mouth's corner 3506 says to which.
TWO_SIDED: Final = ("mouth_down", "mouth_middle", "mouth_side", "mouth_up")
MOUTH_CORNER: Final = 3506
VERTICES: Final = 5023
# The whole data set; frame numbers that are left out there are no fault of a copy.
COMPLETE: Final = 20466

LAYOUT: Final = Layout(
    "CoMA",
    re.compile(
        rf"(?P<subject>FaceTalk_[0-9]+_[0-9]+_TA)/(?P<expression>{'|'.join(EXPRESSIONS)})"
        r"/(?P=expression)\.(?P<frame>[0-9]{6})\.(?i:ply)"
    ),
    "FaceTalk_170725_00137_TA/bareteeth/bareteeth.000001.ply",
)
# Of every hundred frames, all sorted by name, the first ten.
TEST_PERIOD, TEST_FRAMES = 100, 10
OUTLIER_Z: Final = 3.0
NEUTRAL_LEVEL: Final = 0.01
ADVICE: Final = f"CoMA is registered to {VERTICES} vertices; take its registered meshes"


def open_coma(root: str | Path, **options: Unpack[MeshOptions]) -> MeshFileSource:
    """The registered meshes of CoMA; levels, sides and neutrals are known when all are read.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    found, unknown = LAYOUT.list_files(root)
    entries = [LabelledFile(file, m["subject"], m["expression"], 1.0) for file, m in found.items()]
    frames = [int(match["frame"]) for match in found.values()]
    return open_labelled(
        root,
        entries,
        EXPRESSIONS,
        options,
        neutral=None,
        published=_published,
        kind=ComaSource,
        # First frames show the face at rest.
        candidates=sorted(range(len(frames)), key=lambda row: (frames[row], row)),
        expected_vertices=VERTICES,
        usual_units="m",
        alike=False,  # wild frames are outliers
        advice=ADVICE,
        notes=[] if len(frames) == COMPLETE else [_part(len(frames))],
        findings=ListingReport(_missing(entries, frames), unknown),
        sequence=np.unique([str(Path(file).parent) for file in found], return_inverse=True)[1],
    )


def _published(people: People) -> Published:
    test = np.arange(len(people.names)) % TEST_PERIOD < TEST_FRAMES
    return Published(f"frames, the first {TEST_FRAMES} of every {TEST_PERIOD}", test)


def _part(frames: int) -> str:
    return (
        f"this is a part of CoMA, {frames} of {COMPLETE} frames; a split that counts frames is "
        "another than that of the whole"
    )


def _missing(entries: Sequence[LabelledFile], frames: Sequence[int]) -> list[MissingFile]:
    """Gaps in the frame numbers of sequences, and sequences that other subjects have."""
    if len(entries) == COMPLETE:
        return []
    sequences: dict[tuple[str, str], set[int]] = {}
    for entry, frame in zip(entries, frames, strict=True):
        sequences.setdefault((entry.subject, entry.expression), set()).add(frame)
    gaps = [
        MissingFile(f"{subject}/{expression}/{expression}.{gap}.ply", subject)
        for (subject, expression), there in sequences.items()
        for gap in _gaps(sorted(there))
    ]
    return gaps + [
        MissingFile(f"{subject}/{expression}/{expression}.*.ply", subject)
        for subject, expression in missing_of_each(sequences)
    ]


def _gaps(frames: Sequence[int]) -> Iterator[str]:
    """Numbers that are left out from 1 on, `000007` or, of several, `000007-000009`."""
    for before, after in pairwise([0, *frames]):
        if after - before == 2:
            yield f"{before + 1:06d}"
        elif after - before > 2:
            yield f"{before + 1:06d}-{after - 1:06d}"


@dataclass(frozen=True, eq=False)
class ComaReader(MeshFileReader):
    """Reads frames and compares each with the first of its sequence that can be read.

    Attributes:
        sequence: (N,) the sequence of each file, -1 of those left out; first frames come first.
    """

    sequence: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    measures: ClassVar[int] = 2
    _first: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def measure(self, row: int, mesh: Mesh) -> tuple[float, float]:
        """Mean distance of the vertices to the first frame, and how far the mouth's corner went.

        Both in mm, the latter along x.
        """
        if len(mesh.vertices) != VERTICES:
            raise InputError(
                f"{mesh.name} has {len(mesh.vertices)} vertices; {ADVICE}", ErrorCode.VERTEX_COUNT
            )
        moved = self._in_mm(mesh) - self._first_frame(int(self.sequence[row]))
        distance = np.linalg.norm(moved.astype(np.float64), axis=1).mean()
        return float(distance), float(moved[MOUTH_CORNER, 0])

    def _in_mm(self, mesh: Mesh) -> NDArray[np.float32]:
        unit = self.preparation.raw_unit_mm if mesh.unit_mm is None else mesh.unit_mm
        return mesh.vertices * np.float32(unit)

    def _first_frame(self, sequence: int) -> NDArray[np.float32]:
        if sequence not in self._first:
            self._first.clear()  # blocks come in order, so the others are not asked for again
            for row in np.flatnonzero(self.sequence == sequence).tolist():
                try:
                    first = self.checked(read_mesh(self.files[row]), self.files[row])
                except InputError:
                    continue  # a failure of its own row
                if len(first.vertices) == VERTICES:
                    self._first[sequence] = self._in_mm(first)
                    break
        return self._first[sequence]


@dataclass(frozen=True, eq=False)
class ComaSource(MeshFileSource):
    """The frames of CoMA.

    Attributes:
        sequence: (N,) the sequence of each file.
    """

    sequence: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    measures: ClassVar[int] = 2

    def reader(
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> ComaReader:
        """Compares with first frames among `rows`: one that was left out may be a broken one."""
        plain = super().reader(preparation, rows, mean_face)
        sequence = np.full(len(self.files), -1)
        sequence[rows] = self.sequence[rows]
        return ComaReader(
            **{f.name: getattr(plain, f.name) for f in fields(plain)}, sequence=sequence
        )

    def label_rows(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> LabelledRows:
        """Drop outliers, scale levels to 1, split by side, and find the faces at rest."""
        sequence = self.sequence[rows]
        stays, level = levels_by_distance(measured[:, 0], sequence)
        kept, side = rows[stays], measured[stays, 1]
        shown = [self.labels.expressions[e] for e in self.labels.expression[kept]]
        sided = [
            f"{name}_{'left' if x < 0 else 'right'}" if name in TWO_SIDED else name
            for name, x in zip(shown, side, strict=True)
        ]
        classes = sorted(set(sided))
        number = {name: k for k, name in enumerate(classes)}
        labels = replace(
            self.labels.subset(kept),
            expressions=classes,
            expression=np.array([number[name] for name in sided], np.int32),
            level=level[stays].astype(np.float32),
        )
        outliers = [self.labels.names[row] for row in rows[~stays]]
        return LabelledRows(kept, labels, level[stays] <= NEUTRAL_LEVEL, outliers)


def levels_by_distance(
    distance: NDArray[np.float64], sequence: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Inlier mask (n,) and levels (n,) of frames, 0 neutral to 1 at the apex of a sequence.

    An outlier lies more than three standard deviations above the mean distance of its sequence. The
    distances of the rest are divided by their largest.
    """
    stays = np.ones(len(distance), bool)
    level = np.zeros(len(distance))
    for number in np.unique(sequence):
        mine = np.flatnonzero(sequence == number)
        found = distance[mine]
        spread = found.std()
        if spread > 0:
            stays[mine] = (found - found.mean()) / spread <= OUTLIER_Z
        rest = mine[stays[mine]]
        largest = distance[rest].max()
        if largest > 0:
            level[rest] = distance[rest] / largest
    return stays, level
