"""Real files, pipes, descriptors and a pseudo-terminal: nothing here is imitated."""

import os
import pty
import stat
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from raising import raises

from facedis_core.errors import ErrorCode, InputError, OutputError, UsageError
from facedis_core.io.permissions import Permissions
from facedis_core.io.streams import check_output, naming, open_input, open_output, read_all
from facedis_core.io.text import shown


def python(code: str, **options) -> subprocess.CompletedProcess:
    """Run code in a process whose standard streams are real ones."""
    code = "from facedis_core.io.streams import *\nfrom facedis_core.errors import *\n" + code
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        timeout=60,
        check=False,
        **options,
    )


def test_nothing_heavy_is_imported():
    done = python("import sys; assert not {'numpy', 'typer', 'meshio'} & set(sys.modules)")
    assert done.returncode == 0


def test_reading_a_file_and_a_pipe(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"\x00\r\n\xff")
    assert read_all(str(path)) == b"\x00\r\n\xff"
    done = python("print(read_all('-'))", input=b"\x00\r\n\xff", stdout=subprocess.PIPE)
    assert done.stdout == b"b'\\x00\\r\\n\\xff'\n"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("none", "file-missing: none"),
        (".", r"not-a-file: ^\."),
        ("a\nb", r"file-missing: a.*nb"),
        ("a.ply ", "file-missing: ^'a.ply ' does not"),
        ("a\0b", "file-unreadable"),
    ],
)
def test_unreadable_sources(tmp_path, monkeypatch, source, error):
    monkeypatch.chdir(tmp_path)
    with raises(error) as caught, open_input(source):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.ply", "a.obj", "a.npy", "a.safetensors", "a.csv"])
def test_pointers_of_git_lfs(tmp_path, name):
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with raises("wrong-kind", f"{name}: is a pointer of Git LFS"), open_input(str(path)):
        pass


def test_closed_standard_input():
    done = python("try: read_all('-')\nexcept InputError as e: print(e)", stdin=-3, stdout=-1)
    assert done.returncode == 0
    script = 'exec 0<&-; exec "$0" -c \'from facedis_core.io.streams import *; read_all("-")\''
    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert b"standard input is closed" in done.stderr


def test_a_terminal_is_neither_read_nor_written_in_binary():
    leader, follower = pty.openpty()
    code = (
        "import sys\n"
        "for attempt in (lambda: read_all('-'), lambda: check_output('-', False),\n"
        "                lambda: open_output('-', force=False).__enter__(),\n"
        "                lambda: open_output('/dev/fd/1', force=False).__enter__()):\n"
        "    try: attempt()\n"
        "    except UsageError as error: print(error, file=sys.stderr)\n"
        "with open_output('-', force=False, binary=False) as stream: stream.write(b'text')\n"
    )
    done = python(code, stdin=follower, stdout=follower, stderr=subprocess.PIPE)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 4
    assert "standard input is a terminal" in lines[0]
    assert all("is a terminal and the output is binary; redirect it" in line for line in lines[1:])
    assert os.read(leader, 100) == b"text"
    os.close(leader)
    os.close(follower)


def write(target, data=b"new", **options) -> None:
    with open_output(str(target), force=options.pop("force", False), **options) as stream:
        stream.write(data)


def test_a_file_appears_only_when_whole(tmp_path):
    path = tmp_path / "out.ply"
    with open_output(str(path), force=False) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".tmp")
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "failure",
    [ValueError(), KeyboardInterrupt(), InputError("", ErrorCode.EMPTY), OSError(), SystemExit()],
)
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_left_behind_a_failure(tmp_path, failure, force):
    path = tmp_path / "out.ply"
    if force:
        path.write_bytes(b"old")
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), open_output(str(path), force=force) as stream:
        stream.write(b"half")
        raise failure
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if force else [])


def test_what_another_file_lacks_is_not_the_fault_of_the_output(tmp_path):
    with (
        raises("file-unreadable", r"nothing\.ply"),
        open_output(str(tmp_path / "out.ply"), force=False),
    ):
        (tmp_path / "nothing.ply").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_itself_cannot_be_written(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with raises("output-unwritable", "Too many levels"):
        write(tmp_path / "loop")


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "out.ply"
    path.write_bytes(b"old")
    for attempt in (lambda: check_output(str(path), False), lambda: write(path)):
        with raises("output-exists"):
            attempt()
    assert path.read_bytes() == b"old"
    write(path, force=True)
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out.ply"
    with (
        raises("output-exists"),
        open_output(str(path), force=False) as stream,
    ):
        stream.write(b"new")
        path.write_bytes(b"other")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"other"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_that_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode


@pytest.mark.parametrize(("old", "new"), [(0o600, 0o600), (0o444, 0o444), (0o2664, 0o664)])
@pytest.mark.parametrize("linked", [False, True])
def test_a_replaced_file_keeps_its_mode(tmp_path, old, new, linked):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(old)
    target = path
    if linked:
        target = tmp_path / "link"
        target.symlink_to(path)
    with open_output(str(target), force=True) as stream:
        (temporary,) = set(tmp_path.iterdir()) - {path, target}
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        stream.write(b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == new


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner_and_group(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write(path, force=True)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)


@pytest.mark.parametrize(("mode", "kept"), [(0o640, 0o600), (0o664, 0o644), (0o444, 0o444)])
def test_another_group_may_not_read_more_than_all_others(tmp_path, monkeypatch, mode, kept):
    def refuse(*arguments):
        raise PermissionError

    path = tmp_path / "out"
    path.write_bytes(b"old")
    found = Permissions.of(path)
    monkeypatch.setattr(os, "fchown", refuse)
    with path.open("r+b") as stream:
        replace(found, group=found.group + 1, mode=mode).give_to(stream.fileno())
    assert stat.S_IMODE(path.stat().st_mode) == kept


def test_a_replaced_file_keeps_its_access_list(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    # rw-r-----, and user 1234 may read: version, then tag, permissions and id of each entry
    entries = [(1, 6, -1), (2, 4, 1234), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    access_list = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *e) for e in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", access_list)
    except (AttributeError, OSError):
        pytest.skip("no access lists here")
    write(path, force=True)
    assert os.getxattr(path, "system.posix_acl_access") == access_list
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    write(link)  # to a file that is yet to be
    assert link.is_symlink()
    write(link, b"newer", force=True)
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"newer"
    with raises("output-exists"):
        write(link)


def test_a_temporary_file_can_be_read_back(tmp_path):
    with open_output(str(tmp_path / "out"), force=False) as stream:
        stream.write(b"abc")
        stream.seek(0)
        assert stream.read() == b"abc"


def test_folders(tmp_path):
    with raises("output-pattern"):
        write(tmp_path)
    with raises("output-unwritable", "none"):
        check_output(str(tmp_path / "none" / "out"), False)
    with raises("output-unwritable"):
        write(tmp_path / "none" / "out")
    with raises("output-unwritable"):
        write("/proc/none")
    (tmp_path / "file").touch()
    with raises("output-unwritable"):
        write(tmp_path / "file" / "out", parents=True)
    assert not (tmp_path / "none").exists()


def test_parents_are_created_and_taken_away_again(tmp_path):
    target = tmp_path / "a" / "b" / "out"
    check_output(str(target), False, parents=True)
    with pytest.raises(KeyboardInterrupt), open_output(str(target), force=False, parents=True):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    write(target, parents=True)
    assert target.read_bytes() == b"new"


def test_a_disk_without_room():
    with raises("disk-full", "/dev/full.* No space left"):
        write("/dev/full")
    write("/dev/null")


def test_a_fifo_is_written_in_place(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    write(fifo)
    reader.join()
    assert found == [b"new"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_the_reader_of_a_pipe_leaves():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with raises("reader-left"):
        write(f"/dev/fd/{write_end}", b"x" * 10**6)
    os.close(write_end)


def test_the_reader_of_standard_output_leaves():
    code = (
        "import os, sys\n"
        "try:\n"
        "    with open_output('-', force=False) as stream: stream.write(b'x' * 10**6)\n"
        "except ReaderLeft: os._exit(7)\n"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    assert python(code, stdout=write_end).returncode == 7
    os.close(write_end)


@pytest.mark.parametrize("target", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_descriptor_is_written_where_it_stands(tmp_path, target):
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as stream:
        stream.write(b"before ")
        write(target.format(stream.fileno()))
        stream.write(b" after")
    assert path.read_bytes() == b"before new after"


def test_standard_output_redirected_to_a_file(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as stream:
        python("with open_output('/dev/stdout', force=False) as s: s.write(b'a')", stdout=stream)
        python("with open_output('-', force=False) as s: s.write(b'b')", stdout=stream)
    assert path.read_bytes() == b"ab"


def test_a_descriptor_that_is_not_open():
    with raises("output-unwritable", "Bad file descriptor"):
        write("/dev/fd/987")


class TestNaming:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (InputError("has no vertices", ErrorCode.EMPTY), "a.ply: has no vertices"),
            (OSError(5, "Input/output error"), "a.ply: could not be read (Input/output error)"),
            (MemoryError(), "a.ply: does not fit into memory"),
            (InputError("a.ply is empty", ErrorCode.EMPTY), "a.ply is empty"),
            (InputError("a.ply: is empty", ErrorCode.EMPTY), "a.ply: is empty"),
            (InputError("x" * 5000, ErrorCode.EMPTY), f"a.ply: {'x' * 1000}..."),
        ],
    )
    def test_faults_have_the_name_of_their_source(self, error, message):
        with pytest.raises(InputError) as caught, naming("a.ply"):
            raise error
        assert str(caught.value) == message

    def test_other_errors_are_left_alone(self):
        with raises("arguments", "^wrong$"), naming("a.ply"):
            raise UsageError("wrong", ErrorCode.ARGUMENTS)


def test_long_paths_are_shown_by_their_ends():
    long = "/".join(["folder"] * 20 + ["scan.ply"])
    assert shown(long).startswith(".../folder/") and shown(long).endswith("/folder/scan.ply")
    assert len(shown(long)) <= 104
    assert shown("a/b/scan.ply") == "a/b/scan.ply"
    assert shown("x" * 300) == "..." + "x" * 100
