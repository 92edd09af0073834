import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import REACH_MM, face, raw_mesh, save_mesh
from synthetic import face_set, grid_mesh, write_face_set

from facedis_core.data.latents import read_latents
from facedis_core.mesh.mesh import Mesh, write_mesh
from facedis_core.mesh.ply import write as write_ply

NAMES = ["ann", "bob", "cy", "deep/dan", "eva grün"]


@pytest.fixture
def expected(model):
    """The latents of the faces of the folder `faces`, computed directly."""
    return model.encode_prepared(np.stack([face(seed) for seed in range(5)]), NAMES)


def check(path, names, expected, atol=1e-5):
    """The file holds the expected rows of these names, in this order."""
    rows = read_latents(str(path))
    assert rows.names == names
    assert set(rows.models) == set(expected.models)
    at = [expected.names.index(name) for name in names]
    np.testing.assert_allclose(rows.identity, expected.identity[at], atol=atol)
    np.testing.assert_allclose(rows.expression, expected.expression[at], atol=atol)


def renamed(expected):
    """As if no face were below a folder."""
    return replace(expected, names=[name.rpartition("/")[2] for name in expected.names])


def ply(vertices, triangles=None, name=""):
    stream = io.BytesIO()
    triangles = grid_mesh()[1] if triangles is None else triangles
    write_ply(stream, vertices, triangles, name, True)  # also what write_mesh refuses
    return stream.getvalue()


class TestInputs:
    def test_a_mesh(self, call, faces, tmp_path, expected):
        assert call("fd-encode faces/ann.ply -o out.npy").code == 0
        check(tmp_path / "out.npy", ["ann"], expected)

    def test_a_folder_gives_names_below_it(self, call, faces, tmp_path, expected):
        assert call("fd-encode faces -o out.npy").code == 0
        check(tmp_path / "out.npy", NAMES, expected)

    def test_several_kinds_at_once_in_the_order_given(self, call, faces, tmp_path, expected):
        piped = ply(face(3), name="deep/dan")
        result = call("fd-encode faces/cy.obj - 'faces/eva grün.ply' -o out.npy", stdin=piped)
        assert result.code == 0
        check(tmp_path / "out.npy", ["cy", "deep/dan", "eva grün"], expected)

    def test_mesh_after_mesh_on_standard_input(self, call, tmp_path, expected):
        piped = b"".join(ply(face(seed), name=NAMES[seed]) for seed in range(5))
        assert call("fd-encode -o out.npy", stdin=piped).code == 0
        check(tmp_path / "out.npy", NAMES, expected)

    def test_what_a_shell_makes_of_files(self, shell, faces):
        by_files = shell("fd-encode faces/*.ply")
        assert by_files.code == 0
        by_pipe = shell("cat faces/ann.ply faces/bob.ply faces/eva*.ply | fd-encode -")
        assert by_pipe.out == by_files.out
        substituted = "fd-encode <(cat faces/ann.ply faces/bob.ply) - < 'faces/eva grün.ply'"
        assert shell(substituted).out == by_files.out

    @pytest.mark.parametrize(
        ("option", "count"), [("", 40), ("--split train", 28), ("--split test", 12)]
    )
    def test_a_face_set(self, call, tmp_path, model, option, count):
        faces = face_set()
        write_face_set(tmp_path / "set.safetensors", faces)
        result = call(f"fd-encode --force-encode {option} set.safetensors -o out.npy")
        assert result.code == 0
        rows = read_latents(str(tmp_path / "out.npy"))
        kept = slice(28, 40) if "test" in option else slice(0, count)
        assert rows.names == list(faces.labels.names[kept])
        truth = model.encode_prepared(faces.vertices[kept])
        np.testing.assert_allclose(rows.identity, truth.identity, atol=1e-5)

    def test_more_faces_than_one_block(self, call, tmp_path, model):
        for seed in range(35):
            save_mesh(tmp_path / f"many/{seed:02d}.ply", face(seed))
        assert call("fd-encode many -o out.npy").code == 0
        rows = read_latents(str(tmp_path / "out.npy"))
        truth = model.encode_prepared(np.stack([face(seed) for seed in range(35)]))
        np.testing.assert_allclose(rows.identity, truth.identity, atol=1e-5)
        assert rows.names == [f"{seed:02d}" for seed in range(35)]


class TestPreparation:
    def save_raw(self, path, vertices):
        raw = raw_mesh(vertices)
        save_mesh(path, raw.vertices, raw.triangles)

    def test_a_raw_mesh_of_the_data_set(self, call, faces, tmp_path, expected):
        self.save_raw(tmp_path / "ann.obj", face(0))
        assert call("fd-encode ann.obj -o out.npy").code == 0
        check(tmp_path / "out.npy", ["ann"], expected)

    def test_units_can_be_said(self, call, tmp_path, expected):
        raw = raw_mesh(face(0))
        save_mesh(tmp_path / "ann.obj", raw.vertices / 100, raw.triangles)  # the set is in cm
        assert call("fd-encode --units mm ann.obj -o out.npy").kind == "unit"
        for units in ("m", "auto"):
            assert call(f"fd-encode --units {units} ann.obj -o out.npy --force").code == 0
            check(tmp_path / "out.npy", ["ann"], expected)

    @pytest.mark.parametrize("align", ["rigid", "similarity"])
    def test_alignment_undoes_a_movement(self, call, tmp_path, align):
        vertices = face(0)
        moved = vertices[:, [1, 0, 2]] * np.float32([-1, 1, 1]) + np.float32([5, 50, -500])
        save_mesh(tmp_path / "here.ply", vertices)
        save_mesh(tmp_path / "there.ply", moved)
        assert call("fd-encode there.ply").kind == "far-face"
        assert call(f"fd-encode --align {align} here.ply there.ply -o out.npy").code == 0
        rows = read_latents(str(tmp_path / "out.npy"))
        np.testing.assert_allclose(rows.identity[0], rows.identity[1], atol=1e-4)

    def test_other_triangles_need_trust(self, call, tmp_path, expected):
        save_mesh(tmp_path / "ann.ply", face(0), grid_mesh()[1][:, [0, 2, 1]])
        result = call("fd-encode ann.ply -o out.npy")
        assert (result.code, result.kind) == (3, "topology")
        assert "--trust-order" in result.line
        assert call("fd-encode --trust-order ann.ply -o out.npy").code == 0
        check(tmp_path / "out.npy", ["ann"], expected)

    def test_vertices_without_triangles_are_accepted(self, call, tmp_path, expected):
        save_mesh(tmp_path / "ann.ply", face(0), np.zeros((0, 3), np.int32))
        assert call("fd-encode ann.ply -o out.npy").code == 0
        check(tmp_path / "out.npy", ["ann"], expected)


class TestReach:
    def far(self, factor):
        mean_face, _ = grid_mesh()
        return mean_face + np.float32([0, 0, factor * REACH_MM])

    def test_a_face_beyond_the_training_faces_is_doubtful(self, call, tmp_path):
        save_mesh(tmp_path / "far.ply", self.far(2))
        result = call("fd-encode far.ply -o out.npy")
        assert result.code == 0
        assert result.line.startswith("fd-encode: warning: far lies 12 mm")
        assert (tmp_path / "out.npy").exists()

    def test_far_beyond_them_it_is_refused(self, call, tmp_path):
        save_mesh(tmp_path / "far.ply", self.far(4))
        result = call("fd-encode far.ply -o out.npy")
        assert (result.code, result.kind) == (3, "far-face")
        assert "--force-encode" in result.line
        assert not (tmp_path / "out.npy").exists()
        assert call("fd-encode --force-encode far.ply -o out.npy").code == 0


def small(count):
    return ply(face(0)[:count], np.array([[0, 1, 2]], np.int32))


BAD = {
    "truncated.ply": (ply(face(0))[:-20], "truncated", "mesh 1"),
    "count.ply": (small(20), "vertex-count", "20 vertices, expected 36 or 50"),
    "nan.ply": (ply(np.full((36, 3), np.nan, np.float32)), "not-finite", "vertex 0"),
    "empty.ply": (b"", "empty", ""),
    "text.ply": (b"I am no mesh\n", "wrong-kind", "mesh 1"),
    "text.safetensors": (b"I am no face set, but long enough to be one\n", "wrong-kind", "a text"),
    "notes.txt": (b"I am no mesh\n", "unsupported", ""),
}


class TestBadInput:
    @pytest.mark.parametrize(("name", "content"), BAD.items(), ids=BAD)
    def test_is_one_line_and_exit_3_and_nothing_written(self, call, tmp_path, name, content):
        data, kind, place = content
        (tmp_path / name).write_bytes(data)
        result = call(f"fd-encode {name} -o out.npy")
        assert (result.code, result.kind) == (3, kind)
        assert result.line.startswith(f"fd-encode: {name}")
        assert place in result.line
        assert sorted(tmp_path.iterdir()) == [tmp_path / name]

    def test_nothing_there(self, call, tmp_path):
        result = call("fd-encode nothing.ply -o out.npy")
        assert (result.code, result.kind) == (3, "file-missing")
        assert "nothing.ply" in result.line

    def test_a_folder_without_meshes(self, call, tmp_path):
        (tmp_path / "folder").mkdir()
        result = call("fd-encode folder -o out.npy")
        assert (result.code, result.kind) == (3, "empty")
        assert "folder" in result.line

    def test_an_empty_pipe(self, call):
        result = call("fd-encode")
        assert (result.code, result.kind) == (3, "empty")
        assert "standard input" in result.line

    def test_latents_or_a_face_set_on_the_pipe(self, call, faces, tmp_path):
        latents = call("fd-encode faces/ann.ply").out
        result = call("fd-encode", stdin=latents)
        assert (result.code, result.kind) == (3, "wrong-kind")
        assert "latents" in result.line
        write_face_set(tmp_path / "set.safetensors", face_set())
        result = call("fd-encode", stdin=(tmp_path / "set.safetensors").read_bytes())
        assert (result.code, result.kind) == (3, "wrong-kind")
        assert "face set" in result.line

    def test_latents_or_a_face_set_as_a_mesh(self, call, faces, tmp_path):
        assert call("fd-encode faces/ann.ply -o ann.npy").code == 0
        result = call("fd-encode ann.npy")
        assert (result.kind, "latents" in result.line) == ("wrong-kind", True)
        write_face_set(tmp_path / "set", face_set())  # as from <(cat set.safetensors)
        result = call("fd-encode set")
        assert (result.code, result.kind) == (3, "wrong-kind")
        assert ".safetensors" in result.line

    @pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".safetensors", "a" * 300 + ".ply"])
    def test_a_name_too_long(self, call, name):
        result = call(f"fd-encode {name}")
        assert (result.code, result.kind) == (3, "file-unreadable")
        assert "File name too long" in result.line

    def test_a_model_where_a_face_set_belongs(self, call, model_file):
        result = call(f"fd-encode {model_file}")
        assert (result.code, result.kind) == (3, "wrong-kind")
        assert "model" in result.line

    def test_standard_input_twice(self, call):
        assert call("fd-encode - -").kind == "same-file"

    def test_a_split_without_a_face_set(self, call, faces):
        result = call("fd-encode --split test faces")
        assert (result.code, result.kind) == (2, "option-conflict")
        assert "--split" in result.line

    def test_a_model_that_is_none(self, call, faces, tmp_path):
        assert call("fd-encode -m nonsense faces").kind == "model-missing"
        (tmp_path / "text.safetensors").write_text("I am no model at all, really")
        assert call("fd-encode -m ./text.safetensors faces").kind == "wrong-kind"


class TestKeepGoing:
    def test_bad_items_are_named_and_skipped(self, call, faces, tmp_path, expected):
        (faces / "bad one.ply").write_bytes(ply(face(0))[:-20])
        (faces / "small.ply").write_bytes(small(20))
        result = call("fd-encode --keep-going faces -o out.npy")
        assert result.code == 1
        first, second, last = result.err.splitlines()
        assert "bad one.ply" in first
        assert "small" in second
        assert last == "fd-encode: 2 of 7 faces were skipped"
        check(tmp_path / "out.npy", NAMES, expected)

    def test_without_it_the_first_bad_item_ends_the_command(self, call, faces, tmp_path):
        (faces / "bad.ply").write_bytes(ply(face(0))[:-20])
        assert call("fd-encode faces -o out.npy").kind == "truncated"
        assert not (tmp_path / "out.npy").exists()

    def test_a_broken_pipe_of_meshes_keeps_what_came_before(self, call, tmp_path, expected):
        piped = ply(face(0), name="ann") + ply(face(1), name="bob") + ply(face(2))[:-20]
        result = call("fd-encode --keep-going - -o out.npy", stdin=piped)
        assert result.code == 1
        check(tmp_path / "out.npy", ["ann", "bob"], expected)

    def test_a_refused_mesh_does_not_end_its_file(self, call, tmp_path, expected):
        parts = ply(face(0), name="ann"), small(20), ply(face(1), name="bob")
        (tmp_path / "all.ply").write_bytes(b"".join(parts))
        result = call("fd-encode --keep-going all.ply -o out.npy")
        assert (result.code, result.kind) == (1, "items-skipped")
        assert "1 of 3" in result.err
        check(tmp_path / "out.npy", ["ann", "bob"], expected)

    def test_inputs_that_hold_nothing_are_skipped_too(self, call, faces, tmp_path, expected):
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.safetensors").write_text("I am no face set, but long enough")
        line = "fd-encode empty faces/ann.ply text.safetensors"
        assert call(f"{line} -o out.npy").kind == "empty"
        result = call(f"{line} --keep-going -o out.npy")
        assert result.code == 1
        first, second, last = result.err.splitlines()
        assert "empty has no mesh" in first
        assert "text.safetensors" in second
        assert last == "fd-encode: 2 of 3 faces were skipped"
        check(tmp_path / "out.npy", ["ann"], expected)

    def test_a_face_of_a_set_that_is_not_finite(self, call, tmp_path):
        broken = face_set()
        broken.vertices[1] = np.nan
        write_face_set(tmp_path / "set.safetensors", broken)
        result = call("fd-encode --force-encode set.safetensors")
        assert (result.code, result.kind) == (3, "not-finite")
        assert "'person0/expression1'" in result.line
        kept = call("fd-encode --force-encode --keep-going set.safetensors -o out.npy")
        assert kept.code == 1
        assert "'person0/expression1'" in kept.err
        assert len(read_latents(str(tmp_path / "out.npy"))) == 39

    def test_nothing_good_writes_nothing(self, call, tmp_path):
        result = call("fd-encode --keep-going nothing.ply -o out.npy")
        assert result.code == 1
        assert not (tmp_path / "out.npy").exists()


class TestOutput:
    def test_an_existing_file_needs_force(self, call, faces, tmp_path):
        (tmp_path / "out.npy").write_text("precious")
        result = call("fd-encode faces -o out.npy")
        assert (result.code, result.kind) == (2, "output-exists")
        assert (tmp_path / "out.npy").read_text() == "precious"
        assert call("fd-encode --force faces -o out.npy").code == 0
        assert len(read_latents(str(tmp_path / "out.npy"))) == 5

    def test_a_folder_that_is_not_there(self, call, faces):
        assert call("fd-encode faces -o nowhere/out.npy").kind == "output-unwritable"

    def test_a_full_device(self, shell, faces):
        result = shell("fd-encode faces > /dev/full")
        assert result.code == 4
        assert result.line

    def test_a_link_to_itself(self, call, faces, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        result = call("fd-encode faces -o loop")
        assert (result.code, result.kind) == (4, "output-unwritable")
        assert "Too many levels of symbolic links" in result.line

    def test_words_stay_out_of_the_data_where_stderr_is_closed(self, call, shell, tmp_path):
        save_mesh(tmp_path / "far.ply", face(0) + np.float32(REACH_MM))
        line = "fd-encode far.ply --force-encode"
        loud, mute = call(line), shell(f"{line} 2>&-")
        assert "warning" in loud.err
        assert (mute.code, mute.out) == (0, loud.out)

    def test_same_input_same_bytes(self, call, faces):
        assert call("fd-encode faces").out == call("fd-encode faces").out


class TestManyInputs:
    def test_a_list_of_files(self, call, faces, tmp_path, expected):
        listed = "".join(f"faces/{name}.ply\n" for name in ("ann", "bob", "deep/dan", "eva grün"))
        assert call("fd-encode --files-from - -o out.npy", stdin=listed.encode()).code == 0
        check(tmp_path / "out.npy", ["ann", "bob", "dan", "eva grün"], renamed(expected))

    def test_a_list_as_find_writes_it(self, call, shell, faces):
        found = shell("find faces -name '*.ply' -print0 | sort -z | fd-encode --files-from -")
        assert found.code == 0
        named = "faces/ann.ply faces/bob.ply faces/deep/dan.ply 'faces/eva grün.ply'"
        assert found.out == call(f"fd-encode {named}").out

    def test_a_list_beside_inputs_by_name(self, call, faces, tmp_path, expected):
        (tmp_path / "list").write_text("faces/bob.ply\n")
        assert call("fd-encode faces/cy.obj --files-from list -o out.npy").code == 0
        check(tmp_path / "out.npy", ["cy", "bob"], expected)

    @pytest.mark.parametrize(
        ("line", "code", "kind"),
        [
            ("fd-encode --files-from -", 3, "empty"),
            ("fd-encode --files-from nothing.txt", 3, "file-missing"),
            ("fd-encode - --files-from -", 2, "same-file"),
            ("fd-encode --files-from list", 3, "file-missing"),
            ("fd-encode --files-from model.safetensors", 3, "wrong-kind"),
        ],
    )
    def test_lists_that_cannot_be(self, call, faces, model_file, tmp_path, line, code, kind):
        (tmp_path / "list").write_text("faces/none.ply\n")
        (tmp_path / "model.safetensors").write_bytes(model_file.read_bytes())
        result = call(line)
        assert (result.code, result.kind) == (code, kind)
        assert result.line

    def test_a_quoted_pattern(self, call, faces, tmp_path, expected):
        assert call("fd-encode 'faces/*n*.ply' -o out.npy").code == 0
        check(tmp_path / "out.npy", ["ann", "eva grün"], expected)

    def test_arrays_of_vertices(self, call, faces, tmp_path, expected):
        np.save(tmp_path / "all.npy", np.stack([face(seed) for seed in range(5)]))
        assert call("fd-encode all.npy -o out.npy").code == 0
        rows = read_latents(str(tmp_path / "out.npy"))
        assert rows.names == [f"all_{row:04d}" for row in range(5)]
        np.testing.assert_allclose(rows.identity, expected.identity, atol=1e-5)
        array = (tmp_path / "all.npy").read_bytes()
        assert call("fd-encode - -o piped.npy", stdin=array).code == 0
        piped = read_latents(str(tmp_path / "piped.npy"))
        assert piped.names == [f"row{row:04d}" for row in range(5)]
        np.testing.assert_array_equal(piped.identity, rows.identity)

    def test_several_processes_give_the_same_bytes(self, call, shell, faces, tmp_path):
        for seed in range(40):
            save_mesh(faces / f"more/{seed}.ply", face(seed))
        (faces / "more/bad.ply").write_text("broken")
        write_face_set(tmp_path / "set.safetensors", face_set())
        piped = b"".join(ply(face(seed), name=str(seed)) for seed in range(40))
        line = "fd-encode faces set.safetensors - --keep-going --force-encode"
        one = call(f"{line} --jobs 1 --failures one.jsonl", stdin=piped)
        two = shell(f"{line} --jobs 2 --failures two.jsonl", stdin=piped)
        assert one.code == two.code == 1
        assert one.out == two.out
        assert one.err == two.err
        assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()

    def test_the_first_error_of_several_processes_is_that_of_one(self, call, shell, faces):
        for seed in range(60):
            save_mesh(faces / f"more/{seed:02d}.ply", face(seed))
        for name in ("more/17", "more/18", "more/59"):
            (faces / f"{name}.ply").write_text("broken")
        one, two = call("fd-encode faces"), shell("fd-encode faces --jobs 2")
        assert one.code == two.code == 3
        assert (one.kind, one.line) == ("wrong-kind", two.line)
        assert "more/17.ply" in one.line

    def test_a_set_of_other_faces_is_refused_before_anything(self, call, faces, tmp_path, model):
        write_face_set(tmp_path / "set.safetensors", face_set(size=7))
        result = call("fd-encode faces set.safetensors -o out.npy --keep-going")
        assert (result.code, result.kind) == (3, "topology")
        assert "set.safetensors" in result.line
        assert "49 vertices" in result.line
        assert model.topology in result.line
        assert not (tmp_path / "out.npy").exists()


class TestFilesOfSeveral:
    def test_ply_after_ply_in_a_file(self, call, shell, faces, tmp_path, expected):
        together = b"".join(ply(face(seed), name=NAMES[seed]) for seed in range(5))
        (tmp_path / "all.ply").write_bytes(together)
        assert call("fd-encode all.ply -o out.npy").code == 0
        check(tmp_path / "out.npy", NAMES, expected)
        line = "mkfifo pipe; cat all.ply > pipe & fd-encode pipe"
        for source in ("fd-encode /dev/stdin < all.ply", line):
            assert shell(source).out == (tmp_path / "out.npy").read_bytes()

    def test_what_follows_a_mesh_must_be_one(self, call, faces, tmp_path):
        (tmp_path / "bad.ply").write_bytes(ply(face(0)) + b"rubbish")
        result = call("fd-encode bad.ply")
        assert (result.code, result.kind) == (3, "wrong-kind")
        assert "bad.ply, mesh 2: " in result.line

    def test_an_array_with_holes_is_named(self, call, tmp_path):
        faces = np.stack([face(0), face(1)])
        faces[1, 3, 0] = np.nan
        np.save(tmp_path / "two.npy", faces)
        result = call("fd-encode two.npy")
        assert (result.code, result.kind) == (3, "not-finite")
        assert "two.npy: row 1: vertex 3 is not finite" in result.line
        assert call("fd-encode two.npy --keep-going -o out.npy").code == 1
        assert len(read_latents(str(tmp_path / "out.npy"))) == 1

    def test_a_pipe_that_begins_slowly(self, shell, tmp_path):
        np.save(tmp_path / "all.npy", np.stack([face(seed) for seed in range(5)]))
        slowly = "(head -c 3 {0}; sleep 0.5; tail -c +4 {0})"
        line = f"{slowly.format('all.npy')} | fd-encode > out.npy"
        assert shell(line).code == 0
        assert len(read_latents(str(tmp_path / "out.npy"))) == 5
        result = shell(f"{slowly.format('out.npy')} | fd-info")
        assert result.code == 0
        assert b"latents" in result.out

    def test_a_link_that_leads_nowhere_is_a_missing_face(self, call, faces, tmp_path):
        (faces / "zoe.ply").symlink_to("/nowhere/zoe.ply")
        result = call("fd-encode faces")
        assert (result.code, result.kind) == (3, "file-missing")
        assert "zoe.ply" in result.line
        assert call("fd-encode faces --keep-going -o out.npy").code == 1

    def test_another_mesh_is_named_with_its_file_and_the_model(self, call, faces, model):
        save_mesh(faces / "small.ply", face(0)[:5], np.empty((0, 3), int))
        result = call("fd-encode faces")
        assert (result.code, result.kind) == (3, "vertex-count")
        assert "faces/small.ply has 5 vertices" in result.line
        assert model.source in result.line


def test_a_stream_has_one_process(call, faces):
    for command in ("fd-encode faces", "fd-decode x.npy"):
        result = call(f"{command} --stream --jobs 2")
        assert (result.code, result.kind) == (2, "option-conflict")
        assert "--jobs" in result.line


class TestFailures:
    def test_are_listed(self, call, faces, tmp_path):
        (faces / "bad.ply").write_text("broken")
        save_mesh(faces / "small.ply", face(0)[:5], np.empty((0, 3), int))
        line = "fd-encode faces none.ply --keep-going --failures failed.jsonl -o out.npy"
        result = call(line)
        assert result.code == 1
        found = [json.loads(row) for row in (tmp_path / "failed.jsonl").read_text().splitlines()]
        assert [row["item"] for row in found] == ["faces/bad.ply", "faces/small.ply", "none.ply"]
        assert "bad.ply: begins with 'broken'" in found[0]["error"]
        assert result.err.splitlines()[-1] == "fd-encode: 3 of 8 faces were skipped"
        assert read_latents(str(tmp_path / "out.npy")).names == NAMES

    def test_none_is_an_empty_list(self, call, faces, tmp_path):
        assert call("fd-encode faces --keep-going --failures failed.jsonl -o out.npy").code == 0
        assert (tmp_path / "failed.jsonl").read_bytes() == b""

    @pytest.mark.parametrize("words", ["-o same --failures same", "--failures -"])
    def test_the_list_is_another_output(self, call, faces, words):
        result = call(f"fd-encode faces --keep-going {words}")
        assert (result.code, result.kind) == (2, "same-file")

    def test_the_list_is_an_output_as_any(self, call, faces, tmp_path):
        (tmp_path / "failed.jsonl").write_text("precious")
        for options, kind in (("--keep-going", "output-exists"), ("", "option-missing")):
            result = call(f"fd-encode faces {options} --failures failed.jsonl -o out.npy")
            assert (result.code, result.kind) == (2, kind)
            assert result.line
        assert (tmp_path / "failed.jsonl").read_text() == "precious"
        assert not (tmp_path / "out.npy").exists()


def test_a_copied_folder_gives_the_same_bytes(call, faces, tmp_path):
    shutil.copytree(faces, tmp_path / "elsewhere" / "copy")
    assert call("fd-encode faces").out == call("fd-encode elsewhere/copy").out


def test_force_keeps_a_private_file_private(call, faces, tmp_path):
    for name, mode in (("out.npy", 0o600), ("failed.jsonl", 0o440)):
        (tmp_path / name).touch(mode)
    line = "fd-encode faces --keep-going --failures failed.jsonl -o out.npy --force"
    assert call(line).code == 0
    for name, mode in (("out.npy", 0o600), ("failed.jsonl", 0o440)):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


class TestOddFiles:
    @pytest.fixture
    def two_corners(self, tmp_path):
        """A face of which two f lines are no polygons."""
        stream = io.BytesIO()
        write_mesh(stream, Mesh(face(0), grid_mesh()[1]), ".obj")
        (tmp_path / "odd.obj").write_bytes(stream.getvalue() + b"f 1 2\nf 3\n")
        return "odd.obj: 2 of 52 faces (f) are left out: fewer than three corners"

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_what_a_reader_leaves_out_is_said_once(self, shell, two_corners, jobs):
        done = shell(f"fd-encode odd.obj odd.obj --units mm --jobs {jobs} -o odd.npy")
        assert done.code == 0
        assert done.err.splitlines() == [f"fd-encode: warning: {two_corners}"] * 2

    @pytest.mark.parametrize(
        "command", ["fd-info odd.obj", "fd-render odd.obj --units mm -o odd.png --size 32"]
    )
    def test_in_other_commands(self, call, two_corners, command):
        done = call(command)
        assert (done.code, done.line) == (0, f"{command.split()[0]}: warning: {two_corners}")

    def test_a_list_in_utf_16(self, call, tmp_path):
        for encoding in ("utf-16", "utf-16-le"):
            (tmp_path / "list.txt").write_bytes("/tmp/no/such/face.ply\r\n".encode(encoding))
            done = call("fd-encode --files-from list.txt -o out.npy")
            assert (done.code, done.kind) == (3, "wrong-kind")
            assert done.line.startswith("fd-encode: list.txt") and "save it as UTF-8" in done.line

    def test_a_name_that_no_file_can_have_is_noticed_here_not_by_fd_decode(
        self, call, faces, tmp_path, expected
    ):
        (tmp_path / "faces" / "ann.ply").rename(tmp_path / "faces" / "a\tnn.ply")
        done = call("fd-encode faces -o out.npy")
        assert (done.code, done.kind) == (3, "name-invalid")
        assert "the name 'a\\tnn' has a control character" in done.line
        done = call("fd-encode faces -o out.npy --keep-going --failures failed.jsonl")
        assert done.code == 1
        check(tmp_path / "out.npy", NAMES[1:], expected)
        for name in ("a\nb", "../up"):
            done = call("fd-encode -o new.npy", stdin=ply(face(0), name=name))
            assert (done.code, done.kind) == (3, "name-invalid")


def test_names_below_a_root(call, faces, tmp_path):
    shutil.copytree(tmp_path / "faces", tmp_path / "data" / "s1" / "faces")
    shutil.copytree(tmp_path / "faces", tmp_path / "data" / "s2")
    line = "fd-encode data/s1/faces data/s2/ann.ply data/s2/bob.ply --root data -o out.npy"
    assert call(line).code == 0
    names = read_latents(str(tmp_path / "out.npy")).names
    assert names[-2:] == ["s2/ann", "s2/bob"]
    assert {"s1/faces/ann", "s1/faces/deep/dan"} <= set(names)
    outside = call("fd-encode faces/ann.ply --root data -o x.npy")
    assert (outside.code, outside.kind) == (2, "option-value")
    assert "faces/ann.ply is not below --root data" in outside.line


@pytest.mark.parametrize(
    "line",
    [
        "fd-encode faces -o faces.csv",
        "fd-encode faces -o out.safetensors",
        "fd-encode faces --keep-going --failures f.csv -o out.npy",
        "fd-transfer a.npy a.npy -o a.ply",
        "fd-interp a.npy a.npy -o a.json",
        "fd-decode a.npy --npy -o a.ply",
        "fd-prep folder faces --pattern '{subject}_{expression}.ply' -o set.npy",
        "fd-train set.safetensors -o model.pt",
        "fd-pretrain-disc set.safetensors -o disc.pth",
        "fd-metrics set.safetensors --json -o set.safetensors --force",
        "fd-metrics set.safetensors --per-mesh each.json",
        "fd-metrics set.safetensors --check 'e_rec<1' --junit junit.json",
        "fd-recognize a.npy --pattern '{subject}_{expression}' -o a.npy --force",
    ],
)
def test_a_suffix_that_says_otherwise(call, faces, line):
    refused = call(line)
    assert (refused.code, refused.kind) == (2, "output-suffix"), refused.err
