"""Words for latent directions: which regions of the face they move, which way and how far."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SMALLEST_REGION: Final = 0.02  # share of the vertices; smaller ones are not named
_MOVES_AS_WELL: Final = 0.6  # share of the motion of the region that moves most
_MOST_NAMED: Final = 2
_ONE_WAY: Final = 1.4  # times the motion along any other axis
_WAYS: Final = ("sideways", "up and down", "in depth")


class DirectionWords(NamedTuple):
    """What a step along a latent direction moves.

    Attributes:
        region: names of one or two regions, or `whole face`.
        way: axis of the motion; "" = none stands out.
        mm: root mean square distance by which the vertices of these regions move.
    """

    region: str
    way: str
    mm: float


def describe_direction(
    offsets: NDArray[np.floating], regions: Mapping[str, NDArray[np.bool_]]
) -> DirectionWords:
    """The regions that a direction moves most; the whole face where most regions move alike.

    Args:
        offsets: (V, 3) mm, by a step.
        regions: vertices (V,) of each region.
    """
    squares = offsets.astype(np.float64) ** 2
    named = {name: inside for name, inside in regions.items() if inside.mean() > _SMALLEST_REGION}
    motion = {name: squares[inside].sum(axis=1).mean() ** 0.5 for name, inside in named.items()}
    order = sorted(motion, key=lambda name: -motion[name])
    moving = [name for name in order if motion[name] >= _MOVES_AS_WELL * motion[order[0]]]
    if len(moving) > max(len(named) / 2, _MOST_NAMED):
        region, inside = "whole face", np.ones(len(offsets), bool)
    else:
        moving = moving[:_MOST_NAMED]
        region = " and ".join(moving)
        inside = np.any([named[name] for name in moving], axis=0)
    by_axis = squares[inside].mean(axis=0) ** 0.5
    first, second = np.argsort(by_axis)[::-1][:2]
    way = _WAYS[first] if by_axis[first] > _ONE_WAY * by_axis[second] else ""
    return DirectionWords(region, way, round(float(squares[inside].sum(axis=1).mean() ** 0.5), 4))
