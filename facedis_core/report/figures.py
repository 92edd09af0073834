"""Figures of a report, after those of the paper.

Error maps of example faces (figures 5 to 10), expression transfer (figure 1), interpolation, and
the identity parts of one face by several models (figure 11).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents
from facedis_core.io.progress import Progress, no_progress
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model import LatentPart, Part
from facedis_core.pipeline.combine import interpolate_blocks, transfer
from facedis_core.render.camera import FRONT, VIEWS, Camera
from facedis_core.render.color_bar import ColorBar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.contact_sheet import ContactSheet
from facedis_core.render.error_map import error_summary
from facedis_core.render.scene import FaceRenderer, FaceToDraw, render_faces
from facedis_core.render.shading import BACKGROUND, Picture
from facedis_core.render.text import default_text_size
from facedis_core.report.comparison import FaceResult, ModelComparison, ModelResult, example_rows
from facedis_core.report.example_faces import TransferExamples, same_expression

MEAN_ERROR_VIEWS: Final = (FRONT, VIEWS["half-right"])
PART_TITLES: Final = {"full": "Full face", "identity": "Identity", "expression": "Expression"}
INTERPOLATION_STEPS: Final = 5  # both ends among them

_TRUTH_OF_PART: Final = {
    "full": "The truth is the face itself.",
    "identity": "The truth is the person's neutral face.",
    "expression": "The truth is the mean face plus the difference between the face and the "
    "person's neutral face.",
}

# Text must stay readable where a sheet fills half the width of a page.
_TEXT_SIZES_PER_SHEET: Final = 46
_TEXT_SIZES_PER_PICTURE: Final = 9


class Figure(NamedTuple):
    """A picture with its file name (key), its title in one line, and what it shows (caption)."""

    key: str
    title: str
    caption: str
    picture: Picture


@dataclass(frozen=True)
class FigureOptions:
    """Size and number of faces in figures.

    Attributes:
        size: height of a face in pixels.
        faces: number of best, of average and of worst faces.
        scale: of error maps; None = 0 to the 99th percentile of the errors of a figure's part.
    """

    size: int = 240
    faces: int = 1
    scale: ColorScale | None = None


class FigureCell(NamedTuple):
    """A face (V, 3) mm on a sheet, and errors (V,) mm to color it by."""

    vertices: NDArray[Any]
    errors: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class FigureMaker:
    """Draws the figures of a model comparison.

    Attributes:
        progress: counts the pictures of single faces of a figure.
    """

    comparison: ModelComparison
    options: FigureOptions
    progress: Progress = no_progress

    def truths(self, rows: Sequence[int]) -> NDArray[Any]:
        """Faces of the set (n, V, 3) mm."""
        return self.comparison.faces.read(np.array(rows))

    def sheet(
        self,
        cells: Sequence[FigureCell],
        *,
        column_labels: Sequence[str],
        row_labels: Sequence[str],
        captions: Sequence[str] = (),
        scale: ColorScale | None = None,
        views: Sequence[float] = (FRONT,),
    ) -> Picture:
        """Contact sheet of faces, all by one camera, with a color bar where there is a scale."""
        triangles = self.comparison.faces.triangles
        camera = Camera.framing([cell.vertices for cell in cells], self.options.size, views)
        meshes = [Mesh(np.asarray(cell.vertices, np.float32), triangles, "") for cell in cells]
        faces = [
            FaceToDraw(mesh, views, cell.errors) for mesh, cell in zip(meshes, cells, strict=True)
        ]
        pictures = []
        with self.progress("drawing", len(cells)) as advance:
            for picture in render_faces(FaceRenderer(camera, BACKGROUND, scale), faces):
                pictures.append(picture)
                advance(1)
        errors = [cell.errors for cell in cells if cell.errors is not None]
        return ContactSheet(
            len(column_labels),
            captions,
            row_labels,
            column_labels,
            bar=ColorBar.of(scale, errors) if scale is not None else None,
            text_size=sheet_text_size(camera, len(column_labels) * len(views)),
        ).compose(pictures)


def sheet_text_size(camera: Camera, pictures: int) -> int:
    """Text size on a sheet with this number of columns."""
    size = min(
        camera.width * pictures // _TEXT_SIZES_PER_SHEET, camera.width // _TEXT_SIZES_PER_PICTURE
    )
    return max(default_text_size(camera.height), size)


def error_figures(maker: FigureMaker) -> Iterator[Figure]:
    """Best, average and worst faces of each part and model (the paper's figures 5 to 10).

    All error maps of a part have one color scale, whatever the model.
    """
    comparison = maker.comparison
    for part in comparison.parts:
        models = comparison.having(part)
        rows = [example_rows(result, part, maker.options.faces) for result in models]
        faces = [
            [comparison.face_result(result.model, row) for _, row in examples]
            for result, examples in zip(models, rows, strict=True)
        ]
        errors = [[face.errors(part) for face in of_model] for of_model in faces]
        scale = maker.options.scale or ColorScale.covering(list(chain(*errors)))
        for number, result in enumerate(models):
            kinds = [kind for kind, _ in rows[number]]
            yield _error_figure(maker, result, part, kinds, faces[number], errors[number], scale)


def _error_figure(
    maker: FigureMaker,
    result: ModelResult,
    part: Part,
    kinds: Sequence[str],
    faces: Sequence[FaceResult],
    errors: Sequence[NDArray[Any]],
    scale: ColorScale,
) -> Figure:
    pairs = [face.parts[part] for face in faces]
    picture = maker.sheet(
        [
            *(FigureCell(pair.truth) for pair in pairs),
            *(FigureCell(pair.predicted) for pair in pairs),
            *(FigureCell(p.predicted, e) for p, e in zip(pairs, errors, strict=True)),
        ],
        column_labels=[f"{kind}\n{face.name}" for kind, face in zip(kinds, faces, strict=True)],
        captions=[""] * 2 * len(pairs) + list(map(error_summary, errors)),
        row_labels=["truth", "synthesis", "error"],
        scale=scale,
    )
    return Figure(
        f"errors-{part}-{result.label}",
        f"{PART_TITLES[part]}, {result.label}",
        f"Best, average and worst faces by the error of this part. {_TRUTH_OF_PART[part]}",
        picture,
    )


def mean_error_figure(maker: FigureMaker) -> Figure:
    """Mean error of each vertex by each model, on the mean face."""
    comparison = maker.comparison
    models, parts = comparison.models, comparison.parts
    errors = [
        result.errors.per_vertex(part) if result in comparison.having(part) else None
        for result in models
        for part in parts
    ]
    mean_face = models[0].model.mean_face
    known = [values for values in errors if values is not None]
    picture = maker.sheet(
        [FigureCell(mean_face, values) for values in errors],
        column_labels=[PART_TITLES[part] for part in parts],
        captions=["not known" if each is None else error_summary(each) for each in errors],
        row_labels=[result.label for result in models],
        scale=maker.options.scale or ColorScale.covering(known),
        views=MEAN_ERROR_VIEWS,
    )
    return Figure(
        "mean-errors",
        "Mean error by vertex",
        "The mean error of each vertex over all measured faces, on the mean face.",
        picture,
    )


def generated_figures(maker: FigureMaker) -> Iterator[Figure]:
    """Expression transfer and interpolation by each model, and identity parts by several models.

    Of models with latents of one half no transfer and no interpolation. Nothing where the faces
    show fewer than two people or no expression.
    """
    comparison = maker.comparison
    examples = comparison.transfer_examples
    if examples is None:
        return
    for result in comparison.whole:
        yield _transfer_figure(maker, result, examples)
    for result in comparison.whole:
        yield _interpolation_figure(maker, result, examples)
    models = [result for result in comparison.models if result.model.config.identity]
    if len(models) > 1:
        yield _identity_figure(maker, models, examples)


def _transfer_figure(maker: FigureMaker, result: ModelResult, examples: TransferExamples) -> Figure:
    model, labels = result.model, maker.comparison.faces.labels
    transferred = transfer(
        encode_rows(maker.comparison, result, examples.identities),
        encode_rows(maker.comparison, result, examples.expressions),
        all_pairs=True,
    )
    faces = model.decode_vectors(transferred.identity, transferred.expression)
    cells = [FigureCell(model.mean_face), *map(FigureCell, maker.truths(examples.expressions))]
    width = len(examples.expressions)
    for number, truth in enumerate(maker.truths(examples.identities)):
        cells += [FigureCell(truth), *map(FigureCell, faces[number * width :][:width])]
    expressions = [labels.expressions[labels.expression[row]] for row in examples.expressions]
    people = [labels.subjects[labels.subject[row]] for row in examples.identities]
    source = labels.subjects[labels.subject[examples.expressions[0]]]
    return Figure(
        f"transfer-{result.label}",
        f"Expression transfer, {result.label}",
        f"The first row and the first column are true faces: expressions of {source}, and one "
        "neutral of each person; the first face is the mean face. Every other face has the "
        "identity at its left with the expression at its top.",
        maker.sheet(
            cells,
            column_labels=["identity", *expressions],
            row_labels=[f"expression: {source}", *(f"identity: {name}" for name in people)],
        ),
    )


def _interpolation_figure(
    maker: FigureMaker, result: ModelResult, examples: TransferExamples
) -> Figure:
    first, second = interpolation_ends(maker.comparison, examples)
    ends = encode_rows(maker.comparison, result, [first, second])
    identity, expression = (
        interpolate_part(ends, INTERPOLATION_STEPS, part) for part in get_args(LatentPart)
    )
    grid = transfer(identity, expression, all_pairs=True)
    faces = result.model.decode_vectors(grid.identity, grid.expression)
    shares = [f"{share:.0%}" for share in np.linspace(0, 1, INTERPOLATION_STEPS)]
    names = maker.comparison.faces.labels.names
    return Figure(
        f"interpolation-{result.label}",
        f"Interpolation, {result.label}",
        f"From {names[first]} (top left) to {names[second]} (bottom right): identity from top "
        "to bottom, expression from left to right, each linear in latent space. The other "
        "corners are expression transfers.",
        maker.sheet(
            [FigureCell(face) for face in faces],
            column_labels=[f"expression\n{share}" for share in shares],
            row_labels=[f"identity {share}" for share in shares],
        ),
    )


def _identity_figure(
    maker: FigureMaker, models: Sequence[ModelResult], examples: TransferExamples
) -> Figure:
    """Identity parts of the same faces by each model."""
    comparison = maker.comparison
    labels = comparison.faces.labels
    rows = _identity_rows(comparison, examples)
    faces = [[comparison.face_result(result.model, row) for row in rows] for result in models]
    cells = [FigureCell(face) for face in maker.truths(rows)]
    row_labels = ["face"]
    has_truth = all("identity" in face.parts for face in faces[0])
    if has_truth:
        cells += [FigureCell(face.parts["identity"].truth) for face in faces[0]]
        row_labels.append("neutral")
    captions = [""] * len(cells)
    all_errors: list[NDArray[Any]] = []
    for result, of_model in zip(models, faces, strict=True):
        predicted = [_identity_part(face) for face in of_model]
        cells += [FigureCell(vertices) for vertices in predicted]
        row_labels.append(result.label)
        captions += [""] * len(rows)
        if has_truth:
            errors = [face.errors("identity") for face in of_model]
            all_errors += errors
            cells += [FigureCell(*pair) for pair in zip(predicted, errors, strict=True)]
            row_labels.append("error")
            captions += map(error_summary, errors)
    picture = maker.sheet(
        cells,
        column_labels=[
            f"{labels.subjects[labels.subject[row]]}\n{labels.expressions[labels.expression[row]]}"
            for row in rows
        ],
        captions=captions,
        row_labels=row_labels,
        scale=(maker.options.scale or ColorScale.covering(all_errors)) if has_truth else None,
    )
    return Figure(
        "identities",
        "Identity parts by each model",
        "The identity part should be the same for every expression of one person, and differ "
        "between people. The paper compares models with and without the identity discriminator "
        "this way.",
        picture,
    )


def encode_rows(comparison: ModelComparison, result: ModelResult, rows: Sequence[int]) -> Latents:
    """Latents of faces of the set by one model."""
    names = [comparison.faces.labels.names[row] for row in rows]
    return result.model.encode_prepared(comparison.faces.read(np.array(rows)), names)


def interpolation_ends(comparison: ModelComparison, examples: TransferExamples) -> tuple[int, int]:
    """Rows of two people, with two expressions where there are."""
    first, *others = examples.identities
    last = others[-1] if others else examples.expressions[0]
    start, *more = examples.expressions[:2]
    faces, rows = comparison.faces, comparison.rows
    return (
        same_expression(faces, rows, first, start),
        same_expression(faces, rows, last, more[0] if more else start),
    )


def interpolate_part(ends: Latents, steps: int, varied: LatentPart) -> Latents:
    """Latents from the first of two rows to the second in one part, both ends included."""
    (rows,) = interpolate_blocks(iter([(ends.take([0]), ends.take([1]))]), steps, varied)
    return rows


def _identity_rows(comparison: ModelComparison, examples: TransferExamples) -> list[int]:
    """Rows of the first and the last person, neutral and with the first two expressions."""
    rows = []
    for person in (examples.identities[0], examples.identities[-1]):
        rows.append(person)
        for expression in examples.expressions[:2]:
            rows.append(same_expression(comparison.faces, comparison.rows, person, expression))
    return list(dict.fromkeys(rows))


def _identity_part(face: FaceResult) -> NDArray[Any]:
    identity = face.faces.prediction.identity
    assert identity is not None
    return np.asarray(identity[0])
