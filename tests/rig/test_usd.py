"""USD files of rigs, as OpenUSD reads them, and Blender."""

from dataclasses import replace

import numpy as np
import pytest
from blender import in_blender
from images import png
from synthetic import grid_mesh

from facedis_core.geometry.alignment import rotation_about
from facedis_core.rig.gltf import Animation, Rig, Surface
from facedis_core.rig.usd import encode_usdz

OPEN = """
bpy.ops.wm.usd_import(filepath=sys.argv[1])
(head,) = [one for one in bpy.data.objects if one.type == "MESH"]
keys = head.data.shape_keys.key_blocks
at = np.empty(3 * len(head.data.vertices), np.float32)
found = {}
for key in keys:
    key.data.foreach_get("co", at)
    found[key.name] = at.reshape(-1, 3).tolist()
print(json.dumps({"keys": found, "uv": [layer.name for layer in head.data.uv_layers],
                  "materials": len(head.data.materials),
                  "images": [list(one.size) for one in bpy.data.images]}))
"""


@pytest.fixture
def rig():
    pytest.importorskip("pxr")
    vertices, triangles = grid_mesh()
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(4, *vertices.shape)).astype(np.float32)
    targets[1, 3:] = 0
    targets[3] = 0
    surfaces = [
        Surface("skin of ann", (1.0, 1.0, 1.0), triangles[10:], texture=png(9, 8, 7)),
        Surface("teeth", (1.0, 1.0, 0.5), triangles[:10], opacity=0.5),
    ]
    animation = Animation(np.arange(5) / 25, rng.random((5, 4)))
    uv = rng.random((len(vertices), 2))
    names = ["jawOpen", "b", "expression 1", "tongueOut"]
    return Rig("ann", vertices, surfaces, names, targets, animation, uv=uv)


def test_what_openusd_reads(rig, tmp_path):
    from pxr import Usd, UsdGeom, UsdShade, UsdSkel

    path = tmp_path / "ann.usdz"
    path.write_bytes(encode_usdz(rig))
    assert path.read_bytes() == encode_usdz(rig)  # the same bytes at any time
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1 and UsdGeom.GetStageUpAxis(stage) == "Y"
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    np.testing.assert_allclose(mesh.GetPointsAttr().Get(), rig.vertices / 1000, atol=1e-7)
    triangles = np.concatenate([surface.triangles for surface in rig.surfaces])
    np.testing.assert_array_equal(mesh.GetFaceVertexIndicesAttr().Get(), triangles.ravel())
    places = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get()
    np.testing.assert_allclose(places, rig.uv * [1, -1] + [0, 1], atol=1e-6)
    binding = UsdSkel.BindingAPI(mesh.GetPrim())
    assert list(binding.GetBlendShapesAttr().Get()) == ["jawOpen", "b", "expression_1", "tongueOut"]
    query = UsdSkel.BlendShapeQuery(binding)
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath("/head"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    (bound,) = cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate)
    animation = cache.GetSkelQuery(bound.GetSkeleton()).GetAnimQuery()
    for frame in (0, 3):
        weights = animation.ComputeBlendShapeWeights(frame)
        np.testing.assert_allclose(weights, rig.animation.weights[frame], rtol=1e-6)
        points = mesh.GetPointsAttr().Get()
        query.ComputeDeformedPoints(
            *query.ComputeSubShapeWeights(weights),
            query.ComputeBlendShapePointIndices(),
            query.ComputeSubShapePointOffsets(),
            points,
        )
        wanted = rig.vertices + np.tensordot(rig.animation.weights[frame], rig.targets, 1)
        np.testing.assert_allclose(points, wanted / 1000, atol=1e-5)
    assert stage.GetTimeCodesPerSecond() == 25
    skin, teeth = UsdGeom.Subset.GetAllGeomSubsets(mesh)
    assert len(skin.GetIndicesAttr().Get()) == len(rig.surfaces[0].triangles)
    material, _ = UsdShade.MaterialBindingAPI(teeth.GetPrim()).ComputeBoundMaterial()
    assert material.GetPrim().GetDisplayName() == "teeth"
    assert not stage.GetPrimAtPath("/head/materials/teeth_1/colors")


def test_colors_of_vertices_are_those_of_the_material(rig, tmp_path):
    """Of a mesh with a material, programs show what the material says."""
    from pxr import Usd, UsdGeom, UsdShade

    colors = np.random.default_rng(1).random(rig.vertices.shape)
    surfaces = [Surface("skin", (1.0, 1.0, 1.0), rig.surfaces[0].triangles)]
    (tmp_path / "ann.usdz").write_bytes(encode_usdz(replace(rig, surfaces=surfaces, colors=colors)))
    stage = Usd.Stage.Open(str(tmp_path / "ann.usdz"))
    shader = UsdShade.Shader(stage.GetPrimAtPath("/head/materials/skin_0/surface"))
    source, output, _ = shader.GetInput("diffuseColor").GetConnectedSource()
    reader = UsdShade.Shader(source.GetPrim())
    assert (reader.GetIdAttr().Get(), output) == ("UsdPrimvarReader_float3", "result")
    name = reader.GetInput("varname").Get()
    shown = UsdGeom.PrimvarsAPI(stage.GetPrimAtPath("/head/mesh")).GetPrimvar(name).Get()
    np.testing.assert_allclose(shown, colors, atol=1e-6)


def test_without_the_package_the_extra_is_named(monkeypatch, call, tmp_path):
    monkeypatch.setattr("facedis_core.rig.export.find_spec", lambda name: None)
    result = call("fd-export none.npy -o rig.usdz")
    assert (result.code, result.kind) == (2, "extra-missing")
    assert "'usd' extra" in result.line


@pytest.mark.slow  # 3 s: Blender
def test_blender_has_the_shape_keys(rig, tmp_path):
    rig = replace(rig, animation=None)
    (tmp_path / "ann.usdz").write_bytes(encode_usdz(rig))
    found = in_blender(OPEN, tmp_path / "ann.usdz")
    base, *moved = (np.array(key) for key in found["keys"].values())
    assert list(found["keys"])[1:] == ["jawOpen", "b", "expression_1", "tongueOut"]
    np.testing.assert_allclose(base, rig.vertices / 1000, atol=1e-6)
    np.testing.assert_allclose(np.array(moved) - base, rig.targets / 1000, atol=1e-5)
    assert found["uv"] == ["st"] and found["materials"] == 2
    assert [1, 1] in found["images"]


def test_a_rig_that_is_turned(rig, tmp_path):
    from pxr import Usd, UsdGeom

    turned = rotation_about(np.array([1.0, 0, 0]), -np.pi / 2)
    (tmp_path / "ann.usdz").write_bytes(encode_usdz(replace(rig, rotation=turned)))
    stage = Usd.Stage.Open(str(tmp_path / "ann.usdz"))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    matrix = mesh.ComputeLocalToWorldTransform(0)
    for point in np.asarray(mesh.GetPointsAttr().Get(), float)[:5]:
        np.testing.assert_allclose(matrix.Transform(tuple(point)), turned @ point, atol=1e-7)
