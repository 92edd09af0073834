"""FaceScape TU (Yang et al. 2020): twenty registered expressions of each of 847 people."""

import re
from pathlib import Path
from typing import Final, Unpack

from facedis_core.datasets.labels import LabelledFile, open_labelled
from facedis_core.datasets.layout import Layout, check_unique, missing_of_each, part_of
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.protocols import (
    PAPER,
    USUAL_PART,
    People,
    Published,
    by_subjects,
    draw_subjects,
)
from facedis_core.datasets.source import ListingReport, MeshOptions, MissingFile
from facedis_core.io.paths import natural_key

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
SHOWN_NEUTRAL: Final = f"1_{NEUTRAL}"
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
        rf"(?P<shown>{'|'.join(f'{n}_{name}' for n, name in enumerate(EXPRESSIONS, 1))})\.(?i:obj)"
    ),
    "122/models_reg/1_neutral.obj",
)


def open_facescape(root: str | Path, **options: Unpack[MeshOptions]) -> MeshFileSource:
    """The registered meshes of FaceScape, by default reduced to about 9,000 triangles.

    Raises InputError where `root` does not hold them, UsageError for an option out of its range.
    """
    listing = LAYOUT.list_files(root)
    scans = {file: (match["subject"], match["shown"]) for file, match in listing.found.items()}
    files = sorted(scans, key=lambda file: natural_key("/".join(scans[file])))
    strangers = [file for file in files if int(scans[file][0]) > SUBJECTS]
    # Under the paper's protocol nobody sees these, so they take no part in the draw either.
    left_out = BROKEN if options.get("protocol") in (None, PAPER) else ()
    excluded = [file for file in files if scans[file][0] in left_out]
    taken = {file: scans[file] for file in files if file not in {*strangers, *excluded}}
    check_unique(((f, f"subject {s}, {shown}") for f, (s, shown) in taken.items()), root)
    entries = [
        LabelledFile(file, subject, name, float(name != NEUTRAL))
        for file, (subject, shown) in taken.items()
        if (name := shown.partition("_")[2])
    ]
    folder = {subject: file.rpartition("/")[0] for file, (subject, _) in taken.items()}
    missing = [
        MissingFile(f"{folder[s]}/{shown}.obj", s) for s, shown in missing_of_each(taken.values())
    ]

    def published(people: People) -> Published:
        always = [k for k, subject in enumerate(people.subjects) if subject in PUBLISHABLE]
        count, seed = len(people.subjects), options.get("seed", 0)
        drawn = [people.subjects[k] for k in draw_subjects(count, USUAL_PART, seed, always)]
        return by_subjects("random subjects and the publishable ones", drawn, people)

    return open_labelled(
        root,
        entries,
        EXPRESSIONS,
        options,
        neutral=NEUTRAL,
        published=published,
        expected_vertices=VERTICES,
        usual_faces=SIMPLIFIED_FACES,
        advice="take FaceScape's registered meshes (models_reg), or leave this one out (--exclude)",
        notes=part_of(
            "FaceScape", taken.values(), SUBJECTS - len(left_out), len(EXPRESSIONS), SHOWN_NEUTRAL
        ),
        findings=ListingReport(
            missing,
            sorted([*listing.unknown, *strangers]),
            [file.rpartition(".")[0] for file in excluded],
            incomplete=True,
        ),
    )
