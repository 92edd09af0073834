"""Formats of meshio's: what it cannot read or write is refused, and nothing is printed."""

import tempfile

import pytest
from mesh_files import check_refused, encoded, nine

from facedis_core.errors import UsageError


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        (".off", b"nothing of the kind", "meshio could not read it"),
        (".off", b"OFF\n# Created by", "does not say how many vertices"),
        (".vtu", b"<VTKFile", "meshio could not read it"),
        (".fbx", b"ply", "meshio could not read it"),
        (".STL", b"solid\nendsolid\n", "triangles without an order of vertices; expected"),
    ],
)
def test_unusable_files(tmp_path, capfd, suffix, data, message):
    check_refused(tmp_path, data, suffix, message)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (".fbx", r"cannot write \.fbx .*expected \.ply \.obj \.wrl"),
        (".stl", r"cannot write \.stl: STL has triangles without an order"),
        (".xyzq", r"cannot write \.xyzq"),
    ],
)
def test_a_suffix_that_nothing_writes(capfd, suffix, message):
    with pytest.raises(UsageError, match=message) as caught:
        encoded(nine(), suffix)
    assert tempfile.gettempdir() not in str(caught.value)
    assert capfd.readouterr() == ("", "")
