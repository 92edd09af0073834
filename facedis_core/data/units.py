"""Units of meshes: their names, and the one in which a mesh has the size of a face."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.mesh.mesh import Mesh

Units = Literal["auto", "mm", "cm", "dm", "m", "inch"]
UNITS_MM: Final[Mapping[Units, float]] = {
    "mm": 1.0,
    "cm": 10.0,
    "dm": 100.0,
    "m": 1000.0,
    "inch": 25.4,
}
# Largest extents in mm: of half a face to a head with shoulders, and of a face to a whole head.
PLAUSIBLE_MM: Final = (80.0, 600.0)
_USUAL_MM: Final = (120.0, 350.0)
# A registered face is this many times larger or smaller than the mean face at most. Below
# sqrt(2.54), the ratio of inch to cm, so that no two units fit one face.
_UNIT_MARGIN: Final = 1.5


def check_units(units: str) -> None:
    """Raise UsageError for an unknown unit."""
    if units not in get_args(Units):
        raise UsageError(
            f"--units is {units!r}, expected one of {', '.join(get_args(Units))}",
            ErrorCode.OPTION_VALUE,
        )


def extent_of(vertices: NDArray[np.floating]) -> float:
    """The largest extent of vertices (V, 3) along an axis."""
    return float(np.ptp(vertices, axis=0).max())


def unit_by_size(extent: float, label: str) -> Units:
    """The unit in which a mesh of this largest extent has the size of a face or a head.

    Raises:
        InputError: there is none, or two would do; `label` names the mesh.

    Example:
        >>> unit_by_size(0.26, "scan.ply")
        'm'
    """

    def within(limits: tuple[float, float]) -> list[Units]:
        return [name for name, mm in UNITS_MM.items() if limits[0] <= extent * mm <= limits[1]]

    fitting, usual = within(PLAUSIBLE_MM), within(_USUAL_MM)
    if len(fitting) == 1:
        return fitting[0]
    if len(usual) == 1 and usual != ["inch"]:
        return usual[0]  # a face in cm is far likelier than a head with shoulders in inches
    if fitting:
        sizes = " or ".join(f"{extent * UNITS_MM[name]:.3g} mm in {name}" for name in fitting)
        raise InputError(
            f"{label} could be {sizes} high; say which with --units {'|'.join(fitting)}",
            ErrorCode.UNIT,
        )
    raise InputError(
        f"{label} is {extent:.3g} units high, not the size of a face in any of "
        f"{', '.join(UNITS_MM)}; check the mesh, or pass --units",
        ErrorCode.UNIT,
    )


def implausible_size(extent: float, units: Units, label: str) -> str:
    """A warning about a mesh that is too small or too large for a face; empty for others."""
    size = extent * UNITS_MM[units]
    if PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1]:
        return ""
    return (
        f"{label} is {size:.3g} mm high in {units}, expected {PLAUSIBLE_MM[0]:g} to "
        f"{PLAUSIBLE_MM[1]:g} for a face; check --units"
    )


def size_ratio(vertices: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Ratio of the root mean square distances to the centroid of two faces (V, 3).

    It depends neither on position nor on rotation. Infinite or NaN where the reference is a point.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread, usual = (np.std(part, axis=0, dtype=np.float64) for part in (vertices, reference))
        return float(np.linalg.norm(spread) / np.linalg.norm(usual))


def has_size_of(ratio: float) -> bool:
    """Whether two registered faces with this `size_ratio` can be in one unit."""
    return 1 / _UNIT_MARGIN <= ratio <= _UNIT_MARGIN


def unit_of_registered(
    vertices: NDArray[np.floating],
    reference: NDArray[np.float32],
    *,
    units: Units,
    declared_mm: float,
    label: str,
) -> float:
    """Millimetres per unit of a face that does not declare its unit, by its size.

    Args:
        vertices: (V, 3).
        reference: (V, 3) mm, a face of the same topology.
        units: what the user says.
        declared_mm: millimetres per unit of the data set, which is tried first, and taken where
            the face has the size of the reference in no unit.
        label: names the face in errors.

    Raises:
        InputError: the face has the size of the reference in another unit than `units`.
    """
    ratio = size_ratio(vertices, reference)
    fitting = [name for name, mm in UNITS_MM.items() if has_size_of(ratio * mm)]
    if units == "auto":
        fits = has_size_of(ratio * declared_mm) or not fitting
        return declared_mm if fits else UNITS_MM[fitting[0]]
    if fitting and units not in fitting:
        raise InputError(
            f"{label} is {extent_of(vertices) * UNITS_MM[units]:.3g} mm high in {units}, faces of "
            f"this topology {extent_of(reference):.3g} mm; pass --units {fitting[0]}, in which it "
            "has their size, or leave out --units",
            ErrorCode.UNIT,
        )
    return UNITS_MM[units]


class BatchUnits:
    """One unit for all meshes of a batch that do not declare theirs, by the size of the first."""

    def __init__(self, units: Units = "auto") -> None:
        """`units` as the user says; `auto` decides by size."""
        self._units = units
        self._first = ""

    def in_mm(self, mesh: Mesh, label: str = "") -> Mesh:
        """The mesh in mm.

        Raises:
            InputError: no unit or two would do, or the unit of the meshes before does not.
        """
        if mesh.unit_mm is not None:
            return mesh
        label = label or mesh.name or "mesh"
        extent = extent_of(mesh.vertices)
        if self._units == "auto":
            self._units, self._first = unit_by_size(extent, label), label
        elif self._first and (wrong := implausible_size(extent, self._units, label)):
            raise InputError(
                f"{wrong.rpartition(';')[0]}, and {self._first} is in {self._units} by its size; "
                "give meshes of one unit, or pass --units",
                ErrorCode.UNIT,
            )
        factor = UNITS_MM[self._units]
        vertices = mesh.vertices if factor == 1 else mesh.vertices * np.float32(factor)
        return replace(mesh, vertices=vertices, unit_mm=1.0)


def check_one_size(
    vertices: NDArray[np.floating], truth: NDArray[np.floating], label: str, other: str
) -> None:
    """Raise InputError if a registered face (V, 3) mm has the size of `truth` in another unit.

    Faces of another size, as an untrained network predicts them, and offsets are not errors.
    """
    ratio, sizes = size_ratio(vertices, truth), (extent_of(vertices), extent_of(truth))
    if has_size_of(ratio) or not any(PLAUSIBLE_MM[0] <= x <= PLAUSIBLE_MM[1] for x in sizes):
        return
    factors = [factor for mm in UNITS_MM.values() if mm != 1 for factor in (mm, 1 / mm)]
    if any(0.8 <= ratio * factor <= 1.25 for factor in factors):  # people differ by less
        raise InputError(
            f"{label} is {sizes[0]:.3g} mm high and {other} {sizes[1]:.3g} mm; "
            "one of them is in another unit: check --units",
            ErrorCode.UNIT,
        )
