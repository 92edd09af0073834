"""Storages whose connections break, stall or end too early."""

import gzip
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest
from storage import Proxy, Storage, random_cuts

from facedis_core.errors import InputError, OutputError
from facedis_core.io import remote, remote_input
from facedis_core.io.streams import open_output, read_all

fsspec = pytest.importorskip("fsspec")
CONTENT = random.Random(0).randbytes((2 << 20) + 12345)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "_PAUSES", (0.0,) * 3)
    remote._shared.clear()
    yield
    remote._shared.clear()


@pytest.fixture
def server(request) -> Storage:
    """A server with a file."""
    storage: Storage = request.getfixturevalue(request.param)
    storage.put("file.bin", CONTENT)
    return storage


@contextmanager
def through(monkeypatch, storage: Storage, cuts, **kwargs) -> Iterator[tuple[Proxy, str]]:
    """A proxy before a server, and the URL of its folder there."""
    with Proxy(storage.port, cuts, **kwargs) as proxy:
        options = dict(storage.options)
        if storage.scheme == "s3":
            options["endpoint_url"] = f"http://127.0.0.1:{proxy.port}"
            options["config_kwargs"] = {"retries": {"max_attempts": 0}}
            monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)
        for known in ("host", "port", "username"):  # which the URL says
            options.pop(known, None)
        monkeypatch.setitem(fsspec.config.conf, storage.scheme, options)
        yield proxy, storage.url.replace(f":{storage.port}/", f":{proxy.port}/")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["s3", "sftp"], indirect=True)
class TestServers:
    def test_broken_reads_go_on_where_they_were(self, monkeypatch, server):
        cuts = random_cuts(3, 500_000)
        with through(monkeypatch, server, cuts) as (proxy, url):
            assert read_all(f"{url}file.bin") == CONTENT
            assert proxy.cut > 0

    def test_a_batch_is_whole_or_names_what_it_lacks(
        self, call, faces, monkeypatch, server, tmp_path
    ):
        sources = {}
        for n in range(12):
            name = f"f{n:02d}"
            sources[name] = (faces / "ann.ply").read_bytes() if n % 2 else CONTENT[:50_000]
            server.put(f"many/{name}.ply", sources[name])
        # the first connection always, the others by chance: who reads which file is not known
        cuts = chain([500], random_cuts(5, 60_000))
        with through(monkeypatch, server, cuts) as (proxy, url):
            line = f"fd-encode {url}many/ --keep-going --failures f.jsonl -o there.npy"
            result = call(line)
        assert result.code == 1 and proxy.cut, result.err
        failed = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
        good = {n for n in sources if int(n[1:]) % 2}
        named = {Path(line["item"]).stem for line in failed}
        rows = np.load(tmp_path / "there.npy")
        assert {*rows["name"]} == good - named and list(rows["name"]) == sorted(rows["name"])
        assert call("fd-encode faces/ann.ply -o here.npy").code == 0
        (here,) = np.load(tmp_path / "here.npy")["identity"]
        assert all((row == here).all() for row in rows["identity"])

    def test_one_that_always_breaks_is_given_up(self, monkeypatch, server):
        with through(monkeypatch, server, iter([100] * 1000)) as (proxy, url):
            with pytest.raises(InputError, match=r"file.bin could not be reached"):
                read_all(f"{url}file.bin")
            assert proxy.cut < 20
            with (
                pytest.raises(OutputError, match=r"new.bin could not be written"),
                open_output(f"{url}new.bin", force=True) as stream,
            ):
                stream.write(b"content")
        # an answer may be lost, but a file is whole
        assert "new.bin" not in server.names() or server.get("new.bin") == b"content"

    def test_one_that_stalls_is_left(self, monkeypatch, server):
        monkeypatch.setenv(remote.TIMEOUT_VARIABLE, "0.5")
        monkeypatch.setattr(remote, "_PAUSES", (0.0,))
        with (
            through(monkeypatch, server, iter([30] * 100), stall=True) as (_, url),
            pytest.raises(InputError, match=r"has not answered for 0.5 s"),
        ):
            read_all(f"{url}file.bin")


@pytest.mark.parametrize(
    ("words", "calls"), [("Authentication failed: transport shut down or saw EOF", 2), ("No", 1)]
)
def test_a_login_that_breaks_is_no_refusal(words, calls):
    paramiko = pytest.importorskip("paramiko")
    called = []

    def work() -> int:
        called.append(1)
        if len(called) == 1:
            raise paramiko.AuthenticationException(words)
        return 7

    with nullcontext() if calls == 2 else pytest.raises(paramiko.AuthenticationException):
        assert remote.try_again("sftp://host/a", work) == 7
    assert len(called) == calls


@contextmanager
def refusing_sftp(folder: Path, refused: set[int]) -> Iterator[int]:
    """An SFTP server whose writes of these numbers fail, as on a disk that is full for a moment.

    Gives its port.
    """
    paramiko = pytest.importorskip("paramiko")
    numbers = count(1)

    class Login(paramiko.ServerInterface):
        def check_auth_password(self, username, password):
            return paramiko.AUTH_SUCCESSFUL

        def check_channel_request(self, kind, chanid):
            return paramiko.OPEN_SUCCEEDED

    class File(paramiko.SFTPHandle):
        def write(self, offset, data):
            if next(numbers) in refused:
                return paramiko.SFTP_FAILURE
            return super().write(offset, data)

    class Files(paramiko.SFTPServerInterface):
        def stat(self, path):
            try:
                return paramiko.SFTPAttributes.from_stat((folder / path[1:]).stat())
            except FileNotFoundError:
                return paramiko.SFTP_NO_SUCH_FILE

        def open(self, path, flags, attr):
            file = File(flags)
            file.writefile = (folder / path[1:]).open("wb")
            return file

        def posix_rename(self, oldpath, newpath):
            (folder / oldpath[1:]).replace(folder / newpath[1:])
            return paramiko.SFTP_OK

        def remove(self, path):
            (folder / path[1:]).unlink()
            return paramiko.SFTP_OK

    key = paramiko.ECDSAKey.generate()

    def accept() -> None:
        with suppress(OSError):  # closed
            while True:
                transport = paramiko.Transport(listening.accept()[0])
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
                transport.start_server(server=Login())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.parametrize(("refused", "whole"), [({3}, True), (set(range(3, 1000)), False)])
def test_a_write_that_is_refused_leaves_no_hole(monkeypatch, tmp_path, refused, whole):
    """Paramiko does not wait for what a server answers to each 32 KB."""
    monkeypatch.setitem(fsspec.config.conf, "sftp", {"password": "any"})
    content = CONTENT[:200_000]
    with refusing_sftp(tmp_path, refused) as port:
        url = f"sftp://ann@127.0.0.1:{port}/out.bin"
        with (
            nullcontext() if whole else pytest.raises(OutputError, match="answers OSError"),
            open_output(url, force=True) as stream,
        ):
            stream.write(content)
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"] * whole
    assert not whole or (tmp_path / "out.bin").read_bytes() == content


@pytest.mark.slow
def test_an_interrupt_ends_the_waiting_at_once(commands, sftp):
    with Proxy(sftp.port, iter([100] * 100), stall=True) as proxy:
        url = sftp.url.replace(f":{sftp.port}/", f":{proxy.port}/")
        command = [str(commands / "fd-encode"), f"{url}a.ply", "-o", f"{url}out.npy"]
        env = {**os.environ, **sftp.env}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
        deadline = time.monotonic() + 30
        while not proxy.cut and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        words = process.communicate(timeout=30)[1]
        assert process.returncode in (130, -signal.SIGINT), words
        assert time.monotonic() - started < 3


class _Answers(http.server.BaseHTTPRequestHandler):
    """A file with as much of its content, and as much said of it, as its name tells."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        ways = self.path.strip("/").removesuffix(".obj").split("-")
        content = b"v 0 0 0\n" * 1000
        sent = gzip.compress(os.urandom(20_000)) if "gzip" in ways else content
        if ways[0].isdigit():
            self.send_error(int(ways[0]))
            return
        self.send_response(200)
        if "gzip" in ways:
            self.send_header("Content-Encoding", "gzip")
        if "length" in ways:
            self.send_header("Content-Length", str(len(sent)))
        if "chunked" in ways:
            self.send_header("Transfer-Encoding", "chunked")
            sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent)
        if "short" in ways:
            sent = sent[: len(sent) // 2]
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    pytest.importorskip("aiohttp")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ways", ["length", "chunked", "gzip-length", "gzip-chunked"])
def test_whole_files_of_the_web_are_read(web, ways):
    assert len(read_all(f"{web}/{ways}.obj")) == (20_000 if "gzip" in ways else 8_000)


@pytest.mark.parametrize(
    "ways",
    [
        *("length-short", "chunked-short", "gzip-length-short", "gzip-chunked-short"),
        *("close", "close-short", "gzip-close", "gzip-close-short"),  # nothing tells their end
    ],
)
def test_files_of_the_web_that_may_not_be_whole_are_refused(web, ways):
    with pytest.raises(InputError) as caught:
        read_all(f"{web}/{ways}.obj")
    assert caught.value.code == ("unsupported" if "close" in ways else "file-unreadable")
    assert f"{web}/{ways}.obj" in str(caught.value)


def test_a_server_of_the_web_that_refuses(web):
    with pytest.raises(InputError, match="does not exist"):
        read_all(f"{web}/404.obj")
    with pytest.raises(InputError, match=r"could not be reached: the storage answers .* 503"):
        read_all(f"{web}/503.obj")
    with pytest.raises(InputError, match=r"could not be reached: the storage answers Client\w+$"):
        read_all("http://127.0.0.1:9/absent.obj")


def test_a_storage_that_gives_a_little_at_a_time(monkeypatch):
    fsspec.filesystem("memory").pipe_file("/small.bin", CONTENT[:5000])
    real = remote_input._read_some
    monkeypatch.setattr(
        remote_input, "_read_some", lambda stream, place, size: real(stream, place, min(size, 999))
    )
    assert remote_input.read_remote("memory://small.bin", 5000) == CONTENT[:5000]
    assert remote_input.read_remote("memory://small.bin", 4999) is None
    assert read_all("memory://small.bin") == CONTENT[:5000]


def test_a_file_that_changes_meanwhile_is_refused(monkeypatch):
    system = fsspec.filesystem("memory")
    system.pipe_file("/changing.bin", b"a" * (3 << 20))
    with remote_input.open_remote_input("memory://changing.bin") as stream:
        assert stream.read(10) == b"a" * 10
        system.pipe_file("/changing.bin", b"b" * (2 << 20))
        stream.raw._stream = None  # its connection is lost
        with pytest.raises(InputError, match="changed while it was read"):
            stream.read()
    system.rm("/changing.bin")


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_number(monkeypatch, given):
    monkeypatch.setenv(remote.TIMEOUT_VARIABLE, given)
    with pytest.raises(Exception, match="expected seconds"):
        read_all("memory://x.bin")
