"""USD: a head with morph targets and an animation of their weights, as one .usdz with textures.

Blend shapes are those of UsdSkel, which wants a skeleton: one joint that holds the whole head.
"""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from facedis_core.errors import missing_extra
from facedis_core.geometry.surface import vertex_normals
from facedis_core.io.atomic import temporary_folder
from facedis_core.mesh.appearance import image_type
from facedis_core.rig.gltf import ROUGHNESS, Rig

_METRES: Final = np.float32(1e-3)  # per mm
_LEFT_OUT_MM: Final = 1e-3  # motion that a blend shape leaves out
_DATE: Final = 315619200  # seconds: the first whole day that a .zip can have
_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg"}


def encode_usdz(rig: Rig) -> bytes:
    """The rig as the bytes of a .usdz, in metres, y up.

    Raises:
        UsageError: usd-core is not installed.
    """
    try:
        from pxr import Sdf, Usd, UsdUtils
    except ImportError:
        raise missing_extra("USD", "usd") from None
    with temporary_folder() as folder:
        path, package = folder / "rig.usdc", folder / "rig.usdz"
        stage = Usd.Stage.CreateNew(str(path))
        _Writer(stage, folder).write(rig)
        stage.GetRootLayer().Save()
        for file in folder.iterdir():
            os.utime(file, (_DATE, _DATE))  # the package stores it
        UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(path)), str(package))
        return package.read_bytes()


class _Writer:
    """Writes a rig to a stage, and its textures to a folder."""

    def __init__(self, stage: Any, folder: Path) -> None:
        from pxr import Gf, Sdf, Tf, UsdGeom, UsdShade, UsdSkel, Vt

        self.gf, self.sdf, self.tf, self.vt = Gf, Sdf, Tf, Vt
        self.geom, self.shade, self.skel = UsdGeom, UsdShade, UsdSkel
        self.stage, self.folder = stage, folder

    def write(self, rig: Rig) -> None:
        geom, vt, stage = self.geom, self.vt, self.stage
        geom.SetStageUpAxis(stage, geom.Tokens.y)
        geom.SetStageMetersPerUnit(stage, 1.0)
        root = self.skel.Root.Define(stage, "/head")
        stage.SetDefaultPrim(root.GetPrim())
        if rig.rotation is not None:
            matrix = self.gf.Matrix4d(1.0)  # of rows on its left
            matrix.SetRotateOnly(self.gf.Matrix3d(*np.asarray(rig.rotation).T.ravel().tolist()))
            geom.Xformable(root).AddTransformOp().Set(matrix)
        mesh = geom.Mesh.Define(stage, "/head/mesh")
        points = np.asarray(rig.vertices, np.float32) * _METRES
        triangles = np.concatenate([surface.triangles for surface in rig.surfaces])
        normals = rig.normals
        if normals is None:
            normals = vertex_normals(np.asarray(rig.vertices, np.float64), triangles)
        mesh.CreatePointsAttr(vt.Vec3fArray.FromNumpy(points))
        mesh.CreateExtentAttr(vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)])))
        counts = np.full(len(triangles), 3, np.int32)
        mesh.CreateFaceVertexCountsAttr(vt.IntArray.FromNumpy(counts))
        mesh.CreateFaceVertexIndicesAttr(vt.IntArray.FromNumpy(triangles.astype(np.int32).ravel()))
        mesh.CreateSubdivisionSchemeAttr(geom.Tokens.none)
        mesh.CreateDoubleSidedAttr(True)
        mesh.CreateNormalsAttr(vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals, np.float32)))
        mesh.SetNormalsInterpolation(geom.Tokens.vertex)
        if rig.uv is not None:
            upwards = np.stack([rig.uv[:, 0], 1 - rig.uv[:, 1]], axis=1).astype(np.float32)
            kind = self.sdf.ValueTypeNames.TexCoord2fArray
            places = geom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, geom.Tokens.vertex)
            places.Set(vt.Vec2fArray.FromNumpy(upwards))
        if rig.colors is not None:
            colors = vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rig.colors, np.float32))
            mesh.CreateDisplayColorPrimvar(geom.Tokens.vertex).Set(colors)
        self._surfaces(rig, mesh)
        self._shapes(rig, mesh)

    def _surfaces(self, rig: Rig, mesh: Any) -> None:
        """The triangles by material."""
        first = 0
        for number, surface in enumerate(rig.surfaces):
            name = f"{self.tf.MakeValidIdentifier(surface.name)}_{number}"
            count = len(surface.triangles)
            faces = self.vt.IntArray.FromNumpy(np.arange(first, first + count, dtype=np.int32))
            first += count
            part = self.geom.Subset.CreateGeomSubset(
                mesh, name, self.geom.Tokens.face, faces, "materialBind"
            )
            colored = rig.colors is not None
            material = self._material(f"/head/materials/{name}", surface, colored)
            self.shade.MaterialBindingAPI.Apply(part.GetPrim()).Bind(material)

    def _material(self, path: str, surface: Any, colored: bool) -> Any:
        types, shade = self.sdf.ValueTypeNames, self.shade
        material = shade.Material.Define(self.stage, path)
        material.GetPrim().SetDisplayName(surface.name)
        shader = shade.Shader.Define(self.stage, f"{path}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        shader.CreateInput("roughness", types.Float).Set(ROUGHNESS)
        shader.CreateInput("opacity", types.Float).Set(float(surface.opacity))
        color = shader.CreateInput("diffuseColor", types.Color3f)
        color.Set(self.gf.Vec3f(*map(float, surface.color)))
        if surface.texture:
            file = Path(path).name + _SUFFIXES[image_type(surface.texture) or "image/png"]
            Path(self.folder, file).write_bytes(surface.texture)
            place = shade.Shader.Define(self.stage, f"{path}/place")
            place.CreateIdAttr("UsdPrimvarReader_float2")
            place.CreateInput("varname", types.String).Set("st")
            image = shade.Shader.Define(self.stage, f"{path}/image")
            image.CreateIdAttr("UsdUVTexture")
            image.CreateInput("file", types.Asset).Set(f"./{file}")
            image.CreateInput("wrapS", types.Token).Set("repeat")
            image.CreateInput("wrapT", types.Token).Set("repeat")
            source = place.CreateOutput("result", types.Float2)
            image.CreateInput("st", types.Float2).ConnectToSource(source)
            color.ConnectToSource(image.CreateOutput("rgb", types.Float3))
            if surface.cut_out:
                opacity = image.CreateOutput("a", types.Float)
                shader.GetInput("opacity").ConnectToSource(opacity)
        elif colored:  # a bound material hides them
            colors = shade.Shader.Define(self.stage, f"{path}/colors")
            colors.CreateIdAttr("UsdPrimvarReader_float3")
            colors.CreateInput("varname", types.String).Set("displayColor")
            color.ConnectToSource(colors.CreateOutput("result", types.Float3))
        output = shader.CreateOutput("surface", types.Token)
        material.CreateSurfaceOutput().ConnectToSource(output)
        return material

    def _shapes(self, rig: Rig, mesh: Any) -> None:
        """The skeleton of one joint, the blend shapes and their animation."""
        skel, vt, stage = self.skel, self.vt, self.stage
        skeleton = skel.Skeleton.Define(stage, "/head/skeleton")
        still = vt.Matrix4dArray([self.gf.Matrix4d(1)])
        skeleton.CreateJointsAttr(["root"])
        skeleton.CreateBindTransformsAttr(still)
        skeleton.CreateRestTransformsAttr(still)
        binding = skel.BindingAPI.Apply(mesh.GetPrim())
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
        binding.CreateJointIndicesPrimvar(True, 1).Set(vt.IntArray([0]))
        binding.CreateJointWeightsPrimvar(True, 1).Set(vt.FloatArray([1.0]))
        names = [self.tf.MakeValidIdentifier(name) for name in rig.target_names]
        paths = []
        for name, target in zip(names, rig.targets, strict=True):
            moving = np.flatnonzero((np.abs(target) > _LEFT_OUT_MM).any(axis=1))
            moving = moving if len(moving) else np.zeros(1, np.intp)  # readers skip empty ones
            shape = skel.BlendShape.Define(stage, f"/head/mesh/{name}")
            offsets = np.asarray(target[moving], np.float32) * _METRES
            shape.CreateOffsetsAttr(vt.Vec3fArray.FromNumpy(offsets))
            shape.CreatePointIndicesAttr(vt.IntArray.FromNumpy(moving.astype(np.int32)))
            paths.append(shape.GetPath())
        binding.CreateBlendShapesAttr(names)
        binding.CreateBlendShapeTargetsRel().SetTargets(paths)
        animation = skel.Animation.Define(stage, "/head/skeleton/animation")
        animation.CreateBlendShapesAttr(names)
        weights = animation.CreateBlendShapeWeightsAttr()
        weights.Set(vt.FloatArray(len(names)))
        if rig.animation is not None:
            seconds = np.asarray(rig.animation.seconds, np.float64)
            fps = 1 / (seconds[1] - seconds[0]) if len(seconds) > 1 else 1.0
            stage.SetTimeCodesPerSecond(fps)
            stage.SetStartTimeCode(0)
            stage.SetEndTimeCode(len(seconds) - 1)
            for frame, row in enumerate(np.asarray(rig.animation.weights, np.float32)):
                weights.Set(vt.FloatArray.FromNumpy(row), frame)
        bound = skel.BindingAPI.Apply(skeleton.GetPrim())
        bound.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
