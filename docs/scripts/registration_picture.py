"""The picture of docs/registration.md: a scan made of an example face, its face, their distances.

    python docs/scripts/registration_picture.py docs/registration.png

The scan is a noisy cloud of what a depth camera beside the head would see, turned, in centimetres.
It takes some seconds.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from facedis_core import Mesh, read_mesh, register
from facedis_core.data.regions import ICT_SKIN
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.surface import triangle_normals, unit_vectors
from facedis_core.model.bundled import weights_folder
from facedis_core.render.camera import Camera
from facedis_core.render.color_bar import ColorBar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.contact_sheet import ContactSheet
from facedis_core.render.image_files import write_png
from facedis_core.render.scan_surface import scan_surface
from facedis_core.report.registrations import BAR_TITLES, DrawnScan, draw_scan, face_window

YAW_DEGREES = 25
POINTS = 25_000
NOISE_MM = 0.4


def depth_camera(head: Mesh, rng: np.random.Generator) -> Mesh:
    """A cloud of what is seen from the side, with noise along the normals."""
    triangles = head.triangles[(head.triangles < ICT_SKIN).all(axis=1)]
    normals = triangle_normals(head.vertices.astype(np.float64), triangles)
    area = np.linalg.norm(normals, axis=1)
    chosen = rng.choice(len(triangles), POINTS, p=area / area.sum())
    u, v = np.sort(rng.random((2, POINTS)), axis=0)
    weights = np.stack([u, v - u, 1 - v], axis=1)
    points = (weights[:, :, None] * head.vertices[triangles[chosen]]).sum(axis=1)
    outwards = unit_vectors(normals[chosen])
    towards = np.array([np.sin(np.radians(YAW_DEGREES)), 0.0, np.cos(np.radians(YAW_DEGREES))])
    seen = outwards @ towards > 0.25
    points += outwards * rng.normal(0, NOISE_MM, POINTS)[:, None]
    turn = rotation_about(unit_vectors(np.array([1.0, 2.0, 0.5])), 1.2)
    cloud = (points[seen] @ turn.T + [120, -40, 600]) / 10
    return Mesh(cloud.astype(np.float32), np.empty((0, 3), np.int32), "scan")


def main(target: str) -> None:
    """Write the picture."""
    head = read_mesh(weights_folder() / "examples" / "bob_smile.ply")
    scan = depth_camera(head, np.random.default_rng(0))
    found = register(scan)
    surface = scan_surface(scan, found.to_scan, found.mesh, found.distance_mm)
    shown = Mesh(surface.vertices, surface.triangles, "scan", 1.0)
    drawn = DrawnScan("scan", found.mesh, surface.face_distances.astype(np.float64), shown)
    known = [drawn.distances[np.isfinite(drawn.distances)]]
    scale = ColorScale.covering(known)
    sheet = ContactSheet(
        3,
        column_labels=["scan", "face", "distance"],
        bar=replace(ColorBar.of(scale, known), titles=BAR_TITLES),
    )
    pictures = draw_scan(drawn, Camera.framing([face_window(drawn)], 340), scale)
    with Path(target).open("wb") as stream:
        write_png(stream, sheet.compose(pictures))


if __name__ == "__main__":
    main(sys.argv[1])
