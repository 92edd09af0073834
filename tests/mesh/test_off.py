"""OFF: the flavours that programs write, and what is no OFF."""

import numpy as np
import pytest
from mesh_files import (
    POLYGONS,
    V9,
    blocks_of,
    check_alike,
    check_mesh,
    check_refused,
    encoded,
    fans,
    nine,
    read_bytes,
    read_in_blocks,
)

ROWS = ["{:.9g} {:.9g} {:.9g}".format(*row) for row in V9.tolist()]
FACES = [f"{len(p)} {' '.join(map(str, p))}" for p in POLYGONS]


def off(magic="OFF", behind="", colors="", counts="9 5 0", newline="\n"):
    lines = [magic, counts, *(row + behind for row in ROWS), *(face + colors for face in FACES)]
    return newline.join([*filter(None, lines), ""]).encode()


FLAVOURS = {
    "plain": off(),
    "colors": off("COFF", " 255 0 0 255"),
    "colors without alpha": off(behind=" 0.5 0.5 0"),
    "normals": off("NOFF", " 0 0 1"),
    "texture": off("STOFF", " 0.5 1e-3"),
    "all": off("STCNOFF", " 0 0 1 .1 .2 .3 1 0 0"),
    "colors of faces": off(colors=" 255 0 0"),
    "a color index": off(colors=" 7"),
    "counts beside the magic": off("OFF 9 5 0", counts=""),
    "counts joined to the magic": off("OFF9 5 0", counts=""),
    "two counts": off(counts="9 5"),
    "comments": b"# made here\n\n" + off("OFF # 3 1 0", " # color", " # 1 2 3", "9 5 12 # edges"),
    "crlf": off(newline="\r\n"),
    "old mac": off(newline="\r"),
    "blank lines": off(newline="  \n\n\t"),
    "byte order mark": b"\xef\xbb\xbf" + off(),
    "no last newline": off().rstrip(),
}


@pytest.mark.parametrize("data", FLAVOURS.values(), ids=FLAVOURS)
def test_flavours(tmp_path, data):
    check_mesh(read_bytes(tmp_path, data, ".off"), V9, fans(POLYGONS))


@pytest.mark.parametrize("data", FLAVOURS.values(), ids=FLAVOURS)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_blocks_of_any_size(tmp_path, data, size):
    check_alike(*read_in_blocks(tmp_path, data, ".off", size))


def test_vertices_alone(tmp_path):
    data = off(counts="9 0 0")[: off().index(b"4 0 1")]
    check_mesh(read_bytes(tmp_path, data, ".off"), V9, np.zeros((0, 3)))


def test_what_is_written(tmp_path):
    assert encoded(nine(), ".off").startswith(b"OFF\n9 4 0\n")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "truncated: how many vertices"),
        (b"OFF\n# Created by", "truncated: how many vertices"),
        (b"nothing of the kind", "wrong-kind: begins with 'nothing'; expected an OFF"),
        (b"OFF BINARY\n\0\0\0\3", "unsupported: binary OFF"),
        (b"COFF BINARY\r\n", "unsupported: binary OFF"),
        (b"4OFF\n1 0 0\n1 2 3 1\n", "unsupported: 4OFF, vertices of other dimensions"),
        (b"nOFF\n3\n1 0 0\n1 2 3\n", "unsupported: nOFF"),
        (b"OFF\n3\n", "mesh-syntax: '3' where the numbers"),
        (b"OFF\n3 x 0\n", "mesh-syntax: '3 x 0'"),
        (b"OFF\n99999999999 1 0\n", "too-large"),
        (off()[:-12], "truncated|mesh-syntax"),
        (off(counts="9 6 0"), "truncated: 1 polygons fewer"),
        (off(counts="90 5 0"), "truncated|mesh-syntax"),
        (off(counts="9 4 0"), "mesh-syntax: goes on after"),
        (off(counts="8 5 0"), "mesh-syntax|vertex-index"),
        (b"OFF\n1 0 0\n1 2\n", "mesh-syntax: vertex 0 has 2 numbers"),
        (b"OFF\n1 0 0\n1 2 z\n", "mesh-syntax: 'z'"),
        (b"OFF\n1 0 0\n1 2 nan\n", "not-finite: vertex 0 is not finite"),
        (b"OFF\n1 0 0\n1 2 -1.#IND\n", "mesh-syntax: -1.#IND"),
        (b"OFF\n1 1 0\n1 2 3\n3 0 0\n", "mesh-syntax: of 3 corners has 2 numbers"),
        (b"OFF\n1 1 0\n1 2 3\n2 0 0\n", "mesh-syntax: polygon 0 has 2 corners"),
        (b"OFF\n1 1 0\n1 2 3\n3 0 0 1\n", "vertex-index: vertex 1"),
        (b"OFF\n1 1 0\n1 2 3\n-1 0 0 1\n", "mesh-syntax"),
        (b"OFF\n1 1 0\n1 2 3\n3 0 0 0.5\n", "mesh-syntax"),
    ],
)
def test_what_is_refused(tmp_path, data, error):
    check_refused(tmp_path, data, ".off", error)
    with blocks_of(5):
        check_refused(tmp_path, data, ".off", error.partition(":")[0])


def test_it_comes_through_a_command(call, tmp_path):
    (tmp_path / "quad.off").write_bytes(FLAVOURS["colors"])
    assert call("fd-info quad.off --json").code == 0
