"""Files of rigs and of ARKit weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, read_latents
from facedis_core.data.preparation import Align
from facedis_core.data.topology_map import TopologyMap
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, UsageError, missing_extra
from facedis_core.io.csv_text import read_text
from facedis_core.io.paths import OutputPaths, check_suffix, is_folder_pattern
from facedis_core.io.streams import check_output, open_output
from facedis_core.io.text import shown
from facedis_core.model.model import Model
from facedis_core.pipeline.encode import warn_of_map
from facedis_core.pipeline.onto import OntoDecoder, find_originals
from facedis_core.rig.gltf import encode_glb
from facedis_core.rig.head_rig import Targets, arkit_weights, head_rig
from facedis_core.rig.usd import encode_usdz
from facedis_core.rig.weights import encode_weights, read_weights

_ENCODERS: Final = {".glb": encode_glb, ".usdz": encode_usdz}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and where to; an unusable output is refused before anything is read.

    Attributes:
        output: a .glb or .usdz file, a folder or pattern for one a face, or a .csv file of ARKit
            weights.
        targets, count: morph targets, and number of directions.
        animation: file of ARKit weights (.csv) or latents (.npy); None = at rest.
        fps: frames a second.
        onto: original file of the head, or a folder of them by name; None = decoded faces.
        units, align, trust_order: of originals, as for fd-encode.
        topology_map: takes the targets to originals of another topology; None = there are none.
        force: replace existing files.

    Raises:
        UsageError: errors of `check_suffix` and `check_output`, an animation of weights, or frames
            a second that are not positive; SciPy, pygltflib, or for .usdz usd-core is missing.
    """

    output: str
    targets: Targets = "arkit"
    count: int = 16
    animation: str | None = None
    fps: float = 30.0
    onto: str | None = None
    units: Units = "auto"
    align: Align = "auto"
    trust_order: bool = False
    topology_map: TopologyMap | None = None
    force: bool = False

    def __post_init__(self) -> None:
        try:  # both at once: a message a package would be a second try
            import pygltflib  # noqa: F401
            import scipy  # noqa: F401
        except ImportError:
            raise missing_extra("fd-export", "export") from None
        of_rigs = self.animation is not None or self.onto is not None or self.targets != "arkit"
        if self.is_weights and of_rigs:
            raise UsageError(
                f"{self.output} is a table of ARKit weights; leave out --animation, --onto and "
                "--targets, or give a rig.glb",
                ErrorCode.OPTION_CONFLICT,
            )
        if not 0 < self.fps < np.inf:
            raise UsageError(
                f"{self.fps:g} frames a second, expected a positive number", ErrorCode.OPTION_VALUE
            )
        if not self.is_weights:
            name = Path(OutputPaths(self.output, ".glb").of("face")).name
            check_suffix(name, "a rig", *_ENCODERS)
            if name.lower().endswith(".usdz") and find_spec("pxr") is None:
                raise missing_extra("USD", "usd")
        if not is_folder_pattern(self.output):
            check_output(self.output, self.force)

    @property
    def is_weights(self) -> bool:
        """Whether ARKit weights are written."""
        return Path(self.output).suffix.lower() == ".csv"


def read_rows(source: str, model: Model) -> Latents:
    """Latents of a model from a file, or a plain array with the sizes of its latents.

    Raises:
        InputError: latents of another model, or errors of `read_latents`.
    """
    rows = read_latents(source, sizes=(model.config.identity, model.config.expression))
    rows.check_model(model.id, model.source)
    return rows


def export_weights(options: ExportOptions, model: Model, faces: Latents) -> None:
    """Write the ARKit weights of faces as CSV.

    Raises:
        InputError: latents of another model, or errors of `arkit_weights`.
        OutputError: the file cannot be written.
    """
    table = encode_weights(faces.names, arkit_weights(model, faces))
    with open_output(options.output, force=options.force, binary=False) as stream:
        stream.write(table)


def export_rigs(
    options: ExportOptions,
    model: Model,
    faces: Latents,
    warn: Callable[[str], None],
    *,
    used_map: bool = False,
) -> Iterator[int]:
    """Write a rig a face; yields 1 after each.

    Args:
        options: what is exported.
        model: the model that encoded the faces.
        faces: their latents.
        warn: called with lines about textures and columns of animations that are left out, and a
            map that was not used.
        used_map: whether one of the faces came through the map.

    Raises:
        InputError: latents of another model, no usable original, or errors of `head_rig`.
        UsageError: several faces for one file, or an existing file.
        OutputError: a file cannot be written.
    """
    faces.check_finite()
    frames = _frames(options.animation, model, warn)
    onto = None
    if options.onto is not None:
        onto = OntoDecoder(
            model,
            originals=find_originals(options.onto),
            units=options.units,
            align=options.align,
            trust_order=options.trust_order,
            topology_map=options.topology_map,
        )
    paths = OutputPaths(options.output, ".glb")
    targets = [paths.of(name) for name in faces.names]
    for path in targets:
        check_output(path, options.force, parents=paths.many)
    for row, path in enumerate(targets):
        rig = head_rig(
            model,
            faces,
            row,
            targets=options.targets,
            count=options.count,
            frames=frames,
            fps=options.fps,
            original=None if onto is None else onto.original(faces.names[row]),
        )
        for line in rig.warnings:
            warn(line)
        data = _ENCODERS.get(Path(path).suffix.lower(), encode_glb)(rig)
        with open_output(path, force=options.force, parents=paths.many) as stream:
            stream.write(data)
        yield 1
    used_map = used_map or (onto is not None and onto.used_map) or not len(faces)
    warn_of_map(options.topology_map, used_map, warn)


def _frames(
    source: str | None, model: Model, warn: Callable[[str], None]
) -> Latents | NDArray[np.float64] | None:
    """The frames of an animation."""
    if source is None:
        return None
    if Path(source).suffix.lower() == ".csv":
        return read_weights(read_text(source), shown(source), warn)
    return read_rows(source, model)
