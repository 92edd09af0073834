"""The processes that train together, as torchrun starts them; one alone is the usual case.

What is random is drawn alike in every process, for the batch of all, and each takes its own rows:
a training is the same one however many processes share it.
"""

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facedis_core.errors import InputError, Stopped, UsageError

_PATIENCE = timedelta(hours=1)  # to wait for the other processes

# torchrun's own store, which outlives the processes that it starts.
_marks: dist.Store | None = None


class _Rows(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice) -> Any: ...


Rows = TypeVar("Rows", bound=_Rows)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within, the processes that torchrun started know each other.

    Raises:
        Stopped: another process has ended.
    """
    global _marks
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "nccl"
    try:
        _marks, number, count = next(dist.rendezvous("env://"))
        dist.init_process_group(
            backend,
            store=_corner_of(_marks, number, count),
            rank=number,
            world_size=count,
            timeout=_PATIENCE,  # the others wait while the leading process measures
        )
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise Stopped(
                "another process of this training has ended; the same command with --resume goes "
                "on from what was saved"
            ) from error
        raise
    finally:
        _marks = None
    dist.destroy_process_group()


def _corner_of(store: dist.Store, number: int, count: int) -> dist.Store:
    """A corner of the store that the processes of this start alone know.

    torchrun keeps its store when it starts processes anew, and the addresses that dead ones have
    left there lead nowhere. So the first process gives a new name to each of the others, which
    shows by a name of its own that it is alive.
    """
    name = uuid4().hex
    if number:
        store.set(f"here/{number}", name)
        corner = store.get(f"corner/{name}").decode()  # waits
        store.set(f"{corner}/{number}", "")
        return dist.PrefixStore(corner, store)
    told: dict[int, bytes] = {}
    waiting, deadline = set(range(1, count)), monotonic() + _PATIENCE.total_seconds()
    while waiting:
        for other in sorted(waiting):
            if store.check([f"{name}/{other}"]):
                waiting.remove(other)
            elif store.check([f"here/{other}"]):
                found = store.get(f"here/{other}")
                if told.get(other) != found:
                    store.set(f"corner/{found.decode()}", name)
                    told[other] = found
        if monotonic() > deadline:
            raise Stopped(f"{len(waiting)} of {count} processes did not come; start them again")
        sleep(0.01)
    return dist.PrefixStore(name, store)


def mark(event: str) -> None:
    """Let processes that torchrun may start after us know that this has happened."""
    if _marks is not None and leads():
        _marks.set(f"mark/{event}", "")


def marked(event: str, device: torch.device) -> bool:
    """Whether that had happened before torchrun started us anew."""
    return any_of(_marks is not None and leads() and _marks.check([f"mark/{event}"]), device)


def local_rank() -> int:
    """Our number among the processes of this machine; a GPU each."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Our number among them."""
    return dist.get_rank() if size() > 1 else 0


def leads() -> bool:
    """Whether we are the one process that writes, measures and speaks."""
    return rank() == 0


def check_batch(key: str, batch: int, faces: int) -> None:
    """A batch, or all faces where they do not fill one, must divide among the processes.

    Raises:
        UsageError: it does not, or there are fewer faces than processes.
    """
    if faces < size():
        raise UsageError(f"{faces} training faces are too few for {size()} processes; start fewer")
    taken = min(batch, faces)
    if taken % size():
        raise UsageError(
            f"{key} is {batch}, and {taken} faces cannot be shared evenly by {size()} processes; "
            f"try --set {key}={max(size(), taken - taken % size())}"
        )


def part(rows: Rows) -> Rows:
    """Our rows of a batch of all processes; what does not divide is left out."""
    count = len(rows) // size()
    return rows[rank() * count : (rank() + 1) * count]


def normal_like(rows: Tensor) -> Tensor:
    """Standard normal noise for these rows (B, ...) of ours."""
    shape = (size() * len(rows), *rows.shape[1:])
    return part(torch.randn(shape, dtype=rows.dtype, device=rows.device))


def kept_like(rows: Tensor, share: float) -> Tensor:
    """Ones for this share of the entries of these rows (B, ...) of ours, zeros for the others."""
    shape = (size() * len(rows), *rows.shape[1:])
    return part(torch.empty(shape, dtype=rows.dtype, device=rows.device).bernoulli_(share))


class _Averaged(torch.autograd.Function):
    """The gradient is averaged too: every process's loss is a share of the one that counts."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor) / size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient) / size()


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def averaged(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes; differentiable."""
    return _Averaged.apply(tensor) if size() > 1 else tensor


def read(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean of each over all processes; one wait for the device instead of a dozen."""
    together = torch.stack([value.detach() for value in values.values()])
    return dict(zip(values, averaged(together).tolist(), strict=True))


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether any process says so."""
    return bool(averaged(torch.tensor(float(flag), device=device)) > 0) if size() > 1 else flag


def from_the_leader(content: bytes | None, device: torch.device) -> bytes | None:
    """What the leading process has, for all; others give None."""
    if size() == 1:
        return content
    length = torch.tensor([-1 if content is None else len(content)], device=device)
    dist.broadcast(length, 0)
    if int(length) < 0:
        return None
    data = torch.empty(int(length), dtype=torch.uint8, device=device)
    if content:
        data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    dist.broadcast(data, 0)
    return data.cpu().numpy().tobytes()


def check_alike(identity: Mapping[str, Any], device: torch.device) -> None:
    """All processes must train the same on the same.

    Raises:
        InputError: this one has another recipe or other files than the leading one.
    """
    ours = json.dumps(identity, sort_keys=True)
    leading = json.loads(from_the_leader(ours.encode() if leads() else None, device) or ours)
    for key, value in json.loads(ours).items():
        if leading.get(key) != value:
            raise InputError(
                f"process {rank() + 1} has {key} {value!r}, the first has {leading.get(key)!r}; "
                "give all of them the same files and options"
            )


def shared(module: nn.Module) -> nn.Module:
    """The module, its gradients averaged over all processes; statistics are kept equal anyway."""
    if size() == 1:
        return module
    known = inspect.signature(DistributedDataParallel).parameters
    sync = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in known)
    options: dict[str, Any] = {sync: False}
    return DistributedDataParallel(module, gradient_as_bucket_view=True, **options)
