"""Every way a command can end, in real shells: the target is the old file or the new one."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import face, save_mesh
from synthetic import face_set, write_face_set

from facedis_core.data.latents import Latents, write_latents

# A line that writes the file that {out} names, of inputs made by `inputs`.
WRITERS = {
    "encode": "fd-encode faces {out} {force}",
    "transfer": "fd-transfer one.npy faces.npy {out} {force}",
    "interp": "fd-interp one.npy faces.npy {out} {force}",
    "decode": "fd-decode one.npy {out} {force}",
    "decode-npy": "fd-decode faces.npy --npy {out} {force}",
    "encode-stream": "fd-encode faces --stream {out} {force}",
    "metrics": "fd-metrics set.safetensors --split all --json {out} {force}",
    "recognize": "fd-recognize set.safetensors --split all --json {out} {force}",
    "render": "fd-render faces --size 32 {out} {force}",
    "report": "fd-report set.safetensors --split all --size 32 --no-baselines {out} {force}",
}


# One of them in the default run; processes take long to start.
SOME = [
    name if name == "encode" else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS
]


def line(name, out="", force=""):
    return WRITERS[name].format(out=f"-o {out}" if out else "", force=force)


@pytest.fixture(scope="module")
def set_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / "set.safetensors"
    write_face_set(path, face_set())
    return path


@pytest.fixture
def inputs(call, model, set_file, tmp_path):
    """A folder of faces, their latents, one row of them, and a face set."""
    for seed in range(40):
        save_mesh(tmp_path / "faces" / f"{seed}.ply", face(seed))
    (tmp_path / "set.safetensors").symlink_to(set_file)
    assert call("fd-encode faces -o faces.npy").code == 0
    assert call("fd-encode faces/0.ply -o one.npy").code == 0
    return tmp_path


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", SOME)
class TestTargets:
    def test_a_file_standard_output_a_substitution_and_a_pipe(self, call, shell, inputs, name):
        by_name = call(line(name, "out"))
        assert (by_name.code, by_name.out) == (0, b"")
        written = (inputs / "out").read_bytes()
        assert written
        assert shell(f"{line(name)} > redirected").code == 0
        assert (inputs / "redirected").read_bytes() == written
        assert call(line(name, "-")).out == written
        assert shell(f"{line(name, '/dev/stdout')} | cat").out == written
        assert shell(f"mkfifo fifo; cat fifo & {line(name, 'fifo')}; wait").out == written
        assert shell(f"{line(name, '>(cat > substituted; touch done)')}").code == 0
        wait_for((inputs / "done").exists)
        assert (inputs / "substituted").read_bytes() == written

    def test_a_full_device(self, call, shell, inputs, name):
        before = files(inputs)
        result = call(line(name, "/dev/full"))
        assert (result.code, result.kind) == (4, "disk-full")
        assert "No space left" in result.line
        result = shell(f"{line(name)} > /dev/full")
        assert result.code == 4
        assert "No space left" in result.line
        assert files(inputs) == before

    def test_a_full_disk(self, call, shell, inputs, name):
        """A limit of one byte less than the file has ends as a full disk does."""
        assert call(line(name, "out")).code == 0
        old = (inputs / "out").read_bytes()
        program = (
            "import resource, subprocess, sys; "
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(old) - 1},) * 2); "
            "sys.exit(subprocess.run(['bash', '-c', sys.argv[1]]).returncode)"
        )
        before = files(inputs)
        for target, force in (("other", ""), ("out", "--force")):
            command = line(name, target, force).replace("'", "'\\''")
            result = shell(f"python3 -c \"{program}\" '{command}'")
            assert result.code == 4, result.err
            assert "could not be written" in result.line or "cannot write" in result.line
        assert files(inputs) == before
        assert (inputs / "out").read_bytes() == old

    def test_an_existing_file_a_link_and_a_folder(self, call, inputs, name):
        (inputs / "there").mkdir()
        (inputs / "there" / "file").write_bytes(b"old")
        (inputs / "link").symlink_to("there/file")
        for target in ("there/file", "link"):
            result = call(line(name, target))
            assert (result.code, result.kind) == (2, "output-exists")
            assert (inputs / "there" / "file").read_bytes() == b"old"
        assert call(line(name, "link", "--force")).code == 0
        assert (inputs / "link").is_symlink()
        assert (inputs / "there" / "file").read_bytes() != b"old"
        assert call(line(name, "nowhere/out")).kind == "output-unwritable"
        assert files(inputs / "there") == {"file"}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_is_not_writable(self, call, inputs, name):
        (inputs / "locked").mkdir(mode=0o555)
        result = call(line(name, "locked/out"))
        assert (result.code, result.kind) == (4, "output-unwritable")


@pytest.mark.slow
def test_the_reader_of_each_command_leaves(shell, inputs):
    for name in WRITERS:
        if name == "run":
            continue
        result = shell(f"{line(name)} | true; echo ${{PIPESTATUS[0]}}")
        # a short output fits into the pipe before anybody looks whether it is read
        assert result.out in (b"141\n", b"0\n"), name
        assert not result.err, name


def test_the_output_may_be_the_input(call, shell, inputs):
    rows = (inputs / "faces.npy").read_bytes()
    assert call("fd-transfer one.npy faces.npy -o expected.npy").code == 0
    (inputs / "x.npy").write_bytes(rows)
    assert call("fd-transfer one.npy x.npy -o x.npy --force").code == 0
    assert (inputs / "x.npy").read_bytes() == (inputs / "expected.npy").read_bytes()
    (inputs / "y.npy").write_bytes(rows)
    assert call("fd-transfer one.npy y.npy -o y.npy --force --stream").code == 0
    assert call("fd-decode y.npy").out == call("fd-decode expected.npy").out
    assert shell("cp faces/0.ply z.ply; fd-encode z.ply | fd-decode -o z.ply --force").code == 0
    assert (inputs / "z.ply").read_bytes() != (inputs / "faces" / "0.ply").read_bytes()
    # what the shell has emptied before anything runs is said to be empty
    result = shell("cp faces.npy w.npy; fd-transfer one.npy w.npy > w.npy")
    assert result.code == 3
    assert "empty" in result.line


def test_what_is_appended_to_its_own_input_is_refused(shell, inputs):
    before = (inputs / "faces.npy").read_bytes()
    result = shell("fd-decode faces.npy --stream >> faces.npy")
    assert result.code == 2
    assert "is also an input" in result.line
    assert (inputs / "faces.npy").read_bytes() == before


def test_a_terminal_by_name_is_neither_read_nor_written(call, inputs):
    leader, follower = os.openpty()
    name = os.ttyname(follower)
    for line in (f"fd-encode {name}", f"fd-decode one.npy -o {name}"):
        result = call(line)
        assert (result.code, result.kind) == (2, "terminal")
        assert name in result.line
    os.close(leader)
    os.close(follower)


def catching_interrupts_is(wanted, pid):
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[1], 16)
    return bool(caught >> (signal.SIGINT - 1) & 1) == wanted


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_it_without_a_traceback(inputs, model_file, signum):
    """From our first import on; before that it is Python that answers."""
    # not started by a shell: it catches interrupts too, and would be taken for Python
    words = [sys.executable, "-m", "fd_encode", "faces", "--jobs", "2", "-o", "new.npy", "--force"]
    environment = {**os.environ, "FACEDIS_MODEL": str(model_file)}
    for delay in np.linspace(0, 0.3, 20):
        running = subprocess.Popen(words, cwd=inputs, env=environment, stderr=subprocess.PIPE)
        wait_for(partial(catching_interrupts_is, True, running.pid))
        wait_for(partial(catching_interrupts_is, False, running.pid))
        time.sleep(delay)
        running.send_signal(signum)
        _, said = running.communicate(timeout=60)
        assert running.returncode in (-signum, 0), said
        assert said in (b"", b"fd-encode: interrupted\n")


SLOW_WRITER = """
import os, time
import meshio

def write_points_cells(path, *content):
    path.write_text("half")
    os.write(1, b"writing\\n")
    time.sleep(60)

meshio.write_points_cells = write_points_cells
import fd_decode
fd_decode.main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_no_temporary_folder_is_left(inputs, model_file, signum):
    """Some formats are written to a folder elsewhere, before the output is opened."""
    (inputs / "temporary").mkdir()
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, "one.npy", "-o", "face.vtu"],
        cwd=inputs,
        env={
            **os.environ,
            "FACEDIS_MODEL": str(model_file),
            "TMPDIR": str(inputs / "temporary"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout.readline() == b"writing\n"
    running.send_signal(signum)
    running.communicate(timeout=60)
    assert running.returncode == -signum
    assert not files(inputs / "temporary")


def start(commands, inputs, model_file, *words, **options):
    environment = {**os.environ, "FACEDIS_MODEL": str(model_file)}
    return subprocess.Popen(
        [str(commands / words[0]), *words[1:]],
        cwd=inputs,
        env=environment,
        stderr=subprocess.PIPE,
        **options,
    )


def halfway(commands, inputs, model_file, rows, *words):
    """A process that has written the first of the rows that it gets, and waits for more."""
    process = start(
        commands, inputs, model_file, "fd-decode", "-", "--stream", *words, stdin=subprocess.PIPE
    )
    process.stdin.write(rows)
    process.stdin.flush()
    return process


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def stream_of_rows(model, tmp_path):
    """A stream of rows without an end: an array without rows, and twenty with one each."""
    data = tmp_path / "rows"
    with data.open("wb") as stream:
        for number in range(21):
            count = min(number, 1)
            names = [f"face{number}"] * count
            latents = Latents(
                names,
                [model.id] * count,
                np.zeros((count, 3), np.float32),
                np.zeros((count, 2), np.float32),
            )
            write_latents(stream, latents)
    return data.read_bytes()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
class TestSignals:
    def test_in_the_middle_of_a_file(self, commands, inputs, model_file, stream_of_rows, signum):
        (inputs / "out").mkdir()
        (inputs / "out" / "all.npy").write_bytes(b"old")
        running = halfway(
            commands, inputs, model_file, stream_of_rows, "--npy", "-o", "out/all.npy", "--force"
        )
        wait_for(lambda: len(files(inputs / "out")) == 2)  # the file it is writing into
        running.send_signal(signum)
        _, words = running.communicate(timeout=60)
        assert running.returncode == -signum
        assert words == (b"fd-decode: interrupted\n" if signum == signal.SIGINT else b"")
        assert (inputs / "out" / "all.npy").read_bytes() == b"old"
        left = files(inputs / "out") - {"all.npy"}
        assert all(name.startswith(".") for name in left)  # hidden, so that it is never a result
        if signum != signal.SIGKILL:
            assert not left

    def test_between_the_files_of_a_batch(
        self, commands, call, inputs, model_file, stream_of_rows, signum
    ):
        running = halfway(commands, inputs, model_file, stream_of_rows, "-o", "out/")
        wait_for(lambda: (inputs / "out" / "face20.ply").exists())
        running.send_signal(signum)
        running.communicate(timeout=60)
        assert running.returncode == -signum
        assert files(inputs / "out") == {f"face{k}.ply" for k in range(1, 21)}
        assert call(["fd-info", *map(str, (inputs / "out").iterdir())]).code == 0


@pytest.mark.slow
def test_killed_while_it_writes_a_batch_leaves_whole_files_only(
    commands, shell, inputs, model_file
):
    """Wherever it is hit: what has a name is whole, and the same command completes the rest."""
    assert shell("fd-decode faces.npy -o expected/").code == 0
    for delay in (0.3, 0.34, 0.38, 0.42):
        running = start(commands, inputs, model_file, "fd-decode", "faces.npy", "-o", "out/")
        time.sleep(delay)
        running.kill()
        running.communicate()
        shell("diff -r expected out | grep -v 'Only in expected' | grep -v '[.]facedis-'")
        for path in (inputs / "out").glob("*.ply") if (inputs / "out").exists() else ():
            assert path.read_bytes() == (inputs / "expected" / path.name).read_bytes()
        resumed = shell("fd-decode faces.npy -o out/ --skip-existing")
        assert resumed.code == 0
        found = {path.name for path in (inputs / "out").glob("*.ply")}
        assert found == files(inputs / "expected")
        # what was left of the killed one is no mesh to anybody
        assert shell("fd-encode out -o again.npy --force").code == 0
        shell("rm -rf out")


def test_two_runs_that_write_one_file(commands, inputs, model_file, call):
    """Without --force one of them wins and the other says so; the file is whole."""
    expected = call("fd-encode faces").out
    for force in ([], ["--force"]):
        running = [
            start(commands, inputs, model_file, "fd-encode", "faces", "-o", "new.npy", *force)
            for _ in range(2)
        ]
        for process in running:
            process.communicate(timeout=120)
        codes = sorted(process.returncode for process in running)
        assert codes == ([0, 0] if force else [0, 2])
        assert (inputs / "new.npy").read_bytes() == expected
        assert not [name for name in files(inputs) if name.startswith(".")]


def test_a_fifo_whose_reader_leaves(commands, inputs, model_file):
    os.mkfifo(inputs / "fifo")
    reader = threading.Thread(target=lambda: (inputs / "fifo").open("rb").read(1))
    reader.start()
    (inputs / "many.npy").write_bytes((inputs / "faces.npy").read_bytes() * 50)
    running = start(commands, inputs, model_file, "fd-decode", "many.npy", "-o", "fifo")
    _, words = running.communicate(timeout=60)
    reader.join()
    assert (running.returncode, words) == (-signal.SIGPIPE, b"")
