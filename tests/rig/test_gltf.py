"""glTF files of rigs, as a reader of a few lines decodes them."""

from dataclasses import replace

import numpy as np
import pytest
from glb import Glb
from synthetic import grid_mesh

from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.surface import vertex_normals
from facedis_core.rig.gltf import Animation, Rig, Surface, encode_glb


@pytest.fixture
def rig():
    vertices, triangles = grid_mesh()
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(4, *vertices.shape)).astype(np.float32)
    targets[1, 3:] = 0  # few vertices
    targets[2] = 0
    surfaces = [
        Surface("skin", (0.5, 0.25, 0.125), triangles[10:]),
        Surface("teeth", (1.0, 1.0, 0.5), triangles[:10]),
    ]
    animation = Animation(np.arange(5) / 25, rng.random((5, 4)))
    return Rig("ann", vertices, surfaces, ["jawOpen", "b", "c", "d"], targets, animation)


def test_mesh_and_targets(rig):
    glb = Glb(encode_glb(rig))
    (mesh,) = glb.json["meshes"]
    assert mesh["name"] == "ann"
    assert mesh["extras"]["targetNames"] == ["jawOpen", "b", "c", "d"]
    assert mesh["weights"] == [0, 0, 0, 0]
    triangles = []
    for primitive, surface in zip(mesh["primitives"], rig.surfaces, strict=True):
        at = glb.array(primitive["attributes"]["POSITION"])
        np.testing.assert_array_equal(at, rig.vertices * np.float32(1e-3))
        moved = [glb.array(target["POSITION"]) for target in primitive["targets"]]
        np.testing.assert_allclose(moved, rig.targets * 1e-3, atol=1e-6)
        triangles.append(glb.array(primitive["indices"]).reshape(-1, 3))
        np.testing.assert_array_equal(triangles[-1], surface.triangles)
        material = glb.json["materials"][primitive["material"]]
        color = material["pbrMetallicRoughness"]["baseColorFactor"]
        assert (material["name"], *color) == (surface.name, *surface.color, 1.0)
    normals = glb.array(mesh["primitives"][0]["attributes"]["NORMAL"])
    wanted = vertex_normals(rig.vertices.astype(float), np.concatenate(triangles))
    np.testing.assert_allclose(normals, wanted, atol=1e-6)


def test_a_name_that_is_no_text(rig):
    glb = Glb(encode_glb(replace(rig, name="K\udcf6pf")))
    assert glb.json["meshes"][0]["name"] == glb.json["nodes"][0]["name"] == "Köpf"


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0.6, 0.8)])
def test_a_rig_that_is_turned(rig, axis, degrees):
    """Vertices stay, the node turns them: by the quaternion of that rotation (Rodrigues 1840)."""
    turned = rotation_about(np.array(axis), np.radians(degrees))
    glb = Glb(encode_glb(replace(rig, rotation=turned)))
    at = glb.array(glb.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"])
    np.testing.assert_array_equal(at, rig.vertices * np.float32(1e-3))
    half = np.radians(degrees / 2)
    wanted = np.array([*(np.sin(half) * np.array(axis)), np.cos(half)])
    found = np.array(glb.json["nodes"][0]["rotation"])
    np.testing.assert_allclose(found * np.copysign(1, found @ wanted), wanted, atol=1e-12)
    assert found[3] >= 0


def test_a_rig_that_is_upright_has_no_rotation(rig):
    for upright in (rig, replace(rig, rotation=np.eye(3))):
        assert "rotation" not in Glb(encode_glb(upright)).json["nodes"][0]


def test_targets_that_move_little_are_sparse(rig):
    glb = Glb(encode_glb(rig))
    primitive = glb.json["meshes"][0]["primitives"][0]
    accessors = [glb.json["accessors"][target["POSITION"]] for target in primitive["targets"]]
    assert ["sparse" in accessor for accessor in accessors] == [False, True, False, False]
    assert ["bufferView" in accessor for accessor in accessors] == [True, False, False, True]


def test_animation(rig):
    glb = Glb(encode_glb(rig))
    (animation,) = glb.json["animations"]
    (channel,) = animation["channels"]
    assert channel["target"] == {"node": 0, "path": "weights"}
    assert glb.json["nodes"][0]["mesh"] == 0 and glb.json["scenes"][0]["nodes"] == [0]
    sampler = animation["samplers"][channel["sampler"]]
    np.testing.assert_allclose(glb.array(sampler["input"]), np.arange(5) / 25, rtol=1e-6)
    weights = glb.array(sampler["output"]).reshape(5, 4)
    np.testing.assert_allclose(weights, rig.animation.weights, rtol=1e-6)


def test_vertices_without_triangles_have_normals_of_length_one(rig):
    lonely = Rig("a", rig.vertices, [Surface("s", (1, 1, 1), rig.surfaces[1].triangles)], [], [])
    glb = Glb(encode_glb(lonely))
    primitive = glb.json["meshes"][0]["primitives"][0]
    normals = glb.array(primitive["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert "targets" not in primitive and "weights" not in glb.json["meshes"][0]
