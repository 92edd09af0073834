"""Formats of meshio's: what it cannot read or write is refused in its words; it prints nothing.

Each extension that it knows is either written such that it is read back alike, or refused.
"""

import meshio
import numpy as np
import pytest
from mesh_files import V9, check_mesh, check_refused, encoded, nine, read_bytes
from raising import raises

from facedis_core.mesh.mesh import CODECS, Mesh, read_mesh
from facedis_core.mesh.meshio_formats import WRITTEN_SUFFIXES

KNOWN = sorted(meshio.extension_to_filetypes)
WRITTEN = [*CODECS, *WRITTEN_SUFFIXES]
RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32)
VERTICES = {
    "nine": V9,
    "any float32": np.where(np.isfinite(BITS), BITS, 0).reshape(-1, 3),
    "whole numbers": np.round(RNG.normal(0, 100, (300, 3))).astype(np.float32),
    "in a plane": RNG.normal(0, 1, (300, 3)).astype(np.float32) * np.float32([1, 1, 0]),
}


def test_the_table_is_of_formats_that_meshio_knows():
    assert set(WRITTEN_SUFFIXES) < set(KNOWN)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("vertices", VERTICES.values(), ids=VERTICES)
def test_what_is_written_is_read_back(tmp_path, monkeypatch, capfd, suffix, vertices):
    monkeypatch.chdir(tmp_path)
    # unused vertices, two triangles alike, one turned over
    some = np.random.default_rng(1).permutation(len(vertices))[:9].reshape(3, 3)
    triangles = np.concatenate([[[4, 2, 0], [4, 2, 0], [0, 2, 4]], some])
    mesh = Mesh(vertices, triangles.astype(np.int32), "a name")
    path = tmp_path / f"a face of {{x}} ü.v2{suffix}"
    path.write_bytes(encoded(mesh, suffix))
    for given in (path, path.name):
        read = read_mesh(given)
        check_mesh(read, mesh.vertices, mesh.triangles)
        assert read.vertices.tobytes() == mesh.vertices.tobytes()
        assert read.warnings == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [*sorted({*KNOWN} - {*WRITTEN}), ".fbx", ".xyzq", ".gz"])
def test_other_suffixes_are_not_written(call, tmp_path, capfd, suffix):
    with raises("output-suffix", r"expected \.ply \.obj \.wrl \.off") as caught:
        encoded(nine(), suffix)
    assert suffix in str(caught.value)
    # before anything is computed or read
    for output in (f"a{suffix}", f"out/{{name}}{suffix}", f"b.{{part}}{suffix}"):
        result = call(["fd-decode", "none.npy", "-o", output])
        assert (result.code, result.kind) == (2, "output-suffix")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".VTU", ".Off"])
def test_a_suffix_in_upper_case(tmp_path, suffix):
    check_mesh(
        read_bytes(tmp_path, encoded(nine(), suffix), suffix), nine().vertices, nine().triangles
    )


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_a_mesh_without_triangles_is_not_written(suffix):
    with raises("output-suffix", "without triangles"):
        encoded(Mesh(V9, np.zeros((0, 3), np.int32)), suffix)


GMSH = (
    b"$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n3\n1 0 0 0\n2 1 0 0\n3 0 1 0\n$EndNodes\n"
    b"$Elements\n1\n1 2 2 0 0 1 2 3\n$EndElements\n"
)
FLAT = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_gmsh_is_read(tmp_path):
    check_mesh(read_bytes(tmp_path, GMSH, ".msh"), FLAT, [[0, 1, 2]])


@pytest.mark.parametrize(
    ("suffix", "data", "error"),
    [
        (".vtu", b"<VTKFile", r"unsupported: could not read it \(it gives no reason\)"),
        (".fbx", b"ply", r"unsupported: \(Could not deduce file format from path 'mesh.fbx'"),
        (".vtk", b"# vtk DataFile Version 3.0\nx\nASCII\nDATASET FIELD\n", r"unsupported: FIELD"),
        (".mesh", b"what", r"unsupported: meshio could not read it \("),
        (".vtp", b"<VTKFile", "unsupported: ParaView saves as .ply"),
        (".msh", b'(0 "ANSYS")', "unsupported: none of Gmsh"),
        (".node", b"3 3 0 0\n", "unsupported: tetrahedra"),
        (".ele", b"0 4 0\n", "unsupported: tetrahedra"),
        (".wkt", b"TIN (((0 0 0)))", "unsupported: triangles without an order of vertices"),
        (
            ".STL",
            b"solid\nendsolid\n",
            "unsupported: triangles without an order of vertices; expected",
        ),
    ],
)
def test_unusable_files(tmp_path, capfd, suffix, data, error):
    check_refused(tmp_path, data, suffix, error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", KNOWN)
@pytest.mark.parametrize("data", [b"", b"\n", b"what", bytes(100), b"1 2 3\n" * 9])
def test_rubbish_in_every_format(tmp_path, capfd, suffix, data):
    with raises("|".join(KINDS)) as caught:
        read_bytes(tmp_path, data, suffix)
    assert str(caught.value).startswith(str(tmp_path)) and str(caught.value).isprintable()
    assert "SystemExit" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


KINDS = ["unsupported", "truncated", "wrong-kind", "empty", "mesh-syntax", "extra-missing"]
