"""The error boundary, by small commands of its own, and what holds for every command."""

import fd_cli

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import synthetic

from facedis_core.model.bundled import DEFAULT_MODEL, bundled_models, weights_folder
from facedis_core.model.model_file import load_model

PROBE = """
import os, signal, sys, time
import fd_cli
from facedis_core.errors import *

def probe(value: int = 1, model: fd_cli.ModelOption = None) -> None:
    '''Try something.'''
    {body}

def main():
    fd_cli.run(probe)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def probe(tmp_path):
    """Write `fd_probe.py`, whose command runs `body`; returns the words to start it."""

    def write(body):
        path = tmp_path / "fd_probe.py"
        path.write_text(PROBE.format(body=body))
        return f"{sys.executable} {path}"

    return write


@pytest.fixture
def call_probe(call, probe, tmp_path, monkeypatch):
    """Run that command in this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(body, words="", **options):
        probe(body)
        sys.modules.pop("fd_probe", None)
        return call(f"fd-probe {words}", **options)

    yield run
    sys.modules.pop("fd_probe", None)


ERRORS = {
    "UsageError('a b', ErrorCode.ARGUMENTS)": (2, "a b"),
    "missing_extra('--simplify', 'prep')": (2, "-m pip install 'fast-simplification>=0.1.9'"),
    "InputError('a b', ErrorCode.EMPTY)": (3, "a b"),
    "OutputError('a b', ErrorCode.DISK_FULL)": (4, "a b"),
    "CheckFailed('e_rec is 2', ErrorCode.CHECK_FAILED)": (1, "e_rec is 2"),
    "Stopped('saved in m', ErrorCode.STOPPED)": (130, "saved in m"),
    "MemoryError('for 3 GiB')": (3, "out of memory: for 3 GiB"),
    'RuntimeError("can\'t start new thread")': (3, "out of memory: can't start new thread"),
    "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried')": (
        3,
        "out of memory:",
    ),
    "RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB.')": (3, "--set batch=N"),
    "ImportError('libx.so: failed to map segment from shared object')": (3, "libx.so"),
    "OSError(12, 'Cannot allocate memory')": (3, "out of memory"),
    "ValueError('x') from MemoryError()": (3, "out of memory"),
    "ModuleNotFoundError('no', name='torch.nn')": (
        2,
        "-m pip install 'fast-simplification>=0.1.9' 'scipy>=1.11' 'torch>=2.4'",
    ),
    "OSError(28, 'No space left on device')": (4, "No space left on device"),
    "open('/none')": (3, "cannot use /none: No such file or directory"),
    "open('a' * 300)": (3, "File name too long"),
    "InputError('a\\nb \\x1b[31m grün', ErrorCode.EMPTY)": (3, r"a b \x1b[31m grün"),
}


@pytest.mark.parametrize(("error", "expected"), ERRORS.items(), ids=ERRORS)
def test_an_error_is_one_line_and_its_exit_code(call_probe, error, expected):
    result = call_probe(f"raise {error}")
    assert result.code == expected[0]
    assert result.line.startswith("fd-probe: ")
    assert expected[1] in result.line
    assert not result.out


def test_the_same_in_a_process(shell, probe):
    line = probe("print(value); raise InputError('a b', ErrorCode.EMPTY)")
    result = shell(line)
    assert (result.code, result.out, result.err) == (3, b"1\n", "fd-probe: a b\n")
    result = shell(f"{line} --value many")
    assert (result.code, result.out) == (2, b"")
    assert result.line.endswith("try --help")
    result = shell(probe("raise KeyboardInterrupt"))
    assert (result.code, result.line) == (130, "fd-probe: interrupted")
    assert shell(probe("pass")).code == 0


@pytest.mark.parametrize(
    ("command", "megabytes"),
    [
        (f"fd-{name}", megabytes)
        for name, limits in {
            "render face.ply -o o.png": (40, 80, 110, 150, 170, 190),
            "encode -m ict-linear face.ply -o o.npy": (60, 130, 170),
            "train none.safetensors -o m.safetensors": (100, 500, 800),
        }.items()
        for megabytes in limits
    ],
)
def test_too_little_memory_is_no_bug(shell, tmp_path, command, megabytes):
    example = Path(__file__).parent.parent / "weights" / "examples" / "bob_smile.ply"
    (tmp_path / "face.ply").write_bytes(example.read_bytes())
    result = shell(f"ulimit -v {megabytes * 1000}; {command}")
    assert result.code == 3 or (result.code == 0 and megabytes > 150), result.err
    if result.code:
        assert "memory" in result.line


def test_help_needs_little_memory(shell):
    assert shell("ulimit -v 40000; fd-render --help").code == 0


@pytest.mark.parametrize("error", ["ValueError('x')", "ModuleNotFoundError('x', name='nowhere')"])
def test_a_bug_shows_its_traceback(call_probe, error):
    result = call_probe(f"raise {error}")
    assert result.code == 70
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("fd-probe: this is a bug")


@pytest.mark.parametrize(
    "words", ["--value", "--value many", "--nonsense", "surplus", "--model"], ids=str
)
def test_usage_errors_are_one_line(call_probe, words):
    result = call_probe("pass", words)
    assert (result.code, result.kind) == (2, "arguments")
    assert result.line.startswith("fd-probe: ")
    assert result.line.endswith("try --help")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_docstring_and_the_options(call_probe, option):
    result = call_probe("raise ValueError", option)
    assert result.code == 0
    assert b"Usage: fd-probe [OPTIONS]\n\n  Try something.\n" in result.out
    assert b"--model" in result.out
    assert not result.err


def test_version(call_probe):
    result = call_probe("raise ValueError", "--version")
    assert result.code == 0
    assert result.out.startswith(b"fd-probe 0.")
    assert not result.err


def test_version_lists_the_models_with_their_ids(call, model, model_file):
    page = call("fd-info --version").out.decode().splitlines()
    assert [line.split()[0] for line in page[1:-1]] == sorted(bundled_models())
    assert page[-1].split() == [str(model_file), model.id, "(default,", "from", "$FACEDIS_MODEL)"]
    page = call("fd-info --version", env={"FACEDIS_MODEL": ""}).out.decode().splitlines()
    assert len(page) == 1 + len(bundled_models())
    known = load_model(weights_folder() / f"{DEFAULT_MODEL}.safetensors")
    assert page[1].split() == [DEFAULT_MODEL, known.id, "(default)"]


def test_version_needs_no_numpy_and_no_model(shell, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    words = f"{sys.executable} -X importtime -m fd_info --version"
    result = shell(f"FACEDIS_MODEL=broken.safetensors {words}")
    assert result.code == 0
    assert "broken.safetensors  not a whole safetensors file" in result.out.decode()
    imported = {line.split("|")[-1].strip() for line in result.err.splitlines()}
    assert not imported & {"numpy", "torch", "rich", "safetensors"}


class TestBrokenPipe:
    @pytest.mark.parametrize(
        "body", ["print('x\\n' * 10**6)", "raise ReaderLeft('', ErrorCode.READER_LEFT)"]
    )
    def test_dies_silently_of_sigpipe(self, shell, probe, body):
        result = shell(f"{probe(body)} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}")
        assert result.out == b"141\n"
        assert not result.err

    def test_help_to_a_closed_pipe_too(self, shell, probe):
        result = shell(f"(sleep 0.1; {probe('pass')} --help) | true; echo ${{PIPESTATUS[0]}}")
        assert result.out == b"141\n"
        assert not result.err

    def test_a_full_disk_is_an_output_error(self, shell, probe):
        result = shell(f"{probe('print(1)')} > /dev/full")
        assert result.code == 4
        assert "No space left" in result.line


@pytest.mark.parametrize("body", ["fd_cli.warn('look'); fd_cli.say('done')", "raise Exception"])
def test_a_closed_stderr_leaves_stdout_to_the_data(shell, probe, body):
    result = shell(f"{probe(body)} 2>&-")
    assert (result.code, result.out) == (70 if "raise" in body else 0, b"")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_command_and_leaves_no_temporary_file(probe, tmp_path, signum):
    folder = tmp_path / "out"
    folder.mkdir()
    words = probe(
        "from facedis_core.io.streams import open_output\n"
        f"    with open_output({str(folder / 'x.npy')!r}, force=False) as stream:\n"
        "        stream.write(b'half'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(words.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signum
    assert err == (b"fd-probe: interrupted\n" if signum == signal.SIGINT else b"")
    assert list(folder.iterdir()) == []


class TestThreads:
    SHOW = "print(*(os.environ[f'{x}_NUM_THREADS'] for x in ('OMP', 'OPENBLAS', 'MKL')))"

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("", "1 1 1"), ("OMP_NUM_THREADS=4 OPENBLAS_NUM_THREADS=2", "4 2 4")],
    )
    def test_one_unless_the_user_says_otherwise(self, shell, probe, given, expected):
        names = "-u OMP_NUM_THREADS -u OPENBLAS_NUM_THREADS -u MKL_NUM_THREADS"
        result = shell(f"env {names} {given} {probe(self.SHOW)}")
        assert result.out.decode().strip() == expected


class TestProgress:
    BODY = (
        "with fd_cli.progress_bar('counting', 3) as advance:\n"
        "        for i in range(3): time.sleep(0.2); advance(1)\n"
        "    fd_cli.warn('look'); fd_cli.say('done'); print('rich' in sys.modules)"
    )

    def test_is_silent_and_costs_nothing_where_nobody_watches(self, shell, probe):
        result = shell(probe(self.BODY))
        assert result.out == b"False\n"
        assert result.err == "fd-probe: warning: look\ndone\n"

    def test_prints_a_line_now_and_then_where_a_file_is_written(self, monkeypatch, capsys):
        seconds = [0.0]
        clock = SimpleNamespace(monotonic=lambda: seconds[0])
        monkeypatch.setattr(fd_cli, "time", clock)
        with fd_cli.progress_bar("encoding", 20_000) as advance:
            for _ in range(5000):
                seconds[0] += 1.0
                advance(2)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "encoding: 120 of 20,000, 2/s, about 2 h 46 min left"
        assert lines[1].startswith("encoding: 360 of 20,000")
        assert len(lines) == 10  # every ten minutes at last

    SLOW = (
        "with fd_cli.progress_bar('counting', 8) as advance:\n"
        "        for i in range(8): time.sleep(0.15); advance(1)"
    )

    def test_shows_rate_and_time_left_on_a_terminal_and_leaves_nothing(self, probe):
        shown = on_a_terminal(probe(self.SLOW), TERM="xterm-256color")
        for part in (rb"counting", rb"\d/s", rb"\d/8", rb"0:00:0\d"):
            assert re.search(part, shown), part
        assert re.search(COLOUR, shown)
        assert shown.endswith(b"\x1b[?25h\r\x1b[1A\x1b[2K")  # cursor on, line up, line erased

    def test_no_colour_where_none_is_wanted(self, probe):
        shown = on_a_terminal(probe(self.SLOW), TERM="xterm-256color", NO_COLOR="1")
        assert b"counting" in shown
        assert not re.search(COLOUR, shown)

    def test_no_control_characters_where_the_terminal_knows_none(self, probe):
        shown = on_a_terminal(probe(self.SLOW), TERM="dumb")
        assert shown == b""

    def test_costs_the_import_of_rich_only_on_a_terminal(self, probe):
        assert b"True" in on_a_terminal(probe(self.BODY), TERM="xterm")


COLOUR = rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])[;m]"


def on_a_terminal(line, **environment):
    """What a terminal gets to see, of both standard output and standard error."""
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", line],
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment,
    )
    os.close(slave)
    shown = b""
    with suppress(OSError):  # as a terminal that nobody has open any longer answers
        while part := os.read(terminal, 65536):
            shown += part
    assert process.wait(timeout=60) == 0, shown
    os.close(terminal)
    return shown


@pytest.fixture
def face_set(tmp_path):
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


@pytest.mark.parametrize(
    ("environment", "escapes", "colours"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_tables_on_a_terminal(commands, model_file, face_set, environment, escapes, colours):
    words = f"{commands}/fd-metrics {face_set} -m {model_file}"
    shown = on_a_terminal(words, **environment)
    assert b"e_rec  " in shown
    assert (b"\x1b[" in shown) == escapes
    assert bool(re.search(COLOUR, shown)) == colours


@pytest.mark.parametrize(
    "line",
    [
        *("fd-encode", "fd-decode", "fd-transfer - x.npy", "fd-interp - x.npy", "fd-metrics"),
        *("fd-recognize -", "fd-info -", "fd-render", "fd-report -"),
    ],
)
def test_nothing_is_asked_of_a_person_at_a_terminal(call, line):
    terminal, slave = pty.openpty()
    result = call(line, stdin=os.fdopen(slave))
    os.close(terminal)
    assert (result.code, result.kind) == (2, "terminal")
    assert result.line


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("fd-encode a.ply --merge parts -o o.npy", "inputs"),
        ("fd-encode --merge parts --map m.safetensors -o o.npy", "--map"),
        ("fd-encode --merge parts -m ict-linear -o o.npy", "--model"),
        ("fd-decode a.npy --no-detail", "--no-detail"),
        ("fd-decode a.npy --normals drop --npy", "--normals"),
        ("fd-decode a.npy --units cm -o a.pc2", "--units"),
        ("fd-decode a.npy --fps 5 -o a.ply", "--fps"),
        ("fd-transfer a.npy b.npy --align rigid", "--align"),
        ("fd-transfer a.npy b.npy --map m.safetensors", "--map"),
        ("fd-export a.npy --force-encode -o a.glb", "--force-encode"),
        ("fd-export a.npy --trust-order -o a.glb", "--trust-order"),
        ("fd-export a.npy --onto a.ply --fps 5 -o a.glb", "--fps"),
        ("fd-export a.npy --count 5 -o a.csv", "--count"),
        ("fd-prep --export set.safetensors folder -j 2", "--jobs"),
        ("fd-prep --export set.safetensors folder --no-history", "--no-history"),
        ("fd-register --make-prior set.safetensors -o p.safetensors --sequence", "--sequence"),
        ("fd-report faces --registrations r.jsonl --split all -o o.html", "--split"),
        ("fd-report faces --registrations r.jsonl --no-baselines -o o.html", "--no-baselines"),
    ],
)
def test_an_option_that_would_change_nothing(call, tmp_path, line, option):
    result = call(line)
    assert (result.code, result.kind) == (2, "option-conflict"), result.err
    assert result.line.endswith(f"; leave out {option}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["-x.ply", "--x.ply"])
def test_a_file_that_looks_like_an_option(call, tmp_path, name):
    assert call(["fd-info", name]).line.endswith("; try --help")
    (tmp_path / name).touch()
    result = call(["fd-info", name])
    assert (result.code, result.kind) == (2, "arguments")
    assert result.line.endswith(f"; the file {name} is ./{name}")
    assert call(["fd-info", f"./{name}"]).kind == "empty"


@pytest.mark.parametrize("line", ["fd-encode --scheduler ''", "fd-decode --scheduler ''"])
def test_an_empty_address(call, line):
    result = call(line)
    assert (result.code, result.kind) == (2, "option-value")
    assert "--scheduler is empty; expected tcp://" in result.line
