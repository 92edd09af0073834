"""Faces of standard input, which arrive while the page of fd-view is open."""

from collections import Counter
from collections.abc import Callable, Collection
from threading import Condition
from typing import Any, BinaryIO, Final, Literal

from facedis_core.errors import ErrorCode, InputError
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.faces import MAX_FACES, ViewerFace, arriving_faces, unused

MAX_WARNINGS: Final = 20  # lines; later ones are only on the page
NEWEST: Final = "newest"


class FaceStream:
    """The newest face of a stream, and at most MAX_FACES before it, evenly spaced.

    One thread reads it while others ask for its faces.
    """

    def __init__(
        self, encoder: MeshEncoder, on_warning: Callable[[str], None] = lambda line: None
    ) -> None:
        """`on_warning` is told of doubtful and unusable faces, and of a broken stream."""
        self._encoder, self._on_warning = encoder, on_warning
        self._changed = Condition()
        self._version = 0
        self._kept: dict[int, ViewerFace] = {}  # by number in the stream
        self._every = 1  # of so many faces one is kept
        self._newest: ViewerFace | None = None
        self._count = self._refused = self._warnings = 0
        self._state: Literal["open", "ended", "broken"] = "open"
        self._message = ""

    def read(self, stream: BinaryIO) -> None:
        """Read all faces of a stream to its end; an error is told and ends it."""
        state: Literal["ended", "broken"] = "broken"
        message = "fd-view failed; see the traceback in its terminal"
        try:
            for face in arriving_faces(self._encoder, stream):
                if isinstance(face, str):
                    self._refuse(face)
                else:
                    self._add(face)
            state, message = "ended", self._message
        except InputError as error:
            message = str(error)
        except MemoryError:
            message = "standard input: a face does not fit into memory"
        finally:
            with self._changed:
                if self._newest is not None:
                    self._kept.setdefault(self._count - 1, self._newest)
                self._state, self._message = state, message
                self._tell()
        if state == "broken":
            self._on_warning(f"{message} (after {self._count} faces; the page stays open)")

    def _add(self, face: ViewerFace) -> None:
        with self._changed:
            if self._count % self._every == 0:
                if len(self._kept) == MAX_FACES:
                    self._every *= 2
                    self._kept = {n: one for n, one in self._kept.items() if n % self._every == 0}
                if self._count % self._every == 0:
                    self._kept[self._count] = face
            self._count += 1
            self._newest = face
            self._tell()
        if face.warning:
            self._warn(face.warning)

    def _refuse(self, line: str) -> None:
        with self._changed:
            self._refused += 1
            self._message = line
            self._tell()
        self._warn(f"skipped: {line}")

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _warn(self, line: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self._on_warning(line)
        elif self._warnings == MAX_WARNINGS + 1:
            self._on_warning("further warnings about standard input are on the page only")

    def face(self, key: str) -> ViewerFace:
        """The face with a key of `news`, or NEWEST.

        Raises:
            InputError: there is none, or no longer.
        """
        with self._changed:
            found = {f"s{number}": face for number, face in self._kept.items()}.get(key)
            found = self._newest if key == NEWEST else found
        if found is None:
            raise InputError(
                f"standard input has no face {key[:20]!r} any more; choose another",
                ErrorCode.NAME_UNKNOWN,
            )
        return found

    def news(self, seen: int, seconds: float, labels: Collection[str]) -> dict[str, Any]:
        """What the page shows of the stream, as JSON.

        Args:
            seen: the `version` of the news that the page has; waits for others.
            seconds: the longest wait.
            labels: those of other faces.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, seconds)
            kept = dict(self._kept)
            found = {
                "version": self._version,
                "state": self._state,
                "count": self._count,
                "refused": self._refused,
                "message": self._message,
            }
        names = Counter(face.name for face in kept.values())
        taken = set(labels)
        choices = []
        for number, face in kept.items():
            label = face.name
            if names[label] > 1 or label in taken:
                label = unused(f"{label} (standard input, face {number + 1})", taken)
            choices.append((f"s{number}", label))
        return {**found, "faces": choices}
