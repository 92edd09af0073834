"""Header of PLY files: the tables that follow, their rows and properties, name and unit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO
from urllib.parse import unquote

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import LONGEST_MARK, quoted, without_mark

# NumPy's code of every type that can count or index -> the struct module's.
WHOLE_TYPES = dict(zip(("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), "bBhHiIqQ", strict=True))
COORDINATES = ("x", "y", "z")
CORNER_LISTS = ("vertex_indices", "vertex_index")
STRIPS = "tristrips"
_WANTED = {"vertex": COORDINATES, "face": CORNER_LISTS, STRIPS: CORNER_LISTS}
# Names that some programs give to what is an element face elsewhere, and grids of scanners.
_OTHER_SURFACES = {
    *("face", "faces", "triangle", "triangles", "tri", "quad", "quads", "polygon", "polygons"),
    *("tristrip", "strip", "strips", "trifan", "trifans", "range_grid", "grid", STRIPS),
}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2"},
    **{"int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8"},
    **{"float32": "f4", "float64": "f8"},
}
_BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MARKS_BEGIN = b"\xef\xff\xfe\0"  # byte order marks, and UTF-16 without one
_LONGEST_HEADER = 1 << 20
_MOST_PROPERTIES = 256


@dataclass(frozen=True)
class Property:
    """A value of every row of an element, or a list of values preceded by its length."""

    name: str
    type: str  # NumPy's code without byte order, e.g. "f4"
    count_type: str | None = None


@dataclass
class Element:
    """A table of the file: number of rows, and the properties of a row."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The properties of the mesh that this table has; all others are skipped."""
        names = _WANTED.get(self.name, ())
        lists = names == CORNER_LISTS
        return tuple(
            [p.name for p in self.properties if p.name in names and bool(p.count_type) == lists]
        )

    def fewest(self, prop: Property) -> int:
        """The shortest list that we accept: polygons have three corners, others may be empty."""
        return 3 if self.name == "face" and prop.name in CORNER_LISTS else 0


@dataclass
class PlyHeader:
    """Everything before the data."""

    byte_order: str = ""  # that of struct and NumPy; empty for ASCII
    line_end: bytes = b"\n"  # of text; with CRLF the CR is a blank like any other
    elements: list[Element] = field(default_factory=list)
    name: str = ""
    unit_mm: float | None = None


def read_header(start: bytes, stream: BinaryIO) -> PlyHeader:
    """Read up to and including end_header; `start` is the first byte, already taken.

    Raises InputError on a header that is none or from which no mesh can be had.
    """
    if start in _MARKS_BEGIN:
        start = without_mark(start + stream.read(LONGEST_MARK - 1))
    magic = start + read_line(stream, 8 - len(start))
    if magic.rstrip() != b"ply":
        without_mark(magic)
        raise InputError(
            f"begins with {quoted(magic.rstrip())}; expected a PLY, which begins with 'ply'",
            ErrorCode.WRONG_KIND,
        )
    header = PlyHeader()
    ahead = stream.read(1) if magic.endswith(b"\r") else b""
    if ahead not in (b"", b"\n"):
        header.line_end = b"\r"
    formats = 0
    for words in _header_lines(stream, ahead.removeprefix(b"\n"), header.line_end):
        match words:
            case ["format", encoding, "1.0"] if encoding in _BYTE_ORDERS:
                header.byte_order = _BYTE_ORDERS[encoding]
                formats += 1
            case ["comment", "facedis", "unit=mm"]:
                header.unit_mm = 1.0
            case ["comment", "facedis", name] if name.startswith("name="):
                header.name = unquote(name.removeprefix("name="), errors="surrogateescape")
            case [] | ["comment", *_] | ["obj_info", *_]:
                pass
            case ["element", name, count]:
                header.elements.append(Element(name, _count(name, count)))
            case ["property", "list", count, kind, name] if header.elements:
                prop = Property(name, _type(kind), _type(count, whole=True))
                header.elements[-1].properties.append(prop)
            case ["property", kind, name] if header.elements:
                header.elements[-1].properties.append(Property(name, _type(kind)))
            case _:
                raise InputError(
                    f"has the PLY header line {_quoted(' '.join(words))}, not understood",
                    ErrorCode.MESH_SYNTAX,
                )
    if formats != 1:
        raise InputError(
            f"has {formats} format lines in its PLY header; expected one", ErrorCode.MESH_SYNTAX
        )
    _check_elements(header)
    return header


def _header_lines(stream: BinaryIO, start: bytes, line_end: bytes) -> Iterator[list[str]]:
    """Words of every line up to end_header, of which `start` is already taken.

    Binary data may begin with a byte that looks like an LF: whether an LF belongs to the end of a
    line is known from the first line.
    """
    left = _LONGEST_HEADER
    while left > 0:
        line = start + (stream.readline(left) if line_end == b"\n" else read_line(stream, left))
        start = b""
        left -= len(line)
        words = line.decode("utf-8", "replace").split()
        if not line.endswith((line_end, b"\n")):
            break
        if words == ["end_header"]:
            return
        yield words
    raise InputError(
        "is truncated within its PLY header"
        if left > 0
        else f"has no end_header within {_LONGEST_HEADER} bytes; expected a PLY header",
        ErrorCode.TRUNCATED if left > 0 else ErrorCode.MESH_SYNTAX,
    )


def _count(element: str, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise InputError(
            f"promises {_quoted(word)} rows of {element[:32]!r}; expected a count",
            ErrorCode.MESH_SYNTAX,
        )
    return int(word)


def _type(word: str, *, whole: bool = False) -> str:
    code = _TYPES.get(word, "")
    if not code or (whole and code not in WHOLE_TYPES):
        expected = "a whole-number type" if whole else "one of char ... double"
        raise InputError(
            f"has a PLY property of type {_quoted(word)}; expected {expected}",
            ErrorCode.MESH_SYNTAX,
        )
    return code


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _check_elements(header: PlyHeader) -> None:
    """Refuse tables from which no mesh can be had."""
    names = [element.name for element in header.elements]
    if names.count("vertex") != 1 or max(map(names.count, _WANTED)) > 1:
        raise InputError(
            f"has the PLY elements {_quoted(' '.join(names))}; expected vertex and face",
            ErrorCode.MESH_SYNTAX,
        )
    for element in header.elements:
        if element.name == "vertex" and element.count == 0:
            raise InputError("has no vertices; expected a mesh", ErrorCode.EMPTY)
        properties = [p.name for p in element.properties]
        if len(properties) > _MOST_PROPERTIES:
            raise InputError(
                f"has {len(properties)} properties in PLY element {element.name[:32]!r}; "
                f"expected {_MOST_PROPERTIES} at most",
                ErrorCode.TOO_LARGE,
            )
        if len(set(properties)) < len(properties):
            raise InputError(
                f"has two properties of one name in PLY element {element.name[:32]!r}",
                ErrorCode.MESH_SYNTAX,
            )
        if element.name == "vertex":
            scalars = {p.name for p in element.properties if p.count_type is None}
            if not scalars.issuperset(COORDINATES):
                raise InputError("has no x, y and z in its PLY vertices", ErrorCode.MESH_SYNTAX)
        lists = [p for p in element.properties if p.name in CORNER_LISTS and p.count_type]
        if element.name in ("face", STRIPS) and element.count:
            if len(lists) != 1 or lists[0].type not in WHOLE_TYPES:
                raise InputError(
                    f"has PLY {'faces' if element.name == 'face' else element.name} without one "
                    "list vertex_indices of whole numbers",
                    ErrorCode.MESH_SYNTAX,
                )
        elif element.count and (lists or element.name.lower() in _OTHER_SURFACES):
            raise InputError(
                f"has a surface in the PLY element {_quoted(element.name)}; "
                f"expected it in face or {STRIPS}",
                ErrorCode.UNSUPPORTED,
            )


def read_line(stream: BinaryIO, longest: int) -> bytes:
    """A line up to its LF or CR; of CRLF the LF stays, since to look for it might wait for ever."""
    line = bytearray()
    while len(line) < longest and (byte := stream.read(1)):
        line += byte
        if byte in b"\r\n":
            break
    return bytes(line)
