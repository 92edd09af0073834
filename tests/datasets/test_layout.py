"""How data sets lie on a disk: roots some levels off, stray files and links."""

import re
import shutil
from pathlib import Path

import pytest
import trees
from raising import raises

from facedis_core.datasets.layout import check_unique, missing_of_each, part_of
from facedis_core.datasets.source import open_source

ANN = trees.COMA_SUBJECTS[0]
FILES = {
    "coma": [trees.coma_name(ANN, e, k) for e in ("bareteeth", "mouth_up") for k in range(1, 13)],
    "bu3dfe": [trees.bu3dfe_name(s, "NE", 0) for s in ("F0001", "M0001")],
    "facescape": [trees.facescape_name(k, "smile", "trainset") for k in (2, 10)],
    "facewarehouse": [trees.facewarehouse_name(t, s) for t in (1, 141) for s in (0, 1)],
}


@pytest.fixture(params=["coma", "bu3dfe"])
def source(request):
    """A data set in folders, and one without."""
    return request.param


@pytest.fixture
def root(source, tmp_path):
    """Its files, which are only names."""
    trees.touch(tmp_path / "data", FILES[source])
    return tmp_path / "data"


def listed(source, root):
    """Paths that are taken and paths that are not."""
    opened = open_source(source, root, {}).source
    return sorted(opened.files), list(opened.findings.unknown)


@pytest.mark.parametrize("levels", [1, 3])
def test_a_root_too_high(source, root, levels):
    high = root.parent / "high"
    deep = high.joinpath(*"abc"[:levels])
    deep.parent.mkdir(parents=True)
    root.rename(deep)
    (high / "readme.txt").touch()
    with raises("layout") as caught:
        open_source(source, high, {})
    message = str(caught.value)
    assert message.startswith(f"{high} has no file like ") and len(message.splitlines()) == 1
    there = re.search(r"; (.+) has, give that folder$", message)
    assert there and Path(there[1]) == deep
    assert listed(source, there[1]) == (sorted(FILES[source]), [])
    (high / "x").mkdir()
    (high / "a").rename(high / "x/a")
    if levels == 3:
        with raises("layout", r"; expected the root of (CoMA|BU-3DFE)$"):
            open_source(source, high, {})


@pytest.mark.parametrize(
    ("source", "below", "right"),
    [
        ("coma", ANN, "."),
        ("coma", f"{ANN}/bareteeth", "."),
        ("facewarehouse", "Tester_1/Blendshape", "."),
        ("facescape", "facescape_trainset_1_100/2/models_reg", "facescape_trainset_1_100"),
    ],
    indirect=["source"],
)
def test_a_root_too_low(source, root, below, right, monkeypatch):
    with raises("layout") as caught:
        open_source(source, root / below, {})
    place = re.search(r"; it lies within the data, give (.+)$", str(caught.value))
    assert place and Path(place[1]) == (root / right).resolve()
    assert set(listed(source, place[1])[0]) <= {*FILES[source], *(n[25:] for n in FILES[source])}
    # Also where the user is in that folder, of which the given path says nothing.
    monkeypatch.chdir(root / below)
    with raises("layout", rf"^\. has no .*, give {(root / right).resolve()}$"):
        open_source(source, Path(), {})


def test_a_root_through_a_link(source, root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert listed(source, link) == (sorted(FILES[source]), [])
    if source == "coma":
        (root.parent / "deep").symlink_to(root / ANN / "bareteeth")
        with raises("layout", f"give {root}$"):
            open_source("coma", root.parent / "deep", {})


def test_what_is_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    trees.touch(tmp_path, ["hidden/.DS_Store", "hidden/.git/config", "file.ply"])
    for path in ("none", "file.ply", "file.ply/below", "a" * 300):
        with raises("not-a-folder", "CoMA"):
            open_source("coma", tmp_path / path, {})
    for path in ("empty", "hidden"):
        with raises("empty", "CoMA"):
            open_source("coma", tmp_path / path, {})


def test_another_data_set(tmp_path):
    for source in FILES:
        trees.touch(tmp_path / source, FILES[source])
        for other in FILES:
            if other != source:
                with raises("layout", "; expected the root of "):
                    open_source(other, tmp_path / source, {})


def test_stray_files_are_named_and_left_out(source, root):
    """Hidden ones are not named either: nobody has put them there on purpose."""
    first = Path(FILES[source][0])
    strays = ["readme.txt", "a/b/c/texture.jpg", "Thumbs.db"]
    strays += [f"{first}.bak", f"{first}\n", f"x{first}"]
    trees.touch(root, strays)
    trees.touch(root, [".DS_Store", str(first.parent / f"._{first.name}"), f".Trash/{first}"])
    assert listed(source, root) == (sorted(FILES[source]), sorted(strays))


def test_a_suffix_may_be_in_capitals(source, root):
    """But two files that differ in case only would be one on other disks."""
    first = Path(FILES[source][0])
    capital = first.with_suffix(first.suffix.upper())
    (root / first).rename(root / capital)
    assert sorted(listed(source, root)[0]) == sorted([str(capital), *FILES[source][1:]])
    trees.touch(root, [str(first)])
    with raises("name-duplicate", rf"{capital.stem}.*{first.stem}"):
        listed(source, root)


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    data, elsewhere = tmp_path / "a/data", tmp_path / "elsewhere"
    trees.touch(data, FILES["facewarehouse"])
    elsewhere.mkdir()
    (data / "Tester_141").rename(elsewhere / "141")
    (data / "Tester_141").symlink_to(elsewhere / "141")
    mesh = data / "Tester_1/Blendshape/shape_0.obj"
    mesh.rename(elsewhere / "mesh")
    mesh.symlink_to(elsewhere / "mesh")
    for number, target in enumerate((".", data, data.parent)):
        (mesh.parent / f"again{number}").symlink_to(target)
    (elsewhere / "x").symlink_to(data)
    (data / "y").symlink_to(elsewhere)
    strangers = ["y/141/Blendshape/shape_0.obj", "y/141/Blendshape/shape_1.obj", "y/mesh"]
    assert listed("facewarehouse", data) == (sorted(FILES["facewarehouse"]), strangers)
    mesh.unlink()
    mesh.symlink_to("nowhere")
    assert FILES["facewarehouse"][0] not in listed("facewarehouse", data)[0]


def test_a_copy_is_no_second_data_set(tmp_path):
    trees.touch(tmp_path, FILES["coma"])
    shutil.copytree(tmp_path / ANN, tmp_path / "backup" / ANN)
    found, unknown = listed("coma", tmp_path)
    assert found == sorted(FILES["coma"])
    assert unknown == sorted(f"backup/{name}" for name in FILES["coma"])


def test_two_files_that_show_the_same(tmp_path):
    check_unique([("a", "x"), ("b", "y")], tmp_path)
    with raises("name-duplicate", "x, a and c"):
        check_unique([("a", "x"), ("b", "y"), ("c", "x")], tmp_path)


def test_what_some_have_and_others_lack():
    present = [("ann", 1), ("ann", 2), ("bob", 2), ("bob", 3), ("cy", 1), ("cy", 2), ("cy", 3)]
    assert missing_of_each(present) == [("ann", 3), ("bob", 1)]
    assert missing_of_each([("ann", 1), ("bob", 1)]) == []
    assert missing_of_each([]) == []


def test_what_a_smaller_copy_is_told():
    whole = [(str(s), str(k)) for s in range(3) for k in range(2)]
    assert part_of("X", whole, 3, 2, "0") == []
    said = part_of("X", [pair for pair in whole if pair[1] == "1"], 4, 2, "0")
    assert "3 of 4 people, 1 of 2" in said[0] and "nobody has a neutral (0)" in said[1]
