"""What a live page asks of a model: a face to begin with, mixtures of two, files of them."""

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.color_scale import ROUND_ENDS, colormap
from facedis_core.decoding import Decoder
from facedis_core.encoding import Encoder
from facedis_core.errors import InputError
from facedis_core.gallery import Face, face_of_bytes
from facedis_core.inference import LatentPart, Model, Part
from facedis_core.latent_directions import LatentDirections, leading_directions
from facedis_core.latents import Latents, write_latents
from facedis_core.mesh import CODECS, write_mesh
from facedis_core.shading import to_srgb
from facedis_core.streams import naming
from facedis_core.transfer import between, joined_names
from facedis_core.viewer_payload import to_base64

MESH_SUFFIXES: Final = tuple(CODECS)
_LONGEST_NAME: Final = 4096
_VARIED: Final = get_args(LatentPart)


@dataclass(frozen=True, eq=False)
class Mixture:
    """What the controls of a page say.

    Attributes:
        first, second: latents of the faces A and B, one row each.
        share: how far identity and expression are on the way from A to B.
        strength: multiplies the expression, as `fd-transfer --scale`.
        moves: steps along the leading directions of each, added at the end.
        part: what is shown of the face.
    """

    first: Latents
    second: Latents
    share: Mapping[str, float]
    strength: float = 1.0
    moves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    part: Part = "full"


class LiveModel:
    """A model and the faces to begin with; nothing of it changes, so that threads can share it."""

    def __init__(self, encoder: Encoder, faces: Sequence[Face]) -> None:
        """`faces` are those that a page can choose from; one at least."""
        self.encoder = encoder
        self.model: Model = encoder.model
        self.faces = list(faces)
        rows = [face.latents for face in self.faces]
        self.directions: dict[str, LatentDirections] = {
            part: leading_directions(
                self.model, part, np.concatenate([getattr(row, part) for row in rows])
            )
            for part in _VARIED
        }

    def description(self) -> dict[str, Any]:
        """What a page needs to know before it asks for anything else."""
        return {
            "model": Path(self.model.source).stem,
            "vertices": self.model.config.vertices,
            "mean_face": to_base64(self.model.mean_face.astype("<f4")),
            "colormap": to_base64(to_srgb(colormap())),
            "round_ends": ROUND_ENDS,
            "triangles": to_base64(self.model.triangles.astype("<u4")),
            "directions": {p: [round(x, 4) for x in d.mm] for p, d in self.directions.items()},
            "faces": [face.latents.names[0] for face in self.faces],
            "suffixes": [*MESH_SUFFIXES, ".npy"],
        }

    def face(self, number: str) -> Face:
        """One of the faces to begin with.

        Raises:
            InputError: there is none of that number.
        """
        if not (number.isascii() and number.isdecimal() and len(number) < 9):
            raise InputError(f"no face has the number {number[:20]!r}")
        if int(number) >= len(self.faces):
            raise InputError(f"no face has the number {number}, there are {len(self.faces)}")
        return self.faces[int(number)]

    def encoded(self, content: bytes, name: str) -> Face:
        """What a file holds that was dropped on the page: the first mesh or row of latents.

        Raises:
            InputError: what fd-encode, or fd-decode for latents, would raise for the file.
        """
        face = face_of_bytes(self.encoder, content, name)
        length = len(face.latents.names[0])
        if length > _LONGEST_NAME:
            raise InputError(
                f"the face in {name} has a name of {length} characters, expected "
                f"{_LONGEST_NAME} at most; rename it"
            )
        return face

    def mixed(self, mixture: Mixture) -> Latents:
        """The latents of a mixture, one row, named as fd-transfer names it.

        Raises:
            InputError: they are not finite.
        """
        first, second = mixture.first, mixture.second
        made = {}
        for part in _VARIED:
            share = np.array([[mixture.share[part]]])
            z = between(getattr(first, part), getattr(second, part), share)
            z *= mixture.strength if part == "expression" else 1.0
            moves = mixture.moves.get(part, np.empty(0))
            with np.errstate(all="ignore"):  # looked for below
                made[part] = (z + moves @ self.directions[part].steps[: len(moves)]).astype("<f4")
        names = first.names if first.names == second.names else joined_names(first, second)
        rows = Latents(names, [self.model.id], made["identity"], made["expression"])
        with naming("the mixture"):
            rows.check_finite()
        return rows

    def vertices(self, mixture: Mixture) -> NDArray[np.float32]:
        """The face of a mixture, (V, 3) mm; raises as `mixed` and `Model.decode` do."""
        return Decoder(self.model).face(self.mixed(mixture), 0, mixture.part)

    def file(self, mixture: Mixture, suffix: str) -> bytes:
        """A mixture as a file: a mesh by its suffix, or .npy for its latents.

        Raises:
            InputError: as `mixed`, or another suffix.
        """
        stream = io.BytesIO()
        rows = self.mixed(mixture)
        if suffix == ".npy":
            write_latents(stream, rows)
        elif suffix in MESH_SUFFIXES:
            write_mesh(stream, Decoder(self.model).mesh(rows, 0, mixture.part), suffix)
        else:
            known = " ".join((*MESH_SUFFIXES, ".npy"))
            raise InputError(f"no file is made for {suffix[:20]!r}; expected {known}")
        return stream.getvalue()

    def mixture(self, content: bytes) -> Mixture:
        """What a page says in JSON.

        Raises:
            InputError: it says anything else.
        """
        try:
            said = json.loads(content)
            ends = [self._row(said[end]) for end in ("first", "second")]
            share = {part: _number(said["share"][part]) for part in _VARIED}
            moves = {part: np.array(list(map(_number, said["moves"][part]))) for part in _VARIED}
            strength, part = _number(said["strength"]), said["part"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(
                f"this is no mixture ({type(error).__name__}); expected what the page of this "
                "version sends, load it again"
            ) from None
        if part not in get_args(Part):
            raise InputError(
                f"part {str(part)[:20]!r}, expected one of {', '.join(get_args(Part))}"
            )
        for kind, steps in moves.items():
            most = len(self.directions[kind].mm)
            if len(steps) > most:
                raise InputError(f"{len(steps)} moves of {kind}, expected at most {most}")
        return Mixture(ends[0], ends[1], share, strength, moves, part)

    def _row(self, said: Mapping[str, Any]) -> Latents:
        """A face's latents as a page gives them back."""
        name = said["name"]
        parts = [_array(said[p], getattr(self.model.config, p)) for p in _VARIED]
        if not isinstance(name, str) or len(name) > _LONGEST_NAME:
            raise TypeError
        name.encode("utf-8", "surrogateescape")  # or it is no text, and raises
        return Latents([name], [self.model.id], parts[0], parts[1])


def _array(text: str, size: int) -> NDArray[np.float32]:
    """A row (1, size) back from base64; ValueError where it is none."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except binascii.Error as error:
        raise ValueError from error
    return values.reshape(1, size)


def _number(value: object) -> float:
    """A number of JSON, of a size that controls can have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not abs(value) <= 1e6:  # nor is NaN
        raise ValueError
    return float(value)
