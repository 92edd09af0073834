"""Repair of folded triangles by local changes: edge flips, edge collapses, vertex replacements.

The points never move. It is for the few triangles that a fast simplification folds, so it is plain
Python, a triangle at a time.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from math import dist, sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.surface import vertex_normals

Corners = tuple[int, int, int]

# Ratio of area to summed squared sides below which a triangle is a sliver: its normal is so
# uncertain that on the next face it may point the other way. Its quality falls in proportion.
SLIVER: Final = 2e-2
# Quality below which a triangle is folded, or has no area beyond rounding.
FOLDED: Final = 2e-2


class FoldCount(NamedTuple):
    """Number of folded triangles, and the missing quality of all.

    Attributes:
        folded: number of folded triangles.
        deficit: sum over triangles of the quality that they lack to be safe.
    """

    folded: int
    deficit: float


class LocalChange(NamedTuple):
    """Numbers of the triangles to remove, and corners of the triangles to add."""

    removed: list[int]
    added: list[Corners]


class FoldRepair:
    """Triangles laid over a surface, and the changes that unfold them.

    The quality of a triangle is the cosine between its normal and the mean of the surface's vertex
    normals at its corners, less for slivers. Len is the number of triangles.

    Args:
        points: (V, 3) points of the surface.
        faces: (F', 3) triangles of the surface.
        triangles: (F, 3) triangles to repair.
        cluster: (V,); points of one cluster may replace each other.
        safe: quality from which a triangle is safe.
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
        self._triangles_at: defaultdict[int, set[int]] = defaultdict(set)  # vertex -> triangles
        self._quality = cache(self._computed_quality)
        self._next = 0
        for a, b, c in triangles.tolist():
            self._add((a, b, c))

    def __len__(self) -> int:
        return len(self._corners)

    @property
    def triangles(self) -> NDArray[np.int64]:
        """The triangles (F, 3) as they are now."""
        return np.array(list(self._corners.values()), np.int64).reshape(-1, 3)

    @property
    def folds(self) -> FoldCount:
        """The folds of all triangles."""
        return self._count(self._corners.values())

    def unfold(self) -> None:
        """Change folded triangles while that helps, then unsafe ones where none is lost by it."""
        self._improve(FOLDED, collapse=True)
        self._improve(self._safe, collapse=False)

    def simplify_to(self, count: int) -> None:
        """Collapse short edges until `count` triangles are left, as far as no more fold.

        Collapses that leave no triangle less safe go first, then those that fold no more.
        """
        for safely in (True, False):
            while len(self) > count and self._collapse_short_edges(count, safely):
                pass

    def _collapse_short_edges(self, count: int, safely: bool) -> bool:
        """Try to collapse each edge once, new edges too; whether any could be collapsed."""
        edges = {(u, w) for t in self._corners.values() for u in t for w in t if u != w}
        queue = [(self._length(u, w), u, w) for u, w in edges]
        heapq.heapify(queue)
        collapsed = False
        while queue and len(self) > count:
            _, u, w = heapq.heappop(queue)
            change = self._collapse(u, w)
            # without an added triangle a corner or a piece of the surface would vanish
            if change is None or not change.added:
                continue
            before = self._count(self._corners[t] for t in change.removed)
            after = self._count(change.added)
            if after > before if safely else after.folded > before.folded:
                continue
            self._apply(change)
            collapsed = True
            for v in sorted(self._neighbors(w)):
                heapq.heappush(queue, (self._length(w, v), w, v))
                heapq.heappush(queue, (self._length(w, v), v, w))
        return collapsed

    def _improve(self, quality: float, *, collapse: bool) -> None:
        """Change triangles below a quality until no single change helps."""
        waiting = [t for t, corners in self._corners.items() if self._quality(corners) < quality]
        while waiting:
            t = waiting.pop()
            if t not in self._corners or self._quality(self._corners[t]) >= quality:
                continue
            change = self._best_change(t, collapse)
            if change is not None:
                waiting += self._apply(change)

    def _best_change(self, t: int, collapse: bool) -> LocalChange | None:
        """The best change at a triangle, else at its neighbours; None where none helps."""
        nearby = sorted(set().union(*(self._triangles_at[v] for v in self._corners[t])))
        for place in ([t], nearby):
            best, least = None, (0, -1e-9, 0)
            for change in self._changes(place, collapse):
                before = self._count(self._corners[k] for k in change.removed)
                after = self._count(change.added)
                # rounded, so that of equally good changes the one that loses least is best
                deficit = round(after.deficit - before.deficit, 9)
                lost = len(change.removed) - len(change.added)
                cost = (after.folded - before.folded, deficit, lost)
                if cost < least:
                    best, least = change, cost
            if best is not None:
                return best
        return None

    def _changes(self, place: Iterable[int], collapse: bool) -> Iterator[LocalChange]:
        """All changes to the edges and corners of some triangles."""
        corners = [self._corners[t] for t in place]
        edges = {tuple(sorted((t[k - 1], t[k]))) for t in corners for k in range(3)}
        for u, w in sorted(edges):
            candidates = [self._flip(u, w)]
            if collapse:
                candidates += [self._collapse(u, w), self._collapse(w, u)]
            yield from (change for change in candidates if change is not None)
        for u in sorted({v for t in corners for v in t}):
            for other in np.flatnonzero(self._cluster == self._cluster[u]).tolist():
                if not self._triangles_at.get(other):
                    yield self._replace(u, other, self._triangles_at[u])

    def _flip(self, u: int, w: int) -> LocalChange | None:
        """The edge of two triangles becomes the other diagonal of their four corners."""
        shared = sorted(self._triangles_at[u] & self._triangles_at[w])
        if len(shared) != 2:
            return None
        one, two = (_from_corner(self._corners[t], u) for t in shared)
        if one[1] != w:
            one, two = two, one
        # two triangles of one orientation have the edge once as (u, w), once as (w, u)
        if one[1] != w or two[2] != w or one[2] == two[1] or two[1] in self._neighbors(one[2]):
            return None
        return LocalChange(shared, [(u, two[1], one[2]), (two[1], w, one[2])])

    def _collapse(self, u: int, w: int) -> LocalChange | None:
        """Vertex u moves to w, unless that pinches the surface (Dey and others 1999)."""
        shared = self._triangles_at[u] & self._triangles_at[w]
        opposite = {v for t in shared for v in self._corners[t]} - {u, w}
        common = self._neighbors(u) & self._neighbors(w)
        if not shared or len(opposite) != len(shared) or common != opposite:
            return None
        if len(shared) > 1 and self._on_boundary(u) and self._on_boundary(w):
            return None
        change = self._replace(u, w, self._triangles_at[u] - shared)
        present = [frozenset(self._corners[t]) for t in self._triangles_at[w] - shared]
        if not {frozenset(t) for t in change.added}.isdisjoint(present):
            return None
        return LocalChange(sorted(self._triangles_at[u]), change.added)

    def _replace(self, u: int, other: int, triangles: Iterable[int]) -> LocalChange:
        """Another vertex takes the place of u in some triangles."""
        removed = sorted(triangles)
        added = []
        for t in removed:
            a, b, c = (other if v == u else v for v in self._corners[t])
            added.append((a, b, c))
        return LocalChange(removed, added)

    def _neighbors(self, v: int) -> set[int]:
        return {w for t in self._triangles_at[v] for w in self._corners[t]} - {v}

    def _on_boundary(self, v: int) -> bool:
        at = self._triangles_at
        return any(len(at[v] & at[w]) == 1 for w in self._neighbors(v))

    def _length(self, u: int, w: int) -> float:
        return dist(self._points[u], self._points[w])

    def _add(self, corners: Corners) -> int:
        """Add a triangle; returns its number."""
        number, self._next = self._next, self._next + 1
        self._corners[number] = corners
        for v in corners:
            self._triangles_at[v].add(number)
        return number

    def _apply(self, change: LocalChange) -> list[int]:
        """Make a change; returns the numbers of the added triangles."""
        for t in change.removed:
            for v in self._corners.pop(t):
                self._triangles_at[v].discard(t)
        return [self._add(corners) for corners in change.added]

    def _count(self, triangles: Iterable[Corners]) -> FoldCount:
        qualities = [self._quality(corners) for corners in triangles]
        folded = sum(not quality >= FOLDED for quality in qualities)  # NaN is folded, too
        return FoldCount(folded, sum(self._safe - q for q in qualities if q < self._safe))

    def _computed_quality(self, corners: Corners) -> float:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (self._points[v] for v in corners)
        ux, uy, uz, wx, wy, wz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        x, y, z = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        sx, sy, sz = (sum(part) for part in zip(*(self._normals[v] for v in corners), strict=True))
        area, mean = sqrt(x * x + y * y + z * z), sqrt(sx * sx + sy * sy + sz * sz)
        sides = ux * ux + uy * uy + uz * uz + wx * wx + wy * wy + wz * wz
        if area * mean == 0:
            return 0.0
        cosine = (x * sx + y * sy + z * sz) / (area * mean)
        return cosine * min(1.0, area / (SLIVER * sides))


def _from_corner(corners: Corners, u: int) -> Corners:
    """The same triangle from its corner u on."""
    k = corners.index(u)
    return corners[k], corners[(k + 1) % 3], corners[(k + 2) % 3]
