"""Raw scans dropped on the page of fd-view, registered one at a time by a process of its own."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from facedis_core.errors import ErrorCode, FacedisError, InputError, missing_extra
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.scan_formats import SCAN_FORMATS
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.pipeline.parallel import exit_with_parent
from facedis_core.registration.prior import RegistrationPrior, prior_of
from facedis_core.registration.registration import Registration, register
from facedis_core.viewer.faces import ViewerFace, encoded_face, meshes_of_bytes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from facedis_core.render.scan_surface import ScanSurface

MAX_SCANS: Final = 4  # that wait or are registered
MAX_KEPT: Final = 8  # jobs whose results can be asked for
NICENESS: Final = 5  # of the process that registers, so that the page is answered first
BUG: Final = "fd-view failed; see the traceback in its terminal"
WAITING: Final = "waiting for another scan"

# Errors of meshes of another topology, which are raw scans to the page.
RAW_SCAN: Final = frozenset({ErrorCode.VERTEX_COUNT, ErrorCode.TOPOLOGY, ErrorCode.NO_TRIANGLES})
# Refusals that a user may overrule.
DOUBTFUL: Final = frozenset({ErrorCode.NO_FACE, ErrorCode.FAR_FACE, ErrorCode.POSE_AMBIGUOUS})


def scan_of_bytes(content: bytes, name: str) -> Mesh:
    """The first scan of an uploaded file, by the file's name.

    Raises:
        InputError: it is unreadable.
    """
    decode = SCAN_FORMATS.get(Path(name).suffix.lower())
    return next(meshes_of_bytes(content, name)) if decode is None else decode(content, name)


class RegisteredFace(NamedTuple):
    """A face that was found in a scan, and both beside each other."""

    face: ViewerFace
    found: Registration
    view: "ScanSurface"

    def as_json(self) -> dict[str, Any]:
        """As `ViewerFace.as_json`, and `scan`: as `Registration` and `ScanSurface` have it."""
        return {**self.face.as_json(), "scan": {**self.found.as_json(), **self.view.as_json()}}


def registered_face(
    progress: Callable[[str], None],
    encoder: MeshEncoder,
    prior: RegistrationPrior,
    scan: Mesh,
    force: bool,
) -> RegisteredFace:
    """Register a scan and encode its face; errors of `register` and `MeshEncoder.prepared`."""
    from facedis_core.render.scan_surface import scan_surface

    found = register(
        scan, encoder.model, prior=prior, units=encoder.units, force=force, progress=progress
    )
    progress("encoding")
    encoder = replace(encoder, align="none", force_encode=force or encoder.force_encode)
    face = encoded_face(encoder, found.mesh, scan.name)
    mouth = "the mouth may be wrong" if found.mouth_is_doubtful else ""
    warnings = (*scan.warnings, found.problem, mouth, face.warning)
    face = replace(face, warning="; ".join(filter(None, warnings)))
    shown = scan_surface(scan, found.to_scan, found.mesh, found.distance_mm)
    return RegisteredFace(face, found, shown)


def send_face(connection: "Connection", *arguments: Any) -> None:
    """Send the steps of `registered_face` as they begin, and at last the face or the error."""
    result: RegisteredFace | FacedisError | MemoryError
    try:
        result = registered_face(connection.send, *arguments)
    except (FacedisError, MemoryError) as error:
        result = error
    connection.send(result)


def start_worker(*arguments: Any) -> "tuple[Connection, BaseProcess]":
    """Start `send_face` in a process; the end of its pipe."""
    from multiprocessing import get_context

    context = get_context("spawn")  # not fork: other threads may hold locks
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
    worker.start()
    theirs.close()  # so that its end is seen
    return ours, worker


def _work(connection: "Connection", *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its parent
    Thread(target=exit_with_parent, daemon=True).start()
    os.nice(NICENESS)
    send_face(connection, *arguments)


@dataclass(eq=False)
class ScanJob:
    """A scan and how far its registration is.

    Attributes:
        force: take a doubtful result.
        state: what has become of it.
        step: what is being done.
        message: why it was refused.
        can_force: it may be registered all the same.
        face: the result.
        version: number of changes.
        worker: the process that registers it, while there is one.
    """

    scan: Mesh
    force: bool = False
    state: Literal["running", "done", "refused", "cancelled"] = "running"
    step: str = WAITING
    message: str = ""
    can_force: bool = False
    face: RegisteredFace | None = None
    version: int = 0
    worker: "BaseProcess | None" = None


class ScanJobs:
    """Registrations of scans, by keys; threads can share it."""

    def __init__(self, encoder: MeshEncoder) -> None:
        """Registered scans are encoded by the model of `encoder`."""
        self._encoder = encoder
        self._changed = Condition()
        self._turn = Lock()  # of the one that is registered
        self._jobs: dict[str, ScanJob] = {}
        self._keys: Iterator[int] = count(1)

    @cached_property
    def _prior(self) -> RegistrationPrior:
        return prior_of(self._encoder.model.preparation)

    @cached_property
    def are_possible(self) -> bool:
        """Whether there is a prior for the model's topology."""
        with suppress(InputError):
            return self._prior is not None
        return False

    def start(self, scan: Mesh) -> str:
        """Register a scan in a thread; its key.

        Raises:
            InputError: there is no prior for the model's topology, or too many scans wait.
            UsageError: SciPy is not installed.
        """
        try:
            import scipy  # noqa: F401 - checked before the work begins
        except ModuleNotFoundError:
            what = f"{scan.name} has another topology than the model: registering such a raw scan"
            raise missing_extra(what, "register") from None
        _ = self._prior
        with self._changed:
            if sum(job.state == "running" for job in self._jobs.values()) >= MAX_SCANS:
                raise InputError(
                    f"{MAX_SCANS} scans are being registered or wait, which is the most; wait for "
                    "one of them, or cancel it",
                    ErrorCode.REQUEST,
                )
            ended = [key for key, job in self._jobs.items() if job.state != "running"]
            for key in ended[: max(0, len(self._jobs) - MAX_KEPT + 1)]:
                del self._jobs[key]
            key, job = str(next(self._keys)), ScanJob(scan)
            self._jobs[key] = job
        self._run(job)
        return key

    def force(self, key: str) -> None:
        """Register a refused scan all the same.

        Raises:
            InputError: there is no such scan, or it cannot be forced.
        """
        with self._changed:
            job = self._job(key)
            if job.state != "refused" or not job.can_force:
                raise InputError("this scan is not refused; drop it again", ErrorCode.REQUEST)
            job.force, job.can_force, job.message = True, False, ""
            self._tell(job, state="running", step=WAITING)
        self._run(job)

    def cancel(self, key: str) -> None:
        """Give a registration up, at once.

        Raises:
            InputError: there is no such scan.
        """
        with self._changed:
            job = self._job(key)
            if job.state == "running":
                self._tell(job, state="cancelled")
            if job.worker is not None:
                job.worker.kill()

    def news(self, key: str, seen: int, seconds: float) -> dict[str, Any]:
        """What the page shows of a registration, as JSON.

        Args:
            key: of `start`.
            seen: the `version` of the news that the page has; waits for others.
            seconds: the longest wait.

        Raises:
            InputError: there is no such scan.
        """
        with self._changed:
            job = self._job(key)
            self._changed.wait_for(lambda: job.version != seen, seconds)
            return {
                "version": job.version,
                "state": job.state,
                "step": job.step,
                "message": job.message,
                "can_force": job.can_force,
                "face": job.face and job.face.as_json(),
            }

    def _job(self, key: str) -> ScanJob:
        job = self._jobs.get(key)
        if job is None:
            raise InputError(
                f"no scan has the key {key[:20]!r} any more; drop it again", ErrorCode.NAME_UNKNOWN
            )
        return job

    def _tell(self, job: ScanJob, **changes: Any) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(job, name, value)
            job.version += 1
            self._changed.notify_all()

    def _run(self, job: ScanJob) -> None:
        Thread(target=self._register, args=(job,), daemon=True).start()

    def _register(self, job: ScanJob) -> None:
        """Have a scan registered when it is its turn, and tell what comes of it."""
        ending = {"state": "refused", "message": BUG}
        try:
            with self._turn:
                ending = self._registered(job)
        finally:
            with self._changed:
                job.worker = None
                if job.state == "running":
                    self._tell(job, **ending)

    def _registered(self, job: ScanJob) -> dict[str, Any]:
        """What becomes of a job by a process of its own, which `cancel` may kill."""
        with self._changed:
            if job.state == "cancelled":
                return {}
            self._tell(job, step="starting")
        try:
            said, worker = start_worker(self._encoder, self._prior, job.scan, job.force)
        except OSError as error:
            return {"state": "refused", "message": f"no process can be started: {error.strerror}"}
        with self._changed:
            job.worker = worker
            if job.state == "cancelled":  # meanwhile
                worker.kill()
        with said:
            try:
                while isinstance(result := said.recv(), str):
                    self._tell(job, step=result)
            except EOFError:
                result = None
        worker.join()
        return _ending(job, result, worker.exitcode)


def _ending(
    job: ScanJob,
    result: RegisteredFace | FacedisError | MemoryError | None,
    exit_code: int | None,
) -> dict[str, Any]:
    """What becomes of a job by the last word of its process; None = it ended without one."""
    if isinstance(result, RegisteredFace):
        return {"state": "done", "face": result}
    if isinstance(result, FacedisError):
        text = str(result).removesuffix(", or pass --force-register")
        can_force = result.code in DOUBTFUL and not job.force
        return {"state": "refused", "message": text, "can_force": can_force}
    if result is not None or exit_code == -signal.SIGKILL:
        text = f"{job.scan.name} needs more memory than there is; drop a smaller scan"
    else:
        text = BUG
    return {"state": "refused", "message": text}
