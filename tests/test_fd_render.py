"""fd-render in a real shell."""

import io

import numpy as np
import pytest
from conftest import face, save_mesh
from PIL import Image
from synthetic import face_set, write_face_set

from facedis_core.render import BACKGROUND, to_srgb

PAPER = to_srgb(np.array(BACKGROUND))


def drawn(png):
    """The sheet as an array (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_folder_becomes_one_row(shell, faces, tmp_path):
    assert shell("fd-render faces -o sheet.png --size 64 --no-labels").code == 0
    sheet = drawn((tmp_path / "sheet.png").read_bytes())
    height, width = sheet.shape[:2]
    assert height == 64
    assert width % 5 == 0
    for picture in np.split(sheet, 5, axis=1):
        assert 0.3 < (picture != PAPER).any(-1).mean() < 0.99


def test_names_stand_below_unless_they_shall_not(shell, faces):
    named, bare = (drawn(shell(f"fd-render faces --size 64 {o}").out) for o in ("", "--no-labels"))
    assert named.shape[0] > bare.shape[0]
    assert np.array_equal(named[:64], bare)
    assert (named[64:] != PAPER).any()


def test_rows_follow_the_row_labels(shell, faces):
    labelled = "fd-render faces faces --size 64 --no-labels --row-labels input,output"
    plain = "fd-render faces faces --size 64 --no-labels --columns 5"
    sheet, bare = drawn(shell(labelled).out), drawn(shell(plain).out)
    assert sheet.shape[0] == 2 * 64
    assert np.array_equal(sheet[:, -bare.shape[1] :], bare)
    assert (sheet[:, : -bare.shape[1]] != PAPER).any()


def test_a_folder_and_a_pipe_give_the_same_bytes(shell, faces):
    by_folder = shell("fd-encode faces | fd-decode -o out/ && fd-render out/")
    assert by_folder.code == 0
    assert by_folder.out == shell("fd-encode faces | fd-decode | fd-render").out


def test_one_camera_for_all(shell, tmp_path):
    save_mesh(tmp_path / "near.ply", face(0))
    save_mesh(tmp_path / "small.ply", face(0) * np.float32(0.5))
    sheet = drawn(shell("fd-render near.ply small.ply --size 64 --no-labels").out)
    near, small = ((half != PAPER).any(-1).sum() for half in np.split(sheet, 2, axis=1))
    assert small == pytest.approx(near / 4, rel=0.1)


def test_meshes_of_different_topologies_share_a_sheet(shell, tmp_path):
    save_mesh(tmp_path / "face.ply", face(0))
    save_mesh(tmp_path / "part.ply", face(0), np.array([[0, 1, 7], [7, 14, 20]], np.int32))
    assert shell("fd-render face.ply part.ply --size 64").code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("faces -o sheet.jpg", 2, "sheet.jpg would hold no picture"),
        ("faces -o old.png", 2, "old.png exists"),
        ("faces --row-labels a,b,c,d", 2, "5 pictures, 2 in a row, make 3 rows, but there are 4"),
        ("faces --columns 0", 2, "--columns"),
        ("nowhere.ply", 3, "nowhere.ply does not exist"),
        ("cloud.ply", 3, "cloud has no triangles"),
        ("", 3, "standard input"),
        ("broken.safetensors", 3, "'person0/expression1' of the set is not finite"),
        ("a.npy", 3, "a.npy is an array float64 (1, 5), expected float vertices (N, V, 3)"),
    ],
)
def test_what_cannot_be_drawn(shell, faces, tmp_path, words, code, message):
    (tmp_path / "old.png").write_text("old")
    save_mesh(tmp_path / "cloud.ply", face(0), np.empty((0, 3), np.int32))
    np.save(tmp_path / "a.npy", np.zeros((1, 5)))
    broken = face_set()
    broken.vertices[1] = np.inf
    write_face_set(tmp_path / "broken.safetensors", broken)
    result = shell(f"fd-render {words}")
    assert result.code == code
    assert message in result.line
    assert (tmp_path / "old.png").read_text() == "old"
    assert not (tmp_path / "sheet.jpg").exists()


def test_without_pillow_it_says_how_to_get_it(shell, faces, tmp_path, without_torch):
    result = shell("fd-render faces -o sheet.png", env=without_torch)
    assert result.code == 2
    assert "pip install 'facedis[view]'" in result.line
    assert not (tmp_path / "sheet.png").exists()
