"""Real storages for tests: an S3 server, an SFTP server, and a proxy that drops connections."""

import getpass
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

SECRET = "verysecret"
SSHD_VARIABLE = "FACEDIS_SSHD"  # path of a sshd that is not installed


@dataclass
class Storage:
    """A server with an empty folder.

    Attributes:
        url: of the folder, ends in `/`.
        port: of the server, on 127.0.0.1.
        options: of its file system in fsspec.
        env: the same as variables for another process.
    """

    url: str
    port: int
    options: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """Of its URLs."""
        return self.url.partition("://")[0]

    @cached_property
    def _system(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.scheme, **self.options, skip_instance_cache=True)

    @property
    def system(self) -> Any:
        """Its file system, which has forgotten what it knew."""
        self._system.invalidate_cache()
        return self._system

    def path(self, name: str) -> str:
        """Where a file below the folder is in the file system."""
        rest = f"{self.url.partition('://')[2]}{name}"
        return rest if self.scheme == "s3" else f"/{rest.partition('/')[2]}"

    def put(self, name: str, content: bytes) -> str:
        """Write a file; returns its URL."""
        system, path = self.system, self.path(name)
        if self.scheme != "s3":
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, content)
        return f"{self.url}{name}"

    def get(self, name: str) -> bytes:
        """Read a file."""
        return bytes(self.system.cat_file(self.path(name)))

    def names(self) -> list[str]:
        """All files below the folder, hidden ones too."""
        base = self.path("")
        return sorted(str(name).removeprefix(base) for name in self.system.find(base))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, *, required: bool = False, **kwargs: Any
) -> Iterator[None]:
    """A server, once it answers; if it does not start the test is skipped, or fails."""
    with tempfile.TemporaryFile() as words:
        server = subprocess.Popen(command, stdout=words, stderr=words, **kwargs)
        try:
            deadline = time.monotonic() + 60
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    words.seek(0)
                    said = words.read()[-500:].decode(errors="replace").strip()
                    (pytest.fail if required else pytest.skip)(f"{command[0]}: {said}")
                time.sleep(0.05)
            yield
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def s3() -> Iterator[Storage]:
    """Moto's S3 in a process of its own, with a bucket."""
    for module in ("moto", "flask", "flask_cors", "s3fs"):
        pytest.importorskip(module)
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port):
        endpoint = f"http://127.0.0.1:{port}"
        options = {"endpoint_url": endpoint, "key": "tests", "secret": SECRET}
        env = {f"FSSPEC_S3_{key.upper()}": value for key, value in options.items()}
        storage = Storage("s3://bucket/", port, options, env)
        storage.system.mkdir("bucket")
        yield storage


@pytest.fixture(scope="session")
def sftp() -> Iterator[Storage]:
    """An unprivileged sshd of OpenSSH with keys of its own."""
    # not in the folder of pytest, which is private to the user of the tests
    with tempfile.TemporaryDirectory() as folder, _sshd(Path(folder)) as storage:
        yield storage


@contextmanager
def _sshd(folder: Path) -> Iterator[Storage]:
    pytest.importorskip("paramiko")
    places = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    given = os.environ.get(SSHD_VARIABLE)
    sshd = given or shutil.which("sshd", path=places)
    if sshd is None:
        pytest.skip(f"needs sshd (Debian: openssh-server), or its path in ${SSHD_VARIABLE}")
    user, port = getpass.getuser(), free_port()
    as_other: dict[str, Any] = {}
    if os.geteuid() == 0:  # sshd of root wants an account of its own and a folder in /run
        user = "nobody"
        as_other = {"user": user, "group": "nogroup", "extra_groups": []}
    home, files = folder / "sshd", folder / "files"
    for made in (home, files):
        made.mkdir()
    import paramiko

    for name in ("host", "user"):
        key = paramiko.ECDSAKey.generate()
        key.write_private_key_file(str(home / name))
        (home / f"{name}.pub").write_text(f"{key.get_name()} {key.get_base64()}\n")
    (home / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/user.pub\nStrictModes no\n"
        f"UsePAM {'yes' if as_other else 'no'}\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    if as_other:
        for path in (home, files, *home.iterdir()):
            shutil.chown(path, user)
        folder.chmod(0o711)
    line = [sshd, "-D", "-e", "-f", str(home / "config")]
    with running(line, port, required=bool(given), **as_other):
        options = {
            "host": "127.0.0.1",
            "port": port,
            "username": user,
            "key_filename": str(home / "user"),
            "look_for_keys": False,
            "allow_agent": False,
        }
        env = {
            "FSSPEC_SFTP_KEY_FILENAME": str(home / "user"),
            "FSSPEC_SFTP_PASSWORD": SECRET,
        }
        url = f"sftp://{user}@127.0.0.1:{port}{files}/"
        yield Storage(url, port, options, env)


class Proxy:
    """A TCP proxy on 127.0.0.1 that spoils what the server sends.

    Args:
        port: of the server.
        cuts: bytes after which connections are cut, one after the other; None = not.
        delay: seconds before anything is passed on.
        stall: wait for ever in place of a cut.

    Attributes:
        port: of the proxy.
        cut: number of connections that were cut.
    """

    def __init__(
        self, port: int, cuts: Iterator[int | None], *, delay: float = 0.0, stall: bool = False
    ) -> None:
        self._server, self._cuts, self._delay, self._stall = port, cuts, delay, stall
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.cut = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.close()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                left = next(self._cuts, None)
                for one, other, limit in ((client, server, None), (server, client, left)):
                    threading.Thread(
                        target=self._pass, args=(one, other, limit), daemon=True
                    ).start()

    def _pass(self, one: socket.socket, other: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                if self._delay:
                    time.sleep(self._delay)
                if left is not None and len(content) >= left:
                    other.sendall(content[:left])
                    self.cut += 1
                    if self._stall:
                        return
                    break
                left = None if left is None else left - len(content)
                other.sendall(content)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def random_cuts(seed: int, most: int) -> Iterator[int | None]:
    """Cuts after random numbers of bytes, for ever; every second connection is left alone."""
    random_ = random.Random(seed)
    while True:
        yield random_.randrange(most)
        yield None
