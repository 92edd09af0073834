"""What many tests share: two ways to run commands, and a small real model."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: small products, many processes
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: as the commands that train
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from browser import browser  # noqa: F401 - a fixture
from hypothesis import HealthCheck, settings
from runner import Result, run_command
from storage import s3, sftp  # noqa: F401 - fixtures
from synthetic import grid_mesh

from facedis_core.data.preparation import Preparation
from facedis_core.io.safetensors_file import read_safetensors, write_safetensors
from facedis_core.mesh.mesh import Mesh, topology_id, write_mesh
from facedis_core.model.config import PointNetConfig
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model, write_model
from facedis_core.registration.prior import RegistrationPrior, prior_of

TOOLS = Path(__file__).parent.parent / "tools"
REACH_MM = 6.0
RAW_EXTRA = 14  # vertices of a raw mesh that the prepared one leaves out


Run = Callable[..., Result]

# Examples write their files in tmp_path anew; a busy processor is slow.
settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", settings.get_profile("tests"), max_examples=4000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that no process waits for them at the end."""
    longest = {"test_readme.py": -2, "test_study.py": -1}
    items.sort(key=lambda item: longest.get(item.path.name, 0))


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> None:
    """Let what the tests start begin with the default action for SIGINT and SIGHUP.

    They come here ignored where the tests run in the background or under nohup, and processes
    inherit that. A signal with a handler is at its default in a program started from here, and
    with one that does nothing the tests themselves still ignore it. In a session of their own,
    where that can be had, those programs survive the end of the terminal as well.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda signum, frame: None)
            with suppress(PermissionError):  # the leader of a group of processes
                os.setsid()


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every command of the project as an executable of this Python."""
    folder = tmp_path_factory.mktemp("bin")
    for module in TOOLS.glob("fd_*.py"):
        script = folder / module.stem.replace("_", "-")
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module.stem} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture
def call(model_file: Path, tmp_path: Path) -> Run:
    """Run a command in this process, in an empty folder, with the small model as default.

    For options, input errors and the content of outputs; much faster than `shell`.
    """

    def run(
        line: str | Sequence[str],
        *,
        stdin: bytes | TextIO = b"",
        env: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> Result:
        variables = {"FACEDIS_MODEL": str(model_file), **(env or {})}
        return run_command(line, stdin=stdin, folder=folder or tmp_path, env=variables)

    return run


@pytest.fixture
def shell(commands: Path, model_file: Path, tmp_path: Path) -> Run:
    """Run a line in bash as a user would, in an empty folder, with the small model as default.

    For pipes, signals, terminals and devices, for what a command imports and for processes beside
    it. A pipe fails where any part of it fails.
    """

    def run(line: str, *, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            timeout=120,
            env={
                **os.environ,
                "PATH": f"{commands}:{os.environ['PATH']}",
                "FACEDIS_MODEL": str(model_file),
                **(env or {}),
            },
        )
        # bash may run the last command in its own place, and then dies of that command's signal
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Result(code, done.stdout, done.stderr.decode())

    return run


@pytest.fixture
def endless_pipe(tmp_path: Path) -> Callable[[str, bytes, bytes], Path]:
    """Make a named pipe that holds the same again and again, until its reader leaves."""

    def make(name: str, repeated: bytes, beginning: bytes = b"") -> Path:
        path = tmp_path / name
        os.mkfifo(path)

        def feed() -> None:
            with path.open("wb", buffering=0) as pipe, suppress(BrokenPipeError):
                pipe.write(beginning)
                while True:
                    pipe.write(repeated)

        threading.Thread(target=feed, daemon=True).start()
        return path

    return make


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment for `shell` in which no package of an extra is installed."""
    folder = tmp_path_factory.mktemp("without_torch")
    absent = ("torch", "scipy", "fast_simplification", "PIL", "distributed", "fsspec")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {absent}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{folder}:{inherited}" if inherited else str(folder)}


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 36 vertices with random weights, made without torch."""
    return save_model(tmp_path_factory.mktemp("model") / "small.safetensors", seed=1)


@pytest.fixture(scope="session")
def other_model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same faces that speaks other latents."""
    return save_model(tmp_path_factory.mktemp("model") / "other.safetensors", seed=2)


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    """The small model, loaded."""
    return load_model(model_file)


@pytest.fixture(scope="session")
def prior() -> RegistrationPrior:
    """The registration prior of the bundled models."""
    return prior_of(load_model("ict-pointnet").preparation)


def save_model(path: Path, seed: int, latent: int | None = None) -> Path:
    """Write a model of the bent grid with random weights; raw meshes are in cm and reordered.

    Its latents have sizes 3 and 2, or `latent` both.
    """
    rng = np.random.default_rng(seed)
    mean_face, triangles = grid_mesh()
    raw = raw_mesh(mean_face)
    sizes = {"identity": latent or 3, "expression": latent or 2}
    config = PointNetConfig(len(mean_face), **sizes, channels=(8, 16))
    weights = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in config.weight_shapes().items()
    }
    for name in weights:
        if name.endswith("running_var"):
            weights[name] = np.ones_like(weights[name])
        if name.endswith("decoder.output.weight") or name.endswith("decoder.output.bias"):
            weights[name] *= 0.05
    model = Model(
        config=config,
        weights=weights,
        mean_face=mean_face,
        origin=mean_face.mean(axis=0),
        scale=60.0,
        preparation=Preparation(
            triangles=triangles,
            vertex_index=raw_order(len(mean_face)),
            raw_vertices=len(raw.vertices),
            raw_topology=topology_id(raw.triangles),
            raw_unit_mm=10.0,
        ),
        reach_mm=REACH_MM,
    )
    with path.open("w+b") as stream:
        write_model(stream, model)
    return path


def raw_order(count: int) -> np.ndarray:
    """Which vertex of the raw mesh each prepared one is."""
    chosen = np.random.default_rng(0).permutation(count + RAW_EXTRA)[:count]
    return chosen.astype(np.int32)


def raw_mesh(vertices: np.ndarray, name: str = "") -> Mesh:
    """The raw mesh, in cm, whose prepared form has these vertices in mm."""
    chosen = raw_order(len(vertices))
    raw = np.random.default_rng(0).normal(size=(len(vertices) + RAW_EXTRA, 3))
    raw[chosen] = vertices / 10
    _, triangles = grid_mesh()
    return Mesh(raw.astype(np.float32), chosen[triangles].astype(np.int32), name)


def face(seed: int, spread_mm: float = 1.0) -> np.ndarray:
    """A prepared face, (36, 3) mm, near the mean face of the small model."""
    mean_face, _ = grid_mesh()
    offset = np.random.default_rng(seed).normal(0, spread_mm, mean_face.shape)
    return (mean_face + offset).astype(np.float32)


def save_mesh(path: Path, vertices: np.ndarray, triangles: np.ndarray | None = None) -> Path:
    """Write a prepared face by the suffix of its path; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    triangles = grid_mesh()[1] if triangles is None else triangles
    with path.open("wb") as stream:
        write_mesh(stream, Mesh(vertices, triangles, path.stem, unit_mm=1.0), path.suffix)
    return path


def garbled(
    path: Path,
    tensors: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
) -> bytes:
    """A file of ours with some tensors or metadata replaced or left out, its id as it was."""
    file = read_safetensors(path)
    arrays = file.tensors | dict(tensors or {})
    values = file.metadata | dict(metadata or {})
    stream = io.BytesIO()
    write_safetensors(
        stream,
        file.kind,
        {name: array for name, array in arrays.items() if name not in drop},
        {key: value for key, value in values.items() if key not in drop},
    )
    return stream.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content, of all files."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder `faces` with five faces, one below a folder, one with spaces and umlauts."""
    folder = tmp_path / "faces"
    for seed, name in enumerate(("ann.ply", "bob.ply", "cy.obj", "deep/dan.ply", "eva grün.ply")):
        save_mesh(folder / name, face(seed))
    return folder
