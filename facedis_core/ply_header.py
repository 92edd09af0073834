"""The header of a PLY: which tables follow, of what types, in which byte order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO
from urllib.parse import unquote

from facedis_core.errors import InputError

WHOLE_TYPES = {
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
}
"""NumPy's code of every type that can count or index -> the struct module's."""

COORDINATES = ("x", "y", "z")
CORNER_LISTS = ("vertex_indices", "vertex_index")

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2"},
    **{"int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "int64": "i8", "uint64": "u8"},
    **{"float32": "f4", "float64": "f8"},
}
_BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
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
    """A table of the file: so many rows of these properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The properties that make a mesh, as far as they are here; all others are passed over."""
        names = {"vertex": COORDINATES, "face": CORNER_LISTS}.get(self.name, ())
        lists = self.name == "face"
        found = (p for p in self.properties if p.name in names)
        return tuple(p.name for p in found if (p.count_type is not None) == lists)

    def fewest(self, prop: Property) -> int:
        """The shortest list that we accept: polygons have three corners, others may be empty."""
        return 3 if self.name == "face" and prop.name in CORNER_LISTS else 0


@dataclass
class Header:
    """Everything before the data."""

    byte_order: str = ""  # that of struct and NumPy; empty for ASCII
    elements: list[Element] = field(default_factory=list)
    name: str = ""
    unit_mm: float | None = None


def read_header(start: bytes, stream: BinaryIO) -> Header:
    """Read up to and including end_header; `start` is the first byte, already taken.

    Raises InputError on a header that is none or from which no mesh can be had.
    """
    magic = start + stream.readline(7)
    if magic.rstrip() != b"ply":
        shown = magic.rstrip().decode("ascii", "backslashreplace")
        raise InputError(f"begins with {shown!r}; expected a PLY, which begins with 'ply'")
    header = Header()
    formats = 0
    for words in _header_lines(stream):
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
                    f"has the PLY header line {_shown(' '.join(words))}, not understood"
                )
    if formats != 1:
        raise InputError(f"has {formats} format lines in its PLY header; expected one")
    _check(header)
    return header


def _header_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """Words of every line up to end_header."""
    left = _LONGEST_HEADER
    while left > 0:
        line = stream.readline(left)
        left -= len(line)
        words = line.decode("utf-8", "replace").split()
        if not line.endswith(b"\n"):
            break
        if words == ["end_header"]:
            return
        yield words
    raise InputError(
        "is truncated within its PLY header"
        if left > 0
        else f"has no end_header within {_LONGEST_HEADER} bytes; expected a PLY header"
    )


def _count(element: str, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 18):
        raise InputError(f"promises {_shown(word)} rows of {element[:32]!r}; expected a count")
    return int(word)


def _type(word: str, *, whole: bool = False) -> str:
    code = _TYPES.get(word, "")
    if not code or (whole and code not in WHOLE_TYPES):
        expected = "a whole-number type" if whole else "one of char ... double"
        raise InputError(f"has a PLY property of type {_shown(word)}; expected {expected}")
    return code


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _check(header: Header) -> None:
    """Refuse tables from which no mesh can be had."""
    names = [element.name for element in header.elements]
    if names.count("vertex") != 1 or names.count("face") > 1:
        raise InputError(
            f"has the PLY elements {_shown(' '.join(names))}; expected vertex and face"
        )
    for element in header.elements:
        if element.name == "vertex" and element.count == 0:
            raise InputError("has no vertices; expected a mesh")
        properties = [p.name for p in element.properties]
        if len(properties) > _MOST_PROPERTIES:
            raise InputError(
                f"has {len(properties)} properties in PLY element {element.name[:32]!r}; "
                f"expected {_MOST_PROPERTIES} at most"
            )
        if len(set(properties)) < len(properties):
            raise InputError(f"has two properties of one name in PLY element {element.name[:32]!r}")
        if element.name == "vertex":
            scalars = {p.name for p in element.properties if p.count_type is None}
            if not scalars.issuperset(COORDINATES):
                raise InputError("has no x, y and z in its PLY vertices")
        if element.name == "face" and element.count:
            lists = [p for p in element.properties if p.name in CORNER_LISTS and p.count_type]
            if len(lists) != 1 or lists[0].type not in WHOLE_TYPES:
                raise InputError("has PLY faces without one list vertex_indices of whole numbers")
