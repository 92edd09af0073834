"""From meshes to latents, block by block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from facedis_core.data.face_set import check_topology
from facedis_core.data.history import made_by
from facedis_core.data.latents import Latents, concatenate
from facedis_core.data.preparation import Align, Units
from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model import Model
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.inputs import FaceInputs, InputItem
from facedis_core.pipeline.parallel import in_order

REFUSED_REACH = 3.0  # times the reach of the training faces
BLOCK_FACES = 16  # faces that are encoded before the next ones are read


@dataclass(frozen=True)
class EncodedBlock:
    """What became of some items.

    Attributes:
        items: how many there were.
        latents: of those that could be encoded, in order.
        warnings: lines about faces that are doubtful.
        failures: the others.
    """

    items: int
    latents: Latents
    warnings: list[str]
    failures: list[Failure]


@dataclass(frozen=True)
class MeshEncoder:
    """Turns items into latents; can be sent to another process.

    Attributes:
        model: encodes prepared faces; its preparation takes raw meshes there.
        units, align, trust_order: as in `Preparation.apply`.
        far_faces: also encode what is beyond three times the reach of the training faces.
        keep_going: leave out what cannot be encoded.
    """

    model: Model
    units: Units = "auto"
    align: Align = "auto"
    trust_order: bool = False
    far_faces: bool = False
    keep_going: bool = False

    def __call__(self, items: Sequence[InputItem]) -> EncodedBlock:
        """Read and encode some items.

        Raises:
            InputError: one cannot be read, does not fit the model or is far from any face; unless
                it is to be left out.
        """
        rows: list[Latents] = []
        warnings: list[str] = []
        failures: list[Failure] = []
        for item in items:
            try:
                for mesh in item.load():
                    vertices, doubt = self.prepared(mesh, item.source)
                    warnings += [doubt] if doubt else []
                    rows.append(self.model.encode(vertices[None], [mesh.name]))
            except InputError as error:
                if not self.keep_going:
                    raise
                failures.append(Failure.of(item.source, error))
        if not rows:
            rows.append(self.model.encode(np.empty((0, *self.model.mean_face.shape), np.float32)))
        return EncodedBlock(len(items), concatenate(rows), warnings, failures)

    def prepared(self, mesh: Mesh, source: str) -> tuple[np.ndarray, str]:
        """A mesh as the model takes it, float32 (V, 3) mm, and what is doubtful about it if any.

        Raises:
            InputError: it does not fit the model or is far from any face; named by `source`.
        """
        try:
            vertices = self.model.preparation.apply(
                mesh,
                self.model.mean_face,
                units=self.units,
                align=self.align,
                trust_order=self.trust_order,
            )
            if not np.isfinite(vertices).all():
                raise InputError(
                    f"{mesh.name} has vertices that are not finite; repair it first",
                    ErrorCode.NOT_FINITE,
                )
        except InputError as error:
            model = f"model {self.model.source}, {made_by(self.model.history)}"
            raise InputError(f"{source}: {error} ({model})", error.code) from None
        reach = self.model.reach_mm
        distance = float(self.model.distance_to_mean(vertices[None])[0])
        found = describe_reach(mesh.name or "mesh", distance, reach)
        if found and distance > REFUSED_REACH * reach and not self.far_faces:
            raise InputError(
                f"{source}: {found}; check --units and --align, or pass --force-encode",
                ErrorCode.FAR_FACE,
            )
        return vertices, f"{found}; its latents are doubtful" if found else ""


def encode_blocks(
    encoder: MeshEncoder, items: Iterable[InputItem], *, jobs: int = 1, together: int = BLOCK_FACES
) -> Iterator[EncodedBlock]:
    """All items in order, some at a time.

    Args:
        encoder: what is done with each.
        items: as `find_faces` gives them.
        jobs: processes at once, 0 = one a core; the same latents with any number.
        together: how many items a block has.

    Raises:
        InputError: as of `MeshEncoder`, or a process was killed.
    """
    waiting = iter(items)
    blocks = iter(lambda: list(islice(waiting, together)), [])
    return in_order(encoder, blocks, jobs)


def check_face_sets(faces: FaceInputs, model: Model) -> None:
    """Raise InputError, before any face is read, where a set is not of a model's faces."""
    known = [model.topology, *filter(None, [model.preparation.raw_topology])]
    label = f"model {model.source} ({made_by(model.history)})"
    for source, face_set in faces.sets:
        check_topology(face_set, source, known, label)


def describe_reach(name: str, distance: float, reach_mm: float) -> str:
    """What to say of a face farther from the mean face than any training face, else nothing.

    Much farther, by REFUSED_REACH, it is no face to the model.
    """
    if distance <= reach_mm:
        return ""
    return (
        f"{name} lies {distance:.3g} mm from the mean face, "
        f"the training faces {reach_mm:.3g} mm at most"
    )
