"""Pictures one after another: faces that turn or change, frame by frame."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from facedis_core.contact_sheet import count_caption_lines
from facedis_core.draw_faces import ProgressWrapper, draw_faces
from facedis_core.errors import UsageError
from facedis_core.mesh import Mesh
from facedis_core.scene import Scene, SceneOptions, build_scene
from facedis_core.shading import Picture

TURN: Final = 50.0  # degrees to each side: a face has no back
FPS: Final = 25.0
MAX_FPS: Final = 50.0  # frames a second: viewers show a GIF of more at a tenth of a second each
_TURN_SECONDS: Final = 4.0
_MIN_FRAMES: Final = 4  # frames of a turn: fewer show no side, or only one


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

    def frame_rate(self, faces: int) -> float:
        """The frames a second of so many faces: as asked, or what makes them last so long.

        Raises:
            UsageError: both are given of faces one after another, or these would be too fast.
        """
        if self.seconds is None or self.turn_angles(faces):
            return self.fps or FPS
        if self.fps is not None:
            raise UsageError(
                f"--seconds and --fps both say how long {faces} faces one by one take; give one"
            )
        count = 2 * faces - 2 if self.bounce and faces > 2 else faces
        if count > MAX_FPS * self.seconds:
            raise UsageError(
                f"{count} frames in {self.seconds:g} s, expected {MAX_FPS:g} a second at most; "
                "give more --seconds"
            )
        return count / self.seconds

    def turn_angles(self, faces: int) -> list[float]:
        """Of a turn to one side, to the other and back, which ends as it begins; or none."""
        turn = self.turn
        if turn is None:
            turn = TURN if faces == 1 else 0
        frames = max(round((self.seconds or _TURN_SECONDS) * (self.fps or FPS)), _MIN_FRAMES)
        rounds = [2 * math.pi * frame / frames for frame in range(frames)]
        return [-turn * math.sin(angle) for angle in rounds] if turn else []


def render_frames(
    meshes: Sequence[Mesh],
    options: SceneOptions,
    motion: Motion | None,
    *,
    truths: Iterable[Mesh] | None = None,
    jobs: int = 1,
    progress: ProgressWrapper = lambda pictures, total: pictures,
) -> Iterator[Picture]:
    """The frames of an animation, all of one size; a single one without `motion`.

    Args:
        meshes: the faces, each with its name.
        options: how they are drawn.
        motion: None = a still picture.
        truths: as of `build_scene`.
        jobs: processes that draw.
        progress: sees the pictures of single faces as they are drawn.

    Raises, before anything is drawn:
        UsageError: options or motion ask for what there is not when faces turn, or come one by one.
        InputError: as of `build_scene`.
    """
    if motion is None:
        return _turning(build_scene(meshes, options, truths=truths), [0.0], jobs, progress)
    if angles := motion.turn_angles(len(meshes)):
        if motion.bounce:
            raise UsageError(
                "--bounce goes back through faces that come one by one, and a turn comes back by "
                "itself; leave out --bounce, or set --turn 0"
            )
        scene = build_scene(meshes, options, truths=truths, angles=angles)
        return _turning(scene, angles, jobs, progress)
    if options.columns or options.row_labels or options.column_labels:
        raise UsageError(
            "--columns, --row-labels and --column-labels are of faces side by side, and these come "
            "one by one; leave them out, or let their sheet --turn"
        )
    scene = build_scene(meshes, options, truths=truths, one_by_one=True)
    return _one_by_one(scene, motion.bounce, jobs, progress)


def _turning(
    scene: Scene, angles: Sequence[float], jobs: int, progress: ProgressWrapper
) -> Iterator[Picture]:
    """The whole sheet, once an angle, by which every face is turned."""
    shots = (
        replace(face, views=[view + angle for view in face.views])
        for angle in angles
        for face in scene.faces
    )
    faces = len(scene.faces)
    pictures = iter(progress(draw_faces(scene.renderer, shots, jobs), len(angles) * faces))
    for _ in angles:
        yield scene.sheet.compose(list(islice(pictures, faces)))


def _one_by_one(
    scene: Scene, bounce: bool, jobs: int, progress: ProgressWrapper
) -> Iterator[Picture]:
    """A sheet a face, with its own caption."""
    camera, faces = scene.renderer.camera, len(scene.faces)
    panel = camera.width * len(scene.faces[0].views)
    captions = scene.sheet.captions
    lines = count_caption_lines(captions, camera.height, panel)
    sheets = [replace(scene.sheet, captions=[caption], caption_lines=lines) for caption in captions]
    pictures = progress(draw_faces(scene.renderer, scene.faces, jobs), faces)
    done = []
    for picture, sheet in zip(pictures, sheets or [scene.sheet] * faces, strict=True):
        frame = sheet.compose([picture])
        yield frame
        if bounce:
            done.append(frame)
    yield from reversed(done[1:-1])
