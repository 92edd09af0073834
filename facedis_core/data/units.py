"""Units of meshes: their names, and the one in which a mesh has the size of a face."""

from collections.abc import Mapping
from typing import Final

from facedis_core.errors import ErrorCode, InputError, UsageError

UNITS_MM: Final[Mapping[str, float]] = {"mm": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0}
# Plausible largest extent in mm, from half a face to a head with shoulders.
PLAUSIBLE_MM: Final = (80.0, 600.0)


def check_units(units: str | None) -> None:
    """Raise UsageError for an unknown unit."""
    if units is not None and units not in UNITS_MM:
        raise UsageError(
            f"--units is {units!r}, expected one of {', '.join(UNITS_MM)}", ErrorCode.OPTION_VALUE
        )


def units_by_size(extent: float, label: str) -> str:
    """The unit in which a mesh with this largest extent is 100 to 1000 mm high.

    Raises:
        InputError: there is none; `label` names the mesh.
    """
    for name, unit in UNITS_MM.items():
        if 100 <= extent * unit < 1000:
            return name
    raise InputError(
        f"{label} is {extent:.3g} units high, not the size of a face in any of "
        f"{', '.join(UNITS_MM)}; check the mesh, or pass --units",
        ErrorCode.UNIT,
    )


def implausible_size(extent: float, units: str, label: str) -> str:
    """A warning about a mesh that is too small or too large for a face; empty for others."""
    size = extent * UNITS_MM[units]
    if PLAUSIBLE_MM[0] <= size <= PLAUSIBLE_MM[1]:
        return ""
    return (
        f"{label} is {size:.3g} mm high in {units}, expected {PLAUSIBLE_MM[0]:g} to "
        f"{PLAUSIBLE_MM[1]:g} for a face; check --units"
    )
