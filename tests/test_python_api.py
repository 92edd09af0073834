"""The Python API: its examples run, its objects print on a line, its errors are ours."""

import doctest
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import synthetic
from conftest import REACH_MM, face, raw_mesh
from raising import raises
from synthetic import grid_mesh

import facedis_core
import facedis_core.nn
from facedis_core import (
    FacedisWarning,
    FaceSet,
    Latents,
    Mesh,
    Model,
    evaluate,
    interpolate,
    load_face_set,
    load_model,
    read_latents,
    read_mesh,
    train,
    transfer,
    write_latents,
    write_mesh,
    write_model,
)
from facedis_core.errors import ErrorCode
from facedis_core.evaluate.comparison import differences

ROOT = Path(__file__).parent.parent
FACES = synthetic.face_set()
SCRIPTS = [ROOT / "docs" / "scripts" / f"own_{name}.py" for name in ("encoder", "network")]


def public_objects() -> list[tuple[str, Any]]:
    """The functions and classes of the Python API."""
    found = [(f"{p.__name__}.{n}", getattr(p, n)) for p in PACKAGES for n in p.__all__]
    return [(name, inspect.unwrap(one)) for name, one in found if callable(one)]


PACKAGES = (facedis_core, facedis_core.nn)


# Sizes and starting data, which the examples of the networks show.
TABLES = {
    f"facedis_core.nn.{name}"
    for name in (
        *(
            "ConvMeshConfig",
            "DiMeshConfig",
            "DiscriminatorConfig",
            "InitialData",
            "JiangConfig",
            "KacemConfig",
        ),
        *("LinearConfig", "PointNetConfig"),
    )
}


# Examples that register a scan, as that of `register` does, or make a map.
SLOW = {
    f"facedis_core.{name}"
    for name in ("Registration", "TopologyMap", "make_map", "read_map", "write_map")
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Path:
    """A folder like the repository after `make demo`, with the face set alone."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "weights").symlink_to(ROOT / "weights")
    (folder / "demo").mkdir()
    words = [
        *("fd-prep", "folder", "weights/examples", "--pattern", "{subject}_{expression}.ply"),
        *("--like", "ict-linear", "-o", "demo/faces.safetensors"),
    ]
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_an_ide_sees_every_name_and_each_can_be_imported(package: Any) -> None:
    tree = inspect.getsource(package)
    typed = tree.partition("if TYPE_CHECKING:")[2].partition("\n\n")[0]
    names = set(re.findall(r"\b\w+\b(?=[,)\n]| *$)", re.sub(r"from \S+ import", "", typed)))
    assert set(package.__all__) - {"__version__"} == names
    assert sorted(package.__all__) == package.__all__ == dir(package)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.nothing


@pytest.mark.parametrize(("name", "one"), public_objects())
def test_every_public_object_has_an_example(name: str, one: Any) -> None:
    assert one.__doc__ and len(one.__doc__.splitlines()[0]) > 20
    results = inspect.isclass(one) and issubclass(one, Exception | tuple)
    assert results or inspect.isabstract(one) or ">>> " in one.__doc__ or name in TABLES


def others_with_examples() -> list[tuple[str, Any]]:
    """Functions and classes with an example that only their modules name."""
    public = {one for _, one in public_objects()}
    found = []
    for path in sorted((ROOT / "facedis_core").rglob("*.py")):
        if ">>> " not in path.read_text("utf-8"):
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, one in vars(module).items():
            own = getattr(one, "__module__", None) == module.__name__ and callable(one)
            if own and one not in public and ">>> " in (one.__doc__ or ""):
                found.append((f"{module.__name__}.{name}", one))
    return found


@pytest.mark.parametrize(
    ("name", "one"),
    [
        pytest.param(name, one, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, one in (*public_objects(), *others_with_examples())
    ],
)
def test_the_examples_run(name: str, one: Any, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    values = {key: getattr(package, key) for package in PACKAGES for key in package.__all__}
    values |= {"np": np, "torch": pytest.importorskip("torch"), one.__name__: one}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder().find(one, name, globs=values):
        failures: list[str] = []
        runner.run(test, out=failures.append)
        assert not failures, "".join(failures)


def test_objects_print_on_a_line(model: Model) -> None:
    rows = model.encode_prepared(face(0)[None], ["ann"])
    for one in (model, Mesh(*grid_mesh(), "grid"), rows, FACES, FACES.labels):
        text = repr(one)
        assert text.startswith(f"{type(one).__name__}(")
        assert "\n" not in text and len(text) < 150


class TestMesh:
    def test_arrays_become_float32_and_int32_and_keep_their_memory(self) -> None:
        vertices, triangles = grid_mesh()
        assert Mesh(vertices, triangles).vertices is vertices
        found = Mesh(vertices.tolist(), triangles.astype(np.int64))
        assert (found.vertices.dtype, found.triangles.dtype) == (np.float32, np.int32)

    @pytest.mark.parametrize("wrong", [[1, 2, 3], [[1, 2]], [["a", "b", "c"]], [[1], [1, 2]], None])
    def test_other_shapes_are_refused(self, wrong: Any) -> None:
        with raises(ErrorCode.ARRAY_SHAPE):
            Mesh(wrong, [[0, 1, 2]])
        with raises(ErrorCode.ARRAY_SHAPE):
            Mesh(grid_mesh()[0], wrong)

    def test_another_unit_is_refused(self) -> None:
        """Every command would take its vertices for millimetres."""
        with raises(ErrorCode.UNIT, "10.0, expected 1.0"):
            Mesh(*grid_mesh(), "cm", unit_mm=10.0)

    @pytest.mark.parametrize("suffix", [".ply", ".obj", ".off"])
    def test_a_path_is_enough_and_a_file_is_replaced(self, tmp_path: Path, suffix: str) -> None:
        for _ in range(2):
            write_mesh(tmp_path / f"a{suffix}", Mesh(*grid_mesh()))
        np.testing.assert_array_equal(read_mesh(tmp_path / f"a{suffix}").vertices, grid_mesh()[0])

    def test_unusable_targets(self, tmp_path: Path) -> None:
        mesh = Mesh(*grid_mesh())
        with raises(ErrorCode.OUTPUT_SUFFIX):
            write_mesh(tmp_path / "a.stl", mesh)
        with raises(ErrorCode.OUTPUT_UNWRITABLE):
            write_mesh(tmp_path / "nowhere" / "a.ply", mesh)

    def test_what_could_not_be_read_again_is_not_written(self, tmp_path: Path) -> None:
        vertices, triangles = grid_mesh()
        with raises(ErrorCode.NOT_FINITE):
            write_mesh(tmp_path / "a.ply", Mesh(vertices * np.nan, triangles))
        for off in (1, -1):
            with raises(ErrorCode.VERTEX_INDEX):
                write_mesh(tmp_path / "a.ply", Mesh(vertices, triangles + off))
        assert not list(tmp_path.iterdir())


class TestEncode:
    def test_every_form_of_faces_gives_the_same_latents(self, model: Model) -> None:
        faces = np.stack([face(0), face(1)])
        expected = model.encode_prepared(faces)
        meshes = [Mesh(one, model.triangles, f"f{k}", unit_mm=1.0) for k, one in enumerate(faces)]
        for given in (faces, meshes, list(faces), tuple(meshes)):
            found = model.encode(given)
            np.testing.assert_array_equal(found.identity, expected.identity)
            np.testing.assert_array_equal(found.expression, expected.expression)
        for one in (faces[0], meshes[0]):
            np.testing.assert_array_equal(model.encode(one).identity, expected.identity[:1])
        assert model.encode(meshes).names == ["f0", "f1"]
        assert model.encode(faces).names == ["row0000", "row0001"]
        assert model.encode(faces, names=["a", "b"]).names == ["a", "b"]
        assert len(model.encode([])) == 0

    def test_raw_meshes_and_units_are_recognised(self, model: Model) -> None:
        expected = model.encode_prepared(face(1)[None]).identity
        for mesh in (raw_mesh(face(1)), Mesh(face(1) / 10, model.triangles)):
            found = model.encode(mesh).identity
            np.testing.assert_allclose(found, expected, atol=1e-3)
        with raises(ErrorCode.UNIT):
            model.encode(face(1) / 10, units="mm")

    def test_far_faces_warn_then_fail(self, model: Model) -> None:
        with pytest.warns(FacedisWarning, match="far lies"):
            vertices = model.prepare(Mesh(face(0) + REACH_MM, model.triangles, "far"))
        assert vertices.dtype == np.float32
        with pytest.warns(FacedisWarning) as caught:
            model.encode(face(0) + REACH_MM)
        assert [Path(one.filename).name for one in caught] == [Path(__file__).name]
        with raises(ErrorCode.FAR_FACE):
            model.encode(face(0) + 300)
        with pytest.warns(FacedisWarning):
            model.encode(face(0) + 300, force_encode=True)

    def test_unusable_faces(self, model: Model) -> None:
        broken = face(0).copy()
        broken[3, 1] = np.nan
        with raises(ErrorCode.NOT_FINITE, match="row0001: vertex 3"):
            model.encode([face(0), broken])
        with raises(ErrorCode.VERTEX_COUNT):
            model.encode(face(0)[:5])
        turned = model.triangles[:, [0, 2, 1]]
        with raises(ErrorCode.TOPOLOGY):
            model.encode(Mesh(face(0), turned))
        assert len(model.encode(Mesh(face(0), turned), trust_order=True)) == 1
        for wrong in ("ann.ply", None, 5, [None], {"a": 1}):
            with raises(ErrorCode.ARGUMENT_TYPE):
                model.encode(wrong)  # type: ignore[arg-type]
        with raises(ErrorCode.ARRAY_SHAPE):
            model.encode(np.zeros((2, 2, 36, 3)))
        with raises(ErrorCode.ROW_COUNT):
            model.encode(face(0), names=["a", "b"])
        with raises(ErrorCode.OPTION_VALUE):
            model.encode(face(0), units="km")  # type: ignore[arg-type]


class TestLatents:
    def test_decode_takes_the_latents_of_its_own_model(self, model: Model) -> None:
        rows = model.encode(face(0), names=["ann"])
        found = model.decode(rows, "identity", offsets=True)
        expected = model.decode_vectors(rows.identity, rows.expression, "identity", offsets=True)
        np.testing.assert_array_equal(found, expected)
        with raises(ErrorCode.WRONG_MODEL):
            model.decode(synthetic.latents("a"))
        with raises(ErrorCode.LATENT_SIZE):
            model.decode(synthetic.latents("a", model="", identity=4))
        with raises(ErrorCode.ARGUMENT_TYPE):
            model.decode(rows.identity)  # type: ignore[arg-type]

    def test_rows_files_and_combinations(self, tmp_path: Path) -> None:
        rows = synthetic.latents("abc")
        assert rows[np.array([False, True, True])].names == ["b", "c"] and len(rows[[]]) == 0
        assert [rows[1].names, rows[-1].names, rows[:2].names, rows[[2, 0]].names] == [
            ["b"],
            ["c"],
            ["a", "b"],
            ["c", "a"],
        ]
        for _ in range(2):
            write_latents(tmp_path / "a.npy", rows)
        np.testing.assert_array_equal(read_latents(tmp_path / "a.npy").identity, rows.identity)
        with raises(ErrorCode.OUTPUT_SUFFIX):
            write_latents(tmp_path / "a.ply", rows)
        mixed = transfer(rows[0], rows[1])
        np.testing.assert_array_equal(mixed.expression, rows.expression[1:2])
        between = interpolate(rows[0], rows[1:], steps=3, part="identity")
        assert between.names[:2] == ["a__b/0", "a__b/1"] and len(between) == 6
        np.testing.assert_array_equal(between.expression[2], rows.expression[0])
        with raises(ErrorCode.ROW_COUNT):
            transfer(rows[:0], rows)

    def test_arrays_become_rows_of_float32(self, model: Model) -> None:
        rows = model.encode([face(0), face(1)])
        mean = (rows.identity.mean(axis=0), rows.expression.mean(axis=0))
        found = Latents(["mean"], [model.id], *([part.tolist()] for part in mean))
        assert found.identity.dtype == np.float32
        assert model.decode(found).shape == (1, 36, 3)
        for names, models, parts in (
            (["mean"], [model.id], mean),  # (D,)
            (["a", "b"], [""] * 2, (rows.identity, rows.expression[:1])),
            (["a", "b"], [""], (rows.identity, rows.expression)),
            ("ab", "ab", (rows.identity, rows.expression)),
            (["a"], [""], (["x"], [["y"]])),
            (["a", "b"], [""] * 2, ([[1], [1, 2]], rows.expression)),
        ):
            with raises(ErrorCode.ARRAY_SHAPE):
                Latents(names, models, *parts)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "call",
        [
            lambda: transfer("a.npy", "b.npy"),  # type: ignore[arg-type]
            lambda: transfer(*2 * [synthetic.latents("a")], scale="2"),  # type: ignore[arg-type]
            lambda: interpolate(synthetic.latents("a"), None),  # type: ignore[arg-type]
            lambda: interpolate(*2 * [synthetic.latents("a")], steps=2.5),  # type: ignore[arg-type]
            lambda: write_latents("a.npy", np.zeros((2, 3))),  # type: ignore[arg-type]
            lambda: write_latents("a.npy"),
            lambda: write_latents(5, synthetic.latents("a")),  # type: ignore[arg-type]
            lambda: read_latents(5),  # type: ignore[arg-type]
            lambda: read_mesh(None),  # type: ignore[arg-type]
            lambda: write_mesh(5, Mesh(*grid_mesh())),  # type: ignore[arg-type]
            lambda: write_mesh("a.ply", grid_mesh()[0]),  # type: ignore[arg-type]
            lambda: write_model("m.safetensors", None),  # type: ignore[arg-type]
            lambda: load_model(5),  # type: ignore[arg-type]
            lambda: load_face_set(5),  # type: ignore[arg-type]
            lambda: synthetic.latents("a")["a"],  # type: ignore[index]
            lambda: FACES["person0/neutral"],  # type: ignore[index]
            lambda: FACES[1.5],  # type: ignore[index]
            lambda: FACES[[[1], [1, 2]]],  # type: ignore[list-item]  # ragged on purpose
        ],
    )
    def test_arguments_of_another_type(self, call: Any) -> None:
        with raises(ErrorCode.ARGUMENT_TYPE):
            call()


class TestFaceSet:
    def test_indices_give_vertices(self) -> None:
        assert len(FACES) == 40
        for rows in (slice(3, 6), [3, 4, 5], np.arange(3, 6), np.arange(40) // 3 == 1):
            np.testing.assert_array_equal(FACES[rows], FACES.vertices[3:6])
        np.testing.assert_array_equal(FACES[-1], FACES.vertices[39])
        assert len(list(FACES)) == 40  # ends with an IndexError
        np.testing.assert_array_equal(FACES.rows("test"), FACES.rows(1))
        with raises(ErrorCode.OPTION_VALUE):
            FACES.rows("tests")
        with raises(ErrorCode.OPTION_VALUE, r"no split 3, expected one of \[0, 1, 2\]"):
            FACES.rows(3)

    def test_torch_reads_it(self, model: Model) -> None:
        torch = pytest.importorskip("torch")
        loader = torch.utils.data.DataLoader
        tensor = torch.from_numpy(face(0))
        np.testing.assert_array_equal(model.encode(tensor).identity, model.encode(face(0)).identity)
        with raises(ErrorCode.ARGUMENT_TYPE):
            model.encode(tensor.requires_grad_())
        assert next(iter(loader(FACES, batch_size=8))).shape == (8, 36, 3)
        torch.manual_seed(0)
        (batch,) = loader(FACES.torch_dataset("train", pairs=True), batch_size=28)
        labels = FACES.labels
        rows = FACES.rows("train")
        np.testing.assert_array_equal(batch.face, FACES[rows])
        np.testing.assert_array_equal(batch.subject, labels.subject[rows])
        np.testing.assert_array_equal(batch.neutral, FACES.neutrals[labels.subject[rows]])
        for row, partner in zip(rows, batch.partner.numpy(), strict=True):
            same = (FACES.vertices == partner).all(axis=(1, 2))
            (other,) = np.flatnonzero(same)
            assert other != row and labels.subject[other] == labels.subject[row]
        single = FACES.torch_dataset(None)
        assert len(single) == 40 and single[3].expression == labels.expression[3]
        with raises(ErrorCode.SPLIT_EMPTY):
            FACES.torch_dataset("validation")


class TestTraining:
    SMALL: ClassVar = {"steps": 4, "identity": 8, "expression": 3, "batch": 7}

    def test_a_model_from_a_set_in_memory_or_a_file(self, tmp_path: Path, call: Any) -> None:
        path = synthetic.write_face_set(tmp_path / "set.safetensors", FACES)
        records: list[dict[str, Any]] = []
        with pytest.warns(FacedisWarning):
            model = train(load_face_set(path), changes=self.SMALL, on_record=records.append)
        assert [record["step"] for record in records] == [4]
        with pytest.warns(FacedisWarning):
            train(path, changes=self.SMALL, output=tmp_path / "api.safetensors")
        options = " ".join(f"--set {key}={value}" for key, value in self.SMALL.items())
        assert call(f"fd-train set.safetensors {options} -o cli.safetensors").code == 0
        by_api, by_command = (tmp_path / f"{way}.safetensors" for way in ("api", "cli"))
        assert by_api.read_bytes() == by_command.read_bytes()
        assert model.id == load_model(by_api).id
        assert (tmp_path / "api.jsonl").exists()
        assert call("fd-metrics set.safetensors -m cli.safetensors --json -o r.json").code == 0
        expected = json.loads((tmp_path / "r.json").read_text())["model"]
        found = evaluate(model, FACES).metrics
        assert found["e_rec"] == pytest.approx(expected["e_rec"])
        everything = evaluate(model, path, split=None)
        assert "\n" not in repr(everything)
        with raises(ErrorCode.NOT_COMPARABLE):
            differences(evaluate(model, path), everything)

    def test_packages_stay_packages(self) -> None:
        import facedis_core.evaluate.metrics as metrics
        import facedis_core.train.recipe as recipe

        assert metrics.FaceSpread and recipe.Recipe
        assert facedis_core.train is sys.modules["facedis_core.train"]
        assert "face_set" in inspect.signature(facedis_core.train).parameters
        assert "model" in inspect.signature(facedis_core.evaluate).parameters

    def test_unusable_arguments(self, model: Model) -> None:
        for wrong in (
            lambda: train(None),  # type: ignore[arg-type]
            lambda: train(FACES, None),  # type: ignore[arg-type]
            lambda: train(FACES, changes=["steps=3"]),  # type: ignore[arg-type]
            lambda: train(FACES, seed="one"),  # type: ignore[arg-type]
            lambda: evaluate("ict-linear", FACES),  # type: ignore[arg-type]
            lambda: evaluate(model, model),  # type: ignore[arg-type]
        ):
            with raises(ErrorCode.ARGUMENT_TYPE):
                wrong()
        with raises(ErrorCode.OPTION_VALUE):
            train(FACES, changes={"stepps": 3})
        with raises(ErrorCode.OPTION_VALUE):
            train(FACES, device="gpu")  # type: ignore[arg-type]
        with raises(ErrorCode.SPLIT_EMPTY):
            evaluate(model, FACES, split="validation")
        with raises(ErrorCode.SAME_FILE):
            train("set.safetensors", output=Path("set.safetensors"))
        with pytest.warns(FacedisWarning), raises(ErrorCode.CHECKPOINT_MISSING):
            train(FACES, changes=self.SMALL, resume=True)

    def test_train_is_not_for_several_processes(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with raises(ErrorCode.OPTION_CONFLICT, "one of 2 processes .* torchrun -m fd_train"):
            train(FACES, changes=self.SMALL)


@pytest.mark.slow
def test_the_script_with_an_own_encoder_is_short_and_trains(tmp_path: Path) -> None:
    assert len(SCRIPTS[0].read_text().splitlines()) < 40
    path = synthetic.write_face_set(tmp_path / "set.safetensors", FACES)
    words = [sys.executable, "-W", "error", str(SCRIPTS[0]), str(path), "2"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(?m)^(\w+): loss [\d.]+$", done.stdout) == [
        "OwnEncoder",
        "PointNetEncoder",
    ]


@pytest.mark.slow
def test_scripts_of_the_python_api_pass_mypy_strict(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    # one notebook, with the export, which needs another package: names keep their types
    page = page.partition("\n## A network of your own\n")[0]
    examples = re.findall(r"^```py(?:thon)?\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert any("torch.onnx.export" in example for example in examples)
    (tmp_path / "notebook.py").write_text("\n".join(examples))
    assert (ROOT / "facedis_core" / "py.typed").exists()
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    scripts = [*map(str, SCRIPTS), str(tmp_path / "notebook.py")]
    done = subprocess.run([*words, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_warns_on_sound_faces(model: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode([face(0), raw_mesh(face(1))])


def test_the_package_itself_imports_only_the_standard_library() -> None:
    program = (
        "import sys, facedis_core, facedis_core.nn\n"
        "from facedis_core import __all__\n"
        "sys.exit(bool({'numpy', 'torch', 'typer'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    assert isinstance(FACES, FaceSet) and isinstance(synthetic.latents("a"), Latents)
