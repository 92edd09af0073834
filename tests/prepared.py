"""Face sets made of data sets on disk, and slow ways to say what they must hold."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
from trees import Tree

from facedis_core.data.face_set import SPLITS, FaceSet, load_face_set
from facedis_core.datasets.contents import PreparationReport
from facedis_core.datasets.prepare import PrepareOptions, plan_face_set, prepare_face_set
from facedis_core.datasets.selection import ExclusionList, select_faces
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


def prepare(source, root, target, *, like=None, exclude=(), keep_going=False, jobs=1, **options):
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
            force=True,
        )
    )
    if exclude:
        exclusion = ExclusionList(frozenset(exclude), "0" * 12)
        plan = replace(plan, chosen=select_faces(plan.opened.source, exclusion))
    report = prepare_face_set(plan, warn=said.append)
    return Prepared(load_face_set(target), report, said)


def read_prepared(path):
    """A set that a command has made; what the command said is not known."""
    return Prepared(load_face_set(path), PreparationReport("", "", []), [])


def news(done):
    """What a command said beside that this is a part of a data set, which small trees are."""
    return "".join(
        line
        for line in done.err.splitlines(keepends=True)
        if "warning: this is a part of" not in line
    )


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
        raw = tree.files[files[name]].vertices
        expected = np.array([raw[k] for k in made.preparation.vertex_index])
        np.testing.assert_array_equal(made.vertices[row], expected)
        mesh = read_mesh(tree.root / files[name])
        np.testing.assert_array_equal(made.preparation.apply(mesh, mean), expected)


def check_simplified(made, tree, target):
    """The choice of vertices has none twice, and turns no triangle over on any of the faces."""
    chosen, triangles = made.preparation.vertex_index, made.triangles
    assert len(np.unique(chosen)) == len(chosen) < len(tree.topology.order)
    assert abs(len(triangles) - target) <= 0.02 * target
    assert np.array_equal(np.unique(triangles), np.arange(len(chosen)))
    assert (np.diff(np.sort(triangles, axis=1), axis=1) > 0).all()
    files = {stem(path): file for path, file in tree.files.items()}
    turned = {}
    for name in made.labels.names:
        raw = files[name].vertices.astype(np.float64)
        laid = normals(raw[chosen], triangles)
        surface = np.zeros_like(raw)
        for corner in tree.topology.triangles.T:
            np.add.at(surface, corner, normals(raw, tree.topology.triangles))
        surface /= np.linalg.norm(surface, axis=1, keepdims=True)
        against = (laid * surface[chosen[triangles]].sum(axis=1)).sum(axis=1) <= 0
        if against.any():
            turned[name] = int(against.sum())
    assert not turned, turned


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


def copied(tree: Tree, root) -> Tree:
    """The same data set somewhere else, to be spoilt."""
    return replace(tree, root=shutil.copytree(tree.root, root))
