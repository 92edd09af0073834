"""Animations: faces that turn, or faces one after another, frame by frame."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.io.progress import Progress, no_progress
from facedis_core.mesh.mesh import Mesh
from facedis_core.render.contact_sheet import count_caption_lines
from facedis_core.render.scene import Scene, SceneOptions, build_scene, render_faces
from facedis_core.render.shading import Picture
from facedis_core.render.surface_texture import SurfaceTexture

TURN: Final = 50.0  # degrees to each side
FPS: Final = 25.0
MAX_FPS: Final = 50.0  # viewers slow a faster GIF down to 10 frames per second
_TURN_SECONDS: Final = 4.0
_MIN_TURN_FRAMES: Final = 4  # fewer would not show both sides


@dataclass(frozen=True)
class Motion:
    """Motion and speed of an animation.

    Attributes:
        turn: degrees that faces turn to each side; 0 = show one face after another, None = turn a
            single face and show several one after another.
        seconds: duration of a turn to both sides, or of all faces; None = 4 for a turn, else by
            the frame rate.
        fps: frames per second; None = 25, or as `seconds` needs.
        bounce: after the last face go back to the first.
    """

    turn: float | None = None
    seconds: float | None = None
    fps: float | None = None
    bounce: bool = False

    def frame_rate(self, faces: int) -> float:
        """Frames per second for that number of faces.

        Raises:
            UsageError: both `seconds` and `fps` are given for faces one after another, or the rate
                would exceed MAX_FPS.
        """
        if self.seconds is None or self.turn_angles(faces):
            return self.fps or FPS
        if self.fps is not None:
            raise UsageError(
                f"--seconds and --fps both set the duration of {faces} faces one after another; "
                "give one of them",
                ErrorCode.OPTION_CONFLICT,
            )
        count = 2 * faces - 2 if self.bounce and faces > 2 else faces
        if count > MAX_FPS * self.seconds:
            raise UsageError(
                f"{count} frames in {self.seconds:g} s, expected at most {MAX_FPS:g} per second; "
                "give more --seconds",
                ErrorCode.OPTION_VALUE,
            )
        return count / self.seconds

    def turn_angles(self, faces: int) -> list[float]:
        """Degrees of each frame of a turn to both sides and back; empty = faces do not turn."""
        turn = self.turn
        if turn is None:
            turn = TURN if faces == 1 else 0
        count = round((self.seconds or _TURN_SECONDS) * (self.fps or FPS))
        count = max(count, _MIN_TURN_FRAMES)
        phases = [2 * math.pi * frame / count for frame in range(count)]
        return [-turn * math.sin(phase) for phase in phases] if turn else []


def render_frames(
    meshes: Sequence[Mesh],
    options: SceneOptions,
    motion: Motion | None,
    *,
    truths: Iterable[Mesh] | None = None,
    textures: Sequence[SurfaceTexture | None] = (),
    jobs: int = 1,
    progress: Progress = no_progress,
) -> Iterator[Picture]:
    """The frames of an animation, all of one size; a single frame without `motion`.

    Args:
        meshes: the faces, each with its name.
        options: views, size, labels and colors.
        motion: None = a still picture.
        truths: true meshes; faces are colored by their vertex errors.
        textures: of the meshes; empty = none.
        jobs: number of worker processes.
        progress: counts the pictures of single faces.

    Raises, before anything is drawn:
        UsageError: options that do not suit this motion, or labels that do not fit.
        InputError: meshes that do not correspond to their truths.
    """
    if motion is None:
        return _turning(
            build_scene(meshes, options, truths=truths, textures=textures), [0.0], jobs, progress
        )
    if angles := motion.turn_angles(len(meshes)):
        if motion.bounce:
            raise UsageError(
                "--bounce is for faces one after another, and a turn goes back by itself; leave "
                "out --bounce, or give --turn 0",
                ErrorCode.OPTION_CONFLICT,
            )
        scene = build_scene(meshes, options, truths=truths, textures=textures, angles=angles)
        return _turning(scene, angles, jobs, progress)
    if options.columns or options.row_labels or options.column_labels:
        raise UsageError(
            "--columns, --row-labels and --column-labels are for faces side by side, and these are "
            "shown one after another; leave them out, or give --turn DEGREES",
            ErrorCode.OPTION_CONFLICT,
        )
    scene = build_scene(meshes, options, truths=truths, textures=textures, one_by_one=True)
    return _one_by_one(scene, motion.bounce, jobs, progress)


def _turning(
    scene: Scene, angles: Sequence[float], jobs: int, progress: Progress
) -> Iterator[Picture]:
    """The whole sheet at each angle."""
    turned_faces = (
        replace(face, views=[view + angle for view in face.views])
        for angle in angles
        for face in scene.faces
    )
    count = len(scene.faces)
    pictures = render_faces(scene.renderer, turned_faces, jobs)
    with progress("drawing", len(angles) * count) as advance:
        for _ in angles:
            panels = []
            for picture in islice(pictures, count):
                panels.append(picture)
                advance(1)
            yield scene.sheet.compose(panels)


def _one_by_one(scene: Scene, bounce: bool, jobs: int, progress: Progress) -> Iterator[Picture]:
    """A sheet per face, with its own caption."""
    camera, count = scene.renderer.camera, len(scene.faces)
    width = camera.width * len(scene.faces[0].views)
    captions = scene.sheet.captions
    lines = count_caption_lines(captions, camera.height, width)
    sheets = [replace(scene.sheet, captions=[caption], caption_lines=lines) for caption in captions]
    pictures = render_faces(scene.renderer, scene.faces, jobs)
    frames = []
    with progress("drawing", count) as advance:
        for picture, sheet in zip(pictures, sheets or [scene.sheet] * count, strict=True):
            frame = sheet.compose([picture])
            advance(1)
            yield frame
            if bounce:
                frames.append(frame)
    yield from reversed(frames[1:-1])
