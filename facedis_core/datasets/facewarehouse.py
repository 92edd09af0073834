"""FaceWarehouse (Cao et al. 2014): 47 blendshapes of each of 150 people, `Tester_1/Blendshape`."""

import re
from pathlib import Path
from typing import Final, Unpack

from facedis_core.datasets.labels import LabelledFile, open_labelled
from facedis_core.datasets.layout import Layout, missing_of_each, part_of
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.protocols import People, Published, by_subjects
from facedis_core.datasets.source import ListingReport, MeshOptions, MissingFile
from facedis_core.io.paths import natural_key

SUBJECTS: Final = 150
SHAPES: Final = 47
NEUTRAL: Final = "shape_0"
VERTICES: Final = 11510
# Jiang et al. 2019 train on the others.
TESTED: Final = tuple(f"Tester_{number}" for number in range(141, 151))

LAYOUT: Final = Layout(
    "FaceWarehouse",
    re.compile(
        r"(?P<subject>Tester_(?:[1-9]|[1-9][0-9]|1[0-4][0-9]|150))/Blendshape/"
        rf"(?P<shown>shape_(?:{'|'.join(str(k) for k in range(SHAPES))}))\.(?i:obj)"
    ),
    "Tester_1/Blendshape/shape_0.obj",
)


def open_facewarehouse(root: str | Path, **options: Unpack[MeshOptions]) -> MeshFileSource:
    """The blendshapes of FaceWarehouse; the unit is inferred from their size.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    found, unknown = LAYOUT.list_files(root)
    shapes = {f: (found[f]["subject"], found[f]["shown"]) for f in sorted(found, key=natural_key)}
    entries = [
        LabelledFile(f, s, shape, float(shape != NEUTRAL)) for f, (s, shape) in shapes.items()
    ]
    missing = [
        MissingFile(f"{s}/Blendshape/{shape}.obj", s)
        for s, shape in missing_of_each(shapes.values())
    ]
    return open_labelled(
        root,
        entries,
        [f"shape_{k}" for k in range(SHAPES)],
        options,
        neutral=NEUTRAL,
        published=_published,
        expected_vertices=VERTICES,
        usual_units="dm",
        notes=part_of("FaceWarehouse", shapes.values(), SUBJECTS, SHAPES, NEUTRAL),
        advice="take the files of FaceWarehouse as they are distributed",
        findings=ListingReport(missing, unknown),
    )


def _published(people: People) -> Published:
    return by_subjects("subjects 141 to 150", TESTED, people)
