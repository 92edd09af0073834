"""Pictures one after another: faces that turn or change, frame by frame."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from facedis_core.errors import UsageError
from facedis_core.mesh import Mesh
from facedis_core.portraits import Watch, drawn
from facedis_core.render import Picture
from facedis_core.scene import Scene, Style, staged
from facedis_core.sheet import lines_of

TURN: Final = 50.0  # degrees to each side: a face has no back
FPS: Final = 25.0
FASTEST: Final = 50.0  # frames a second: viewers show a GIF of more at a tenth of a second each
_TURN_SECONDS: Final = 4.0
_FEWEST: Final = 4  # frames of a turn: fewer show no side, or only one


@dataclass(frozen=True)
class Motion:
    """How an animation moves.

    Attributes:
        turn: degrees by which faces turn to each side; 0 = one face after another instead, None =
            a single face turns, several come one after another.
        seconds: that a turn to both sides takes, or faces one after another; None = 4 of a turn,
            and of others as the frames a second say.
        fps: frames a second; None = 25, or as many as make faces last the seconds.
        bounce: after the last face go back the same way, so that nothing jumps.
    """

    turn: float | None = None
    seconds: float | None = None
    fps: float | None = None
    bounce: bool = False

    def rate(self, faces: int) -> float:
        """The frames a second of so many faces: as asked, or what makes them last so long.

        Raises:
            UsageError: both are given of faces one after another, or these would be too fast.
        """
        if self.seconds is None or self.angles(faces):
            return self.fps or FPS
        if self.fps is not None:
            raise UsageError(
                f"--seconds and --fps both say how long {faces} faces one by one take; give one"
            )
        count = 2 * faces - 2 if self.bounce and faces > 2 else faces
        if count > FASTEST * self.seconds:
            raise UsageError(
                f"{count} frames in {self.seconds:g} s, expected {FASTEST:g} a second at most; "
                "give more --seconds"
            )
        return count / self.seconds

    def angles(self, faces: int) -> list[float]:
        """Of a turn to one side, to the other and back, which ends as it begins; or none."""
        turn = self.turn
        if turn is None:
            turn = TURN if faces == 1 else 0
        frames = max(round((self.seconds or _TURN_SECONDS) * (self.fps or FPS)), _FEWEST)
        rounds = [2 * math.pi * frame / frames for frame in range(frames)]
        return [-turn * math.sin(angle) for angle in rounds] if turn else []


def frames(
    meshes: Sequence[Mesh],
    style: Style,
    motion: Motion | None,
    *,
    truths: Iterable[Mesh] | None = None,
    jobs: int = 1,
    watch: Watch = lambda pictures, total: pictures,
) -> Iterator[Picture]:
    """The frames of an animation, all of one size; a single one without `motion`.

    Args:
        meshes: the faces, each with its name.
        style: how they are shown.
        motion: None = a still picture.
        truths: as of `staged`.
        jobs: processes that draw.
        watch: sees the pictures of single faces as they are drawn.

    Raises, before anything is drawn:
        UsageError: style or motion ask for what there is not when faces turn, or come one by one.
        InputError: as of `staged`.
    """
    if motion is None:
        return _turning(staged(meshes, style, truths=truths), [0.0], jobs, watch)
    if angles := motion.angles(len(meshes)):
        if motion.bounce:
            raise UsageError(
                "--bounce goes back through faces that come one by one, and a turn comes back by "
                "itself; leave out --bounce, or set --turn 0"
            )
        scene = staged(meshes, style, truths=truths, angles=angles)
        return _turning(scene, angles, jobs, watch)
    if style.columns or style.row_labels or style.column_labels:
        raise UsageError(
            "--columns, --row-labels and --column-labels are of faces side by side, and these come "
            "one by one; leave them out, or let their sheet --turn"
        )
    scene = staged(meshes, style, truths=truths, in_turn=True)
    return _one_by_one(scene, motion.bounce, jobs, watch)


def _turning(scene: Scene, angles: Sequence[float], jobs: int, watch: Watch) -> Iterator[Picture]:
    """The whole sheet, once an angle, by which every face is turned."""
    shots = (
        replace(portrait, views=[view + angle for view in portrait.views])
        for angle in angles
        for portrait in scene.portraits
    )
    faces = len(scene.portraits)
    pictures = iter(watch(drawn(scene.painter, shots, jobs), len(angles) * faces))
    for _ in angles:
        yield scene.sheet.of(list(islice(pictures, faces)))


def _one_by_one(scene: Scene, bounce: bool, jobs: int, watch: Watch) -> Iterator[Picture]:
    """A sheet a face, with its own caption."""
    camera, faces = scene.painter.camera, len(scene.portraits)
    panel = camera.width * len(scene.portraits[0].views)
    captions = scene.sheet.captions
    depth = lines_of(captions, camera.height, panel)
    sheets = [replace(scene.sheet, captions=[caption], depth=depth) for caption in captions]
    pictures = watch(drawn(scene.painter, scene.portraits, jobs), faces)
    done = []
    for picture, sheet in zip(pictures, sheets or [scene.sheet] * faces, strict=True):
        frame = sheet.of([picture])
        yield frame
        if bounce:
            done.append(frame)
    yield from reversed(done[1:-1])
