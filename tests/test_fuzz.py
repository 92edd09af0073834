"""The fuzzing of `make fuzz`, for a moment; and whether it would find something."""

import os
import re
import signal
import time

import fuzz
import pytest
from fuzz_readers import Reader, make_readers

from facedis_core.errors import InputError


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return make_readers(tmp_path_factory.mktemp("fuzz"))


def test_seeds_are_valid(readers, tmp_path):
    for name, reader in readers.items():
        accepted = 0
        for seed in reader.seeds:
            path = tmp_path / f"seed{reader.suffix}"
            path.write_bytes(seed)
            accepted += fuzz.try_file(reader, path) == fuzz.ACCEPTED
        # latents have a plain array and a pickle among their seeds
        assert accepted >= len(reader.seeds) - 2 * (name == "latents"), name
        assert accepted, name


def test_the_same_seed_is_the_same_damage(readers):
    for name, reader in readers.items():
        cases = [fuzz.case(reader, name, 0, number) for number in range(20)]
        assert cases == [fuzz.case(reader, name, 0, number) for number in range(20)]
        assert len(set(cases)) > 10
        assert fuzz.case(reader, name, 1, 0) not in cases or name == "list"


def test_nothing_is_found_in_a_moment(tmp_path, capsys):
    found = tmp_path / "found"
    code = fuzz.main(["--cases", "25", "--no-processes", "--folder", str(found)])
    said = capsys.readouterr().out
    assert code == 0, said
    lines = re.findall(r"(?m)^(\w+) +25 cases +(\d+) refused +(\d+) accepted", said)
    assert len(lines) >= 15 and all(int(a) + int(b) == 25 for _, a, b in lines)
    assert not found.exists()


def _raises(path):
    if b"-" in path.read_bytes():
        raise KeyError("a bug")
    raise InputError("refused")


def _dies(path):
    os.kill(os.getpid(), signal.SIGKILL)


def _hangs(path):
    time.sleep(60)


def _devours(path):
    bytearray(1 << 30)


def _litters(path):
    path.with_name("litter").touch()


def _babbles(path):
    raise InputError("one line\nand another")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (_raises, "KeyError: 'a bug'"),
        (_dies, "the process ended with -9"),
        (_hangs, "more than 1 s"),
        (_devours, "more than 256 MB"),
        (_litters, "a file has changed or appeared"),
        (_babbles, "a message that is not one short line"),
    ],
)
def test_a_planted_bug_is_found_kept_and_repeated(tmp_path, capsys, monkeypatch, read, message):
    monkeypatch.setattr(fuzz, "SECONDS_EACH", 1)
    planted = {"numbers": Reader(".txt", [b"1 2 3 4 5 6"], read)}
    options = ["--seed", "3", "--folder", str(tmp_path / "found"), "--only", "numbers"]
    assert fuzz.main([*options, "--cases", "300"], lambda work: planted) == 1
    said = capsys.readouterr().out
    assert message in said
    (kept,) = (tmp_path / "found").iterdir()
    assert f"--only numbers --repeat {kept}" in said
    assert fuzz.main([*options, "--repeat", str(kept)], lambda work: planted) == 1
    assert message in capsys.readouterr().out
    if read is _raises:
        kept.write_bytes(b"1 2 3")
        assert fuzz.main([*options, "--repeat", str(kept)], lambda work: planted) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fd-info {file} --no-such-option", "exit 2"),
        ("fd-encode -m {work}/model.safetensors {work}/tree -o {work}/o.npy", "changed or made"),
    ],
)
def test_a_process_that_does_what_it_must_not_is_found(tmp_path, command, message):
    readers = make_readers(tmp_path)
    path = tmp_path / "case.ply"
    path.write_bytes(readers["ply"].seeds[0])
    assert message in fuzz.try_command(readers["ply"], command, path, tmp_path)
    assert fuzz.try_command(readers["ply"], "fd-info {file}", path, tmp_path) == fuzz.ACCEPTED
    path.write_bytes(b"no mesh")
    assert fuzz.try_command(readers["ply"], "fd-info {file}", path, tmp_path) == fuzz.REFUSED
