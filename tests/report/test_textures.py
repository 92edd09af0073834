"""Textures of the faces of a report, of their original files."""

import base64
import io

import numpy as np
import pytest
import synthetic
from images import png
from PIL import Image

from facedis_core.errors import ErrorCode, InputError
from facedis_core.pipeline.onto import find_originals
from facedis_core.report.textures import MOST_PIXELS, FaceTextures

FACES = synthetic.face_set(subjects=2, expressions=2, test=2)


def write_original(path, image="skin.png", triangles=FACES.triangles):
    """A face of the set as OBJ with a material of its own."""
    vertices = [f"v {x} {y} {z}" for x, y, z in FACES.vertices[0].tolist()]
    faces = ["f " + " ".join(f"{k}/{k}" for k in t) for t in (triangles + 1).tolist()]
    places = [f"vt {k / 36} 0.5" for k in range(36)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".mtl").write_text(f"newmtl skin\nmap_Kd {image}\n")
    lines = [f"mtllib {path.stem}.mtl", *vertices, *places, "usemtl skin", *faces]
    path.write_text("\n".join(lines) + "\n")
    return path


def textures(source, rows=(0, 1, 2, 3)):
    return FaceTextures.of(find_originals(str(source)), FACES, np.array(rows))


def content(texture):
    (image,) = texture["images"]
    return base64.b64decode(image["content"])


def test_a_face_has_the_texture_of_its_file_or_of_its_subjects(tmp_path):
    """Rows 0 and 1 are of person0, neutral and with an expression."""
    for name, color in (("person0/expression1", 10), ("person0", 20)):
        path = write_original(tmp_path / "heads" / f"{name}.obj")
        (path.parent / "skin.png").write_bytes(png(color, 0, 0))
    found = textures(tmp_path / "heads")
    assert [found.place(row) for row in (1, 0, 2, 1)] == [0, 1, None, 0]
    assert [content(one) for one in found.found] == [png(10, 0, 0), png(20, 0, 0)]
    (line,) = found.all_warnings()
    assert line.endswith("heads has no file for person1/neutral")


def test_one_file_is_of_all_faces_and_equal_textures_are_one(tmp_path):
    (tmp_path / "skin.png").write_bytes(png(1, 2, 3))
    one = textures(write_original(tmp_path / "a.obj"))
    assert [one.place(row) for row in range(4)] == [0, 0, 0, 0] and len(one.found) == 1
    for name in ("person0", "person1"):
        path = write_original(tmp_path / "two" / f"{name}.obj")
        (path.parent / "skin.png").write_bytes(png(1, 2, 3))
    two = textures(tmp_path / "two")
    assert [two.place(row) for row in range(4)] == [0, 0, 0, 0] and two.found == one.found
    assert not two.all_warnings()


def test_a_large_image_is_scaled_down(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (2 * MOST_PIXELS, 10), (200, 100, 50)).save(stream, "PNG")
    (tmp_path / "skin.png").write_bytes(stream.getvalue())
    found = textures(write_original(tmp_path / "a.obj"))
    found.place(0)
    image = Image.open(io.BytesIO(content(found.found[0])))
    assert image.size == (MOST_PIXELS, 5)
    assert np.abs(np.subtract(image.getpixel((9, 2)), (200, 100, 50))).max() < 4


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("none.png", "a.mtl: its texture none.png is missing; put it beside it"),
        ("broken.png", "a.obj: its texture of 18 bytes cannot be decoded ("),
        ("", "a.obj has no texture and no colors of vertices"),
    ],
)
def test_a_face_without_an_image_is_told_of(tmp_path, image, words):
    (tmp_path / "broken.png").write_bytes(png(0, 0, 0)[:18])
    found = textures(write_original(tmp_path / "a.obj", image))
    assert [found.place(0), found.place(1)] == [None, None]
    (line,) = found.all_warnings()
    assert words in line


def test_files_that_do_not_fit_are_refused(tmp_path):
    write_original(tmp_path / "heads" / "person9.obj")
    with pytest.raises(InputError, match="has no file for person0/neutral, person0/") as missing:
        textures(tmp_path / "heads")
    assert missing.value.code == ErrorCode.PARTNER_MISSING
    for suffix in (".obj", ".ply"):
        (tmp_path / "heads" / "person0").with_suffix(suffix).touch()
    with pytest.raises(InputError, match="may both be the original of 'person0'") as twins:
        textures(tmp_path / "heads")
    assert twins.value.code == ErrorCode.NAME_DUPLICATE
    other = textures(write_original(tmp_path / "a.obj", triangles=FACES.triangles[::-1]))
    with pytest.raises(InputError, match=r"a\.obj") as wrong:
        other.place(0)
    assert wrong.value.code == ErrorCode.TOPOLOGY
