"""POLYDATA in legacy VTK files: both encodings, both layouts of polygons, and what is refused."""

import numpy as np
import pytest
from mesh_files import POLYGONS, TRIANGLES, V9, check_mesh, check_refused, fans, read_bytes

QUADS = [[0, 1, 4, 3], [1, 2, 5, 4]]
TYPES = {"float": ">f4", "double": ">f8", "int": ">i4", "vtktypeint64": ">i8", "vtkIdType": ">i4"}


class File:
    """A VTK file that is put together."""

    def __init__(self, version="3.0", *, binary=False):
        self.binary = binary
        self.data = f"# vtk DataFile Version {version}\nx\n".encode()
        self.data += b"BINARY\n" if binary else b"ASCII\n"

    def add(self, line, numbers=(), kind="int"):
        self.data += f"{line}\n".encode()
        if self.binary:
            self.data += np.asarray(numbers).astype(TYPES[kind]).tobytes()
        else:
            text = map("{:.9g}".format, np.asarray(numbers, float).ravel())
            words = list(text)
            rows = (" ".join(words[k : k + 9]) for k in range(0, len(words), 9))
            self.data += "\n".join(rows).encode()
        self.data += b"\n" if len(numbers) else b""
        return self


def points(file, kind="float"):
    return file.add("DATASET POLYDATA").add(f"POINTS 9 {kind}", V9, kind)


def counted(file, polygons, section="POLYGONS"):
    numbers = [number for polygon in polygons for number in (len(polygon), *polygon)]
    return file.add(f"{section} {len(polygons)} {len(numbers)}", numbers)


def with_offsets(file, polygons, kind="vtktypeint64"):
    offsets = np.cumsum([0, *map(len, polygons)])
    file.add(f"POLYGONS {len(offsets)} {offsets[-1]}")
    file.add(f"OFFSETS {kind}", offsets, kind)
    return file.add(f"CONNECTIVITY {kind}", np.concatenate(polygons), kind)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("polygons", [TRIANGLES, QUADS, POLYGONS])
class TestPolydata:
    @pytest.mark.parametrize("kind", ["float", "double"])
    def test_counted(self, tmp_path, binary, polygons, kind):
        file = points(File(binary=binary), kind)
        counted(file, [[0], [1]], "VERTICES")
        counted(file, [[0, 1], [3, 4, 5]], "LINES")
        counted(file, polygons).add("POINT_DATA 9").add("SCALARS a float 1").add("anything")
        check_mesh(read_bytes(tmp_path, file.data, ".vtk"), V9, fans(polygons))

    @pytest.mark.parametrize("kind", ["vtktypeint64", "vtkIdType"])
    def test_offsets(self, tmp_path, binary, polygons, kind):
        file = File("5.1", binary=binary)
        points(file).add("METADATA").add("INFORMATION 0").add("")
        with_offsets(file, polygons, kind).add("CELL_DATA 4")
        check_mesh(read_bytes(tmp_path, file.data, ".vtk"), V9, fans(polygons))


@pytest.mark.parametrize("binary", [False, True])
def test_fields_are_passed_over(tmp_path, binary):
    file = File("4.2", binary=binary).add("DATASET POLYDATA").add("FIELD FieldData 2")
    file.add("time 1 1 double", [0.5], "double").add("ids 2 3 int", range(6))
    counted(file.add("POINTS 9 float", V9, "float"), TRIANGLES)
    check_mesh(read_bytes(tmp_path, file.data, ".vtk"), V9, TRIANGLES)


def test_words_in_any_case_and_lines_of_windows(tmp_path):
    data = counted(points(File()), TRIANGLES).data
    changed = data.replace(b"POLYDATA", b"PolyData").replace(b"\n", b"\r\n")
    check_mesh(read_bytes(tmp_path, changed, ".vtk"), V9, TRIANGLES)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_marks_and_line_ends(tmp_path, mark, line_end):
    data = mark + counted(points(File()), TRIANGLES).data.replace(b"\n", line_end)
    check_mesh(read_bytes(tmp_path, data, ".vtk"), V9, TRIANGLES)


def ascii_file(*lines):
    return "\n".join(["# vtk DataFile Version 3.0", "x", "ASCII", *lines, ""]).encode()


HEAD = ("DATASET POLYDATA", "POINTS 3 float", "0 0 0 1 0 0 0 1 0")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (ascii_file(*HEAD, "TRIANGLE_STRIPS 1 4", "3 0 1 2"), "unsupported: triangle strips"),
        (ascii_file(*HEAD, "POLYGONS 1 4", "3 0 1 5"), "vertex-index: vertex 5"),
        (ascii_file(*HEAD, "POLYGONS 1 4", "3 0 1 -1"), "vertex-index: vertex -1"),
        (ascii_file(*HEAD, "POLYGONS 1 4", "3 0 1"), "truncated"),
        (ascii_file(*HEAD, "POLYGONS 1 4", "3 0 1 2 2"), "mesh-syntax: more numbers"),
        (ascii_file(*HEAD, "POLYGONS 2 7", "3 0 1 2 3 0 1"), "damaged: 2 in 7 numbers"),
        (ascii_file(*HEAD, "POLYGONS 1 4", "-3 0 1 2"), "damaged"),
        (ascii_file(*HEAD, "POLYGONS 1 0"), "damaged"),
        (ascii_file("DATASET POLYDATA", "POINTS 300000 float", "0 0 0 " * 300000), "too-large"),
        (ascii_file(*HEAD, "POLYGONS 1 3", "2 0 1"), "mesh-syntax: 2 corners"),
        (ascii_file(*HEAD, "POLYGONS one 3"), "mesh-syntax: 'one' where a count"),
        (ascii_file(*HEAD, "POLYGONES 1 4", "3 0 1 2"), "mesh-syntax: POLYGONES 1 4"),
        (ascii_file("DATASET POLYDATA", "POINTS 1 float", "0 0 inf"), "not-finite: vertex 0"),
        (ascii_file("DATASET POLYDATA", "POINTS 1 half", "0 0 0"), "mesh-syntax: 'half'"),
        (ascii_file("DATASET POLYDATA", "POINTS 999999999999 float", "0 0 0"), "truncated"),
        (ascii_file("DATASET POLYDATA"), "empty"),
        (ascii_file(*HEAD).decode().encode("utf-16"), "wrong-kind: text in UTF-16"),
        (File(binary=True).data.replace(b"\n", b"\r"), "mesh-syntax: lines that end with CR"),
        (points(File(binary=True)).data[:-9], "truncated"),
        (
            with_offsets(points(File("5.1")), TRIANGLES).data.replace(b"0 3 6", b"0 7 6"),
            "damaged: offsets",
        ),
    ],
)
def test_what_is_refused(tmp_path, data, error):
    check_refused(tmp_path, data, ".vtk", error)
