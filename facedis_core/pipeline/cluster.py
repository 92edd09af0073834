"""The parallel map of `parallel.in_order` with the workers of a Dask cluster.

Imported only where a scheduler is given: Dask takes half a second to import.

A task is some blocks, so that it takes some seconds: the scheduler knows thousands of tasks
for millions of faces, and of those only some per worker at a time. The work (with its model) goes
to every worker once, also to those that come later. Blocks and results are bytes for the scheduler,
which passes them on unopened. What a dead worker had is done by another.
"""

import concurrent.futures
import json
import logging
import os
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from distributed import Client, Future, KilledWorker, WorkerPlugin
from distributed.comm import CommClosedError, parse_address, parse_host_port
from distributed.comm.registry import get_backend

from facedis_core import __version__
from facedis_core.errors import ErrorCode, FacedisError, InputError
from facedis_core.io.paths import exists
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.text import first_line, first_of
from facedis_core.io.waiting import within

Block = TypeVar("Block")
Result = TypeVar("Result")

CONNECT_SECONDS: Final = 10
# How long to wait for the first worker, and for another where all have gone: a batch system that
# took them may give them back.
WORKER_SECONDS: Final = 60
NO_WORKER_SECONDS: Final = 600
# A scheduler that does not answer within this time is lost: of one that is frozen the connection
# stays. While something takes long it is asked again and again.
ANSWER_SECONDS: Final = 60
ASK_EVERY_SECONDS: Final = 20
# How long it may take to forget what is not done.
_FORGET_SECONDS: Final = 3
# Tasks per worker that are sent in advance, so that none waits.
TASKS_AHEAD: Final = 2
# A task costs the scheduler 5 to 10 ms, so it takes longer where workers are many.
TASK_SECONDS: Final = 2.0
TASK_SECONDS_PER_WORKER: Final = 0.01
# The first tasks have one block. So many may tell within some seconds how many the next ones
# have: else a thousand workers begin with two thousand tasks of a tenth of a second.
FIRST_TASKS: Final = 16
FIRST_SECONDS: Final = 5.0
MOST_BLOCKS: Final = 256
MOST_BYTES: Final = 1 << 24  # of the blocks or of the results of a task
# Tasks whose results are fetched in one message, if these have MOST_BYTES at most.
MOST_TOGETHER: Final = 32
_COUNT_SECONDS: Final = 5  # between two looks at how many workers there are
_SEND_TRIES: Final = 5
_MOST_NAMED: Final = 8


def in_order_on_cluster(
    work: Callable[[Block], Result],
    blocks: Iterable[Block],
    address: str,
    names: Callable[[Block], Iterable[str]],
) -> Generator[Result, None, None]:
    """Yield work(block) for each block in order; closing the generator drops what is not done.

    Args:
        work: picklable, like blocks and results; sent once to each worker.
        blocks: read in this thread, for some tasks per worker before their results.
        address: of the scheduler, such as `tcp://host:8786`, or the path of its file (.json).
        names: what to call a block that workers die of.

    Raises:
        InputError: no scheduler there, no worker, one with another version, the scheduler is lost,
            or workers die of one block again and again.
    """
    install_signal_handlers()  # the scheduler shall forget the work
    _silence()
    name = f"facedis-{uuid.uuid4().hex}"
    client = _connect(address)
    try:
        with _reaching(client, address):
            _wait_for_workers(client, address)
            _send_work(client, address, _Work(name, pickle.dumps(work)))
        yield from _Map(client, address, name, names).results(blocks)
    finally:
        with suppress(Exception):  # a scheduler that is gone
            within(_FORGET_SECONDS, partial(client.unregister_worker_plugin, name))
        client.close(timeout=_FORGET_SECONDS)


@contextmanager
def _reaching(client: Client, address: str) -> Iterator[None]:
    """Errors of the network and of what is installed there as ours."""
    try:
        yield
    except (AttributeError, CancelledError, CommClosedError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a file
        if isinstance(error, AttributeError) and client.scheduler is not None:
            raise  # not of a client whose scheduler is gone
        raise InputError(
            f"the connection to the scheduler {address} is lost; run the command again when it is "
            "back",
            ErrorCode.CLUSTER,
        ) from None
    except ModuleNotFoundError as error:
        raise InputError(
            f"a worker or the scheduler of {address} lacks {error.name}; install facedis "
            f"{__version__} with what this command needs on all of them",
            ErrorCode.CLUSTER,
        ) from None


class _Task(NamedTuple):
    """Blocks that were sent.

    Attributes:
        blocks: each pickled.
        future: their results.
        again: whether workers have died of it already.
    """

    blocks: list[bytes]
    future: Future
    again: bool = False


class _Map:
    """Sends blocks in tasks and takes the results in order."""

    def __init__(
        self, client: Client, address: str, name: str, names: Callable[[Any], Iterable[str]]
    ) -> None:
        self._client, self._address = client, address
        self._name, self._names = name, names
        self._sent: deque[_Task] = deque()
        self._size = 1  # blocks a task
        self._block_bytes: float = MOST_BYTES  # of the results of a block
        self._fetched: dict[Any, _Done] = {}
        self._workers, self._counted = 1, 0.0

    def results(self, blocks: Iterable[Any]) -> Iterator[Any]:
        """The result of each block, in order."""
        try:
            for number, task in enumerate(self._tasks(blocks), 1):
                self._sent.append(self._submit(task))
                if number == len(self._sent) == FIRST_TASKS:  # no result is taken yet
                    yield from self._first()
                while len(self._sent) >= self._window():
                    yield from self._next()
            while self._sent:
                yield from self._next()
        finally:
            with suppress(Exception):  # a scheduler that is gone
                sent = [task.future for task in self._sent]
                within(_FORGET_SECONDS, partial(self._client.cancel, sent, force=True))

    def _tasks(self, blocks: Iterable[Any]) -> Iterator[list[bytes]]:
        """Blocks in groups of `_size`, which changes meanwhile, fewer where they are large."""
        group: list[bytes] = []
        for block in blocks:
            group.append(pickle.dumps(block))
            if len(group) >= self._size or sum(map(len, group)) > MOST_BYTES:
                yield group
                group = []
        if group:
            yield group

    def _submit(self, blocks: list[bytes], again: bool = False) -> _Task:
        with _reaching(self._client, self._address):
            future = self._client.submit(
                run_blocks, self._name, blocks, key=f"{self._name}-{uuid.uuid4().hex}", pure=False
            )
        return _Task(blocks, future, again)

    def _window(self) -> int:
        """Number of tasks that may be on their way."""
        now = time.monotonic()
        if now - self._counted > _COUNT_SECONDS:
            with _reaching(self._client, self._address):
                self._workers = _count_workers(self._client)
            self._counted = now
        return TASKS_AHEAD * self._workers + 1

    def _first(self) -> Iterator[Any]:
        """The results of the first tasks, as far as they are soon there."""
        due = time.monotonic() + FIRST_SECONDS
        while self._sent and time.monotonic() < due:
            if self._sent[0].future.done():
                yield from self._next()
            else:
                time.sleep(0.01)

    def _next(self) -> Iterator[Any]:
        """The results of the oldest task."""
        task = self._sent.popleft()
        try:
            with _reaching(self._client, self._address):
                done = self._result(task)
        except KilledWorker:
            if task.again:
                names = [name for data in task.blocks for name in self._names(pickle.loads(data))]
                raise _deadly(names) from None
            # tasks beside a deadly one are blamed too: each block once more by itself
            alone = [self._submit([block], again=True) for block in task.blocks]
            self._sent.extendleft(reversed(alone))
            return
        self._adapt(done)
        for content in done.results:
            result, error = pickle.loads(content)  # by our own worker
            if error is not None:
                raise error
            yield result

    def _result(self, task: _Task) -> "_Done":
        """What a task has done; what those after it have done already comes along.

        A message through the scheduler to a worker and back for each would be the limit where
        workers are many.
        """
        if task.future.key not in self._fetched:
            together, blocks = [task.future], len(task.blocks)
            for later in islice(self._sent, MOST_TOGETHER - 1):
                blocks += len(later.blocks)
                if later.future.status != "finished" or blocks * self._block_bytes > MOST_BYTES:
                    break
                together.append(later.future)
            if task.future.status != "finished" or len(together) == 1:
                return _patiently(self._client, self._address, task.future.result)
            found = _patiently(self._client, self._address, partial(self._client.gather, together))
            self._fetched = {each.key: one for each, one in zip(together, found, strict=True)}
        return self._fetched.pop(task.future.key)

    def _adapt(self, done: "_Done") -> None:
        """Choose how many blocks a task has, so that it takes some seconds and is not large."""
        count = len(done.results)
        wanted = max(TASK_SECONDS, TASK_SECONDS_PER_WORKER * self._workers)
        by_time = wanted * count / max(done.seconds, 1e-6)
        self._block_bytes = max(sum(map(len, done.results)), 1) / count
        by_size = MOST_BYTES / self._block_bytes
        self._size = max(1, int(min(by_time, by_size, 2 * self._size, MOST_BLOCKS)))


def _deadly(names: list[str]) -> InputError:
    return InputError(
        f"workers died again and again of {first_of(names, _MOST_NAMED)}, most likely for "
        "lack of memory; give workers more, or leave it out",
        ErrorCode.MEMORY,
    )


def _connect(given: str) -> Client:
    address = given
    try:
        if given.endswith(".json"):  # Dask itself would wait for the file for ever
            due = time.monotonic() + CONNECT_SECONDS
            while not exists(given) and time.monotonic() < due:
                time.sleep(0.1)  # a scheduler that is just starting
            address = str(json.loads(Path(given).read_text())["address"])
        scheme, place = parse_address(address)  # a Client with a wrong one ends in a traceback
        get_backend(scheme)
        parse_host_port(place)
        return _client(address)
    except (OSError, ValueError, KeyError, TypeError) as error:  # ValueError: no address
        raise InputError(
            f"there is no scheduler at {given}; expected the address of a running one, such as "
            "tcp://host:8786, or the file of dask scheduler --scheduler-file "
            f"({first_line(error)})",
            ErrorCode.CLUSTER,
        ) from None


def _client(address: str) -> Client:
    """A client of a scheduler that answers; Dask itself waits for what is none for ever."""
    make = partial(Client, address, timeout=CONNECT_SECONDS, set_as_default=False, name="facedis")
    try:
        return within(2 * CONNECT_SECONDS, make)
    except TimeoutError as error:
        raise TimeoutError(first_line(error) if str(error) else "it does not answer") from None


def _wait_for_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise _no_workers(address, WORKER_SECONDS) from None


def _no_workers(address: str, seconds: float) -> InputError:
    return InputError(
        f"the scheduler {address} has no workers after {seconds} s; start some: "
        f"dask worker {address}",
        ErrorCode.CLUSTER,
    )


def _send_work(client: Client, address: str, work: "_Work") -> None:
    """Give the work to all workers; one that dies just then is none of the network's errors."""
    send = partial(client.register_plugin, work, name=work.name)
    for _ in range(_SEND_TRIES):
        try:
            _patiently(client, address, send)
            return
        except TimeoutError:  # an OSError too, but of a scheduler that does not answer
            raise
        except (CommClosedError, OSError):
            time.sleep(1)
    _patiently(client, address, send)


def _patiently(client: Client, address: str, call: Callable[[], Result]) -> Result:
    """The result of a call, which may take long as long as the scheduler answers meanwhile.

    Raises:
        TimeoutError: it does not.
        InputError: there are no workers any more.
        Errors of the call.
    """
    done: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # left behind by an interrupt
    seen = time.monotonic()
    while not concurrent.futures.wait([done], ASK_EVERY_SECONDS).done:
        if _count_workers(client):
            seen = time.monotonic()
        elif time.monotonic() - seen > NO_WORKER_SECONDS:
            raise _no_workers(address, NO_WORKER_SECONDS)
    return done.result()


def _count_workers(client: Client) -> int:
    return len(within(ANSWER_SECONDS, client.nthreads))


def _silence() -> None:
    """Keep Dask's own words off standard error: what matters is said in a line of ours."""
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


# What follows runs in workers.


@dataclass(frozen=True)
class _Loaded:
    """Work in a worker, and the folder that relative paths in its blocks begin in."""

    work: Callable[[Any], Any]
    folder: str


_loaded: dict[str, _Loaded] = {}
# One task at a time: the folder is that of the process. Threads would not be faster.
_running = threading.Lock()


@dataclass(frozen=True)
class _Done:
    """What a task gives back: seconds, and the pickled result or error of each block."""

    seconds: float
    results: list[bytes]


class _Work(WorkerPlugin):
    """Brings the work to every worker, also to one that comes later."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self._content, self._folder = content, os.getcwd()  # noqa: PTH109 - as it is called
        self._versions = _versions()

    def setup(self, worker: Any) -> None:
        """Load the work; a worker with other versions would compute other last digits."""
        if _versions() != self._versions:
            found, expected = (
                ", ".join(f"{key} {value}" for key, value in versions.items())
                for versions in (_versions(), self._versions)
            )
            raise InputError(
                f"worker {worker.address} has {found}, this command {expected}; install the same",
                ErrorCode.CLUSTER,
            )
        _loaded[self.name] = _Loaded(pickle.loads(self._content), self._folder)

    def teardown(self, worker: Any) -> None:
        """Forget the work."""
        _loaded.pop(self.name, None)


def _versions() -> dict[str, str]:
    return {"facedis": __version__, "NumPy": np.__version__}


def run_blocks(name: str, blocks: list[bytes]) -> _Done:
    """Do some blocks of the work of that name; the first error of ours ends them."""
    if name not in _loaded:
        raise InputError("a worker could not load the work; its log says why", ErrorCode.CLUSTER)
    loaded, results = _loaded[name], []
    with _running:
        try:
            os.chdir(loaded.folder)
        except OSError:  # no disk in common: only what needs no file can be done
            os.chdir("/")
        started = time.monotonic()
        for block in blocks:
            try:
                results.append(pickle.dumps((loaded.work(pickle.loads(block)), None)))
            except FacedisError as error:
                results.append(pickle.dumps((None, error)))
                break
        return _Done(time.monotonic() - started, results)
