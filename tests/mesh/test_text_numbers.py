"""Numbers in text against Python's own, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedis_core.mesh.text_numbers import decimals, tokenize

NUMBER = st.from_regex(
    r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
SHORTEST = st.floats(width=32, allow_nan=False).map(lambda x: repr(float(x)))
NINE_DIGITS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.9g}")


def check(words):
    found = decimals(tokenize(" ".join(words).encode()), np.arange(len(words)))
    with np.errstate(over="ignore"):
        expected = np.array([float(word) for word in words]).astype(np.float32)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@settings(max_examples=50)
@given(st.lists(NUMBER | SHORTEST | NINE_DIGITS, min_size=1, max_size=30))
def test_decimals(words):
    check(words)


@pytest.mark.parametrize("nudge", [-3, -1, 0, 1, 3])
def test_decimals_beside_midpoints_of_float32(nudge):
    """Where two roundings and one differ if anywhere: half way between two float32."""
    bits = np.random.default_rng(0).integers(0x30000000, 0x50000000, 3000)  # 5e-10 to 9e9
    low = bits.astype(np.int32).view(np.float32)
    middle = (low.astype(float) + np.nextafter(low, np.float32(np.inf)).astype(float)) / 2
    for _ in range(abs(nudge)):
        middle = np.nextafter(middle, np.inf * nudge)
    check([f"{value:.{digits}e}" for value in middle.tolist() for digits in (15, 16, 17, 18)])
