"""Where outputs go by the names of what they hold, and what may lie behind a path."""

from pathlib import Path

import pytest
from raising import raises

from facedis_core.io.paths import (
    OutputPaths,
    exists,
    files_below,
    is_file,
    is_folder,
    is_folder_pattern,
)


def paths(pattern, names):
    outputs = OutputPaths(pattern)
    return [Path(outputs.of(name)) for name in names]


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("out.ply", ["a"], ["out.ply"]),
        ("out.ply", ["../a\n"], ["out.ply"]),  # the name is not used
        ("out.ply", [], []),
        ("dir/", ["a", "b/c"], ["dir/a.ply", "dir/b/c.ply"]),
        ("dir/", ["a.b", "a"], ["dir/a.b.ply", "dir/a.ply"]),
        ("dir/{name}.obj", ["a", "b/c"], ["dir/a.obj", "dir/b/c.obj"]),
        ("dir/{name}", ["a"], ["dir/a.ply"]),
        ("{name}/{name}.wrl", ["a"], ["a/a.wrl"]),
        ("dir/", ["m\udcfcller"], ["dir/m\udcfcller.ply"]),  # a file name in Latin-1
    ],
)
def test_output_paths(pattern, names, expected):
    assert paths(pattern, names) == [Path(path) for path in expected]


def test_an_existing_folder_needs_no_slash(tmp_path):
    assert paths(str(tmp_path), ["a"]) == [tmp_path / "a.ply"]
    assert is_folder_pattern(str(tmp_path))
    assert is_folder_pattern("x/")
    assert not is_folder_pattern("x.ply")


@pytest.mark.parametrize(
    "name",
    ["", "/etc/a", "..", "../a", "a/../b", "a/", "a\nb", "a\0b", "\x1b[0m", "\x85", "\ud800"],
)
@pytest.mark.parametrize("pattern", ["dir/", "dir/{name}.ply"])
def test_names_that_cannot_be_files(pattern, name):
    with raises("name-invalid") as caught:
        paths(pattern, [name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("pattern", "names", "error"),
    [
        ("out.ply", ["a", "b"], "output-collision: out.ply"),
        ("dir/", ["a", "a"], "output-collision: 'a' and 'a' .* dir/a.ply"),
        ("dir/", ["a/b", "a//b"], "output-collision: dir/a/b.ply"),
        ("dir/", ["a", "a.ply/b"], "output-collision: 'a.ply/b'"),
        ("d/{name}x/../y.ply", ["a", "b"], "output-collision: 'a' and 'b' .* d/y.ply"),
        ("d/{nam}.obj", ["a"], "output-pattern: d/{nam}.obj"),
        ("d/{name}{}.obj", ["a"], "output-pattern: d/{name}{}.obj"),
    ],
)
def test_outputs_that_clash(pattern, names, error):
    with raises(error):
        paths(pattern, names)


@pytest.mark.parametrize("path", ["a" * 300, "a\0b", "loop", "a.ply/b"])
def test_what_cannot_be_seen_is_not_there(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("a.ply").touch()
    assert not (exists(path) or is_file(path) or is_folder(path))


def test_parts_are_put_in():
    outputs = OutputPaths("d/{part}/{name}.obj")
    assert outputs.of("{part}", "full") == "d/full/{part}.obj"
    assert outputs.of("{part}", "identity") == "d/identity/{part}.obj"
    with raises("output-collision"):
        outputs.of("{part}", "full")


def test_a_folder_that_became_a_file_clashes_in_either_order():
    for first, second in [("a.ply/b", "a"), ("a", "a.ply/b")]:
        outputs = OutputPaths("dir/")
        outputs.of(first)
        with raises("output-collision", r"'a' would be the file dir/a\.ply, where 'a\.ply/b'"):
            outputs.of(second)


def test_a_whole_disk_is_not_walked(tmp_path):
    for k in range(50):
        (tmp_path / str(k // 10)).mkdir(exist_ok=True)
        (tmp_path / str(k // 10) / f"{k}.ply").touch()
    assert len(files_below(tmp_path, 50)) == 50
    with raises("too-large", "more than 40 files"):
        files_below(tmp_path, 40)
