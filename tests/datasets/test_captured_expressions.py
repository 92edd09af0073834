"""Recordings of ARKit weights as tables of expressions."""

import numpy as np
import pytest
from raising import raises

from facedis_core.datasets.captured_expressions import FRAMES, read_captured
from facedis_core.datasets.ict_synthesis import expression_table

SHAPES = list(expression_table().shapes)


def read(text):
    return read_captured(text.encode(), "take.csv")


@pytest.mark.parametrize(
    "header",
    ["jawOpen,mouthSmileLeft,mouthLeft", "JAWOPEN , MouthSmileLeft,MouthLeft"],
)
def test_columns_by_name_in_any_case(header):
    table = read(f"{header}\n0,0,0\n0.5,0.25,1\n")
    assert dict(table.expressions) == {
        "neutral": {},
        "frame0001": {"jawOpen": 0.5, "mouthLeft": 1.0, "mouthSmile_L": 0.25},
    }
    assert list(table.shapes) == SHAPES


def test_columns_in_any_order_beside_others():
    table = read("Timecode,MouthSmileRight,HeadYaw,TongueOut,jawOpen\n1:02,0.5,-3.2,7,0.1\n")
    assert table.expressions["frame0000"] == {"jawOpen": 0.1, "mouthSmile_R": 0.5}


def test_arkit_has_one_shape_for_both_sides_of_brow_and_cheek():
    table = read("browInnerUp,cheekPuff,browOuterUpLeft\n0.5,1,0.2\n")
    assert table.expressions["frame0000"] == {
        "browInnerUp_L": 0.5,
        "browInnerUp_R": 0.5,
        "browOuterUp_L": 0.2,
        "cheekPuff_L": 1.0,
        "cheekPuff_R": 1.0,
    }


def test_every_arkit_shape_is_known():
    """The 52 of ARKit but the tongue; ICT-FaceKit has the cheek raisers beyond them."""
    # fmt: off
    sides = [
        "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn",
        "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown",
        "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp",
        "noseSneer",
    ]
    single = [
        "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight",
        "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower",
        "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    ]
    # fmt: on
    names = [f"{name}{side}" for name in sides for side in ("Left", "Right")] + single
    assert len(names) == 51
    table = read(f"{','.join(names)}\n{','.join(['0.5'] * 51)}\n")
    assert set(SHAPES) - set(table.expressions["frame0000"]) == {"cheekRaiser_L", "cheekRaiser_R"}


def test_the_frames_that_differ_most_are_kept():
    weights = np.repeat(np.linspace(0.01, 1, 20), 30)  # 20 poses, each held for 30 frames
    table = read("jawOpen\n" + "\n".join(f"{weight:.4f}" for weight in weights))
    shown = [w["jawOpen"] for w in list(table.expressions.values())[1:]]
    assert len(shown) == FRAMES == len(set(shown))
    assert min(shown) == 0.01 and max(shown) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "csv-columns"),
        ("time,yaw\n1,2\n", "csv-columns"),
        ("jawOpen\n", "empty"),
        ("jawOpen\n0\n0\n", "empty"),
        ("jawOpen\n55\n", "csv-value"),
        ("jawOpen\nnan\n", "csv-value"),
        ("jawOpen\nwide\n", "csv-value"),
        ("jawOpen,JawOpen\n0.1,0.2\n", "csv-columns"),
        ("jawOpen,mouthLeft\n0.1\n", "csv-syntax"),
    ],
)
def test_what_is_no_recording(text, code):
    with raises(code, "take.csv"):
        read(text)
