"""How the surface of a mesh file looks: texture coordinates, normals and materials of its corners.

Of an OBJ with its .mtl, of a PLY with texture coordinates, and colors of vertices of both. A mesh
has one position a vertex; a corner of a triangle has in addition a place in a texture and a normal,
which differ between the triangles of a vertex at seams and hard edges.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.io.csv_text import brief, brief_list
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.streams import naming, read_all
from facedis_core.io.text import on_one_line, shown
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.obj_text import (
    COLORED_VERTEX,
    LIBRARY,
    NORMAL,
    POLYPAINT,
    TEXTURE,
    ObjFaces,
    decoded_name,
    read_faces,
    statements,
    without_comments,
)
from facedis_core.mesh.original import ply_vertices

RGBA = tuple[float, float, float, float]

_GREY: Final = (0.8, 0.8, 0.8, 1.0)  # of materials without a description
_WHITE: Final = (1.0, 1.0, 1.0, 1.0)
_PLY_TEXTURE: Final = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
_PLY_COLOR: Final = ("red", "green", "blue")
_PLY_CORNERS: Final = re.compile(rb"(?m)^[ \t]*property[ \t]+list[ \t].*\btexcoords?\s*$")
_PLY_IMAGE: Final = re.compile(rb"(?m)^comment TextureFile ([^\r\n]+)")
_IMAGES: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_IMAGE_ENDS: Final = {"image/png": b"IEND", "image/jpeg": b"\xff\xd9"}
_TILE: Final = re.compile("<udim>", re.IGNORECASE)  # in the name of an image of many
_ALL_TILES: Final = 0
_LARGEST_FRACTION: Final = 2.0  # of colors from 0 to 1, some of which are too bright
_LIGHT_END: Final = 0.04045  # of the straight part of sRGB


@dataclass(frozen=True)
class Material:
    """A material.

    Attributes:
        name: as in the file.
        color: linear RGB and opacity from 0 to 1; multiplies the texture.
        texture: content of its image, a PNG or JPEG; b"" = none.
        cut_out: the opacity is that of the texture.
    """

    name: str
    color: RGBA = _GREY
    texture: bytes = b""
    cut_out: bool = False


@dataclass(frozen=True, eq=False)
class Appearance:
    """How the triangles of a mesh look.

    Attributes:
        triangles: (F, 3) vertices.
        texture: (F, 3) rows of `uv` of their corners, -1 = none.
        uv: (T, 2), v upwards.
        normal: (F, 3) rows of `normals`, -1 = none.
        normals: (M, 3).
        material: (F,) places in `materials`.
        materials: none where the file names none.
        colors: (V, 3) linear RGB of vertices, which are seen where no material has a texture, in
            place of the colors of materials; None = none.
        warnings: lines about materials and textures that are missing or of another kind.
    """

    triangles: NDArray[np.int32]
    texture: NDArray[np.intp]
    uv: NDArray[np.float64]
    normal: NDArray[np.intp]
    normals: NDArray[np.float64]
    material: NDArray[np.intp]
    materials: tuple[Material, ...]
    colors: NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_textured(self) -> bool:
        """Whether a material has a texture."""
        return any(material.texture for material in self.materials)

    def split(self, vertices: int) -> "SplitVertices":
        """Vertices with one place in the texture and one normal each.

        The first ones are those of the mesh, in order; copies for seams and hard edges follow.

        Args:
            vertices: number of vertices of the mesh.
        """
        corners = np.stack([self.triangles, self.texture, self.normal], axis=-1).reshape(-1, 3)
        distinct, first, of_corner = np.unique(
            corners, axis=0, return_index=True, return_inverse=True
        )
        # in the order of the file the first kind of corner of each vertex stays in its place
        order = np.argsort(first, kind="stable")
        _, chosen = np.unique(distinct[order, 0], return_index=True)
        kept = order[chosen]
        copies = np.setdiff1d(np.arange(len(distinct)), kept)
        place = np.empty(len(distinct), np.intp)
        place[kept] = distinct[kept, 0]
        place[copies] = vertices + np.arange(len(copies))
        source = np.concatenate([np.arange(vertices), distinct[copies, 0]])
        texture, normal = np.full((2, len(source)), -1, np.intp)
        texture[place], normal[place] = distinct[:, 1], distinct[:, 2]
        return SplitVertices(source, texture, normal, place[of_corner].reshape(-1, 3))


class FoundFile(NamedTuple):
    """A file that another one names: what to call it, and its content."""

    source: str
    content: bytes


# Materials by name; those whose images are tiles (UDIM) by the number of the tile.
Library = dict[str, dict[int, Material]]

# The file that one file (its source) names; None = there is none.
Beside = Callable[[str, str], FoundFile | None]


class SplitVertices(NamedTuple):
    """Vertices of `Appearance.split`.

    Attributes:
        source: (n,) vertex of the mesh that each is.
        texture, normal: (n,) rows of `uv` and `normals`, -1 = none.
        triangles: (F, 3) of these vertices.
    """

    source: NDArray[np.intp]
    texture: NDArray[np.intp]
    normal: NDArray[np.intp]
    triangles: NDArray[np.intp]


def file_beside(source: str, name: str) -> FoundFile | None:
    """The file that a file of this machine names: below its folder, else by its last part there.

    Either may be spelled otherwise, as of `_spelled_alike`.
    """
    folder, plain = Path(source).parent, _plain_name(name)
    for candidate in (Path(folder, plain), Path(folder, Path(plain).name)) if plain else ():
        if not is_file(candidate):
            below = candidate.parent
            names = [path.name for path in below.iterdir()] if is_folder(below) else []
            candidate = Path(below, _spelled_alike(candidate.name, names) or candidate.name)
        if is_file(candidate):
            return FoundFile(str(candidate), read_all(str(candidate)))
    return None


def file_among(files: Mapping[str, bytes]) -> Beside:
    """Finds named files among some by the last part of their names."""

    def find(source: str, name: str) -> FoundFile | None:
        found = _spelled_alike(Path(_plain_name(name)).name, files)
        return None if found is None else FoundFile(found, files[found])

    return find


def _plain_name(name: str) -> str:
    return name.strip().strip('"').replace("\\", "/")


def _spelled_alike(name: str, names: Iterable[str]) -> str | None:
    """The name among some, else one in other case, encoding or composition of its accents.

    Files come from systems that do not tell these apart.
    """

    def key(text: str) -> str:
        plain = decoded_name(text.encode("utf-8", "surrogateescape"))
        return unicodedata.normalize("NFC", plain).casefold()

    known = sorted(names)
    return name if name in known else next((n for n in known if key(n) == key(name)), None)


def read_appearance(
    source: str, content: bytes, mesh: Mesh, beside: Beside = file_beside
) -> Appearance:
    """The appearance of a mesh file; of formats that are not read here it is plain.

    Textures are left out where there are no texture coordinates.

    Args:
        source: path or name of the file.
        content: its bytes, perhaps with moved vertices and turned normals.
        mesh: what `read_mesh` reads in it.
        beside: finds its materials and textures.
    """
    reader = _READERS.get(Path(source).suffix.lower(), _plain)
    with naming(source):
        return reader(source, content, mesh, beside)


def image_type(content: bytes) -> str | None:
    """Media type of a PNG or JPEG; None of anything else."""
    return next((kind for magic, kind in _IMAGES if content.startswith(magic)), None)


def without_cut_textures(source: str, look: Appearance) -> Appearance:
    """The appearance without textures that are cut short, for files that hold them as they are.

    Args:
        source: path or name of the file, for the warning.
        look: its appearance.
    """
    cut = [
        one.texture
        for one in look.materials
        if one.texture and _IMAGE_ENDS[image_type(one.texture) or "image/png"] not in one.texture
    ]
    if not cut:
        return look
    materials = tuple(Material(one.name) if one.texture in cut else one for one in look.materials)
    told = (
        f"{shown(source)}: its texture of {len(content):,} bytes is cut short and left out; save "
        "it again"
        for content in dict.fromkeys(cut)
    )
    return replace(look, materials=materials, warnings=(*look.warnings, *told))


def linear(srgb: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Linear light of sRGB values from 0 to 1."""
    return np.where(srgb <= _LIGHT_END, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _plain(source: str, content: bytes, mesh: Mesh, beside: Beside) -> Appearance:
    none = np.full(mesh.triangles.shape, -1, np.intp)
    material = np.zeros(len(mesh.triangles), np.intp)
    empty = np.zeros((0, 2)), np.zeros((0, 3))
    return Appearance(mesh.triangles, none, empty[0], none, empty[1], material, ())


def _obj(source: str, content: bytes, mesh: Mesh, beside: Beside) -> Appearance:
    text = without_comments(content)
    srgb = statements(text, COLORED_VERTEX)[1][:, 3:]
    colors = _colors(srgb if len(srgb) else _polypaint(content), len(mesh.vertices))
    if not any(word in text for word in (b"vt", b"vn", b"usemtl")):  # such as a scan
        return replace(_plain(source, content, mesh, beside), colors=colors)
    faces = read_faces(text)
    uv, normals = statements(text, TEXTURE)[1], statements(text, NORMAL)[1]
    fan, polygon = _fans(faces)
    vertex = faces.vertex[fan].astype(np.int32)
    if not np.array_equal(vertex, mesh.triangles):
        return _plain(source, content, mesh, beside)  # continued lines that hide statements
    found: list[Material] = []
    warnings: list[str] = []
    texture, normal = _known(faces.texture[fan], uv), _known(faces.normal[fan], normals)
    if lost := int(((texture < 0) & (faces.texture[fan] != -1)).sum()):
        warnings.append(
            f"{shown(source)}: {lost} of {texture.size} corners of its triangles have texture "
            "coordinates (vt) that are not there, or no numbers; export it again"
        )
    material = np.zeros(len(fan), np.intp)
    if any(faces.materials):
        tile = _tiles(texture, uv)
        used = {
            name: np.unique(tile[faces.material[polygon] == number]).tolist()
            for number, name in enumerate(faces.materials)
        }
        known = _libraries(source, text, beside, used, warnings)
        for number, name in enumerate(faces.materials):
            same = faces.material[polygon] == number
            for of_tile, one in known.get(name, {_ALL_TILES: Material(name or "none")}).items():
                material[same & ((of_tile == _ALL_TILES) | (tile == of_tile))] = len(found)
                found.append(one)
    if not len(uv) and any(one.texture for one in found):
        warnings.append(
            f"{shown(source)} has no texture coordinates (vt), so its textures are left out; "
            "export it with them"
        )
        found = [Material(one.name) if one.texture else one for one in found]
    return Appearance(
        vertex,
        texture,
        uv,
        normal,
        normals,
        material,
        tuple(found),
        colors,
        tuple(warnings),
    )


def _tiles(texture: NDArray[np.intp], uv: NDArray[np.float64]) -> NDArray[np.intp]:
    """The tile (UDIM) of each triangle, from 1001 on, ten in a row upwards."""
    middle = np.append(uv, np.zeros((1, 2)), axis=0)[texture].mean(axis=1)
    column, row = np.clip(np.floor(middle), 0, (9, 999)).astype(np.intp).T
    numbers: NDArray[np.intp] = 1001 + column + 10 * row
    return numbers


def _polypaint(content: bytes) -> NDArray[np.float64]:
    """Colors (n, 3) from 0 to 1 in comments of ZBrush: a mask, red, green and blue for each."""
    hexadecimal = b"".join(POLYPAINT.findall(content)) if b"#MRGB" in content else b""
    return np.frombuffer(bytes.fromhex(hexadecimal.decode()), np.uint8).reshape(-1, 4)[:, 1:] / 255


def _colors(srgb: NDArray[np.float64], vertices: int) -> NDArray[np.float32] | None:
    """Linear colors (V, 3) of vertices of which all have one from 0 to 1, or to 255; else None."""
    if len(srgb) != vertices or not np.isfinite(srgb).all():
        return None
    largest = 255.0 if srgb.max(initial=0.0) > _LARGEST_FRACTION else 1.0
    return linear(np.clip(srgb / largest, 0, 1)).astype(np.float32)


def _known(rows: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows of values that are there and finite; -1 for the others."""
    good = np.append(np.isfinite(values).all(axis=1), False)
    inside = np.where((rows >= 0) & (rows < len(values)), rows, -1)
    return np.where(good[inside], inside, -1)


def _fans(faces: ObjFaces) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Corners (n, 3) of the triangles of all faces, and the face (n,) of each."""
    triangles = np.diff(np.append(faces.first, len(faces.vertex))) - 2
    polygon = np.repeat(np.arange(len(triangles)), triangles)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    apex = faces.first[polygon]
    return np.stack([apex, apex + step + 1, apex + step + 2], axis=1), polygon


def _libraries(
    source: str, text: bytes, beside: Beside, used: Mapping[str, list[int]], warnings: list[str]
) -> Library:
    """The materials of an OBJ, of those that are used, whose tiles are given by name."""
    found: Library = {}
    read: list[str] = []
    for match in LIBRARY.finditer(text):
        whole = decoded_name(match[1])
        library = beside(source, whole)
        libraries = [library] if library else [beside(source, name) for name in whole.split()]
        if not any(libraries):
            warnings.append(
                f"{shown(source)}: its materials {on_one_line(whole)} are missing; put that file "
                "beside it"
            )
        for library in filter(None, libraries):
            wanted = {name: used[name] for name in used if name not in found}
            for name, material in _read_library(library, beside, wanted, warnings):
                found.setdefault(name, material)
        read += [shown(library.source) for library in libraries if library]
    lost = sorted(set(used) - found.keys() - {""})
    if lost and not LIBRARY.search(text):
        warnings.append(
            f"{shown(source)} names no file of materials (mtllib), so {brief_list(lost)} stays "
            "grey; export it with its materials"
        )
    if read and lost:
        warnings.append(
            f"{shown(source)}: {' '.join(read)} has no material {brief_list(lost)}, which "
            "stays grey; add it there"
        )
    return found


def _read_library(
    library: FoundFile, beside: Beside, wanted: Mapping[str, list[int]], warnings: list[str]
) -> Iterator[tuple[str, dict[int, Material]]]:
    """The wanted materials of a .mtl: color (Kd), opacity (d, Tr), texture (map_Kd, map_d)."""
    images: dict[str, bytes] = {}
    described: dict[str, dict[str, str]] = {}
    values: dict[str, str] = {}
    for line in library.content.splitlines():
        word, _, rest = decoded_name(line).replace("\t", " ").partition(" ")
        if word == "newmtl":
            values = {}
            described.setdefault(rest.strip(), values)
        else:
            values[word.lower()] = rest.strip()
    for name in wanted:
        plain = re.split(r"\s#", name)[0].strip()  # what follows is a comment, or of the name
        if name not in described and plain not in described:
            continue
        values = described[name if name in described else plain]
        color, opaque, clear = (
            _fractions(values.get(word.lower(), "").removeprefix("-halo "), label, warnings)
            for word in ("Kd", "d", "Tr")
            for label in [f"{shown(library.source)}: {word} of {on_one_line(name)}"]
        )
        red, *others = color or _GREY[:3]
        green, blue = others[:2] if len(others) > 1 else (red, red)  # a lone number is all three
        opacity = opaque or [1 - value for value in clear] or [1.0]
        file, cut_out = _file_of(values.get("map_kd", "")), "map_d" in values
        made = {}
        for tile in wanted[name] if _TILE.search(file) else [_ALL_TILES]:
            label = name if tile == _ALL_TILES else f"{name}.{tile}"
            image = _TILE.sub(str(tile), file)
            if image not in images:
                images[image] = _image(library.source, image, beside, warnings)
            texture = images[image]
            if not texture:
                made[tile] = Material(label, (red, green, blue, opacity[0]))
            else:
                white = (1.0, 1.0, 1.0, 1.0 if cut_out else opacity[0])
                made[tile] = Material(label, white, texture, cut_out)
        yield name, made


def _image(source: str, name: str, beside: Beside, warnings: list[str]) -> bytes:
    """The image that a file names; b"" = none that is known."""
    if not name:
        return b""
    found = beside(source, name)
    if found is None:
        warnings.append(
            f"{shown(source)}: its texture {on_one_line(name)} is missing; put it beside it"
        )
        return b""
    if image_type(found.content) is None:
        warnings.append(
            f"{shown(found.source)} is left out: a texture must be PNG or JPEG; convert it"
        )
        return b""
    return found.content


def _fractions(rest: str, label: str, warnings: list[str]) -> list[float]:
    """The numbers at the beginning, limited to 0 to 1; warns where that changes something."""
    found = _numbers(rest)
    limited = [min(max(value, 0.0), 1.0) for value in found]
    if rest and (not found or limited != found):
        warnings.append(f"{label} is {brief(rest)}, expected numbers from 0 to 1; mend it there")
    return limited


def _numbers(rest: str) -> list[float]:
    """The numbers at the beginning."""
    values = []
    for word in rest.split():
        try:
            value = float(word)
        except ValueError:
            break
        if value != value:  # NaN
            break
        values.append(value)
    return values


def _file_of(rest: str) -> str:
    """The file name of a `map_` statement, which options with their values may precede."""
    words = rest.split()
    begin = 0
    while begin < len(words) - 1 and words[begin].startswith("-"):
        begin += 1
        while begin < len(words) - 1 and re.fullmatch(r"[-+\d.eE]+|on|off|[rgbmlz]", words[begin]):
            begin += 1
    return " ".join(words[begin:]) if begin else rest


def _ply(source: str, content: bytes, mesh: Mesh, beside: Beside) -> Appearance:
    plain = _plain(source, content, mesh, beside)
    try:
        rows = ply_vertices(content)
    except InputError:
        return plain
    texture, uv = plain.texture, plain.uv
    for names in _PLY_TEXTURE:
        if rows.types.keys() >= set(names):
            uv = rows.values(names)
            texture = _known(mesh.triangles.astype(np.intp), uv)
            break
    colors = None
    if rows.types.keys() >= set(_PLY_COLOR):
        values = rows.values(_PLY_COLOR)
        largest = 1.0
        if np.dtype(rows.types["red"]).kind in "iu":  # some write 0 to 255 in wider integers too
            wide = values.max(initial=0) > 255
            largest = float(np.iinfo(rows.types["red"]).max) if wide else 255.0
        colors = _colors(values / largest, len(mesh.vertices))
    materials: tuple[Material, ...] = ()
    warnings: list[str] = []
    header = content[: content.find(b"end_header")]
    of_corners = _PLY_CORNERS.search(header) and not len(uv)  # as MeshLab writes them
    if of_corners:
        warnings.append(
            f"{shown(source)} has texture coordinates at the corners of faces (texcoord), which "
            "are not read; save it with those of vertices, or as OBJ"
        )
    image = _PLY_IMAGE.search(header)
    if image:
        name = decoded_name(image[1])
        content = _image(source, name, beside, warnings) if not of_corners else b""
        if content and not len(uv):
            warnings.append(
                f"{shown(source)} has no texture coordinates, so its texture is left out; export "
                "it with them"
            )
            content = b""
        materials = (Material(Path(name).stem, _WHITE if content else _GREY, content),)
    return Appearance(
        mesh.triangles,
        texture,
        uv,
        plain.normal,
        plain.normals,
        plain.material,
        materials,
        colors,
        tuple(warnings),
    )


_READERS: Final[dict[str, Callable[[str, bytes, Mesh, Beside], Appearance]]] = {
    ".obj": _obj,
    ".ply": _ply,
}
