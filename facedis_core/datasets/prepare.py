"""Preparation of a data set as a face set: read the meshes, align them, write them with labels."""

import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import TRAIN, FaceSetWriter, Labels, face_set_writer
from facedis_core.data.history import HistoryStep, history_step
from facedis_core.data.preparation import Preparation
from facedis_core.data.regions import describe_region, find_region, named_region
from facedis_core.data.units import extent_of
from facedis_core.datasets.contents import PreparationReport, listing_lines
from facedis_core.datasets.existing_preparation import ExistingPreparation, load_preparation
from facedis_core.datasets.preparation_parts import read_blocks, write_blocks
from facedis_core.datasets.protocols import FILE
from facedis_core.datasets.reference_mesh import NEXT_STEP
from facedis_core.datasets.selection import FaceSelection, read_exclusion, select_faces
from facedis_core.datasets.source import FaceBlock, LabelledRows, OpenedSource, open_source
from facedis_core.errors import ErrorCode, InputError, OutputError, UsageError, output_error
from facedis_core.geometry.alignment import align_by_neutrals, align_to, mean_shape
from facedis_core.io.atomic import reserve_space
from facedis_core.io.paths import check_suffix
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.streams import check_output, open_output, replaced_file
from facedis_core.pipeline.parallel import Workers, in_order
from facedis_core.pipeline.shards import Shard, find_shards, work_id, write_label

# Options of a source that --like decides.
_DECIDED_BY_LIKE: Final = ("simplify", "align")
# Faces copied at a time.
_BLOCK: Final = 64


@dataclass(frozen=True)
class PrepareOptions:
    """Options of fd-prep.

    Attributes:
        source: name of the data set, as in `datasets.source.SOURCES`.
        root: the folder with the data.
        output: path of the face set, - = standard output; None with `dry_run` only.
        source_options: the data set's own options, as `open_source` takes them; None = default.
        like: face set or model whose preparation is used; None = the data set's own.
        exclude: file with names of faces or subjects to leave out.
        region: vertices that metrics count: a name or a file as of `find_region`, whose indices
            are those of raw meshes; None = that of the `like` set, else that of the data set.
        drop_neutrals: leave out the neutral faces of the people for training, and their neutrals.
        shard: part of the meshes to read; None = all.
        merge: files of all parts, whose faces are taken instead of the meshes; none = the meshes.
        jobs: worker processes, as of `in_order`; the output does not depend on them.
        keep_going: skip unusable and missing meshes.
        dry_run: count the faces and write nothing.
        history: store the command in the set.
        force: replace existing outputs.

    Raises:
        UsageError: options that exclude each other.
    """

    source: str
    root: str | Path
    output: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    like: str | Path | None = None
    exclude: str | Path | None = None
    region: str | None = None
    drop_neutrals: bool = False
    shard: Shard | None = None
    merge: Sequence[str] = ()
    jobs: Workers = 1
    keep_going: bool = False
    dry_run: bool = False
    history: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if self.output is None and not self.dry_run:
            raise UsageError(
                "there is no output; pass -o SET, or --dry-run to count only",
                ErrorCode.OPTION_MISSING,
            )
        if self.shard is not None and (self.merge or self.dry_run):
            raise UsageError(
                "--shard reads a part of the meshes; leave out --merge and --dry-run",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.shard is not None:
            check_suffix(self.output, "a part of a face set", ".npy")
        else:
            check_suffix(self.output, "a face set", ".safetensors")
        for key in _DECIDED_BY_LIKE:
            if self.like is not None and self.source_options.get(key) is not None:
                raise UsageError(
                    f"--{key} is given by the --like file; leave out one of the two",
                    ErrorCode.OPTION_CONFLICT,
                )

    @property
    def report_file(self) -> str | None:
        """Path of the report beside the set; None of a part, or if it goes to a pipe or device."""
        if self.shard is not None or self.output is None or replaced_file(self.output) is None:
            return None
        return f"{self.output.removesuffix('.safetensors')}.report.json"


@dataclass(frozen=True, eq=False)
class PreparationPlan:
    """The faces of a set, before any mesh is read."""

    options: PrepareOptions
    opened: OpenedSource
    chosen: FaceSelection

    @property
    def expected_rows(self) -> NDArray[np.intp]:
        """Rows of the source that the set will have, as far as known before meshes are read."""
        rows, source = self.chosen.rows, self.opened.source
        if not self.options.drop_neutrals:
            return rows
        return rows[~(source.is_neutral & (np.asarray(source.labels.split) == TRAIN))[rows]]

    def notes(self) -> list[str]:
        """Warnings about the files of the data set, one line per kind."""
        source = self.opened.source
        # Other missing files are an error, or named in the report.
        harmless = source.findings.incomplete or self.options.dry_run
        missing = [gap.file for gap in self.chosen.missing] if harmless else []
        notes = [*source.notes, *listing_lines(source.findings, missing, self.chosen.unmatched)]
        if self.options.dry_run and self.options.drop_neutrals and source.measures:
            notes.append(
                f"neutral faces of {self.opened.name} are known by their meshes alone: --dry-run "
                "counts those that --drop-neutrals will leave out"
            )
        return notes


def plan_face_set(options: PrepareOptions) -> PreparationPlan:
    """List the data set and choose its faces.

    Raises:
        UsageError: an option that the source does not have, or from `check_output`.
        InputError: the folder does not have the layout of the data set, or no face is left.
    """
    for output in (options.output, options.report_file):
        if output is not None:
            check_output(output, options.force)
    opened = open_source(options.source, options.root, options.source_options)
    exclusion = read_exclusion(options.exclude) if options.exclude else None
    return PreparationPlan(options, opened, select_faces(opened.source, exclusion))


def prepare_face_set(
    plan: PreparationPlan,
    *,
    advance: Callable[[int], None] = lambda faces: None,
    warn: Callable[[str], None] = lambda line: None,
) -> PreparationReport:
    """Write the face set and its report, each whole or not at all, in constant memory.

    Args:
        plan: from `plan_face_set`.
        advance: called with the number of faces just read.
        warn: called with each warning.

    Raises:
        InputError: an unusable or missing mesh (unless `keep_going`), or one too far from the mean
            face of the `like` model.
        OutputError: the set could not be written.
    """
    options, opened, chosen = plan.options, plan.opened, plan.chosen
    output, source = options.output, opened.source
    if output is None:
        raise UsageError("a dry run has no output", ErrorCode.OPTION_CONFLICT)
    like, preparation = _preparation(plan, warn)
    blocks = _blocks(plan)
    if options.merge:
        work = _work(plan, like, preparation)
        files = find_shards(options.merge, "fd-prep --shard", work)
        results = read_blocks(files, len(blocks))
    else:
        results = _read_blocks(plan, preparation, like, blocks)
    region = _region(options.region, like, source.region, preparation)
    install_signal_handlers()
    places = len(source.labels.names) + len(source.labels.subjects)
    with _face_file(output, places, len(preparation.vertex_index)) as faces:
        with closing(results):
            read = _collect(plan, blocks, results, faces, advance)
        labelled = _label_rows(plan, read)
        report = PreparationReport.of(opened, chosen, labelled, read.failures)
        history = [_history(plan, like, report)] if options.history else []
        with open_output(output, force=options.force) as stream:
            with face_set_writer(
                stream,
                labelled.labels,
                preparation,
                source=opened.name,
                protocol=source.protocol,
                history=history,
                region=region,
            ) as out:
                _copy_faces(out, faces, read, labelled, source.labels, options.drop_neutrals)
                if preparation.alignment != "none":
                    _align(out, labelled, preparation, like)
                if like:
                    like.check_reach(out.vertices, labelled.labels.names, warn)
                _fill_neutrals(out, labelled.labels, labelled.is_neutral)
                report = replace(
                    report,
                    vertices=len(preparation.vertex_index),
                    topology=preparation.topology,
                    size_mm=extent_of(out.vertices[0]),
                    region="" if region is None else describe_region(region),
                )
            if options.report_file is not None:
                with open_output(options.report_file, force=True) as report_stream:
                    report_stream.write(f"{json.dumps(report.as_dict(), indent=1)}\n".encode())
    return report


def _region(
    asked: str | None, like: ExistingPreparation | None, usual: str | None, preparation: Preparation
) -> NDArray[np.bool_] | None:
    """The vertices that metrics count, (V,) bool; None = all."""
    if asked is not None:
        return find_region(asked, preparation, raw_indices=True)
    if like is not None and like.region is not None:
        return like.region
    region = named_region(usual, preparation) if usual else None
    return None if region is None or region.all() else region


class _FaceFile:
    """Faces (V, 3) float32 mm by index, in a temporary file."""

    def __init__(self, file: IO[bytes], vertices: int) -> None:
        self._file, self._size = file, vertices * 12

    def __setitem__(self, place: int, face: NDArray[np.float32]) -> None:
        self._file.seek(place * self._size)
        self._file.write(np.ascontiguousarray(face, "<f4").tobytes())

    def __getitem__(self, place: int) -> NDArray[np.float32]:
        self._file.seek(place * self._size)
        return np.frombuffer(self._file.read(self._size), "<f4").reshape(-1, 3)


@contextmanager
def _face_file(output: str, faces: int, vertices: int) -> Iterator[_FaceFile]:
    """An unnamed temporary file on the disk of the output: nothing is left if we are killed."""
    target = replaced_file(output)
    size = faces * vertices * 12
    if target is not None:
        free = shutil.disk_usage(target.parent).free
        if free < 2 * size:
            raise OutputError(
                f"{target} needs {2 * size / 1e9:.3g} GB while it is made, its disk has "
                f"{free / 1e9:.3g} GB left; make room, or write to another disk",
                ErrorCode.DISK_FULL,
            )
    with tempfile.TemporaryFile(dir=target and target.parent) as file:
        try:
            reserve_space(file.fileno(), size)
        except OSError as error:
            message = f"{target or output} could not be written: {error.strerror}"
            raise output_error(message, error) from error
        yield _FaceFile(file, vertices)


@dataclass(frozen=True, eq=False)
class _ReadResults:
    """Results of reading beside the faces.

    Attributes:
        measured: (N, M) numbers that the source measured on each mesh, NaN where none was read.
        failures: row -> its error.
        neutrals: subjects whose true neutral is in the temporary file, after the N faces.
    """

    measured: NDArray[np.float64]
    failures: dict[int, InputError] = field(default_factory=dict)
    neutrals: set[int] = field(default_factory=set)


def prepare_part(
    plan: PreparationPlan, *, advance: Callable[[int], None] = lambda faces: None
) -> None:
    """Read the meshes of a shard and write what `prepare_face_set` then merges.

    Args:
        plan: from `plan_face_set`, with a shard.
        advance: called with the number of faces just read.

    Raises:
        InputError: as of `prepare_face_set`.
        OutputError: the part could not be written.
    """
    options = plan.options
    if options.shard is None or options.output is None:
        raise UsageError("there is no shard to prepare", ErrorCode.OPTION_MISSING)
    like, preparation = _preparation(plan, lambda line: None)  # the merge warns of the whole
    blocks = _blocks(plan)
    mine = blocks[options.shard.part(len(blocks))]

    def read() -> Iterator[FaceBlock]:
        with closing(_read_blocks(plan, preparation, like, mine)) as results:
            for rows, block in zip(mine, results, strict=True):
                yield block
                advance(len(rows))

    with open_output(options.output, force=options.force) as stream:
        write_label(stream, options.shard.label(_work(plan, like, preparation)))
        write_blocks(stream, read())


def _preparation(
    plan: PreparationPlan, warn: Callable[[str], None]
) -> tuple[ExistingPreparation | None, Preparation]:
    """What `--like` gives, and the preparation of the raw meshes.

    Raises:
        InputError: files are missing (unless `keep_going`).
    """
    options, source, chosen = plan.options, plan.opened.source, plan.chosen
    like = load_preparation(options.like) if options.like else None
    if chosen.missing and not (source.findings.incomplete or options.keep_going):
        more = f" and {len(chosen.missing) - 1} more" if len(chosen.missing) > 1 else ""
        raise InputError(
            f"{source.root} lacks {chosen.missing[0].file}{more}; add the files, or pass "
            "--keep-going to skip them",
            ErrorCode.FILE_MISSING,
        )
    if like is not None:
        return like, like.preparation
    return None, source.preparation(chosen.rows, warn, keep_going=options.keep_going)


def _work(plan: PreparationPlan, like: ExistingPreparation | None, known: Preparation) -> str:
    """Id of everything that decides what is read of the meshes."""
    opened, source = plan.opened, plan.opened.source
    return work_id(
        *("fd-prep", opened.name),
        _settings(opened),
        *(dict(source.inputs), list(source.labels.names), plan.chosen.rows.tolist()),
        *(None if like is None else like.id, plan.options.keep_going),
        *(known.metadata(), known.vertex_index.tolist()),
    )


def _blocks(plan: PreparationPlan) -> list[list[int]]:
    """The chosen rows in the blocks that are read at once."""
    wanted = set(plan.chosen.rows.tolist())
    blocks = [[row for row in block if row in wanted] for block in plan.opened.source.blocks()]
    return [rows for rows in blocks if rows]


def _read_blocks(
    plan: PreparationPlan,
    preparation: Preparation,
    like: ExistingPreparation | None,
    blocks: Sequence[Sequence[int]],
) -> Generator[FaceBlock, None, None]:
    """Read blocks in order.

    Raises:
        InputError: an unusable mesh (unless `keep_going`).
    """
    source, chosen = plan.opened.source, plan.chosen.rows
    reader = source.reader(preparation, chosen, like.mean_face if like else None)

    def names(rows: Sequence[int]) -> list[str]:
        return [source.labels.names[row] for row in rows]

    with closing(in_order(reader.read, blocks, plan.options.jobs, names)) as results:
        for block in results:
            if block.failures and not plan.options.keep_going:
                first = next(iter(block.failures.values()))
                raise InputError(f"{first}; {NEXT_STEP}", first.code)
            yield block


def _collect(
    plan: PreparationPlan,
    blocks: Sequence[Sequence[int]],
    results: Iterable[FaceBlock],
    faces: _FaceFile,
    advance: Callable[[int], None],
) -> _ReadResults:
    """Store the faces of all blocks, and collect what was read beside them."""
    source = plan.opened.source
    read = _ReadResults(np.full((len(source.labels.names), source.measures), np.nan))
    for rows, block in zip(blocks, results, strict=True):
        read.failures.update(block.failures)
        for row, face in zip(rows, block.faces, strict=True):
            faces[row] = face
        if block.neutral is not None:
            subject = int(source.labels.subject[rows[0]])
            faces[len(source.labels.names) + subject] = block.neutral
            read.neutrals.add(subject)
        if block.measured is not None:
            read.measured[rows] = block.measured
        advance(len(rows))
    return read


def _label_rows(plan: PreparationPlan, read: _ReadResults) -> LabelledRows:
    chosen = plan.chosen.rows
    usable = chosen[~np.isin(chosen, list(read.failures))]
    if not len(usable):
        first = next(iter(read.failures.values()))
        raise InputError(f"none of {len(chosen)} faces could be read: {first}", first.code)
    labelled = plan.opened.source.label_rows(usable, read.measured[usable])
    if plan.options.drop_neutrals:
        dropped = labelled.is_neutral & (np.asarray(labelled.labels.split) == TRAIN)
        kept = np.flatnonzero(~dropped)
        labelled = LabelledRows(
            labelled.rows[kept],
            labelled.labels.subset(kept),
            labelled.is_neutral[kept],
            labelled.outliers,
            [labelled.labels.names[place] for place in np.flatnonzero(dropped).tolist()],
        )
    if not (labelled.labels.split == TRAIN).any():
        raise InputError(
            "no face for training is left; check --protocol, --exclude and what was skipped",
            ErrorCode.SPLIT_EMPTY,
        )
    return labelled


def _settings(opened: OpenedSource) -> dict[str, Any]:
    """The options but for files, whose content has an id among the inputs."""
    files = opened.source.inputs.keys() - {"protocol"}  # also the name of a split
    return {key: value for key, value in opened.options.items() if key not in files}


def _history(
    plan: PreparationPlan, like: ExistingPreparation | None, report: PreparationReport
) -> HistoryStep:
    inputs = dict(plan.opened.source.inputs)
    if like:
        inputs["like"] = like.id
    if plan.chosen.exclusion:
        inputs["exclude"] = plan.chosen.exclusion
    options = _settings(plan.opened)
    if str(options.get("protocol")).startswith(f"{FILE}:"):
        options["protocol"] = FILE  # the id of its content is an input
    if plan.options.drop_neutrals:
        options["drop_neutrals"] = True
    if plan.options.region is not None:
        options["region"] = Path(plan.options.region).name
    if report.fault:
        options["keep_going"] = True  # without it the command would have failed
    return history_step("fd-prep", inputs, {"source": plan.opened.name, **options})


def _copy_faces(
    out: FaceSetWriter,
    faces: _FaceFile,
    read: _ReadResults,
    labelled: LabelledRows,
    planned: Labels,
    drop_neutrals: bool,
) -> None:
    """Copy the kept faces into the set, and the true neutrals of their subjects.

    With `drop_neutrals` those of subjects with a face for training are left out.
    """
    for start in range(0, len(labelled.rows), _BLOCK):
        for place, row in enumerate(labelled.rows[start : start + _BLOCK].tolist(), start):
            out.vertices[place] = faces[row]
        out.release()
    place_of = {name: k for k, name in enumerate(labelled.labels.subjects)}
    if drop_neutrals:
        trained = labelled.labels.subject[np.asarray(labelled.labels.split) == TRAIN]
        for subject in np.unique(trained):
            del place_of[labelled.labels.subjects[subject]]
    for subject in read.neutrals:
        if (name := planned.subjects[subject]) in place_of:
            out.neutrals[place_of[name]] = faces[len(planned.names) + subject]


def _align(
    out: FaceSetWriter,
    labelled: LabelledRows,
    preparation: Preparation,
    like: ExistingPreparation | None,
) -> None:
    """Align faces and known neutrals in place to the mean face of `like`, else to their own.

    With stable vertices neutrals are aligned by all vertices to the mean training neutral, and
    every other face to its subject's neutral by the stable vertices.
    """
    scale = preparation.alignment == "similarity"
    everywhere = np.arange(out.vertices.shape[1])
    stable = np.array(preparation.stable_vertices, np.intp)
    trained = labelled.labels.split == TRAIN
    chosen = everywhere
    if len(stable) and (trained & labelled.is_neutral).any():
        trained = trained & labelled.is_neutral
    elif len(stable):
        chosen = stable
    target: NDArray[Any]
    if like is not None:
        target = like.mean_face
    else:
        target = mean_shape(out.vertices, np.flatnonzero(trained), chosen, scale=scale)
    if len(stable):
        subject = labelled.labels.subject
        neutral_row = np.full(len(labelled.labels.subjects), -1, np.intp)  # each one's first
        for row in np.flatnonzero(labelled.is_neutral)[::-1]:
            neutral_row[subject[row]] = row
        align_by_neutrals(out.vertices, neutral_row[subject], target, stable)
    else:
        align_to(out.vertices, target, everywhere, scale=scale)
    align_to(out.neutrals, target, everywhere, scale=scale)


def _fill_neutrals(out: FaceSetWriter, labels: Labels, is_neutral: NDArray[np.bool_]) -> None:
    """Fill missing neutrals with the mean of the subject's neutral faces.

    `neutrals` uses only training faces, unless the subject has none; `neutrals_eval` uses all.
    """
    for subject, neutral in enumerate(out.neutrals):
        if np.isnan(neutral).any():
            mine = (labels.subject == subject) & is_neutral
            trained = ((labels.subject == subject) & (labels.split == TRAIN)).any()
            for target, rows in (
                (out.neutrals, mine & (labels.split == TRAIN) if trained else mine),
                (out.neutrals_eval, mine),
            ):
                if rows.any():
                    target[subject] = out.vertices[rows].mean(0, dtype=np.float64)
            out.release()
        else:
            out.neutrals_eval[subject] = neutral
