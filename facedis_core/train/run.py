"""A training run and its files: the result, a log, and a checkpoint that `--resume` continues.

`m.safetensors` is the trained network, `m.jsonl` a log with one line per record, and
`m.state.safetensors` the checkpoint; the one before it is kept as `m.state.previous.safetensors`.
Both are deleted at the end.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from facedis_core.errors import ErrorCode, InputError, Stopped, UsageError
from facedis_core.io.paths import check_suffix
from facedis_core.io.permissions import Permissions
from facedis_core.io.streams import check_output, open_output
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url
from facedis_core.nn.distributed import (
    any_process,
    broadcast_bytes,
    broadcast_weights,
    flag_is_set,
    is_main_process,
    rank,
    set_flag,
)
from facedis_core.train.checkpoint import (
    TrainingProgress,
    read_training_state,
    write_training_state,
)
from facedis_core.train.schedule import epochs_per_record
from facedis_core.train.trainer import Trainer

# Flags for processes that torchrun restarts.
_STARTED: Final = "started"
_FINISHED: Final = "finished"

# Of a set by URL that was there when the run began.
_FACES_LOST: Final = (ErrorCode.FILE_UNREADABLE, ErrorCode.FILE_MISSING)

# Values of the recipe that may differ when a run is resumed.
_LENGTH: Final = {
    *("epochs", "steps", "minimum_steps"),
    *("pretrain_epochs", "pretrain_steps", "pretrain_minimum_steps"),
}


@dataclass(frozen=True)
class RunFiles:
    """Files of one run; on standard output there is only the result.

    Attributes:
        result: the trained network.
        log: JSON lines, a record of one epoch or more each.
        checkpoint: the last one.
        previous: the checkpoint before it.
    """

    result: str
    log: Path | None
    checkpoint: Path | None
    previous: Path | None

    @classmethod
    def beside(cls, output: str) -> "RunFiles":
        """Log and checkpoint have the name of the result with other suffixes."""
        if output == "-":
            return cls(output, None, None, None)
        stem = output.removesuffix(".safetensors")
        suffixes = ("jsonl", "state.safetensors", "state.previous.safetensors")
        return cls(output, *(Path(f"{stem}.{suffix}") for suffix in suffixes))

    def check(self, *, force: bool) -> None:
        """Raise before the training what would prevent writing the files after it."""
        check_suffix(self.result, "weights", ".safetensors")
        if is_url(self.result):
            raise UsageError(
                f"{shown(self.result)} is a URL; a training writes its checkpoints beside its "
                "result: give a file on a disk, and copy it later",
                ErrorCode.OUTPUT_PATTERN,
            )
        for target in (self.result, self.log, self.checkpoint, self.previous):
            if target is not None:
                check_output(str(target), force)


@dataclass(frozen=True)
class Callbacks:
    """Functions that a run calls.

    Attributes:
        should_stop: asked after every step; True interrupts the run.
        on_record: given every record of the log.
        on_step: called after every step.
    """

    should_stop: Callable[[], bool] = lambda: False
    on_record: Sequence[Callable[[dict[str, Any]], None]] = ()
    on_step: Callable[[], None] = lambda: None


class TrainingLog:
    """A JSON line per record, the whole file rewritten each time so that no line is cut off.

    Args:
        path: of the file; None keeps the log in memory.

    Attributes:
        lines: of the epochs so far.
        permissions: of the file where there is none yet; None = those of the umask.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[str] = []
        self.permissions: Permissions | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record and write the file."""
        self.lines.append(json.dumps(record, sort_keys=True))
        self.write()

    def write(self) -> None:
        """Write the file."""
        if self.path is not None:
            target = str(self.path)
            with open_output(target, force=True, permissions=self.permissions) as stream:
                stream.write("".join(f"{line}\n" for line in self.lines).encode())


class TrainingRun:
    """Runs a trainer to its last step; of several processes only the main one writes files.

    Args:
        trainer: networks and optimisers with their steps.
        files: result, log and checkpoint.
        write: writes the trained network with its metrics to a stream; returns its id.
        identity: recipe, seed and ids of the inputs; a checkpoint with another identity is refused.
        evaluate_every: epochs between evaluations on the test split; None = with every record.
        checkpoint_minutes: minutes between checkpoints.

    Attributes:
        metrics: of the last evaluation.
        id: of the network written last, in the main process.
        permissions: of a new checkpoint: those of an old one or of the result that is replaced.
    """

    def __init__(
        self,
        trainer: Trainer,
        files: RunFiles,
        write: Callable[[BinaryIO, dict[str, Any]], str],
        *,
        identity: Mapping[str, Any],
        evaluate_every: int | None = None,
        checkpoint_minutes: float = 2.0,
    ) -> None:
        self.trainer, self.files, self.write = trainer, files, write
        self.identity = json.loads(json.dumps(identity))
        self.record_every = epochs_per_record(trainer.steps, trainer.steps_per_epoch)
        if evaluate_every is not None:
            self.record_every = math.gcd(self.record_every, evaluate_every)
        self.evaluate_every = evaluate_every or self.record_every
        self.checkpoint_minutes = checkpoint_minutes
        self.saved_at = time.monotonic()
        self.metrics: dict[str, Any] = {}
        self.id = ""
        self.permissions: Permissions | None = None
        self.log = TrainingLog(files.log if is_main_process() else None)

    def start(self, *, resume: bool, restarted: bool = False) -> bool:
        """Resume from the checkpoint where asked to, else delete old ones.

        Args:
            resume: the user asks for it; a checkpoint must exist.
            restarted: torchrun has restarted the processes; without a checkpoint start anew.

        Returns:
            whether the run was resumed.

        Raises:
            UsageError: `resume`, but there is no checkpoint.
            InputError: the checkpoint is damaged, or belongs to another run.
        """
        # a checkpoint holds the same as the result, so it is as private
        for path in (self.files.checkpoint, Path(self.files.result)):
            if path is not None and self.permissions is None:
                self.permissions = Permissions.of(path)
        self.log.permissions = self.permissions
        content = None
        if resume or restarted:
            content = broadcast_bytes(self._read_checkpoint(), self.trainer.device)
        if content is not None:
            self._restore(content)
        elif resume and not restarted:
            raise UsageError(
                f"there is no {self.files.checkpoint or 'checkpoint'} to resume from; leave out "
                "--resume, or continue from a finished model with --init MODEL and another "
                "--output",
                ErrorCode.CHECKPOINT_MISSING,
            )
        else:
            self._delete_checkpoints()
            for network in self.trainer.networks.values():
                broadcast_weights(network)
        set_flag(_STARTED)
        return content is not None

    def train(self, callbacks: Callbacks) -> None:
        """Train to the last step.

        Raises:
            Stopped: `should_stop` returned True; a checkpoint and the result so far are written.
            InputError: the storage of the faces does not answer any more; likewise.
        """
        self.saved_at = time.monotonic()
        trainer = self.trainer

        def should_stop() -> bool:
            return any_process(callbacks.should_stop(), trainer.device)

        def on_step() -> None:
            callbacks.on_step()
            if time.monotonic() - self.saved_at > 60 * self.checkpoint_minutes:
                self._save()
                self.saved_at = time.monotonic()

        if not trainer.steps:  # the initial weights are the result
            self._add_record({"epoch": 0, "step": 0}, callbacks)
        while not trainer.is_finished:
            try:
                record = trainer.run_epochs(self.record_every, should_stop, on_step)
            except InputError as error:
                if error.code not in _FACES_LOST or self.files.checkpoint is None:
                    raise
                self._save()  # between two steps
                raise InputError(f"{error}; {self._how_to_continue()}", error.code) from error
            if record is not None:
                self._add_record(record, callbacks)
            if record is None or (not trainer.is_finished and should_stop()):
                self._save()
                where = f"step {trainer.steps_done} of {trainer.steps}"
                if self.files.checkpoint is None:
                    raise Stopped(
                        f"stopped after {where}; nothing was saved: the output is a pipe",
                        ErrorCode.STOPPED,
                    )
                raise Stopped(
                    f"stopped after {where}; {self._how_to_continue()}", ErrorCode.STOPPED
                )
        self._write_result()
        set_flag(_FINISHED)
        self._delete_checkpoints()

    def _how_to_continue(self) -> str:
        return (
            f"the result so far is {self.files.result}, run the same command with --resume to "
            "continue"
        )

    def _add_record(self, record: dict[str, Any], callbacks: Callbacks) -> None:
        """Evaluate the network where that is due, and log the record with what was found."""
        trainer = self.trainer
        is_due = trainer.is_finished or record["epoch"] % self.evaluate_every == 0
        if is_due:
            found = trainer.evaluate(record)
            if is_main_process():
                record |= found
                self.metrics = {"epochs": record["epoch"], "steps": record["step"], **found}
        self.log.append(record)
        for on_record in callbacks.on_record:
            on_record(record)

    def _read_checkpoint(self) -> bytes | None:
        """The last checkpoint that there is, in the main process.

        Without hard links a run that is killed between two renames leaves only the previous one.
        """
        for path in (self.files.checkpoint, self.files.previous):
            if path is not None and is_main_process() and path.is_file():
                return path.read_bytes()
        return None

    def _restore(self, content: bytes) -> None:
        """Restore networks, optimisers, progress and log from a checkpoint."""
        trainer, label = self.trainer, str(self.files.checkpoint)
        try:
            found = read_training_state(content, label)
            progress = found.progress
            self._check_identity(progress.identity)
            if progress.steps_per_epoch != trainer.steps_per_epoch:
                raise InputError(
                    f"{label} has {progress.steps_per_epoch} steps an epoch, expected "
                    f"{trainer.steps_per_epoch}",
                    ErrorCode.METADATA,
                )
            found.restore(trainer.networks, trainer.optimizers)
        except InputError as error:
            if error.code == ErrorCode.RESUME_MISMATCH:
                raise
            raise InputError(f"{error}; {self._way_out()}", error.code) from error
        trainer.epoch = progress.epoch
        self.metrics = progress.metrics
        self.log.lines = progress.log
        self.log.write()

    def _check_identity(self, saved: Mapping[str, Any]) -> None:
        """Raise InputError unless a checkpoint is of a run with the same options."""
        for key in sorted(set(saved) | set(self.identity)):
            if saved.get(key) != self.identity.get(key) and key not in _LENGTH:
                raise InputError(
                    f"{self.files.checkpoint} is of a run with {key} {saved.get(key)!r}, this one "
                    f"has {self.identity.get(key)!r}; use the same options or leave out --resume",
                    ErrorCode.RESUME_MISMATCH,
                )

    def _way_out(self) -> str:
        """How to continue where the last checkpoint is damaged."""
        previous = self.files.previous
        if previous is not None and is_main_process():
            with suppress(InputError, OSError):
                progress = read_training_state(previous.read_bytes(), "").progress
                return (
                    f"to resume from the one before it (step {progress.steps_done}), "
                    f"rename {previous} to {self.files.checkpoint}"
                )
        return "train from the start, without --resume"

    def _save(self) -> None:
        """Write the checkpoint, then the result so far."""
        if self.files.checkpoint is None or not is_main_process():
            return
        trainer = self.trainer
        progress = TrainingProgress(
            self.identity, trainer.epoch, trainer.steps_per_epoch, self.metrics, self.log.lines
        )
        try:
            target = str(self.files.checkpoint)
            with open_output(target, force=True, permissions=self.permissions) as stream:
                write_training_state(stream, trainer.networks, trainer.optimizers, progress)
                self._keep_previous()
        finally:  # on a full disk the result, several times smaller, may still fit
            self._write_result()

    def _keep_previous(self) -> None:
        """Make the checkpoint that is about to be replaced the previous one."""
        checkpoint, previous = self.files.checkpoint, self.files.previous
        if checkpoint is None or previous is None or not checkpoint.is_file():
            return
        link = previous.with_name(f".facedis-{os.urandom(8).hex()}.tmp")
        try:  # by a hard link, so that there is a checkpoint at every moment
            os.link(checkpoint, link)
            link.replace(previous)
        except OSError:  # a file system without hard links
            checkpoint.replace(previous)
        finally:  # also where a second Ctrl-C comes
            link.unlink(missing_ok=True)

    def _write_result(self) -> None:
        if is_main_process():
            with open_output(self.files.result, force=True) as stream:
                self.id = self.write(stream, self.metrics)

    def _delete_checkpoints(self) -> None:
        for path in (self.files.checkpoint, self.files.previous):
            if path is not None and is_main_process():
                path.unlink(missing_ok=True)


def was_started(device: torch.device) -> bool:
    """Whether torchrun has restarted the processes of a run that had started."""
    return flag_is_set(_STARTED, device)


def was_finished(device: torch.device) -> bool:
    """Whether torchrun has restarted the processes of a run that had finished."""
    return flag_is_set(_FINISHED, device)


def check_same_run(identity: Mapping[str, Any], device: torch.device) -> None:
    """Raise InputError unless all processes have the recipe, seed and inputs of the main one."""
    ours = json.dumps(identity, sort_keys=True)
    content = broadcast_bytes(ours.encode() if is_main_process() else None, device)
    main = json.loads(content or ours)
    for key, value in json.loads(ours).items():
        if main.get(key) != value:
            raise InputError(
                f"process {rank() + 1} has {key} {value!r}, the first has {main.get(key)!r}; "
                "give all of them the same files and options",
                ErrorCode.PROCESSES_DIFFER,
            )
