"""fd-render: options, inputs, and frames of a contact sheet or an animation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

from facedis_core.data.latents import LatentSource
from facedis_core.data.units import BatchUnits, Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.vertex_order import describe_order
from facedis_core.io.csv_text import brief
from facedis_core.io.paths import is_file
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.streams import naming, read_all
from facedis_core.mesh.appearance import read_appearance
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.vertex_checks import check_extent
from facedis_core.model.model import Model, Part
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.decode import LatentDecoder, checked_rows
from facedis_core.pipeline.inputs import find_inputs
from facedis_core.render.animation import Motion, render_frames
from facedis_core.render.image_files import ImageFormat, image_format
from facedis_core.render.scene import SceneOptions
from facedis_core.render.shading import Picture
from facedis_core.render.surface_texture import SurfaceTexture, surface_texture


@dataclass(frozen=True)
class RenderOptions:
    """Faces to draw and how.

    Attributes:
        sources: inputs as of `find_inputs`; latents are decoded.
        root: folder that names of meshes are paths below, as of `find_inputs`.
        output: name of the output; its suffix decides the format.
        scene: views, size, labels and colors.
        motion: of an animation.
        against: true meshes that faces are colored by their distances to.
        units: unit of meshes that do not declare one; `auto` = by the size of the first.
        texture: draw the textures, or the colors of vertices, of OBJ and PLY files.
        model: path or bundled name of the model of latents and vertices; None = the default.
        part: of latents.
        jobs: number of worker processes.

    Raises:
        UsageError: options that do not go together, an unknown format, or one that needs PyAV
            where that is not installed.
    """

    sources: Sequence[str]
    output: str
    scene: SceneOptions
    motion: Motion
    against: str | None = None
    units: Units = "auto"
    texture: bool = True
    model: str | None = None
    part: Part = "full"
    root: str | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if not self.format.animated and self.motion != Motion():
            raise UsageError(
                f"{self.output} is a still picture; --turn, --seconds, --fps and --bounce need "
                "-o with a .gif, .webp or .mp4",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.scene.scale is not None and self.against is None:
            raise UsageError(
                "--range is the range of distances to --against TRUTH; give both",
                ErrorCode.OPTION_MISSING,
            )

    @cached_property
    def format(self) -> ImageFormat:
        """Format of the output."""
        return image_format(self.output, transparent=self.scene.background.color is None)


class Drawing(NamedTuple):
    """Frames of an animation and their number per second; a still picture is one frame."""

    frames: Iterator[Picture]
    fps: float


def draw_faces(
    options: RenderOptions,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = lambda line: None,
) -> Drawing:
    """Read all faces, and draw them frame by frame as the frames are taken.

    `warn` is called with the warnings of meshes, and with a line about the first face whose
    vertices seem to be in another order.

    Raises, before anything is drawn:
        UsageError: options that do not suit these faces.
        InputError: unusable faces, or meshes that do not correspond to their truths.
    """
    model_meshes = ModelMeshes(options.model, options.part)

    textures: list[SurfaceTexture | None] = []

    def read(sources: Sequence[str], root: str | None = None, textured: bool = False) -> list[Mesh]:
        faces = find_inputs(sources, root=root, decode=model_meshes.decode)
        units, meshes = BatchUnits(options.units), list[Mesh]()
        with progress("reading", faces.count) as advance:
            for item in faces.items:
                before = len(meshes)
                for mesh in item.load():
                    with naming(item.source):
                        check_extent(mesh.vertices)
                    meshes.append(units.in_mm(model_meshes.with_triangles(mesh)))
                if textured and len(meshes) == before + 1:
                    textures.append(_texture_of(item.source, mesh, warn))
                else:
                    textures.extend([None] * (len(meshes) - before if textured else 0))
                advance(1)
        for line in (line for mesh in meshes for line in mesh.warnings):
            warn(line)
        return meshes

    meshes = read(options.sources, options.root, options.texture and options.against is None)
    doubts = (describe_order(mesh.name, mesh.vertices, mesh.triangles) for mesh in meshes)
    if doubt := next(filter(None, doubts), ""):
        warn(doubt)
    truths = read([options.against]) if options.against is not None else None
    if not model_meshes.model_used and (options.part != "full" or options.model is not None):
        raise UsageError(
            "--part and --model are for latents, but all inputs are meshes",
            ErrorCode.OPTION_CONFLICT,
        )
    fps = options.format.nearest_fps(options.motion.frame_rate(len(meshes)))
    frames = render_frames(
        meshes,
        options.scene,
        replace(options.motion, fps=fps) if options.format.animated else None,
        truths=truths,
        textures=textures,
        jobs=options.jobs,
        progress=progress,
    )
    return Drawing(frames, fps)


def _texture_of(source: str, mesh: Mesh, warn: Callable[[str], None]) -> SurfaceTexture | None:
    """The texture of a mesh that a file holds, if it has one that is known."""
    if Path(source).suffix.lower() not in (".obj", ".ply") or not is_file(source):
        return None
    look = read_appearance(source, read_all(source), mesh)
    for line in look.warnings:
        warn(line)
    try:
        with naming(source):
            return surface_texture(look)
    except InputError as error:
        warn(str(error))
        return None


class ModelMeshes:
    """Meshes by a model: of latents, and of vertices without triangles.

    Attributes:
        model_used: whether the model was needed; it is loaded then.
    """

    def __init__(self, model: str | None, part: Part = "full") -> None:
        """`model` as of `load_model`; `part` of latents."""
        self._name, self._part = model, part
        self.model_used = False

    @cached_property
    def _model(self) -> Model:
        self.model_used = True
        return load_model(self._name)

    def decode(self, stream: BinaryIO, source: str) -> Iterator[Mesh]:
        """The faces of the latents in a stream; raises what `checked_rows` does."""
        decoder = LatentDecoder(self._model)
        for rows in checked_rows(LatentSource(stream, source), decoder.model, "-"):
            yield from (decoder.mesh(rows, row, self._part) for row in range(len(rows)))

    def with_triangles(self, mesh: Mesh) -> Mesh:
        """The mesh, with the model's triangles if it has none.

        Raises:
            InputError: it has neither triangles nor as many vertices as the model.
        """
        if len(mesh.triangles):
            return mesh
        if len(mesh.vertices) != self._model.config.vertices:
            raise InputError(
                f"{brief(mesh.name) if mesh.name else 'mesh'} has {len(mesh.vertices)} vertices "
                f"and no triangles, and model {self._model.source} has "
                f"{self._model.config.vertices}; give a mesh with triangles, or the --model of "
                "these vertices",
                ErrorCode.NO_TRIANGLES,
            )
        return replace(mesh, triangles=self._model.triangles)
