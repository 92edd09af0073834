"""facedis in Blender: expressions of other people and ARKit's blendshapes as shape keys of a head.

The add-on starts the installed commands (fd-encode, fd-transfer, fd-export) and reads their files;
Blender's own Python needs nothing. Install it by Edit, Preferences, Add-ons, Install from Disk, and
name there the folder of the commands if they are not on the path. It appears in the sidebar of the
3D view (N), tab facedis.

The mesh is given to the commands as it stands in the world, with y up; its vertices keep their
order, and what comes back are shape keys in its own space.
"""

import json
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.io_utils import ExportHelper, ImportHelper

bl_info = {
    "name": "facedis",
    "author": "facedis",
    "version": (0, 1, 0),
    "blender": (4, 2, 0),
    "location": "3D View > Sidebar > facedis",
    "description": "Expressions of other people and ARKit's blendshapes as shape keys of a head",
    "category": "Animation",
}

Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)  # from Blender's z up
UNITS_PER_METRE = (1, 10, 100, 1000, 1 / 0.0254)


class CommandError(Exception):
    """A command could not be started, or ended with a message."""


def run_command(name, *words):
    """Run a command; its last line on standard error is the message of what went wrong."""
    settings = bpy.context.preferences.addons[__name__].preferences
    folder = bpy.path.abspath(settings.folder)
    if settings.map_file:
        words = (*words, "--map", bpy.path.abspath(settings.map_file))
    if settings.model:
        words = (*words, "--model", bpy.path.abspath(settings.model))
    program = shutil.which(name, path=folder) or shutil.which(name)
    if program is None:
        raise CommandError(f"{name} is not found; name the folder of the commands in Preferences")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        raise CommandError(lines[-1] if lines else f"{name} ended with {done.returncode}")
    return lines


def at_rest(head):
    """Vertices (V, 3) of the basis of a mesh object, in its own space."""
    keys = head.data.shape_keys
    source = keys.key_blocks[0].data if keys else head.data.vertices
    return coordinates(source, len(head.data.vertices))


def as_shown(head):
    """Vertices (V, 3) of a mesh object with its shape keys and modifiers, in its own space."""
    shown = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    count, expected = len(shown.vertices), len(head.data.vertices)
    if count != expected:
        raise CommandError(
            f"{head.name} has {count} vertices by its modifiers, expected its own {expected}; hide "
            "those that add or remove some, such as a subdivision"
        )
    return coordinates(shown.vertices, count)


def coordinates(source, count):
    """The attribute `co` of vertices or shape key points, (count, 3)."""
    flat = np.empty(3 * count, np.float32)
    source.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def write_obj(path, head, vertices):
    """Write a mesh object with these vertices as OBJ, in world space with y up."""
    matrix = np.array(head.matrix_world)
    placed = (vertices @ matrix[:3, :3].T + matrix[:3, 3]) @ Y_UP.T
    lines = ["v {:.9g} {:.9g} {:.9g}".format(*vertex) for vertex in placed.tolist()]
    for polygon in head.data.polygons:
        lines.append("f " + " ".join(str(vertex + 1) for vertex in polygon.vertices))
    Path(path).write_text("\n".join([*lines, ""]), encoding="ascii")


def read_obj(path):
    """The vertices (V, 3) of an OBJ."""
    lines = Path(path).read_text(encoding="ascii").splitlines()
    return np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)


def read_glb(path):
    """The vertices (V, 3) of a rig in metres, and its morph targets by name, (V, 3) each."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    content, binary = json.loads(data[20 : 20 + size]), data[28 + size :]

    def numbers(view, kind, count):
        begin = content["bufferViews"][view].get("byteOffset", 0)
        return np.frombuffer(binary, kind, count, begin)

    def accessor(number):
        entry = content["accessors"][number]
        values = np.zeros((entry["count"], 3), np.float32)
        if "bufferView" in entry:
            values[:] = numbers(entry["bufferView"], "<f4", values.size).reshape(-1, 3)
        if "sparse" in entry:
            sparse = entry["sparse"]
            rows = numbers(sparse["indices"]["bufferView"], "<u4", sparse["count"])
            moved = numbers(sparse["values"]["bufferView"], "<f4", 3 * len(rows))
            values[rows] = moved.reshape(-1, 3)
        return values.astype(np.float64)

    (mesh,) = content["meshes"]
    primitive = mesh["primitives"][0]
    targets = [accessor(target["POSITION"]) for target in primitive["targets"]]
    names = mesh["extras"]["targetNames"]
    return accessor(primitive["attributes"]["POSITION"]), dict(zip(names, targets, strict=True))


def add_key(head, name, offsets):
    """Add a shape key, or replace the one of this name: offsets (V, 3) in world space, y up.

    The basis is never replaced. Returns whether another key was.
    """
    if not head.data.shape_keys:
        head.shape_key_add(name="Basis", from_mix=False)
    keys = head.data.shape_keys.key_blocks
    key = keys.get(name)
    is_new = key in (None, keys[0])
    if is_new:
        key = head.shape_key_add(name=name, from_mix=False)
        key.value = 0.0  # Blender 5 begins with 1
    turn = np.linalg.inv(np.array(head.matrix_world)[:3, :3])
    moved = at_rest(head) + offsets @ Y_UP @ turn.T
    key.data.foreach_set("co", moved.astype(np.float32).ravel())
    key.slider_max = 2.0
    head.data.update()
    return not is_new


def replaced(names):
    """A line about the shape keys that were replaced; none of none."""
    if not names:
        return []
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"replaced the shape keys of the head that are called {few}; Undo brings them back"]


def transfer(head, expression, name):
    """A shape key with the expression of a mesh or latents (a path), in place of the head's own."""
    with tempfile.TemporaryDirectory() as folder:
        given, moved = Path(folder, "head.obj"), Path(folder, "moved.obj")
        write_obj(given, head, at_rest(head))
        lines = run_command("fd-transfer", given, expression, "-o", moved)
        is_other = add_key(head, name, read_obj(moved) - read_obj(given))
    return lines + replaced([name] if is_other else [])


def add_blendshapes(head, targets):
    """Shape keys of a rig of the head, and one that takes its own expression away."""
    with tempfile.TemporaryDirectory() as folder:
        given, rig = Path(folder, "head.obj"), Path(folder, "rig.glb")
        before = at_rest(head)
        write_obj(given, head, before)
        lines = run_command("fd-export", given, "--onto", given, "--targets", targets, "-o", rig)
        neutral, found = read_glb(rig)
        placed = read_obj(given)
    # the rig is in metres, and has nearly the size of the head
    ratio = np.linalg.norm(np.ptp(placed, axis=0)) / np.linalg.norm(np.ptp(neutral, axis=0))
    unit = min(UNITS_PER_METRE, key=lambda one: abs(np.log(one / ratio)))
    count = len(before)
    keys = {"neutral": neutral[:count] * unit - placed}
    keys |= {name: offsets[:count] * unit for name, offsets in found.items()}
    others = [name for name, offsets in keys.items() if add_key(head, name, offsets)]
    return lines + replaced(others)


class FacedisPreferences(bpy.types.AddonPreferences):
    """Where the commands are, and what they work with."""

    bl_idname = __name__

    folder: bpy.props.StringProperty(
        name="Folder of the commands",
        description="Where fd-encode is, such as .venv/bin; empty = on the path",
        subtype="DIR_PATH",
    )
    map_file: bpy.props.StringProperty(
        name="Map",
        description="Map of fd-map, for heads of another topology; empty = none",
        subtype="FILE_PATH",
    )
    model: bpy.props.StringProperty(
        name="Model", description="Model file or bundled name; empty = the default"
    )

    def draw(self, context):
        for name in ("folder", "map_file", "model"):
            self.layout.prop(self, name)


class _OfHead:
    """An operator on the active mesh."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender reads it

    @classmethod
    def poll(cls, context):
        head = context.active_object
        return head is not None and head.type == "MESH" and head.mode == "OBJECT"

    def execute(self, context):
        try:
            lines = self.work(context.active_object)
        except CommandError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for line in lines:
            self.report({"WARNING"}, line)
        return {"FINISHED"}


class FACEDIS_OT_encode(_OfHead, bpy.types.Operator, ExportHelper):  # noqa: N801
    """Save the identity and expression latents of the active mesh."""

    bl_idname = "facedis.encode"
    bl_label = "Save Latents"
    filename_ext = ".npy"

    def work(self, head):
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder, f"{bpy.path.clean_name(head.name)}.obj")
            write_obj(given, head, as_shown(head))
            return run_command("fd-encode", given, "-o", self.filepath, "--force")


class FACEDIS_OT_transfer_file(_OfHead, bpy.types.Operator, ImportHelper):  # noqa: N801
    """Add the expression of a mesh file or of latents as a shape key."""

    bl_idname = "facedis.transfer_file"
    bl_label = "Expression of a File"
    filter_glob: bpy.props.StringProperty(default="*.npy;*.ply;*.obj", options={"HIDDEN"})

    def work(self, head):
        return transfer(head, self.filepath, Path(self.filepath).stem)


class FACEDIS_OT_transfer(_OfHead, bpy.types.Operator):  # noqa: N801
    """Add the expression of the other selected mesh, as it is shown, as a shape key."""

    bl_idname = "facedis.transfer"
    bl_label = "Expression of the Other Mesh"

    def work(self, head):
        others = [one for one in bpy.context.selected_objects if one is not head]
        if len(others) != 1 or others[0].type != "MESH":
            raise CommandError("select the mesh with the expression, then the head")
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder, "expression.obj")
            write_obj(given, others[0], as_shown(others[0]))
            return transfer(head, given, others[0].name)


class FACEDIS_OT_blendshapes(_OfHead, bpy.types.Operator):  # noqa: N801
    """Add shape keys for expressions, and one, neutral, that takes the head's own away."""

    bl_idname = "facedis.blendshapes"
    bl_label = "Add Blendshapes"
    targets: bpy.props.EnumProperty(
        name="Blendshapes",
        items=[
            ("arkit", "ARKit", "The 52 blendshapes of ARKit by name"),
            ("directions", "Directions", "The leading expression directions of the model"),
        ],
    )

    def work(self, head):
        return add_blendshapes(head, self.targets)


class FACEDIS_PT_panel(bpy.types.Panel):  # noqa: N801
    """The buttons, and a slider for every shape key."""

    bl_label = "facedis"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "facedis"

    def draw(self, context):
        column = self.layout.column()
        for operator in (FACEDIS_OT_transfer, FACEDIS_OT_transfer_file, FACEDIS_OT_encode):
            column.operator(operator.bl_idname)
        column.operator_menu_enum(FACEDIS_OT_blendshapes.bl_idname, "targets")
        head = context.active_object
        keys = head.data.shape_keys if head and head.type == "MESH" else None
        for key in keys.key_blocks[1:] if keys else ():
            column.prop(key, "value", text=key.name, slider=True)


CLASSES = (
    FacedisPreferences,
    FACEDIS_OT_encode,
    FACEDIS_OT_transfer_file,
    FACEDIS_OT_transfer,
    FACEDIS_OT_blendshapes,
    FACEDIS_PT_panel,
)


def register():
    """Called by Blender where the add-on is switched on."""
    for one in CLASSES:
        bpy.utils.register_class(one)


def unregister():
    """Called by Blender where the add-on is switched off."""
    for one in reversed(CLASSES):
        bpy.utils.unregister_class(one)


if __name__ == "__main__":
    register()
