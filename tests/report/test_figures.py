"""Figures of a report: the faces and errors they draw."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import synthetic
from raising import raises

from facedis_core.data.latents import concatenate
from facedis_core.geometry.distances import vertex_distances
from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.combine import interpolate_blocks, transfer
from facedis_core.render.color_scale import ColorScale
from facedis_core.report.comparison import PARTS, ModelComparison, compare_models, example_rows
from facedis_core.report.figures import (
    Figure,
    FigureCell,
    FigureMaker,
    FigureOptions,
    error_figures,
    generated_figures,
    mean_error_figure,
)
from facedis_core.report.viewer_payload import (
    TOLERANCE_MM,
    QuantizedVertices,
    interpolation_shapes,
    viewer_payload,
)

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, eq=False)
class Watched(FigureMaker):
    """Draws nothing and keeps what each sheet was asked for."""

    sheets: list[dict] = field(default_factory=list)

    def sheet(self, cells: list[FigureCell], **words: object) -> np.ndarray:
        self.sheets.append({"cells": cells, **words})
        return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def set_file(tmp_path: Path) -> Path:
    """5 test people x 4 expressions."""
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(test=5))


@pytest.fixture
def comparison(set_file: Path, model_file: Path, other_model_file: Path) -> ModelComparison:
    return compare_models(str(set_file), [str(model_file), str(other_model_file)], baselines=False)


def watched(comparison: ModelComparison, figures, **options) -> tuple[list[Figure], list[dict]]:
    maker = Watched(comparison, FigureOptions(**options))
    found = figures(maker)
    return (list(found) if not isinstance(found, Figure) else [found]), maker.sheets


def test_labels_are_the_names_of_the_files(comparison: ModelComparison) -> None:
    assert [result.label for result in comparison.models] == ["small", "other"]
    assert not comparison.baselines


def test_two_files_of_one_name_are_told_apart_by_their_folders(
    set_file: Path, model_file: Path, other_model_file: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "small.safetensors"
    twin.write_bytes(other_model_file.read_bytes())
    found = compare_models(str(set_file), [str(model_file), str(twin)], baselines=False)
    assert [result.label for result in found.models] == [
        f"{path.parent.name}/small" for path in (model_file, twin)
    ]
    with raises("same-file"):
        compare_models(str(set_file), [str(twin), str(other_model_file)], baselines=False)


def test_a_model_of_other_faces_is_refused(set_file: Path, model_file: Path) -> None:
    with raises("topology"):
        compare_models(str(set_file), [str(model_file), "ict-linear"], baselines=False)


def test_error_figures_show_truth_synthesis_and_error(comparison: ModelComparison) -> None:
    figures, sheets = watched(comparison, error_figures, faces=2)
    assert len(figures) == len(sheets) == len(PARTS) * 2
    expected = [(part, result) for part in PARTS for result in comparison.models]
    for (part, result), figure, sheet in zip(expected, figures, sheets, strict=True):
        assert figure.key == f"errors-{part}-{result.label}"
        rows = [row for _, row in example_rows(result, part, 2)]
        errors = result.errors.per_mesh[part]
        by_error = comparison.rows[np.argsort(errors, kind="stable")].tolist()
        assert rows[:2] == by_error[:2]
        assert rows[4:] == by_error[-1:-3:-1]
        cells = sheet["cells"]
        assert len(cells) == 3 * len(rows) == 18
        for column, row in enumerate(rows):
            truth, predicted, heat = cells[column::6]
            face = comparison.faces.vertices[row]
            neutral = comparison.faces.neutrals_eval[comparison.faces.labels.subject[row]]
            latents = result.model.encode_prepared(face[None])
            decoded = result.model.decode_vectors(latents.identity, latents.expression, part)[0]
            mean = result.model.mean_face
            true = {"full": face, "identity": neutral, "expression": mean + face - neutral}[part]
            assert truth.errors is None
            assert truth.vertices == pytest.approx(true, abs=1e-4)
            assert predicted.vertices == pytest.approx(decoded, abs=1e-4)
            assert heat.errors == pytest.approx(vertex_distances(decoded, true), abs=1e-4)
            place = int(np.searchsorted(comparison.rows, row))
            assert heat.errors.mean() == pytest.approx(errors[place], abs=1e-6)
            assert f"mean {errors[place]:.2f}" in sheet["captions"][12 + column]
            assert comparison.faces.labels.names[row] in sheet["column_labels"][column]


def test_error_maps_of_a_part_have_one_scale(comparison: ModelComparison) -> None:
    _, sheets = watched(comparison, error_figures)
    for first, second in zip(sheets[::2], sheets[1::2], strict=True):
        assert first["scale"] == second["scale"]
        values = [c.errors for s in (first, second) for c in s["cells"] if c.errors is not None]
        assert first["scale"] == ColorScale.covering(values)
    _, sheets = watched(comparison, error_figures, scale=ColorScale(0.0, 7.0))
    assert {sheet["scale"] for sheet in sheets} == {ColorScale(0.0, 7.0)}


def test_mean_errors_stand_on_the_mean_face(comparison: ModelComparison) -> None:
    _, (sheet,) = watched(comparison, mean_error_figure)
    assert len(sheet["cells"]) == 6
    for cell, (result, part) in zip(
        sheet["cells"], [(j, p) for j in comparison.models for p in PARTS], strict=True
    ):
        assert np.array_equal(cell.vertices, result.model.mean_face)
        mean = np.nanmean(result.errors.per_mesh[part])
        assert cell.errors.mean() == pytest.approx(mean)


def test_mixtures_are_those_of_transfer_and_interp(comparison: ModelComparison) -> None:
    figures, sheets = watched(comparison, generated_figures)
    assert [figure.key for figure in figures] == [
        "transfer-small",
        "transfer-other",
        "interpolation-small",
        "interpolation-other",
        "identities",
    ]
    faces, model = comparison.faces, comparison.models[0].model
    by_vertices = {face.tobytes(): row for row, face in enumerate(faces.vertices)}

    def row_of(cell: FigureCell) -> int:
        return by_vertices[cell.vertices.tobytes()]

    cells, width = sheets[0]["cells"], len(sheets[0]["column_labels"])
    assert np.array_equal(cells[0].vertices, model.mean_face)
    shown = [row_of(cell) for cell in cells[1:width]]
    people = [row_of(cell) for cell in cells[width::width]]
    identity = model.encode_prepared(faces.vertices[people])
    expression = model.encode_prepared(faces.vertices[shown])
    predicted = transfer(identity, expression, all_pairs=True)
    decoded = model.decode_vectors(predicted.identity, predicted.expression)
    grid = np.array([c.vertices for c in cells]).reshape(-1, width, *model.mean_face.shape)
    assert np.array_equal(grid[1:, 1:].reshape(decoded.shape), decoded)

    cells = sheets[2]["cells"]
    names = figures[2].caption
    ends = [row for row, name in enumerate(faces.labels.names) if name in names]
    assert len(ends) == 2
    latents = model.encode_prepared(faces.vertices[ends])
    middle = (latents.identity[:1] + latents.identity[1:]) / 2
    expected = model.decode_vectors(middle, latents.expression[1:])
    assert cells[2 * 5 + 4].vertices == pytest.approx(expected[0], abs=1e-4)
    both = interpolate_blocks(iter([(latents.take([0]), latents.take([1]))]), 5)
    diagonal = concatenate(list(both))
    assert np.array([cells[6 * k].vertices for k in range(5)]) == pytest.approx(
        model.decode_vectors(diagonal.identity, diagonal.expression), abs=1e-4
    )


@pytest.mark.parametrize("expressions", [2, 3])
def test_of_two_people_one_becomes_the_other(
    expressions: int, tmp_path: Path, model_file: Path
) -> None:
    faces = synthetic.face_set(test=2, expressions=expressions)
    path = synthetic.write_face_set(tmp_path / "two.safetensors", faces)
    comparison = compare_models(str(path), [str(model_file)], baselines=False)
    figures, sheets = watched(comparison, generated_figures)
    names = faces.labels.names
    first, last = (row for row, name in enumerate(names) if name in figures[1].caption)
    assert faces.labels.subject[first] != faces.labels.subject[last]
    corners = [sheets[1]["cells"][place].vertices for place in (0, 20)]
    assert (corners[0] != corners[1]).any()


def test_identities_stand_below_one_another(comparison: ModelComparison) -> None:
    figures, sheets = watched(comparison, generated_figures)
    sheet = sheets[-1]
    assert sheet["row_labels"] == ["face", "neutral", "small", "error", "other", "error"]
    width = len(sheet["column_labels"])
    cells = np.array([cell.vertices for cell in sheet["cells"]]).reshape(6, width, -1, 3)
    for result, place in zip(comparison.models, (2, 4), strict=True):
        latents = result.model.encode_prepared(cells[0])
        predicted = result.model.decode_vectors(latents.identity, latents.expression, "identity")
        assert np.array_equal(cells[place], predicted)
    assert figures[-1].title


def test_without_neutrals_only_full_faces_are_judged(tmp_path: Path, model_file: Path) -> None:
    faces = synthetic.face_set(neutrals=False)
    path = synthetic.write_face_set(tmp_path / "bare.safetensors", faces)
    comparison = compare_models(str(path), [str(model_file)], baselines=False)
    figures, _ = watched(comparison, error_figures)
    assert [figure.key for figure in figures] == ["errors-full-small"]
    shown = viewer_payload(comparison, FigureOptions())
    assert shown["faces"][0]["neutral"] is None
    assert shown["interpolation"] is not None


def unpacked(packed: dict) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(packed["levels"]), "<u2").reshape(-1, 3)
    return np.array(packed["low"]) + np.array(packed["step"]) * levels


def test_the_viewer_holds_the_faces_to_a_hundredth_of_a_millimetre(
    comparison: ModelComparison,
) -> None:
    found = viewer_payload(comparison, FigureOptions(faces=2))
    names = {item["face"]: item["label"] for group in found["groups"] for item in group["items"]}
    assert set(names) == set(range(len(found["faces"])))
    for number, face in enumerate(found["faces"]):
        name = names[number].partition(": ")[2]
        row = list(comparison.faces.labels.names).index(name)
        truth = comparison.faces.vertices[row]
        assert np.abs(unpacked(face["truth"]) - truth).max() < 0.01
        for result, predicted in zip(comparison.models, face["predicted"], strict=True):
            latents = result.model.encode_prepared(truth[None])
            for part in ("full", "identity"):
                decoded = result.model.decode_vectors(latents.identity, latents.expression, part)[0]
                assert np.abs(unpacked(predicted[part]) - decoded).max() < 0.01
    triangles = np.frombuffer(base64.b64decode(found["surface"]["triangles"]), "<u2")
    assert np.array_equal(triangles.reshape(-1, 3), comparison.faces.triangles)


@pytest.mark.parametrize(("name", "most"), [("ict-linear", 2), ("ict-pointnet", 9)])
@pytest.mark.parametrize("varied", ["identity", "expression"])
def test_straight_pieces_come_near_the_decoders_way(name: str, most: int, varied: str) -> None:
    model = load_model(name)
    examples = ROOT / "weights" / "examples"
    meshes = [read_mesh(examples / file) for file in ("alice_neutral.ply", "bob_smile.ply")]
    ends = model.encode(meshes)
    path = interpolation_shapes(model, ends, varied)
    steps = [QuantizedVertices.of(step).vertices() for step in path.shapes]
    assert 2 <= len(steps) <= most
    for share in (0.0, 0.21, 0.5, 0.83, 1.0):
        place = share * (len(steps) - 1)
        below = min(int(place), len(steps) - 2)
        shape = (1 - place + below) * steps[below] + (place - below) * steps[below + 1]
        identity = (1 - share) * ends.identity[:1] + share * ends.identity[1:]
        expression = (1 - share) * ends.expression[:1] + share * ends.expression[1:]
        offsets = varied == "expression"
        exact = model.decode_vectors(
            identity.astype(np.float32), expression.astype(np.float32), varied, offsets=offsets
        )[0]
        wrong = vertex_distances(shape, exact).max()
        # the PointNet takes all the pieces there may be, and its expressions still bend in them
        assert wrong < (0.01 if most == 2 else 2.5 * TOLERANCE_MM)
        assert wrong < path.max_error + 0.01
