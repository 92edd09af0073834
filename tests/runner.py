"""Running commands in tests: `Result`, and a runner that works within the process of the tests."""

import fd_cli

import io
import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

from fd_edge import perform

QUOTED = re.compile(r"'[^']*'|\"[^\"$`]*\"|\\.")
OPERATORS = re.compile(r"[|&;<>()$`*?~\n]|\{[^}]*,")


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote.

    `error` is the error behind an exit code other than 0 as the command reports it, without its
    traceback; None for commands that a shell has run.
    """

    code: int
    out: bytes
    err: str
    error: BaseException | None = None

    @property
    def kind(self) -> str:
        """Code of the error, such as `file-missing`; "" without one."""
        return getattr(self.error, "code", "")

    @property
    def line(self) -> str:
        """The only line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def run_command(
    line: str | Sequence[str], *, stdin: bytes | TextIO, folder: Path, env: Mapping[str, str]
) -> Result:
    """Run a command in this process.

    Standard input and output are pipes, as in a shell; the descriptors 0 to 2 are left alone, so
    that /dev/stdin and the like are not the command's. What the command changes in the process
    (environment, folder, signal handlers) is put back.

    Args:
        line: words, or a line as for a shell, with its quotes and without its operators.
        stdin: content of standard input, or the file that it is.
        folder: where the command runs.
        env: variables beside those of this process.
    """
    if isinstance(line, str):
        assert not OPERATORS.search(QUOTED.sub("", line)), f"this needs a shell: {line}"
        line = shlex.split(line)
    command, *arguments = line
    streams = Streams(stdin)
    with process_state(folder, [command, *arguments], env), streams:
        ending = perform(command_function(command), arguments)
    if isinstance(ending.error, KeyboardInterrupt):
        raise ending.error  # of the person who waits for the tests
    if ending.error is not None:
        release_frames(ending.error)
    return Result(ending.code, streams.out, streams.err, ending.error)


def command_function(command: str) -> Callable[..., Any]:
    """The function that `fd-encode` runs."""
    given = []
    with mock.patch.object(fd_cli, "run", lambda function, **options: given.append(function)):
        import_module(command.replace("-", "_")).main()
    return given[0]


class Streams:
    """Pipes in place of sys.stdin and sys.stdout, and memory in place of sys.stderr.

    Processes that multiprocessing starts would inherit a pipe of stderr and keep it open.

    Attributes:
        out, err: what was written, complete after the `with` block.
    """

    out: bytes
    err: str

    def __init__(self, stdin: bytes | TextIO) -> None:
        self._stdin = stdin

    def __enter__(self) -> None:
        self._before = sys.stdin, sys.stdout, sys.stderr
        self._threads: list[threading.Thread] = []
        if isinstance(self._stdin, bytes):
            read_end, write_end = os.pipe()
            self._start(self._feed, write_end, self._stdin)
            sys.stdin = os.fdopen(read_end, encoding="utf-8")
        else:
            sys.stdin = self._stdin
        read_end, write_end = os.pipe()
        self._start(self._collect, read_end)
        sys.stdout = os.fdopen(write_end, "w", encoding="utf-8")
        self._err = io.BytesIO()
        sys.stderr = io.TextIOWrapper(self._err, "utf-8", "backslashreplace", write_through=True)

    def __exit__(self, *error: object) -> None:
        self.err = self._err.getvalue().decode()
        used = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = self._before
        for stream in used:
            stream.close()
        for thread in self._threads:
            thread.join()

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments))
        self._threads[-1].start()

    def _feed(self, descriptor: int, content: bytes) -> None:
        # the command may read less than all
        with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as pipe:
            pipe.write(content)

    def _collect(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            self.out = pipe.read()


@contextmanager
def process_state(folder: Path, words: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
    """The state of the process that a command starts in; afterwards all is as it was."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
    handlers = {signum: signal.getsignal(signum) for signum in signals}
    before = Path.cwd()
    with (
        mock.patch.dict(os.environ, env),
        mock.patch.object(sys, "argv", list(words)),
        warnings_on_stderr(),
    ):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
            for signum, handler in handlers.items():
                signal.signal(signum, handler)


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Python's warnings as a process shows them, where pytest would collect them."""

    def show(message, category, filename, lineno, file=None, line=None):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield


def release_frames(error: BaseException) -> None:
    """Let go of files and generators in the frames of an error, as the end of a process does."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain.__traceback__, chain = None, chain.__cause__ or chain.__context__
