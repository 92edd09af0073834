"""A pipe in one process does what it does in a shell, and ends as it would there."""

import os
import signal
import subprocess

import pytest
from conftest import TOOLS, face, save_mesh

import fd_run

PIPE = "encode faces/bob.ply ! transfer ann.npy - ! decode"


@pytest.fixture
def ann(shell, faces):
    assert shell("fd-encode faces/ann.ply -o ann.npy").code == 0


def in_a_shell(pipe):
    return " | ".join(f"fd-{stage.strip()}" for stage in pipe.split("!"))


@pytest.mark.parametrize(
    "pipe",
    [
        PIPE,
        "encode faces ! decode --part identity",
        "encode faces ! transfer ann.npy - --scale 1.5 ! decode ! encode ! decode --offsets",
        "encode faces ! interp ann.npy - --steps 3 ! decode --npy",
        "encode faces --stream ! transfer ann.npy - --stream ! decode --stream",
        "encode faces ! info --json",
        "encode 'faces/eva grün.ply' ! decode ! info",
    ],
)
def test_the_same_bytes_as_a_shell(shell, ann, pipe):
    by_shell = shell(in_a_shell(pipe))
    by_run = shell(f'fd-run "{pipe}"')
    assert by_run.code == by_shell.code == 0
    assert by_run.err == by_shell.err
    assert by_run.out == by_shell.out


def test_standard_input_goes_to_the_first_command(shell, ann):
    result = shell("cat faces/bob.ply | fd-run 'encode - ! transfer ann.npy - ! decode' | cat")
    assert result.code == 0
    # a mesh on a pipe has the name that it carries
    assert (
        result.out == shell("fd-encode - < faces/bob.ply | fd-transfer ann.npy - | fd-decode").out
    )


def test_outputs_of_commands_go_where_they_say(shell, ann, tmp_path):
    assert shell("fd-run 'encode faces ! decode -o out/'").out == b""
    assert len(list((tmp_path / "out").rglob("*.ply"))) == 5
    assert shell("fd-run 'encode faces/ann.ply ! decode -o /dev/stdout' > a.ply").code == 0
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "out" / "ann.ply").read_bytes()


class TestFiles:
    def test_a_line_a_pipe_and_comments(self, shell, ann, tmp_path):
        (tmp_path / "recipe.txt").write_text(
            "# faces of Bob\n\n"
            "encode faces/bob.ply -o bob.npy\n"
            "transfer ann.npy bob.npy !\n"
            "   decode -o one.ply  \n"
            "# an indented ! goes on, too\n"
            "transfer bob.npy ann.npy\n"
            "   ! fd-decode -o 'with space.ply'\n"
        )
        result = shell("fd-run -f recipe.txt")
        assert (result.code, result.out, result.err) == (0, b"", "")
        line = "fd-transfer ann.npy bob.npy | fd-decode"
        assert (tmp_path / "one.ply").read_bytes() == shell(line).out
        assert (tmp_path / "with space.ply").exists()

    def test_a_backslash_goes_on(self, shell, ann, tmp_path):
        (tmp_path / "recipe.txt").write_text("encode faces/bob.ply \\\n  ! decode \\\n -o b.ply\n")
        assert shell("fd-run -f recipe.txt").code == 0
        assert (tmp_path / "b.ply").exists()

    def test_help_and_version_do_not_end_those_behind(self, shell, ann, tmp_path):
        result = shell("fd-run 'encode --version' 'decode ann.npy -o a.ply'")
        assert result.code == 0
        assert result.out.startswith(b"fd-encode ")
        assert (tmp_path / "a.ply").exists()

    def test_on_standard_input_after_pipes_by_name(self, shell, ann, tmp_path):
        line = "fd-run 'encode faces/bob.ply -o bob.npy' -f - <<< 'decode bob.npy -o bob.ply'"
        assert shell(line).code == 0
        assert (tmp_path / "bob.ply").exists()

    @pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe"])
    def test_without_a_pipe(self, shell, tmp_path, content):
        (tmp_path / "recipe.txt").write_bytes(content)
        result = shell("fd-run -f recipe.txt")
        assert result.code == 3
        assert result.line.startswith("fd-run: recipe.txt ")

    def test_that_is_missing(self, shell):
        assert shell("fd-run -f nothing.txt").code == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no pipe is given"),
        ("''", "no command on one side"),
        ("'encode a.ply !'", "no command on one side"),
        ("'encode a.ply ! ! decode'", "no command on one side"),
        ("'encode a.ply | decode'", "'|', which is the shell's"),
        ("'encode a.ply > x.npy'", "'>', which is the shell's"),
        ("'encoed a.ply'", "'encoed'; expected prep, info, encode"),
        ("'train set.safetensors'", "'train'"),
        ("'run x'", "'run'"),
        ('"encode \'a.ply"', "No closing quotation"),
    ],
)
def test_what_is_no_pipe(shell, words, message):
    result = shell(f"fd-run {words}")
    assert result.code == 2
    assert message in result.line
    assert result.line.startswith("fd-run: ")


class TestEnds:
    def test_an_error_has_the_line_and_code_of_its_command(self, shell, ann, tmp_path):
        result = shell("fd-run 'encode nothing.ply ! transfer ann.npy - ! decode -o out.ply'")
        assert result.code == 3
        assert result.line.startswith("fd-encode: nothing.ply does not exist")
        assert not (tmp_path / "out.ply").exists()

    def test_pipes_behind_an_error_do_not_run(self, shell, ann, tmp_path):
        assert shell("fd-run 'decode nothing.npy' 'decode ann.npy -o out.ply'").code == 3
        assert not (tmp_path / "out.ply").exists()

    def test_what_is_skipped_does_not_stop_those_behind(self, shell, ann, tmp_path):
        save_mesh(tmp_path / "faces" / "zoe.ply", face(9)[:5], face(9)[:0].astype(int))
        line = "encode faces --keep-going ! decode -o out/"
        result = shell(f"fd-run '{line}'")
        assert result.code == 1
        assert len(list((tmp_path / "out").rglob("*.ply"))) == 5
        assert result.err == shell(f"{in_a_shell(line)} --force").err

    def test_a_usage_error_within(self, shell, ann):
        result = shell("fd-run 'encode faces ! decode --part all'")
        assert result.code == 2
        assert result.line.startswith("fd-decode: ")

    def test_the_reader_leaves(self, shell, ann):
        line = "fd-run 'encode faces ! transfer ann.npy - ! interp ann.npy - --steps 500 ! decode'"
        result = shell(f"{line} | head -c 100 > /dev/null; echo ${{PIPESTATUS[0]}}")
        assert (result.out, result.err) == (b"141\n", "")

    def test_ctrl_c(self, commands, ann, model_file, tmp_path):
        (tmp_path / "slow").mkdir()
        os.mkfifo(tmp_path / "slow" / "a.ply")  # nobody ever writes into it
        running = subprocess.Popen(
            [commands / "fd-run", "encode slow/a.ply ! decode -o out.ply"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            env={**os.environ, "FACEDIS_MODEL": str(model_file)},
        )
        # it opens the pipe for reading once it has begun
        with (tmp_path / "slow" / "a.ply").open("wb"):
            running.send_signal(signal.SIGINT)
            _, words = running.communicate(timeout=60)
        assert running.returncode == -signal.SIGINT
        assert words == b""  # nothing is written yet, and nothing to be said
        assert not (tmp_path / "out.ply").exists()


def test_knows_every_command_that_can_be_in_a_pipe():
    tools = {path.stem.removeprefix("fd_").replace("_", "-") for path in TOOLS.glob("fd_*.py")}
    shared = {"start", "edge", "parse", "cli", "training-cli"}
    assert tools - shared - {"train", "pretrain-disc", "view", "run"} == set(fd_run.COMMANDS)


def test_runs_without_torch(shell, ann, without_torch):
    assert shell(f"fd-run '{PIPE}'", env=without_torch).out == shell(f"fd-run '{PIPE}'").out
