"""Identification and verification of people: the report of fd-recognize."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from facedis_core import __version__
from facedis_core.csv_text import brief
from facedis_core.decoding import Decoder
from facedis_core.errors import InputError, UsageError
from facedis_core.inference import Model, load_model
from facedis_core.latents import Latents
from facedis_core.lookup import Labels, Lookup, lookup_in_latents, lookup_in_set
from facedis_core.progress import Progress, no_progress
from facedis_core.recognition import COSINE, VERTEX, Likeness, Party, recognize

DISTANCES: Final[Mapping[str, Likeness]] = {"cosine": COSINE, "vertex": VERTEX}
MOST_RANKS: Final = 20
COUNTS: Final = (
    "gallery",
    "gallery_subjects",
    "probes",
    "probes_in_gallery",
    "probes_not_enrolled",
    "genuine_pairs",
    "impostor_pairs",
)


@dataclass(frozen=True)
class IdentificationOptions:
    """Who is identified among whom.

    Attributes:
        gallery: latents of known people; without `probes` a face set or latents of all faces.
        probes: latents to identify.
        model: path or bundled name; None = the default model.
        labels, pattern: labels of latents, from a CSV file or from their names.
        neutral: expression that forms the gallery of latents without `probes`.
        split: of a face set.
        ranks: `1,5`: the k of the rank-k accuracies.

    Raises:
        UsageError: options that do not go together.
    """

    gallery: str
    probes: str | None = None
    model: str | None = None
    labels: str | None = None
    pattern: str | None = None
    neutral: str | None = None
    split: str = "test"
    ranks: str = "1,5"

    def __post_init__(self) -> None:
        if self.labels is not None and self.pattern is not None:
            raise UsageError("--labels and --pattern both give the labels; give one of the two")
        if self.probes is not None and self.neutral is not None:
            raise UsageError(
                "--neutral chooses the gallery where PROBES are not given; leave it out"
            )
        if self.has_labels and self.split != "test":
            raise UsageError("--split is of a face set, whose labels are its own; leave it out")
        of_latents = self.probes is not None or self.gallery.lower().endswith(".npy")
        if of_latents and not self.has_labels:
            raise UsageError(
                "latents need labels; give --labels CSV, or --pattern such as "
                "'{subject}_{expression}'"
            )
        if self.neutral is not None and not self.has_labels:
            raise UsageError("--neutral is of latents, a face set has its neutrals; leave it out")
        _ = self.rank_numbers

    @property
    def has_labels(self) -> bool:
        """Whether latents are given, with labels of their own."""
        return self.labels is not None or self.pattern is not None

    @property
    def rank_numbers(self) -> list[int]:
        """`1,5` as numbers, ascending."""
        words = [word.strip() for word in self.ranks.split(",")]
        good = all(word.isascii() and word.isdigit() and len(word) < 7 for word in words)
        found = sorted({int(word) for word in words}) if good else []
        if not found or found[0] < 1 or len(found) > MOST_RANKS:
            raise UsageError(
                f"--ranks {self.ranks!r} is no list of ranks; expected up to {MOST_RANKS} numbers "
                "from 1 such as 1,5"
            )
        return found


def identify(options: IdentificationOptions, progress: Progress = no_progress) -> dict[str, Any]:
    """Identify the probes in the gallery; plain values for JSON, as of `report`.

    Raises:
        InputError: unreadable input, another model, missing labels, or nobody to tell apart.
    """
    model = load_model(options.model)
    if options.has_labels:
        lookup = lookup_in_latents(
            options.gallery,
            options.probes,
            model,
            Labels(options.labels, options.pattern),
            options.neutral or "neutral",
        )
    else:
        lookup = lookup_in_set(options.gallery, model, options.split, progress)
    return report(lookup, model, options.rank_numbers, progress)


def report(
    lookup: Lookup,
    model: Model,
    ranks: Sequence[int] = (1, 5),
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Identification and verification by every distance, as plain values for JSON.

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
    """Keys of all numbers that a report may have."""
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
