"""What a file is and whether it is whole: plain values for people and for JSON."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from facedis_core.config import DiscriminatorConfig
from facedis_core.container import KINDS, Container, read_container, stored
from facedis_core.errors import InputError
from facedis_core.faces import meshes_of_file
from facedis_core.faceset import SPLITS, load_face_set
from facedis_core.inference import load_model
from facedis_core.latents import LatentSource, concatenate
from facedis_core.mesh import Mesh, read_meshes, topology_id
from facedis_core.npy import MAGIC
from facedis_core.paths import is_file
from facedis_core.replay import looked_into
from facedis_core.streams import open_input, shown
from facedis_core.verification import verify_container

Facts = dict[str, Any]


def describe(
    source: str, *, verify: bool = False, warn: Callable[[str], None] = lambda line: None
) -> Iterator[Facts]:
    """Facts about a mesh, latents or a file of ours; a pipe may hold more meshes.

    Args:
        source: a path, or `-` for standard input (meshes and latents).
        verify: also look at everything in a file of ours; what was found is `verified`.
        warn: called with a line about what is doubtful but no error.

    Raises:
        InputError: none of these, or not whole.
    """
    for facts in _describe(source, verify, warn):
        yield {"file": source, **facts}


def _describe(source: str, verify: bool, warn: Callable[[str], None]) -> Iterator[Facts]:
    with open_input(source) as opened:
        beginning, stream = looked_into(opened, 16)
        if not beginning:
            raise InputError(
                f"{shown(source)} is empty, expected a mesh, latents, a face set or a model"
            )
        suffix = Path(source).suffix.lower()
        if beginning.startswith(MAGIC) or suffix == ".npy":
            yield _latents(LatentSource(stream, source))
            return
        ours = beginning[8:9] == b"{" or suffix == ".safetensors"
        if not ours and not is_file(source):
            yield from map(_mesh, read_meshes(stream, shown(source)))
            return
    if not ours:
        yield from map(_mesh, meshes_of_file(source))
        return
    if not is_file(source):
        raise InputError(f"{shown(source)} holds a face set or a model; name it as a file")
    container = read_container(source)
    facts = _DESCRIBERS[container.kind](source, container)
    if verify:
        try:
            facts["verified"] = verify_container(source, container, warn)
        except InputError:
            yield facts  # what it is, before what is wrong with it
            raise
    yield facts


def _mesh(mesh: Mesh) -> Facts:
    return {
        "kind": "mesh",
        "name": mesh.name,
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.triangles),
        "topology": topology_id(mesh.triangles),
        "unit": None if mesh.unit_mm is None else "mm",
        "minimum": [float(f"{value:.6g}") for value in mesh.vertices.min(axis=0)],
        "maximum": [float(f"{value:.6g}") for value in mesh.vertices.max(axis=0)],
    }


def _latents(source: LatentSource) -> Facts:
    latents = concatenate(list(source.blocks()))
    return {
        "kind": "latents",
        "models": sorted(set(latents.models)),
        "faces": len(latents),
        "identity": latents.identity.shape[1],
        "expression": latents.expression.shape[1],
        "names": latents.names,
    }


def _face_set(source: str, container: Container) -> Facts:
    faces = load_face_set(source)
    labels = faces.labels
    splits = Counter(np.asarray(labels.split).tolist())
    return {
        "kind": KINDS[container.kind],
        "id": faces.id,
        "source": faces.source,
        "protocol": faces.protocol,
        "faces": len(labels.names),
        "splits": {name: splits[code] for name, code in SPLITS.items()},
        "subjects": len(labels.subjects),
        "neutrals": int(np.isfinite(faces.neutrals[:, 0, 0]).sum()),
        "neutrals_eval": int(np.isfinite(faces.neutrals_eval[:, 0, 0]).sum()),
        "expressions": list(labels.expressions),
        **_registration(container),
        "history": faces.history,
    }


def _model(source: str, container: Container) -> Facts:
    model = load_model(Path(source))
    return {
        "kind": KINDS[container.kind],
        "id": model.id,
        "identity": model.config.identity,
        "expression": model.config.expression,
        "parameters": parameters(model.weights),
        "scale_mm": model.scale,
        "reach_mm": model.reach_mm,
        **_registration(container),
        "config": container.metadata["config"],
        "recipe": model.recipe,
        "metrics": model.metrics,
        "history": model.history,
    }


def _discriminator(source: str, container: Container) -> Facts:
    metadata = container.metadata
    config = DiscriminatorConfig.from_dict(stored(metadata, "config", dict, source))
    return {
        "kind": KINDS[container.kind],
        "id": stored(metadata, "id", str, source),
        "vertices": config.vertices,
        "topology": stored(metadata, "topology", str, source),
        "parameters": parameters(container.tensors),
        "config": metadata["config"],
        "metrics": stored(metadata, "metrics", dict, source),
        "history": stored(metadata, "history", list, source),
    }


def _training(source: str, container: Container) -> Facts:
    """What `fd-train --resume` goes on from."""
    metadata = container.metadata
    return {
        "kind": KINDS[container.kind],
        "epochs_done": stored(metadata, "epoch", dict, source).get("number"),
        "run": stored(metadata, "identity", dict, source),
        "metrics": stored(metadata, "metrics", dict, source),
    }


def parameters(tensors: Mapping[str, np.ndarray]) -> int:
    """How many numbers were learnt; statistics and the frame are none of them."""
    learnt = (a.size for name, a in tensors.items() if name.endswith((".weight", ".bias")))
    return sum(learnt)


def _registration(container: Container) -> Facts:
    """Of face sets and models: the mesh they are made for, and the raw one it comes from."""
    keys = ("topology", "alignment", "raw_vertices", "raw_topology", "raw_unit_mm")
    return {
        "vertices": len(container.tensors["vertex_index"]),
        "triangles": len(container.tensors["triangles"]),
        **{key: container.metadata[key] for key in keys},
    }


_DESCRIBERS: Final[dict[str, Callable[[str, Container], Facts]]] = {
    "faceset": _face_set,
    "model": _model,
    "discriminator": _discriminator,
    "training": _training,
}
