"""Small changes to triangles laid over some of a surface's points, until none lies folded.

A change is local: an edge is turned, a vertex gives way to a stand-in or goes into its neighbour.
The points never move. This is for the few triangles that a fast simplification lays badly, so it
is plain Python, a triangle at a time.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from math import dist, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.surface import vertex_normals

Corners = tuple[int, int, int]

# Below this area over squared length of its sides, a triangle's normal says little: the next face
# may have it the other way round. Its lie counts in proportion.
THIN = 2e-2
# A triangle whose lie is below this is folded, or has no area that rounding would not explain.
FLAT = 2e-2


class FoldCount(NamedTuple):
    """Of some triangles: how many are folded, and what all of them lack to be safe."""

    folded: int
    lacking: float


class LocalChange(NamedTuple):
    """Triangles to take away, by number, and those to lay instead."""

    gone: list[int]
    made: list[Corners]


class FoldRepair:
    """Triangles (F, 3) over a surface, `points` (V, 3) with `faces` (F', 3).

    `cluster` (V,) tells which points may stand in for one another; a lie, the cosine between a
    triangle's normal and the mean of the surface's at its corners, is safe from `safe` on.
    """

    def __init__(
        self,
        points: NDArray[Any],
        faces: NDArray[np.integer[Any]],
        triangles: NDArray[np.integer[Any]],
        cluster: NDArray[np.integer[Any]],
        safe: float,
    ) -> None:
        exact = points.astype(np.float64)
        self._points = exact.tolist()
        self._normals = vertex_normals(exact, faces).tolist()
        self._cluster = cluster
        self._safe = safe
        self._corners: dict[int, Corners] = {}
        self._around: defaultdict[int, set[int]] = defaultdict(set)
        self._lie = cache(self._measured_lie)
        self._next = 0
        for a, b, c in triangles.tolist():
            self._add((a, b, c))

    def __len__(self) -> int:
        return len(self._corners)

    @property
    def triangles(self) -> NDArray[np.int64]:
        """(F, 3) numbers of points."""
        return np.array(list(self._corners.values()), np.int64).reshape(-1, 3)

    @property
    def badness(self) -> FoldCount:
        """Of all triangles."""
        return self._badness(self._corners.values())

    def unfold(self) -> None:
        """Change what is folded while that helps, then what is not safe if it costs no triangle."""
        self._improve(FLAT, merging=True)
        self._improve(self._safe, merging=False)

    def thin_out(self, count: int) -> None:
        """Merge the ends of short edges until `count` triangles are left, as far as none folds.

        Safe merges go first; one that only leaves no more folded is for when there is no other.
        """
        for strict in (True, False):
            while len(self) > count and self._merge_short_edges(count, strict):
                pass

    def _merge_short_edges(self, count: int, strict: bool) -> bool:
        """Try every edge once, those that arise too; whether any could be merged."""
        ends = {(u, w) for t in self._corners.values() for u in t for w in t if u != w}
        waiting = [(self._length(u, w), u, w) for u, w in ends]
        heapq.heapify(waiting)
        merged = False
        while waiting and len(self) > count:
            _, u, w = heapq.heappop(waiting)
            change = self._merging(u, w)
            # What has no triangle to make would take away a corner of the surface, or a piece.
            if change is None or not change.made or not self._harmless(change, strict):
                continue
            self._apply(change)
            merged = True
            for v in sorted(self._ring(w)):
                heapq.heappush(waiting, (self._length(w, v), w, v))
                heapq.heappush(waiting, (self._length(w, v), v, w))
        return merged

    def _harmless(self, change: LocalChange, strict: bool) -> bool:
        before = self._badness(self._corners[t] for t in change.gone)
        after = self._badness(change.made)
        return after <= before if strict else after.folded <= before.folded

    def _improve(self, enough: float, *, merging: bool) -> None:
        """Make changes at triangles whose lie is below `enough` until no single one helps."""
        waiting = [t for t, corners in self._corners.items() if self._lie(corners) < enough]
        while waiting:
            t = waiting.pop()
            if t not in self._corners or self._lie(self._corners[t]) >= enough:
                continue
            change = self._best_change(t, merging)
            if change is not None:
                waiting += self._apply(change)

    def _best_change(self, t: int, merging: bool) -> LocalChange | None:
        """The change at a triangle, or else around it, that helps most; None where none does."""
        ring = sorted(set().union(*(self._around[v] for v in self._corners[t])))
        for place in ([t], ring):
            best, least = None, (0, -1e-9, 0)
            for change in self._changes(place, merging):
                before = self._badness(self._corners[k] for k in change.gone)
                after = self._badness(change.made)
                # Rounded, so that of changes which help as much the one that merges least is best.
                less = round(after.lacking - before.lacking, 9)
                lost = len(change.gone) - len(change.made)
                gain = (after.folded - before.folded, less, lost)
                if gain < least:
                    best, least = change, gain
            if best is not None:
                return best
        return None

    def _changes(self, place: Iterable[int], merging: bool) -> Iterator[LocalChange]:
        """All that can be done to the edges and corners of some triangles."""
        corners = [self._corners[t] for t in place]
        edges = {tuple(sorted((t[k - 1], t[k]))) for t in corners for k in range(3)}
        for u, w in sorted(edges):
            candidates = [self._turning(u, w)]
            if merging:
                candidates += [self._merging(u, w), self._merging(w, u)]
            yield from (change for change in candidates if change is not None)
        for u in sorted({v for t in corners for v in t}):
            for stand_in in np.flatnonzero(self._cluster == self._cluster[u]).tolist():
                if not self._around.get(stand_in):
                    yield self._replacing(u, stand_in, self._around[u])

    def _turning(self, u: int, w: int) -> LocalChange | None:
        """The edge of two triangles becomes the other diagonal of their four corners."""
        shared = sorted(self._around[u] & self._around[w])
        if len(shared) != 2:
            return None
        one, two = (_turned_to(self._corners[t], u, w) for t in shared)
        if one[1] != w:
            one, two = two, one
        # Triangles of opposite senses along the edge have it once as (u, w), once as (w, u).
        if one[1] != w or two[2] != w or one[2] == two[1] or two[1] in self._ring(one[2]):
            return None
        return LocalChange(shared, [(u, two[1], one[2]), (two[1], w, one[2])])

    def _merging(self, u: int, w: int) -> LocalChange | None:
        """Vertex u goes into w, unless the sheet would be pinched (Dey and others 1999)."""
        shared = self._around[u] & self._around[w]
        across = {v for t in shared for v in self._corners[t]} - {u, w}
        if not shared or len(across) != len(shared) or self._ring(u) & self._ring(w) != across:
            return None
        if len(shared) > 1 and self._on_rim(u) and self._on_rim(w):
            return None
        change = self._replacing(u, w, self._around[u] - shared)
        there = [frozenset(self._corners[t]) for t in self._around[w] - shared]
        if not {frozenset(t) for t in change.made}.isdisjoint(there):
            return None
        return LocalChange(sorted(self._around[u]), change.made)

    def _replacing(self, u: int, by: int, at: Iterable[int]) -> LocalChange:
        old = sorted(at)
        made = []
        for t in old:
            a, b, c = (by if v == u else v for v in self._corners[t])
            made.append((a, b, c))
        return LocalChange(old, made)

    def _ring(self, v: int) -> set[int]:
        return {w for t in self._around[v] for w in self._corners[t]} - {v}

    def _on_rim(self, v: int) -> bool:
        return any(len(self._around[v] & self._around[w]) == 1 for w in self._ring(v))

    def _length(self, u: int, w: int) -> float:
        return dist(self._points[u], self._points[w])

    def _add(self, corners: Corners) -> int:
        number, self._next = self._next, self._next + 1
        self._corners[number] = corners
        for v in corners:
            self._around[v].add(number)
        return number

    def _apply(self, change: LocalChange) -> list[int]:
        """Numbers of the new triangles."""
        for t in change.gone:
            for v in self._corners.pop(t):
                self._around[v].discard(t)
        return [self._add(corners) for corners in change.made]

    def _badness(self, triangles: Iterable[Corners]) -> FoldCount:
        lies = [self._lie(corners) for corners in triangles]
        # Not a number is no good either.
        folded = sum(not lie >= FLAT for lie in lies)
        return FoldCount(folded, sum(self._safe - lie for lie in lies if lie < self._safe))

    def _measured_lie(self, corners: Corners) -> float:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (self._points[v] for v in corners)
        ux, uy, uz, wx, wy, wz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        x, y, z = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        sx, sy, sz = (sum(part) for part in zip(*(self._normals[v] for v in corners), strict=True))
        area, mean = sqrt(x * x + y * y + z * z), sqrt(sx * sx + sy * sy + sz * sz)
        sides = ux * ux + uy * uy + uz * uz + wx * wx + wy * wy + wz * wz
        if area * mean == 0:
            return 0.0
        cosine = (x * sx + y * sy + z * sz) / (area * mean)
        return cosine * min(1.0, area / (THIN * sides))


def _turned_to(corners: Corners, u: int, w: int) -> Corners:
    """The same triangle from its corner u on."""
    k = corners.index(u)
    return corners[k], corners[(k + 1) % 3], corners[(k + 2) % 3]
