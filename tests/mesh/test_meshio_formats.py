"""Formats of meshio's: what it cannot read or write is refused, and nothing is printed."""

import tempfile

import pytest
from mesh_files import check_refused, encoded, nine
from raising import raises


@pytest.mark.parametrize(
    ("suffix", "data", "error"),
    [
        (".off", b"nothing of the kind", "unsupported: meshio could not read it"),
        (".off", b"OFF\n# Created by", "truncated: does not say how many vertices"),
        (".vtu", b"<VTKFile", "unsupported: meshio could not read it"),
        (".fbx", b"ply", "unsupported: meshio could not read it"),
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


@pytest.mark.parametrize(
    ("suffix", "error"),
    [
        (".fbx", r"output-suffix: \.fbx .*expected \.ply \.obj \.wrl"),
        (".stl", r"output-suffix: \.stl"),
        (".xyzq", r"output-suffix: \.xyzq"),
    ],
)
def test_a_suffix_that_nothing_writes(capfd, suffix, error):
    with raises(error) as caught:
        encoded(nine(), suffix)
    assert tempfile.gettempdir() not in str(caught.value)
    assert capfd.readouterr() == ("", "")
