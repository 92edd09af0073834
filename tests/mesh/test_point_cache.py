"""Animations as point caches: what a reader of a few lines finds, and Blender."""

import struct

import numpy as np
import pytest
from blender import in_blender
from conftest import face, raw_mesh, save_mesh

from facedis_core.data.latents import read_latents
from facedis_core.mesh.mesh import read_mesh, write_mesh


def read_pc2(data):
    """Vertices (frames, V, 3)."""
    magic, version, count, start, rate, frames = struct.unpack_from("<12siiffi", data)
    assert (magic, version, start, rate) == (b"POINTCACHE2\0", 1, 0, 1)
    return np.frombuffer(data, "<f4", offset=32).reshape(frames, count, 3)


def read_mdd(data):
    """Vertices (frames, V, 3) and seconds (frames,)."""
    frames, count = struct.unpack_from(">ii", data)
    seconds = np.frombuffer(data, ">f4", frames, 8)
    return np.frombuffer(data, ">f4", offset=8 + 4 * frames).reshape(frames, count, 3), seconds


@pytest.fixture
def frames(call, tmp_path):
    """Latents `frames.npy` of five faces, and a raw mesh in cm, `ann.obj`."""
    for number in range(5):
        save_mesh(tmp_path / f"faces/f{number}.ply", face(number))
    assert call("fd-encode faces -o frames.npy").code == 0
    write_mesh(tmp_path / "ann.obj", raw_mesh(face(1)))
    return read_latents(tmp_path / "frames.npy")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_frame_for_each_row(call, frames, model, tmp_path, jobs):
    for name in ("talk.pc2", "talk.mdd"):
        assert call(f"fd-decode frames.npy -o {name} --fps 25 --jobs {jobs}").code == 0
    wanted = model.decode(frames)
    np.testing.assert_array_equal(read_pc2((tmp_path / "talk.pc2").read_bytes()), wanted)
    found, seconds = read_mdd((tmp_path / "talk.mdd").read_bytes())
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(seconds, np.arange(5) / 25, rtol=1e-6)


def test_onto_an_original_they_are_its_files(call, frames, tmp_path):
    """The frames are the vertices of the files that --onto writes one by one."""
    assert call("fd-decode frames.npy --onto ann.obj -o frames/").code == 0
    wanted = [read_mesh(tmp_path / f"frames/f{number}.obj").vertices for number in range(5)]
    assert call("fd-decode frames.npy --onto ann.obj -o talk.pc2").code == 0
    found = read_pc2((tmp_path / "talk.pc2").read_bytes())
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert call("fd-transfer ann.obj frames.npy -o said.pc2").code == 0
    assert call("fd-transfer ann.obj frames.npy -o said/").code == 0
    wanted = [read_mesh(tmp_path / f"said/ann__f{number}.obj").vertices for number in range(5)]
    found = read_pc2((tmp_path / "said.pc2").read_bytes())
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_parts(call, frames, model, tmp_path):
    line = "fd-decode frames.npy --part identity --part full -o {part}.pc2"
    assert call(line).code == 0
    found = read_pc2((tmp_path / "identity.pc2").read_bytes())
    np.testing.assert_array_equal(found, model.decode(frames, "identity"))


@pytest.mark.parametrize(
    ("line", "code", "kind", "named"),
    [
        ("fd-decode frames.npy -o '{name}.pc2'", 2, "output-pattern", ".pc2 writes all faces"),
        ("fd-decode frames.npy --stream -o a.mdd", 2, "option-conflict", "number of frames"),
        ("fd-decode frames.npy --npy -o a.pc2", 2, "output-suffix", ".npy"),
        ("fd-decode frames.npy --fps inf -o a.mdd", 2, "option-value", "inf frames"),
        ("fd-decode frames.npy --onto faces -o a.pc2", 3, "vertex-count", "one file"),
        ("fd-transfer frames.npy ann.obj -o a.pc2", 2, "output-suffix", "a.pc2 is a mesh"),
    ],
)
def test_what_is_refused(call, frames, tmp_path, line, code, kind, named):
    wider = raw_mesh(face(9))
    write_mesh(tmp_path / "faces/f3.ply", wider)
    result = call(line)
    assert (result.code, result.kind) == (code, kind), result.err
    assert named in result.line
    assert not (tmp_path / "a.pc2").exists()


SHOW = """
bpy.ops.wm.obj_import(filepath="ann.obj")
head = bpy.context.selected_objects[0]
cache = head.modifiers.new("talk", "MESH_CACHE")
cache.cache_format, cache.filepath = sys.argv[1][-3:].upper(), sys.argv[1]
shown = []
for frame in range(5):
    bpy.context.scene.frame_set(frame)
    moved = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    shown.append([list(vertex.co) for vertex in moved.vertices])
print(json.dumps(shown))
"""


@pytest.mark.slow  # 3 s: Blender
@pytest.mark.parametrize("name", ["talk.pc2", "talk.mdd"])
def test_blender_shows_the_frames(call, frames, tmp_path, monkeypatch, name):
    """On the mesh as it was imported, with the axes as they are in both files."""
    monkeypatch.chdir(tmp_path)
    save_mesh(tmp_path / "ann.obj", face(1))  # no loose vertices, which Blender leaves out
    np.save(tmp_path / "wild.npy", np.random.default_rng(0).normal(size=(5, 5)))
    assert call(f"fd-decode wild.npy --onto ann.obj -o {name}").code == 0
    data = (tmp_path / name).read_bytes()
    wanted = read_pc2(data) if name == "talk.pc2" else read_mdd(data)[0]
    assert np.abs(wanted[1:] - wanted[:-1]).max(axis=(1, 2)).min() > 0.1
    np.testing.assert_allclose(in_blender(SHOW, name), wanted, atol=1e-5)
