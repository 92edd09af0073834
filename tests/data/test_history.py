"""Histories: how steps are stored, joined and listed, and what the commands record."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import face, save_mesh
from synthetic import face_set, write_face_set

from facedis_core import __version__
from facedis_core.data.history import HistoryStep, history_step, made_by, merged, with_output
from facedis_core.io.safetensors_file import parse_record, read_safetensors, write_safetensors
from facedis_core.model.bundled import bundled_models, weights_folder

SET, DISC, FIRST, OWN = (digit * 12 for digit in "abcd")


def step(command, inputs=None, /, **options):
    return history_step(command, inputs or {}, options)


PREP = step("fd-prep", source="ict", seed=0, subjects=200)
PRETRAIN = step("fd-pretrain-disc", {"set": SET}, recipe="coma", neutrals=False, seed=0)
TRAIN = step("fd-train", {"discriminator": DISC, "set": SET}, recipe="coma", set=["a=1", "b= x"])


def write_model_with(path, *history):
    metadata = {"id": OWN, "history": list(history)}
    with path.open("w+b") as stream:
        write_safetensors(stream, "model", {"a": np.zeros(1, np.float32)}, metadata)


class TestSteps:
    def test_options_that_are_not_set_are_left_out(self):
        found = history_step("fd-x", {"set": SET}, {"seed": 0, "like": None}).as_json()
        expected = {"command": "fd-x", "version": __version__, "inputs": {"set": SET}}
        assert found == {**expected, "options": {"seed": 0}}

    @pytest.mark.parametrize("known", [PREP, TRAIN, replace(PREP, output=SET)])
    def test_come_back_as_they_were_stored(self, known):
        assert parse_record(HistoryStep, known.as_json()) == known

    def test_are_one_line_each(self):
        assert str(PREP) == f"fd-prep {__version__} source=ict seed=0 subjects=200"
        assert str(replace(PRETRAIN, output=DISC)) == (
            f"fd-pretrain-disc {__version__} recipe=coma neutrals=false seed=0 set:{SET} -> {DISC}"
        )
        odd = HistoryStep("fd-x\n", "0\x1b", {"set\n": "a\nb"}, {"k": "\r", "l": ["\n"]}, "\n")
        assert str(odd).isprintable()

    def test_the_last_one_in_a_few_words(self):
        assert made_by([]) == "which does not say how it was made"
        assert made_by([PREP]) == "made by fd-prep with source ict"
        assert made_by([PREP, PRETRAIN]) == f"made by fd-pretrain-disc with set {SET}"
        alone = step("fd-train", {"discriminator": "none", "set": SET})
        assert made_by([PREP, alone]) == f"made by fd-train with set {SET}"


class TestMerging:
    def test_the_last_step_says_what_it_made(self):
        assert with_output([PREP, PRETRAIN], DISC) == [PREP, replace(PRETRAIN, output=DISC)]
        assert with_output([], DISC) == []

    def test_steps_are_the_same_whether_they_say_so_or_not(self):
        said = replace(PREP, output=SET)
        assert merged([PREP], [said, PRETRAIN]) == [said, PRETRAIN]
        assert merged([said], [PREP, PRETRAIN]) == [said, PRETRAIN]
        assert merged([said], [said]) == [said]

    def test_the_same_command_on_other_data_is_another_step(self):
        one, other = (replace(PREP, output=output) for output in (SET, FIRST))
        assert merged([one], [other]) == [one, other]


def test_commands_are_listed_oldest_first(call, tmp_path):
    steps = [replace(PREP, output=SET), PRETRAIN, TRAIN]
    write_model_with(tmp_path / "x.safetensors", *(s.as_json() for s in steps))
    printed = call("fd-info --history x.safetensors")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.decode().splitlines() == [
        f"fd-prep {__version__} seed=0 source=ict subjects=200 -> {SET}",
        f"fd-pretrain-disc {__version__} neutrals=false recipe=coma seed=0 set:{SET}",
        f'fd-train {__version__} recipe=coma set=["a=1", "b= x"] discriminator:{DISC} set:{SET} '
        f"-> {OWN}",
    ]


@pytest.mark.parametrize(
    "wrong", [{"command": "fd-prep", "inputs": []}, {"command": ["fd-prep"]}, {}, "fd-prep", None]
)
def test_what_is_no_step_is_refused(call, tmp_path, wrong):
    write_model_with(tmp_path / "x.safetensors", PREP.as_json(), wrong)
    result = call("fd-info --history x.safetensors")
    assert (result.code, result.kind) == (3, "metadata")


def test_files_without_a_history(tmp_path, call):
    write_face_set(tmp_path / "set.safetensors", face_set())
    result = call("fd-info --history set.safetensors")
    assert (result.code, result.kind) == (3, "history-missing")
    assert "set.safetensors" in result.line
    with (tmp_path / "state.safetensors").open("w+b") as stream:
        write_safetensors(stream, "training", {"a": np.zeros(1, np.float32)}, {})
    result = call("fd-info --history state.safetensors")
    assert (result.code, result.kind) == (3, "history-missing")
    assert "is a training state" in result.line


@pytest.fixture
def people(tmp_path):
    """`people`: six people with three expressions each, one mesh of them broken."""
    for k in range(6):
        for e, expression in enumerate(("neutral", "smile", "big grin")):
            save_mesh(tmp_path / "people" / f"P{k}_{expression}.ply", face(10 * k + e))
    (tmp_path / "people" / "P4_smile.ply").write_bytes(b"ply\n")
    (tmp_path / "out.txt").write_text("P5_smile\n")
    (tmp_path / "split.csv").write_text(
        "subject,split\n" + "".join(f"P{k},{'test' if k > 3 else 'train'}\n" for k in range(6))
    )
    return tmp_path / "people"


PREPARE = (
    "fd-prep folder people --pattern '{subject}_{expression}.ply' --neutral 'big grin' --units cm "
    "--exclude out.txt --protocol file:split.csv --align rigid --keep-going --seed 5 --jobs 1"
)


def test_keep_going_is_recorded_only_where_something_was_left_out(call, tmp_path, people):
    (people / "P4_smile.ply").unlink()
    assert call(f"{PREPARE} -o set.safetensors").code == 0
    (found,) = read_safetensors(tmp_path / "set.safetensors").metadata["history"]
    assert "keep_going" not in found["options"]


@pytest.mark.slow
def test_a_trained_model_has_the_commands_of_its_inputs(shell, tmp_path, people):
    (tmp_path / "my.toml").write_text(
        "identity = 4\nexpression = 3\nbatch = 4\npretrain_batch = 4\nneutral = 1.0\n"
    )
    line = (
        f"{PREPARE} -o set.safetensors; "
        "fd-pretrain-disc set.safetensors --recipe my.toml --epochs 1 -o disc.safetensors && "
        "fd-train set.safetensors --recipe my.toml --epochs 1 --discriminator disc.safetensors "
        "-o first.safetensors && "
        "fd-train set.safetensors --recipe my.toml --neutrals --set epochs=2 --seed 3 "
        "--discriminator disc.safetensors --init first.safetensors --precision bf16 "
        "-o model.safetensors"
    )
    assert shell(line).code == 0
    steps = read_safetensors(tmp_path / "model.safetensors").metadata["history"]
    outputs = [step.get("output") for step in steps]
    made = [
        read_safetensors(tmp_path / f"{name}.safetensors").metadata["id"]
        for name in ("set", "first", "disc")
    ]
    assert sorted(filter(None, outputs)) == sorted(made)
    assert steps[-1]["options"]["precision"] == "bf16"
    assert [step["command"] for step in steps[:2]] == ["fd-prep", "fd-pretrain-disc"]


def test_a_history_is_asked_for_alone(call, tmp_path):
    write_face_set(tmp_path / "set.safetensors", face_set())
    for option in ("--json", "--verify"):
        result = call(f"fd-info --history {option} set.safetensors")
        assert (result.code, result.kind) == (2, "option-conflict")
        assert "--json and --verify" in result.line
    assert call("fd-info --history faces.npy").kind == "file-missing"


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_model(call, name):
    path = weights_folder() / f"{name}.safetensors"
    printed = call(f"fd-info --history {path}")
    assert (printed.code, printed.err) == (0, "")
    lines = printed.out.decode().splitlines()
    metadata = read_safetensors(path).metadata
    assert [line.split()[0] for line in lines] == [s["command"] for s in metadata["history"]]
    assert lines[-1].endswith(f" -> {metadata['id']}")
    for line, stored in zip(lines, metadata["history"], strict=True):
        assert all(f" {role}:{value}" in line for role, value in stored["inputs"].items())
