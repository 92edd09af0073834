"""glTF 2.0: a head with morph targets and an animation of their weights, as one binary file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import missing_extra
from facedis_core.geometry.surface import vertex_normals
from facedis_core.mesh.appearance import image_type
from facedis_core.mesh.obj_text import decoded_name

_METRES: Final = np.float32(1e-3)  # per mm; glTF is in metres
_SPARSE_MM: Final = 1e-3  # motion that a sparse target leaves out
_FLOAT, _INDEX = 5126, 5125  # component types
_VERTICES, _CORNERS = 34962, 34963  # targets of buffer views
ROUGHNESS: Final = 0.6


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles of one material.

    Attributes:
        name: of the material.
        color: linear RGB from 0 to 1; multiplies the texture.
        triangles: (F, 3).
        opacity: from 0 to 1.
        texture: content of a PNG or JPEG; b"" = none.
        cut_out: the opacity is that of the texture.
    """

    name: str
    color: tuple[float, float, float]
    triangles: NDArray[np.integer[Any]]
    opacity: float = 1.0
    texture: bytes = b""
    cut_out: bool = False


@dataclass(frozen=True, eq=False)
class Animation:
    """Weights of morph targets over time.

    Attributes:
        seconds: (K,) ascending.
        weights: (K, T).
    """

    seconds: NDArray[np.floating[Any]]
    weights: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Rig:
    """A head with morph targets.

    Attributes:
        name: of the mesh.
        vertices: (V, 3) mm.
        surfaces: its triangles by material.
        target_names: (T,).
        targets: (T, V, 3) mm, offsets at weight 1.
        animation: None = at rest.
        normals: (V, 3) of length 1; None = those of the surfaces.
        uv: (V, 2) places in textures, v downwards; None = none.
        colors: (V, 3) linear RGB of vertices, of surfaces that are white; None = none.
        warnings: lines about textures that are left out.
        rotation: (3, 3) of the whole, y up and looking along z afterwards; None = it is so.
    """

    name: str
    vertices: NDArray[np.floating[Any]]
    surfaces: Sequence[Surface]
    target_names: Sequence[str]
    targets: NDArray[np.floating[Any]]
    animation: Animation | None = None
    normals: NDArray[np.floating[Any]] | None = None
    uv: NDArray[np.floating[Any]] | None = None
    colors: NDArray[np.floating[Any]] | None = None
    warnings: tuple[str, ...] = ()
    rotation: NDArray[np.floating[Any]] | None = None


def encode_glb(rig: Rig) -> bytes:
    """The rig as the bytes of a .glb, in metres; names of targets are in `extras.targetNames`.

    Raises:
        UsageError: pygltflib is not installed.
    """
    try:
        import pygltflib as gltf
    except ImportError:
        raise missing_extra("glTF", "export") from None
    file = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="facedis"))
    data = _Buffer(gltf, file)
    triangles = np.concatenate([surface.triangles for surface in rig.surfaces])
    positions = np.asarray(rig.vertices, np.float32) * _METRES
    normals = rig.normals
    if normals is None:
        normals = vertex_normals(np.asarray(rig.vertices, np.float64), triangles)
    lonely = ~normals.any(axis=1, keepdims=True)
    normals = np.where(lonely, (0, 0, 1), normals)  # of no triangle; a normal must have length 1
    shared = {
        "POSITION": data.vectors(positions, bounds=True),
        "NORMAL": data.vectors(normals.astype(np.float32)),
    }
    if rig.uv is not None:
        shared["TEXCOORD_0"] = data.vectors(np.asarray(rig.uv, np.float32))
    if rig.colors is not None:
        shared["COLOR_0"] = data.vectors(np.asarray(rig.colors, np.float32))
    targets = [data.offsets(np.asarray(target, np.float32)) for target in rig.targets]
    primitives = []
    for surface in rig.surfaces:
        file.materials.append(
            gltf.Material(
                name=surface.name,
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                    baseColorFactor=[*map(float, surface.color), float(surface.opacity)],
                    baseColorTexture=data.texture(surface.texture),
                    metallicFactor=0.0,
                    roughnessFactor=ROUGHNESS,
                ),
                alphaMode="BLEND" if surface.cut_out or surface.opacity < 1 else None,
                alphaCutoff=None,
                doubleSided=True,
            )
        )
        primitives.append(
            gltf.Primitive(
                attributes=gltf.Attributes(**shared),
                indices=data.corners(surface.triangles),
                material=len(file.materials) - 1,
                mode=4,
                targets=[{"POSITION": target} for target in targets] or None,
            )
        )
    # one not in UTF-8 stops Blender
    name = decoded_name(rig.name.encode("utf-8", "surrogateescape"))
    file.meshes.append(
        gltf.Mesh(
            name=name,
            primitives=primitives,
            weights=[0.0] * len(targets) or None,
            extras={"targetNames": list(rig.target_names)} if targets else {},
        )
    )
    turned = None if rig.rotation is None else _quaternion(np.asarray(rig.rotation, np.float64))
    file.nodes.append(gltf.Node(name=name, mesh=0, rotation=turned))
    file.scenes.append(gltf.Scene(nodes=[0]))
    file.scene = 0
    if rig.animation is not None:
        times = data.scalars(np.asarray(rig.animation.seconds, np.float32), bounds=True)
        weights = data.scalars(np.asarray(rig.animation.weights, np.float32).ravel())
        file.animations.append(
            gltf.Animation(
                name="expressions",
                channels=[
                    gltf.AnimationChannel(
                        sampler=0, target=gltf.AnimationChannelTarget(node=0, path="weights")
                    )
                ],
                samplers=[
                    gltf.AnimationSampler(input=times, output=weights, interpolation="LINEAR")
                ],
            )
        )
    content = data.content()
    file.buffers.append(gltf.Buffer(byteLength=len(content)))
    file.set_binary_blob(content)
    return b"".join(file.save_to_bytes())


def _quaternion(rotation: NDArray[np.float64]) -> list[float] | None:
    """The unit quaternion x, y, z, w of a rotation (3, 3); None of no rotation.

    The rows of 4 q q^T are linear in the rotation (Shepperd 1978); the longest is exact.
    """
    if np.array_equal(rotation, np.eye(3)):
        return None
    (a, b, c), (d, e, f), (g, h, i) = rotation
    rows = np.array(
        [
            [1 + a - e - i, b + d, c + g, h - f],
            [b + d, 1 - a + e - i, f + h, c - g],
            [c + g, f + h, 1 - a - e + i, d - b],
            [h - f, c - g, d - b, 1 + a + e + i],
        ]
    )
    longest = rows[np.argmax(np.diag(rows))]
    unit = longest / np.linalg.norm(longest)
    found: list[float] = (-unit if unit[3] < 0 else unit).tolist()
    return found


class _Buffer:
    """The binary part of a file; its methods append data and return the number of an accessor."""

    def __init__(self, gltf: Any, file: Any) -> None:
        self._gltf, self._file = gltf, file
        self._parts: list[bytes] = []
        self._size = 0
        self._textures: dict[bytes, int] = {}

    def content(self) -> bytes:
        """All bytes."""
        return b"".join(self._parts)

    def texture(self, image: bytes) -> Any:
        """A texture of an image, which is stored once; None of none."""
        if not image:
            return None
        gltf, file = self._gltf, self._file
        if image not in self._textures:
            view = self._view(np.frombuffer(image, np.uint8), None)
            file.images.append(gltf.Image(bufferView=view, mimeType=image_type(image)))
            file.textures.append(gltf.Texture(source=len(file.images) - 1))
            self._textures[image] = len(file.textures) - 1
        return gltf.TextureInfo(index=self._textures[image])

    def _view(self, array: NDArray[Any], target: int | None) -> int:
        data = np.ascontiguousarray(array).tobytes()
        view = self._gltf.BufferView(
            buffer=0, byteOffset=self._size, byteLength=len(data), target=target
        )
        self._file.bufferViews.append(view)
        self._parts.append(data + b"\0" * (-len(data) % 4))
        self._size += len(self._parts[-1])
        return len(self._file.bufferViews) - 1

    def _accessor(self, kind: str, component: int, count: int, **more: Any) -> int:
        accessor = self._gltf.Accessor(componentType=component, count=count, type=kind, **more)
        self._file.accessors.append(accessor)
        return len(self._file.accessors) - 1

    def vectors(self, array: NDArray[np.float32], *, bounds: bool = False) -> int:
        """(n, 2) or (n, 3) numbers of vertices."""
        more = _bounds(array) if bounds else {}
        view = self._view(array, _VERTICES)
        return self._accessor(f"VEC{array.shape[1]}", _FLOAT, len(array), bufferView=view, **more)

    def scalars(self, array: NDArray[np.float32], *, bounds: bool = False) -> int:
        """(n,) numbers."""
        more = _bounds(array[:, None]) if bounds else {}
        return self._accessor(
            "SCALAR", _FLOAT, len(array), bufferView=self._view(array, None), **more
        )

    def corners(self, triangles: NDArray[np.integer[Any]]) -> int:
        """(F, 3) vertices of triangles."""
        flat = triangles.astype(np.uint32).ravel()
        return self._accessor("SCALAR", _INDEX, len(flat), bufferView=self._view(flat, _CORNERS))

    def offsets(self, target: NDArray[np.float32]) -> int:
        """(V, 3) mm of a morph target; sparse where that is shorter."""
        moving = np.flatnonzero((np.abs(target) > _SPARSE_MM).any(axis=1))
        if 16 * len(moving) >= 12 * len(target):
            return self.vectors(target * _METRES, bounds=True)
        kept = np.zeros_like(target)
        kept[moving] = target[moving] * _METRES
        if not len(moving):
            return self._accessor("VEC3", _FLOAT, len(target), byteOffset=None, **_bounds(kept))
        sparse = self._gltf.Sparse(
            count=len(moving),
            indices=self._gltf.AccessorSparseIndices(
                bufferView=self._view(moving.astype(np.uint32), None), componentType=_INDEX
            ),
            values=self._gltf.AccessorSparseValues(bufferView=self._view(kept[moving], None)),
        )
        return self._accessor(
            "VEC3", _FLOAT, len(target), byteOffset=None, sparse=sparse, **_bounds(kept)
        )


def _bounds(array: NDArray[np.float32]) -> dict[str, list[float]]:
    return {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
