"""Eyelids that close on other heads: what touches on the generic head touches on theirs.

Deformation transfer keeps gradients, not contact: a millimetre of lid too short leaves the eye
open, and the eyeball looks through. Here a space warp carries the closed lid, a thin-plate spline
(Duchon 1977; in space with the kernel |x - y|) through the lids, the skin around them and the
eyeball. A warp takes points that touch to points that touch.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating[Any]]

_MOVING_MM: Final = 0.02  # motion of vertices that belong to the lid
_LID_MM: Final = 0.5  # of those that all control the warp
_AROUND_MM: Final = 40.0  # from the middle of the lid, skin that controls it
_AROUND_STEP: Final = 6  # every so many of these
_EYEBALL_STEP: Final = 3  # likewise of the front of the eyeball
_SMOOTHING: Final = 1e-4  # of the spline, relative to _SCALE_MM
_SCALE_MM: Final = 50.0
_PUSHED_MM: Final = 0.3  # motion of vertices that are kept out of the eyeball
_GAP_MM: Final = 0.25  # from the eyeball, where the generic lid keeps as much
_BESIDE: Final = 0.97  # cosine between the directions of a lid and of the eyeball behind it


@dataclass(frozen=True, eq=False)
class ClosingLid:
    """The closing of an eye, for heads of one topology.

    Attributes:
        vertices: (n,) of the skin that move.
        offsets: (n, 3) mm, on the generic head.
        controls: (m,) vertices that the warp goes through.
        generic: (m, 3) mm, where these are on the generic head.
        matrix: (n, m), from displacements of the controls to what they change of the offsets.
        eyeball: its vertices.
        clearance: (n,) mm, of the closed generic lid from the eyeball; less than 0 = inside.
    """

    vertices: NDArray[np.intp]
    offsets: Points
    controls: NDArray[np.intp]
    generic: Points
    matrix: Points
    eyeball: slice
    clearance: Points

    def on(self, head: Points) -> NDArray[np.float32]:
        """Offsets (n, 3) mm that close the eye of a head (R, 3) mm."""
        head = np.asarray(head, np.float64)
        offsets = self.offsets + self.matrix @ (head[self.controls] - self.generic)
        kept = (self.clearance > 0) & (np.linalg.norm(self.offsets, axis=1) > _PUSHED_MM)
        wanted = np.where(kept, np.minimum(self.clearance, _GAP_MM), -np.inf)
        pushed = _pushed_out(head[self.vertices] + offsets, head[self.eyeball], wanted)
        return (offsets + pushed).astype(np.float32)


@dataclass(frozen=True, eq=False)
class LidOverEye:
    """Lids that move with the gaze, no deeper into the eyeball than those of the generic head.

    Attributes:
        vertices: (n,) of the skin that the blendshape moves.
        eyeball: its vertices, which it may turn.
        clearance: (n,) mm, of the moved skin of the generic head from the eyeball; less than 0 =
            inside.
    """

    vertices: NDArray[np.intp]
    eyeball: slice
    clearance: Points

    def pushed(self, head: Points, offsets: Points) -> NDArray[np.float32]:
        """What (n, 3) mm to add to offsets (R, 3) mm of a head (R, 3) mm; 0 where all is well.

        What lies in the eyeball at rest may stay as deep.
        """
        head = np.asarray(head, np.float64)
        moved = head + offsets
        at_rest = clearance(head[self.vertices], head[self.eyeball])
        wanted = np.minimum(np.minimum(self.clearance, _GAP_MM), at_rest)
        return _pushed_out(moved[self.vertices], moved[self.eyeball], wanted).astype(np.float32)


def lid_over_eye(generic: Points, offsets: Points, skin: int, eyeball: slice) -> LidOverEye:
    """The lids that a blendshape moves on a generic head; arguments as of `closing_lid`."""
    generic, offsets = np.asarray(generic, np.float64), np.asarray(offsets, np.float64)
    vertices = np.flatnonzero(np.linalg.norm(offsets[:skin], axis=1) > _PUSHED_MM)
    moved = generic + offsets
    return LidOverEye(vertices, eyeball, clearance(moved[vertices], moved[eyeball]))


def _pushed_out(points: Points, eyeball: Points, wanted: Points) -> NDArray[np.float64]:
    """Displacements (n, 3) along the radius that give points the wanted clearance (n,), mm."""
    outwards = points - sphere_centre(eyeball)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    missing = np.maximum(wanted - clearance(points, eyeball), 0)
    pushed: NDArray[np.float64] = missing[:, None] * outwards
    return pushed


def closing_lid(generic: Points, offsets: Points, skin: int, eyeball: slice) -> ClosingLid:
    """A lid from the blendshape that closes it on a generic head.

    Args:
        generic: (R, 3) mm at rest.
        offsets: (R, 3) mm of the blendshape.
        skin: number of vertices of the skin, which come first.
        eyeball: vertices of the eyeball.
    """
    generic, offsets = np.asarray(generic, np.float64), np.asarray(offsets, np.float64)
    motion = np.linalg.norm(offsets[:skin], axis=1)
    vertices = np.flatnonzero(motion > _MOVING_MM)
    lid = np.flatnonzero(motion > _LID_MM)
    middle = generic[np.argmax(motion)]
    around = np.flatnonzero(np.linalg.norm(generic[:skin] - middle, axis=1) < _AROUND_MM)
    numbers = np.arange(len(generic))[eyeball]
    front = numbers[generic[eyeball, 2] > np.median(generic[eyeball, 2])]
    controls = np.concatenate(
        [lid, np.setdiff1d(around, lid)[::_AROUND_STEP], front[::_EYEBALL_STEP]]
    )
    at, closed = generic[vertices], generic[vertices] + offsets[vertices]
    change = _basis(closed, generic[controls]) - _basis(at, generic[controls])
    matrix = np.linalg.solve(_spline(generic[controls]).T, change.T).T[:, : len(controls)]
    return ClosingLid(
        vertices,
        offsets[vertices],
        controls,
        generic[controls],
        matrix,
        eyeball,
        clearance(closed, generic[eyeball]),
    )


def sphere_centre(points: Points) -> NDArray[np.float64]:
    """Centre (3,) of the sphere that fits points (n, 3) best: linear least squares in |p|^2."""
    rows = np.column_stack([2 * points, np.ones(len(points))])
    centre: NDArray[np.float64] = np.linalg.lstsq(rows, (points**2).sum(axis=1), rcond=None)[0][:3]
    return centre


def clearance(points: Points, eyeball: Points) -> NDArray[np.float64]:
    """Distance (n,) mm of points (n, 3) from an eyeball (e, 3) along its radius; inside below 0.

    The eyeball is no sphere: the cornea stands out. Behind a point is what lies in nearly its
    direction from the centre.
    """
    centre = sphere_centre(eyeball)
    radius, distance = (np.linalg.norm(p - centre, axis=1) for p in (eyeball, points))
    cosine = (points - centre) @ (eyeball - centre).T / np.outer(distance, radius)
    behind = np.where(cosine > _BESIDE, radius, 0).max(axis=1)
    return distance - behind


def _basis(points: Points, controls: Points) -> NDArray[np.float64]:
    """Kernels at the controls, and 1, x, y, z, of points: (n, m + 4)."""
    apart = np.linalg.norm(points[:, None] - controls, axis=2) / _SCALE_MM
    return np.column_stack([apart, np.ones(len(points)), points / _SCALE_MM])


def _spline(controls: Points) -> NDArray[np.float64]:
    """The system (m + 4, m + 4) whose solution are the coefficients of a spline."""
    count = len(controls)
    system = np.zeros((count + 4, count + 4))
    system[:count] = _basis(controls, controls)
    system[:count, :count] -= _SMOOTHING * np.eye(count)
    system[count:, :count] = system[:count, count:].T
    return system
