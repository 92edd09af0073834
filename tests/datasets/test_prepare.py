"""Data as it lies on real disks, through the command: what is named, what is left.

The truth is a run that was asked to leave out the same faces of a clean disk: everything in the two
sets but their history must be the same, so their ids are.
"""

import json
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
from prepared import copied, prepare
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
    return lambda source: copied(clean(source), tmp_path / "data")


def prep(call: Run, source: str, more: str = "") -> Result:
    return call(
        f"fd-prep {source} data {OPTIONS.get(source, '')} --jobs 1 -o set.safetensors {more}"
    )


def check_nothing_is_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["data"]


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


@pytest.mark.parametrize("source", ["coma", "bu3dfe"])
def test_keep_going_makes_the_set_of_the_good_faces(call, disk, clean, tmp_path, source):
    """Every kind of fault at once, none of them in a neutral, so not in the reference either."""
    tree = disk(source)
    shown = [path for path, file in reversed(tree.files.items()) if file.strength != 0]
    broken = dict(zip(SPOILS, shown[: len(shown) - 1], strict=False))
    assert len(broken) >= 5
    for kind, path in broken.items():
        SPOILS[kind](tree, path)
    stray = tree.litter()
    done = prep(call, source, "--keep-going")
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
    verified = call("fd-info --verify set.safetensors")
    assert (verified.code, verified.err) == (0, "")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def visible(paths: list[str]) -> list[str]:
    """Less hidden files, which nobody has put there on purpose."""
    return [path for path in paths if not path.rpartition("/")[2].startswith(".")]


def test_a_broken_reference(call, disk, clean, tmp_path):
    """By which the others are judged, and of which FaceScape's vertices are chosen."""
    tree = disk("facescape")
    options = CHOSEN["facescape"]
    labels = open_source("facescape", tree.root, options).source.labels
    trained = {n for n, split in zip(labels.names, labels.split, strict=True) if split == TRAIN}
    path = next(p for p, f in tree.files.items() if f.strength == 0 and without(p) in trained)
    tree.plant_nan(path, vertex=7)
    done = prep(call, "facescape", "--keep-going")
    assert done.code == 1, done.err
    assert list(left_out(tmp_path)["failed"]) == [without(path)]
    truth = all_but("facescape", clean("facescape"), [path], tmp_path)
    check_same(load_face_set(tmp_path / "set.safetensors"), truth)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        *((kind, "last") for kind in ("vertex count", "triangle count", "truncated")),
        *((kind, "among the first") for kind in ("NaN", "unreadable")),
    ],
)
def test_by_default_one_bad_file_ends_the_command(call, disk, tmp_path, kind, place):
    tree = disk("facewarehouse")
    path = list(tree.files)[-1 if place == "last" else 1]
    SPOILS[kind](tree, path)
    done = prep(call, "facewarehouse")
    assert done.code == 3
    assert path in done.line and "--keep-going" in done.line
    check_nothing_is_left(tmp_path)


@pytest.mark.parametrize("keep_going", ["", "--keep-going"])
def test_every_file_is_broken(call, disk, tmp_path, keep_going):
    tree = disk("facewarehouse")
    for path in tree.files:
        truncate(tree, path)
    done = prep(call, "facewarehouse", keep_going)
    assert done.code == 3 and "shape_0.obj" in done.line
    check_nothing_is_left(tmp_path)


def test_nobody_is_left_to_train_on(call, disk, tmp_path):
    """All faces of the people who are trained on are broken, those of the tested ones are not."""
    tree = disk("facewarehouse")
    for path, file in tree.files.items():
        if file.subject != "Tester_141":
            truncate(tree, path)
    done = prep(call, "facewarehouse", "--keep-going")
    assert done.code == 3 and "training" in done.line
    check_nothing_is_left(tmp_path)


def test_a_listed_file_that_is_missing(call, tmp_path):
    rows = ["file,subject,expression"]
    for k in range(8):
        save_mesh(tmp_path / "data" / f"{k}.ply", face(k))
        rows.append(f"{k}.ply,p{k % 4},{'neutral' if k < 4 else 'smile'}")
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "gone/8.ply,p0,frown", ""]))
    command = "fd-prep folder data --labels labels.csv --jobs 1 -o set.safetensors"
    done = call(command)
    assert done.code == 3 and "gone/8.ply" in done.line and "--keep-going" in done.line
    assert not (tmp_path / "set.safetensors").exists()
    done = call(f"{command} --keep-going")
    assert done.code == 1 and "gone/8.ply" in done.err
    assert left_out(tmp_path)["missing"] == ["gone/8.ply"]
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 8


def test_a_set_or_report_that_exists(call, disk, tmp_path):
    tree = disk("facewarehouse")
    for name in ("set.safetensors", "set.report.json"):
        (tmp_path / name).write_text("mine")
        done = prep(call, "facewarehouse")
        assert done.code == 2 and name in done.line and "--force" in done.line
        assert (tmp_path / name).read_text() == "mine"
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["data", name])
        (tmp_path / name).unlink()
    for name in ("set.safetensors", "set.report.json"):
        (tmp_path / name).write_text("mine")
    last = list(tree.files)[-1]
    content = (tree.root / last).read_bytes()
    truncate(tree, last)
    assert prep(call, "facewarehouse", "--force").code == 3
    for name in ("set.safetensors", "set.report.json"):  # replaced only when all is done
        assert (tmp_path / name).read_text() == "mine"
    (tree.root / last).write_bytes(content)
    assert prep(call, "facewarehouse", "--force").code == 0
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 9
    assert left_out(tmp_path)["failed"] == {}


def test_standard_output_gets_the_same_bytes_and_nothing_else(call, shell, disk, tmp_path):
    disk("facewarehouse")
    plain = prep(call, "facewarehouse")
    assert plain.code == 0 and "this is a part of FaceWarehouse" in plain.line
    whole = (tmp_path / "set.safetensors").read_bytes()
    (tmp_path / "set.safetensors").unlink()
    (tmp_path / "set.report.json").unlink()
    command = f"fd-prep facewarehouse data {OPTIONS['facewarehouse']} --jobs 1 -o -"
    piped = call(command)
    assert (piped.code, piped.err, piped.out) == (0, plain.err, whole)
    check_nothing_is_left(tmp_path)
    left = shell(f"{command} | head -c 100")
    assert left.err == "" and left.out == whole[:100]


@pytest.mark.parametrize(
    ("before", "output", "message"),
    [
        ("", "gone/set.safetensors", "no folder"),
        ("", "/dev/full", "No space left"),
        ("", "- > /dev/full", "No space left"),
        # in units of 1024 bytes: neither the faces that were read fit, nor
        ("ulimit -f 500; ", "set", "large"),
        # the set, which is larger by its triangles
        ("ulimit -f 1750; ", "set", "large"),
    ],
)
def test_no_room_for_the_output(call, shell, disk, tmp_path, before, output, message):
    disk("facewarehouse")
    run = shell if before or ">" in output else call
    done = run(f"{before}fd-prep facewarehouse data --units dm --jobs 1 -o {output}")
    assert done.code == 4 and message in done.line
    check_nothing_is_left(tmp_path)


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


@pytest.fixture
def three_people(tmp_path):
    """Three people of FaceWarehouse, four shapes each."""
    return trees.facewarehouse(tmp_path / "data", testers=(1, 2, 141), shapes=range(4))


PREP = "fd-prep facewarehouse data --jobs 1 -o set.safetensors"
SPOILT = trees.facewarehouse_name(2, 2)

SPOIL = {
    "no size": (lambda v: np.zeros_like(v), "is 0 mm high, the others about"),
    "another unit": (lambda v: v * 100, "mm high, the others about"),
    "another order": (lambda v: v[::-1].copy(), "check the file and its vertex order"),
}


@pytest.mark.parametrize("how", SPOIL)
def test_a_mesh_that_is_no_face_like_the_others(call, three_people, tmp_path, how):
    spoil, words = SPOIL[how]
    file = three_people.files[SPOILT]
    three_people.add(SPOILT, file.subject, file.expression, 1.0, spoil(file.vertices))
    done = call(PREP)
    assert done.code == 3
    assert f"data/{SPOILT}" in done.line and words in done.line and "--keep-going" in done.line
    check_nothing_is_left(tmp_path)
    done = call(f"{PREP} --keep-going")
    assert done.code == 1
    failed = json.loads((tmp_path / "set.report.json").read_text())["left_out"]["failed"]
    assert list(failed) == [SPOILT.removesuffix(".obj")]
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 11


def test_a_reference_that_is_no_face(call, three_people, tmp_path):
    first = trees.facewarehouse_name(1, 0)
    file = three_people.files[first]
    three_people.add(first, file.subject, file.expression, 0.0, np.zeros_like(file.vertices))
    done = call(PREP)
    assert done.code == 3 and first in done.line and "is 0 units high" in done.line
    done = call(f"{PREP} --keep-going --simplify 9000")
    assert done.code == 1
    made = load_face_set(tmp_path / "set.safetensors")
    assert len(made.labels.names) == 11
    assert np.isnan(made.neutrals[0]).all() and np.isfinite(made.neutrals[1:]).all()


def test_all_splits_of_a_data_set_have_one_topology(call, tmp_path):
    pytest.importorskip("fast_simplification")
    trees.facewarehouse(tmp_path / "data", testers=(1, 2, 3), shapes=(0, 1))
    topologies = set()
    for fold in (1, 2, 3):
        command = f"{PREP} --protocol identity-fold:{fold}/3 --simplify 9000 --force"
        assert call(command).code == 0
        topologies.add(load_face_set(tmp_path / "set.safetensors").topology)
    assert len(topologies) == 1


@pytest.mark.parametrize("variant", ["models_reg", "plain", "trainset"])
def test_one_list_of_what_to_leave_out_for_every_layout(call, tmp_path, variant):
    names = [n for n in trees.facescape_names(variant) if f"/{n}".count("/12/")]
    others = [n for n in trees.facescape_names(variant) if f"/{n}".count("/13/")]
    gone = names.pop(4)
    trees.touch(tmp_path / "data", [*names, *others])
    listed = ["# broken", "12/3_mouth_stretch", gone, "13", "700/1_neutral", "603"]
    (tmp_path / "broken.txt").write_text("\n".join(listed))
    count = "fd-prep facescape data --protocol subjects:0 --dry-run"
    done = call(f"{count} --exclude broken.txt")
    assert done.code == 0, done.err
    assert "missing" not in done.err
    assert "excluded names that match nothing (2): 603, 700/1_neutral" in done.err
    assert done.out.decode().splitlines()[1].split("\t")[:3] == ["all", "-", "18"]
    (tmp_path / "broken.txt").write_text("700\n603\n")
    done = call(f"{count} --exclude broken.txt")
    assert done.code == 3 and "no face or subject has that name" in done.line
