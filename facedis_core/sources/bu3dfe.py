"""BU-3DFE (Yin et al. 2006), registered: flat VRML files such as `F0001_AN01WH_F3D.wrl`."""

import re
from pathlib import Path
from typing import Final

import numpy as np

from facedis_core.sources import Findings, Missing
from facedis_core.sources.labelled import Entry, candidates, make_labels, people_of
from facedis_core.sources.layout import Layout, check_unique, missing_of_each
from facedis_core.sources.protocols import Published, by_subjects, make_split
from facedis_core.sources.registered import MeshFileSource, check_align, check_units

NEUTRAL: Final = "NE"
EXPRESSIONS: Final = (NEUTRAL, "AN", "DI", "FE", "HA", "SA", "SU")
HIGHEST_LEVEL: Final = 4
VERTICES: Final = 5996
# Of the registration with 5,996 vertices: no expression moves these.
STABLE: Final = (4302, 954, 227, 1700, 2186, 1128, 4303, 1597, 4501, 4827, 41, 3604, 1143)
TESTED: Final = tuple(f"F{number:04d}" for number in range(1, 11))

LAYOUT: Final = Layout(
    "BU-3DFE",
    re.compile(
        r"(?:[FM][0-9]{4}/)?(?P<subject>[FM][0-9]{4})_"
        rf"(?P<scan>{NEUTRAL}00|(?:{'|'.join(EXPRESSIONS[1:])})0[1-{HIGHEST_LEVEL}])"
        r"(?P<ethnicity>AE|AM|BL|IN|LA|WH)_F3D\.wrl"
    ),
    "F0001_AN01WH_F3D.wrl",
)
ADVICE: Final = (
    f"BU-3DFE as it is distributed is not registered: register every scan to one topology "
    f"(the paper's has {VERTICES} vertices) and prepare those"
)


def open_bu3dfe(
    root: Path,
    *,
    protocol: str | None = None,
    validation: float | None = None,
    units: str | None = None,
    simplify: int | None = None,
    align: str | None = None,
    seed: int = 0,
) -> MeshFileSource:
    """Registered scans of BU-3DFE: the neutral and six expressions in four levels a subject.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    check_units(units)
    check_align(align, stable=True)
    found, unknown = LAYOUT.list_files(root)
    entries = [
        Entry(file, m["subject"], m["scan"][:2], int(m["scan"][2:]) / HIGHEST_LEVEL)
        for file, m in found.items()
    ]
    check_unique(((file, f"{m['subject']}_{m['scan']}") for file, m in found.items()), root)
    people = people_of(entries)

    def published() -> Published:
        tested = [k for k, subject in enumerate(people.subjects) if subject in TESTED]
        return by_subjects(f"subjects {TESTED[0]} to {TESTED[-1]}", tested, people)

    split = make_split(protocol, people, published, validation=validation, seed=seed)
    labels = make_labels(entries, people, split, EXPRESSIONS)
    at_rest = np.array([entry.expression == NEUTRAL for entry in entries])
    present: dict[str, dict[str, str]] = {}
    for file, match in found.items():
        present.setdefault(match["subject"], {})[match["scan"]] = file
    return MeshFileSource(
        root=root,
        files=list(found),
        labels=labels,
        protocol=split.text,
        at_rest=at_rest,
        candidates=candidates(labels, at_rest),
        expected_vertices=VERTICES,
        units=units,
        simplify=simplify,
        align=align or "stable",
        stable_vertices=STABLE,
        advice=ADVICE,
        inputs=split.inputs,
        findings=Findings(
            missing=[
                Missing(f"{subject}_{scan}*_F3D.wrl", subject)
                for subject, scan in missing_of_each(present)
            ],
            unknown=unknown,
        ),
    )
