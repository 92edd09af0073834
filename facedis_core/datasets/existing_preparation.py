"""Preparation taken from an existing face set or model (`fd-prep --like`)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import TRAIN, FaceSet, load_face_set
from facedis_core.data.preparation import Preparation
from facedis_core.data.units import check_one_size
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.distances import vertex_distance
from facedis_core.io.safetensors_file import read_safetensors
from facedis_core.model.bundled import resolve_model
from facedis_core.model.model_file import load_model
from facedis_core.model.reach import REFUSED_REACH, describe_reach


class ExistingPreparation(NamedTuple):
    """Preparation, mean face (V, 3) mm and id of a face set or model.

    `reach_mm` is the model's; infinite for a face set, whose faces may be too few to tell.
    `region` is that of a face set.
    """

    preparation: Preparation
    mean_face: NDArray[np.float32]
    id: str
    reach_mm: float = math.inf
    region: NDArray[np.bool_] | None = None

    def check_reach(
        self,
        faces: NDArray[np.float32],
        names: Sequence[str],
        warn: Callable[[str], None],
    ) -> None:
        """Refuse or warn of faces (N, V, 3) mm far from the mean face, as fd-encode would.

        Raises:
            InputError: a face too far away, or of the size of the mean face in another unit.
        """
        distances = np.empty(len(faces))
        for row, face in enumerate(faces):  # may be a memory map: read once
            check_one_size(face, self.mean_face, names[row], "the mean face of --like")
            distances[row] = vertex_distance(face, self.mean_face)
        farthest = int(distances.argmax())
        found = describe_reach(names[farthest], distances[farthest], self.reach_mm)
        if distances[farthest] > REFUSED_REACH * self.reach_mm:
            raise InputError(
                f"{found}; check --units, or prepare without --like", ErrorCode.FAR_FACE
            )
        if found:
            count = np.count_nonzero(distances > self.reach_mm)
            warn(f"{found}; {count} of {len(faces)} faces lie farther than these")


def _aligned_to(face_set: FaceSet) -> NDArray[np.float32]:
    """The face that a set was aligned to; with stable vertices the mean neutral."""
    if face_set.preparation.stable_vertices:
        people = np.unique(face_set.labels.subject[face_set.rows(TRAIN)])
        neutrals = face_set.neutrals[people]
        known = neutrals[np.isfinite(neutrals).all(axis=(1, 2))]
        if len(known):
            return known.mean(axis=0, dtype=np.float64).astype(np.float32)
    return face_set.mean_face(face_set.rows(TRAIN))


def load_preparation(source: str | Path) -> ExistingPreparation:
    """Read the preparation of a face set or a model (path or bundled name).

    Raises UsageError if there is no such file or model, InputError for another kind of file.
    """
    path = resolve_model(source)
    if read_safetensors(path, "faceset", "model").kind == "faceset":
        face_set = load_face_set(path)
        return ExistingPreparation(
            face_set.preparation, _aligned_to(face_set), face_set.id, region=face_set.region
        )
    model = load_model(path)
    return ExistingPreparation(model.preparation, model.mean_face, model.id, model.reach_mm)
