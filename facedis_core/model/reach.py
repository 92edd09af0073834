"""Reach of a model: how far faces may lie from its mean face."""

from typing import Final

REFUSED_REACH: Final = 3.0  # times the largest distance of a training face to the mean face


def describe_reach(name: str, distance: float, reach_mm: float) -> str:
    """A line about a face farther from the mean face than any training face; "" for others.

    Args:
        name: of the face.
        distance: mean vertex distance to the mean face, mm.
        reach_mm: largest such distance of a training face, mm.
    """
    if distance <= reach_mm:
        return ""
    return (
        f"{name} lies {distance:.3g} mm from the mean face, "
        f"the training faces {reach_mm:.3g} mm at most"
    )
