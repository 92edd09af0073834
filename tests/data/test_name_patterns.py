"""Name patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raising import raises

from facedis_core.data.name_patterns import compile_pattern

PATTERN = "{subject}_{expression}.ply"
PLAIN = st.text("abc-.()[]+ ü", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        (PATTERN, "p1_mouth_stretch.ply", {"subject": "p1", "expression": "mouth_stretch"}),
        (PATTERN, "deep/p1_smile.ply", None),
        (PATTERN, "p1_smile.obj", None),
        ("{subject}/{expression}.obj", "p1/smile.obj", {"subject": "p1", "expression": "smile"}),
        ("{subject}/*_{expression}.obj", "7/12_grin.obj", {"subject": "7", "expression": "grin"}),
        ("*/{subject}/{expression}.obj", "7/grin.obj", None),
        ("{subject}/{subject}.{expression}.obj", "a/a.b.obj", {"subject": "a", "expression": "b"}),
        ("{subject}/{subject}.{expression}.obj", "a/c.b.obj", None),
        (
            "{subject}_{expression}_{level}.wrl",
            "F1_HA_0.5.wrl",
            {"subject": "F1", "expression": "HA", "level": "0.5"},
        ),
        ("{subject}_{expression}_{level}.wrl", "F1_HA_low.wrl", None),
        ("{subject}+({expression}).ply", "a+(b).ply", {"subject": "a", "expression": "b"}),
    ],
)
def test_patterns(pattern, path, found):
    match = compile_pattern(pattern).fullmatch(path)
    assert (match and match.groupdict()) == found


@given(PLAIN, PLAIN, PLAIN)
def test_a_pattern_takes_everything_else_literally(before, between, after):
    match = compile_pattern(f"{before}{{subject}}{between}{{expression}}{after}")
    assert match.fullmatch(f"{before}S{between}E{after}").groupdict() == {
        "subject": "S",
        "expression": "E",
    }


@pytest.mark.parametrize(
    ("pattern", "placeholder"),
    [
        ("{subject}_{mood}.ply", r"\{mood\}"),
        ("{subject}.ply", r"put \{expression\} there"),
        ("faces.ply", r"put \{subject\} there"),
    ],
)
def test_bad_patterns(pattern, placeholder):
    with raises("option-value", placeholder):
        compile_pattern(pattern)


def test_only_required_placeholders_must_be_there():
    assert compile_pattern("{subject}", ("subject",)).fullmatch("ann").groupdict() == {
        "subject": "ann"
    }
    with raises("option-value", r"put \{subject\} there"):
        compile_pattern("{expression}", ("subject",))
