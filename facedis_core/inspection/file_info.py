"""Facts about meshes, latents, face sets, models, discriminators: what fd-info prints."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from facedis_core.data.face_set import SPLITS, parse_face_set
from facedis_core.data.history import HistoryStep, with_output
from facedis_core.data.latents import LatentSource, array_kind, concatenate
from facedis_core.data.regions import describe_region
from facedis_core.data.topology_map import parse_map
from facedis_core.data.units import extent_of, unit_by_size
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.vertex_order import describe_order
from facedis_core.inspection.verification import verify_file
from facedis_core.io.npy import MAGIC, peek_header
from facedis_core.io.paths import files_below, is_file, is_folder
from facedis_core.io.safetensors_file import KINDS, SafetensorsFile, parse_record, read_safetensors
from facedis_core.io.streams import naming, open_input, read_ahead, read_up_to
from facedis_core.io.text import shown
from facedis_core.mesh.mesh import CODECS, Mesh, mesh_files, read_mesh, read_meshes, topology_id
from facedis_core.mesh.meshio_formats import MESHIO_SUFFIXES
from facedis_core.model.config import DiscriminatorConfig, DiscriminatorMetadata
from facedis_core.model.model_file import parse_model
from facedis_core.pipeline.file_meshes import read_file_meshes
from facedis_core.pipeline.inputs import array_items
from facedis_core.pipeline.shards import parse_label
from facedis_core.registration.prior import parse_prior

Facts = dict[str, Any]
_MOST_REPORT_BYTES: Final = 1 << 26


def describe(
    source: str, *, verify: bool = False, warn: Callable[[str], None] = lambda line: None
) -> Iterator[Facts]:
    """Facts about a mesh, an array or a file of ours; a pipe may hold more meshes.

    Args:
        source: a path, or `-` for standard input (meshes and arrays).
        verify: also look at everything in a file of ours; what was found is `verified`.
        warn: called with a line about what is doubtful but no error.

    Raises:
        InputError: none of these, or not whole.
    """
    for facts in _describe(source, verify, warn):
        yield {"file": source, **facts}


def _describe(source: str, verify: bool, warn: Callable[[str], None]) -> Iterator[Facts]:
    if is_folder(source):
        yield _folder(Path(source))
        return
    with open_input(source) as opened:
        beginning, stream = read_ahead(opened, 16)
        if not beginning:
            raise InputError(
                f"{shown(source)} is empty, expected a mesh, latents, a face set or a model",
                ErrorCode.EMPTY,
            )
        suffix = Path(source).suffix.lower()
        if beginning.startswith(MAGIC) or suffix == ".npy":
            with naming(source):
                header, stream = peek_header(stream)
                label = None if header is None else parse_label(header)
                part = {} if label is None else {"shard": str(label[0]), "work": label[1]}
                kind = array_kind(header) if header is not None else "latents"
            if kind == "vertices":
                yield _vertices(stream, source)
            elif header is not None and header.dtype.names is None:
                yield _plain_latents(stream, source, header.shape[1])
            elif part and header is not None and "identity" not in (header.dtype.names or ()):
                yield {"kind": "part of fd-prep or fd-metrics", **part}
            else:
                yield {**_latents(stream, source, may_be_empty=bool(part)), **part}
            return
        if beginning[:1] == b"{" and suffix == ".json":
            yield _report(stream, source)
            return
        ours = beginning[8:9] == b"{" or suffix == ".safetensors"
        if not ours and not is_file(source):
            yield from _meshes(read_meshes(stream, shown(source)), warn)
            return
    if not ours:
        yield from _meshes(read_file_meshes(source), warn)
        return
    if not is_file(source):
        raise InputError(
            f"{shown(source)} holds a face set or a model; name it as a file", ErrorCode.WRONG_KIND
        )
    file = read_safetensors(source)
    with naming(source):
        facts = _DESCRIBERS[file.kind](file)
    if verify:
        try:
            facts["verified"] = verify_file(source, file, warn)
        except InputError:
            yield facts  # what it is, before what is wrong with it
            raise
    yield facts


@dataclass(frozen=True)
class _Made:
    """The metadata of any file but a training state that tell how it was made."""

    history: list[HistoryStep]
    id: str


def made_with(source: str) -> list[HistoryStep]:
    """The commands that made a face set, a model or a discriminator, oldest first.

    The last one has the id of the file as its output.

    Raises:
        InputError: another file, or one that does not say how it was made.
    """
    file = read_safetensors(source)
    with naming(source):
        if file.kind == "training":
            raise InputError(
                f"is a {KINDS[file.kind]}, which has no history; give the model",
                ErrorCode.HISTORY_MISSING,
            )
        made = parse_record(_Made, file.metadata)
        if not made.history:
            raise InputError(
                "does not say how it was made: it was written with --no-history",
                ErrorCode.HISTORY_MISSING,
            )
        return with_output(made.history, made.id)


def _meshes(meshes: Iterable[Mesh], warn: Callable[[str], None]) -> Iterator[Facts]:
    """Facts about meshes; warns of what is doubtful, once of the order of vertices."""
    warned = False
    for mesh in meshes:
        for line in mesh.warnings:
            warn(line)
        if not warned and (doubt := describe_order(mesh.name, mesh.vertices, mesh.triangles)):
            warn(doubt)
            warned = True
        yield _mesh(mesh)


def _mesh(mesh: Mesh) -> Facts:
    return {
        "kind": "mesh",
        "name": mesh.name,
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.triangles),
        "topology": topology_id(mesh.triangles),
        "unit": None if mesh.unit_mm is None else "mm",
        "unit_by_size": _unit_by_size(mesh) if mesh.unit_mm is None else None,
        "minimum": _rounded(mesh.vertices.min(axis=0)),
        "maximum": _rounded(mesh.vertices.max(axis=0)),
    }


def _unit_by_size(mesh: Mesh) -> str | None:
    with suppress(InputError):  # no unit, or two that would do
        return unit_by_size(extent_of(mesh.vertices), mesh.name)
    return None


def _folder(folder: Path) -> Facts:
    """Numbers of files by kind, and the first mesh."""
    names = files_below(folder, broken_links=True)
    suffixes = Counter(Path(name).suffix.lower() for name in names)
    readable = (*CODECS, *MESHIO_SUFFIXES)
    meshes = {suffix: count for suffix, count in suffixes.items() if suffix in readable}
    facts: Facts = {
        "kind": "folder",
        "files": len(names),
        "meshes": sum(meshes.values()),
        "formats": dict(sorted(meshes.items())),
        "arrays": suffixes[".npy"],
        "safetensors": suffixes[".safetensors"],
    }
    if meshes:
        first = mesh_files(folder)[0]
        mesh = read_mesh(first)
        facts |= {"first": str(first.relative_to(folder)), "vertices": len(mesh.vertices)}
        facts |= {"topology": topology_id(mesh.triangles)}
    return facts


def _report(stream: BinaryIO, source: str) -> Facts:
    """Facts about a report of fd-metrics or fd-prep."""
    with naming(source):
        try:
            found = json.loads(read_up_to(stream, _MOST_REPORT_BYTES))
        except (ValueError, RecursionError):
            raise InputError("is not JSON", ErrorCode.WRONG_KIND) from None
        if "provenance" in found:
            means = {
                key: value["mean"]
                for key, value in (found.get("model") or {}).items()
                if isinstance(value, dict) and "mean" in value
            }
            return {"kind": "report of fd-metrics", **found["provenance"], "means": means}
        if "left_out" in found:
            left_out = {key: len(value) for key, value in found["left_out"].items() if value}
            keys = ("source", "protocol", "faces")
            facts = {key: found.get(key) for key in keys}
            return {"kind": "report of fd-prep", **facts, "left_out": left_out}
        raise InputError(
            "is JSON, but no report; expected one of fd-metrics --json or fd-prep",
            ErrorCode.WRONG_KIND,
        )


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _vertices(stream: BinaryIO, source: str) -> Facts:
    """Facts about the faces that `fd-decode --npy` writes, read one at a time."""
    counts: set[int] = set()
    extents = []
    for item in array_items(stream, source):
        for mesh in item.load():
            counts.add(len(mesh.vertices))
            extents.append((mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)))
    if len(counts) > 1:
        raise InputError(
            f"{shown(source)} holds faces of {min(counts)} and of {max(counts)} vertices; "
            "expected one number",
            ErrorCode.VERTEX_COUNT,
        )
    lows, highs = zip(*extents, strict=True)
    return {
        "kind": "vertices",
        "faces": len(extents),
        "vertices": counts.pop(),
        "minimum": _rounded(np.min(lows, axis=0)),
        "maximum": _rounded(np.max(highs, axis=0)),
    }


def _latents(stream: BinaryIO, source: str, *, may_be_empty: bool) -> Facts:
    opened = LatentSource(stream, source)
    latents = concatenate(list(opened.blocks(may_be_empty=may_be_empty)))
    return {
        "kind": "latents",
        "models": sorted(set(latents.models)),
        "faces": len(latents),
        "identity": latents.identity.shape[1],
        "expression": latents.expression.shape[1],
        "names": latents.names,
    }


def _plain_latents(stream: BinaryIO, source: str, columns: int) -> Facts:
    """Facts about rows of floats, of which only a model knows where the expression begins."""
    latents = concatenate(list(LatentSource(stream, source).blocks((columns, 0))))
    return {"kind": "latents", "faces": len(latents), "columns": columns}


def _face_set(file: SafetensorsFile) -> Facts:
    faces = parse_face_set(file)
    labels = faces.labels
    splits = Counter(np.asarray(labels.split).tolist())
    return {
        "kind": KINDS[file.kind],
        "id": faces.id,
        "source": faces.source,
        "protocol": faces.protocol,
        "faces": len(labels.names),
        "splits": {name: splits[code] for name, code in SPLITS.items()},
        "subjects": len(labels.subjects),
        "neutrals": int(np.isfinite(faces.neutrals[:, 0, 0]).sum()),
        "neutrals_eval": int(np.isfinite(faces.neutrals_eval[:, 0, 0]).sum()),
        "expressions": list(labels.expressions),
        "region": None if faces.region is None else describe_region(faces.region),
        **_registration(file),
        "history": _as_json(faces.history),
    }


def _model(file: SafetensorsFile) -> Facts:
    model = parse_model(file, "")
    return {
        "kind": KINDS[file.kind],
        "id": model.id,
        "identity": model.config.identity,
        "expression": model.config.expression,
        "parameters": parameters(model.weights),
        "scale_mm": model.scale,
        "reach_mm": model.reach_mm,
        **_registration(file),
        "config": file.metadata["config"],
        "recipe": model.recipe,
        "metrics": model.metrics,
        "history": _as_json(model.history),
    }


def _prior(file: SafetensorsFile) -> Facts:
    prior = parse_prior(file, "")
    return {
        "kind": KINDS[file.kind],
        "id": prior.id,
        "components": prior.basis.shape[2],
        "expressions": list(prior.expressions),
        "limits": asdict(prior.limits),
        **_registration(file),
        "history": _as_json(prior.history),
    }


def _map(file: SafetensorsFile) -> Facts:
    found = parse_map(file, "")
    return {
        "kind": KINDS[file.kind],
        "id": found.id,
        "rig_vertices": len(found.rig),
        "rig_triangles": len(found.rig_triangles),
        "rig_topology": found.rig_topology,
        "rig_unit_mm": float(f"{found.unit_mm:.6g}"),
        "vertices": len(found.face),
        "triangles": len(found.triangles),
        "topology": found.topology,
        **{key: float(f"{value:.4g}") for key, value in asdict(found.quality).items()},
        "history": _as_json(found.history),
    }


@dataclass(frozen=True)
class _BlendshapesMetadata:
    """The metadata of a table of blendshapes."""

    names: list[str]
    topology: str


def _blendshapes(file: SafetensorsFile) -> Facts:
    return {"kind": KINDS[file.kind], **asdict(parse_record(_BlendshapesMetadata, file.metadata))}


def _discriminator(file: SafetensorsFile) -> Facts:
    metadata = parse_record(DiscriminatorMetadata, file.metadata)
    config = DiscriminatorConfig.from_dict(metadata.config)
    return {
        "kind": KINDS[file.kind],
        "id": metadata.id,
        "vertices": config.vertices,
        "topology": metadata.topology,
        "parameters": parameters(file.tensors),
        "config": metadata.config,
        "metrics": metadata.metrics,
        "history": _as_json(metadata.history),
    }


@dataclass(frozen=True)
class _TrainingMetadata:
    """The metadata of a training state that people want to know."""

    epoch: dict[str, Any]
    identity: dict[str, Any]
    metrics: dict[str, Any]


def _training(file: SafetensorsFile) -> Facts:
    """Facts about a checkpoint (`fd-train --resume`)."""
    metadata = parse_record(_TrainingMetadata, file.metadata)
    return {
        "kind": KINDS[file.kind],
        "epochs_done": metadata.epoch.get("number"),
        "run": metadata.identity,
        "metrics": metadata.metrics,
    }


def _as_json(history: Sequence[HistoryStep]) -> list[dict[str, Any]]:
    return [step.as_json() for step in history]


def parameters(tensors: Mapping[str, np.ndarray]) -> int:
    """Number of trained parameters, without batch statistics and the coordinate frame."""
    learnt = (a.size for name, a in tensors.items() if name.endswith((".weight", ".bias")))
    return sum(learnt)


def _registration(file: SafetensorsFile) -> Facts:
    """Topology of a face set or model, and of its raw meshes."""
    keys = ("topology", "alignment", "raw_vertices", "raw_topology", "raw_unit_mm")
    return {
        "vertices": len(file.tensors["vertex_index"]),
        "triangles": len(file.tensors["triangles"]),
        **{key: file.metadata[key] for key in keys},
    }


_DESCRIBERS: Final[dict[str, Callable[[SafetensorsFile], Facts]]] = {
    "faceset": _face_set,
    "model": _model,
    "discriminator": _discriminator,
    "training": _training,
    "prior": _prior,
    "map": _map,
    "blendshapes": _blendshapes,
}
