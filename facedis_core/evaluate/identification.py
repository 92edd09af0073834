"""Identification report: people recognized in a gallery by their identity part, for fd-recognize.

Gallery and probes come from a face set, or from labelled latents.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from facedis_core import __version__
from facedis_core.data.face_set import neutral_faces
from facedis_core.data.latents import Latents, concatenate, open_latents
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.evaluate.face_labels import LabelSource
from facedis_core.evaluate.metrics_report import open_split
from facedis_core.evaluate.recognition import COSINE, VERTEX, FaceCollection, Similarity, recognize
from facedis_core.io.csv_text import brief
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.text import shown
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.decode import LatentDecoder, checked_rows

SIMILARITIES: Final[Mapping[str, Similarity]] = {"cosine": COSINE, "vertex": VERTEX}
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
_BLOCK_FACES: Final = 32  # faces to read and encode at once


@dataclass(frozen=True)
class IdentificationOptions:
    """Options of fd-recognize.

    Attributes:
        gallery: latents of known people; without `probes` a face set or latents of all faces.
        probes: latents to identify.
        model: path or bundled name; None = the default model.
        labels: CSV file with the labels of latents.
        pattern: pattern of the names of latents that gives the labels instead.
        neutral: expression that forms the gallery of latents without `probes`; None = `neutral`.
        split: split of a face set.
        ranks: values of k for rank-k accuracies, such as `1,5`.

    Raises:
        UsageError: options that do not go together, or ranks that are no numbers.
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
            raise UsageError(
                "--labels and --pattern both give the labels; give one of the two",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.probes is not None and self.neutral is not None:
            raise UsageError(
                "--neutral chooses the gallery where PROBES are not given; leave it out",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.has_labels and self.split != "test":
            raise UsageError(
                "--split is for a face set, --labels and --pattern for latents; leave one out",
                ErrorCode.OPTION_CONFLICT,
            )
        of_latents = self.probes is not None or self.gallery.lower().endswith(".npy")
        if of_latents and not self.has_labels:
            raise UsageError(
                "latents need labels; give --labels CSV, or --pattern such as "
                "'{subject}_{expression}'",
                ErrorCode.OPTION_MISSING,
            )
        if self.neutral is not None and not self.has_labels:
            raise UsageError(
                "--neutral is for latents, a face set marks its neutrals; leave it out",
                ErrorCode.OPTION_CONFLICT,
            )
        _ = self.rank_numbers

    @property
    def has_labels(self) -> bool:
        """Whether the inputs are latents with labels, instead of a face set."""
        return self.labels is not None or self.pattern is not None

    @property
    def rank_numbers(self) -> list[int]:
        """The ranks as numbers, ascending."""
        words = [word.strip() for word in self.ranks.split(",")]
        valid = all(word.isascii() and word.isdigit() and len(word) < 7 for word in words)
        found = sorted({int(word) for word in words}) if valid else []
        if not found or found[0] < 1 or len(found) > MOST_RANKS:
            raise UsageError(
                f"--ranks {self.ranks!r} is not a list of ranks; expected up to {MOST_RANKS} "
                "numbers from 1 such as 1,5",
                ErrorCode.OPTION_VALUE,
            )
        return found


@dataclass(frozen=True, eq=False)
class IdentificationTask:
    """Gallery and probes.

    Attributes:
        gallery, probes: latents of one model.
        gallery_subjects, probe_subjects: name of the person of each row.
        left_out: number of given probes that are in the gallery themselves.
        facts: provenance of the report.
    """

    gallery: Latents
    gallery_subjects: Sequence[str]
    probes: Latents
    probe_subjects: Sequence[str]
    left_out: int
    facts: Mapping[str, Any]


def identify(options: IdentificationOptions, progress: Progress = no_progress) -> dict[str, Any]:
    """The report of `identification_report` for the inputs that the options name.

    Raises:
        InputError: unreadable input, another model, missing labels; errors of
            `identification_report`.
    """
    model = load_model(options.model)
    if options.has_labels:
        task = task_from_latents(
            options.gallery,
            options.probes,
            model,
            LabelSource(options.labels, options.pattern),
            options.neutral or "neutral",
        )
    else:
        task = task_from_set(options.gallery, model, options.split, progress)
    return identification_report(task, model, options.rank_numbers, progress)


def task_from_set(
    source: str, model: Model, split: str, progress: Progress = no_progress
) -> IdentificationTask:
    """The neutrals of the people in a split as gallery, all other faces of the split as probes.

    Raises:
        InputError: errors of `open_split`, or no person has a neutral.
    """
    faces, rows = open_split(source, model, split)
    labels = faces.labels
    subject = np.asarray(labels.subject)
    people = np.unique(subject[rows])
    names: list[str] = []
    neutral_rows, gallery = [], []
    for person, row, vertices in neutral_faces(faces, people):
        names.append(labels.subjects[person])
        neutral_rows.append(row)
        gallery.append(model.encode_prepared(vertices[None], names[-1:]))
    if not gallery:
        raise InputError(
            f"no subject in the {split} split of {source} has a neutral face, so there is no "
            "gallery; encode the faces with fd-encode and give GALLERY and PROBES",
            ErrorCode.NEUTRAL_MISSING,
        )
    probe_rows = np.setdiff1d(rows, neutral_rows)
    probes = [model.encode_prepared(np.empty((0, *model.mean_face.shape), np.float32))]
    with progress("encoding", len(probe_rows)) as advance:
        for start in range(0, len(probe_rows), _BLOCK_FACES):
            block = probe_rows[start : start + _BLOCK_FACES]
            probes.append(
                model.encode_prepared(faces.read(block), [labels.names[row] for row in block])
            )
            advance(len(block))
    origin = {"model": model.id, "set": faces.id, "source": faces.source, "split": split}
    return IdentificationTask(
        concatenate(gallery),
        names,
        concatenate(probes),
        [labels.subjects[person] for person in subject[probe_rows]],
        0,
        {"faces": len(rows), "subjects": len(people)} | origin,
    )


def task_from_latents(
    gallery: str, probes: str | None, model: Model, labels: LabelSource, neutral: str = "neutral"
) -> IdentificationTask:
    """Latents as gallery and probes; without probes, the first neutral of each person is gallery.

    A row that the gallery has with the same name and the same values is left out of the probes: it
    would find itself.

    Args:
        gallery: latents of known people, any number of each person.
        probes: latents to identify; None = all rows of `gallery` but the first neutrals.
        model: the model that encoded them.
        labels: subjects and, without probes, expressions.
        neutral: expression of the gallery, without probes.

    Raises:
        UsageError: a pattern without a required part.
        InputError: unreadable, of another model, without a label, or no row is neutral.
    """
    gallery_rows = _read_latents(gallery, model)
    if probes is not None:
        probe_rows = _read_latents(probes, model)
        every_label = labels.of([*gallery_rows.names, *probe_rows.names], ("subject",))
        gallery_labels = every_label[: len(gallery_rows)]
        probe_labels = every_label[len(gallery_rows) :]
    else:
        probe_rows = gallery_rows
        probe_labels = labels.of(probe_rows.names, ("subject", "expression"))
        first: dict[str, int] = {}  # subject -> row of its first neutral
        for row, label in enumerate(probe_labels):
            if label.expression == neutral:
                first.setdefault(label.subject, row)
        if not first:
            raise InputError(
                f"no row of {shown(gallery)} shows the expression {neutral!r}, so there is no "
                "gallery; name another with --neutral, or give GALLERY and PROBES",
                ErrorCode.NEUTRAL_MISSING,
            )
        gallery_labels = [probe_labels[row] for row in first.values()]
        gallery_rows = gallery_rows.take([*first.values()])
    enrolled = set(_row_keys(gallery_rows))
    rows = [row for row, key in enumerate(_row_keys(probe_rows)) if key not in enrolled]
    return IdentificationTask(
        gallery_rows,
        [label.subject for label in gallery_labels],
        probe_rows.take(rows),
        [probe_labels[row].subject for row in rows],
        # the neutrals of a single input were no probes in the first place
        len(probe_rows) - len(rows) if probes is not None else 0,
        {"model": model.id},
    )


def identification_report(
    task: IdentificationTask,
    model: Model,
    ranks: Sequence[int] = (1, 5),
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Rank-k accuracies, AUC and EER by cosine of latents and by vertex distance, for JSON.

    Rank-k accuracies are over the probes whose person is in the gallery; they are left out where
    the gallery has k people or fewer. AUC and EER are over all pairs; they are left out without
    genuine or without impostor pairs.

    Args:
        task: gallery and probes.
        model: decodes the identity faces.
        ranks: values of k.
        progress: shows the number of compared pairs.

    Raises:
        InputError: no probes, no person to tell from another, or a decoded face is not finite.
    """
    people, number = np.unique([*task.gallery_subjects, *task.probe_subjects], return_inverse=True)
    gallery, probes = np.split(number, [len(task.gallery_subjects)])
    _check_task(task, gallery, probes)
    enrolled, gallery_people = np.isin(probes, gallery), len(np.unique(gallery))
    pairs = len(gallery) * len(probes)
    genuine = int(np.bincount(gallery, minlength=len(people))[probes].sum())
    found: dict[str, Any] = {}
    with progress("recognizing", len(SIMILARITIES) * pairs) as advance:
        for name, similarity in SIMILARITIES.items():
            rank, verified = recognize(
                FaceCollection(gallery, _feature_reader(task.gallery, model, name)),
                FaceCollection(probes, _feature_reader(task.probes, model, name)),
                similarity,
                progress=advance,
            )
            for k in ranks:
                if k < gallery_people:
                    found[f"rank{k}_{name}_accuracy"] = float((rank[enrolled] <= k).mean())
            if verified is not None:
                found |= {f"auc_{name}": verified.auc, f"eer_{name}": verified.eer}
    counts = (
        len(gallery),
        gallery_people,
        len(probes),
        task.left_out,
        int((~enrolled).sum()),
        genuine,
        pairs - genuine,
    )
    found |= dict(zip(COUNTS, counts, strict=True))
    return {"model": found, "provenance": {"version": __version__, **task.facts}}


def metric_names(ranks: Sequence[int]) -> list[str]:
    """JSON keys of all numbers that a report can have."""
    return [
        *(f"rank{k}_{name}_accuracy" for name in SIMILARITIES for k in ranks),
        *(f"{key}_{name}" for name in SIMILARITIES for key in ("auc", "eer")),
        *COUNTS,
    ]


def _read_latents(source: str, model: Model) -> Latents:
    with open_latents(source) as opened:
        return concatenate(list(checked_rows(opened, model, "-")))


def _row_keys(latents: Latents) -> list[tuple[str, bytes, bytes]]:
    rows = zip(latents.names, latents.identity, latents.expression, strict=True)
    return [(name, z_id.tobytes(), z_exp.tobytes()) for name, z_id, z_exp in rows]


def _feature_reader(
    latents: Latents, model: Model, similarity: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Rows (B,) -> identity faces (B, V, 3) mm for `vertex`, identity latents (B, D_id) else."""
    model.check_part("identity")
    decoder = LatentDecoder(model)

    def faces(rows: np.ndarray) -> np.ndarray:
        return np.stack([decoder.face(latents, int(row), "identity") for row in rows])

    return faces if similarity == "vertex" else lambda rows: latents.identity[rows]


def _check_task(task: IdentificationTask, gallery: np.ndarray, probes: np.ndarray) -> None:
    if not len(probes):
        raise InputError(
            f"all {task.left_out or len(gallery)} faces are in the gallery themselves; "
            "expected other faces as probes",
            ErrorCode.GALLERY,
        )
    if not np.isin(probes, gallery).any():
        example = brief(task.probe_subjects[0]), brief(task.gallery_subjects[0])
        raise InputError(
            f"none of the {len(probes)} probes is of a person in the gallery (a probe is of "
            f"{example[0]}, a gallery face of {example[1]}); check the labels",
            ErrorCode.GALLERY,
        )
    if len(np.unique(np.concatenate([gallery, probes]))) == 1:
        raise InputError(
            f"gallery and probes are all of {brief(task.probe_subjects[0])}; "
            "expected several people",
            ErrorCode.GALLERY,
        )
