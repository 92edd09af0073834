"""Training in several processes: torch.distributed as torchrun starts it; one process by default.

Random numbers are drawn alike in every process, for the whole batch, and each process takes its own
rows. So a training has the same losses with any number of processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from facedis_core.errors import ErrorCode, Stopped

_TIMEOUT = timedelta(hours=1)  # the other processes wait while the main one writes files

_PARENT_SECONDS = 1.0  # between two looks at whether torchrun is alive

# torchrun's own store, which outlives the processes that it starts; flags are kept there.
_store: dist.Store | None = None


class _Rows(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice) -> Any: ...


Rows = TypeVar("Rows", bound=_Rows)
Item = TypeVar("Item")
Result = TypeVar("Result")

# Items of shared_map for each process between two exchanges: few, as their results are in memory.
_ITEMS_AT_ONCE = 4


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun started; without torchrun do nothing.

    Raises:
        Stopped: another process has ended.
    """
    global _store
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield
        return
    # Default arguments in it are the group that exists when it is imported, which then is never
    # freed; and a thread of gloo that frees tensors while Python ends aborts a finished process.
    import_module("torch.distributed.nn.functional")
    ended = Event()
    watch = Thread(target=_end_with, args=(os.getppid(), ended), daemon=True)
    watch.start()
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "nccl"
    try:
        _store, number, count = next(dist.rendezvous("env://"))
        dist.init_process_group(
            backend,
            store=_store_of_this_start(_store, number, count),
            rank=number,
            world_size=count,
            timeout=_TIMEOUT,
        )
        yield
        dist.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise Stopped(
                "another process of this training has ended; start them all again and resume "
                "from the last checkpoint",
                ErrorCode.STOPPED,
            ) from error
        raise
    finally:
        _store = None
        ended.set()
        watch.join()  # a thread that wakes while Python ends may abort the process
        if backend == "gloo" and dist.is_initialized():  # nccl might wait for the others
            dist.destroy_process_group()


def _end_with(parent: int, ended: Event) -> None:
    """End this process when its torchrun is killed, before another one takes its place."""
    while os.getppid() == parent:
        if ended.wait(_PARENT_SECONDS):
            return
    os._exit(1)


def _store_of_this_start(store: dist.Store, number: int, count: int) -> dist.Store:
    """The part of torchrun's store that only the processes started together use.

    torchrun keeps its store when it restarts processes, with the addresses of dead processes in
    it. So the main process chooses a new prefix and sends it to every process that answers; each
    process has an id of its own, which shows that it is alive.
    """
    name = uuid4().hex
    if number:
        store.set(f"process/{number}", name)
        prefix = store.get(f"prefix/{name}").decode()  # waits
        store.set(f"{prefix}/{number}", "")
        return dist.PrefixStore(prefix, store)
    told: dict[int, bytes] = {}
    waiting, deadline = set(range(1, count)), monotonic() + _TIMEOUT.total_seconds()
    while waiting:
        for other in sorted(waiting):
            if store.check([f"{name}/{other}"]):
                waiting.remove(other)
            elif store.check([f"process/{other}"]):
                found = store.get(f"process/{other}")
                if told.get(other) != found:
                    store.set(f"prefix/{found.decode()}", name)
                    told[other] = found
        if monotonic() > deadline:
            raise Stopped(
                f"{len(waiting)} of {count} processes did not start; start them again",
                ErrorCode.STOPPED,
            )
        sleep(0.01)
    return dist.PrefixStore(name, store)


def set_flag(name: str) -> None:
    """Set a flag that processes restarted by torchrun can read."""
    if _store is not None and is_main_process():
        _store.set(f"flag/{name}", "")


def flag_is_set(name: str, device: torch.device) -> bool:
    """Whether the flag was set before torchrun restarted the processes."""
    found = _store is not None and is_main_process() and _store.check([f"flag/{name}"])
    return any_process(found, device)


def local_rank() -> int:
    """Number of this process on its machine, from 0; each takes the GPU with that number."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among all, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the process that writes files, has the metrics, and prints."""
    return rank() == 0


def shard(rows: Rows) -> Rows:
    """The rows of a whole batch that this process takes; a remainder is left out."""
    count = len(rows) // world_size()
    return rows[rank() * count : (rank() + 1) * count]


def shard_of_randn(rows: Tensor) -> Tensor:
    """Standard normal noise for the rows (B, ...) of this process, drawn for the whole batch."""
    shape = (world_size() * len(rows), *rows.shape[1:])
    return shard(torch.randn(shape, dtype=rows.dtype, device=rows.device))


def shard_of_bernoulli(rows: Tensor, probability: float) -> Tensor:
    """Ones with this probability, else zeros, like `shard_of_randn`."""
    shape = (world_size() * len(rows), *rows.shape[1:])
    drawn = torch.empty(shape, dtype=rows.dtype, device=rows.device).bernoulli_(probability)
    return shard(drawn)


def shard_of_permuted(rows: Tensor) -> Tensor:
    """Rows (B, ...) of the whole batch in random order, of which each process takes B; detached."""
    together = [rows.detach().contiguous()]
    if world_size() > 1:
        together = [torch.empty_like(together[0]) for _ in range(world_size())]
        dist.all_gather(together, rows.detach().contiguous())
    whole = torch.cat(together)
    return shard(whole[torch.randperm(len(whole), device=whole.device)])


class _Mean(torch.autograd.Function):
    """Mean over the processes; the gradient is averaged too, as the loss is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _sum(tensor) / world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient) / world_size()


def _sum(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes; differentiable."""
    return _Mean.apply(tensor) if world_size() > 1 else tensor


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of parameters over all processes, where there is more than one.

    Not by DistributedDataParallel, which would keep the process group alive to the end of Python
    (see `process_group`).
    """
    if world_size() == 1:
        return
    gradients = [each.grad for each in parameters if each.grad is not None]
    together = parameters_to_vector(gradients)  # one message
    dist.all_reduce(together)
    vector_to_parameters(together / world_size(), gradients)


def mean_values(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean of each scalar over all processes, with one wait for the device."""
    together = torch.stack([value.detach() for value in values.values()])
    return dict(zip(values, all_reduce_mean(together).tolist(), strict=True))


def broadcast_weights(network: nn.Module) -> None:
    """Give every process the parameters and buffers of the main one, bit for bit.

    They are computed alike in all, but with other processors the last bits may differ.
    """
    if world_size() == 1:
        return
    for tensor in network.state_dict().values():
        sent = tensor.contiguous()
        dist.broadcast(sent, 0)
        tensor.copy_(sent)


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is true in any process."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_mean(torch.tensor(float(flag), device=device)) > 0)


def broadcast_bytes(content: bytes | None, device: torch.device) -> bytes | None:
    """The bytes of the main process, in every process; the others give None."""
    if world_size() == 1:
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


def shared_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, everywhere: bool = False
) -> Iterator[Result]:
    """The results of a function for items, in order; each process takes some of the items.

    Args:
        function: must do the same in every process; its results are pickled.
        items: the same in every process.
        everywhere: all processes get all results, instead of the main one alone and the others
            none.
    """
    count, number = world_size(), rank()
    if count == 1:
        yield from map(function, items)
        return
    for start in range(0, len(items), _ITEMS_AT_ONCE * count):
        part = items[start : start + _ITEMS_AT_ONCE * count]
        # shifted in each turn: of people with two batches, the second is smaller
        owners = [(place + place // count) % count for place in range(len(part))]
        ours = [function(item) for item, owner in zip(part, owners, strict=True) if owner == number]
        found: list[Any] | None = [None] * count
        if everywhere:
            dist.all_gather_object(found, ours)
        else:
            found = found if number == 0 else None
            dist.gather_object(ours, found)
        if found is not None:
            results = [iter(results) for results in found]
            yield from (next(results[owner]) for owner in owners)
