"""Model of fd-view: faces to choose from, mixtures of two faces, and files of mixtures."""

import base64
import binascii
import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, write_latents
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.face_regions import face_regions
from facedis_core.io.streams import naming
from facedis_core.mesh.appearance import file_among, file_beside, read_appearance
from facedis_core.mesh.mesh import CODECS, Mesh, write_mesh
from facedis_core.mesh.original import read_original
from facedis_core.mesh.scan_formats import SCAN_FORMATS
from facedis_core.model.latent_directions import LatentDirections, leading_directions
from facedis_core.model.model import LatentPart, Model, Part
from facedis_core.pipeline.combine import blend, pair_names
from facedis_core.pipeline.decode import LatentDecoder
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.pipeline.onto import OntoDecoder, place_original
from facedis_core.render.color_scale import ROUND_ENDS, colormap
from facedis_core.render.page_surface import page_surface, to_base64
from facedis_core.render.page_texture import page_texture
from facedis_core.render.shading import to_srgb
from facedis_core.rig.blendshapes import ARKIT_NAMES, Blendshapes, load_blendshapes
from facedis_core.viewer.direction_words import DirectionWords, describe_direction
from facedis_core.viewer.face_stream import FaceStream
from facedis_core.viewer.faces import (
    ViewerFace,
    ViewerFaces,
    choice_labels,
    face_of_bytes,
    floats_base64,
)
from facedis_core.viewer.scan_jobs import RAW_SCAN, ScanJobs, scan_of_bytes

MESH_SUFFIXES: Final = tuple(CODECS)
BESIDE: Final = (".mtl", ".png", ".jpg", ".jpeg")  # of materials
MOST_BESIDE: Final = 256 << 20  # bytes of these
MAX_KEPT: Final = 8  # opened files that mixtures can be written onto
_LONGEST_NAME: Final = 4096
_VARIED: Final = get_args(LatentPart)
# of the half that a model lacks
_NO_DIRECTIONS: Final = LatentDirections(
    np.empty((0, 0), np.float32),
    np.empty(0),
    np.empty(0, np.int64),
    np.empty((0, 0, 3), np.float32),
)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Settings of the page's controls.

    Attributes:
        first, second: latents of the faces A and B, one row each.
        share: share of B in identity and expression, from 0 to 1.
        strength: factor of the expression, as `fd-transfer --scale`.
        moves: steps along the leading latent directions of each part, added at the end.
        blendshapes: weights (52,) of ARKit's blendshapes, added to the whole face or to its
            expression; None = none.
        part: part of the face to show.
        original: key of the face onto whose file a download is written; "" = none.
    """

    first: Latents
    second: Latents
    share: Mapping[str, float]
    strength: float = 1.0
    moves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    blendshapes: NDArray[np.float64] | None = None
    part: Part = "full"
    original: str = ""


class LiveModel:
    """A model and faces to choose from; immutable but for stream and scans, which threads share."""

    def __init__(
        self, encoder: MeshEncoder, offered: ViewerFaces, stream: FaceStream | None = None
    ) -> None:
        """`offered` are the faces of the page, at least one; a stream brings more of them."""
        self.encoder = encoder
        self.model: Model = encoder.model
        self.faces = list(offered.faces)
        self.stream, self._stream_place = stream, offered.stream_place
        self.scans = ScanJobs(encoder)
        self.blendshapes = _blendshapes_of(self.model)
        self._opened: dict[str, ViewerFace] = {}  # with files that mixtures can be written onto
        self._beside: dict[str, bytes] = {}  # materials and textures by name
        self._lock = Lock()
        self._labels = choice_labels(self.faces)
        rows = [face.latents for face in self.faces]
        self.directions: dict[str, LatentDirections] = {
            part: leading_directions(
                self.model, part, np.concatenate([getattr(row, part) for row in rows])
            )
            if getattr(self.model.config, part)
            else _NO_DIRECTIONS
            for part in _VARIED
        }

    def description(self) -> dict[str, Any]:
        """Model, colormap, directions and labels of faces, which the page loads first."""
        return {
            "model": Path(self.model.source).stem,
            "vertices": self.model.config.vertices,
            "mean_face": floats_base64(self.model.mean_face),
            "colormap": to_base64(to_srgb(colormap())),
            "round_ends": ROUND_ENDS,
            "surface": page_surface(self.model.mean_face, self.model.triangles),
            "directions": {
                part: [words._asdict() for words in self._words(found)]
                for part, found in self.directions.items()
            },
            "blendshapes": [] if self.blendshapes is None else list(self.blendshapes.arkit_names),
            "faces": self._labels,
            "stream": self._stream_place,
            "suffixes": [*MESH_SUFFIXES, ".npy", *SCAN_FORMATS],
            "beside": list(BESIDE),
        }

    def _words(self, found: LatentDirections) -> list[DirectionWords]:
        """Each direction in words, by the regions of the mean face that the encoder sees."""
        regions = {
            name: inside[found.vertices]
            for name, inside in face_regions(self.model.mean_face).items()
            if inside[found.vertices].any()
        }
        return [describe_direction(offsets, regions) for offsets in found.offsets]

    def face(self, number: str) -> ViewerFace:
        """The face with that number in the list that the page offers, or of a file or the stream.

        Raises:
            InputError: there is none.
        """
        if number in self._opened:
            return self._opened[number]
        if self.stream is not None and not number.isdecimal():
            return self.stream.face(number)
        if not (number.isascii() and number.isdecimal() and len(number) < 9):
            raise InputError(f"no face has the number {number[:20]!r}", ErrorCode.NAME_UNKNOWN)
        if int(number) >= len(self.faces):
            raise InputError(
                f"no face has the number {number}; there are {len(self.faces)}, counted from 0",
                ErrorCode.NAME_UNKNOWN,
            )
        return self.faces[int(number)]

    def news(self, seen: str, seconds: float) -> dict[str, Any]:
        """News of the stream after the version `seen`, for which it waits; as `FaceStream.news`.

        Raises:
            InputError: there is no stream.
        """
        if self.stream is None:
            raise InputError("standard input is not shown; give - to fd-view", ErrorCode.REQUEST)
        return self.stream.news(_version(seen), seconds, self._labels)

    def scan_news(self, key: str, seen: str, seconds: float) -> dict[str, Any]:
        """News of the registration of a scan after the version `seen`; as `ScanJobs.news`.

        Raises:
            InputError: there is no such scan.
        """
        return self.scans.news(key, _version(seen), seconds)

    def opened(self, content: bytes, name: str) -> ViewerFace | str:
        """The first face of a file dropped on the page; of a raw scan the key of `scan_news`.

        A raw scan is a mesh of another topology than the model, if there is a prior to register it.

        Raises:
            InputError: as fd-encode, or fd-decode for latents, would raise for the file.
            UsageError: SciPy is not installed, which registration needs.
        """
        if Path(name).suffix.lower() not in SCAN_FORMATS:
            try:
                return self.encoded(content, name)
            except InputError as error:
                if error.code not in RAW_SCAN or not self.scans.are_possible:
                    raise
        return self.scans.start(scan_of_bytes(content, name))

    def encoded(self, content: bytes, name: str) -> ViewerFace:
        """The first face of a file in the model's topology; errors as of `opened`."""
        face = face_of_bytes(self.encoder, content, name)
        length = len(face.name)
        if length > _LONGEST_NAME:
            raise InputError(
                f"the face in {name} has a name of {length} characters, expected "
                f"{_LONGEST_NAME} at most; rename it",
                ErrorCode.TOO_LARGE,
            )
        return face

    def shown(self, face: ViewerFace) -> dict[str, Any]:
        """A face as JSON, with the texture of its file."""
        said = face.as_json()
        if not face.original_suffix:
            return said
        try:
            file = face.original or read_original(face.source)
            beside = file_beside if face.original is None else file_among(self._beside)
            look = read_appearance(file.source, file.content, file.mesh, beside)
            placed = self.model.preparation.place(
                file.mesh, None, trust_order=self.encoder.trust_order
            )
        except InputError:  # the file has changed; the face is still what it was
            return said
        texture = page_texture(look, placed.rows, self.model.triangles)
        warning = "; ".join(filter(None, [face.warning, *look.warnings]))
        return {**said, "texture": texture, "warning": warning}

    def keep(self, face: ViewerFace) -> dict[str, Any]:
        """A face of a file opened on the page, as JSON; the latest ones can be written onto."""
        if not face.original_suffix:
            return face.as_json()
        with self._lock:
            key = f"file{secrets.token_hex(4)}"
            self._opened[key] = face
            while len(self._opened) > MAX_KEPT:
                del self._opened[next(iter(self._opened))]
        return {**self.shown(face), "key": key}

    def lay_beside(self, content: bytes, name: str) -> None:
        """Keep a file that meshes opened later may name: a .mtl or a texture.

        Raises:
            InputError: a file of another kind.
        """
        name = Path(name).name
        if Path(name).suffix.lower() not in BESIDE:
            raise InputError(
                f"{name[:80]} is no file of materials; expected {' '.join(BESIDE)}",
                ErrorCode.REQUEST,
            )
        with self._lock:
            self._beside.pop(name, None)
            self._beside[name] = content
            while len(self._beside) > 1 and sum(map(len, self._beside.values())) > MOST_BESIDE:
                del self._beside[next(iter(self._beside))]

    def mixed(self, mixture: Mixture) -> Latents:
        """The latents of a mixture, one row, named as by fd-transfer.

        Raises:
            InputError: they are not finite.
        """
        first, second = mixture.first, mixture.second
        made = {}
        for part in _VARIED:
            share = np.array([[mixture.share[part]]])
            z = blend(getattr(first, part), getattr(second, part), share)
            z *= mixture.strength if part == "expression" else 1.0
            moves = mixture.moves.get(part, np.empty(0))
            with np.errstate(all="ignore"):  # checked below
                made[part] = (z + moves @ self.directions[part].steps[: len(moves)]).astype("<f4")
        names = first.names if first.names == second.names else pair_names(first, second)
        rows = Latents(names, [self.model.id], made["identity"], made["expression"])
        with naming("the mixture"):
            rows.check_finite()
        return rows

    def vertices(self, mixture: Mixture) -> NDArray[np.float32]:
        """The face of a mixture, (V, 3) mm; raises as `mixed` and `Model.decode_vectors` do."""
        decoder, rows = LatentDecoder(self.model), self.mixed(mixture)
        face = decoder.face(rows, 0, mixture.part)
        weights = mixture.blendshapes
        if weights is None or self.blendshapes is None or mixture.part == "identity":
            return face
        of_mean = mixture.part == "expression" or not self.model.config.identity
        head = self.model.mean_face if of_mean else decoder.face(rows, 0, "identity")
        return face + self.blendshapes.mixed_on(head, weights)

    def file(self, mixture: Mixture, suffix: str) -> bytes:
        """A mixture as a file: a mesh by its suffix, .npy for its latents, or `original`.

        Raises:
            InputError: as `mixed`, another suffix, latents of blendshapes, or an original that is
                gone.
        """
        stream = io.BytesIO()
        if suffix == "original":
            return self._onto(mixture)
        if suffix == ".npy":
            if mixture.blendshapes is not None:
                raise InputError(
                    "latents cannot hold ARKit's blendshapes; reset them, or download a mesh",
                    ErrorCode.REQUEST,
                )
            write_latents(stream, self.mixed(mixture))
        elif suffix in MESH_SUFFIXES:
            (name,) = self.mixed(mixture).names
            mesh = Mesh(self.vertices(mixture), self.model.triangles, name, unit_mm=1.0)
            write_mesh(stream, mesh, suffix)
        else:
            known = " ".join((*MESH_SUFFIXES, ".npy"))
            raise InputError(f"suffix {suffix[:20]!r}; expected one of {known}", ErrorCode.REQUEST)
        return stream.getvalue()

    def _onto(self, mixture: Mixture) -> bytes:
        """The file of a face with the vertices of a mixture, as fd-decode --onto writes it."""
        face, encoder = self.face(mixture.original), self.encoder
        if not face.original_suffix:
            raise InputError(
                f"{face.name} has no file that can be written onto; open an OBJ or a PLY",
                ErrorCode.REQUEST,
            )
        decoder = OntoDecoder(
            self.model,
            units=encoder.units,
            align=encoder.align,
            trust_order=encoder.trust_order,
        )
        file = face.original or read_original(face.source)
        original = place_original(decoder, file)
        if not np.array_equal(original.placed.vertices, face.vertices):
            raise InputError(
                f"{face.source} is no longer the mesh that is shown; open it again",
                ErrorCode.REQUEST,
            )
        offsets = original.offsets_in_file(self.vertices(mixture) - original.own)
        return file.moved(file.mesh.vertices + offsets)

    def mixture(self, content: bytes) -> Mixture:
        """Read a mixture from the page's JSON.

        Raises:
            InputError: it is malformed.
        """
        try:
            said = json.loads(content)
            ends = [self._row(said[end]) for end in ("first", "second")]
            share = {part: _number(said["share"][part]) for part in _VARIED}
            moves = {part: np.array(list(map(_number, said["moves"][part]))) for part in _VARIED}
            strength, part = _number(said["strength"]), said["part"]
            weights = {str(name): _number(value) for name, value in said["blendshapes"].items()}
            original = str(said["original"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"malformed mixture ({type(error).__name__}); expected the JSON that the page of "
                "this version sends: reload the page",
                ErrorCode.REQUEST,
            ) from None
        if part not in get_args(Part):
            raise InputError(
                f"part {str(part)[:20]!r}, expected one of {', '.join(get_args(Part))}",
                ErrorCode.REQUEST,
            )
        for kind, steps in moves.items():
            most = len(self.directions[kind].mm)
            if len(steps) > most:
                raise InputError(
                    f"{len(steps)} moves of {kind}, expected at most {most}", ErrorCode.REQUEST
                )
        known = () if self.blendshapes is None else ARKIT_NAMES
        unknown = sorted(set(weights) - set(known))
        if unknown:
            raise InputError(
                f"no blendshape is called {unknown[0][:40]!r}; reload the page", ErrorCode.REQUEST
            )
        shown = np.array([weights.get(name, 0.0) for name in ARKIT_NAMES])
        return Mixture(
            ends[0],
            ends[1],
            share,
            strength,
            moves,
            shown if shown.any() else None,
            part,
            original,
        )

    def _row(self, said: Mapping[str, Any]) -> Latents:
        """Latents of a face, as the page sends them back."""
        name = said["name"]
        parts = [_array(said[p], getattr(self.model.config, p)) for p in _VARIED]
        if not isinstance(name, str) or len(name) > _LONGEST_NAME:
            raise TypeError
        name.encode("utf-8", "surrogateescape")  # raises for lone surrogates
        return Latents([name], [self.model.id], parts[0], parts[1])


def _blendshapes_of(model: Model) -> Blendshapes | None:
    """ARKit's blendshapes of the heads of a model; None where there are none, or no SciPy."""
    if find_spec("scipy") is None:
        return None
    try:
        return load_blendshapes(model.preparation)
    except InputError:
        return None


def _array(text: str, size: int) -> NDArray[np.float32]:
    """A row (1, size) from base64; ValueError where it is none."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except binascii.Error as error:
        raise ValueError from error
    return values.reshape(1, size)


def _version(seen: str) -> int:
    """Number of the news that the page has; -1 where it is none."""
    return int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 18 else -1


def _number(value: object) -> float:
    """A number from JSON, in the range of the controls."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not abs(value) <= 1e6:  # also refuses NaN
        raise ValueError
    return float(value)
