"""The training log as TensorBoard scalars."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from facedis_core.errors import missing_extra, output_error


class TensorBoardWriter:
    """Writes log records as scalars, such as `train/reconstruction` and `test/e_rec/mean`.

    Args:
        folder: for `tensorboard --logdir`; created if missing.
        first_epoch: from 0; scalars that an interrupted run wrote from there on are dropped.

    Raises:
        UsageError: tensorboardX is not installed.
        OutputError: the folder cannot be written, here or in `add`.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            raise missing_extra("--tensorboard", "tensorboard") from None
        self.folder = folder
        with self._errors_named():
            self.writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the record of an epoch."""
        with self._errors_named():
            self._write(record)

    def _write(self, record: Mapping[str, Any]) -> None:
        for name, value in _leaves(record):
            if name != "epoch":
                self.writer.add_scalar(
                    name if "/" in name else f"train/{name}", value, record["epoch"]
                )
        self.writer.flush()

    def close(self) -> None:
        """Close the file; what does not fit on the disk is lost."""
        with suppress(OSError):
            self.writer.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise output_error(f"cannot write {self.folder}: {error.strerror}", error) from None


def _leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value
