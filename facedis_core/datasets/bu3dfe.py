"""BU-3DFE (Yin et al. 2006), registered: flat VRML files such as `F0001_AN01WH_F3D.wrl`."""

import re
from pathlib import Path
from typing import Final, Unpack

from facedis_core.datasets.labels import LabelledFile, open_labelled
from facedis_core.datasets.layout import Layout, check_unique, missing_of_each, part_of
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.protocols import People, Published, by_subjects
from facedis_core.datasets.source import ListingReport, MeshOptions, MissingFile

NEUTRAL: Final = "NE"
EXPRESSIONS: Final = (NEUTRAL, "AN", "DI", "FE", "HA", "SA", "SU")
HIGHEST_LEVEL: Final = 4
SCANS: Final = 25
SUBJECTS: Final = 100
VERTICES: Final = 5996
# Of the registration with 5,996 vertices: no expression moves these.
STABLE: Final = (4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143)
TESTED: Final = tuple(f"F{number:04d}" for number in range(1, 11))

LAYOUT: Final = Layout(
    "BU-3DFE",
    re.compile(
        r"(?:[FM][0-9]{4}/)?(?P<subject>[FM][0-9]{4})_"
        rf"(?P<scan>{NEUTRAL}00|(?:{'|'.join(EXPRESSIONS[1:])})0[1-{HIGHEST_LEVEL}])"
        r"(?P<ethnicity>AE|AM|BL|IN|LA|WH)_F3D\.(?i:wrl)"
    ),
    "F0001_AN01WH_F3D.wrl",
)
ADVICE: Final = (
    f"BU-3DFE as it is distributed is not registered: register every scan to one topology "
    f"(the paper's has {VERTICES} vertices) and prepare those"
)


def open_bu3dfe(root: str | Path, **options: Unpack[MeshOptions]) -> MeshFileSource:
    """Registered scans of BU-3DFE: the neutral and six expressions in four levels a subject.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    found, unknown = LAYOUT.list_files(root)
    scans = {file: (match["subject"], match["scan"]) for file, match in found.items()}
    check_unique(((file, "_".join(scan)) for file, scan in scans.items()), root)
    entries = [
        LabelledFile(file, subject, scan[:2], int(scan[2:]) / HIGHEST_LEVEL)
        for file, (subject, scan) in scans.items()
    ]
    missing = [
        MissingFile(f"{s}_{scan}*_F3D.wrl", s) for s, scan in missing_of_each(scans.values())
    ]
    return open_labelled(
        root,
        entries,
        EXPRESSIONS,
        options,
        neutral=NEUTRAL,
        published=_published,
        expected_vertices=VERTICES,
        align="stable",
        stable_vertices=STABLE,
        advice=ADVICE,
        notes=part_of("BU-3DFE", scans.values(), SUBJECTS, SCANS, f"{NEUTRAL}00"),
        findings=ListingReport(missing, unknown),
    )


def _published(people: People) -> Published:
    return by_subjects(f"subjects {TESTED[0]} to {TESTED[-1]}", TESTED, people)
