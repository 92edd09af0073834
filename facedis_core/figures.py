"""Faces beside what models make of them, and errors as heat maps (the paper's figures 5 to 10)."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from facedis_core.camera import FRONT, VIEWS
from facedis_core.colours import Scale
from facedis_core.heat import summary
from facedis_core.inference import Part
from facedis_core.judged import Judged, Shown, chosen
from facedis_core.studio import Cell, Figure, Studio

SIDES: Final = (FRONT, VIEWS["half-right"])  # from which mean errors are seen

# What each part is compared with, in words.
TRUTHS: Final = {
    "full": "The truth is the face itself.",
    "identity": "The truth is the person's neutral.",
    "expression": "The truth is the mean face plus what lies between the face and the person's "
    "neutral.",
}
TITLES: Final = {"full": "Full face", "identity": "Identity", "expression": "Expression"}


def error_figures(studio: Studio) -> Iterator[Figure]:
    """Best, average and worst faces of each part and model (the paper's figures 5 to 10).

    Error maps of a part have one scale, whatever the model.
    """
    for part in studio.verdict.parts:
        rows = [chosen(judged, part, studio.look.faces) for judged in studio.verdict.models]
        faces = [
            [studio.verdict.show(judged.model, row) for _, row in picks]
            for judged, picks in zip(studio.verdict.models, rows, strict=True)
        ]
        maps = [[face.errors(part) for face in of_model] for of_model in faces]
        scale = studio.look.scale or Scale.around([m for of_model in maps for m in of_model])
        for judged, picks, shown, values in zip(
            studio.verdict.models, rows, faces, maps, strict=True
        ):
            words = [word for word, _ in picks]
            yield _error_figure(studio, judged, part, words, shown, values, scale)


def _error_figure(
    studio: Studio,
    judged: Judged,
    part: Part,
    words: Sequence[str],
    shown: Sequence[Shown],
    values: Sequence[NDArray[Any]],
    scale: Scale,
) -> Figure:
    pairs = [face.parts[part] for face in shown]
    cells = [Cell(pair.truth) for pair in pairs] + [Cell(pair.made) for pair in pairs]
    cells += [Cell(p.made, errors) for p, errors in zip(pairs, values, strict=True)]
    headings = [f"{word}\n{face.name}" for word, face in zip(words, shown, strict=True)]
    picture = studio.sheet(
        cells,
        headings=headings,
        captions=[""] * 2 * len(pairs) + [summary(errors) for errors in values],
        row_labels=["truth", "synthesis", "error"],
        scale=scale,
    )
    return Figure(
        f"errors-{part}-{judged.label}",
        f"{TITLES[part]}, {judged.label}",
        f"Best, average and worst faces by the error of this part. {TRUTHS[part]}",
        picture,
    )


def mean_errors(studio: Studio) -> Figure:
    """Where on the face each model errs, on average over all faces."""
    models = studio.verdict.models
    known = studio.verdict.parts
    values = [judged.errors.per_vertex(part) for judged in models for part in known]
    mean = models[0].model.mean_face
    picture = studio.sheet(
        [Cell(mean, errors) for errors in values],
        headings=[TITLES[part] for part in known],
        captions=[summary(errors) for errors in values],
        row_labels=[judged.label for judged in models],
        scale=studio.look.scale or Scale.around(values),
        views=SIDES,
    )
    return Figure(
        "mean-errors",
        "Where errors are",
        "The mean error of each vertex over all measured faces, on the mean face.",
        picture,
    )
