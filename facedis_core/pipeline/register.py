"""Registration of many scans, one after the other or in worker processes, in order."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, save_latents
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.paths import (
    OutputPaths,
    check_name,
    check_suffix,
    exists,
    is_file,
    is_folder,
    is_folder_pattern,
)
from facedis_core.io.streams import (
    append_output,
    check_output,
    keeping_existing,
    naming,
    open_output,
    read_all,
    replaced_file,
)
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url
from facedis_core.mesh import ply
from facedis_core.mesh.mesh import Mesh, check_written_suffix, write_mesh
from facedis_core.model.model import Model
from facedis_core.pipeline.decode import check_distinct_files, is_ply_stream
from facedis_core.pipeline.encode import no_latents
from facedis_core.pipeline.failures import Failure
from facedis_core.pipeline.inputs import InputItem
from facedis_core.pipeline.parallel import Workers, in_order
from facedis_core.registration.landmark_files import (
    LANDMARK_FORMATS,
    read_landmarks,
    read_poses,
)
from facedis_core.registration.prior import RegistrationPrior, match_prior
from facedis_core.registration.registration import Registration, Residual, register
from facedis_core.registration.search import require_scipy

if TYPE_CHECKING:
    from facedis_core.registration.sequence import FaceTracker


@dataclass(frozen=True)
class RegisteredItem:
    """What became of an item.

    Attributes:
        source: its name in messages.
        registrations: of its scans, in order.
        warnings: lines about its files.
        failures: scans that were skipped.
        existing: names of scans whose outputs exist.
    """

    source: str
    registrations: list[Registration]
    warnings: list[str]
    failures: list[Failure]
    existing: list[str]


@dataclass(frozen=True)
class ScanRegistrar:
    """Reads and registers scans; picklable for workers.

    Attributes:
        model: whose topology the results have.
        prior: principal components of its faces.
        units: unit of scans that do not declare one.
        residual: whether vertices move to the scan after the fit.
        force: give results that would be refused.
        seed: of random samples.
        keep_going: skip scans that cannot be registered.
        existing: output pattern whose files are not made again; None = register all.
        landmarks: file of landmarks, folder of files with the names of the scans, or pattern with
            {name}; None = none.
        pose: likewise for poses; a file may also be a report with a line a scan.
        tracker: registers the scans as frames of a sequence, in their order; None = each by itself.

    Raises:
        InputError: errors of `match_prior`, or landmarks or poses are missing.
    """

    model: Model
    prior: RegistrationPrior
    units: Units = "auto"
    residual: Residual = "none"
    force: bool = False
    seed: int = 0
    keep_going: bool = False
    existing: str | None = None
    landmarks: str | None = None
    pose: str | None = None
    tracker: "FaceTracker | None" = None

    def __post_init__(self) -> None:
        match_prior(self.model, self.prior)  # raises before a scan is read
        for given in (self.landmarks, self.pose):
            if given is not None and "{name}" not in given and not exists(given):
                raise InputError(
                    f"{shown(given)} does not exist; expected a file, a folder with a file a scan, "
                    "or a pattern with {name}",
                    ErrorCode.FILE_MISSING,
                )

    @property
    def facts(self) -> list[Any]:
        """Everything beside the scans that decides the faces, as values for JSON."""
        options = self.units, self.residual, self.force, self.seed, self.keep_going
        return [self.model.id, self.prior.id, *options, self.landmarks, self.pose]

    def __call__(self, item: InputItem) -> RegisteredItem:
        """Register the scans of an item.

        Raises:
            InputError: without `keep_going`: unreadable, or errors of `register`.
        """
        done = RegisteredItem(item.source, [], [], [], [])
        try:
            for scan in item.load():
                with naming(item.source):
                    check_name(scan.name)
                if self.existing is not None and is_file(OutputPaths(self.existing).of(scan.name)):
                    done.existing.append(scan.name)
                    continue
                try:
                    found = self._register(scan, done.warnings)
                except InputError as error:
                    text = str(error)
                    if Path(item.source).stem == Path(scan.name).name:
                        text = text.removeprefix(f"{scan.name}: ")  # the name once
                    refused = InputError(f"{item.source}: {text}", error.code)
                    if not self.keep_going:
                        raise refused from None
                    # the file may have further scans
                    done.failures.append(Failure.of(item.source, refused))
                    continue
                done.warnings.extend(scan.warnings)
                if found.mouth_is_doubtful:
                    done.warnings.append(
                        f"{item.source}: the mouth may be wrong; the lips lie {found.mouth_mm:.2f} "
                        f"mm from the scan, the face {found.residual_mm:.2f}"
                    )
                if found.problem:
                    done.warnings.append(f"{item.source}: {found.problem}")
                done.registrations.append(found)
        except InputError as error:
            if not self.keep_going:
                raise
            done.failures.append(Failure.of(item.source, error))
        return done

    def _register(self, scan: Mesh, warnings: list[str]) -> Registration:
        if self.tracker is not None:
            found = self.tracker(scan)
            if self.tracker.is_other:
                warnings.append(
                    f"{scan.name}: is not the face of the frames before it, so the later ones hold "
                    "its identity; leave out what is of another person, or a bad first frame"
                )
            elif self.tracker.lost:
                warnings.append(f"{scan.name}: the face was lost and searched for again")
            return found
        return register(
            scan,
            self.model,
            prior=self.prior,
            units=self.units,
            residual=self.residual,
            force=self.force,
            seed=self.seed,
            **self._given(scan.name, warnings),
        )

    def _given(self, name: str, warnings: list[str]) -> dict[str, Any]:
        """The landmarks and the pose of a scan, as arguments of `register`."""
        given: dict[str, Any] = {}
        if self.landmarks is not None:
            file = _file_of(self.landmarks, name, tuple(LANDMARK_FORMATS))
            if file is None:
                warnings.append(f"{name}: has no landmarks in {self.landmarks}")
            else:
                given["landmarks"] = read_landmarks(file)
        if self.pose is not None:
            file = _file_of(self.pose, name, (".txt", ".csv", ".json", ".jsonl"))
            poses = {} if file is None else read_poses(file)
            pose = poses.get(name, poses.get(None))
            if pose is None:
                warnings.append(f"{name}: has no pose in {self.pose}; it is searched for")
            else:
                given["pose"] = pose
        return given


def _file_of(given: str, name: str, suffixes: tuple[str, ...]) -> str | None:
    """The file for a scan, of a pattern or a folder, or the given one; None = there is none."""
    if "{name}" in given:
        candidates = [given.replace("{name}", name)]
    elif is_folder(given):
        candidates = [f"{given.rstrip('/')}/{name}{suffix}" for suffix in suffixes]
    else:
        return given
    return next((file for file in candidates if is_file(file)), None)


def load_tracker(
    model: Model,
    prior: RegistrationPrior,
    *,
    units: Units,
    residual: Residual,
    force: bool,
    seed: int,
) -> "FaceTracker":
    """The tracker of a sequence; UsageError where SciPy is not installed."""
    require_scipy()
    from facedis_core.registration.sequence import FaceTracker

    return FaceTracker(model, prior, units, residual, force, seed)


@dataclass(frozen=True, kw_only=True)
class RegisterOptions:
    """Outputs of a registration; an unusable one is refused before any scan is read.

    Attributes:
        output: a mesh file, a folder or pattern for one file per scan, or `-` for PLY after PLY.
        latents: file for the latents of the faces; None = none.
        report: file for a JSON line per scan; None = none.
        skip_existing: leave out scans whose files exist; their lines in a report stay.
        force: replace existing files.
        jobs: worker processes, as of `in_order`; the results are the same with any.
        label: which shard of a batch the latents are, for their header; "" = none.

    Raises:
        UsageError: options that exclude each other; errors of `check_written_suffix` and
            `check_output`.
        OutputError: errors of `check_output`.
    """

    output: str
    latents: str | None = None
    report: str | None = None
    skip_existing: bool = False
    force: bool = False
    jobs: Workers = 1
    label: str = ""

    def __post_init__(self) -> None:
        if self.skip_existing and self.force:
            raise UsageError(
                "--skip-existing keeps existing files, --force replaces them; give one of the two",
                ErrorCode.OPTION_CONFLICT,
            )
        many = is_folder_pattern(self.output)
        if self.skip_existing and not many:
            raise UsageError(
                f"--skip-existing needs a file per scan, the output is {self.output}; give a "
                "folder (dir/) or a pattern (dir/{name}.ply)",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.skip_existing and self.latents is not None:
            raise UsageError(
                "--latents with --skip-existing would lack the faces of existing files; leave out "
                "--latents and run fd-encode on the output",
                ErrorCode.OPTION_CONFLICT,
            )
        check_written_suffix(Path(OutputPaths(self.output).of("face")).suffix or ".ply")
        if many:  # whether there is a place for files
            check_output(OutputPaths(self.output).of("face"), force=True, parents=True)
        else:
            check_output(self.output, self.force)
        check_suffix(self.latents, "latents", ".npy")
        check_suffix(self.report, "JSON lines", ".jsonl", ".json")
        if self.latents is not None:
            check_output(self.latents, self.force)
        if self.skip_existing and self.report is not None and is_url(self.report):
            raise UsageError(
                f"--skip-existing continues the report line by line, and {shown(self.report)} can "
                "only be written whole; name a file of a disk",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.report is not None:
            check_output(self.report, self.force or self.skip_existing, binary=False)


def register_to(
    options: RegisterOptions,
    registrar: ScanRegistrar,
    items: Iterable[InputItem],
    names: Iterable[str] = (),
) -> Iterator[RegisteredItem]:
    """Register all items in order and write what is found; yields each item once it is written.

    Args:
        options: the outputs.
        registrar: registers each item.
        items: items of `find_inputs`.
        names: of all scans of the batch that are known; two that would be one file are refused
            before any scan is read, also where another process has the other scan.

    Raises:
        UsageError: two outputs of one path, or a file exists.
        InputError: errors of `ScanRegistrar`, or a worker process was killed.
        OutputError: an output cannot be written.
    """
    paths, model = OutputPaths(options.output), registrar.model
    check_distinct_files(OutputPaths(options.output), names)
    streamed = is_ply_stream(options.output)
    encoded: list[Latents] = []
    with ExitStack() as stack:
        meshes, report = None, None
        if streamed:
            meshes = stack.enter_context(open_output(options.output, force=options.force))
        if options.report is not None:
            report = stack.enter_context(_report(options.report, options))
        for item in in_order(registrar, items, options.jobs):
            for found in item.registrations:
                if report is not None:  # before the mesh, which is what is looked for later
                    line = {**found.as_json(), "source": item.source}
                    report.write(f"{json.dumps(line)}\n".encode())
                    report.flush()
                if meshes is not None:
                    _write(meshes, found, ".ply")
                    meshes.flush()
                else:
                    path = paths.of(found.mesh.name)
                    target = open_output(path, force=options.force, parents=paths.many)
                    with keeping_existing(options.skip_existing), target as stream:
                        _write(stream, found, Path(path).suffix or ".ply")
                if options.latents is not None:
                    face = model.prepare(found.mesh, align="none", force_encode=registrar.force)
                    encoded.append(model.encode_prepared(face[None], [found.mesh.name]))
            yield item
        if options.latents is not None:
            rows = [no_latents(model), *encoded] if options.label else encoded
            save_latents(options.latents, rows, force=options.force, label=options.label)


@contextmanager
def _report(target: str, options: RegisterOptions) -> Iterator[BinaryIO]:
    """Where lines of a report go.

    With `skip_existing` a report is continued: it keeps the lines of scans whose files exist, and
    each new line is there at once, so that a batch that is stopped can be resumed.
    """
    if not options.skip_existing or replaced_file(target) is None:
        with open_output(target, force=options.force, binary=False) as stream:
            yield stream
        return
    with append_output(target):  # by no other process
        kept = _kept_lines(target, options.output)
        with open_output(target, force=True, binary=False) as stream:
            stream.writelines(kept)
    with append_output(target) as stream:
        yield stream


def _kept_lines(target: str, output: str) -> list[bytes]:
    """The lines of a report whose faces exist in the output folder."""
    lines, kept = read_all(target).splitlines(), []
    for number, line in enumerate(lines):
        try:
            path = OutputPaths(output).of(json.loads(line)["name"])
        except (ValueError, KeyError, TypeError, AttributeError, InputError):
            if number == len(lines) - 1 and number:
                break  # cut short when a batch was stopped
            raise InputError(
                f"{shown(target)} line {number + 1} is no report of a registration; give another "
                "file with --report",
                ErrorCode.WRONG_KIND,
            ) from None
        if is_file(path):
            kept.append(line + b"\n")
    return kept


def _write(stream: BinaryIO, registration: Registration, suffix: str) -> None:
    """Write the mesh; a PLY has two numbers a vertex: `observed` 0 or 1, `distance` mm or NaN."""
    mesh = registration.mesh
    if suffix.lower() != ".ply":
        write_mesh(stream, mesh, suffix)
        return
    properties: dict[str, NDArray[Any]] = {
        "distance": registration.distance_mm,
        "observed": registration.observed.astype(np.uint8),
    }
    ply.write(stream, mesh.vertices, mesh.triangles, mesh.name, True, properties)
