"""fd-render: what is on its sheets and in its animations."""

import io
import shutil

import numpy as np
import pytest
from conftest import contents, face, save_mesh
from images import png
from PIL import Image
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.render.shading import BACKGROUND, to_srgb

BACKGROUND_COLOR = to_srgb(np.array(BACKGROUND))


def drawn(png):
    """The sheet as an array (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_folder_becomes_one_row(call, faces, tmp_path):
    assert call("fd-render faces -o sheet.png --size 64 --no-labels").code == 0
    sheet = drawn((tmp_path / "sheet.png").read_bytes())
    height, width = sheet.shape[:2]
    assert height == 64
    assert width % 5 == 0
    for picture in np.split(sheet, 5, axis=1):
        assert 0.3 < (picture != BACKGROUND_COLOR).any(-1).mean() < 0.99


def test_names_stand_below_unless_they_shall_not(call, faces):
    named, bare = (drawn(call(f"fd-render faces --size 64 {o}").out) for o in ("", "--no-labels"))
    assert named.shape[0] > bare.shape[0]
    assert np.array_equal(named[:64], bare)
    assert (named[64:] != BACKGROUND_COLOR).any()


def test_rows_follow_the_row_labels(call, faces):
    labelled = "fd-render faces faces --size 64 --no-labels --row-labels input,output"
    plain = "fd-render faces faces --size 64 --no-labels --columns 5"
    sheet, bare = drawn(call(labelled).out), drawn(call(plain).out)
    assert sheet.shape[0] == 2 * 64
    assert np.array_equal(sheet[:, -bare.shape[1] :], bare)
    assert (sheet[:, : -bare.shape[1]] != BACKGROUND_COLOR).any()


def test_columns_have_labels_above_them(call, faces):
    plain = drawn(call("fd-render faces --columns 1 --size 48 --no-labels").out)
    labelled = drawn(call("fd-render faces --column-labels everybody --size 48 --no-labels").out)
    above = len(labelled) - len(plain)
    assert 10 < above < 100
    assert np.array_equal(labelled[above:], plain)
    assert (labelled[:above] != labelled[0, 0]).any()


def test_a_folder_and_a_pipe_give_the_same_bytes(call, shell, faces):
    assert call("fd-encode faces -o f.npy").code == 0
    assert call("fd-decode f.npy -o out/").code == 0
    by_folder = call("fd-render out/ --size 48")
    assert by_folder.code == 0
    assert by_folder.out == shell("fd-encode faces | fd-decode | fd-render --size 48").out


def test_one_camera_for_all(call, tmp_path):
    save_mesh(tmp_path / "near.ply", face(0))
    save_mesh(tmp_path / "small.ply", face(0) * np.float32(0.5))
    sheet = drawn(call("fd-render near.ply small.ply --size 64 --no-labels").out)
    near, small = ((half != BACKGROUND_COLOR).any(-1).sum() for half in np.split(sheet, 2, axis=1))
    assert small == pytest.approx(near / 4, rel=0.1)


def test_meshes_of_different_topologies_share_a_sheet(call, tmp_path):
    save_mesh(tmp_path / "face.ply", face(0))
    save_mesh(tmp_path / "part.ply", face(0), np.array([[0, 1, 7], [7, 14, 20]], np.int32))
    assert call("fd-render face.ply part.ply --size 64").code == 0


def test_each_face_is_seen_from_every_view_by_one_camera(call, faces):
    single = drawn(call("fd-render faces/ann.ply --size 64 --no-labels").out)
    three = drawn(call("fd-render faces/ann.ply --view left,front,right --size 64 --no-labels").out)
    views = np.split(three, 3, axis=1)
    assert three.shape[0] == single.shape[0]
    assert (views[0] != views[1]).any()
    # A sheet of several puts the views of a face side by side.
    sheet = drawn(call("fd-render faces --view -30,30 --size 64 --no-labels").out)
    pair = drawn(call("fd-render faces/ann.ply --view -30,30 --size 64 --no-labels").out)
    assert sheet.shape[0] == 2 * 64
    assert sheet.shape[1] > 2 * pair.shape[1]


def test_latents_are_decoded_from_files_and_pipes(call, faces, tmp_path):
    call("fd-encode faces -o f.npy")
    call("fd-decode f.npy -o out/")
    decoded = call("fd-render out/ --size 48")
    assert decoded.code == 0
    assert decoded.out == call("fd-render f.npy --size 48").out
    assert decoded.out == call("fd-render --size 48", stdin=(tmp_path / "f.npy").read_bytes()).out
    call("fd-decode f.npy --part identity -o id/")
    identity = call("fd-render id/ --size 48")
    assert identity.out == call("fd-render --part identity f.npy --size 48").out
    assert identity.out != decoded.out


def test_distances_have_colors_a_bar_and_words(call, faces, tmp_path):
    plain, far = (tmp_path / name for name in ("plain.ply", "far.ply"))
    save_mesh(plain, face(0))
    save_mesh(far, face(0) + np.float32([0, 0, 3]))
    options = "--size 64 --no-labels --range 0,3"
    same = drawn(call(f"fd-render plain.ply --against plain.ply {options}").out)
    moved = drawn(call(f"fd-render far.ply --against plain.ply {options}").out)
    assert same.shape == moved.shape
    assert same.shape[0] > 64  # the bar

    def face_color(sheet):
        seen = (sheet[:64] != BACKGROUND_COLOR).any(-1)
        return np.median(sheet[:64][seen], axis=0).astype(int)

    red, green, blue = face_color(same)
    assert min(red, green, blue) > 180  # pale: no distance
    assert face_color(moved).max() < 90  # dark: all of the scale
    labelled = drawn(call("fd-render far.ply --against plain.ply --size 64").out)
    assert labelled.shape[0] > moved.shape[0]


def test_truths_are_matched_by_name(call, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "copies")
    save_mesh(tmp_path / "copies" / "ann.ply", face(0) + np.float32([0, 0, 2]))
    result = call("fd-render faces --against copies --size 64 --range 0,2 --no-labels")
    sheet = drawn(result.out)[:64]
    medians = [
        np.median(part[(part != BACKGROUND_COLOR).any(-1)], axis=0).mean()
        for part in np.split(sheet, 5, axis=1)
    ]
    assert medians[0] < 90 < 180 < min(medians[1:])


def test_textures_are_drawn(call, tmp_path):
    """Those of an OBJ, the colors of vertices, and none where distances are shown."""
    triangles = grid_mesh()[1] + 1
    vertices = [f"v {x} {y} {z}" for x, y, z in face(1).tolist()]
    faces = [f"f {a}/1 {b}/1 {c}/1" for a, b, c in triangles.tolist()]
    lines = ["mtllib a.mtl", *vertices, "vt 0 0", "usemtl skin", *faces]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd a.png\n")
    plain = [line.replace("/1", "") for line in faces]
    painted = [f"{line} 0 1 0" for line in vertices]
    (tmp_path / "b.obj").write_text("\n".join([*painted, *plain]) + "\n")

    def share(line):
        result = call(f"fd-render {line} --no-labels --size 48")
        assert result.code == 0, result.err
        pixels = drawn(result.out).astype(int)
        return (pixels[..., 1] > 1.5 * pixels[..., [0, 2]].max(axis=-1)).mean(), result.err

    found, told = share("a.obj")
    assert found == 0 and "a.mtl: its texture a.png is missing; put it beside it" in told
    (tmp_path / "a.png").write_bytes(png(0, 255, 0))
    for line in ("a.obj", "b.obj"):
        found, told = share(line)
        assert found > 0.3 and not told
    assert share("b.obj --no-texture") == (0, "")
    assert share("a.obj --against a.obj --range 0,1") == (0, "")


def test_a_picture_without_background(call, faces):
    sheet = drawn(call("fd-render faces --size 64 --background transparent").out)
    assert sheet.shape[2] == 4
    assert sheet[0, 0, 3] == 0
    assert (sheet[..., 3] == 255).mean() > 0.2
    dark = drawn(call("fd-render faces --size 64 --background '#102030'").out)
    assert dark[0, 0].tolist() == [16, 32, 48]


@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
def test_animations(call, faces, tmp_path, kind):
    if kind == "mp4":
        pytest.importorskip("av")
    turn = f"fd-render faces/ann.ply --size 48 --seconds 0.4 --fps 10 -o turn.{kind}"
    assert call(turn).code == 0
    call("fd-encode faces/ann.ply -o a.npy")
    call("fd-encode faces/bob.ply -o b.npy")
    rows = call("fd-interp a.npy b.npy --steps 7").out
    assert call(f"fd-render --size 48 -o morph.{kind}", stdin=rows).code == 0
    for name, count in (("turn", 4), ("morph", 7)):
        path = tmp_path / f"{name}.{kind}"
        if kind == "mp4":
            import av

            with av.open(str(path)) as container:
                assert len(list(container.decode(video=0))) == count
        else:
            assert Image.open(path).n_frames == count


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("faces -o turn.gif --background transparent", 2, "output-suffix", "turn.gif"),
        ("faces --turn 30", 2, "option-conflict", "--turn"),
        ("faces --bounce -o a.png", 2, "option-conflict", "a.png"),
        ("faces --fps 10", 2, "option-conflict", "--fps"),
        ("faces --range 0,3", 2, "option-missing", "--against"),
        ("faces --against faces --range 3,0", 2, "option-value", "'3,0'"),
        ("faces --against faces --range -1.7e308,1.7e308", 2, "option-value", "1.7e308"),
        ("faces --view above", 2, "option-value", "'above', expected left, half-left, front"),
        ("faces --background whitish", 2, "option-value", "'whitish', expected transparent"),
        ("faces --background 'rgb(300,0,0)'", 2, "option-value", "'rgb(300,0,0)'"),
        ("- --against -", 2, "same-file", "standard input"),
        ("faces --against two", 3, "partner-missing", "'bob'"),
        ("faces/ann.ply --against part.ply", 3, "topology", "part"),
        ("other.npy", 3, "wrong-model", "0123456789ab"),
        ("faces -o sheet.jpg", 2, "output-suffix", "sheet.jpg"),
        ("faces -o old.png", 2, "output-exists", "old.png"),
        ("faces --row-labels a,b,c,d", 2, "option-value", "make 3 rows, but there are 4"),
        ("faces --columns 0", 2, "arguments", "--columns"),
        ("faces --columns 2 --column-labels a,b,c", 2, "option-value", "3 column labels"),
        ("faces --column-labels a -o a.gif", 2, "option-conflict", "--column-labels"),
        ("faces --row-labels a -o a.gif", 2, "option-conflict", "--row-labels"),
        ("nowhere.ply", 3, "file-missing", "nowhere.ply"),
        ("cloud.ply", 3, "no-triangles", "'cloud' has 9 vertices"),
        ("faces -o a.gif --fps 10 --seconds 2", 2, "option-conflict", "--seconds and --fps"),
        ("faces faces faces faces -o a.gif --seconds 0.1", 2, "option-value", "--seconds"),
        ("faces --bounce -o a.gif --turn 9", 2, "option-conflict", "--bounce"),
        ("faces --part identity", 2, "option-conflict", "--part and --model"),
        ("faces -m ict-linear", 2, "option-conflict", "--part and --model"),
        ("", 3, "empty", "standard input"),
        ("broken.safetensors", 3, "not-finite", "'person0/expression1'"),
        ("a.npy", 3, "latent-size", "a.npy: has 6 columns"),
        ("b.npy", 3, "array-shape", "b.npy"),
    ],
)
def test_what_cannot_be_drawn(call, faces, tmp_path, words, code, kind, named):
    (tmp_path / "old.png").write_text("old")
    save_mesh(tmp_path / "cloud.ply", face(0)[:9], np.empty((0, 3), np.int32))
    np.save(tmp_path / "a.npy", np.zeros((1, 6)))
    np.save(tmp_path / "b.npy", np.zeros(1))
    for name in ("ann", "zoe"):
        save_mesh(tmp_path / "two" / f"{name}.ply", face(0))
    save_mesh(tmp_path / "part.ply", face(0), np.array([[0, 1, 7]], np.int32))
    other = np.dtype(
        [("name", "U1"), ("model", "U12"), ("identity", "f4", 4), ("expression", "f4", 4)]
    )
    np.save(tmp_path / "other.npy", np.array([("a", "0123456789ab", 0, 0)], other))
    broken = face_set()
    broken.vertices[1] = np.inf
    write_face_set(tmp_path / "broken.safetensors", broken)
    result = call(f"fd-render {words}")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert (tmp_path / "old.png").read_text() == "old"
    assert not (tmp_path / "sheet.jpg").exists()


def test_vertices_without_triangles_have_those_of_the_model(call, faces):
    call("fd-encode faces -o a.npy")
    call("fd-decode a.npy --npy -o v.npy")
    meshes = call("fd-render a.npy --size 48 --no-labels")
    assert meshes.code == 0
    assert call("fd-render v.npy --size 48 --no-labels").out == meshes.out


def test_files_of_one_name_are_told_apart_by_their_folders(call, faces, tmp_path):
    for person in ("ann", "bob"):
        save_mesh(tmp_path / "scans" / person / "neutral.ply", face(len(person)))
    names = "scans/ann/neutral.ply scans/bob/neutral.ply"
    by_file = call(f"fd-render {names} --size 48")
    assert by_file.code == 0
    assert by_file.out == call("fd-render scans --size 48").out
    assert call(f"fd-encode {names} -o a.npy").code == 0
    assert call("fd-decode a.npy -o back/").code == 0
    assert set(contents(tmp_path / "back")) == {"ann/neutral.ply", "bob/neutral.ply"}


@pytest.mark.parametrize(("words", "seconds"), [("", 2.5), ("--bounce", 2.4)])
def test_a_sequence_takes_as_long_as_asked(call, faces, tmp_path, words, seconds):
    result = call(f"fd-render faces faces --size 16 --seconds 2.5 {words} -o a.gif")
    assert result.code == 0
    image = Image.open(tmp_path / "a.gif")
    total = 0
    for frame in range(image.n_frames):
        image.seek(frame)
        total += image.info["duration"]
    assert total / 1000 == pytest.approx(2.5, rel=0.05)


def test_without_pillow_it_says_how_to_get_it(shell, faces, tmp_path, without_torch):
    result = shell("fd-render faces -o sheet.png", env=without_torch)
    assert result.code == 2
    assert "-m pip install 'pillow>=10.1' 'jinja2>=3.1'" in result.line
    assert not (tmp_path / "sheet.png").exists()


def test_faces_in_other_units_are_drawn_in_one_size(call, tmp_path):
    vertices = face(0) * np.float32(1.5)
    save_mesh(tmp_path / "ours.ply", vertices)
    save_mesh(tmp_path / "ours.obj", vertices)
    save_mesh(tmp_path / "cm.obj", vertices / 10)
    mm, cm = (
        drawn(call(f"fd-render ours.ply {n} --size 64 --no-labels").out)
        for n in ("ours.obj", "cm.obj")
    )
    assert np.abs(mm.astype(int) - cm).mean() < 0.1
    errors = call("fd-render ours.ply --against cm.obj --size 64 -o errors.png --range 0,1")
    assert errors.code == 0, errors.err
    mixed = call("fd-render ours.obj cm.obj")
    assert (mixed.code, mixed.kind) == (3, "unit")
    assert "cm is " in mixed.line and "pass --units" in mixed.line
    wrong = call("fd-render ours.ply --against cm.obj --units mm")
    assert (wrong.code, wrong.kind) == (3, "unit")
