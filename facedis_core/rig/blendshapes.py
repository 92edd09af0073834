"""ARKit's blendshapes of a head: its own by deformation transfer, and their weights in a face."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.data.recordings import ict_places
from facedis_core.data.regions import ICT_NARROW_FACE, ICT_SKIN
from facedis_core.errors import ErrorCode, InputError, missing_extra
from facedis_core.geometry.deformation_transfer import DeformationTransfer, displacement_gradients
from facedis_core.io.safetensors_file import parse_record, read_safetensors, write_safetensors
from facedis_core.io.streams import naming
from facedis_core.mesh.mesh import topology_id
from facedis_core.model.bundled import weights_folder
from facedis_core.rig.eyelids import ClosingLid, LidOverEye, closing_lid, lid_over_eye

# The 52 blendshapes of ARKit, in the order of Apple's documentation.
ARKIT_NAMES: Final = (
    *("eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft"),
    *("eyeSquintLeft", "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight"),
    *("eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight", "jawForward"),
    *("jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft"),
    *("mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft"),
    *("mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft"),
    *("mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft"),
    *("browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft"),
    *("noseSneerRight", "tongueOut"),
)
_FILE: Final = "arkit/ict.safetensors"
_TENSORS: Final = ("generic", "triangles", "first", "vertex", "offset")
# Vertices of the eyeballs by the side of shapes of ICT-FaceKit.
_EYEBALLS: Final = {"_L": slice(21451, 22221), "_R": slice(23021, 23791)}
_CLOSING: Final = "eyeBlink"
_BESIDE_EYES: Final = "eye"  # how the other shapes of lids begin
_RESTING_MM: Final = 0.01  # what no shape moves by more stays
_STORED_MM: Final = 0.01  # least motion that is stored
_RIDGE: Final = 1e-3  # on weights, relative to the mean square of a shape


@dataclass(frozen=True, eq=False)
class Blendshapes:
    """Blendshapes of a generic head.

    Attributes:
        names: (S,) of the shapes; `_L` and `_R` are sides.
        generic: float32 (R, 3) mm, the neutral head.
        triangles: int32 (F, 3).
        first: int32 (S + 1,), where the vertices of each shape begin.
        vertex: int32 (n,), vertices that move, shape after shape.
        offset: float16 (n, 3) mm.
    """

    names: tuple[str, ...]
    generic: NDArray[np.float32]
    triangles: NDArray[np.int32]
    first: NDArray[np.int32]
    vertex: NDArray[np.int32]
    offset: NDArray[np.float16]

    @property
    def arkit_names(self) -> tuple[str, ...]:
        """Those of ARKit's blendshapes that move something."""
        places = ict_places(self.names)
        return tuple(name for name in ARKIT_NAMES if places.get(name.lower()))

    @cached_property
    def offsets(self) -> NDArray[np.float32]:
        """(S, R, 3) mm."""
        dense = np.zeros((len(self.names), *self.generic.shape), np.float32)
        for shape, begin, end in zip(dense, self.first[:-1], self.first[1:], strict=True):
            shape[self.vertex[begin:end]] = self.offset[begin:end]
        return dense

    def on(self, head: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The shapes of another head (R, 3) mm, (S, R, 3) mm, by deformation transfer of the skin.

        Lids close by `ClosingLid`, others are kept out of the eyeball by `LidOverEye`. Eyes, teeth
        and gums move as on the generic head.

        Raises:
            UsageError: SciPy is not installed.
        """
        own = self.offsets.copy()
        own[:, :ICT_SKIN] = self._transfer.displacements(head[:ICT_SKIN], self._gradients)
        for place, lid in self._lids.items():
            own[place, :ICT_SKIN] = 0
            own[place, lid.vertices] = lid.on(head)
        for place, over in self._lids_over_eyes.items():
            own[place, over.vertices] += over.pushed(head, own[place])
        return own

    def mixed_on(
        self, head: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """Offsets (R, 3) mm of a head (R, 3) mm with weights (52,) of ARKit's shapes.

        The weighted sum of `arkit_targets`, in a fiftieth of the time.

        Raises:
            UsageError: SciPy is not installed.
        """
        places = ict_places(self.names)
        own = np.zeros(len(self.names), np.float32)
        for name, weight in zip(ARKIT_NAMES, weights, strict=True):
            own[list(places.get(name.lower(), ()))] += weight
        moved: NDArray[np.float32] = np.tensordot(own, self.offsets, 1)
        lids = {place: own[place] for place in self._lids if own[place]}
        own[list(lids)] = 0
        over_eyes = [place for place in self._lids_over_eyes if own[place]]
        gradients = np.tensordot(own, self._gradients, 1)[None]
        moved[:ICT_SKIN], *single = self._transfer.displacements(
            head[:ICT_SKIN], np.concatenate([gradients, self._gradients[over_eyes]])
        )
        for place, alone in zip(over_eyes, single, strict=True):
            over = self._lids_over_eyes[place]
            offsets = np.concatenate([alone, self.offsets[place, ICT_SKIN:]])
            moved[over.vertices] += own[place] * over.pushed(head, offsets)
        for place, weight in lids.items():
            moved[self._lids[place].vertices] += weight * self._lids[place].on(head)
        return moved

    @cached_property
    def _lids(self) -> dict[int, ClosingLid]:
        """The shapes that close an eye, by place."""
        return {
            place: closing_lid(self.generic, self.offsets[place], ICT_SKIN, _EYEBALLS[name[-2:]])
            for place, name in enumerate(self.names)
            if name.startswith(_CLOSING)
        }

    @cached_property
    def _lids_over_eyes(self) -> dict[int, LidOverEye]:
        """The shapes that move lids otherwise, by place."""
        return {
            place: lid_over_eye(self.generic, self.offsets[place], ICT_SKIN, _EYEBALLS[name[-2:]])
            for place, name in enumerate(self.names)
            if name.startswith(_BESIDE_EYES) and not name.startswith(_CLOSING)
        }

    @cached_property
    def _transfer(self) -> DeformationTransfer:
        skin = self.triangles[(self.triangles < ICT_SKIN).all(axis=1)]
        moving = np.linalg.norm(self.offsets[:, :ICT_SKIN], axis=2) > _RESTING_MM
        return DeformationTransfer(skin, ~moving.any(axis=0))

    @cached_property
    def _gradients(self) -> NDArray[np.float32]:
        skin = slice(ICT_SKIN)
        triangles = self._transfer.triangles
        return displacement_gradients(self.generic[skin], triangles, self.offsets[:, skin])


def compact_blendshapes(
    names: Sequence[str],
    generic: NDArray[np.floating[Any]],
    triangles: NDArray[np.int32],
    offsets: Sequence[NDArray[np.floating[Any]]],
) -> Blendshapes:
    """Blendshapes from dense offsets (R, 3) mm, without what hardly moves."""
    moving = [np.flatnonzero(np.linalg.norm(offset, axis=1) > _STORED_MM) for offset in offsets]
    first = np.cumsum([0, *map(len, moving)]).astype(np.int32)
    kept = [offset[rows] for offset, rows in zip(offsets, moving, strict=True)]
    return Blendshapes(
        tuple(names),
        generic.astype(np.float32),
        triangles,
        first,
        np.concatenate(moving).astype(np.int32),
        np.concatenate(kept).astype(np.float16),
    )


def write_blendshapes(stream: BinaryIO, shapes: Blendshapes) -> None:
    """Write blendshapes as safetensors."""
    tensors = {name: getattr(shapes, name) for name in _TENSORS}
    metadata = {"names": list(shapes.names), "topology": topology_id(shapes.triangles)}
    write_safetensors(stream, "blendshapes", tensors, metadata)


@dataclass(frozen=True)
class _Metadata:
    names: list[str]
    topology: str


def load_blendshapes(preparation: Preparation) -> Blendshapes:
    """The bundled blendshapes of the heads of a model.

    Raises:
        InputError: the model is not of ICT-FaceKit's whole head.
    """
    path = Path(weights_folder(), _FILE)
    file = read_safetensors(path, "blendshapes")
    with naming(path):
        metadata = parse_record(_Metadata, file.metadata)
    if preparation.topology != metadata.topology:
        raise InputError(
            f"ARKit's blendshapes are known for whole heads of ICT-FaceKit ({metadata.topology}), "
            f"the model is of topology {preparation.topology}; use ict-linear, or --targets "
            "directions",
            ErrorCode.TOPOLOGY,
        )
    return Blendshapes(tuple(metadata.names), *(file.tensors[name] for name in _TENSORS))


def arkit_targets(shapes: Blendshapes, offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Offsets (52, R, 3) of ARKit's shapes from those (S, R, 3) of ICT-FaceKit.

    ARKit has one browInnerUp and one cheekPuff for both sides. ICT-FaceKit has no tongueOut, which
    stays zero; its cheekRaiser is not ARKit's.
    """
    places = ict_places(shapes.names)
    targets = np.zeros((len(ARKIT_NAMES), *offsets.shape[1:]), np.float32)
    for target, name in zip(targets, ARKIT_NAMES, strict=True):
        for place in places.get(name.lower(), ()):
            target += offsets[place]
    return targets


def blendshape_weights(
    targets: NDArray[np.floating[Any]], expressions: Iterable[NDArray[np.floating[Any]]]
) -> NDArray[np.float64]:
    """Weights (N, T) from 0 to 1 with which targets (T, R, 3) mm make offsets (N, R, 3) mm.

    Bounded least squares over the narrow face, with a small ridge, for shapes are alike.

    Args:
        targets: offsets at weight 1.
        expressions: offsets (R, 3) of one face after another, of which one is in memory.

    Raises:
        UsageError: SciPy is not installed.
    """
    try:
        from scipy.optimize import lsq_linear
    except ImportError:
        raise missing_extra("ARKit weights", "export") from None
    seen = targets[:, :ICT_NARROW_FACE].reshape(len(targets), -1).astype(np.float64)
    moving = seen.any(axis=1)
    seen = seen[moving]
    second = seen @ seen.T
    second += _RIDGE * np.trace(second) / len(second) * np.eye(len(second))
    root = np.linalg.cholesky(second)
    weights = []
    for offset in expressions:
        mixed = seen @ offset[:ICT_NARROW_FACE].ravel().astype(np.float64)
        row = np.zeros(len(targets))
        # |root^T w - root^-1 mixed|^2 has the same minimum with 52 rows instead of 20,118
        row[moving] = lsq_linear(root.T, np.linalg.solve(root, mixed), (0, 1)).x
        weights.append(row)
    return np.array(weights).reshape(-1, len(targets))
