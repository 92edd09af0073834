"""The add-on of Blender, in Blender: shape keys are what the commands make of the same head."""

from pathlib import Path

import numpy as np
import pytest
from blender import in_blender
from rigs import made_map, rig

from facedis_core.data.latents import read_latents
from facedis_core.data.topology_map import write_map
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh

ROOT = Path(__file__).parent.parent
ADDON = ROOT / "docs" / "blender" / "facedis_addon.py"
EXAMPLES = ROOT / "weights" / "examples"

USE = """
addon, commands, head, smile, folder = sys.argv[1:]
bpy.ops.preferences.addon_install(filepath=addon)
bpy.ops.preferences.addon_enable(module="facedis_addon")
bpy.context.preferences.addons["facedis_addon"].preferences.folder = commands
bpy.ops.wm.obj_import(filepath=smile)
other = bpy.context.selected_objects[0]
bpy.ops.wm.obj_import(filepath=head)
head = bpy.context.selected_objects[0]
other.name = "Basis"  # as the key of the head at rest
bpy.context.view_layer.objects.active = head
done = [bpy.ops.facedis.transfer_file(filepath=smile)]
other.select_set(True)
done.append(bpy.ops.facedis.transfer())
done.append(bpy.ops.facedis.blendshapes(targets="arkit"))
done.append(bpy.ops.facedis.encode(filepath=folder + "/alice.npy"))
try:
    bpy.ops.facedis.transfer_file(filepath=addon)
except RuntimeError as error:
    done.append(str(error))
keys = head.data.shape_keys.key_blocks
at = np.empty(3 * len(head.data.vertices), np.float32)
for key in keys:
    key.data.foreach_get("co", at)
    np.save(folder + "/" + key.name + ".npy", at.reshape(-1, 3))
other.select_set(False)
head.modifiers.new("smooth", "SUBSURF")
try:
    bpy.ops.facedis.encode(filepath=folder + "/alice.npy")
except RuntimeError as error:
    done.append(str(error))
import facedis_addon
done.append([facedis_addon.add_key(head, name, 0 * facedis_addon.at_rest(head))
             for name in ("jawOpen", "mine", "Basis")])
done.append(facedis_addon.replaced(["a", "b", "c", "d"]))
print(json.dumps({"done": [list(one) if isinstance(one, set) else one for one in done],
                  "keys": [key.name for key in keys]}))
"""


@pytest.mark.slow  # 10 s: Blender, and ARKit's blendshapes of a head
def test_shape_keys_of_a_head(call, commands, tmp_path):
    for name in ("alice_neutral", "bob_smile"):
        mesh = read_mesh(EXAMPLES / f"{name}.ply")
        write_mesh(tmp_path / f"{name}.obj", Mesh(mesh.vertices / 10, mesh.triangles))  # cm
    head, smile = tmp_path / "alice_neutral.obj", tmp_path / "bob_smile.obj"
    env = {"BLENDER_USER_RESOURCES": str(tmp_path / "blender"), "FACEDIS_MODEL": "ict-linear"}
    (tmp_path / "blender").mkdir()
    (tmp_path / "keys").mkdir()
    found = in_blender(USE, ADDON, commands, head, smile, tmp_path / "keys", env=env)
    assert found["done"][:4] == [["FINISHED"]] * 4, found
    assert "expected" in found["done"][4]
    assert "has 157789 vertices by its modifiers, expected its own 26719" in found["done"][5]
    assert found["done"][6] == [True, False, False]
    (line,) = found["done"][7]
    assert "keys of the head that are called a, b, c and 1 more; Undo brings them back" in line
    env = {"FACEDIS_MODEL": "ict-linear"}
    assert call(f"fd-transfer {head} {smile} -o wanted.obj", env=env).code == 0
    wanted = read_mesh(tmp_path / "wanted.obj").vertices
    np.testing.assert_allclose(np.load(tmp_path / "keys/Basis.npy"), read_mesh(head).vertices)
    for name in ("bob_smile", "Basis.001"):
        key = np.load(tmp_path / f"keys/{name}.npy")
        np.testing.assert_allclose(key, wanted, atol=1e-4)  # cm; Blender keeps the file's axes
    assert call(f"fd-encode {head} -o alice.npy", env=env).code == 0
    assert call(f"fd-decode alice.npy --part identity --onto {head} -o rest.obj", env=env).code == 0
    rows = [read_latents(tmp_path / name) for name in ("alice.npy", "keys/alice.npy")]
    np.testing.assert_allclose(rows[1].identity, rows[0].identity, atol=1e-4)
    neutral = np.load(tmp_path / "keys/neutral.npy")
    np.testing.assert_allclose(neutral, read_mesh(tmp_path / "rest.obj").vertices, atol=1e-4)
    moved = np.load(tmp_path / "keys/jawOpen.npy") - np.load(tmp_path / "keys/Basis.npy")
    assert moved[:, 1].min() < -2 and np.abs(moved).max() < 6  # cm
    assert len(found["keys"]) == 2 + 1 + 1 + 52 + 2


USE_MAP = """
addon, commands, map_file, head, smile, folder = sys.argv[1:]
bpy.ops.preferences.addon_install(filepath=addon)
bpy.ops.preferences.addon_enable(module="facedis_addon")
settings = bpy.context.preferences.addons["facedis_addon"].preferences
settings.folder, settings.map_file, settings.model = commands, map_file, "ict-pointnet"
bpy.ops.wm.obj_import(filepath=head)
head = bpy.context.selected_objects[0]
bpy.context.view_layer.objects.active = head
done = bpy.ops.facedis.transfer_file(filepath=smile)
at = np.empty(3 * len(head.data.vertices), np.float32)
head.data.shape_keys.key_blocks["bob_smile"].data.foreach_get("co", at)
np.save(folder + "/key.npy", at.reshape(-1, 3))
print(json.dumps(list(done)))
"""


@pytest.mark.slow  # 10 s: Blender, and the map of a rig
def test_a_head_of_another_topology(call, commands, tmp_path):
    write_map(tmp_path / "m.safetensors", made_map())
    write_mesh(tmp_path / "rig.obj", rig("alice_neutral"))
    (tmp_path / "blender").mkdir()
    env = {"BLENDER_USER_RESOURCES": str(tmp_path / "blender")}
    files = tmp_path / "m.safetensors", tmp_path / "rig.obj", EXAMPLES / "bob_smile.ply"
    assert in_blender(USE_MAP, ADDON, commands, *files, tmp_path, env=env) == ["FINISHED"]
    line = f"fd-transfer rig.obj {files[2]} -m ict-pointnet --map m.safetensors -o wanted.obj"
    assert call(line).code == 0
    wanted = read_mesh(tmp_path / "wanted.obj").vertices
    np.testing.assert_allclose(np.load(tmp_path / "key.npy"), wanted, atol=1e-4)  # cm
