"""Registration of a simulated sequence: speed beside scan by scan, constancy of the identity.

    PYTHONPATH=tests python tests/benchmarks/sequence_registration.py FACEXMODEL --frames 30

A person of the generator, an expression that comes and goes while the head turns, with noise.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from simulated_scans import SKIN, ScannedPeople

from facedis_core.evaluate.metrics import FaceSpread
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.surface import vertex_normals
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model_file import load_model
from facedis_core.registration.registration import register
from facedis_core.registration.sequence import FaceTracker

NOISE_MM = 0.2
TURN_DEGREES = 25


def main() -> None:
    """Print a line a frame, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="ICT-FaceKit's folder FaceXModel")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--seed", type=int, default=5, help="of the person; not 0, the training's")
    parser.add_argument("--every", type=int, default=6, help="frames that are registered alone too")
    parser.add_argument("--lose", type=int, help="frame after which the head jumps by half a turn")
    options = parser.parse_args()
    people = ScannedPeople.load(options.root)
    chosen, seen = people.narrow, people.seen(SKIN)
    neutral, *others = people.heads(options.seed, 0, ("neutral", "mouth_stretch", "smile"))
    model, random = load_model("ict-linear"), np.random.default_rng(0)
    track = FaceTracker(model)
    tracked, alone, identities, singles = [], [], [], []
    errors = {"tracked": [], "alone": []}
    faces = []
    for frame in range(options.frames):
        part = frame / max(1, options.frames - 1)
        weights = max(0, np.sin(2 * np.pi * part)), max(0, -np.sin(2 * np.pi * part))
        head = neutral + sum(w * (x - neutral) for w, x in zip(weights, others, strict=True))
        yaw = np.radians(TURN_DEGREES) * np.sin(2 * np.pi * part)
        if options.lose is not None and frame > options.lose:
            yaw += np.pi
        turn = rotation_about(np.array([0, 1.0, 0]), yaw)
        truth = head @ turn.T + np.array([30 * part, 10 * part, 500])
        noise = random.normal(0, NOISE_MM, len(truth))[:, None]
        points = truth + noise * vertex_normals(truth, people.triangles)
        scan = Mesh(points, seen, f"frame{frame:03d}", 1.0)
        started = time.process_time()
        found = track(scan)
        tracked.append(time.process_time() - started)
        line = [f"{frame:3d} {found.start:14s} {tracked[-1]:.2f} s"]

        def error(registration, truth=truth):
            placed = registration.to_scan.apply(registration.mesh.vertices.astype(np.float64))
            return float(np.linalg.norm(placed - truth, axis=1)[chosen].mean())

        def identity(registration):
            return model.decode(model.encode_prepared(registration.mesh.vertices[None]), "identity")

        errors["tracked"].append(error(found))
        faces.append((found.mesh.vertices[chosen], head[chosen]))
        identities.append(identity(found)[0, chosen])
        line.append(f"error {errors['tracked'][-1]:.2f} mm")
        if frame % options.every == 0:
            started = time.process_time()
            single = register(scan, model)
            alone.append(time.process_time() - started)
            singles.append(identity(single)[0, chosen])
            errors["alone"].append(error(single))
            line.append(f"alone {errors['alone'][-1]:.2f} mm, {alone[-1]:.2f} s")
        print(", ".join(line), flush=True)
    print(f"mean error: tracked {np.mean(errors['tracked']):.2f}", end=" ")
    print(f"alone {np.mean(errors['alone']):.2f} mm")
    ratio = np.mean(alone) / np.mean(tracked[1:])
    print(f"CPU: {np.mean(tracked[1:]):.2f} s a frame, {np.mean(alone):.2f} s alone, {ratio:.1f} x")
    print(f"identity, spread: tracked {FaceSpread.of(np.array(identities)).std():.3f}", end=" ")
    print(f"alone {FaceSpread.of(np.array(singles)).std():.3f} mm")
    # how much more a vertex moves from frame to frame than it should
    pops = [
        float(np.linalg.norm((b - a) - (y - x), axis=1).mean())
        for (a, x), (b, y) in pairwise(faces)
    ]
    print(f"motion from frame to frame: mean error {np.mean(pops):.2f}, worst {max(pops):.2f} mm")


if __name__ == "__main__":
    main()
