"""Who is looked up among whom: people of a face set, or of latents that somebody has labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from facedis_core.comparison import Label, read_labels
from facedis_core.csv_text import brief
from facedis_core.decoding import sound_rows
from facedis_core.errors import InputError
from facedis_core.inference import Model
from facedis_core.latents import Latents, concatenate, open_latents
from facedis_core.measurement import open_split
from facedis_core.neutrals import neutral_faces
from facedis_core.patterns import compile_pattern
from facedis_core.progress import Progress, no_progress
from facedis_core.streams import shown

_TOGETHER: Final = 32  # faces that are encoded before the next ones are read


@dataclass(frozen=True)
class Labels:
    """Where it is said who shows what: a CSV file as of `read_labels`, or a pattern of names."""

    file: str | None = None
    pattern: str | None = None

    def of(self, names: Sequence[str], needed: Sequence[str]) -> list[Label]:
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
            return [Label(each["subject"], each.get("expression", "")) for each in found]
        known = read_labels(self.file or "-", frozenset(names), ("name", *needed))
        missing = [name for name in names if name not in known]
        if missing:
            raise InputError(
                f"{shown(self.file or '-')} has no row for {brief(missing[0])}, {len(missing)} of "
                f"{len(names)} latents; give everybody a row"
            )
        return [known[name] for name in names]


@dataclass(frozen=True, eq=False)
class Lookup:
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


def lookup_in_set(
    source: str,
    model: Model,
    split: str,
    progress: Progress = no_progress,
) -> Lookup:
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
        for start in range(0, len(others), _TOGETHER):
            some = others[start : start + _TOGETHER]
            probes.append(model.encode(faces.read(some), [labels.names[row] for row in some]))
            advance(len(some))
    origin = {"model": model.id, "set": faces.id, "source": faces.source, "split": split}
    return Lookup(
        concatenate(blocks),
        names,
        concatenate(probes),
        [labels.subjects[person] for person in subject[others]],
        0,
        {"faces": len(rows), "subjects": len(people)} | origin,
    )


def lookup_in_latents(
    gallery: str, probes: str | None, model: Model, labels: Labels, neutral: str = "neutral"
) -> Lookup:
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
    known = _read(gallery, model)
    if probes is not None:
        asked = _read(probes, model)
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
    enrolled = set(_keys(known))
    rows = [row for row, key in enumerate(_keys(asked)) if key not in enrolled]
    return Lookup(
        known,
        [label.subject for label in who],
        asked.take(rows),
        [asked_who[row].subject for row in rows],
        # of one source the gallery was never to be looked up
        len(asked) - len(rows) if probes is not None else 0,
        {"model": model.id},
    )


def _read(source: str, model: Model) -> Latents:
    with open_latents(source) as opened:
        return concatenate(list(sound_rows(opened, model, "-")))


def _keys(latents: Latents) -> list[tuple[str, bytes, bytes]]:
    parts = zip(latents.names, latents.identity, latents.expression, strict=True)
    return [
        (name, identity.tobytes(), expression.tobytes()) for name, identity, expression in parts
    ]
