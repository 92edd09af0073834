"""Words for what a latent direction moves."""

import numpy as np
import pytest

from facedis_core.viewer.direction_words import describe_direction

NAMES = ("brows", "eyes", "nose", "cheeks", "lips", "chin", "jaw")
REGIONS = {name: np.repeat(np.array(NAMES) == name, 10) for name in NAMES}


def moved(**regions):
    """Offsets (70, 3) mm, zero in regions that are not given."""
    offsets = np.zeros((70, 3), np.float32)
    for name, offset in regions.items():
        offsets[REGIONS[name]] = offset
    return offsets


@pytest.mark.parametrize(
    ("regions", "words", "way", "mm"),
    [
        ({"lips": (0, -3, 0)}, "lips", "up and down", 3),
        ({"lips": (0, 0, 3), "chin": (0, 0, 4)}, "chin and lips", "in depth", 12.5**0.5),
        ({"chin": (4, 0, 0), "lips": (2, 0, 0)}, "chin", "sideways", 4),
        ({"chin": (4, 4, 4), "lips": (3, 3, 3), "jaw": (3.5, 3.5, 3.5)}, "chin and jaw", "", 6.51),
        (dict.fromkeys(NAMES, (0, 1, 1)), "whole face", "", 2**0.5),
        ({}, "whole face", "", 0),
    ],
)
def test_the_regions_that_move_most_are_named(regions, words, way, mm):
    found = describe_direction(moved(**regions), REGIONS)
    assert (found.region, found.way) == (words, way)
    assert found.mm == pytest.approx(mm, abs=0.005)


def test_a_region_of_few_vertices_is_not_named():
    few = np.zeros(70, bool)
    few[0] = True
    regions = {**REGIONS, "neck": few, "brows": REGIONS["brows"] & ~few}
    offsets = moved(lips=(0, 1, 0))
    offsets[0] = 9
    assert describe_direction(offsets, regions).region == "lips"
