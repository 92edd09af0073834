"""Make a face set of a data set: through worker processes into a memory map, in constant memory."""

import hashlib
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.container import KINDS, history_entry, read_container
from facedis_core.encoding import REFUSED_REACH, beyond_reach
from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import TRAIN, FaceSetWriter, Labels, face_set_writer, load_face_set
from facedis_core.geometry import rigid_alignment
from facedis_core.inference import load_model, resolve_model
from facedis_core.preparation import Preparation
from facedis_core.sources import Block, OpenedSource, Reader
from facedis_core.streams import read_all

# Options of a source that the set or model to follow has already decided.
DECIDED_BY_LIKE: Final = ("simplify", "align")
# Blocks that may wait for a worker or for us, per worker: enough that none is idle.
AHEAD: Final = 3
# The mean of aligned faces is hardly moved by a second round, and not measurably by a third.
ALIGNMENT_ROUNDS: Final = 3


class Like(NamedTuple):
    """What a set or model to follow decides: preparation, mean face (V, 3) mm, and its id.

    `reach_mm` is the model's; infinite of a set, whose few faces may say little of others.
    """

    preparation: Preparation
    mean_face: NDArray[np.float32]
    id: str
    reach_mm: float = math.inf


class Names(NamedTuple):
    """Names of faces or subjects, and the content id of the file that listed them."""

    names: frozenset[str]
    id: str


def read_names(path: Path) -> Names:
    """Names in a text file, one a line; empty lines and lines that begin with # do not count."""
    content = read_all(str(path))
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected one name a line") from None
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    return Names(names, hashlib.sha256(content).hexdigest()[:12])


def load_like(source: str | Path) -> Like:
    """Read how a face set or a model (path or bundled name) wants its faces prepared.

    Raises UsageError where there is no such file or model, InputError for another kind of file.
    """
    path = resolve_model(source)
    kind = read_container(path).kind
    if kind == "faceset":
        face_set = load_face_set(path)
        mean_face = face_set.mean_face(face_set.rows(TRAIN))
        return Like(face_set.preparation, mean_face, face_set.id)
    if kind == "model":
        model = load_model(path)
        return Like(model.preparation, model.mean_face, model.id, model.reach_mm)
    raise InputError(f"{path} is a {KINDS[kind]}, --like needs a face set or a model")


def prepare_face_set(
    opened: OpenedSource,
    stream: BinaryIO,
    *,
    like: Like | None = None,
    exclude: Names | None = None,
    jobs: int = 1,
    history: bool = True,
    advance: Callable[[int], None] = lambda faces: None,
    warn: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the faces of a source as a face set.

    The bytes do not depend on `jobs`.

    Args:
        opened: the source and its options.
        stream: where to write; a regular file is filled in place.
        like: prepare as this set or model was; None = the source's own way.
        exclude: names of faces or subjects to leave out.
        jobs: worker processes; 1 = none beside this one, 0 = one a core.
        history: write how the set was made.
        advance: told how many faces are done since the last call.
        warn: called with a line about faces that are doubtful.

    Raises:
        UsageError: options that `like` has decided; InputError: an unusable mesh, or one far from
            any face that `like` knows.
    """
    source = opened.source
    decided = [key for key in DECIDED_BY_LIKE if like and opened.options.get(key) is not None]
    if like and decided:
        raise UsageError(f"--{decided[0]} is decided by the file given as --like; leave one out")
    kept = rows_to_keep(source.labels, exclude.names if exclude else ())
    labels = _subset(source.labels, kept)
    preparation = like.preparation if like else source.preparation()
    reader = source.reader(preparation, like.mean_face if like else None)
    place = np.full(len(source.labels.names), -1)
    place[kept] = np.arange(len(kept))
    blocks = [rows for block in source.blocks() if (rows := [r for r in block if place[r] >= 0])]
    entries = [_history(opened, like, exclude)] if history else []
    with face_set_writer(
        stream, labels, preparation, source=opened.name, protocol=source.protocol, history=entries
    ) as out:
        for rows, made in zip(blocks, _make(reader, blocks, jobs), strict=True):
            out.vertices[place[rows]] = made.faces
            if made.neutral is not None:
                out.neutrals[labels.subject[place[rows[0]]]] = made.neutral
            advance(len(rows))
        if preparation.alignment != "none":
            _align(out, labels.split == TRAIN, preparation, like)
        if like:
            _check_reach(out.vertices, labels.names, like, warn)
        _fill_neutrals(out, labels, source.neutral_rows[kept])


def rows_to_keep(labels: Labels, exclude: Collection[str]) -> NDArray[np.intp]:
    """Rows (N',) of the faces that are not excluded by their own or their subject's name.

    Raises InputError for a name that is in the set as neither, and where nothing is left.
    """
    people = np.array(labels.subjects)[labels.subject]
    unknown = set(exclude) - set(labels.names) - set(labels.subjects)
    if unknown:
        raise InputError(
            f"{sorted(unknown)[0]!r} is to be excluded, but no face or subject has that name"
        )
    listed = list(exclude)
    kept = np.flatnonzero(~(np.isin(labels.names, listed) | np.isin(people, listed)))
    if not len(kept):
        raise InputError(f"all {len(people)} faces are excluded; nothing would be left")
    return kept


def _subset(labels: Labels, rows: NDArray[np.intp]) -> Labels:
    """The labels of some rows; subjects and expressions that no longer occur are dropped."""
    subjects, subject = np.unique(labels.subject[rows], return_inverse=True)
    expressions, expression = np.unique(labels.expression[rows], return_inverse=True)
    return Labels(
        names=[labels.names[row] for row in rows],
        subjects=[labels.subjects[k] for k in subjects],
        expressions=[labels.expressions[k] for k in expressions],
        subject=subject.astype(np.int32),
        expression=expression.astype(np.int32),
        level=labels.level[rows],
        split=labels.split[rows],
    )


def _history(opened: OpenedSource, like: Like | None, exclude: Names | None) -> dict[str, Any]:
    inputs = dict(opened.source.inputs)
    if like:
        inputs["like"] = like.id
    if exclude:
        inputs["exclude"] = exclude.id
    options = {k: v for k, v in opened.options.items() if not isinstance(v, Path)}
    return history_entry("fd-prep", inputs, {"source": opened.name, **options})


def _make(reader: Reader, blocks: Sequence[Sequence[int]], jobs: int) -> Iterator[Block]:
    """The blocks in order, made by `jobs` processes."""
    workers = min(jobs or os.cpu_count() or 1, len(blocks))
    if workers <= 1:
        yield from map(reader.read, blocks)
        return
    # Not fork: it copies locks that another thread, a progress bar's say, may hold.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (reader,))
    try:
        yield from _in_order(pool, blocks, workers * AHEAD)
    except BrokenProcessPool:
        raise MemoryError("a worker process was killed, use fewer --jobs") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, blocks: Iterable[Sequence[int]], ahead: int
) -> Iterator[Block]:
    waiting: deque[Future[Block]] = deque()
    for rows in blocks:
        waiting.append(pool.submit(_read, rows))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


# The reader of a worker process, sent once: it may be many times larger than what it makes.
_reader: Reader


def _start_worker(reader: Reader) -> None:
    global _reader
    _reader = reader
    # Ctrl-C reaches the whole group of processes; the one that started us will end us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(rows: Sequence[int]) -> Block:
    return _reader.read(rows)


def _align(
    out: FaceSetWriter,
    training: NDArray[np.bool_],
    preparation: Preparation,
    like: Like | None,
) -> None:
    """Bring faces and known neutrals, in place, to the mean face: that of `like`, else their own.

    The mean of the training faces is found by generalised Procrustes analysis (Gower 1975) from the
    first of them. It keeps the faces' mean size, which a similarity would let shrink.
    """
    vertices, scale = out.vertices, preparation.alignment == "similarity"
    chosen = np.array(preparation.stable_vertices or range(vertices.shape[1]), np.intp)

    def moved(face: NDArray[np.float32], target: NDArray[Any]) -> NDArray[np.float32]:
        return rigid_alignment(face[chosen], target[chosen], scale=scale).apply(face)

    if like is not None:
        target: NDArray[Any] = like.mean_face
    else:
        rows = np.flatnonzero(training)
        size = float(np.mean([_size(vertices[row]) for row in rows]))
        target = vertices[rows[0]].astype(np.float64)
        for _ in range(ALIGNMENT_ROUNDS):
            total = np.zeros_like(target)
            for row in rows:
                total += moved(vertices[row], target)
            target = total / len(rows)
            if scale:
                centre = target.mean(0)
                target = centre + (target - centre) * (size / _size(target))
    for faces in (vertices, out.neutrals):
        for face in faces:
            if not np.isnan(face).any():
                face[...] = moved(face, target)


def _check_reach(
    faces: NDArray[np.float32], names: Sequence[str], like: Like, warn: Callable[[str], None]
) -> None:
    """Refuse and warn as fd-encode would, which is to take these faces."""
    mean_face = like.mean_face.astype(np.float64)
    distances = np.array([np.linalg.norm(face - mean_face, axis=1).mean() for face in faces])
    farthest = int(distances.argmax())
    found = beyond_reach(names[farthest], distances[farthest], like.reach_mm)
    if distances[farthest] > REFUSED_REACH * like.reach_mm:
        raise InputError(f"{found}; check --units, or prepare without --like")
    if found:
        count = np.count_nonzero(distances > like.reach_mm)
        warn(f"{found}; {count} of {len(faces)} faces lie farther than these")


def _size(face: NDArray[Any]) -> float:
    """Root mean squared distance of the vertices to their centroid, mm."""
    centred = face - face.mean(0, dtype=np.float64)
    return float(np.sqrt((centred**2).sum(1).mean()))


def _fill_neutrals(out: FaceSetWriter, labels: Labels, at_rest: NDArray[np.bool_]) -> None:
    """Neutrals where no block brought one: the mean of the subject's neutral faces.

    For training only of those outside the test split; a subject that is not trained on at all may
    use all of its own, as `neutrals_eval` always does.
    """
    for subject, neutral in enumerate(out.neutrals):
        if np.isnan(neutral).any():
            mine = (labels.subject == subject) & at_rest
            trained = ((labels.subject == subject) & (labels.split == TRAIN)).any()
            for target, rows in (
                (out.neutrals, mine & (labels.split == TRAIN) if trained else mine),
                (out.neutrals_eval, mine),
            ):
                if rows.any():
                    target[subject] = out.vertices[rows].mean(0, dtype=np.float64)
        else:
            out.neutrals_eval[subject] = neutral
