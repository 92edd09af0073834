"""Who is looked up among whom: people of a face set, or of latents that somebody has labelled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from facedis_core import __version__
from facedis_core.data.face_set import neutral_faces
from facedis_core.data.latents import Latents, concatenate, open_latents
from facedis_core.data.name_patterns import compile_pattern
from facedis_core.errors import InputError, UsageError
from facedis_core.evaluate.mesh_comparison import MeshLabel, read_labels
from facedis_core.evaluate.metrics_report import open_split
from facedis_core.evaluate.recognition import COSINE, VERTEX, FaceCollection, Similarity, recognize
from facedis_core.io.csv_text import brief
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.streams import shown
from facedis_core.model.model import Model, load_model
from facedis_core.pipeline.decode import LatentDecoder, checked_rows

_BLOCK_FACES: Final = 32  # faces that are encoded before the next ones are read


@dataclass(frozen=True)
class LabelSource:
    """Where it is said who shows what: a CSV file as of `read_labels`, or a pattern of names."""

    file: str | None = None
    pattern: str | None = None

    def of(self, names: Sequence[str], needed: Sequence[str]) -> list[MeshLabel]:
        """The label of each name; `needed` of `subject` and `expression` it must have.

        Raises:
            UsageError: a pattern without what is needed.
            InputError: a name without a label, or what `read_labels` raises.
        """
        if self.pattern is not None:
            expression = compile_pattern(self.pattern, needed)
            matches = [expression.fullmatch(name) for name in names]
            if None in matches:
                raise InputError(
                    f"{brief(names[matches.index(None)])} does not fit the pattern "
                    f"{self.pattern!r}; expected the names of the latents, without .ply"
                )
            found = [match.groupdict() for match in matches if match]
            return [MeshLabel(each["subject"], each.get("expression", "")) for each in found]
        known = read_labels(self.file or "-", frozenset(names), ("name", *needed))
        missing = [name for name in names if name not in known]
        if missing:
            raise InputError(
                f"{shown(self.file or '-')} has no row for {brief(missing[0])}, {len(missing)} of "
                f"{len(names)} latents; give everybody a row"
            )
        return [known[name] for name in names]


@dataclass(frozen=True, eq=False)
class IdentificationTask:
    """Known people, and faces to look up among them.

    Attributes:
        gallery, probes: latents of one model.
        gallery_subjects, probe_subjects: whose each of them is.
        left_out: faces that were to be probes and are in the gallery.
        facts: the provenance of a report.
    """

    gallery: Latents
    gallery_subjects: Sequence[str]
    probes: Latents
    probe_subjects: Sequence[str]
    left_out: int
    facts: Mapping[str, Any]


def task_from_set(
    source: str,
    model: Model,
    split: str,
    progress: Progress = no_progress,
) -> IdentificationTask:
    """The neutrals of the people in a split of a face set, and all other faces of the split.

    Raises:
        InputError: as of `open_split`, or nobody has a neutral.
    """
    faces, rows = open_split(source, model, split)
    labels = faces.labels
    subject = np.asarray(labels.subject)
    people = np.unique(subject[rows])
    names: list[str] = []
    known, blocks = [], []
    for person, row, vertices in neutral_faces(faces, people):
        known.append((person, row))
        names.append(labels.subjects[person])
        blocks.append(model.encode(vertices[None], names[-1:]))
    if not known:
        raise InputError(
            f"nobody in the {split} split of {source} has a neutral face, so there is no gallery; "
            "encode the faces with fd-encode and give GALLERY and PROBES"
        )
    others = np.setdiff1d(rows, [row for _, row in known])
    probes = [model.encode(np.empty((0, *model.mean_face.shape), np.float32))]
    with progress("encoding", len(others)) as advance:
        for start in range(0, len(others), _BLOCK_FACES):
            some = others[start : start + _BLOCK_FACES]
            probes.append(model.encode(faces.read(some), [labels.names[row] for row in some]))
            advance(len(some))
    origin = {"model": model.id, "set": faces.id, "source": faces.source, "split": split}
    return IdentificationTask(
        concatenate(blocks),
        names,
        concatenate(probes),
        [labels.subjects[person] for person in subject[others]],
        0,
        {"faces": len(rows), "subjects": len(people)} | origin,
    )


def task_from_latents(
    gallery: str, probes: str | None, model: Model, labels: LabelSource, neutral: str = "neutral"
) -> IdentificationTask:
    """Latents looked up among others, or among the first neutral of each person.

    What is in the gallery under the same name and with the same values is no probe: it would find
    itself.

    Args:
        gallery: latents of known people, any number each.
        probes: latents to look up; None = those of `gallery` that are nobody's first neutral.
        model: what encoded them.
        labels: who they are and, without probes, what they show.
        neutral: the expression of the gallery, without probes.

    Raises:
        UsageError: a pattern that does not say what is needed.
        InputError: unreadable, of another model, without a label or a neutral.
    """
    known = _read_latents(gallery, model)
    if probes is not None:
        asked = _read_latents(probes, model)
        said = labels.of([*known.names, *asked.names], ("subject",))
        who, asked_who = said[: len(known)], said[len(known) :]
    else:
        asked, who = known, labels.of(known.names, ("subject", "expression"))
        asked_who = who
        first: dict[str, int] = {}
        for row, label in enumerate(who):
            if label.expression == neutral:
                first.setdefault(label.subject, row)
        if not first:
            raise InputError(
                f"no row of {shown(gallery)} shows the expression {neutral!r}, so there is no "
                "gallery; name another with --neutral, or give GALLERY and PROBES"
            )
        known, who = known.take([*first.values()]), [who[row] for row in first.values()]
    enrolled = set(_row_keys(known))
    rows = [row for row, key in enumerate(_row_keys(asked)) if key not in enrolled]
    return IdentificationTask(
        known,
        [label.subject for label in who],
        asked.take(rows),
        [asked_who[row].subject for row in rows],
        # of one source the gallery was never to be looked up
        len(asked) - len(rows) if probes is not None else 0,
        {"model": model.id},
    )


def _read_latents(source: str, model: Model) -> Latents:
    with open_latents(source) as opened:
        return concatenate(list(checked_rows(opened, model, "-")))


def _row_keys(latents: Latents) -> list[tuple[str, bytes, bytes]]:
    parts = zip(latents.names, latents.identity, latents.expression, strict=True)
    return [
        (name, identity.tobytes(), expression.tobytes()) for name, identity, expression in parts
    ]


DISTANCES: Final[Mapping[str, Similarity]] = {"cosine": COSINE, "vertex": VERTEX}
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
    """Identify the probes in the gallery; plain values for JSON, as of `identification_report`.

    Raises:
        InputError: unreadable input, another model, missing labels, or nobody to tell apart.
    """
    model = load_model(options.model)
    if options.has_labels:
        lookup = task_from_latents(
            options.gallery,
            options.probes,
            model,
            LabelSource(options.labels, options.pattern),
            options.neutral or "neutral",
        )
    else:
        lookup = task_from_set(options.gallery, model, options.split, progress)
    return identification_report(lookup, model, options.rank_numbers, progress)


def identification_report(
    lookup: IdentificationTask,
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
    _check_task(lookup, known, asked)
    pairs = len(known) * len(asked)
    genuine = int(np.bincount(known, minlength=len(people))[asked].sum())
    found: dict[str, Any] = {}
    with progress("recognizing", len(DISTANCES) * pairs) as advance:
        for name, likeness in DISTANCES.items():
            rank, verified = recognize(
                FaceCollection(known, _row_reader(lookup.gallery, model, name)),
                FaceCollection(asked, _row_reader(lookup.probes, model, name)),
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


def _row_reader(
    latents: Latents, model: Model, distance: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Rows -> identity latents, or identity faces for a distance of vertices."""
    decoder = LatentDecoder(model)

    def faces(rows: np.ndarray) -> np.ndarray:
        return np.stack([decoder.face(latents, int(row), "identity") for row in rows])

    return faces if distance == "vertex" else lambda rows: latents.identity[rows]


def _check_task(lookup: IdentificationTask, known: np.ndarray, asked: np.ndarray) -> None:
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
