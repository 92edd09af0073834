"""Meshes that can be read and are no faces of their data set, and lists of what to leave out."""

import json

import numpy as np
import pytest
import trees

from facedis_core.data.face_set import load_face_set
from facedis_core.datasets.layout import part_of
from facedis_core.errors import InputError
from facedis_core.io.paths import files_below


@pytest.fixture
def tree(tmp_path):
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
def test_a_mesh_that_is_no_face_like_the_others(call, tree, tmp_path, how):
    spoil, words = SPOIL[how]
    file = tree.files[SPOILT]
    tree.add(SPOILT, file.subject, file.expression, 1.0, spoil(file.vertices))
    done = call(PREP)
    assert done.code == 3
    assert f"data/{SPOILT}" in done.line and words in done.line and "--keep-going" in done.line
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    done = call(f"{PREP} --keep-going")
    assert done.code == 1
    failed = json.loads((tmp_path / "set.report.json").read_text())["left_out"]["failed"]
    assert list(failed) == [SPOILT.removesuffix(".obj")]
    assert len(load_face_set(tmp_path / "set.safetensors").labels.names) == 11


def test_a_reference_that_is_no_face(call, tree, tmp_path):
    first = trees.facewarehouse_name(1, 0)
    file = tree.files[first]
    tree.add(first, file.subject, file.expression, 0.0, np.zeros_like(file.vertices))
    done = call(PREP)
    assert done.code == 3 and first in done.line and "is 0 units high" in done.line
    done = call(f"{PREP} --keep-going --simplify 9000")
    assert done.code == 1
    made = load_face_set(tmp_path / "set.safetensors")
    assert len(made.labels.names) == 11
    assert np.isnan(made.neutrals[0]).all() and np.isfinite(made.neutrals[1:]).all()


def test_wild_frames_of_coma_are_outliers_not_faults(call, tmp_path):
    subject = trees.COMA_SUBJECTS[0]
    wild = (subject, "bareteeth", 9)
    trees.coma(tmp_path / "data", expressions=("bareteeth",), outliers={wild})
    done = call("fd-prep coma data -o set.safetensors --jobs 1")
    assert done.code == 0, done.err
    assert "outliers (1): " in done.err and "bareteeth.000009" in done.err


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


def test_what_a_smaller_copy_is_told():
    whole = [(str(s), str(k)) for s in range(3) for k in range(2)]
    assert part_of("X", whole, 3, 2, "0") == []
    said = part_of("X", [pair for pair in whole if pair[1] == "1"], 4, 2, "0")
    assert "3 of 4 people, 1 of 2" in said[0] and "nobody has a neutral (0)" in said[1]


def test_a_whole_disk_is_not_walked(tmp_path):
    trees.touch(tmp_path, [f"{k // 10}/{k}.ply" for k in range(50)])
    assert len(files_below(tmp_path, 50)) == 50
    with pytest.raises(
        InputError, match="holds more than 40 files or 100000 folders; expected a folder of meshes"
    ):
        files_below(tmp_path, 40)
