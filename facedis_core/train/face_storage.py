"""Storage of the training faces: in the device's memory, or streamed from disk."""

import math
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from facedis_core.errors import ErrorCode, UsageError

Storage = Literal["auto", "resident", "half", "streamed"]

_FREE_SHARE: Final = 0.5  # of the device's free memory for the faces; the rest is for the step
_BLOCK: Final = 256  # number of faces copied at a time


class StoredFaces(Protocol):
    """Training faces in mm, by position."""

    def batch(self, positions: np.ndarray) -> Tensor:
        """The faces at `positions` (B,), as (B, V, 3) on the device."""
        ...

    def batches(self, positions: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """One batch after the other."""
        ...


class StreamedFaces:
    """Faces in the memory map, or by URL; the next batch is read while the last one is used.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) the rows that are stored; positions index into it.
        device: of the batches.
    """

    def __init__(self, vertices: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.vertices, self.rows, self.device = vertices, rows, device

    def batch(self, positions: np.ndarray) -> Tensor:
        """The faces at `positions` (B,), as (B, V, 3) on the device."""
        # from pinned memory a GPU copies asynchronously
        shape = (len(positions), *self.vertices.shape[1:])
        batch = torch.empty(shape, pin_memory=self.device.type == "cuda")
        np.take(self.vertices, self.rows[positions], axis=0, out=batch.numpy(), mode="clip")
        return batch.to(self.device, non_blocking=True)

    def batches(self, positions: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """One batch after the other."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for part in positions:
                batch, ahead = ahead, reader.submit(self.batch, part)
                if batch is not None:
                    yield batch.result()
            if ahead is not None:
                yield ahead.result()


class ResidentFaces:
    """Faces in the device's memory, as float32 or as float16 offsets to the mean face.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) the rows that are stored; positions index into it.
        device: of the faces and batches.
        mean_face: (V, 3) mm, for float16 offsets; offsets of up to 32 mm are rounded by at most
            0.008 mm. None = float32.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        rows: np.ndarray,
        device: torch.device,
        mean_face: np.ndarray | None = None,
    ) -> None:
        self.mean_face = None if mean_face is None else torch.tensor(mean_face, device=device)
        kind = torch.float32 if mean_face is None else torch.float16
        self.faces = torch.empty((len(rows), *vertices.shape[1:]), dtype=kind, device=device)
        source = StreamedFaces(vertices, rows, device)
        for part in np.split(np.arange(len(rows)), range(_BLOCK, len(rows), _BLOCK)):
            block = source.batch(part)
            target = self.faces[part[0] : part[-1] + 1]
            target.copy_(block if self.mean_face is None else block - self.mean_face)

    def batch(self, positions: np.ndarray) -> Tensor:
        """The faces at `positions` (B,), as (B, V, 3) on the device."""
        return next(self.batches([positions]))

    def batches(self, positions: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """One batch after the other; all positions are copied to the device before the first."""
        if not positions:
            return
        together = torch.from_numpy(np.concatenate(positions)).to(self.faces.device)
        for part in together.split([len(batch) for batch in positions]):
            batch = self.faces.index_select(0, part)
            yield batch if self.mean_face is None else self.mean_face + batch


def store_faces(
    vertices: np.ndarray,
    rows: np.ndarray,
    device: torch.device,
    storage: Storage = "auto",
    mean_face: np.ndarray | None = None,
) -> StoredFaces:
    """Store faces for batches on the device.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) the rows to store.
        device: of the batches.
        storage: `resident` on the device, `half` there as float16 offsets to `mean_face` (half the
            memory, slightly rounded), `streamed` from the memory map; `auto` = resident on a GPU if
            they fit, else streamed: a CPU has the memory map in its memory anyway.
        mean_face: (V, 3) mm, for `half`.

    Raises:
        UsageError: `resident` or `half`, and they do not fit.
    """
    if storage == "streamed" or not len(rows):
        return StreamedFaces(vertices, rows, device)
    half = storage == "half"
    need = len(rows) * math.prod(vertices.shape[1:]) * (2 if half else 4)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if storage == "auto" and (free is None or need > _FREE_SHARE * free):
        return StreamedFaces(vertices, rows, device)
    if free is not None and need > free:
        raise UsageError(
            f"the faces need {need / 1e9:.1f} GB of the device's memory, {free / 1e9:.1f} GB are "
            "free; use --data half or --data streamed",
            ErrorCode.DEVICE,
        )
    return ResidentFaces(vertices, rows, device, mean_face if half else None)
