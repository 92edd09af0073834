"""Errors: their codes in the sources, and the wording of messages, which no other test owns."""

import ast
import json
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import face, save_mesh
from synthetic import face_set, grid_mesh, write_face_set

import facedis_core.errors
from facedis_core.data.face_set import load_face_set
from facedis_core.data.latents import write_latents
from facedis_core.errors import ErrorCode, FacedisError, InputError, OutputError, UsageError
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model

ROOT = Path(__file__).parent.parent
CLASSES = {
    name
    for name, kind in vars(facedis_core.errors).items()
    if isinstance(kind, type) and issubclass(kind, FacedisError)
}


# Name -> value and explanation, which is the comment beside it.
CODES = {
    name: (value, meaning)
    for name, value, meaning in re.findall(
        r'^    ([A-Z_]+) = "([a-z-]+)"  # (.*)$',
        (ROOT / "facedis_core" / "errors.py").read_text("utf-8"),
        re.MULTILINE,
    )
}


def constructed_errors() -> Iterator[tuple[str, str, ast.expr | None]]:
    """Place, class and code of every error that the sources construct."""
    for folder in ("facedis_core", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                if node.func.id in CLASSES:
                    yield place, node.func.id, node.args[1] if len(node.args) == 2 else None
                elif node.func.id == "partial" and ast.unparse(node.args[0]) in CLASSES:
                    yield place, ast.unparse(node.args[0]), node.keywords[0].value


def codes_of(code: ast.expr | None) -> set[str]:
    """The codes that an expression may be; none where it is the code of another error."""
    found = {
        node.attr
        for node in ast.walk(code or ast.Constant(None))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode"
    }
    if not found and isinstance(code, ast.Attribute):
        assert code.attr == "code"
    return found


def test_every_error_has_a_code_and_every_code_one_class():
    classes = defaultdict(set)
    for place, kind, code in constructed_errors():
        assert code is not None, f"{place}: {kind} without a code"
        for name in codes_of(code):
            classes[name].add(kind)
    assert {name: kinds for name, kinds in classes.items() if len(kinds) > 1} == {}
    assert set(classes) == set(CODES)


def test_codes_are_named_like_their_values_and_explained_by_a_sentence():
    assert CODES
    for name, (code, meaning) in CODES.items():
        assert getattr(ErrorCode, name) == code == name.lower().replace("_", "-")
        assert meaning[0].isupper() and meaning.endswith(".")
    assert CODES.keys() == {name for name in vars(ErrorCode) if name.isupper()}


def test_the_table_of_codes_is_up_to_date():
    page = (ROOT / "docs" / "pipelines-and-ci.md").read_text("utf-8")
    _, _, table = page.partition("| code | meaning |\n|---|---|\n")
    rows = [f"| `{code}` | {meaning} |" for code, meaning in CODES.values()]
    assert table.partition("\n\n")[0].splitlines() == rows


def test_an_error_of_a_worker_process_keeps_its_code():
    for kind in (FacedisError, InputError, OutputError, UsageError):
        error = pickle.loads(pickle.dumps(kind("message", ErrorCode.EMPTY)))
        assert (type(error), str(error), error.code) == (kind, "message", ErrorCode.EMPTY)


def save_latents(path: Path, model: Model, *names: str) -> None:
    """Write latents of made-up faces with these names."""
    with path.open("wb") as stream:
        write_latents(
            stream, model.encode_prepared(np.stack([face(k) for k in range(len(names))]), names)
        )


@pytest.fixture
def inputs(faces, model, other_model_file, tmp_path):
    """Files that commands read, or refuse."""
    (tmp_path / "empty.ply").touch()
    ply = (faces / "ann.ply").read_bytes()
    (tmp_path / "cut.ply").write_bytes(ply[:-5])
    (tmp_path / "twins.ply").write_bytes(ply + ply)
    (tmp_path / "word.obj").write_text("v 0 0 zero\n")
    (tmp_path / "index.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n")
    (tmp_path / "nan.obj").write_text("v 0 0 nan\n")
    save_mesh(tmp_path / "points.ply", face(0)[:5], np.empty((0, 3), int))
    save_mesh(tmp_path / "turned.ply", face(0), grid_mesh()[1][:, [0, 2, 1]])
    save_mesh(tmp_path / "far.ply", face(0) + 300)
    save_mesh(tmp_path / "fewer" / "ann.ply", face(1))
    save_latents(tmp_path / "a.npy", model, "ann")
    save_latents(tmp_path / "two.npy", model, "ann", "bob")
    save_latents(tmp_path / "three.npy", model, "ann", "bob", "cy")
    save_latents(tmp_path / "up.npy", model, "../ann")
    save_latents(tmp_path / "other.npy", load_model(other_model_file), "ann")
    np.save(tmp_path / "flat.npy", np.zeros((2, 5)))
    np.save(tmp_path / "wide.npy", np.zeros((2, 9)))
    write_face_set(tmp_path / "set.safetensors", face_set())
    whole = (tmp_path / "set.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-5])
    for name, rows in (
        ("short.csv", "name,age\nann,5\n"),
        ("bob.csv", "name,subject,expression\nbob,Bob,neutral\n"),
        ("twice.csv", "name,subject,expression\nann,Ann,neutral\nann,Bob,neutral\n"),
    ):
        (tmp_path / name).write_text(rows)
    old = {"model": {"e_rec": {"mean": 1}}, "provenance": {"set": "0" * 12, "split": "test"}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (tmp_path / "bare.json").write_text(json.dumps({"model": {}, "provenance": {}}))


# Code -> a command and its message: what was found, what was expected, what to do. `...` stands
# for anything.
MESSAGES = {
    "file-missing": ("fd-encode none.ply", "none.ply does not exist; expected a file"),
    "not-a-file": ("fd-encode --files-from faces", "faces is a folder; expected a file"),
    "empty": ("fd-encode empty.ply", "empty.ply is empty; expected one or more PLY meshes"),
    "same-file": (
        "fd-metrics - --baselines-from -",
        "standard input (-) is named twice; give a file for one of them",
    ),
    "wrong-kind": (
        "fd-decode set.safetensors",
        "set.safetensors: is a face set or a model, expected latents; encode a face set first: "
        "fd-encode",
    ),
    "truncated": (
        "fd-encode cut.ply",
        "cut.ply, mesh 1: is truncated: its header promises 50 rows of 'face', the data end before "
        "that",
    ),
    "mesh-syntax": (
        "fd-encode word.obj",
        "word.obj: vertex 0 has 'zero' where a number was expected",
    ),
    "vertex-index": (
        "fd-encode index.obj",
        "index.obj: a polygon refers to vertex 3 (counted from 0); the file has 3",
    ),
    "not-finite": (
        "fd-encode nan.obj",
        "nan.obj: vertex 0 is not finite: [0.0, 0.0, nan]; repair the mesh",
    ),
    "damaged": (
        "fd-info cut.safetensors",
        "cut.safetensors: not a whole safetensors file; expected a facedis file, such as a model, "
        "a face set or a map (...)",
    ),
    "array-shape": (
        "fd-encode flat.npy",
        "flat.npy: is an array float64 (2, 5), expected float vertices (N, V, 3) or (V, 3)",
    ),
    "latent-size": (
        "fd-decode wide.npy",
        "wide.npy: has 9 columns, expected 3 of identity and 2 of expression",
    ),
    "csv-columns": (
        "fd-recognize a.npy --labels short.csv",
        "short.csv has no column 'subject'; its first line must be name,subject,expression",
    ),
    "label-missing": (
        "fd-recognize a.npy --labels bob.csv",
        "bob.csv has no row for 'ann', 1 of 1 latents; add one for each",
    ),
    "label-conflict": (
        "fd-recognize a.npy --labels twice.csv",
        "twice.csv, line 3: 'ann' has another label above",
    ),
    "vertex-count": (
        "fd-encode points.ply",
        "points.ply has 5 vertices, expected 36 or 50; only meshes registered to this "
        "topology fit (see fd-prep) (...)",
    ),
    "topology": (
        "fd-encode turned.ply",
        "turned.ply has topology 2b386336b571, expected f3e1591a715d; the vertex count "
        "fits but the triangles differ, pass --trust-order if the vertex order is known to be "
        "right (...)",
    ),
    "no-triangles": (
        "fd-render points.ply -o x.png",
        "'points' has 5 vertices and no triangles, and model {model} has 36; give a mesh with "
        "triangles, or the --model of these vertices",
    ),
    "far-face": (
        "fd-encode far.ply",
        "far.ply: far lies 520 mm from the mean face, the training faces 6 mm at most; check "
        "--units and --align, or pass --force-encode",
    ),
    "wrong-model": (
        "fd-decode other.npy",
        "the latents of 'ann' were made by fd-encode with model {other}, but {model} (...) is "
        "model {id}; give the other model with -m or encode again",
    ),
    "row-count": (
        "fd-transfer two.npy three.npy",
        "two.npy has 2 rows and three.npy more, which do not pair up; give one of either, equally "
        "many of both, or --all-pairs",
    ),
    "model-missing": (
        "fd-encode faces -m ict-liner",
        "there is no model 'ict-liner', neither a file nor a bundled name; did you mean "
        "'ict-linear'?",
    ),
    "name-invalid": (
        "fd-decode up.npy -o out/",
        "the name '../ann' cannot be a file; expected a relative path without '..'",
    ),
    "name-duplicate": (
        "fd-render faces/ann.ply --against twins.ply -o x.png",
        "two true meshes are named 'ann'; expected different names",
    ),
    "pattern-mismatch": (
        "fd-recognize a.npy --pattern '{{subject}}/{{expression}}'",
        "'ann' does not match the pattern '{{subject}}/{{expression}}'; expected the names of the "
        "latents, without .ply",
    ),
    "layout": (
        "fd-prep bu3dfe faces -o b.safetensors",
        "faces has no file like F0001_AN01WH_F3D.wrl; expected the root of BU-3DFE",
    ),
    "partner-missing": (
        "fd-metrics --truth faces --predicted fewer",
        "'bob' of faces is not in fewer, 4 of 5 meshes have no partner; a name is the path below "
        "the folder without suffix",
    ),
    "split-empty": (
        "fd-metrics set.safetensors --split validation",
        "set.safetensors has no faces in its validation split; choose another --split",
    ),
    "gallery": (
        "fd-recognize two.npy two.npy --pattern '{{subject}}'",
        "all 2 faces are in the gallery themselves; expected other faces as probes",
    ),
    "metric-missing": (
        "fd-metrics set.safetensors --against bare.json",
        "bare.json has no metric to compare with; make it with fd-metrics",
    ),
    "not-comparable": (
        "fd-metrics set.safetensors --against old.json",
        "old.json is a report on set 000000000000, this one is on set {set}; compare with one of "
        "the same faces",
    ),
    "arguments": ("fd-encode --nonsense", "No such option: --nonsense; try --help"),
    "option-value": (
        "fd-recognize a.npy --pattern '{{subject}}' --ranks 0",
        "--ranks '0' is not a list of ranks; expected up to 20 numbers from 1 such as 1,5",
    ),
    "option-missing": (
        "fd-recognize a.npy",
        "latents need labels; give --labels CSV, or --pattern such as '{{subject}}_{{expression}}'",
    ),
    "option-conflict": (
        "fd-encode faces --stream --jobs 2",
        "--stream writes row by row in one process; leave out --jobs and --scheduler",
    ),
    "output-exists": (
        "fd-encode faces -o a.npy",
        "a.npy exists; replace it with --force, or choose another name",
    ),
    "output-collision": (
        "fd-decode two.npy -o one.ply",
        "several outputs cannot share the file one.ply; give a folder (dir/) or a pattern "
        "(dir/{{name}}.ply)",
    ),
    "output-pattern": (
        "fd-decode two.npy --part full --part identity -o x.ply",
        "2 parts of each face need {{part}} in the output, such as -o 'dir/{{name}}_{{part}}.ply'",
    ),
    "output-suffix": (
        "fd-decode two.npy -o x.npy",
        "x.npy can be an array of vertices: add --npy",
    ),
    "output-unwritable": (
        "fd-encode faces -o none/a.npy",
        "none/a.npy: there is no folder {folder}/none; create it first",
    ),
    "check-failed": (
        "fd-metrics set.safetensors --check 'e_rec<0' -o m.txt",
        "1 of 1 checks failed: e_rec is ..., limit < 0",
    ),
}


@pytest.mark.parametrize("code", MESSAGES)
def test_messages(call, inputs, model, model_file, other_model_file, tmp_path, code):
    command, message = (
        text.format(
            model=model_file,
            id=model.id,
            other=load_model(other_model_file).id,
            set=load_face_set(tmp_path / "set.safetensors").id,
            folder=tmp_path,
        )
        for text in MESSAGES[code]
    )
    result = call(command)
    name = command.partition(" ")[0]
    pattern = re.escape(f"{name}: {message}").replace(r"\.\.\.", ".*")
    assert re.fullmatch(pattern, result.line), result.line
    assert result.kind == code
