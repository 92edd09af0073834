"""Everything that reads a file from outside: valid files of its kind, the reader, and commands."""

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conftest import face, save_mesh, save_model
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.data.latents import Latents, read_latents, write_latents
from facedis_core.datasets.selection import read_exclusion, select_faces
from facedis_core.datasets.source import open_source
from facedis_core.evaluate.mesh_comparison import read_labels
from facedis_core.inspection.file_info import describe
from facedis_core.mesh.mesh import Mesh, read_mesh, read_meshes, write_mesh
from facedis_core.model.model import load_model
from facedis_core.pipeline.inputs import find_inputs, read_file_list
from facedis_core.train.recipe import load_recipe

ARRAY_BYTES = 36 * 3 * 4


@dataclass(frozen=True)
class Reader:
    """What reads files of one kind.

    Attributes:
        suffix: of its files.
        seeds: valid files.
        read: takes a path; may raise InputError and nothing else.
        longest_message: characters; more where it quotes the paths that a file lists.
        commands: what a user may do with such a file; {file}, {out} and {work} are filled in.
    """

    suffix: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    commands: Sequence[str] = ()
    longest_message: int = 2000


def make_readers(work: Path) -> dict[str, Reader]:
    """All readers, by name; in `work` is put what they need beside the file."""
    model = save_model(work / "model.safetensors", seed=1)
    tree = work / "tree"
    for k in range(4):
        save_mesh(tree / f"p{k}_neutral.ply", face(k))
        save_mesh(tree / f"p{k}_smile.ply", face(10 + k))
    faces = write_face_set(work / "set.safetensors", face_set(subjects=3, expressions=2, test=1))
    (work / "two.npy").write_bytes(_latents()[0])
    mesh = "fd-info {file}", "fd-encode -m {work}/model.safetensors {file} -o {out}/o.npy"
    prep = "fd-prep folder {work}/tree -o {out}/o.safetensors --dry-run"
    by_name = f"{prep} --pattern {{{{subject}}}}_{{{{expression}}}}.ply"
    metrics = "fd-metrics --truth {work}/tree --predicted {work}/tree"

    def prepared(path: Path, **options: object) -> object:
        return open_source("folder", tree, {"seed": 0, **options})

    def excluded(path: Path) -> None:
        select_faces(
            prepared(path, pattern="{subject}_{expression}.ply").source, read_exclusion(path)
        )

    return {
        "ply": Reader(".ply", _plys(), read_mesh, mesh),
        "stream": Reader(
            ".ply",
            [a + b for a in _plys() for b in _plys()[:3]],
            _read_stream,
            ["fd-encode -m {work}/model.safetensors -o {out}/o.npy < {file}"],
        ),
        "obj": Reader(".obj", _objs(), read_mesh, mesh),
        "vrml": Reader(".wrl", _wrls(), read_mesh, mesh),
        "off": Reader(".off", [_written(".off")], read_mesh, mesh[:1]),
        "vtk": Reader(".vtk", [_written(".vtk")], read_mesh, mesh[:1]),
        "vtu": Reader(".vtu", [_written(".vtu")], read_mesh, mesh[:1]),
        "latents": Reader(
            ".npy",
            _latents(),
            read_latents_both_ways,
            [
                "fd-info {file}",
                "fd-decode -m {work}/model.safetensors {file} -o {out}/",
                "fd-transfer --all-pairs {work}/two.npy {file} -o {out}/o.npy",
            ],
        ),
        "array": Reader(".npy", _arrays(), _read_faces, mesh[1:]),
        "container": Reader(
            ".safetensors",
            [model.read_bytes(), faces.read_bytes()],
            _describe,
            [
                "fd-info --verify {file}",
                "fd-info --history {file}",
                "fd-encode -m {file} {work}/tree -o {out}/o.npy",
                "fd-metrics -m {work}/model.safetensors {file}",
            ],
        ),
        "labels": Reader(
            ".csv",
            [_csv("name")],
            lambda path: read_labels(str(path)),
            [metrics + " --labels {file}"],
        ),
        "table": Reader(
            ".csv",
            [_csv("file"), _csv("file").replace(b"\n", b"\r\n")],
            lambda path: prepared(path, labels=path),
            [prep + " --labels {file}"],
        ),
        "protocol": Reader(
            ".csv",
            [b"subject,split\np0,train\np1,test\np2,train\np3,validation\n"],
            lambda path: prepared(
                path, pattern="{subject}_{expression}.ply", protocol=f"file:{path}"
            ),
            [by_name + " --protocol file:{file}"],
        ),
        "exclude": Reader(
            ".txt",
            [b"# left out\np0\np1_smile\np2/p2_smile.ply\n"],
            excluded,
            [by_name + " --exclude {file}"],
        ),
        "recipe": Reader(".toml", _recipes(), lambda path: load_recipe(str(path), neutrals=True)),
        "list": Reader(
            ".lst",
            ["\n".join(map(str, sorted(tree.iterdir()))).encode()],
            lambda path: read_file_list(str(path)),
            # no whole commands: a damaged path may be that of the whole disk
            longest_message=100_000,
        ),
    }


def _read_stream(path: Path) -> None:
    with path.open("rb") as stream:
        for _ in read_meshes(stream, str(path)):
            pass


def read_latents_both_ways(path: Path) -> None:
    """As rows that say what they are, and as plain ones."""
    read_latents(str(path), sizes=(3, 2))
    read_latents(str(path))


def _read_faces(path: Path) -> None:
    for item in find_inputs([str(path)]).items:
        item.load()


def _describe(path: Path) -> None:
    """As fd-info does, and a model as the others do, before its content is compared with its id."""
    for facts in describe(str(path)):
        if facts["kind"] == "model":
            model = load_model(path)
            model.encode(model.mean_face[None])
            model.decode(*(np.zeros((1, facts[part]), "f4") for part in ("identity", "expression")))
    for _ in describe(str(path), verify=True):
        pass


def _mesh() -> Mesh:
    vertices, triangles = grid_mesh(4)
    return Mesh(vertices, triangles, "a face", unit_mm=1.0)


def _written(suffix: str) -> bytes:
    stream = io.BytesIO()
    write_mesh(stream, _mesh(), suffix)
    return stream.getvalue()


def _plys() -> list[bytes]:
    """Ours, ASCII, big-endian doubles, quads and triangles, and more than a mesh needs."""
    vertices, triangles = grid_mesh(3)
    rows = "".join(f"{x} {y} {z}\n" for x, y, z in vertices.tolist())
    text = (
        "ply\nformat {}\ncomment made up\nelement vertex 9\nproperty {} x\nproperty {} y\n"
        "property {} z\nelement face {}\nproperty list {} {} vertex_indices\nend_header\n"
    )
    ascii_faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in triangles.tolist())
    ascii_ = text.format("ascii 1.0", *["float"] * 3, len(triangles), "uchar", "int")
    doubles = text.format("binary_big_endian 1.0", *["double"] * 3, len(triangles), "int", "int")
    mixed = text.format("binary_little_endian 1.0", *["float"] * 3, 2, "uchar", "ushort")
    rich = (
        "ply\nformat binary_little_endian 1.0\nelement camera 1\nproperty list uint char note\n"
        "element vertex 4\nproperty uchar red\nproperty float x\nproperty list uchar short w\n"
        "property float y\nproperty float z\nelement edge 0\nelement face 1\nproperty char flag\n"
        "property list uchar int vertex_index\nproperty list uchar float uv\nend_header\n"
    )
    corner = np.array([3], ">i4").tobytes()
    return [
        _written(".ply"),
        (ascii_ + rows + ascii_faces).encode(),
        doubles.encode()
        + vertices.astype(">f8").tobytes()
        + b"".join(corner + row.astype(">i4").tobytes() for row in triangles),
        mixed.encode()
        + vertices.tobytes()
        + b"\4"
        + np.array([0, 1, 4, 3], "<u2").tobytes()
        + b"\3"
        + np.array([4, 5, 8], "<u2").tobytes(),
        rich.encode()
        + b"\2\0\0\0hi"
        + b"".join(
            b"\xff" + np.float32(k).tobytes() + bytes([k]) + bytes(2 * k) + bytes(8)
            for k in range(4)
        )
        + b"\1\4"
        + np.arange(4, dtype="<i4").tobytes()
        + b"\2"
        + bytes(8),
    ]


def _objs() -> list[bytes]:
    return [
        _written(".obj"),
        b"# head\nmtllib a.mtl\ng face\nv 0 0 0 1\nv 1 0 0\nv 1 1 0 .5 .5 .5\nv 0 1e0 0\nvt 0 0\n"
        b"vn 0 0 1\nusemtl skin\nf 1/1/1 2/1/1 3//1 \\\n4\r\nf -4 -3 -2 # last\n",
    ]


def _wrls() -> list[bytes]:
    return [
        _written(".wrl"),
        b'#VRML V2.0 utf8\nWorldInfo { title "a ] { face" }\nDEF a Transform { children [ Shape {\n'
        b"geometry IndexedFaceSet { coord DEF c Coordinate { point [ 0 0 0, 1 0 0, # x\n"
        b"1 1 0, 0 1 0 ] } texCoord TextureCoordinate { point [ 0 0 ] } coordIndex [ 0 1 2 3 -1 ]\n"
        b"} } Shape { geometry IndexedFaceSet { coord USE c coordIndex [ 0, 2, 3 ] } } ] }\n",
    ]


def _latents() -> list[bytes]:
    rows = [
        Latents(["a", "b ü"][:n], ["0" * 12] * n, np.ones((n, 3), "f4"), np.ones((n, 2), "f4"))
        for n in (0, 1, 2)
    ]
    one, several = io.BytesIO(), io.BytesIO()
    write_latents(one, rows[2])
    for part in rows:
        write_latents(several, part)
    plain = io.BytesIO()
    np.save(plain, np.asfortranarray(np.ones((4, 5))))
    return [one.getvalue(), several.getvalue(), plain.getvalue(), pickle.dumps({"a": 1})]


def _arrays() -> list[bytes]:
    found = []
    for array in (np.stack([face(0), face(1)]), face(2).astype(">f8"), np.asfortranarray(face(3))):
        stream = io.BytesIO()
        np.save(stream, array)
        found.append(stream.getvalue())
    return found


def _csv(column: str) -> bytes:
    suffix = ".ply" if column == "file" else ""
    rows = [f"p{k}_{e}{suffix},p{k},{e}" for k in range(4) for e in ("neutral", "smile")]
    return "\n".join([f"{column},subject,expression", *rows, ""]).encode()


def _recipes() -> list[bytes]:
    folder = Path(__file__).parent.parent / "facedis_core" / "recipes"
    mine = b'batch = 8\n[with_neutrals]\nneutral = 1.5\ndecoder_init = "zero"\npoints = 1_000\n'
    return [*(path.read_bytes() for path in sorted(folder.glob("*.toml"))), mine]
