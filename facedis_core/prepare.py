"""Make a face set of a data set: worker processes read it, what they read is kept, then written."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core import __version__
from facedis_core.assemble import assemble
from facedis_core.errors import InputError, Stopped, UsageError
from facedis_core.faceset import TRAIN, face_set_writer
from facedis_core.follow import Like
from facedis_core.history import HistoryStep, history_step
from facedis_core.inventory import Report
from facedis_core.preparation import Preparation
from facedis_core.scratch import Scratch, Sizes, file_state, open_scratch, stamp
from facedis_core.selection import Choice, choose
from facedis_core.signals import delay_stop_signals, install_signal_handlers
from facedis_core.sources import Block, Missing, OpenedSource, Settled
from facedis_core.sources.protocols import FILE
from facedis_core.sources.reference import WAYS_OUT
from facedis_core.streams import open_output, replaced_file
from facedis_core.workers import in_order

# Options of a source that the set or model to follow has already decided.
DECIDED_BY_LIKE: Final = ("simplify", "align")


@dataclass(frozen=True)
class Request:
    """What the user wants beside the source.

    Attributes:
        like: prepare as this set or model was; None = the source's own way.
        chosen: which faces are taken; None = all.
        jobs: worker processes; 1 = none beside this one, 0 = one a core.
        keep_going: leave out what cannot be read or is missing.
        resume: go on with what an earlier run of the same kind has left.
        history: write how the set was made.
        advance: told how many faces are done since the last call.
        announce: called with a line about how the work goes on.
        warn: called with a line about what is doubtful in the result.
        on_report: called with the report just before the set appears under its name.
    """

    like: Like | None = None
    chosen: Choice | None = None
    jobs: int = 1
    keep_going: bool = False
    resume: bool = True
    history: bool = True
    advance: Callable[[int], None] = lambda faces: None
    announce: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None
    on_report: Callable[[Report], None] = lambda report: None


def prepare_face_set(
    opened: OpenedSource, output: str, request: Request | None = None, *, force: bool = False
) -> Report:
    """Write the faces of a source as the face set `output`, and say what went into it.

    The bytes do not depend on `jobs`, nor on how often the work was interrupted.

    Raises:
        UsageError: options that contradict each other.
        InputError: an unusable or missing mesh (unless `keep_going`), or one far from any face
            that `like` knows.
        Stopped: interrupted; what has been read is kept.
    """
    request = request or Request()
    source, like = opened.source, request.like
    decided = [key for key in DECIDED_BY_LIKE if like and opened.options.get(key) is not None]
    if decided:
        raise UsageError(f"--{decided[0]} is decided by the file given as --like; leave one out")
    chosen = request.chosen or choose(source)
    kept = chosen.rows
    _check_missing(opened, chosen.missing, request.keep_going)
    preparation = (
        like.preparation
        if like
        else source.preparation(kept, request.warn, keep_going=request.keep_going)
    )
    blocks = _blocks(opened, kept)
    sizes = Sizes(
        len(source.labels.names),
        len(preparation.vertex_index),
        len(source.labels.subjects),
        source.measures,
    )
    plan = _plan(opened, request, preparation, kept)
    # Before anything is read: a file that changes meanwhile does not count as read.
    state = cache(file_state)  # blocks may share files
    stamps = [stamp(source.paths(rows), state) for rows in blocks]
    install_signal_handlers()
    with (
        ExitStack() as at_the_end,
        open_scratch(output, plan, sizes, resume=request.resume, warn=request.announce) as (
            scratch,
            goes_on,
        ),
    ):
        try:
            if goes_on:
                scratch.recall(blocks, stamps)
            _fill(scratch, opened, request, preparation, kept, blocks, stamps)
            settled = _settle(scratch, opened, kept)
            report = Report.of(opened, chosen, settled, scratch.failures)
            space = scratch.folder if replaced_file(output) else None
            with open_output(output, force=force, workspace=space) as stream:
                _write(stream, opened, request, preparation, scratch, settled)
                request.on_report(report)
                # Not between the set's appearing and the scratch's going: neither could go on.
                at_the_end.enter_context(delay_stop_signals())
        except KeyboardInterrupt:
            raise _stopped(scratch, len(kept)) from None
    return report


def _stopped(scratch: Scratch, faces: int) -> BaseException:
    if not scratch.rows_done:
        return KeyboardInterrupt()
    return Stopped(
        f"interrupted after {scratch.rows_done} of {faces} faces; the same command goes on from "
        "there"
    )


def _check_missing(opened: OpenedSource, missing: Sequence[Missing], keep_going: bool) -> None:
    if missing and not opened.source.findings.incomplete and not keep_going:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{opened.source.root} lacks {missing[0].file}{more}; fetch what is missing, or pass "
            "--keep-going to do without"
        )


def _blocks(opened: OpenedSource, kept: NDArray[np.intp]) -> list[list[int]]:
    wanted = set(kept.tolist())
    blocks = [[row for row in block if row in wanted] for block in opened.source.blocks()]
    return [rows for rows in blocks if rows]


def _plan(
    opened: OpenedSource, request: Request, preparation: Preparation, kept: NDArray[np.intp]
) -> dict[str, Any]:
    """All that decides what the scratch holds, but for the content of the files."""
    source = opened.source
    names = [str(source.root.resolve()), *source.labels.names]
    digest = hashlib.sha256("\0".join(names).encode(errors="replace"))
    digest.update(kept.astype("<i8").tobytes())
    for array in preparation.tensors().values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "version": __version__,
        "source": opened.name,
        "options": {key: str(value) for key, value in opened.options.items()},
        "like": request.like.id if request.like else None,
        "preparation": preparation.metadata(),
        "faces": digest.hexdigest(),
    }


def _fill(
    scratch: Scratch,
    opened: OpenedSource,
    request: Request,
    preparation: Preparation,
    kept: NDArray[np.intp],
    blocks: Sequence[Sequence[int]],
    stamps: Sequence[str],
) -> None:
    """Read what the scratch does not have yet."""
    source, like = opened.source, request.like
    if scratch.rows_done:
        request.announce(f"going on where a run stopped after {scratch.rows_done} faces")
        request.advance(scratch.rows_done)
    todo = [number for number in range(len(blocks)) if number not in scratch.done]
    if not todo:
        return
    reader = source.reader(preparation, kept, like.mean_face if like else None)
    made = in_order(reader.read, [blocks[number] for number in todo], request.jobs)
    for number, block in zip(todo, made, strict=True):
        rows = blocks[number]
        if block.failures and not request.keep_going:
            raise InputError(_advice(block, scratch))
        subject = int(source.labels.subject[rows[0]])
        scratch.put(number, rows, block, subject, stamps[number])
        request.advance(len(rows))


def _advice(block: Block, scratch: Scratch) -> str:
    """What is wrong with the first mesh of a block that failed, and the ways out."""
    goes_on = "; the same command then goes on from there" if scratch.worth_keeping else ""
    return f"{next(iter(block.failures.values()))}; {WAYS_OUT}{goes_on}"


def _settle(scratch: Scratch, opened: OpenedSource, kept: NDArray[np.intp]) -> Settled:
    there = kept[~np.isin(kept, list(scratch.failures))]
    if not len(there):
        raise InputError(
            f"none of {len(kept)} faces could be read: {next(iter(scratch.failures.values()))}"
        )
    settled = opened.source.settle(there, scratch.measured(there))
    if not (settled.labels.split == TRAIN).any():
        raise InputError(
            "no face for training is left; check --protocol, --exclude and what was skipped"
        )
    return settled


def _write(
    stream: BinaryIO,
    opened: OpenedSource,
    request: Request,
    preparation: Preparation,
    scratch: Scratch,
    settled: Settled,
) -> None:
    source = opened.source
    with face_set_writer(
        stream,
        settled.labels,
        preparation,
        source=opened.name,
        protocol=source.protocol,
        history=[_history(opened, request, scratch)] if request.history else [],
    ) as out:
        assemble(out, scratch, settled, source.labels, preparation, request.like, request.warn)


def _history(opened: OpenedSource, request: Request, scratch: Scratch) -> HistoryStep:
    inputs = dict(opened.source.inputs)
    if request.like:
        inputs["like"] = request.like.id
    if request.chosen and request.chosen.exclusion:
        inputs["exclude"] = request.chosen.exclusion
    options = {k: v for k, v in opened.options.items() if not isinstance(v, Path)}
    if str(options.get("protocol")).startswith(f"{FILE}:"):
        options["protocol"] = FILE  # its content is among the inputs
    missing = request.chosen is not None and request.chosen.missing
    if scratch.failures or (missing and not opened.source.findings.incomplete):
        options["keep_going"] = True  # without it the same command would have ended there
    return history_step("fd-prep", inputs, {"source": opened.name, **options})
