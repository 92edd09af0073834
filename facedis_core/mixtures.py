"""Faces that no camera saw: expression transfer (the paper's figure 1) and interpolation, and the
identity parts of one face by several models (figure 11).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.choice import Cast, like
from facedis_core.colours import Scale
from facedis_core.heat import summary
from facedis_core.inference import LatentPart
from facedis_core.judged import Judged, Shown, Verdict
from facedis_core.latents import Latents
from facedis_core.studio import Cell, Figure, Studio
from facedis_core.transfer import interpolated, transfer

STEPS: Final = 5  # of an interpolation, both ends among them


def mixture_figures(studio: Studio) -> Iterator[Figure]:
    """Transfer (figure 1) and interpolation of each model, and identities side by side.

    Nothing where the faces show fewer than two people or no expression.
    """
    found = studio.verdict.cast
    if found is None:
        return
    for judged in studio.verdict.models:
        yield _transfer(studio, judged, found)
    for judged in studio.verdict.models:
        yield _interpolation(studio, judged, found)
    if len(studio.verdict.models) > 1:
        yield _identities(studio, found)


def _transfer(studio: Studio, judged: Judged, found: Cast) -> Figure:
    model = judged.model
    identities = encoded(studio.verdict, judged, found.identities)
    expressions = encoded(studio.verdict, judged, found.expressions)
    made = transfer(identities, expressions, all_pairs=True)
    faces = model.decode(made.identity, made.expression)
    cells = [Cell(model.mean_face), *map(Cell, studio.truths(found.expressions))]
    width = len(found.expressions)
    for number, truth in enumerate(studio.truths(found.identities)):
        cells += [Cell(truth), *map(Cell, faces[number * width :][:width])]
    labels = studio.verdict.faces.labels
    shown = [labels.expressions[labels.expression[row]] for row in found.expressions]
    people = [labels.subjects[labels.subject[row]] for row in found.identities]
    giver = labels.subjects[labels.subject[found.expressions[0]]]
    return Figure(
        f"transfer-{judged.label}",
        f"Expression transfer, {judged.label}",
        f"The identity of the true face at the left with the expression of the true face of "
        f"{giver} at the top; the first face is the mean face.",
        studio.sheet(cells, headings=["identity", *shown], row_labels=[giver, *people]),
    )


def _interpolation(studio: Studio, judged: Judged, found: Cast) -> Figure:
    first, second = interpolation_ends(studio.verdict, found)
    ends = encoded(studio.verdict, judged, [first, second])
    identity, expression = (latent_way(ends, STEPS, part) for part in get_args(LatentPart))
    made = transfer(identity, expression, all_pairs=True)
    faces = judged.model.decode(made.identity, made.expression)
    shares = [f"{share:.0%}" for share in np.linspace(0, 1, STEPS)]
    names = studio.verdict.faces.labels.names
    return Figure(
        f"interpolation-{judged.label}",
        f"Interpolation, {judged.label}",
        f"From {names[first]} (top left) to {names[second]} (bottom right): identity from top "
        "to bottom, expression from left to right, each linear in latent space. The other "
        "corners are expression transfers.",
        studio.sheet(
            [Cell(face) for face in faces],
            headings=[f"expression\n{share}" for share in shares],
            row_labels=[f"identity {share}" for share in shares],
        ),
    )


def _identities(studio: Studio, found: Cast) -> Figure:
    """Identity parts of the same faces by each model, as with and without discriminator."""
    models = studio.verdict.models
    rows = identity_rows(studio.verdict, found)
    shown = [[studio.verdict.show(judged.model, row) for row in rows] for judged in models]
    labels = studio.verdict.faces.labels
    cells = [Cell(face) for face in studio.truths(rows)]
    row_labels = ["face"]
    compared = all("identity" in face.parts for face in shown[0])
    if compared:
        cells += [Cell(face.parts["identity"].truth) for face in shown[0]]
        row_labels.append("neutral")
    captions = [""] * len(cells)
    maps: list[NDArray[Any]] = []
    for judged, faces in zip(models, shown, strict=True):
        made = [_identity(face) for face in faces]
        cells += [Cell(vertices) for vertices in made]
        row_labels.append(judged.label)
        captions += [""] * len(rows)
        if compared:
            errors = [face.errors("identity") for face in faces]
            maps += errors
            cells += [Cell(*pair) for pair in zip(made, errors, strict=True)]
            row_labels.append("error")
            captions += [summary(values) for values in errors]
    picture = studio.sheet(
        cells,
        headings=[
            f"{labels.subjects[labels.subject[row]]}\n{labels.expressions[labels.expression[row]]}"
            for row in rows
        ],
        captions=captions,
        row_labels=row_labels,
        scale=(studio.look.scale or Scale.around(maps)) if compared else None,
    )
    return Figure(
        "identities",
        "Identity parts by each model",
        "The identity of one person should be the same whatever the face does, and that of "
        "another person another one. The paper compares models with and without the identity "
        "discriminator so.",
        picture,
    )


def encoded(verdict: Verdict, judged: Judged, rows: Sequence[int]) -> Latents:
    """What faces of the set are to a model."""
    names = [verdict.faces.labels.names[row] for row in rows]
    return judged.model.encode(verdict.faces.read(np.array(rows)), names)


def interpolation_ends(verdict: Verdict, found: Cast) -> tuple[int, int]:
    """Rows of two people, with two expressions where there are."""
    faces, rows = verdict.faces, verdict.rows
    first, *others = found.identities
    last = others[-1] if others else found.expressions[0]  # of who shows the expressions
    return (
        like(faces, rows, first, found.expressions[0]),
        like(faces, rows, last, found.expressions[min(1, len(found.expressions) - 1)]),
    )


def latent_way(ends: Latents, steps: int, varied: LatentPart) -> Latents:
    """From the first of two rows to the second in one part, which both ends belong to."""
    (way,) = interpolated(iter([(ends.take([0]), ends.take([1]))]), steps, varied)
    return way


def identity_rows(verdict: Verdict, found: Cast) -> list[int]:
    """Rows of the first and the last person of a cast, at rest and with the first expressions."""
    people = dict.fromkeys([found.identities[0], found.identities[-1]])
    rows = [
        row
        for person in people
        for row in (
            person,
            *(like(verdict.faces, verdict.rows, person, e) for e in found.expressions[:2]),
        )
    ]
    return list(dict.fromkeys(rows))


def _identity(face: Shown) -> NDArray[Any]:
    identity = face.sample.prediction.identity
    assert identity is not None
    return np.asarray(identity[0])
