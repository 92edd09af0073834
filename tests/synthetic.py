"""Small made-up face sets, models and latents for tests, on a bent grid."""

import numpy as np

from facedis_core.data.face_set import FaceSet, Labels, face_set_writer
from facedis_core.data.history import HistoryStep
from facedis_core.data.latents import Latents
from facedis_core.data.preparation import Preparation
from facedis_core.io.safetensors_file import write_safetensors
from facedis_core.mesh.mesh import topology_id
from facedis_core.model.config import LinearConfig, PointNetConfig
from facedis_core.model.model import Model

GRID = 6
MODEL_ID, OTHER_ID = "0123456789ab", "ba9876543210"


def grid_mesh(size=GRID):
    """Vertices (size^2, 3) mm and triangles of a bent square sheet of 100 mm."""
    x, y = np.meshgrid(np.linspace(-50, 50, size), np.linspace(-50, 50, size))
    vertices = np.stack([x, y, 30 - (x**2 + y**2) / 100], axis=-1).reshape(-1, 3)
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + size], axis=1),
            np.stack([corner + 1, corner + size + 1, corner + size], axis=1),
        ]
    )
    return vertices.astype(np.float32), triangles.astype(np.int32)


def labels(subjects=10, expressions=4, test=3, seed=0):
    """Every subject with every expression, the first neutral; the last `test` subjects are test."""
    subject = np.repeat(np.arange(subjects, dtype=np.int32), expressions)
    expression = np.tile(np.arange(expressions, dtype=np.int32), subjects)
    people = [f"person{s}" for s in range(subjects)]
    kinds = ["neutral", *(f"expression{e}" for e in range(1, expressions))]
    return Labels(
        names=[f"{people[s]}/{kinds[e]}" for s, e in zip(subject, expression, strict=True)],
        subjects=people,
        expressions=kinds,
        subject=subject,
        expression=expression,
        level=(expression > 0).astype(np.float32),
        split=(subject >= subjects - test).astype(np.uint8),
    )


def face_set(*, neutrals=True, size=GRID, seed=0, **sizes):
    """A FaceSet in memory: grid + identity (5 directions) + expression + 0.02 mm of noise."""
    rng = np.random.default_rng(seed)
    known = labels(**sizes)
    mean, triangles = grid_mesh(size)
    people, kinds = len(known.subjects), len(known.expressions)
    directions = rng.normal(0, 2, (5, *mean.shape))
    neutral = mean + np.einsum("sd,dvc->svc", rng.normal(size=(people, 5)), directions)
    offset = rng.normal(0, 1, (kinds, *mean.shape))
    offset[0] = 0
    vertices = neutral[known.subject] + offset[known.expression]
    vertices += rng.normal(0, 0.02, vertices.shape) * (known.level > 0)[:, None, None]
    stored = (neutral if neutrals else np.full_like(neutral, np.nan)).astype(np.float32)
    preparation = Preparation(
        triangles, np.arange(len(mean), dtype=np.int32), len(mean), topology_id(triangles), 1.0
    )
    return FaceSet(
        vertices.astype(np.float32), known, stored, stored.copy(), preparation, "made-up", "", ""
    )


def write_face_set(path, faces):
    """Write a face set made by `face_set` to a file and return its path."""
    with (
        path.open("w+b") as stream,
        face_set_writer(
            stream,
            faces.labels,
            faces.preparation,
            source=faces.source,
            protocol=faces.protocol,
            region=faces.region,
        ) as writer,
    ):
        for name in ("vertices", "neutrals", "neutrals_eval"):
            getattr(writer, name)[...] = getattr(faces, name)
    return path


def write_discriminator(path):
    """Write as much of a discriminator as fd-info looks at, with a wrong id; returns its path."""
    metadata = {
        "config": {"vertices": 36, "batch_norm": False, "points": None},
        "topology": "0" * 12,
        "metrics": {"accuracy": 0.9},
        "history": [{"command": "fd-pretrain-disc", "version": "0.1", "inputs": {"set": "1" * 12}}],
        "id": "1" * 12,
    }
    with path.open("w+b") as stream:
        tensors = {"layer.weight": np.ones((2, 3), np.float32)}
        write_safetensors(stream, "discriminator", tensors, metadata)
    return path


def random_model(size=6, scale=165.0, seed=0, **sizes):
    """A model with random weights, as wild as those of a trained one, on a grid of size^2."""
    rng = np.random.default_rng(seed)
    mean_face, triangles = grid_mesh(size)
    options = {"identity": 64, "expression": 64} | sizes
    kind = LinearConfig if "components" in options else PointNetConfig
    config = kind(len(mean_face), **options)
    weights = {}
    for name, shape in config.weight_shapes().items():
        fan_in = shape[-1] if len(shape) == 2 else 16
        weights[name] = rng.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
        if name.endswith("running_var"):
            weights[name] = rng.uniform(0.05, 2, shape).astype(np.float32)
        elif name.endswith("norm.weight"):  # a gain may be negative
            weights[name] += np.float32(1)
        elif name in ("deviation", "encoder.spread"):
            weights[name] = rng.uniform(0.01, 0.1, shape).astype(np.float32)
        elif "decoder.output" in name:
            weights[name] *= np.float32(0.02)
        elif name == "encoder.points":
            weights[name] = np.sort(rng.permutation(len(mean_face))[: shape[0]]).astype(np.int32)
    return Model(
        config=config,
        weights=weights,
        mean_face=mean_face,
        origin=np.array([1.5, -2.5, 3.5], np.float32),
        scale=scale,
        preparation=Preparation(
            triangles,
            np.arange(len(mean_face), dtype=np.int32),
            len(mean_face),
            topology_id(triangles),
            1.0,
        ),
        reach_mm=5.0,
        recipe={"batch": 8},
        metrics={"e_rec": {"mean": 1.5}},
        history=[HistoryStep("fd-train")],
    )


def latents(names, model=MODEL_ID, identity=3, expression=2, seed=0):
    """Random latents with these names; strings name one row a letter."""
    rng = np.random.default_rng(seed)
    return Latents(
        names=list(names),
        models=[model] * len(names),
        identity=rng.normal(size=(len(names), identity)).astype(np.float32),
        expression=rng.normal(size=(len(names), expression)).astype(np.float32),
    )
