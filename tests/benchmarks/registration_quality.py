"""Registration of simulated scans of unseen people: the table of docs/registration.md.

    PYTHONPATH=tests python tests/benchmarks/registration_quality.py FACEXMODEL --people 50

Four scans a person, some seconds each.
"""

import argparse
import json
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from simulated_scans import KINDS, ScannedPeople, simulate_scan

from facedis_core.errors import InputError
from facedis_core.evaluate.metrics import FaceSpread
from facedis_core.geometry.distances import vertex_distance
from facedis_core.model.model_file import load_model
from facedis_core.registration.registration import register

ALWAYS = ("neutral", "smile", "mouth_stretch")
RIGHT_DEGREES = 10
BAD_MM = 2.5


def main() -> None:
    """Print a JSON line a scan, and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="ICT-FaceKit's folder FaceXModel")
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5, help="of the people; not 0, the training's")
    parser.add_argument("--yaw", type=float, help="of single views, degrees; all are single views")
    options = parser.parse_args()
    people = ScannedPeople.load(options.root)
    chosen, seen = people.narrow, people.seen()
    others = [name for name in people.expressions if name not in ALWAYS]
    model = load_model("ict-linear")
    lines = []
    identities = defaultdict(list)
    for person in range(options.people):
        shown = [*ALWAYS, others[person * 5 % len(others)]]
        heads = people.heads(options.seed, person, shown)
        neutral = people.faces.neutral_face(options.seed, person)[chosen]
        for head, expression in zip(heads, shown, strict=True):
            number = len(lines)
            kind = KINDS[number % 3] if options.yaw is None else "single_view"
            scan = simulate_scan(head, seen, seed=1000 + number, kind=kind, yaw=options.yaw)
            truth = head[chosen]
            line = {"scan": number, "person": person, "expression": expression, "kind": kind}
            started = time.process_time()
            try:
                found = register(scan.mesh, model)
            except InputError as error:
                lines.append({**line, "refused": str(error)})
                print(json.dumps(lines[-1]), flush=True)
                continue
            cpu = time.process_time() - started
            face = found.mesh.vertices[chosen].astype(np.float64)
            placed = found.to_scan.apply(face) * scan.unit_mm
            turned = np.trace(found.to_scan.rotation @ scan.rotation.T)
            latents = model.encode_prepared(found.mesh.vertices[None])
            identity = model.decode(latents, "identity")[0, chosen]
            identities[person].append(identity)
            line |= {
                "degrees": float(np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1)))),
                "vertex_mm": float(vertex_distance(placed, scan.to_scan(truth))),
                "e_rec": float(vertex_distance(model.decode(latents)[0, chosen], truth)),
                "avd_neu": float(vertex_distance(identity, neutral)),
                "cpu_s": cpu,
                **found.as_json(),
            }
            lines.append(line)
            print(json.dumps(line), flush=True)
    done = [line for line in lines if "refused" not in line]
    if not done:
        sys.exit("every scan was refused")

    def values(key: str) -> np.ndarray:
        return np.array([line[key] for line in done])

    right = int((values("degrees") < RIGHT_DEGREES).sum())
    spreads = [FaceSpread.of(np.array(x)).std() for x in identities.values() if len(x) > 1]
    print(f"scans {len(lines)}, refused {len(lines) - len(done)}, right pose {right}")
    print(f"vertex mm: mean {values('vertex_mm').mean():.2f}", end=" ")
    print(f"median {np.median(values('vertex_mm')):.2f} worst {values('vertex_mm').max():.2f}")
    print(f"accepted and worse than {BAD_MM} mm: {(values('vertex_mm') > BAD_MM).sum()}")
    print(f"E_rec {values('e_rec').mean():.2f} AVD_neu {values('avd_neu').mean():.2f}", end=" ")
    print(f"E_dis {np.mean(spreads) if spreads else np.nan:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"CPU s a scan: {values('cpu_s').mean():.1f}; peak memory {peak} MiB")


if __name__ == "__main__":
    main()
