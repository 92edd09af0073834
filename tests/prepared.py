"""Face sets made of data sets on disk, and slow ways to say what they must hold."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from conftest import save_mesh
from synthetic import grid_mesh

from facedis_core.data.face_set import SPLITS, FaceSet, Labels, load_face_set
from facedis_core.datasets import layout
from facedis_core.datasets.contents import PreparationReport, count_faces
from facedis_core.datasets.prepare import PrepareOptions, plan_face_set, prepare_face_set
from facedis_core.datasets.selection import ExclusionList, select_faces
from facedis_core.datasets.source import Source, open_source
from facedis_core.mesh.mesh import read_mesh


@dataclass(frozen=True)
class Prepared:
    """A face set, the report on it, and what was said on the way."""

    set: FaceSet
    report: PreparationReport
    said: list[str]

    def face(self, name):
        """(V, 3) mm."""
        return self.set.vertices[self.set.labels.names.index(name)]

    def neutral(self, subject, kind="neutrals"):
        """(V, 3) mm."""
        return getattr(self.set, kind)[self.set.labels.subjects.index(subject)]

    @property
    def labels(self):
        """Name -> subject, expression, level, split, all in words and numbers of Python."""
        labels = self.set.labels
        split_names = {code: name for name, code in SPLITS.items()}
        return {
            name: (
                labels.subjects[labels.subject[row]],
                labels.expressions[labels.expression[row]],
                float(labels.level[row]),
                split_names[int(labels.split[row])],
            )
            for row, name in enumerate(labels.names)
        }


def prepare(
    source,
    root,
    target,
    *,
    like=None,
    exclude=(),
    keep_going=False,
    jobs=1,
    drop_neutrals=False,
    **options,
):
    """Make a face set in this process."""
    said = []
    plan = plan_face_set(
        PrepareOptions(
            source,
            root,
            output=str(target),
            source_options=options,
            like=like,
            jobs=jobs,
            keep_going=keep_going,
            drop_neutrals=drop_neutrals,
            force=True,
        )
    )
    said += plan.notes()
    if exclude:
        exclusion = ExclusionList(frozenset(exclude), "0" * 12)
        plan = replace(plan, chosen=select_faces(plan.opened.source, exclusion))
    report = prepare_face_set(plan, warn=said.append)
    return Prepared(load_face_set(target), report, said)


SCANNED = ("neutral", "smile", "mouth_stretch")


def scan(subject: int, expression: int) -> np.ndarray:
    """Everybody's own face (36, 3) mm; expression 0 is the neutral."""
    vertices, _ = grid_mesh()
    person = np.random.default_rng(subject).normal(0, 2, vertices.shape)
    shown = np.random.default_rng(100 + expression).normal(0, 1, vertices.shape)
    return (vertices + person + shown * (expression > 0)).astype(np.float32)


def write_scans(root: Path) -> Path:
    """A folder of six people with three expressions each, such as `p0_smile.ply`."""
    for subject in range(6):
        for expression, name in enumerate(SCANNED):
            save_mesh(root / f"p{subject}_{name}.ply", scan(subject, expression))
    return root


def open_names(source: str, names: Iterable[str], **options: Any) -> Source:
    """A data set whose folder seems to hold files of these names; no file is opened."""
    with mock.patch.object(layout, "files_below", lambda root: sorted(names)):
        return open_source(source, Path.cwd(), options).source


def counts(labels: Labels) -> dict[tuple[str, str], list[int]]:
    """(what, name) -> [faces, train, test, validation]."""
    return {(c.what, c.name): [c.faces, *c.splits.values()] for c in count_faces(labels)}


def stem(path):
    """The name of a face is the path of its file without the suffix."""
    return path.rpartition(".")[0]


def check_vertices(made, tree):
    """Every face of the set has the vertices of its file, in order, and nothing else.

    The raw files, prepared one by one as fd-encode does it, are the same faces.
    """
    files = {stem(path): path for path in tree.files}
    mean = made.mean_face(made.rows(0))
    for row, name in enumerate(made.labels.names):
        expected = tree.files[files[name]].vertices[made.preparation.vertex_index]
        np.testing.assert_array_equal(made.vertices[row], expected)
        mesh = read_mesh(tree.root / files[name])
        np.testing.assert_array_equal(made.preparation.apply(mesh, mean), expected)


def check_simplified(made, tree, target):
    """About so many triangles, and no fold on any of the faces."""
    chosen, triangles = made.preparation.vertex_index, made.triangles
    assert abs(len(triangles) - target) <= 0.02 * target
    files = {stem(path): file for path, file in tree.files.items()}
    raw = [files[name].vertices for name in made.labels.names]
    check_map(raw[0], tree.topology.triangles, chosen, triangles)
    for vertices in raw[1:]:
        check_laid(vertices, tree.topology.triangles, chosen, triangles)


def check_map(vertices, triangles, chosen, kept):
    """Everything that a choice of vertices promises, from the definitions."""
    assert chosen.dtype == kept.dtype == np.int32
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(np.unique(kept), np.arange(len(chosen)))
    corners = np.sort(kept, axis=1)
    assert (np.diff(corners, axis=1) > 0).all() and len(np.unique(corners, axis=0)) == len(kept)
    assert crowded_edges(kept) <= crowded_edges(triangles)
    check_laid(vertices, triangles, chosen, kept)


def crowded_edges(triangles):
    """How often an edge has a third triangle, or one that goes along it as another does."""
    sides = np.concatenate([triangles[:, [k - 1, k]] for k in range(3)])
    _, counts = np.unique(np.sort(sides, axis=1), axis=0, return_counts=True)
    return (counts > 2).sum() + len(sides) - len(np.unique(sides, axis=0))


def check_laid(vertices, triangles, chosen, kept):
    """No triangle kept has lost its area or lies turned over on the surface."""
    points, surface = vertices.astype(np.float64), np.zeros(vertices.shape)
    for corner in triangles.T:
        np.add.at(surface, corner, normals(points, triangles))
    surface /= np.maximum(np.linalg.norm(surface, axis=1, keepdims=True), 1e-12)
    laid = normals(points[chosen], kept)
    assert (np.linalg.norm(laid, axis=1) > 1e-6).all()
    assert ((laid * surface[chosen[kept]].sum(axis=1)).sum(axis=1) > 0).all()


def normals(points, triangles):
    """Not of unit length, (F, 3)."""
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def kabsch(source, target, chosen=slice(None)):
    """The rigid motion of the points `source` (V, 3) whose chosen ones come nearest to target's."""
    a, b = (np.asarray(points, np.float64)[chosen] for points in (source, target))
    u, _, vt = np.linalg.svd((a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
    mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ mirror @ vt
    return lambda points: (points - a.mean(axis=0)) @ rotation + b.mean(axis=0)


def mean_shape(faces, rounds=20):
    """The mean (V, 3) of faces aligned to it, which starts as the first of them."""
    target = np.asarray(faces[0], np.float64)
    for _ in range(rounds):
        target = np.mean([kabsch(face, target)(face) for face in faces], axis=0)
    return target
