"""Make weights/arkit/ict.safetensors, ARKit's blendshapes on ICT-FaceKit's generic head.

python docs/scripts/arkit_shapes.py FaceXModel
"""

import sys
from pathlib import Path

from facedis_core.datasets.ict import read_generic
from facedis_core.datasets.ict_synthesis import expression_table
from facedis_core.mesh.mesh import read_mesh
from facedis_core.rig.blendshapes import compact_blendshapes, write_blendshapes

MM = 10.0  # of ICT-FaceKit's centimetres


def main(root: Path, target: Path) -> None:
    """Read the shapes under `root` and write them to `target`."""
    generic = read_generic(root)
    names = expression_table().shapes
    offsets = [(read_mesh(root / f"{name}.obj").vertices - generic.vertices) * MM for name in names]
    shapes = compact_blendshapes(names, generic.vertices * MM, generic.triangles, offsets)
    with target.open("wb") as stream:
        write_blendshapes(stream, shapes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parents[2] / "weights" / "arkit" / "ict.safetensors")
