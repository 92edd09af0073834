"""FaceWarehouse (Cao et al. 2014): 47 blendshapes of each of 150 people, `Tester_1/Blendshape`."""

import re
from pathlib import Path
from typing import Final

import numpy as np

from facedis_core.paths import natural_key
from facedis_core.sources import Findings, Missing
from facedis_core.sources.labelled import Entry, candidates, make_labels, people_of
from facedis_core.sources.layout import Layout, missing_of_each
from facedis_core.sources.protocols import Published, by_subjects, make_split
from facedis_core.sources.registered import MeshFileSource, check_align, check_units

SHAPES: Final = 47
NEUTRAL: Final = "shape_0"
VERTICES: Final = 11510
# Jiang et al. 2019 train on the others.
TESTED: Final = tuple(f"Tester_{number}" for number in range(141, 151))

LAYOUT: Final = Layout(
    "FaceWarehouse",
    re.compile(
        r"(?P<subject>Tester_(?:[1-9]|[1-9][0-9]|1[0-4][0-9]|150))/Blendshape/"
        rf"(?P<shown>shape_(?:{'|'.join(str(k) for k in range(SHAPES))}))\.obj"
    ),
    "Tester_1/Blendshape/shape_0.obj",
)


def open_facewarehouse(
    root: Path,
    *,
    protocol: str | None = None,
    validation: float | None = None,
    units: str | None = None,
    simplify: int | None = None,
    align: str | None = None,
    seed: int = 0,
) -> MeshFileSource:
    """The blendshapes of FaceWarehouse; their unit is told from their size.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    check_units(units)
    check_align(align)
    listing = LAYOUT.list_files(root)
    found = {file: listing.found[file] for file in sorted(listing.found, key=natural_key)}
    entries = [
        Entry(file, m["subject"], m["shown"], float(m["shown"] != NEUTRAL))
        for file, m in found.items()
    ]
    people = people_of(entries)

    def published() -> Published:
        tested = [k for k, subject in enumerate(people.subjects) if subject in TESTED]
        return by_subjects("subjects 141 to 150", tested, people)

    split = make_split(protocol, people, published, validation=validation, seed=seed)
    labels = make_labels(entries, people, split, [f"shape_{k}" for k in range(SHAPES)])
    at_rest = np.array([entry.expression == NEUTRAL for entry in entries])
    present: dict[str, dict[str, str]] = {}
    for entry in entries:
        present.setdefault(entry.subject, {})[entry.expression] = entry.file
    missing = [
        Missing(f"{subject}/Blendshape/{name}.obj", subject)
        for subject, name in missing_of_each(present)
    ]
    return MeshFileSource(
        root=root,
        files=list(found),
        labels=labels,
        protocol=split.text,
        at_rest=at_rest,
        candidates=candidates(labels, at_rest),
        expected_vertices=VERTICES,
        units=units,
        usual_units=None,
        simplify=simplify,
        align=align or "none",
        advice="take the files of FaceWarehouse as they are distributed",
        inputs=split.inputs,
        findings=Findings(missing=missing, unknown=listing.unknown),
    )
