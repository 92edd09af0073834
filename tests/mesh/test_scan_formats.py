"""Raw scans in formats without an order of vertices: STL and lists of points."""

import numpy as np
import pytest
from raising import raises

from facedis_core.mesh.scan_formats import read_scan

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, 0], [0, 1.5, 0], [0, 0, 2]], "<f4")
TEXT = b"solid a\nfacet normal 0 0 1\nouter loop\n%sendloop\nendfacet\nendsolid\n" % b"".join(
    b"vertex %g %g %g\n" % tuple(corner) for corner in CORNERS.tolist()
)


def binary(header=b"solid, not text"):
    """The two triangles as binary STL."""
    rows = np.zeros(2, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["corners"] = CORNERS.reshape(2, 3, 3)
    return header.ljust(80) + (2).to_bytes(4, "little") + rows.tobytes()


@pytest.mark.parametrize("content", [TEXT, TEXT.replace(b"\n", b"\r\n"), binary(), binary(b"")])
def test_stl(tmp_path, content):
    (tmp_path / "a.stl").write_bytes(content)
    mesh = read_scan(tmp_path / "a.stl")
    assert mesh.name == "a" and mesh.unit_mm is None
    np.testing.assert_array_equal(mesh.vertices, CORNERS)
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "content",
    [
        b"2\n0 0.5 1\n2 3 4e1\n",
        b"# x y z r g b\n0 0.5 1 9 9 9\n\n2 3 40 9 9 9",
        b"0,0.5,1\r\n2;3;40",
    ],
)
def test_points(tmp_path, content):
    (tmp_path / "a.xyz").write_bytes(content)
    mesh = read_scan(tmp_path / "a.xyz")
    np.testing.assert_array_equal(mesh.vertices, np.array([[0, 0.5, 1], [2, 3, 40]], np.float32))
    assert mesh.triangles.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.stl", binary()[:-1], "truncated|mesh-syntax"),
        ("a.stl", binary(b"")[:-1], "truncated"),
        ("a.stl", TEXT[:60], "mesh-syntax"),
        ("a.stl", TEXT.replace(b"1.5", b"x"), "mesh-syntax"),
        ("a.stl", TEXT.replace(b"1.5", b"nan"), "not-finite"),
        ("a.stl", b"\0" * 84, "empty"),
        ("a.stl", b"", "empty"),
        ("a.xyz", b"", "empty"),
        ("a.xyz", b"1 2\n3 4\n", "mesh-syntax"),
        ("a.xyz", b"1 2 x\n", "mesh-syntax"),
        ("a.xyz", b"1 2 inf\n", "not-finite"),
    ],
)
def test_broken_files(tmp_path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with raises(code, name):
        read_scan(tmp_path / name)
