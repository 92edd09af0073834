"""What lies behind the names a user gives."""

import numpy as np
import pytest
from conftest import face, save_mesh
from raising import raises

from facedis_core.pipeline.file_lists import collect_inputs, read_file_list
from facedis_core.pipeline.inputs import find_inputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(inputs, **options):
    return [mesh.name for item in find_inputs(inputs, **options).items for mesh in item.load()]


class TestLists:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a.ply\nb c.ply\n", ["a.ply", "b c.ply"]),
            (b"a.ply\n\n  \nb.ply", ["a.ply", "b.ply"]),
            (b"a.ply\r\nb.ply\r\n", ["a.ply", "b.ply"]),
            (b"a\nb.ply\0c.ply\0", ["a\nb.ply", "c.ply"]),
            ("grün.ply\n".encode(), ["grün.ply"]),
            (b"m\xfcller.ply\n", ["m\udcfcller.ply"]),
            (b" leading.ply\n", [" leading.ply"]),
        ],
    )
    def test_one_a_line_or_before_a_nul(self, here, content, expected):
        (here / "list").write_bytes(content)
        assert read_file_list("list") == expected

    @pytest.mark.parametrize("content", [b"", b"\n \n"])
    def test_no_name_at_all(self, here, content):
        (here / "list").write_bytes(content)
        with raises("empty"):
            read_file_list("list")

    def test_come_after_those_named_one_by_one(self, here):
        (here / "list").write_text("b\nc\n")
        assert collect_inputs(["a"], "list") == ["a", "b", "c"]
        assert collect_inputs([], None) == ["-"]
        assert collect_inputs([], "list") == ["b", "c"]
        with raises("same-file", "standard input"):
            collect_inputs(["-"], "-")


class TestPatterns:
    def test_stand_for_what_they_match_in_order(self, here):
        for name in ("b.ply", "a.ply", "sub/c.ply", "d.obj"):
            save_mesh(here / "in" / name, face(0))
        assert names(["in/*.ply"]) == ["a", "b"]
        assert names(["in/**/*.ply"]) == ["a", "b", "c"]
        assert names(["in/[bd].*", "in/a.ply"]) == ["b", "d", "a"]

    def test_a_file_of_that_very_name_is_meant(self, here):
        save_mesh(here / "a[1].ply", face(0))
        save_mesh(here / "a1.ply", face(0))
        assert names(["a[1].ply"]) == ["a[1]"]

    def test_that_match_nothing_are_missing_files(self, here):
        (item,) = find_inputs(["*.ply"]).items
        with raises("file-missing", r"\*\.ply"):
            list(item.load())


class TestArrays:
    def test_rows_of_a_file_and_a_single_face(self, here):
        faces = np.stack([face(seed) for seed in range(3)])
        np.save("many.npy", faces.astype(np.float64))
        np.save("one.npy", faces[0])
        items = find_inputs(["many.npy", "one.npy"]).items
        found = [mesh for item in items for mesh in item.load()]
        assert [mesh.name for mesh in found] == ["many_0000", "many_0001", "many_0002", "one"]
        np.testing.assert_array_equal(np.stack([m.vertices for m in found[:3]]), faces)
        assert all(not len(mesh.triangles) for mesh in found)

    def test_array_after_array(self, here):
        np.save("a.npy", np.stack([face(0), face(1)]))
        np.save("b.npy", np.stack([face(2)]))
        (here / "both.npy").write_bytes(
            (here / "a.npy").read_bytes() + (here / "b.npy").read_bytes()
        )
        assert names(["both.npy"]) == ["both_0000", "both_0001", "both_0002"]

    @pytest.mark.parametrize(
        ("array", "error"),
        [
            (np.zeros((2, 5, 3), int), r"array-shape: int64 \(2, 5, 3\)"),
            (np.zeros((2, 5)), r"array-shape: \(2, 5\)"),
            (np.zeros((2, 0, 3)), "array-shape: 0, 3"),
            (np.zeros((0, 5, 3)), "empty"),
            (np.zeros(2, [("name", "U3"), ("identity", "f4", 2)]), "wrong-kind"),
        ],
    )
    def test_other_arrays(self, here, array, error):
        np.save("x.npy", array)
        (item,) = find_inputs(["x.npy"]).items
        with raises(error):
            list(item.load())

    def test_a_truncated_one_gives_what_came_before(self, here):
        np.save("x.npy", np.zeros((400, 1000, 3), np.float32))  # several blocks
        data = (here / "x.npy").read_bytes()
        (here / "x.npy").write_bytes(data[: len(data) // 2])
        *good, bad = find_inputs(["x.npy"]).items
        assert len(good) > 100
        with raises("truncated"):
            list(bad.load())


class TestFilesOfOneName:
    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (["x/a.ply", "y/a.ply", "b.ply"], ["x/a", "y/a", "b"]),
            (["1/x/a.ply", "2/x/a.ply", "y/a.ply"], ["1/x/a", "2/x/a", "here/y/a"]),
            (["x/a.ply", "x/a.ply"], ["a", "a"]),
            (["x/a.ply", "x/a.obj"], ["a", "a"]),
            (["x/a.ply", "x/../y/a.ply"], ["x/a", "y/a"]),
            (["?/a.ply"], ["x/a", "y/a"]),
        ],
    )
    def test_are_told_apart_by_as_many_folders_as_it_takes(
        self, tmp_path, monkeypatch, files, expected
    ):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        for file in files if "?" not in files[0] else ["x/a.ply", "y/a.ply"]:
            save_mesh(tmp_path / "here" / file, face(1))
        assert names(files) == expected
