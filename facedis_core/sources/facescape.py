"""FaceScape TU (Yang et al. 2020): twenty registered expressions of each of 847 people."""

import re
from pathlib import Path
from typing import Final

import numpy as np

from facedis_core.paths import natural_key
from facedis_core.sources import Findings, Missing
from facedis_core.sources.labelled import Entry, candidates, make_labels, people_of
from facedis_core.sources.layout import Layout, Listing, check_unique, missing_of_each
from facedis_core.sources.protocols import PAPER, USUAL_PART, Published, by_subjects, make_split
from facedis_core.sources.registered import MeshFileSource, check_align, check_units
from facedis_core.sources.splits import draw_subjects

NEUTRAL: Final = "neutral"
EXPRESSIONS: Final = (
    NEUTRAL,
    "smile",
    "mouth_stretch",
    "anger",
    "jaw_left",
    "jaw_right",
    "jaw_forward",
    "mouth_left",
    "mouth_right",
    "dimpler",
    "chin_raiser",
    "lip_puckerer",
    "lip_funneler",
    "sadness",
    "lip_roll",
    "grin",
    "cheek_blowing",
    "eye_closed",
    "brow_raiser",
    "brow_lower",
)
SUBJECTS: Final = 847
VERTICES: Final = 26317
SIMPLIFIED_FACES: Final = 9000
# People who may be shown in publications: always among those who are tested on.
PUBLISHABLE: Final = frozenset(
    ("122", "212", "340", "344", "393", "395", "421", "527", "594", "610")
)
# All meshes of this person are broken.
BROKEN: Final = frozenset({"603"})

LAYOUT: Final = Layout(
    "FaceScape",
    re.compile(
        r"(?:facescape_trainset_[^/]*/)?(?P<subject>[1-9][0-9]{0,2})/(?:models_reg/)?"
        rf"(?P<shown>{'|'.join(f'{n}_{name}' for n, name in enumerate(EXPRESSIONS, 1))})\.obj"
    ),
    "122/models_reg/1_neutral.obj",
)


def open_facescape(
    root: Path,
    *,
    protocol: str | None = None,
    validation: float | None = None,
    units: str | None = None,
    simplify: int | None = None,
    align: str | None = None,
    seed: int = 0,
) -> MeshFileSource:
    """The registered meshes of FaceScape, by default reduced to about 9,000 triangles.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    check_units(units)
    check_align(align)
    listing = LAYOUT.list_files(root)
    everything = _in_order(listing)
    strangers = [f for f, m in everything.items() if int(m["subject"]) > SUBJECTS]
    # Under the paper's protocol nobody sees these, so they take no part in the draw either.
    left_out = BROKEN if protocol in (None, PAPER) else frozenset[str]()
    excluded = [f for f, m in everything.items() if m["subject"] in left_out]
    found = {f: m for f, m in everything.items() if f not in {*strangers, *excluded}}
    check_unique(((f, f"subject {m['subject']}, {m['shown']}") for f, m in found.items()), root)
    entries = [
        Entry(f, m["subject"], name, float(name != NEUTRAL))
        for f, m in found.items()
        if (name := m["shown"].partition("_")[2])
    ]
    people = people_of(entries)

    def published() -> Published:
        always = [k for k, subject in enumerate(people.subjects) if subject in PUBLISHABLE]
        tested = draw_subjects(len(people.subjects), USUAL_PART, seed, always)
        return by_subjects("random subjects and the publishable ones", tested, people)

    split = make_split(protocol, people, published, validation=validation, seed=seed)
    labels = make_labels(entries, people, split, EXPRESSIONS)
    at_rest = np.array([entry.expression == NEUTRAL for entry in entries])
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
        usual_faces=SIMPLIFIED_FACES,
        align=align or "none",
        advice="take FaceScape's registered meshes (models_reg), or leave this one out (--exclude)",
        inputs=split.inputs,
        findings=Findings(
            missing=_missing(entries),
            unknown=sorted([*listing.unknown, *strangers]),
            excluded=[f.removesuffix(".obj") for f in excluded],
            incomplete=True,
        ),
    )


def _in_order(listing: Listing) -> dict[str, re.Match[str]]:
    """By subject, then by expression, both by their numbers."""

    def key(item: tuple[str, re.Match[str]]) -> tuple[str | int, ...]:
        return natural_key(f"{item[1]['subject']}/{item[1]['shown']}")

    return dict(sorted(listing.found.items(), key=key))


def _missing(entries: list[Entry]) -> list[Missing]:
    present: dict[str, dict[str, str]] = {}
    for entry in entries:
        present.setdefault(entry.subject, {})[entry.expression] = entry.file
    number = {name: n for n, name in enumerate(EXPRESSIONS, 1)}
    return [
        Missing(f"{subject}/{number[name]}_{name}.obj", subject)
        for subject, name in missing_of_each(present)
    ]
