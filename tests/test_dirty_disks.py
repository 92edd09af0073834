"""Data as it lies on real disks, through the command in a shell: what is named, what is left.

The truth is a run that was asked to leave out the same faces of a clean disk: everything in the two
sets but their history must be the same, so their ids are.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from conftest import Result, Run, face, save_mesh
from prepared import prepare
from trees import Tree

from facedis_core.data.face_set import TRAIN, FaceSet, load_face_set
from facedis_core.datasets.source import open_source

# Those that have no face of their own to lose: every subject stays whatever is broken.
SMALL: dict[str, Callable[[Path], Tree]] = {
    "coma": partial(trees.coma, expressions=("bareteeth", "mouth_side"), frames=9),
    "bu3dfe": partial(
        trees.bu3dfe, subjects=("F0001", "F0011", "M0001"), expressions=("HA",), levels=(1, 4)
    ),
    "facescape": partial(
        trees.facescape, ids=(1, 2, 122), expressions=("neutral", "smile", "anger")
    ),
    "facewarehouse": partial(trees.facewarehouse, shapes=(0, 1, 2)),
}
# FaceWarehouse does not say its unit, and fd-prep tells by a warning what it takes it for.
CHOSEN: dict[str, dict[str, Any]] = {
    "facewarehouse": {"units": "dm"},
    "facescape": {"protocol": "subjects:0.3"},
}
OPTIONS = {
    source: " ".join(f"--{key} {value}" for key, value in options.items())
    for source, options in CHOSEN.items()
}

Spoil = Callable[[Tree, str], None]


def truncate(tree: Tree, path: str) -> None:
    trees.truncate(tree.root / path, 0.4)


def empty(tree: Tree, path: str) -> None:
    (tree.root / path).write_bytes(b"")


def text(tree: Tree, path: str) -> None:
    (tree.root / path).write_bytes(b"<html>404 Not Found</html>\n")


def unreadable(tree: Tree, path: str) -> None:
    """Reading fails, for root as well: a process's memory begins with nothing."""
    (tree.root / path).unlink()
    (tree.root / path).symlink_to("/proc/self/mem")


SPOILS: dict[str, Spoil] = {
    "vertex count": lambda tree, path: tree.drop_vertices(path, 3),
    "triangle count": Tree.drop_polygon,
    "NaN": partial(Tree.plant_nan, vertex=7),
    "truncated": truncate,
    "empty": empty,
    "text": text,
    "unreadable": unreadable,
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tree]:
    """A clean tree of every data set, made once."""
    made: dict[str, Tree] = {}

    def tree(source: str) -> Tree:
        if source not in made:
            made[source] = SMALL[source](tmp_path_factory.mktemp(source) / "data")
        return made[source]

    return tree


@pytest.fixture
def disk(tmp_path: Path, clean: Callable[[str], Tree]) -> Callable[[str], Tree]:
    """A copy of a clean tree in the folder `data`, free to be spoilt."""

    def copy(source: str) -> Tree:
        tree = clean(source)
        shutil.copytree(tree.root, tmp_path / "data")
        return Tree(
            tmp_path / "data",
            tree.topology,
            tree.unit_mm,
            tree.digits,
            tree.encode,
            tree.stray,
            dict(tree.files),
        )

    return copy


def prep(shell: Run, source: str, more: str = "", root: str = "data") -> Result:
    return shell(
        f"fd-prep {source} {root} {OPTIONS.get(source, '')} --jobs 1 -o set.safetensors {more}"
    )


def without(path: str) -> str:
    """The name of a file's face."""
    return path.rpartition(".")[0]


def all_but(source: str, clean: Tree, paths: list[str], tmp_path: Path) -> FaceSet:
    """The set of a clean disk less some faces."""
    names = [without(path) for path in paths]
    target = tmp_path / "truth.safetensors"
    return prepare(source, clean.root, target, exclude=names, **CHOSEN.get(source, {})).set


def check_same(made: FaceSet, truth: FaceSet) -> None:
    assert list(made.labels.names) == list(truth.labels.names)
    np.testing.assert_array_equal(made.vertices, truth.vertices)
    assert made.id == truth.id


def left_out(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "set.report.json").read_text())["left_out"]


@pytest.mark.parametrize("source", ["coma", "bu3dfe", "facescape"])
def test_keep_going_makes_the_set_of_the_good_faces(shell, disk, clean, tmp_path, source):
    """Every kind of fault at once, none of them in a neutral, so not in the reference either."""
    tree = disk(source)
    shown = [path for path, file in reversed(tree.files.items()) if file.strength != 0]
    broken = dict(zip(SPOILS, shown[: len(shown) - 1], strict=False))
    assert len(broken) >= 5
    for kind, path in broken.items():
        SPOILS[kind](tree, path)
    stray = tree.litter()
    done = prep(shell, source, "--keep-going")
    assert done.code == 1, done.err
    report = left_out(tmp_path)
    assert sorted(report["failed"]) == sorted(map(without, broken.values()))
    for path in broken.values():  # why, by file
        assert path in report["failed"][without(path)]
    assert report["unknown_files"] == sorted(visible(stray))
    *warnings, last = done.err.splitlines()
    assert "set.report.json" in last and str(len(tree.files) - len(broken)) in last
    named = next(line for line in warnings if "that could not be used" in line)
    assert f" ({len(broken)}): " in named and any(without(p) in named for p in broken.values())
    truth = all_but(source, clean(source), list(broken.values()), tmp_path)
    check_same(load_face_set(tmp_path / "set.safetensors"), truth)
    verified = shell("fd-info --verify set.safetensors")
    assert (verified.code, verified.err) == (0, "")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def visible(paths: list[str]) -> list[str]:
    """Less hidden files, which nobody has put there on purpose."""
    return [path for path in paths if not path.rpartition("/")[2].startswith(".")]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("coma", "truncated"),
        ("facescape", "truncated"),
        ("facescape", "NaN"),
    ],
)
def test_a_broken_reference(shell, disk, clean, tmp_path, source, kind):
    """The first of all files, by which the others are judged, and FaceScape's vertices chosen."""
    tree = disk(source)
    path = reference_of(source, tree)
    SPOILS[kind](tree, path)
    done = prep(shell, source, "--keep-going")
    assert done.code == 1, done.err
    assert list(left_out(tmp_path)["failed"]) == [without(path)]
    truth = all_but(source, clean(source), [path], tmp_path)
    check_same(load_face_set(tmp_path / "set.safetensors"), truth)
    if kind == "truncated":
        for name in ("set", "truth"):
            (tmp_path / f"{name}.safetensors").unlink()
            (tmp_path / f"{name}.report.json").unlink()
        done = prep(shell, source)
        assert done.code == 3 and path in done.line
        assert "--keep-going" in done.line  # what to do next
        assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def reference_of(source: str, tree: Tree) -> str:
    """The first neutral of somebody who is trained on."""
    labels = open_source(source, tree.root, CHOSEN.get(source, {})).source.labels
    at_rest = [tree.files[path].strength == 0 for path in tree.files]
    names = {name: int(split) for name, split in zip(labels.names, labels.split, strict=True)}
    for path, rest in zip(tree.files, at_rest, strict=True):
        if rest and (source == "coma" or names[without(path)] == TRAIN):
            return path
    raise AssertionError("nobody is trained on")


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        *((kind, "last") for kind in ("vertex count", "triangle count", "truncated")),
        *((kind, "among the first") for kind in ("NaN", "unreadable")),
    ],
)
def test_by_default_one_bad_file_ends_the_command(shell, disk, tmp_path, kind, place):
    tree = disk("facewarehouse")
    path = list(tree.files)[-1 if place == "last" else 1]
    SPOILS[kind](tree, path)
    done = prep(shell, "facewarehouse")
    assert done.code == 3
    assert path in done.line and "--keep-going" in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("keep_going", ["", "--keep-going"])
def test_every_file_is_broken(shell, disk, tmp_path, keep_going):
    tree = disk("facewarehouse")
    for path in tree.files:
        truncate(tree, path)
    done = prep(shell, "facewarehouse", keep_going)
    assert done.code == 3 and "shape_0.obj" in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_nobody_is_left_to_train_on(shell, disk, tmp_path):
    """All faces of the people who are trained on are broken, those of the tested ones are not."""
    tree = disk("facewarehouse")
    for path, file in tree.files.items():
        if file.subject != "Tester_141":
            truncate(tree, path)
    done = prep(shell, "facewarehouse", "--keep-going")
    assert done.code == 3 and "training" in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("source", ["coma", "facescape"])
def test_missing_files(shell, disk, clean, tmp_path, source):
    tree = disk(source)
    gone = {
        "coma": [trees.coma_name(trees.COMA_SUBJECTS[0], "bareteeth", 7)],
        "facescape": [trees.facescape_name(2, "smile"), trees.facescape_name(122, "anger")],
    }[source]
    for path in gone:
        (tree.root / path).unlink()
    done = prep(shell, source)
    if source == "facescape":  # every copy of it lacks some
        assert done.code == 0
        part, missing = done.err.splitlines()
        assert "this is a part of FaceScape" in part
        assert f"missing files ({len(gone)}): " in missing
    else:
        assert done.code == 3 and "--keep-going" in done.line
        assert gone[0] in done.line
        assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
        done = prep(shell, source, "--keep-going")
        assert done.code == 1 and "missing" in done.err
    report = left_out(tmp_path)
    assert len(report["missing"]) == len(gone) and not report["failed"]
    made = load_face_set(tmp_path / "set.safetensors")
    assert set(made.labels.names) == {without(p) for p in tree.files if p not in gone}
    if source != "coma":  # whose split goes by the place in the list of all files
        check_same(made, all_but(source, clean(source), gone, tmp_path))


def test_a_listed_file_that_is_missing(shell, tmp_path):
    rows = ["file,subject,expression"]
    for k in range(8):
        save_mesh(tmp_path / "data" / f"{k}.ply", face(k))
        rows.append(f"{k}.ply,p{k % 4},{'neutral' if k < 4 else 'smile'}")
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "gone/8.ply,p0,frown", ""]))
    command = "fd-prep folder data --labels labels.csv --jobs 1 -o set.safetensors"
    done = shell(command)
    assert done.code == 3 and "gone/8.ply" in done.line and "--keep-going" in done.line
    assert not (tmp_path / "set.safetensors").exists()
    done = shell(f"{command} --keep-going")
    assert done.code == 1 and "gone/8.ply" in done.err
    assert left_out(tmp_path)["missing"] == ["gone/8.ply"]
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 8


def test_stray_files_are_named_and_harmless(shell, disk, clean, tmp_path):
    source = "coma"
    tree = disk(source)
    stray = tree.litter()
    done = prep(shell, source)
    assert done.code == 0
    part, named = done.err.splitlines()
    assert "this is a part of CoMA" in part
    assert f"ignored because they do not belong to this layout ({len(visible(stray))}): " in named
    assert left_out(tmp_path)["unknown_files"] == sorted(visible(stray))
    truth = all_but(source, clean(source), [], tmp_path)
    check_same(load_face_set(tmp_path / "set.safetensors"), truth)


def test_scans_that_were_never_registered(shell, disk, tmp_path):
    """BU-3DFE as it is distributed: every scan with a number of vertices of its own."""
    tree = disk("bu3dfe")
    for number, path in enumerate(tree.files):
        tree.drop_vertices(path, 10 + 7 * number)
    for options in ("", "--align none --keep-going"):
        done = prep(shell, "bu3dfe", options)
        assert done.code == 3
        assert "not registered" in done.line and "5996" in done.line and "_F3D.wrl" in done.line
        assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("root", "advice"),
    [
        ("nothing", "nothing holds no files; expected FaceWarehouse, Tester_1/"),
        ("nowhere", "nowhere is not a folder"),
        ("other", "other has no file like Tester_1/Blendshape/shape_0.obj; expected the root"),
        (".", "; data has, give that folder"),
        ("data/Tester_2/Blendshape", "it lies within the data, give {here}/data"),
    ],
)
def test_roots_that_are_none(shell, tmp_path, root, advice):
    trees.touch(tmp_path / "data", trees.facewarehouse_names()[:100])
    trees.touch(tmp_path / "other", ["a/b/c.obj"])
    (tmp_path / "nothing").mkdir()
    if root == ".":
        shutil.rmtree(tmp_path / "other")
    done = prep(shell, "facewarehouse", root=root)
    assert done.code == 3 and advice.format(here=tmp_path) in done.line
    assert not list(tmp_path.glob("set*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("keep_going", ["", "--keep-going"])
def test_a_file_that_may_not_be_read(shell, disk, tmp_path, keep_going):
    tree = disk("facewarehouse")
    path = list(tree.files)[-1]
    (tree.root / path).chmod(0)
    done = prep(shell, "facewarehouse", keep_going)
    assert done.code == (1 if keep_going else 3) and path.rpartition(".")[0] in done.err
    assert (tmp_path / "set.safetensors").exists() == bool(keep_going)


def test_a_set_or_report_that_exists(shell, disk, tmp_path):
    tree = disk("facewarehouse")
    for name in ("set.safetensors", "set.report.json"):
        (tmp_path / name).write_text("mine")
        done = prep(shell, "facewarehouse")
        assert done.code == 2 and name in done.line and "--force" in done.line
        assert (tmp_path / name).read_text() == "mine"
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["data", name])
        (tmp_path / name).unlink()
    for name in ("set.safetensors", "set.report.json"):
        (tmp_path / name).write_text("mine")
    last = list(tree.files)[-1]
    content = (tree.root / last).read_bytes()
    truncate(tree, last)
    assert prep(shell, "facewarehouse", "--force").code == 3
    for name in ("set.safetensors", "set.report.json"):  # replaced only when all is done
        assert (tmp_path / name).read_text() == "mine"
    (tree.root / last).write_bytes(content)
    assert prep(shell, "facewarehouse", "--force").code == 0
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 9
    assert left_out(tmp_path)["failed"] == {}


def test_standard_output_gets_the_same_bytes_and_nothing_else(shell, disk, tmp_path):
    disk("facewarehouse")
    command = "fd-prep facewarehouse data --units dm --jobs 1 -o"
    plain = shell(f"{command} set.safetensors")
    assert plain.code == 0 and "this is a part of FaceWarehouse" in plain.line
    whole = (tmp_path / "set.safetensors").read_bytes()
    (tmp_path / "set.safetensors").unlink()
    (tmp_path / "set.report.json").unlink()
    piped = shell(f"{command} - | cat")
    assert (piped.code, piped.err) == (0, plain.err) and piped.out == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    left = shell(f"{command} - | head -c 100")
    assert left.err == "" and left.out == whole[:100]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fd-prep facewarehouse data --units dm -o gone/set.safetensors", "no folder"),
        ("fd-prep facewarehouse data --units dm --jobs 1 -o /dev/full", "No space left"),
        ("fd-prep facewarehouse data --units dm --jobs 1 -o - > /dev/full", "No space left"),
        # in units of 1024 bytes: neither the faces that were read fit, nor
        ("ulimit -f 500; fd-prep facewarehouse data --units dm --jobs 1 -o set", "large"),
        # the set, which is larger by its triangles
        ("ulimit -f 1750; fd-prep facewarehouse data --units dm --jobs 1 -o set", "large"),
    ],
)
def test_no_room_for_the_output(shell, disk, tmp_path, line, message):
    disk("facewarehouse")
    done = shell(line)
    assert done.code == 4 and message in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def can_mount() -> bool:
    """Whether a small disk can be made that only a command sees."""
    made = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m none /tmp"], capture_output=True
    )
    return made.returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_full_disk(shell, disk, tmp_path):
    """It has room for the set, but not for what is read beside it."""
    if not can_mount():
        pytest.skip("a disk cannot be mounted here")
    disk("facewarehouse")
    (tmp_path / "tiny").mkdir()
    done = shell(
        "unshare -m sh -c 'mount -t tmpfs -o size=2600k none tiny; "
        "fd-prep facewarehouse data --units dm --jobs 1 -o tiny/set.safetensors; code=$?; "
        "ls -A tiny; exit $code'"
    )
    message = "set.safetensors needs 0.00331 GB while it is made, its disk has 0."
    assert done.code == 4 and message in done.line
    assert done.out == b""
