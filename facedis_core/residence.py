"""Where the faces of a training are while it runs: in the device's memory, or read as needed."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from facedis_core.errors import UsageError

Residence = Literal["auto", "resident", "half", "streamed"]

_SHARE: Final = 0.5  # of the device's free memory that faces may take; the rest is for the step
_BLOCK: Final = 256  # faces that are copied at one time


class Faces(Protocol):
    """Some faces of a set, in mm."""

    def take(self, positions: np.ndarray) -> Tensor:
        """Those at `positions` (B,), as (B, V, 3) on the device."""
        ...

    def each(self, batches: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """Batch after batch."""
        ...


class StreamedFaces:
    """Faces that stay in the memory map; the next batch is read while the last one is in use.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) which of them; positions index into it.
        device: where batches go.
    """

    def __init__(self, vertices: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.vertices, self.rows, self.device = vertices, rows, device

    def take(self, positions: np.ndarray) -> Tensor:
        """Those at `positions` (B,), as (B, V, 3) on the device."""
        # a GPU takes them from pinned memory in its own time, and we go on
        shape = (len(positions), *self.vertices.shape[1:])
        batch = torch.empty(shape, pin_memory=self.device.type == "cuda")
        np.take(self.vertices, self.rows[positions], axis=0, out=batch.numpy(), mode="clip")
        return batch.to(self.device, non_blocking=True)

    def each(self, batches: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """Batch after batch."""
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for positions in batches:
                batch, ahead = ahead, reader.submit(self.take, positions)
                if batch is not None:
                    yield batch.result()
            if ahead is not None:
                yield ahead.result()


class ResidentFaces:
    """Faces in the device's memory, if need be as float16 offsets to a face.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) which of them; positions index into it.
        device: where they are.
        centre: (V, 3) mm; offsets of up to 32 mm are then rounded by at most 0.008 mm.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        rows: np.ndarray,
        device: torch.device,
        centre: np.ndarray | None = None,
    ) -> None:
        self.centre = None if centre is None else torch.tensor(centre, device=device)
        kind = torch.float32 if centre is None else torch.float16
        self.faces = torch.empty((len(rows), *vertices.shape[1:]), dtype=kind, device=device)
        source = StreamedFaces(vertices, rows, device)
        for place in np.split(np.arange(len(rows)), range(_BLOCK, len(rows), _BLOCK)):
            block = source.take(place)
            target = self.faces[place[0] : place[-1] + 1]
            target.copy_(block if self.centre is None else block - self.centre)

    def take(self, positions: np.ndarray) -> Tensor:
        """Those at `positions` (B,), as (B, V, 3) on the device."""
        return next(self.each([positions]))

    def each(self, batches: Sequence[np.ndarray]) -> Generator[Tensor, None, None]:
        """Batch after batch; positions go to the device at once, so that no step waits for them."""
        if not batches:
            return
        positions = torch.from_numpy(np.concatenate(batches)).to(self.device)
        for part in positions.split([len(batch) for batch in batches]):
            batch = self.faces.index_select(0, part)
            yield batch if self.centre is None else self.centre + batch

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.faces.device


def place_faces(
    vertices: np.ndarray,
    rows: np.ndarray,
    device: torch.device,
    residence: Residence = "auto",
    centre: np.ndarray | None = None,
) -> Faces:
    """Faces where `residence` says; auto = on a GPU if they fit there, else streamed.

    The map of a face set is in the processor's memory already as far as it fits, so nothing is
    gained there by another copy.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) which of them.
        device: where batches are wanted.
        residence: `half` keeps float16 offsets to `centre`, half the memory for slightly rounded
            faces.
        centre: (V, 3) mm.

    Raises:
        UsageError: they were to be resident and do not fit.
    """
    if residence == "streamed" or not len(rows):
        return StreamedFaces(vertices, rows, device)
    half = residence == "half"
    need = len(rows) * vertices[0].size * (2 if half else 4)
    room = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    if residence == "auto" and (room is None or need > _SHARE * room):
        return StreamedFaces(vertices, rows, device)
    if room is not None and need > room:
        raise UsageError(
            f"the faces need {need / 1e9:.1f} GB of the device, {room / 1e9:.1f} GB are free; "
            "use --data half or --data streamed"
        )
    return ResidentFaces(vertices, rows, device, centre if half else None)
