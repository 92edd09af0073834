"""SurfaceBuilder: collects the vertices and polygons that a mesh codec reads block by block.

Polygons are triangulated as they arrive, so that memory holds no more than the mesh itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.text_numbers import spans
from facedis_core.mesh.vertex_checks import check_finite

LONGEST_POLYGON = 1 << 20
_LARGEST = 2**31 - 1  # of a vertex number; topologies are int32
# Most bytes of triangles per byte of polygons in the file. A surface has fewer; polygons of
# hundreds of corners among a few vertices have many times more.
_MOST_BYTES_EACH = 3
_ALWAYS_TAKEN = 1 << 26


class SurfaceBuilder:
    """A mesh that is being read.

    `name` and `unit_mm` are what the file says, if it does; `warnings` are lines about parts of it
    that are passed over.
    """

    def __init__(self, name: str = "", unit_mm: float | None = None) -> None:
        self.name = name
        self.unit_mm = unit_mm
        self.warnings: list[str] = []
        self.vertex_count = 0
        self._vertices = _GrowingArray(np.float32)
        self._triangles = _GrowingArray(np.int32)
        self._polygon_count = 0
        self._polygon_bytes = 0
        self._lowest, self._highest = 0, -1

    def add_vertices(self, vertices: NDArray[np.float32]) -> None:
        """The next vertices (n, 3), which are kept as they are.

        Raises InputError where one is not finite.
        """
        check_finite(vertices, self.vertex_count)
        self.vertex_count += len(vertices)
        self._vertices.append(vertices)

    def add_polygons(self, corners: NDArray[Any], counts: NDArray[np.int64], size: int) -> None:
        """The next polygons: the f-th has the next `counts[f]` of `corners`, counted from 0.

        `size` is the number of bytes that they take in the file.
        Raises InputError where one has fewer than three corners, or very many, where a corner
        cannot be a vertex of any mesh, and where polygons would be far larger as triangles.
        """
        if counts.size and not 3 <= counts.min() <= counts.max() <= LONGEST_POLYGON:
            row = int(np.argmax((counts < 3) | (counts > LONGEST_POLYGON)))
            expected = "at least 3" if counts[row] < 3 else f"at most {LONGEST_POLYGON}"
            raise InputError(
                f"polygon {self._polygon_count + row} has {counts[row]} corners; "
                f"expected {expected}",
                ErrorCode.MESH_SYNTAX,
            )
        self._check_amount(corners.size - 2 * counts.size, size)
        if (counts == 3).all():
            self.add_triangles(corners.reshape(-1, 3), 0)
            return
        triangles_each = counts - 2
        apex = np.repeat(np.cumsum(counts) - counts, triangles_each)
        step = spans(np.zeros_like(triangles_each), triangles_each)
        fan = np.stack((apex, apex + step + 1, apex + step + 2), axis=1)
        self.add_triangles(corners[fan], 0)
        self._polygon_count += len(counts) - len(fan)

    def add_triangles(self, corners: NDArray[Any], size: int) -> None:
        """Add triangles: corners (n, 3)."""
        if not corners.size:
            return
        self._check_amount(len(corners), size)
        if not np.can_cast(corners.dtype, np.int32):
            wrong = (corners < 0) | (corners > _LARGEST)
            if wrong.any():
                self._refuse(corners[wrong][0])
        triangles = corners.astype(np.int32)
        self._lowest = min(self._lowest, int(triangles.min()))
        self._highest = max(self._highest, int(triangles.max()))
        self._polygon_count += len(corners)
        self._triangles.append(triangles)

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Vertices (V, 3) and triangles (F, 3) in file order.

        Polygon (a, b, c, d, ...) has become (a, b, c), (a, c, d), ...
        Raises InputError where there are no vertices or a corner is none of them.
        """
        if not self.vertex_count:
            raise InputError("has no vertices; expected a mesh", ErrorCode.EMPTY)
        triangles = self._triangles.all()
        if self._lowest < 0 or self._highest >= self.vertex_count:
            flat = triangles.reshape(-1)
            self._refuse(flat[np.argmax((flat < 0) | (flat >= self.vertex_count))])
        return self._vertices.all(), triangles

    def _check_amount(self, triangles: int, size: int) -> None:
        self._polygon_bytes += size
        taken = 12 * (self._triangles.count + triangles)
        if taken > _ALWAYS_TAKEN + _MOST_BYTES_EACH * self._polygon_bytes:
            raise InputError(
                f"its polygons are {taken >> 20} MB as triangles and {self._polygon_bytes >> 20} "
                "MB as they are; expected a surface of triangles or quads",
                ErrorCode.TOO_LARGE,
            )

    def _refuse(self, corner: Any) -> None:
        has = f"; the file has {self.vertex_count}" if self.vertex_count else ""
        raise InputError(
            f"a polygon refers to vertex {corner} (counted from 0){has}", ErrorCode.VERTEX_INDEX
        )


class _GrowingArray:
    """Rows of three numbers that arrive in blocks; a lone block is not copied."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self.count = 0
        self._dtype = dtype
        self._first: NDArray[Any] = np.zeros((0, 3), dtype)
        self._bytes = bytearray()  # grows in place, unlike an array

    def append(self, rows: NDArray[Any]) -> None:
        if self.count:
            if not self._bytes:
                self._bytes += self._first.reshape(-1).view(np.uint8).data
                self._first = self._first[:0]
            self._bytes += np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        else:
            self._first = rows
        self.count += len(rows)

    def all(self) -> NDArray[Any]:
        if not self._bytes:
            return self._first
        return np.frombuffer(self._bytes, self._dtype).reshape(-1, 3)
