"""Damaged files of every kind: read, or refused by an error of ours in one line.

    make fuzz                        many examples of each kind
    make fuzz FUZZ='-k ply'          of one kind

Neither may take long nor much memory, and no file may change. A failure prints the smallest file
that shows it.
"""

import io
import json
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import contents, face, save_mesh, save_model
from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from mesh_files import (
    ENCODINGS,
    OBJ_FLAVOURS,
    POLYGONS,
    V9,
    WRL,
    WRL_PLACED,
    encoded,
    face_table,
    make_ply,
    nine,
    vertex_table,
)
from runner import run_command
from synthetic import face_set, latents, write_discriminator, write_face_set
from trainers import trainer

import facedis_core.io.safetensors_file as safetensors_file
from facedis_core.data.face_set import load_face_set
from facedis_core.data.latents import read_latents, write_latents
from facedis_core.datasets.selection import read_exclusion, select_faces
from facedis_core.datasets.source import Source, open_source
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.face_labels import read_labels
from facedis_core.inspection.file_info import describe
from facedis_core.mesh.mesh import Mesh, read_mesh, read_meshes
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.file_lists import read_file_list
from facedis_core.pipeline.inputs import find_inputs
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.checkpoint import TrainingProgress, write_training_state
from facedis_core.train.recipe import Recipe, load_recipe
from facedis_core.train.run import RunFiles, TrainingRun

SECONDS = 10
MEMORY = 256 << 20  # beside what the process has anyway; the files are small
RECIPE = Path(__file__).parents[1] / "facedis_core" / "train" / "recipes" / "pointnet.toml"
EXAMPLES = settings.default.max_examples // 4

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
WORD = re.compile(rb"[A-Za-z_]\w*")
EXTREMES = [
    *(b"0", b"-1", b"1", b"2", b"3", b"255", b"256", b"65536", b"2147483647", b"2147483648"),
    *(b"-2147483649", b"4294967295", b"1000000000000", b"9223372036854775807", b"1e400"),
    *(b"18446744073709551616", b"nan", b"-inf", b"1e-400", b"0.1", b"9" * 400, b"9" * 5000, b""),
]
CHANGES = ("flip", "zero", "cut", "remove", "insert", "repeat", "number", "word", "splice")
JUNK = [
    *(b"\0", b"\n", b"\r", b"\r\n", b" ", b"\t", b"#", b'"', b"'", b"\\", b"\\\n", b"/", b"{"),
    *(b"}", b"[", b"]", b"(", b",", b";", b":", b"=", b"-", b"\xff", b"\xef\xbb\xbf", b"\xc3"),
    *(b"\x1b[31m", b"\x80\x04.", b"list ", b"[" * 2000, b"{" * 2000, b"a." * 2000, b"\n" * 5000),
    *(b" " * 5000, b"7" * 70000),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "../../x", "/etc/passwd", "\0", "\n", "\ud800", "x" * 5000, "1", "facedis.model/1"),
    *([], [[]], [0], ["a"], {}, {"a": []}, [{}], [None], {"kind": "rigid"}, list(range(300))),
]


class Content(bytes):
    """Bytes of a file, which may be many."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


@st.composite
def damaged(draw: st.DrawFn, valid: Sequence[bytes]) -> Content:
    """One of the files, changed here and there."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3, 6)))):
        size = 8 + int.from_bytes(data[:8], "little")
        if data[8:9] == b"{" and size <= len(data) and draw(st.booleans()):
            header = draw(other_header(data[8:size]))
            data = len(header).to_bytes(8, "little") + header + data[size:]
            continue
        # most formats have their header in the first bytes
        start = draw(st.integers(0, min(len(data), draw(st.sampled_from((64, 512, 1 << 30))))))
        part = data[start : start + draw(st.sampled_from((1, 2, 4, 13, 40, 400)))]
        before, after = data[:start], data[start + len(part) :]
        match draw(st.sampled_from(CHANGES)):
            case "flip":
                mask = draw(st.sampled_from((1, 8, 128, 255)))
                data = before + bytes(byte ^ mask for byte in part) + after
            case "zero":
                data = before + bytes(min(4096, len(part) + len(after))) + after[4096 - len(part) :]
            case "cut":
                data = before
            case "remove":
                data = before + after
            case "insert":
                data = before + draw(st.sampled_from(JUNK) | st.binary(max_size=20)) + part + after
            case "repeat":
                times = draw(st.sampled_from((2, 3, 10, 3000 if len(part) < 50 else 4)))
                data = before + part * times + after
            case "number":
                number = draw(st.sampled_from(EXTREMES))
                data = before + NUMBER.sub(number, part + after, count=1)
            case "word":
                words = WORD.findall(data[:2000]) or [b"word"]
                data = before + WORD.sub(draw(st.sampled_from(words)), part + after, count=1)
            case "splice":
                other = draw(st.sampled_from(valid))
                data = before + other[draw(st.integers(0, len(other))) :]
    return Content(data)


@st.composite
def other_header(draw: st.DrawFn, header: bytes) -> bytes:
    """The header of a safetensors file with other JSON, of the tensors or within our metadata."""
    try:
        value = json.loads(header)
        if draw(st.booleans()):
            ours = json.loads(value["__metadata__"]["facedis"])
            value["__metadata__"]["facedis"] = json.dumps(draw(other_json(ours)))
        else:
            value = draw(other_json(value))
    except (ValueError, TypeError, LookupError):  # changed before
        return header
    return json.dumps(value).encode()


@st.composite
def other_json(draw: st.DrawFn, value: Any) -> Any:
    """The value with a part of it replaced, left out or added."""
    if not isinstance(value, dict | list) or not value or not draw(st.integers(0, 4)):
        return draw(st.sampled_from(VALUES))
    parts = dict(value if isinstance(value, dict) else enumerate(value))
    key = draw(st.sampled_from(list(parts)))
    match draw(st.integers(0, 4)):
        case 0:
            del parts[key]
        case 1:
            parts[f"{key}x"] = parts[key]
        case _:
            parts[key] = draw(other_json(parts[key]))
    return parts if isinstance(value, dict) else list(parts.values())


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Raises where the block takes long, needs much memory or changes a file of the folder."""

    def too_long(signum: int, frame: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = contents(folder)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, handler)
    shutil.rmtree(folder / "out", ignore_errors=True)
    assert contents(folder) == before


def read_stream(path: Path) -> None:
    with path.open("rb") as stream:
        for mesh in read_meshes(stream, str(path)):
            check(mesh)


def read_arrays(path: Path) -> None:
    for item in find_inputs([str(path)]).items:
        list(item.load())


def check(mesh: Mesh) -> None:
    assert np.isfinite(mesh.vertices).all()
    assert ((mesh.triangles >= 0) & (mesh.triangles < len(mesh.vertices))).all()


def read_rows(path: Path) -> None:
    rows = read_latents(str(path), sizes=(3, 2))
    assert len(rows.names) == len(rows.models) == len(rows.identity) == len(rows.expression) > 0
    assert np.isfinite(rows.identity).all() and np.isfinite(rows.expression).all()


def read_named_rows(path: Path) -> None:
    read_latents(str(path))


def read_ours(path: Path) -> None:
    """As fd-info and fd-encode do, before the content is compared with its id."""
    for facts in describe(str(path)):
        if facts["kind"] == "model":
            model = load_model(path)
            model.encode_prepared(model.mean_face[None])
            model.decode_vectors(
                *(np.zeros((1, facts[part]), "f4") for part in ("identity", "expression"))
            )
        elif facts["kind"] == "face set":
            faces = load_face_set(path)
            assert len(faces.labels.names) == len(faces.vertices)


def without_checksum(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """The reader of a file of ours that takes any checksum: what it then finds is the content."""

    def ignore(kind: str, tensors: object, metadata: dict[str, Any]) -> None:
        metadata.pop("checksum", None)

    def read_content(path: Path) -> None:
        with mock.patch.object(safetensors_file, "_check_checksum", ignore):
            read(path)

    return read_content


def resume(path: Path) -> None:
    """As fd-train --resume does; the networks are those of all examples."""
    trainer = TRAINER
    run = TrainingRun(
        trainer,
        RunFiles("-", None, path, None),
        lambda stream, metrics: "",
        identity={"seed": 1},
    )
    run.start(resume=True)
    json.dumps(run.metrics)
    for optimizer in trainer.optimizers.values():
        assert all(
            np.isfinite(v.numpy()).all() for s in optimizer.state.values() for v in s.values()
        )


def training_state(trainer: AdversarialTrainer) -> bytes:
    """The checkpoint of a run that was stopped in its second epoch."""
    trainer.run_epochs()
    trainer.run_epochs(should_stop=lambda: True)
    stream = io.BytesIO()
    steps = trainer.steps_per_epoch
    log = [json.dumps({"epoch": 1, "step": steps})]
    progress = TrainingProgress({"seed": 1}, trainer.epoch, steps, {"epochs": 1}, log)
    write_training_state(stream, trainer.networks, trainer.optimizers, progress)
    return stream.getvalue()


def verify(path: Path) -> None:
    list(describe(str(path), verify=True))


def prepared(**options: object) -> Source:
    return open_source("folder", Path("tree"), {"seed": 0, **options}).source


def by_name(**options: object) -> Source:
    return prepared(pattern="{subject}_{expression}.ply", **options)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def rows_after_rows(*counts: int) -> bytes:
    """Arrays of so many latents, one after another."""
    stream = io.BytesIO()
    for count in counts:
        write_latents(stream, latents(["a", "b ü"][:count]))
    return stream.getvalue()


with TemporaryDirectory() as folder:
    MODEL = save_model(Path(folder) / "model", seed=1).read_bytes()
    DISCRIMINATOR = write_discriminator(Path(folder) / "disc").read_bytes()
    SET = write_face_set(
        Path(folder) / "set", face_set(subjects=3, expressions=2, test=1)
    ).read_bytes()
TRAINER = trainer(
    face_set(subjects=3, expressions=3, test=1),
    replace(Recipe(), network="linear", identity=2, expression=2, batch=2, components=4),
    adversary=False,
)
STATE = training_state(TRAINER)
TREE = [f"p{k}_{expression}" for k in range(4) for expression in ("neutral", "smile")]
FLOATS = ["float x", "float y", "float z"]
SHORTS = "list int short vertex_index"
PLYS = [
    encoded(replace(nine("a face"), unit_mm=1.0)),
    make_ply("ascii", vertex_table(), face_table(POLYGONS)),
    make_ply("binary_big_endian", vertex_table(kind="double"), face_table()),
    make_ply("binary_little_endian", vertex_table(), face_table(POLYGONS, SHORTS)),
    make_ply(
        "binary_little_endian",
        ("edge", ["list uchar int e"], [[[1, 2]]] * 2),
        (
            "vertex",
            ["list uint char t", *FLOATS],
            [[[k], k, k, k] for k in range(3)],
        ),
        ("face", ["uchar flag", SHORTS, "list uchar float uv"], [[1, [0, 1, 2], [0.5] * 6]]),
    ),
]
STRIPS = (
    "tristrips",
    ["list int int vertex_indices"],
    [[[0, 1, 3, 4, -1, 1, 2, 4, 5, 5, 7]], [[]]],
)
PLYS += [
    *(make_ply(encoding, vertex_table(), face_table(), STRIPS) for encoding in ENCODINGS),
    make_ply("ascii", vertex_table(), face_table(POLYGONS)).replace(b"\n", b"\r"),
    b"\xef\xbb\xbf" + make_ply("ascii", vertex_table(V9), STRIPS).replace(b"\n", b"\r\n"),
]
TREE_LIST = "".join(f"tree/{name}.ply\n" for name in TREE)
ARRAYS = [np.stack([face(0), face(1)]), face(2).astype(">f8"), np.asfortranarray(face(3))]
ARRAY_OF_PYTHON_2 = npy(ARRAYS[1]).replace(b"(36, 3), }  ", b"(36L, 3L), }")
OFFS = [
    b"# made here\nCOFF\n4 2 0\n0 0 0 1 2 3 4\n1 0 0 1 2 3 4\n1 1 0 1 2 3 4\n0 1 0 1 2 3 4\n"
    b"4 0 1 2 3 255 0 0\n3 0 2 1\n",
    b"NOFF 3 1 0\r\n0 0 0 0 0 1\r\n1 0 0 0 0 1\r\n0 1 0 0 0 1\r\n3 0 1 2\r\n",
]
VTK = "# vtk DataFile Version {}\nx\n{}\nDATASET POLYDATA\n"
VTKS = [
    VTK.format("3.0", "ASCII").encode()
    + b"POINTS 4 float\n0 0 0 1 0 0\n1 1 0 0 1 0\nLINES 1 3\n2 0 1\nPOLYGONS 2 9\n4 0 1 2 3\n"
    b"3 0 2 1\nPOINT_DATA 4\n",
    VTK.format("5.1", "BINARY").encode()
    + b"FIELD FieldData 1\na 1 1 double\n"
    + bytes(8)
    + b"\nPOINTS 9 float\n"
    + nine().vertices.astype(">f4").tobytes()
    + b"\nMETADATA\nINFORMATION 0\n\nPOLYGONS 5 12\nOFFSETS vtktypeint64\n"
    + np.arange(0, 15, 3, dtype=">i8").tobytes()
    + b"\nCONNECTIVITY vtktypeint64\n"
    + nine().triangles.astype(">i8").tobytes()
    + b"\n",
]
LABELS = "subject,expression,name\n" + "".join(f"{n[:2]},{n[3:]},{n}\n" for n in TREE)
FILES = "subject,expression,file\n" + "".join(f"{n[:2]},{n[3:]},{n}.ply\n" for n in TREE)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        suffix: of its files.
        valid: some of them.
        reads: take a path; may raise InputError and nothing else. The first reads valid files.
        commands: what a user does with FILE, or with standard input; may end with 0 or 3.
        longest_message: characters; more where it quotes the paths that a file lists.
    """

    suffix: str
    valid: Sequence[bytes]
    reads: Sequence[Callable[[Path], object]]
    commands: Sequence[str] = ()
    longest_message: int = 2000


def read_one(path: Path) -> None:
    check(read_mesh(path))


INFO, VERIFY, HISTORY = "fd-info FILE", "fd-info --verify FILE", "fd-info --history FILE"
ENCODE = "fd-encode -m model.safetensors FILE -o out/o.npy"
DECODE = "fd-decode -m model.safetensors FILE -o out/"
TRANSFER = "fd-transfer --all-pairs two.npy FILE -o out/o.npy"
RENDER = "fd-render -m model.safetensors FILE -o out/o.png --size 16"
METRICS = "fd-metrics -m model.safetensors FILE"
COMPARE = "fd-metrics --truth tree --predicted tree --labels FILE"
PREP = "fd-prep folder tree -o out/o.safetensors --dry-run"
BY_NAME = PREP + " --pattern '{subject}_{expression}.ply'"
MESH = [read_one], [INFO, ENCODE]
OURS = [read_ours, verify, without_checksum(read_ours)]
KINDS = {
    "ply": Kind(".ply", PLYS, *MESH),
    "ply after ply": Kind(
        ".ply",
        [a + b for a in PLYS for b in PLYS[:3]],
        [read_stream],
        ["fd-info", ENCODE.replace("FILE", "")],
    ),
    "obj": Kind(".obj", [text.encode() for text in OBJ_FLAVOURS.values()], *MESH),
    "vrml": Kind(
        ".wrl", [encoded(nine(), ".wrl"), (WRL % "").encode(), WRL_PLACED.encode()], *MESH
    ),
    "off": Kind(".off", [encoded(nine(), ".off"), *OFFS], *MESH),
    "vtk": Kind(".vtk", [*VTKS, encoded(nine(), ".vtk")], [read_one], [INFO]),
    "vtu": Kind(".vtu", [encoded(nine(), ".vtu")], [read_one], [INFO]),
    "latents": Kind(
        ".npy",
        [rows_after_rows(2), rows_after_rows(0, 2, 1), npy(np.asfortranarray(np.ones((4, 5))))],
        [read_rows, read_named_rows],
        [INFO, DECODE, TRANSFER, RENDER, ENCODE],
    ),
    "array": Kind(
        ".npy",
        [*(npy(array) for array in ARRAYS), ARRAY_OF_PYTHON_2],
        [read_arrays],
        [INFO, ENCODE, RENDER, RENDER + " --against tree/p0_smile.ply", DECODE],
    ),
    "face set": Kind(".safetensors", [SET], OURS, [VERIFY, HISTORY, METRICS]),
    "model": Kind(
        ".safetensors", [MODEL], OURS, [VERIFY, HISTORY, "fd-encode -m FILE tree -o out/o.npy"]
    ),
    "discriminator": Kind(".safetensors", [DISCRIMINATOR], OURS, [VERIFY, HISTORY]),
    "training state": Kind(
        ".safetensors", [STATE], [resume, without_checksum(resume), *OURS], [VERIFY]
    ),
    "labels": Kind(".csv", [LABELS.encode()], [lambda path: read_labels(str(path))], [COMPARE]),
    "table": Kind(
        ".csv",
        [FILES.encode(), FILES.replace("\n", "\r\n").encode()],
        [lambda path: prepared(labels=path)],
        [PREP + " --labels FILE"],
    ),
    "protocol": Kind(
        ".csv",
        [b"subject,split\np0,train\np1,test\np2,train\np3,validation\n"],
        [lambda path: by_name(protocol=f"file:{path}")],
        [BY_NAME + " --protocol file:FILE"],
    ),
    "exclusion": Kind(
        ".txt",
        [b"# left out\np0\np1_smile\np2/p2_smile.ply\n"],
        [lambda path: select_faces(by_name(), read_exclusion(path))],
        [BY_NAME + " --exclude FILE"],
    ),
    "recipe": Kind(
        ".toml",
        [
            RECIPE.read_bytes(),
            b'batch = 8\n[with_neutrals]\nneutral = 1.5\ndecoder_init = "zero"\npoints = 1_000\n',
        ],
        [lambda path: load_recipe(str(path), neutrals=True)],
    ),
    "list": Kind(  # no command: a damaged path may be that of the whole disk
        ".lst",
        [
            TREE_LIST.encode(),
            f"\ufeff{TREE_LIST}".replace("\n", "\r\n").encode(),
            TREE_LIST.replace("\n", "\r").encode(),
            TREE_LIST.replace("\n", "\0").encode(),
        ],
        [lambda path: read_file_list(str(path))],
        longest_message=100_000,
    ),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what commands need beside the damaged file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(MODEL)
    (tmp_path / "two.npy").write_bytes(rows_after_rows(2))
    for seed, name in enumerate(TREE):
        save_mesh(tmp_path / "tree" / f"{name}.ply", face(seed))
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_valid_files_are_read(work, name):
    kind = KINDS[name]
    for content in kind.valid:
        path = work / f"valid{kind.suffix}"
        path.write_bytes(content)
        with guarded(work):
            kind.reads[0](path)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(work, name, data):
    kind = KINDS[name]
    path = work / f"damaged{kind.suffix}"
    path.write_bytes(data.draw(damaged(kind.valid)))
    note(f"the file is left at {path}")
    for read in kind.reads:
        with guarded(work):
            try:
                read(path)
            except InputError as error:
                event("refused")
                text = str(error)
                assert text.isprintable() and len(text) < kind.longest_message
                assert error.code != ErrorCode.MEMORY
            else:
                event("read")


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.commands])
@settings(max_examples=EXAMPLES // 8)
@given(data=st.data())
def test_commands_with_damaged_files_end_with_0_or_3(work, name, data):
    kind = KINDS[name]
    path = work / f"damaged{kind.suffix}"
    path.write_bytes(data.draw(damaged(kind.valid)))
    command = data.draw(st.sampled_from(kind.commands))
    note(f"the file is left at {path}")
    (work / "out").mkdir()
    with guarded(work):
        stdin = b"" if "FILE" in command else path.read_bytes()
        done = run_command(command.replace("FILE", path.name), stdin=stdin, folder=work, env={})
    event(f"{command}: {done.code}")
    assert done.code in (0, 3), done.err
    errors = [line for line in done.err.splitlines() if "warning: " not in line]
    assert len(errors) == (done.code == 3)
    assert all(len(line) < kind.longest_message for line in errors)
    assert done.error is None or done.error.code != ErrorCode.MEMORY
