"""Other registrations of the same scans from the same pose: a table of docs/registration.md.

    pip install meshmonk==0.3.0 trimesh rtree
    PYTHONPATH=tests python tests/benchmarks/registration_yardsticks.py FACEXMODEL --scans 10
    PYTHONPATH=tests python tests/benchmarks/registration_yardsticks.py --real FOLDER

Every method but facedis gets the mean face in the pose that facedis ended with, in millimetres,
and the scan within 30 mm of it; each runs in a process of its own. Surfaces are compared where the
face of facedis lies near the scan, whatever the method. In a folder of real scans
NAME_landmarks.csv (x,y,z a line, no header) has the landmarks of NAME*.*, which are carried to each
other scan.
"""

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yardsticks
from scipy.spatial import cKDTree
from simulated_scans import KINDS, ScannedPeople, simulate_scan

from facedis_core.errors import InputError
from facedis_core.geometry.distances import vertex_distances
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.scan_formats import read_scan
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.completion import complete_head
from facedis_core.registration.prior import prior_of, vertices_of
from facedis_core.registration.registration import Registration, register

SHOWN = ("neutral", "smile", "mouth_stretch")
REACH_MM = 5.0  # points of a scan nearer to the face of facedis are compared
OWN = "facedis"


class Given(NamedTuple):
    """A scan, and where it is known the true face in the scan's frame, mm."""

    name: str
    mesh: Mesh
    truth: Any = None
    landmarks: Any = None


def simulated(root: Path, count: int, seed: int) -> Iterator[Given]:
    """Scans of people that nobody has seen."""
    people = ScannedPeople.load(root)
    for k in range(count):
        (head,) = people.heads(seed, k, [SHOWN[k % 3]])
        scan = simulate_scan(head, people.seen(), seed=3000 + k, kind=KINDS[k // 3 % 3])
        truth = scan.to_scan(head[people.narrow].astype(np.float64)) / scan.unit_mm
        yield Given(f"{SHOWN[k % 3]}, {scan.kind}", scan.mesh, truth)


def real(folder: Path) -> Iterator[Given]:
    """The scans of a folder."""
    landmarks = {p.name.removesuffix("_landmarks.csv"): p for p in folder.glob("*_landmarks.csv")}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".ply", ".obj", ".stl", ".xyz"):
            marks = next((landmarks[key] for key in landmarks if path.stem.startswith(key)), None)
            points = None if marks is None else np.loadtxt(marks, delimiter=",")
            yield Given(path.stem, read_scan(path), None, points)


class Narrow(NamedTuple):
    """The narrow face, and the model of heads that encodes it.

    Attributes:
        shape: of its topology.
        heads: the default model.
        known: (heads' V,) whether a vertex is of the narrow face.
        numbers: (heads' V,) of the vertex of the narrow face; -1 = none.
    """

    shape: Model
    heads: Model
    known: Any
    numbers: Any

    @classmethod
    def load(cls) -> "Narrow":
        """By the bundled models and their prior."""
        shape, heads = load_model("ict-pointnet"), load_model("ict-linear")
        prior = prior_of(shape.preparation)
        assert np.array_equal(vertices_of(shape.preparation, prior), np.arange(len(prior.mean)))
        numbers = vertices_of(heads.preparation, prior, partly=True)
        return cls(shape, heads, numbers >= 0, numbers)

    def decoded(self, face: Any) -> Any:
        """What is left of a face after encoding and decoding."""
        head = complete_head(self.heads, self.known, face[self.numbers])
        again = self.heads.decode(self.heads.encode_prepared(head[None].astype(np.float32)))[0]
        kept = np.empty_like(face)
        kept[self.numbers[self.known]] = again[self.known]
        return kept


def measured(
    given: Given, found: Registration, face: Any, scan: Mesh, narrow: Narrow
) -> dict[str, float]:
    """Errors of a face, in the frame of the registration by facedis, mm."""
    seen, model = found.observed, narrow.shape
    points = scan.vertices.astype(np.float64)
    away, nearest = cKDTree(found.mesh.vertices).query(points)
    compared = points[(away < REACH_MM) & seen[nearest]]
    again = narrow.decoded(face)
    values = {
        "face_to_scan": yardsticks.to_surface(face[seen], scan).mean(),
        "scan_to_face": _to_face(compared, face, model).mean(),
        "scan_to_decoded": _to_face(compared, again, model).mean(),
        "decoding": vertex_distances(again, face).mean(),
    }
    if given.truth is not None:
        truth = yardsticks.in_face_frame(given.truth, found)
        values |= {
            "vertex": vertex_distances(face, truth).mean(),
            "vertex_seen": vertex_distances(face, truth)[seen].mean(),
            "e_rec": vertex_distances(again, truth).mean(),
        }
    return {key: float(value) for key, value in values.items()}


def _to_face(points: Any, face: Any, model: Model) -> Any:
    mesh = Mesh(np.asarray(face, np.float32), model.triangles, "", 1.0)
    return yardsticks.to_surface(points, mesh)


def run(method: str, scans: Iterator[Given], folder: Path) -> None:
    """A line of JSON a scan by one method; facedis is first, and leaves its registrations."""
    narrow = Narrow.load()
    model = narrow.shape
    mean = model.mean_face.astype(np.float64)
    marked: list[tuple[Given, Registration, Any]] = []
    for number, given in enumerate(scans):
        kept, seconds = folder / f"{number}.pickle", 0.0
        if method == OWN:
            before = time.process_time()
            try:
                kept.write_bytes(pickle.dumps(register(given.mesh, model)))
            except InputError as error:
                print(json.dumps({"scan": given.name, "refused": str(error)}), flush=True)
            seconds = time.process_time() - before
        if not kept.exists():
            continue
        found = pickle.loads(kept.read_bytes())
        scan = yardsticks.cropped(given.mesh, found, mean)
        face = found.mesh.vertices.astype(np.float64)
        if method != OWN:
            before = time.process_time()
            start = Mesh(model.mean_face, model.triangles, "mean", 1.0)
            try:
                face = yardsticks.METHODS[method](start, scan)
            except Exception as error:  # of whatever kind; the others go on
                print(json.dumps({"scan": given.name, "failed": str(error)}), flush=True)
                continue
            seconds = time.process_time() - before
        line = {"scan": given.name, "seconds": seconds}
        line |= measured(given, found, face, scan, narrow)
        print(json.dumps(line), flush=True)
        if given.landmarks is not None:
            marked.append((given, found, face))
    for one, one_found, source in marked:
        for other, other_found, target in marked:
            if one is other:
                continue
            points = yardsticks.in_face_frame(one.landmarks, one_found)
            carried = yardsticks.carry(points, source, target, model.triangles)
            away = vertex_distances(carried, yardsticks.in_face_frame(other.landmarks, other_found))
            line = {"from": one.name, "to": other.name, "landmarks": away.round(2).tolist()}
            print(json.dumps(line), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"peak_mib": peak}), flush=True)


def main() -> None:
    """Run each method in a process, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", help="ICT-FaceKit's folder FaceXModel")
    parser.add_argument("--scans", type=int, default=10, help="number of simulated scans")
    parser.add_argument("--seed", type=int, default=23, help="of the people; not 0, the training's")
    parser.add_argument("--real", type=Path, help="folder of real scans instead")
    parser.add_argument("--method", nargs=2, help="this one alone, in this process, and a folder")
    options = parser.parse_args()
    if options.method is not None:
        given = options.real and real(options.real)
        given = given or simulated(options.root, options.scans, options.seed)
        run(options.method[0], given, Path(options.method[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(folder)


def _compare(folder: str) -> None:
    for method in (OWN, *yardsticks.METHODS):
        command = [sys.executable, __file__, *sys.argv[1:], "--method", method, folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        means = defaultdict(list)
        for line in lines:
            print(json.dumps({"method": method, **line}), flush=True)
            for key, value in line.items():
                if isinstance(value, float | int):
                    means[key].append(value)
                elif key == "landmarks":
                    means[key] += value
        words = ", ".join(f"{key} {np.mean(values):.2f}" for key, values in means.items())
        print(f"{method}: {words or 'failed'}", flush=True)


if __name__ == "__main__":
    main()
