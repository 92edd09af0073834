"""ARKit's blendshapes: the bundled table, on other heads, and weights of faces."""

import os
from pathlib import Path

import numpy as np
import pytest
from raising import raises

from facedis_core.datasets.ict_synthesis import expression_table
from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.model_file import load_model
from facedis_core.rig.blendshapes import (
    ARKIT_NAMES,
    arkit_targets,
    blendshape_weights,
    load_blendshapes,
)
from facedis_core.rig.weights import encode_weights, read_weights

RECORDING = b"Timecode,JAWOPEN,mouthSmileLeft,HeadYaw\n0,0.5,0.25,0.1\n1, 1 ,0,0.2\n"


@pytest.fixture(scope="module")
def model():
    return load_model("ict-linear")


@pytest.fixture(scope="module")
def shapes(model):
    return load_blendshapes(model.preparation)


def test_names_are_those_of_arkit():
    assert len(set(ARKIT_NAMES)) == 52
    sides = [name.removesuffix("Left") for name in ARKIT_NAMES if name.endswith("Left")]
    right = [name.removesuffix("Right") for name in ARKIT_NAMES if name.endswith("Right")]
    assert sides == [*right[:7], *sides[7:]] and set(sides) == set(right)


def test_the_table(shapes):
    assert shapes.names == tuple(expression_table().shapes)
    targets = arkit_targets(shapes, shapes.offsets)
    moved = dict(zip(ARKIT_NAMES, targets, strict=True))
    still = [name for name, target in moved.items() if not target.any()]
    assert still == ["tongueOut"]
    # left is the side of the person, at positive x for a face that looks towards +z
    for name in ("eyeBlinkLeft", "mouthSmileLeft", "browDownLeft", "cheekSquintLeft"):
        lengths = np.linalg.norm(moved[name], axis=1)
        assert (shapes.generic[:, 0] * lengths).sum() / lengths.sum() > 10, name
    left, right = (moved["mouthLeft" if k else "mouthRight"][:6706, 0].mean() for k in (1, 0))
    assert left > 1 and right < -1
    assert moved["jawOpen"][:6706, 1].min() < -20
    both = shapes.offsets[[shapes.names.index(f"browInnerUp_{side}") for side in "LR"]]
    np.testing.assert_array_equal(moved["browInnerUp"], both.sum(axis=0))


@pytest.mark.skipif("FACEDIS_ICT" not in os.environ, reason="FACEDIS_ICT is not set")
@pytest.mark.parametrize("name", ["jawOpen", "eyeBlink_L", "mouthPress_R"])
def test_the_table_holds_ict_facekit(shapes, name):
    root = Path(os.environ["FACEDIS_ICT"])
    generic = read_mesh(root / "generic_neutral_mesh.obj").vertices
    np.testing.assert_array_equal(shapes.generic, generic * np.float32(10))
    truth = (read_mesh(root / f"{name}.obj").vertices - generic) * 10
    stored = shapes.offsets[shapes.names.index(name)]
    assert np.linalg.norm(stored - truth, axis=1).max() < 0.02  # mm


@pytest.mark.slow
def test_on_the_generic_head_they_are_themselves(shapes):
    own = shapes.on(shapes.generic)
    assert np.linalg.norm(own - shapes.offsets, axis=2).mean() < 0.02
    assert np.linalg.norm(own - shapes.offsets, axis=2)[:, :6706].max() < 1.0


def test_weights_of_faces_made_of_them(shapes):
    targets = arkit_targets(shapes, shapes.offsets)
    truth = np.zeros((3, 52))
    truth[0, ARKIT_NAMES.index("jawOpen")] = 0.7
    truth[1, [ARKIT_NAMES.index(f"mouthSmile{side}") for side in ("Left", "Right")]] = 0.9, 0.4
    expressions = np.tensordot(truth, targets, 1)
    np.testing.assert_allclose(blendshape_weights(targets, expressions), truth, atol=0.02)
    beyond = blendshape_weights(targets, 2 * expressions[1:2])
    assert beyond.max() == pytest.approx(1, abs=1e-6) and beyond.min() >= 0


def test_other_models_have_none():
    with raises("topology: ict-linear"):
        load_blendshapes(load_model("ict-pointnet").preparation)


def test_a_recording():
    weights = read_weights(RECORDING, "recording.csv")
    assert weights.shape == (2, 52)
    assert weights[:, ARKIT_NAMES.index("jawOpen")].tolist() == [0.5, 1.0]
    assert weights[:, ARKIT_NAMES.index("mouthSmileLeft")].tolist() == [0.25, 0.0]
    assert weights.sum() == 1.75
    again = read_weights(encode_weights(["a", "b"], weights), "again.csv")
    np.testing.assert_array_equal(again, weights)


def test_unknown_columns_of_a_recording_are_told():
    warnings = []
    read_weights(RECORDING, "r.csv", warnings.append)
    assert warnings == []  # Live Link Face's own
    weights = read_weights(b"jawOpn,jawLeft,Mood\n1,1,1\n", "r.csv", warnings.append)
    assert weights.sum() == 1
    assert warnings == [
        "r.csv: columns that are no blendshape are left out: jawOpn, Mood (did you mean jawopen?)"
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"a,b\n1,2\n", "csv-columns: jawOpen"),
        (b"jawOpen,jawopen\n1,1\n", "csv-columns: two columns"),
        (b"jawOpen\n", "empty: line a frame"),
        (b"jawOpen\nwide\n", "csv-value: line 2, column jawOpen"),
        (b"jawOpen\nnan\n", "csv-value: nan"),
        (b"jawOpen\n80\n", "csv-value: from 0 to 1"),
    ],
)
def test_what_is_no_recording(text, error):
    with raises(error):
        read_weights(text, "r.csv")
