import json
import os
import pickle
import shutil
from unittest import mock

import numpy as np
import pytest
from conftest import contents, face

from facedis_core.data.latents import Latents, read_latents, write_latents
from facedis_core.mesh.mesh import read_mesh, read_meshes


def latents(model, names, seed=0, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "names": list(names),
        "models": [model.id] * len(names),
        "identity": rng.normal(size=(len(names), 3)).astype(np.float32),
        "expression": rng.normal(size=(len(names), 2)).astype(np.float32),
    }
    return Latents(**{**values, **changes})


def save(path, rows):
    with path.open("wb") as stream:
        write_latents(stream, rows)


@pytest.fixture
def rows(model, tmp_path):
    """Three rows, also in `three.npy`, the first of them in `one.npy`."""
    rows = latents(model, ["ann", "deep/bob", "eva grün"])
    save(tmp_path / "three.npy", rows)
    first = Latents(rows.names[:1], rows.models[:1], rows.identity[:1], rows.expression[:1])
    save(tmp_path / "one.npy", first)
    return rows


def decoded(data, tmp_path):
    path = tmp_path / "stream.ply"
    path.write_bytes(data)
    with path.open("rb") as stream:
        return list(read_meshes(stream))


class TestOutputs:
    def test_standard_output_is_ply_after_ply(self, call, rows, model, tmp_path):
        result = call("fd-decode three.npy")
        assert result.code == 0
        meshes = decoded(result.out, tmp_path)
        assert [mesh.name for mesh in meshes] == rows.names
        truth = model.decode_vectors(rows.identity, rows.expression)
        for mesh, vertices in zip(meshes, truth, strict=True):
            np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-4)
            np.testing.assert_array_equal(mesh.triangles, model.triangles)
            assert mesh.unit_mm == 1.0

    def test_one_file(self, call, rows, tmp_path):
        assert call("fd-decode one.npy -o out.ply").code == 0
        piped = call("fd-decode", stdin=(tmp_path / "one.npy").read_bytes())
        assert (tmp_path / "out.ply").read_bytes() == piped.out

    def test_a_folder(self, call, rows, tmp_path):
        assert call("fd-decode three.npy -o out/").code == 0
        assert set(contents(tmp_path / "out")) == {"ann.ply", "deep/bob.ply", "eva grün.ply"}

    def test_a_pattern(self, call, rows, model, tmp_path):
        assert call("fd-decode three.npy -o 'out/{name} face.obj'").code == 0
        mesh = read_mesh(tmp_path / "out" / "deep" / "bob face.obj")
        truth = model.decode_vectors(rows.identity[1:2], rows.expression[1:2])[0]
        np.testing.assert_allclose(mesh.vertices, truth, atol=1e-3)

    def test_more_rows_than_one_block(self, call, model, tmp_path):
        rows = latents(model, [f"{row:02d}" for row in range(35)])
        save(tmp_path / "many.npy", rows)
        meshes = decoded(call("fd-decode many.npy").out, tmp_path)
        truth = model.decode_vectors(rows.identity, rows.expression)
        np.testing.assert_allclose([mesh.vertices for mesh in meshes], truth, atol=1e-4)

    def test_an_existing_file_stops_all_before_any_is_written(self, call, rows, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "eva grün.ply").write_text("precious")
        result = call("fd-decode three.npy -o out/")
        assert (result.code, result.kind) == (2, "output-exists")
        assert "eva grün.ply" in result.line
        assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "eva grün.ply"]
        assert call("fd-decode three.npy -o out/ --force").code == 0

    @pytest.mark.parametrize(
        ("output", "kind"),
        [
            ("out.ply", "output-collision"),
            ("'{nam}.ply'", "output-pattern"),
            ("'{name}.nonsense'", "output-suffix"),
            ("'{name}.stl'", "output-suffix"),
        ],
    )
    def test_outputs_that_cannot_be(self, call, rows, tmp_path, output, kind):
        before = sorted(tmp_path.iterdir())
        result = call(f"fd-decode three.npy -o {output}")
        assert (result.code, result.kind) == (2, kind)
        assert result.line
        assert sorted(tmp_path.iterdir()) == before

    def test_a_name_that_is_not_utf_8(self, call, model, tmp_path):
        name = os.fsdecode(b"m\xfcller")
        save(tmp_path / "one.npy", latents(model, [name]))
        assert call("fd-decode one.npy -o out/").code == 0
        assert [path.stem for path in (tmp_path / "out").iterdir()] == [name]
        assert b"name=m%FCller\n" in call("fd-decode one.npy").out

    def test_a_placeholder_that_is_not_known(self, call, rows, tmp_path):
        result = call("fd-decode one.npy -o 'out/{nam}.obj'")
        assert (result.code, result.kind) == (2, "output-pattern")
        assert "{nam}" in result.line
        assert not (tmp_path / "out").exists()

    def test_a_folder_name_too_long(self, call, rows):
        result = call(f"fd-decode one.npy -o {'a' * 300}/a.ply")
        assert (result.code, result.kind) == (4, "output-unwritable")
        assert result.line

    @pytest.mark.parametrize("name", ["../up", "/abs", "a/../b", "new\nline"])
    def test_names_that_lead_out_of_the_folder(self, call, model, tmp_path, name):
        save(tmp_path / "bad.npy", latents(model, ["good", name]))
        result = call("fd-decode bad.npy -o out/")
        assert (result.code, result.kind) == (3, "name-invalid")
        assert result.line
        assert not (tmp_path / "out").exists()

    def test_two_rows_of_one_name_clash(self, call, model, tmp_path):
        save(tmp_path / "twice.npy", latents(model, ["ann", "ann"]))
        assert call("fd-decode twice.npy -o out/").kind == "output-collision"
        assert not (tmp_path / "out").exists()


class TestParts:
    @pytest.mark.parametrize("part", ["full", "identity", "expression"])
    @pytest.mark.parametrize("offsets", [False, True])
    def test_part(self, call, rows, model, tmp_path, part, offsets):
        result = call(f"fd-decode one.npy --part {part} {'--offsets' if offsets else ''}")
        (mesh,) = decoded(result.out, tmp_path)
        truth = model.decode_vectors(rows.identity[:1], rows.expression[:1], part, offsets=offsets)
        np.testing.assert_allclose(mesh.vertices, truth[0], atol=1e-4)

    def test_the_parts_add_up(self, call, rows, model, tmp_path):
        full, identity, expression = (
            decoded(call(f"fd-decode one.npy --part {part}").out, tmp_path)[0].vertices
            for part in ("full", "identity", "expression")
        )
        np.testing.assert_allclose(full, identity + expression - model.mean_face, atol=1e-4)


class TestLatents:
    def test_a_plain_array(self, call, rows, tmp_path):
        plain = np.concatenate([rows.identity, rows.expression], axis=1).astype(np.float64)
        np.save(tmp_path / "plain.npy", plain)
        meshes = decoded(call("fd-decode plain.npy").out, tmp_path)
        assert [mesh.name for mesh in meshes] == ["row0000", "row0001", "row0002"]
        expected = decoded(call("fd-decode three.npy").out, tmp_path)
        for mesh, other in zip(meshes, expected, strict=True):
            np.testing.assert_array_equal(mesh.vertices, other.vertices)

    def test_another_model_is_an_error_naming_both(self, call, rows, model, other_model_file):
        result = call(f"fd-decode -m {other_model_file} three.npy -o out/")
        assert (result.code, result.kind) == (3, "wrong-model")
        assert model.id in result.line
        assert str(other_model_file) in result.line
        assert not result.out

    def test_other_sizes(self, call, model, tmp_path):
        wrong = latents(model, ["ann"], models=[""], identity=np.zeros((1, 7), np.float32))
        save(tmp_path / "wrong.npy", wrong)
        result = call("fd-decode wrong.npy -o out.ply")
        assert (result.code, result.kind) == (3, "latent-size")
        assert "(B, 3)" in result.line
        assert not (tmp_path / "out.ply").exists()

    @pytest.mark.parametrize(
        ("spoil", "kind"),
        [
            (lambda data: data[:-1], "truncated"),
            (lambda data: b"", "empty"),
            (lambda data: pickle.dumps([1]), "wrong-kind"),
            (lambda data: b"no latents\n", "wrong-kind"),
        ],
        ids=["truncated", "empty", "pickle", "text"],
    )
    def test_bad_latents(self, call, rows, tmp_path, spoil, kind):
        (tmp_path / "bad.npy").write_bytes(spoil((tmp_path / "one.npy").read_bytes()))
        result = call("fd-decode bad.npy -o out.ply")
        assert (result.code, result.kind) == (3, kind)
        assert result.line.startswith("fd-decode: bad.npy")
        assert not (tmp_path / "out.ply").exists()

    def test_a_missing_file(self, call):
        assert call("fd-decode nothing.npy").kind == "file-missing"


class TestManyOutputs:
    def test_parts_side_by_side(self, call, rows, tmp_path):
        parts = ("full", "identity", "expression")
        words = " ".join(f"--part {part}" for part in parts)
        assert call(f"fd-decode three.npy {words} -o 'out/{{name}}_{{part}}.ply'").code == 0
        for part in parts:
            assert call(f"fd-decode one.npy --part {part} -o {part}.ply").code == 0
            written = (tmp_path / "out" / f"ann_{part}.ply").read_bytes()
            assert written == (tmp_path / f"{part}.ply").read_bytes()
        assert len(list((tmp_path / "out").rglob("*.ply"))) == 9

    @pytest.mark.parametrize("output", ["out/", "'out/{name}.ply'", "-", "out.ply"])
    def test_several_parts_need_a_place_each(self, call, rows, tmp_path, output):
        result = call(f"fd-decode one.npy --part full --part identity -o {output}")
        assert (result.code, result.kind) == (2, "output-pattern")
        assert "{part}" in result.line
        assert not (tmp_path / "out").exists()

    def test_vertices_only(self, call, rows, model, tmp_path):
        assert call("fd-decode three.npy --npy -o faces.npy").code == 0
        array = np.load(tmp_path / "faces.npy")
        assert (array.dtype, array.shape) == (np.float32, (3, 36, 3))
        truth = model.decode_vectors(rows.identity, rows.expression)
        np.testing.assert_array_equal(array, truth)
        assert call("fd-decode three.npy --npy").out == (tmp_path / "faces.npy").read_bytes()
        words = "--npy --part identity --part expression -o '{part}.npy'"
        assert call(f"fd-decode three.npy {words}").code == 0
        identity = model.decode_vectors(rows.identity, rows.expression, "identity")
        np.testing.assert_array_equal(np.load(tmp_path / "identity.npy"), identity)
        result = call("fd-decode three.npy --npy -o 'out/{name}.npy'")
        assert (result.code, result.kind) == (2, "output-pattern")
        assert "--npy" in result.line

    def test_vertices_there_and_back(self, call, rows):
        meshes, array = call("fd-decode three.npy").out, call("fd-decode three.npy --npy").out
        by_mesh, by_array = (
            call("fd-encode --force-encode", stdin=vertices).out for vertices in (meshes, array)
        )
        by_mesh, by_array = (
            call("fd-decode --npy", stdin=found).out for found in (by_mesh, by_array)
        )
        assert by_mesh == by_array
        assert by_mesh

    @pytest.mark.parametrize(
        "words",
        [
            pytest.param("--npy", marks=pytest.mark.slow),
            "-o 'out/{name}_{part}.obj' --part identity",
        ],
    )
    def test_several_processes_give_the_same_bytes(self, call, shell, model, tmp_path, words):
        save(tmp_path / "many.npy", latents(model, [f"a/{row}" for row in range(50)]))
        outputs = []
        for run, jobs in ((call, 1), (shell, 2)):
            result = run(f"fd-decode many.npy {words} --jobs {jobs}")
            assert (result.code, result.err) == (0, "")
            outputs.append((result.out, contents(tmp_path / "out")))
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert outputs[0] == outputs[1]
        assert outputs[0][0] or len(outputs[0][1]) == 50

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_what_is_there_can_stay(self, call, shell, model, tmp_path, jobs):
        save(tmp_path / "many.npy", latents(model, [str(row) for row in range(40)]))
        assert call("fd-decode many.npy -o out/").code == 0
        expected = contents(tmp_path / "out")
        for path in (tmp_path / "out").glob("1*.ply"):
            path.unlink()
        (tmp_path / "out" / "20.ply").write_bytes(b"mine")
        run = call if jobs == 1 else shell
        result = run(f"fd-decode many.npy -o out/ --skip-existing --jobs {jobs}")
        assert (result.code, result.err) == (0, "")
        assert contents(tmp_path / "out") == {**expected, "20.ply": b"mine"}
        assert call("fd-decode many.npy -o out/ --skip-existing --force").kind == "option-conflict"

    def test_what_another_process_wrote_meanwhile_can_stay(self, call, rows, tmp_path):
        """As a file that is there when it is written, and was not when the rows were read."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "ann.ply").write_text("mine")
        with mock.patch("facedis_core.pipeline.decode.is_file", return_value=False):
            assert call("fd-decode three.npy -o out/ --skip-existing").code == 0
        assert (tmp_path / "out" / "ann.ply").read_text() == "mine"
        assert (tmp_path / "out" / "deep" / "bob.ply").exists()

    @pytest.mark.parametrize("words", ["one.npy -o out.ply", "three.npy --npy -o out.npy"])
    def test_a_single_file_that_is_there_can_stay(self, call, rows, tmp_path, words):
        assert call(f"fd-decode {words} --skip-existing").code == 0
        path = tmp_path / words.split()[-1]
        path.write_text("mine")
        assert call(f"fd-decode {words} --skip-existing").code == 0
        assert path.read_text() == "mine"

    def test_an_array_must_be_asked_for(self, call, rows, tmp_path):
        result = call("fd-decode three.npy -o out.npy")
        assert (result.code, result.kind) == (2, "output-suffix")
        assert "--npy" in result.line

    def test_several_meshes_into_a_pipe_by_name(self, call, shell, rows, tmp_path):
        expected = call("fd-decode three.npy").out
        assert shell("fd-decode three.npy -o /dev/stdout | cat").out == expected
        assert shell("mkfifo pipe; cat pipe & fd-decode three.npy -o pipe; wait").out == expected


class TestKeepGoing:
    def test_bad_rows_are_named_skipped_and_listed(self, call, model, tmp_path):
        rows = latents(model, ["ann", "../up", "bob", "other", "hole"])
        rows.models[3] = "0123456789ab"
        with (tmp_path / "bad.npy").open("wb") as stream:
            write_latents(stream, rows)
        array = np.load(tmp_path / "bad.npy")
        array["identity"][4, 0] = np.nan
        np.save(tmp_path / "bad.npy", array)
        assert call("fd-decode bad.npy -o out/").kind == "not-finite"
        result = call("fd-decode bad.npy -o out/ --keep-going --failures failed.jsonl")
        assert result.code == 1
        assert result.err.splitlines()[-1] == "fd-decode: 3 of 5 faces were skipped"
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ann.ply", "bob.ply"]
        found = [json.loads(row) for row in (tmp_path / "failed.jsonl").read_text().splitlines()]
        assert [row["item"] for row in found] == ["../up", "other", "hole"]
        assert "0123456789ab" in found[1]["error"]
        assert "not finite" in found[2]["error"]
        # as mesh after mesh a name need not be one of a file
        assert call("fd-decode bad.npy --keep-going").out.count(b"end_header") == 3


def test_a_face_comes_back_as_the_model_sees_it(call, faces, model, tmp_path):
    assert call("fd-decode -o bob.ply", stdin=call("fd-encode faces/bob.ply").out).code == 0
    rows = model.encode_prepared(face(1)[None])
    truth = model.decode_vectors(rows.identity, rows.expression)[0]
    np.testing.assert_allclose(read_mesh(tmp_path / "bob.ply").vertices, truth, atol=1e-3)


def test_names_survive_the_way_there_and_back(call, faces, tmp_path):
    latents = call("fd-encode faces").out
    assert call("fd-decode -o 'out/{name}.ply'", stdin=latents).code == 0
    assert call("fd-encode out -o again.npy").code == 0
    names = ["ann", "bob", "cy", "deep/dan", "eva grün"]
    assert read_latents(str(tmp_path / "again.npy")).names == names


def test_several_files_of_latents(call, faces, tmp_path):
    for name in ("ann", "bob"):
        assert call(f"fd-encode faces/{name}.ply -o {name}.npy").code == 0
    assert call("fd-decode ann.npy bob.npy -o both/").code == 0
    assert call("fd-decode '???.npy' --npy -o all.npy").code == 0
    for number, name in enumerate(("ann", "bob")):
        assert call(f"fd-decode {name}.npy -o alone.ply --force").code == 0
        alone = tmp_path / "alone.ply"
        assert (tmp_path / "both" / f"{name}.ply").read_bytes() == alone.read_bytes()
        np.testing.assert_array_equal(
            np.load(tmp_path / "all.npy")[number], read_mesh(alone).vertices
        )
    twice = call("fd-decode ann.npy ann.npy -o twice/")
    assert twice.code == 2 and not (tmp_path / "twice").exists()
    assert call("fd-decode - -").kind == "same-file"
