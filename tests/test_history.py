"""Histories as scripts: what they say, that they run, and that they give the same files."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import face, save_mesh
from synthetic import face_set, write_face_set

from facedis_core.bundle import DEFAULT_MODEL, bundled_models, weights_folder
from facedis_core.container import history_entry, read_container
from facedis_core.container_writer import write_container
from facedis_core.errors import InputError
from facedis_core.history import history_script, merged, with_output
from facedis_core.streams import file_id

SET, DISC, FIRST, OWN = (digit * 12 for digit in "abcd")


def entry(command, inputs=None, /, **options):
    return history_entry(command, inputs or {}, options)


PREP = entry("fd-prep", source="ict", seed=0, subjects=200)
PRETRAIN = entry("fd-pretrain-disc", {"set": SET}, recipe="ict", neutrals=False, seed=0)
TRAIN = entry("fd-train", {"discriminator": DISC, "set": SET}, recipe="ict", neutrals=True, seed=0)
TUNE = entry("fd-train", {"discriminator": "none", "init": FIRST, "set": SET}, seed=3)


@pytest.fixture
def script(tmp_path):
    """The script of a file with this history, without its first comment."""

    def make(*history):
        path = tmp_path / "x.safetensors"
        metadata = {"id": OWN, "history": list(history)}
        with path.open("w+b") as stream:
            write_container(stream, "model", {"a": np.zeros(1, np.float32)}, metadata)
        first, *lines = history_script(str(path)).splitlines()
        assert first == f"# How {path} (model {OWN}) was made, oldest step first."
        return lines

    return make


def test_a_chain_whose_ids_follow_from_who_reads_them(script):
    assert script(PREP, PRETRAIN, TRAIN, TUNE) == [
        "# ROOT: the folder with the data of source ict",
        f'fd-prep ict "$ROOT" --seed 0 --subjects 200 -o {SET}.safetensors',
        f"fd-pretrain-disc {SET}.safetensors --no-neutrals --recipe ict --seed 0 "
        f"-o {DISC}.safetensors",
        f"fd-train {SET}.safetensors --discriminator {DISC}.safetensors --neutrals --recipe ict "
        f"--seed 0 -o {FIRST}.safetensors",
        f"fd-train {SET}.safetensors --discriminator none --init {FIRST}.safetensors --seed 3 "
        f"-o {OWN}.safetensors",
    ]


def test_ids_that_a_history_says(script):
    other = {**entry("fd-prep", source="folder", seed=1), "output": "e" * 12}
    lines = script(
        {**PREP, "output": SET}, other, entry("fd-train", {"set": SET, "init": "e" * 12})
    )
    assert lines[0] == "# ROOT: the folder with the data of source ict"
    assert lines[1].endswith(f'"$ROOT" --seed 0 --subjects 200 -o {SET}.safetensors')
    assert lines[2] == "# ROOT_2: the folder with the data of source folder"
    assert lines[3] == f'fd-prep folder "$ROOT_2" --seed 1 -o {"e" * 12}.safetensors'


def test_what_is_not_recorded_is_said(script):
    two = entry("fd-prep", source="folder")
    lines = script(PREP, two, entry("fd-train", {"set": SET}))
    assert "# which id this gives was not recorded" in lines
    assert 'fd-prep folder "$ROOT_2" -o step-2.safetensors' in lines
    assert f"# {SET}.safetensors: a face set of which no step is recorded" in lines
    assert lines[-1] == f"fd-train {SET}.safetensors -o {OWN}.safetensors"


def test_files_of_the_user_are_known_by_their_content(script):
    prep = entry(
        "fd-prep",
        {"protocol": "1" * 12, "labels": "2" * 12, "exclude": "3" * 12},
        source="folder",
        protocol="file",
    )
    own = {"recipe": "4" * 12, "set": SET}
    lines = script(
        prep,
        entry("fd-pretrain-disc", own, recipe="my.toml"),
        entry("fd-train", own, recipe="my.toml"),
        entry("fd-train", {"set": SET}, recipe="old.toml"),
    )
    assert [line.removeprefix("# ") for line in lines if line.startswith("#")] == [
        "ROOT: the folder with the data of source folder",
        f"EXCLUDE: the list of what to leave out whose SHA-256 begins with {'3' * 12}",
        f"LABELS: the CSV file whose SHA-256 begins with {'2' * 12}",
        f"PROTOCOL: the CSV file with the split whose SHA-256 begins with {'1' * 12}",
        f"RECIPE: the recipe whose SHA-256 begins with {'4' * 12}",
        "which id this gives was not recorded",
        f"RECIPE: the recipe whose SHA-256 begins with {'4' * 12}",
        "which id this gives was not recorded",
        "RECIPE_2: the recipe that was called old.toml",
    ]
    assert '--exclude "$EXCLUDE" --labels "$LABELS" --protocol "file:$PROTOCOL"' in lines[4]
    assert [line.count('--recipe "$RECIPE"') for line in lines if "fd-train" in line] == [1, 0]
    assert '--recipe "$RECIPE_2"' in lines[-1]


def test_options_are_typed_as_a_shell_takes_them(script):
    values = {
        "pattern": "{subject} {expression}'s.ply",
        "neutral": "$(id)",
        "validation": 0.25,
        "keep_going": True,
        "set": ["a=1", "b= x"],
        "seed": 7,
    }
    (_, line) = script(entry("fd-prep", source="folder", **values))
    words = shlex.split(line)
    assert words[:3] == ["fd-prep", "folder", "$ROOT"]
    assert words[3:] == [
        *("--keep-going", "--neutral", "$(id)", "--pattern", values["pattern"], "--seed", "7"),
        *("--set", "a=1", "--set", "b= x", "--validation", "0.25", "-o", f"{OWN}.safetensors"),
    ]


def test_other_versions_are_named(script):
    lines = script({**PREP, "version": "9.9\nrm x"})
    assert lines[0].startswith("# by facedis '9.9\\nrm x'; this is 0.")


def test_a_bundled_model_is_called_by_its_name(script):
    known = read_container(weights_folder() / f"{DEFAULT_MODEL}.safetensors").metadata["id"]
    lines = script(entry("fd-prep", {"like": known}, source="folder"))
    assert lines[-1] == f'fd-prep folder "$ROOT" --like {DEFAULT_MODEL} -o {OWN}.safetensors'
    lines = script(entry("fd-prep", {"like": FIRST}, source="folder"))
    assert lines[1] == f"# {FIRST}.safetensors: a model or face set of which no step is recorded"
    assert f"--like {FIRST}.safetensors" in lines[2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": "rm", "inputs": {}, "options": {}},
        {"command": "fd-prep; rm -rf x", "inputs": {}, "options": {}},
        {"command": ["fd-prep"]},
        {"command": "fd-prep", "inputs": []},
        {"command": "fd-prep", "options": "x"},
        {"command": "fd-train", "inputs": {"set": 7}},
        {"command": "fd-prep", "output": ["x"]},
        {},
        "fd-prep",
        None,
    ],
)
def test_what_no_command_of_ours_wrote_is_refused(script, wrong):
    with pytest.raises(InputError, match="has a garbled history"):
        script(PREP, wrong)


def test_nothing_of_a_file_reaches_the_script_unquoted(script, tmp_path):
    bait = f"x; touch {tmp_path}/taken\n$(touch {tmp_path}/taken)`touch {tmp_path}/taken`' \" "
    inputs = dict.fromkeys(("set", "init", "like", "discriminator", "labels", "protocol"), bait)
    step = {
        "command": "fd-prep",
        "version": bait,
        "inputs": inputs,
        "options": {key: bait for key in ("source", "pattern", bait)} | {"set": [bait]},
        "output": bait,
    }
    text = "\n".join(script(step, step))
    subprocess.run(["bash", "-c", f"fd-prep() {{ :; }}; {text}"], cwd=tmp_path, check=True)
    assert not (tmp_path / "taken").exists()


def test_files_without_a_history(tmp_path, shell):
    write_face_set(tmp_path / "set.safetensors", face_set())
    result = shell("fd-info --history set.safetensors")
    assert result.code == 3
    assert "set.safetensors does not say how it was made" in result.line
    state = tmp_path / "state.safetensors"
    with state.open("w+b") as stream:
        write_container(stream, "training", {"a": np.zeros(1, np.float32)}, {})
    with pytest.raises(InputError, match="is a training state, which has no history"):
        history_script(str(state))


class TestMerging:
    def test_the_last_step_says_what_it_made(self):
        assert with_output([PREP, PRETRAIN], DISC) == [PREP, {**PRETRAIN, "output": DISC}]
        assert with_output([], DISC) == []

    def test_steps_are_the_same_whether_they_say_so_or_not(self):
        said = {**PREP, "output": SET}
        assert merged([PREP], [said, PRETRAIN]) == [said, PRETRAIN]
        assert merged([said], [PREP, PRETRAIN]) == [said, PRETRAIN]
        assert merged([said], [said]) == [said]

    def test_the_same_command_on_other_data_is_another_step(self):
        one, other = ({**PREP, "output": output} for output in (SET, FIRST))
        assert merged([one], [other]) == [one, other]


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
    "--exclude out.txt --protocol file:split.csv --align rigid --keep-going --seed 5"
)


def again(shell, tmp_path: Path, source: str, variables: str) -> str:
    """Print the history of a file, run it in an empty folder, and give the id of what it made."""
    printed = shell(f"fd-info --history {source}")
    assert printed.code == 0, printed.err
    own = read_container(tmp_path / source).metadata["id"]
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "run.sh").write_bytes(printed.out)
    shell(f"cd again; {variables} bash run.sh")
    found = read_container(tmp_path / "again" / f"{own}.safetensors")
    before, after = (dict(read_container(tmp_path / source).metadata), dict(found.metadata))
    assert before == after
    return printed.out.decode()


def test_a_prepared_set_is_made_again(shell, tmp_path, people):
    made = shell(f"{PREPARE} -o set.safetensors")
    assert made.code == 1  # one mesh is broken
    text = again(
        shell,
        tmp_path,
        "set.safetensors",
        "ROOT=../people EXCLUDE=../out.txt PROTOCOL=../split.csv",
    )
    for variable, file in (("EXCLUDE", "out.txt"), ("PROTOCOL", "split.csv")):
        known = file_id((tmp_path / file).read_bytes())
        assert f"# {variable}: " in text and known in text
    assert "--keep-going" in text


def test_keep_going_is_recorded_only_where_something_was_left_out(shell, tmp_path, people):
    (people / "P4_smile.ply").unlink()
    assert shell(f"{PREPARE} -o set.safetensors").code == 0
    (step,) = read_container(tmp_path / "set.safetensors").metadata["history"]
    assert "keep_going" not in step["options"]


@pytest.mark.slow
def test_a_trained_model_is_made_again(shell, tmp_path, people):
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
    steps = read_container(tmp_path / "model.safetensors").metadata["history"]
    outputs = [step.get("output") for step in steps]
    made = [
        read_container(tmp_path / f"{name}.safetensors").metadata["id"]
        for name in ("set", "first", "disc")
    ]
    assert sorted(filter(None, outputs)) == sorted(made)
    text = again(
        shell,
        tmp_path,
        "model.safetensors",
        "ROOT=../people EXCLUDE=../out.txt PROTOCOL=../split.csv RECIPE=../my.toml",
    )
    assert "--precision bf16" in text


def test_a_history_is_asked_for_alone(shell, tmp_path):
    write_face_set(tmp_path / "set.safetensors", face_set())
    for option in ("--json", "--verify"):
        result = shell(f"fd-info --history {option} set.safetensors")
        assert result.code == 2
        assert "leave out --json and --verify" in result.line
    assert shell("fd-info --history faces.npy").code == 3


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_model(shell, name):
    path = weights_folder() / f"{name}.safetensors"
    printed = shell(f"fd-info --history {path}")
    assert (printed.code, printed.err) == (0, "")
    lines = [line for line in printed.out.decode().splitlines() if not line.startswith("#")]
    container = read_container(path)
    assert [line.split()[0] for line in lines] == [
        step["command"] for step in container.metadata["history"]
    ]
    assert lines[-1].endswith(f"-o {container.metadata['id']}.safetensors")
    outputs = [line.rpartition(" -o ")[2] for line in lines]
    for number, step in enumerate(container.metadata["history"]):
        for value in set(step["inputs"].values()) - {"none"}:
            assert f"{value}.safetensors" in outputs[:number]
    for line in lines:
        command, *words = shlex.split(line)
        page = shell(f"{command} --help").out.decode()
        assert all(word in page for word in words if word.startswith("--"))
