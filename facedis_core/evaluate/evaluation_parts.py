"""Parts of an evaluation: the results of some batches in a file, and of all batches from files.

What a part writes is what `evaluate_predictions` collects of each batch, so the sums over people
and expressions are made once, of the same numbers, whoever measured them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import BatchResult, Item, Result
from facedis_core.evaluate.prediction import Prediction
from facedis_core.io.npy import NpyReader, write_array
from facedis_core.io.streams import naming, open_input
from facedis_core.pipeline.shards import Shard, more_than_a_part, write_label

_PREDICTED: Final = tuple(name for name in Prediction._fields if name != "reconstruction")
_WANTED: Final = "a part of fd-metrics --shard"


class PartWriter:
    """Measures the batches of a shard alone and writes their results; as an `OrderedMap`."""

    def __init__(self, stream: BinaryIO, shard: Shard, work: str) -> None:
        """Begin the file of a shard of some work, as of `work_id`."""
        self._stream, self._shard = stream, shard
        write_label(stream, shard.label(work))

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, everywhere: bool = False
    ) -> Iterable[Result]:
        """All results where they are needed everywhere, else none: they are in the file."""
        if everywhere:
            return map(function, items)
        for item in items[self._shard.part(len(items))]:
            found: Any = function(item)
            self._write(found)
        return ()

    def _write(self, found: BatchResult) -> None:
        """One array of the values, latents and identity faces, one of the expression faces."""
        columns = {f"value {key}": values for key, values in found.values.items()}
        columns |= {
            name: values
            for name in _PREDICTED
            if (values := getattr(found.prediction, name)) is not None
        }
        columns["is_apex"] = found.is_apex
        dtype = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
        rows = np.empty(len(found.is_apex), dtype)
        for name, values in columns.items():
            rows[name] = values
        write_array(self._stream, rows)
        nothing = np.empty((0, 0, 3), np.float32)
        write_array(self._stream, nothing if found.expression is None else found.expression)


class PartReader:
    """The results of all batches from the files of all shards; as an `OrderedMap`."""

    def __init__(self, files: Sequence[str]) -> None:
        """Files of all shards in order, as of `find_shards`."""
        self._files = files
        self._places = [0] * len(files)  # where the results of the next method begin

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, everywhere: bool = False
    ) -> Iterable[Result]:
        """The results in order; none where they are needed to measure, which is done already."""
        return iter(()) if everywhere else self._results(len(items))

    def _results(self, count: int) -> Iterator[Any]:
        for place, file in enumerate(self._files):
            part = Shard(place + 1, len(self._files)).part(count)
            with self._opened(place, file) as (stream, reader):
                for _ in range(part.stop - part.start):
                    result = _result(reader.array(), reader.array())
                    self._places[place] = stream.tell()  # now: nobody asks for the end of the last
                    yield result

    def check_ends(self) -> None:
        """Raise InputError, after the last method, where a file holds more."""
        for place, file in enumerate(self._files):
            with self._opened(place, file) as (_, reader):
                if reader.header() is not None:
                    raise more_than_a_part()

    @contextmanager
    def _opened(self, place: int, file: str) -> Iterator[tuple[BinaryIO, NpyReader]]:
        """A file and the reader of its arrays, after what was read of it."""
        with open_input(file) as stream, naming(file):
            stream.seek(self._places[place])
            reader = NpyReader(stream, _WANTED)
            if not self._places[place]:
                reader.array()  # the label
            yield stream, reader


def _result(rows: np.ndarray | None, expression: np.ndarray | None) -> BatchResult:
    if rows is None or expression is None:
        raise InputError("is truncated; run its part again", ErrorCode.TRUNCATED)
    names = rows.dtype.names or ()
    prefix = "value "
    return BatchResult(
        {name.removeprefix(prefix): rows[name] for name in names if name.startswith(prefix)},
        Prediction(**{name: rows[name] for name in _PREDICTED if name in names}),
        rows["is_apex"],
        expression if expression.shape[1] else None,
    )
