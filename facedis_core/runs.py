"""A training from the first epoch to the files it leaves.

`m.safetensors` is what was learnt, `m.jsonl` has one line an epoch, `m.state.safetensors` is what
`--resume` goes on from.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from facedis_core import world
from facedis_core.checkpoint import (
    TrainingProgress,
    read_training_state,
    write_training_state,
)
from facedis_core.epochs import Epoch, Learner
from facedis_core.errors import InputError, Stopped, UsageError
from facedis_core.streams import check_output, open_output

# What processes that torchrun starts anew should know of the run.
BEGUN: Final = "begun"
DONE: Final = "done"

# The one thing that may change when a stopped run goes on; with any other it is another run.
_EXTENDABLE: Final = {"epochs", "pretrain_epochs"}


@dataclass(frozen=True)
class RunFiles:
    """The files of one training; all None but the result when it goes to standard output."""

    result: str
    log: Path | None
    state: Path | None

    @classmethod
    def beside(cls, output: str) -> "RunFiles":
        """Log and state get the result's name without its suffix."""
        if output == "-":
            return cls(output, None, None)
        stem = output.removesuffix(".safetensors")
        return cls(output, Path(f"{stem}.jsonl"), Path(f"{stem}.state.safetensors"))

    def check(self, *, force: bool) -> None:
        """Refuse before hours of work what could not be written after them."""
        for target in (self.result, self.log, self.state):
            if target is not None:
                check_output(str(target), force)


@dataclass(frozen=True)
class Callbacks:
    """How the outside takes part: when to stop, and what to show."""

    should_stop: Callable[[], bool] = lambda: False
    on_epoch: Sequence[Callable[[dict[str, Any]], None]] = ()
    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None


class EpochLog:
    """One JSON line an epoch, rewritten whole each time so that it is never cut in a line.

    Args:
        path: where; None keeps it in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[str] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Add an epoch and write."""
        self.lines.append(json.dumps(record, sort_keys=True))
        self.write()

    def write(self) -> None:
        """Bring the file to what is in memory."""
        if self.path is not None:
            with open_output(str(self.path), force=True) as stream:
                stream.write("".join(f"{line}\n" for line in self.lines).encode())


class TrainingRun:
    """Drives a learner and keeps its files; of several processes only the leading one writes.

    Args:
        learner: what learns.
        files: where things go.
        write: writes what has been learnt, with its metrics, and returns the id it has given it.
        identity: what makes this run the same one after an interruption (recipe, ids, seed).
        evaluate_every: epochs between two looks at the test faces.
        checkpoint_minutes: how much work a run loses that is killed.

    Attributes:
        id: of what was written last; the leading process knows it.
    """

    def __init__(
        self,
        learner: Learner,
        files: RunFiles,
        write: Callable[[BinaryIO, dict[str, Any]], str],
        *,
        identity: Mapping[str, Any],
        evaluate_every: int = 1,
        checkpoint_minutes: float = 2.0,
    ) -> None:
        self.learner, self.files, self.write = learner, files, write
        self.identity = json.loads(json.dumps(identity))
        self.evaluate_every, self.checkpoint_minutes = evaluate_every, checkpoint_minutes
        self.saved_at = time.monotonic()
        self.metrics: dict[str, Any] = {}
        self.id = ""
        self.log = EpochLog(files.log if world.leads() else None)

    def resume(self, *, required: bool = True) -> bool:
        """Go back to the saved state, and to the log as it was then; False if there is none.

        Args:
            required: whether it is wrong that nothing was saved; else the run starts anew.

        Raises:
            UsageError: nothing was saved.
            InputError: the state is of another run.
        """
        learner, label = self.learner, str(self.files.state or "state")
        content = world.from_the_leader(self._saved_state(), learner.device)
        if content is None:
            if not required:
                return False
            raise UsageError(
                f"there is no {label} to resume from; leave out --resume, or train on "
                "from a finished model with --init MODEL and another name for the output"
            )
        found = read_training_state(content, label)
        progress = found.progress
        saved = progress.identity
        for key in sorted(set(saved) | set(self.identity)):
            if saved.get(key) != self.identity.get(key) and key not in _EXTENDABLE:
                raise InputError(
                    f"{label} is of a run with {key} {saved.get(key)!r}, this one has "
                    f"{self.identity.get(key)!r}; use the same options or leave out --resume"
                )
        found.restore(learner.networks, learner.optimizers)
        learner.epoch = Epoch(**progress.epoch)
        self.metrics = progress.metrics
        self.log.lines = progress.log
        self.log.write()
        return True

    def start_anew(self) -> None:
        """Do away with the state of a run that was here before."""
        if self.files.state is not None and world.leads():
            self.files.state.unlink(missing_ok=True)

    def _saved_state(self) -> bytes | None:
        """What the leading process finds on its disk."""
        state = self.files.state
        if state is None or not world.leads() or not state.is_file():
            return None
        return state.read_bytes()

    def train(self, callbacks: Callbacks) -> None:
        """Train to the end.

        Raises:
            Stopped: `should_stop` said so; everything is saved.
        """
        self.saved_at = time.monotonic()
        learner, epochs = self.learner, self.learner.epochs

        def should_stop() -> bool:
            return world.any_of(callbacks.should_stop(), learner.device)

        def on_step(epoch: int, step: int, steps: int) -> None:
            callbacks.on_step(epoch, step, steps)
            self._save_if_due()

        while learner.epoch.number < epochs:
            record = learner.run_epoch(should_stop, on_step)
            if record is not None:
                self._finish_epoch(record, last=learner.epoch.number == epochs)
                for tell in callbacks.on_epoch:
                    tell(record)
            if record is None or (learner.epoch.number < epochs and should_stop()):
                self._save()
                where = f"epoch {learner.epoch.number + 1} of {epochs}, step {learner.epoch.step}"
                raise Stopped(self._goodbye(where))
        self._write_result()
        world.mark(DONE)
        if self.files.state is not None and world.leads():
            self.files.state.unlink(missing_ok=True)

    def _goodbye(self, where: str) -> str:
        if self.files.state is None:
            return f"stopped in {where}; nothing can be kept when it goes to standard output"
        return (
            f"stopped in {where}; the result so far is in {self.files.result}, "
            "the same command with --resume goes on"
        )

    def _finish_epoch(self, record: dict[str, Any], *, last: bool) -> None:
        if world.leads() and (last or record["epoch"] % self.evaluate_every == 0):
            found = self.learner.evaluate(record)
            record |= found
            self.metrics = {"epochs": record["epoch"], **found}
        self.log.append(record)

    def _save_if_due(self) -> None:
        if time.monotonic() - self.saved_at > 60 * self.checkpoint_minutes:
            self._save()
            self.saved_at = time.monotonic()

    def _save(self) -> None:
        """The state first: it is what makes an interruption harmless."""
        if self.files.state is None or not world.leads():
            return
        learner = self.learner
        progress = TrainingProgress(
            self.identity, asdict(learner.epoch), self.metrics, self.log.lines
        )
        try:
            with open_output(str(self.files.state), force=True) as stream:
                write_training_state(stream, learner.networks, learner.optimizers, progress)
        finally:  # on a full disk the result, several times smaller, may still fit
            self._write_result()

    def _write_result(self) -> None:
        if world.leads():
            with open_output(self.files.result, force=True) as stream:
                self.id = self.write(stream, self.metrics)
