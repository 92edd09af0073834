"""A report of what came of looking people up, by every distance."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from facedis_core import __version__
from facedis_core.decoding import Decoder
from facedis_core.errors import InputError
from facedis_core.inference import Model
from facedis_core.latents import Latents
from facedis_core.lookup import Lookup
from facedis_core.measurement import Progress, unwatched
from facedis_core.recognition import COSINE, VERTEX, Likeness, Party, recognize
from facedis_core.tables import brief

DISTANCES: Final[Mapping[str, Likeness]] = {"cosine": COSINE, "vertex": VERTEX}
COUNTS: Final = (
    "gallery",
    "gallery_subjects",
    "probes",
    "probes_in_gallery",
    "probes_not_enrolled",
    "genuine_pairs",
    "impostor_pairs",
)


def report(
    lookup: Lookup,
    model: Model,
    ranks: Sequence[int] = (1, 5),
    progress: Progress = unwatched,
) -> dict[str, Any]:
    """What came of a lookup by every distance, as plain values for JSON.

    Rank-k accuracies are over the probes whose subject is in the gallery, and are left out where k
    people are the whole gallery; AUC and EER are over all pairs, and left out where all pairs are
    of one kind.

    Raises:
        InputError: nothing to look up or to tell apart, or a decoded face is not finite.
    """
    people, subject = np.unique(
        [*lookup.gallery_subjects, *lookup.probe_subjects], return_inverse=True
    )
    known, asked = np.split(subject, [len(lookup.gallery_subjects)])
    enrolled, known_people = np.isin(asked, known), len(np.unique(known))
    _check_something_to_tell(lookup, known, asked)
    pairs = len(known) * len(asked)
    genuine = int(np.bincount(known, minlength=len(people))[asked].sum())
    found: dict[str, Any] = {}
    with progress("recognizing", len(DISTANCES) * pairs) as advance:
        for name, likeness in DISTANCES.items():
            rank, verified = recognize(
                Party(known, _reader(lookup.gallery, model, name)),
                Party(asked, _reader(lookup.probes, model, name)),
                likeness,
                progress=advance,
            )
            for k in ranks:
                if k < known_people:
                    found[f"rank{k}_{name}_accuracy"] = float((rank[enrolled] <= k).mean())
            if verified is not None:
                found |= {f"auc_{name}": verified.auc, f"eer_{name}": verified.eer}
    counts = (
        len(known),
        known_people,
        len(asked),
        lookup.left_out,
        int((~enrolled).sum()),
        genuine,
        pairs - genuine,
    )
    found |= dict(zip(COUNTS, counts, strict=True))
    return {"model": found, "provenance": {"version": __version__, **lookup.facts}}


def metric_names(ranks: Sequence[int]) -> list[str]:
    """Every number that a report may have."""
    accuracies = [f"rank{k}_{name}_accuracy" for name in DISTANCES for k in ranks]
    return [
        *accuracies,
        *(f"{key}_{name}" for name in DISTANCES for key in ("auc", "eer")),
        *COUNTS,
    ]


def _reader(latents: Latents, model: Model, distance: str) -> Callable[[np.ndarray], np.ndarray]:
    """Rows -> identity latents, or identity faces for a distance of vertices."""
    decoder = Decoder(model)

    def faces(rows: np.ndarray) -> np.ndarray:
        return np.stack([decoder.face(latents, int(row), "identity") for row in rows])

    return faces if distance == "vertex" else lambda rows: latents.identity[rows]


def _check_something_to_tell(lookup: Lookup, known: np.ndarray, asked: np.ndarray) -> None:
    if not len(asked):
        raise InputError(
            f"all {lookup.left_out or len(known)} faces are in the gallery themselves; "
            "expected others to look up"
        )
    if not np.isin(asked, known).any():
        example = brief(lookup.probe_subjects[0]), brief(lookup.gallery_subjects[0])
        raise InputError(
            f"none of the {len(asked)} probes is of anybody in the gallery (a probe is of "
            f"{example[0]}, a gallery face of {example[1]}); check who is whom"
        )
    if len(np.unique(np.concatenate([known, asked]))) == 1:
        raise InputError(
            f"gallery and probes are all of {brief(lookup.probe_subjects[0])}; "
            "expected several people to tell apart"
        )
