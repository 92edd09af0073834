"""How data sets lie on a disk: their paths, roots some levels off, stray files and links."""

import re
import shutil
from pathlib import Path

import pytest
import trees

from facedis_core.datasets.layout import check_unique, missing_of_each, part_of
from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError

ANN = trees.COMA_SUBJECTS[0]
FILES = {
    "coma": [
        trees.coma_name(ANN, e, k) for e in ("bareteeth", "mouth_up") for k in (*range(1, 13),)
    ],
    "bu3dfe": [trees.bu3dfe_name(s, "NE", 0) for s in ("F0001", "M0001")],
    "facescape": [trees.facescape_name(k, "smile", "trainset") for k in (2, 10)],
    "facewarehouse": [trees.facewarehouse_name(t, s) for t in (1, 141) for s in (0, 1)],
}
NAMES = {
    "coma": "CoMA",
    "bu3dfe": "BU-3DFE",
    "facescape": "FaceScape",
    "facewarehouse": "FaceWarehouse",
}


@pytest.fixture(params=FILES)
def source(request):
    """Each data set in turn."""
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


def test_all_files_are_found(source, root):
    assert listed(source, root) == (sorted(FILES[source]), [])


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_root_too_high(source, root, levels):
    high = root.parent / "high"
    deep = high.joinpath(*"abc"[:levels])
    deep.parent.mkdir(parents=True)
    root.rename(deep)
    (high / "readme.txt").touch()
    with pytest.raises(InputError) as caught:
        open_source(source, high, {})
    message = str(caught.value)
    assert message.startswith(f"{high} has no file like ") and len(message.splitlines()) == 1
    there = re.search(r"; (.+) has, give that folder$", message)
    assert there and Path(there[1]) == deep
    assert listed(source, there[1]) == (sorted(FILES[source]), [])


def test_a_root_much_too_high(source, root):
    high = root.parent / "high"
    deep = high / "a/b/c/d"
    deep.parent.mkdir(parents=True)
    root.rename(deep)
    with pytest.raises(InputError, match=f"; expected the root of {NAMES[source]}$"):
        open_source(source, high, {})


@pytest.mark.parametrize(
    ("source", "below", "right"),
    [
        ("coma", ANN, "."),
        ("coma", f"{ANN}/bareteeth", "."),
        ("facewarehouse", "Tester_1", "."),
        ("facewarehouse", "Tester_1/Blendshape", "."),
        ("facescape", "facescape_trainset_1_100/2", "facescape_trainset_1_100"),
        ("facescape", "facescape_trainset_1_100/2/models_reg", "facescape_trainset_1_100"),
    ],
    indirect=["source"],
)
def test_a_root_too_low(source, root, below, right, monkeypatch):
    with pytest.raises(InputError) as caught:
        open_source(source, root / below, {})
    place = re.search(r"; it lies within the data, give (.+)$", str(caught.value))
    assert place and Path(place[1]) == (root / right).resolve()
    assert set(listed(source, place[1])[0]) <= {*FILES[source], *(n[25:] for n in FILES[source])}
    # Also where the user is in that folder, of which the given path says nothing.
    monkeypatch.chdir(root / below)
    with pytest.raises(InputError, match=rf"^\. has no .*, give {(root / right).resolve()}$"):
        open_source(source, Path(), {})


def test_a_root_through_a_link(source, root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert listed(source, link) == (sorted(FILES[source]), [])


def test_a_link_into_the_data_still_shows_where_the_root_is(tmp_path):
    trees.touch(tmp_path / "data", FILES["coma"])
    (tmp_path / "link").symlink_to(tmp_path / "data" / ANN / "bareteeth")
    with pytest.raises(InputError, match=f"give {tmp_path / 'data'}$"):
        open_source("coma", tmp_path / "link", {})


def test_what_is_no_folder(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden/.git").mkdir(parents=True)
    (tmp_path / "hidden/.DS_Store").touch()
    (tmp_path / "hidden/.git/config").touch()
    (tmp_path / "file.ply").touch()
    for path in ("none", "file.ply", "file.ply/below", "a" * 300):
        with pytest.raises(
            InputError, match=f"is not a folder; expected the root of {NAMES[source]}"
        ):
            open_source(source, tmp_path / path, {})
    for path in ("empty", "hidden"):
        with pytest.raises(InputError, match=f"holds no files; expected {NAMES[source]}, "):
            open_source(source, tmp_path / path, {})


def test_a_wrong_root_as_a_user_names_it(call, tmp_path):
    trees.touch(tmp_path / "data", FILES["coma"])
    (tmp_path / "empty").mkdir()
    done = call("fd-prep coma . -o set.safetensors", folder=tmp_path / "data" / ANN)
    assert done.code == 3 and done.line.endswith(f"give {tmp_path / 'data'}")
    done = call("fd-prep coma empty -o set.safetensors")
    assert done.code == 3 and "empty holds no files" in done.line
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_another_data_set(source, root):
    for other in FILES:
        if other != source:
            with pytest.raises(InputError, match=f"; expected the root of {NAMES[other]}$"):
                open_source(other, root, {})


def test_stray_files_are_named_and_left_out(source, root):
    strays = ["readme.txt", "a/b/c/texture.jpg", f"{FILES[source][0]}.bak", "Thumbs.db"]
    trees.touch(root, strays)
    assert listed(source, root) == (sorted(FILES[source]), sorted(strays))


def test_hidden_files_are_not_there(source, root):
    first = Path(FILES[source][0])
    hidden = [".DS_Store", str(first.parent / f"._{first.name}"), f".Trash/{first}"]
    trees.touch(root, hidden)
    assert listed(source, root) == (sorted(FILES[source]), [])


def test_a_suffix_may_be_in_capitals(source, root):
    """But two files that differ in case only would be one on other disks."""
    first = Path(FILES[source][0])
    capital = first.with_suffix(first.suffix.upper())
    (root / first).rename(root / capital)
    assert sorted(listed(source, root)[0]) == sorted([str(capital), *FILES[source][1:]])
    trees.touch(root, [str(first)])
    with pytest.raises(InputError, match=rf"{capital.stem}.*{first.stem}"):
        listed(source, root)


def test_links_to_folders_are_followed(tmp_path):
    trees.touch(tmp_path / "data", FILES["facewarehouse"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/Tester_141").rename(tmp_path / "elsewhere/141")
    (tmp_path / "data/Tester_141").symlink_to(tmp_path / "elsewhere/141")
    (tmp_path / "data/Tester_1/Blendshape/shape_0.obj").rename(tmp_path / "elsewhere/mesh")
    link = tmp_path / "data/Tester_1/Blendshape/shape_0.obj"
    link.symlink_to(tmp_path / "elsewhere/mesh")
    assert listed("facewarehouse", tmp_path / "data") == (sorted(FILES["facewarehouse"]), [])


def test_a_link_that_leads_nowhere_is_not_there(source, root):
    first = root / FILES[source][0]
    first.unlink()
    first.symlink_to("nowhere")
    assert FILES[source][0] not in listed(source, root)[0]


@pytest.mark.parametrize("target", [".", "root", "parent"])
def test_links_in_a_circle(source, root, target):
    """What lies in a folder is there once, whatever leads back to it."""
    place = root / Path(FILES[source][0]).parent
    (place / "again").symlink_to({".": ".", "root": root, "parent": root.parent}[target])
    found, unknown = listed(source, root)
    assert found == sorted(FILES[source])
    assert unknown == []


def test_a_circle_among_two_folders(tmp_path):
    trees.touch(tmp_path, FILES["facescape"])
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / "x/y").symlink_to(tmp_path / "y")
    (tmp_path / "y/x").symlink_to(tmp_path / "x")
    assert listed("facescape", tmp_path) == (sorted(FILES["facescape"]), [])


def test_a_copy_is_no_second_data_set(tmp_path):
    trees.touch(tmp_path, FILES["coma"])
    shutil.copytree(tmp_path / ANN, tmp_path / "backup" / ANN)
    found, unknown = listed("coma", tmp_path)
    assert found == sorted(FILES["coma"])
    assert unknown == sorted(f"backup/{name}" for name in FILES["coma"])


def test_names_that_only_end_like_files_of_the_set(source, root):
    first = FILES[source][0]
    trees.touch(root, [f"{first}\n", f"x{first}"])
    found, unknown = listed(source, root)
    assert found == sorted(FILES[source]) and len(unknown) == 2


def test_two_files_that_show_the_same(tmp_path):
    check_unique([("a", "x"), ("b", "y")], tmp_path)
    with pytest.raises(InputError, match=r"has two files of x, a and c; move one away"):
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
