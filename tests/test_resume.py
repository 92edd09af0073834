"""Runs that are stopped, at any moment and in any way: what stays, what the next one makes of it.

The truth is always the file that a run makes which nobody disturbs.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ict_twin
import numpy as np
import pytest
import trees
from conftest import Run, face, save_mesh

from facedis_core.errors import Stopped
from facedis_core.journal import Journal
from facedis_core.prepare import Request, prepare_face_set
from facedis_core.sources import open_source
from facedis_core.sources.registered import FILES_PER_BLOCK

PATTERN = "{subject}_{expression}.ply"
COMMAND = f"fd-prep folder data --pattern '{PATTERN}' -o set.safetensors"
EXPRESSIONS = ("neutral", *"abcdefghi")
# So many that reading them takes longer than to notice that it has begun, and that an error in the
# last ones leaves what was read before.
LONG, SHORT = 3500, 320


def write_people(root: Path, count: int) -> Path:
    """`count` faces, links to a few files: most of their blocks differ from one another."""
    originals = [save_mesh(root.parent / "originals" / f"{k}.ply", face(k)) for k in range(23)]
    root.mkdir()
    for k in range(count):
        name = f"p{k // len(EXPRESSIONS):04d}_{EXPRESSIONS[k % len(EXPRESSIONS)]}.ply"
        os.link(originals[k % len(originals)], root / name)
    return root


@dataclass(frozen=True)
class Truth:
    """A folder of faces, and the set that an undisturbed run makes of it."""

    root: Path
    whole: bytes


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Truth]:
    """By how many faces."""
    made: dict[int, Truth] = {}

    def make(count: int) -> Truth:
        if count not in made:
            folder = tmp_path_factory.mktemp("truth")
            root = write_people(folder / "data", count)
            opened = open_source("folder", root, {"pattern": PATTERN, "seed": 0})
            prepare_face_set(opened, str(folder / "set.safetensors"))
            made[count] = Truth(root, (folder / "set.safetensors").read_bytes())
        return made[count]

    return make


@pytest.fixture
def people(tmp_path: Path, truth: Callable[[int], Truth]) -> Callable[[int], bytes]:
    """Lay so many faces into the folder `data`; the set that must come out."""

    def lay(count: int) -> bytes:
        shutil.copytree(truth(count).root, tmp_path / "data", copy_function=os.link)
        return truth(count).whole

    return lay


def stop_after(blocks: int, error: type[BaseException]) -> Callable[[int], None]:
    """An `advance` that is interrupted when so many blocks have been read."""
    seen = 0

    def advance(faces: int) -> None:
        nonlocal seen
        seen += 1
        if seen == blocks:
            raise error

    return advance


def opened_source(source: str, folder: Path) -> tuple[Any, Any]:
    """A source of at least four blocks, and what it follows."""
    from facedis_core.follow import load_like

    if source == "coma":
        trees.coma(folder / "coma", subjects=trees.COMA_SUBJECTS[:1], frames=20)
        return open_source("coma", folder / "coma", {}), None
    if source == "ict":
        ict_twin.write_folder(folder / "FaceXModel")
        vertices, triangles = ict_twin.raw_neutral()
        for person in "ab":
            (folder / "raw").mkdir(exist_ok=True)
            ict_twin.write(folder / "raw" / f"{person}_neutral.obj", vertices, triangles)
        options = {"pattern": "{subject}_{expression}.obj", "units": "cm", "simplify": 24}
        options["protocol"] = "subjects:0.5"
        prepare_face_set(open_source("folder", folder / "raw", options), str(folder / "like"))
        options = {"subjects": 4, "seed": 3}
        return open_source("ict", folder / "FaceXModel", options), load_like(folder / "like")
    write_people(folder / "data", 70)
    return open_source("folder", folder / "data", {"pattern": PATTERN, "align": "rigid"}), None


@pytest.mark.parametrize(
    ("source", "error", "raised"),
    [
        ("folder", SystemExit, SystemExit),
        ("folder", KeyboardInterrupt, Stopped),
        ("coma", KeyboardInterrupt, Stopped),
        ("ict", SystemExit, SystemExit),
    ],
)
def test_stopped_after_every_block_in_turn(tmp_path, source, error, raised):
    opened, like = opened_source(source, tmp_path)
    prepare_face_set(opened, str(tmp_path / "whole"), Request(like=like))
    whole = (tmp_path / "whole").read_bytes()
    target = tmp_path / "set.safetensors"
    blocks, faces = len(opened.source.blocks()), len(opened.source.labels.names)
    assert blocks >= 4
    for number in range(blocks):
        said: list[str] = []
        # What was read before counts as one step.
        request = Request(
            like=like, advance=stop_after(2 if number else 1, error), announce=said.append
        )
        with pytest.raises(raised) as stopped:
            prepare_face_set(opened, str(target), request)
        if raised is Stopped:
            assert "the same command goes on" in str(stopped.value)
        assert [("going on" in line) for line in said] == [True] * (number > 0)
        assert not target.exists()
    said = []
    prepare_face_set(opened, str(target), Request(like=like, announce=said.append))
    assert said == [f"going on where a run stopped after {faces} faces"]
    assert target.read_bytes() == whole
    assert not target.with_name(f"{target.name}.part").exists()


def test_a_frame_that_others_were_compared_with_has_changed(tmp_path):
    """CoMA's levels are distances to a sequence's first frame, which may be in another block."""
    subject = trees.COMA_SUBJECTS[0]
    tree = trees.coma(
        tmp_path / "data", subjects=[subject], expressions=["bareteeth"], frames=3 * FILES_PER_BLOCK
    )

    def prepare(name: str, **request: Any) -> bytes:
        opened = open_source("coma", tree.root, {})
        prepare_face_set(opened, str(tmp_path / name), Request(**request))
        return (tmp_path / name).read_bytes()

    with pytest.raises(SystemExit):
        prepare("set", advance=stop_after(2, SystemExit))
    first, other = (tree.root / trees.coma_name(subject, "bareteeth", k) for k in (1, 8))
    first.write_bytes(other.read_bytes())
    assert prepare("set") == prepare("whole")


def test_frames_compared_without_their_broken_first_one(tmp_path):
    """The same, where it could not be read at first and was fetched again."""
    subject = trees.COMA_SUBJECTS[0]
    tree = trees.coma(
        tmp_path / "data", subjects=[subject], expressions=["bareteeth"], frames=3 * FILES_PER_BLOCK
    )
    first, other = (tree.root / trees.coma_name(subject, "bareteeth", k) for k in (1, 8))
    trees.truncate(first)

    def prepare(name: str, **request: Any) -> bytes:
        opened = open_source("coma", tree.root, {})
        prepare_face_set(opened, str(tmp_path / name), Request(keep_going=True, **request))
        return (tmp_path / name).read_bytes()

    with pytest.raises(SystemExit):
        prepare("set", advance=stop_after(2, SystemExit))
    first.unlink()
    shutil.copy(other, first)
    assert prepare("set") == prepare("whole")


@dataclass(frozen=True)
class Halted:
    """A folder in which a command has stopped at a broken file, which is whole again by now."""

    folder: Path
    broken: Path
    whole: bytes

    @property
    def part(self) -> Path:
        return self.folder / "set.safetensors.part"

    @property
    def records(self) -> list[dict[str, Any]]:
        """What the journal says is done."""
        journal = Journal(self.part / "done.jsonl")
        try:
            return journal.read()
        finally:
            journal.close()

    def done_files(self) -> list[Path]:
        """Files that were read, less neutrals, of which the first are read by every run."""
        files = sorted((self.folder / "data").iterdir())
        read = [files[row] for record in self.records for row in record["rows"]]
        return [path for path in read if "neutral" not in path.name]


@pytest.fixture(scope="module")
def halts(
    commands: Path, truth: Callable[[int], Truth], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """Folders in which a command has halted, made once, by its number of jobs."""
    made: dict[int, Path] = {}

    def halt(jobs: int) -> Path:
        if jobs not in made:
            folder = made[jobs] = tmp_path_factory.mktemp("halted")
            shutil.copytree(truth(SHORT).root, folder / "data", copy_function=os.link)
            path = sorted((folder / "data").iterdir())[-4]
            content = path.read_bytes()
            replace_file(path, content[:300])
            done = subprocess.run(
                ["bash", "-c", f"{COMMAND} --jobs {jobs}"],
                cwd=folder,
                env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
                capture_output=True,
                timeout=120,
            )
            error = done.stderr.decode()
            assert done.returncode == 3 and len(error.splitlines()) == 1, error
            assert path.name in error and "--keep-going" in error
            assert sorted(p.name for p in folder.iterdir()) == ["data", "set.safetensors.part"]
            replace_file(path, content)
            shutil.copytree(folder / "data", folder / "original", copy_function=os.link)
        return made[jobs]

    return halt


@pytest.fixture
def halted(
    halts: Callable[[int], Path], truth: Callable[[int], Truth], tmp_path: Path
) -> Callable[..., Halted]:
    """What such a command has left, laid where the commands of `shell` run.

    The data stay at their place, for a run goes on only with the same folder; each test has them
    as they were.
    """

    def lay(jobs: int = 1) -> Halted:
        folder = halts(jobs)
        shutil.rmtree(folder / "data")
        shutil.copytree(folder / "original", folder / "data", copy_function=os.link)
        (tmp_path / "data").symlink_to(folder / "data")
        shutil.copytree(folder / "set.safetensors.part", tmp_path / "set.safetensors.part")
        broken = sorted((tmp_path / "data").iterdir())[-4]
        return Halted(tmp_path, broken, truth(SHORT).whole)

    return lay


def replace_file(path: Path, content: bytes, *, same_time: bool = False) -> None:
    """A new file of that name; others that were linked with it stay as they are."""
    before = path.stat()
    path.unlink()
    path.write_bytes(content)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def check_finished(shell: Run, halted: Halted, command: str = COMMAND) -> list[str]:
    """The command ends well, makes the right set, and leaves nothing else; what it said."""
    done = shell(f"{command} --jobs 1")
    assert done.code == 0, done.err
    assert (halted.folder / "set.safetensors").read_bytes() == halted.whole
    left = {path.name for path in halted.folder.iterdir()}
    assert left == {"data", "set.safetensors", "set.report.json"}
    return done.err.splitlines()


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_what_is_missing_is_read(shell, halted, jobs):
    run = halted(jobs)
    faces = sum(len(record["rows"]) for record in run.records)
    assert faces >= 256
    for path in run.done_files():  # who reads these again cannot make the same set
        replace_file(path, b"x" * path.stat().st_size, same_time=True)
    lines = check_finished(shell, run)
    assert lines == [f"fd-prep: warning: going on where a run stopped after {faces} faces"]
    report = json.loads((run.folder / "set.report.json").read_text())
    assert report["faces"] == SHORT and not any(report["left_out"].values())


def test_a_file_that_has_changed_is_read_again(shell, halted, tmp_path):
    run = halted()
    first, second = run.done_files()[0], run.done_files()[100]
    replace_file(first, b"x" * first.stat().st_size)
    done = shell(f"{COMMAND} --jobs 1")
    assert done.code == 3 and first.name in done.err.splitlines()[-1]
    # a face with another content, and one that comes back as it was but later
    original = (tmp_path / "data" / "p0019_a.ply").read_bytes()
    replace_file(first, original)
    replace_file(second, second.read_bytes())
    done = shell(f"{COMMAND} --jobs 1")
    assert done.code == 0 and "going on" in done.line
    made = (tmp_path / "set.safetensors").read_bytes()
    assert shell(f"{COMMAND} --jobs 1 --force").err == ""
    assert (tmp_path / "set.safetensors").read_bytes() == made != run.whole


def test_the_same_command_with_keep_going_goes_on(shell, halted):
    run = halted()
    replace_file(run.broken, b"ply\n")
    done = shell(f"{COMMAND} --jobs 1 --keep-going")
    assert done.code == 1 and "going on" in done.err and run.broken.stem in done.err
    report = json.loads((run.folder / "set.report.json").read_text())
    assert list(report["left_out"]["failed"]) == [run.broken.stem]
    assert report["faces"] == SHORT - 1
    assert not run.part.exists()


@pytest.mark.parametrize("change", ["--units cm", "a new file"])
def test_other_options_or_files_start_anew(shell, halted, change):
    run = halted()
    command = COMMAND
    if change == "a new file":
        save_mesh(run.folder / "data" / "p9999_neutral.ply", face(1))
    else:
        command = f"{COMMAND} {change}"
    done = shell(f"{command} --jobs 1")
    assert done.code == 0 and "starting anew" in done.line
    made = (run.folder / "set.safetensors").read_bytes()
    again = shell(f"{command} --jobs 1 --force")
    assert (again.code, again.err) == (0, "")
    assert (run.folder / "set.safetensors").read_bytes() == made
    assert not run.part.exists()


def test_no_resume_starts_anew(shell, halted):
    run = halted()
    garbled = run.done_files()[7]
    original = garbled.read_bytes()
    replace_file(garbled, b"x" * len(original), same_time=True)
    done = shell(f"{COMMAND} --jobs 1 --no-resume")
    assert done.code == 3 and garbled.name in done.line
    replace_file(garbled, original)
    assert check_finished(shell, run, f"{COMMAND} --no-resume") == []


def test_a_failing_disk_has_harmed_what_was_kept(shell, halted):
    """A line of the journal, and a face of the first block."""
    run = halted()
    faces = sum(len(record["rows"]) for record in run.records)
    journal = run.part / "done.jsonl"
    journal.write_bytes(b'{"event": "done"}\n' + journal.read_bytes())
    with (run.part / "faces.bin").open("r+b") as stream:
        stream.write(b"\xff" * 50)
    first = next(record for record in run.records if 0 in record["rows"])
    (line,) = check_finished(shell, run)
    assert line.endswith(f"after {faces - len(first['rows'])} faces")


def test_a_part_that_is_not_ours(shell, people, tmp_path):
    people(SHORT)
    part = tmp_path / "set.safetensors.part"
    part.mkdir()
    (part / "novel.txt").write_text("chapter 1")
    done = shell(f"{COMMAND} --jobs 1")
    assert done.code == 2 and "novel.txt" in done.line and "move the folder away" in done.line
    assert sorted(path.name for path in part.iterdir()) == ["novel.txt"]
    assert not (tmp_path / "set.safetensors").exists()


@dataclass(frozen=True)
class Running:
    """A command with a session, that is a group of processes, of its own."""

    process: subprocess.Popen[bytes]
    folder: Path

    def others(self) -> list[int]:
        """The processes of the session that are alive, less the command itself."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.process.pid:
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    def workers(self) -> list[int]:
        found = []
        for pid in self.others():
            try:
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            except OSError:
                continue
        return found

    def end(self) -> tuple[int, str]:
        """Wait; exit code and stderr."""
        _, error = self.process.communicate(timeout=30)
        return self.process.returncode, error.decode()


@pytest.fixture
def start(commands: Path, tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Start a command in the background, in the test's folder."""
    started: list[Running] = []

    def run(options: str) -> Running:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {COMMAND} {options}"],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(Running(process, tmp_path))
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGCONT)
            running.process.kill()
            running.end()


def wait_until(holds: Callable[[], bool], running: Running | None = None) -> bool:
    """Until it holds, the command has ended, or half a minute has passed."""
    end = time.monotonic() + 30
    while not (found := holds()) and time.monotonic() < end:
        if running is not None and running.process.poll() is not None:
            return holds()
        time.sleep(0.005)
    return found


def lines_in(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@dataclass(frozen=True)
class Blow:
    """How a run is ended: a signal, after so long or when the journal is longer by so much."""

    signum: signal.Signals
    jobs: int
    seconds: float | None

    def strike(self, running: Running) -> None:
        journal = running.folder / "set.safetensors.part" / "done.jsonl"
        before = lines_in(journal)
        if self.seconds is None:
            wait_until(lambda: lines_in(journal) > before, running)
        else:
            time.sleep(self.seconds)
        try:
            if self.signum == signal.SIGINT:  # a terminal sends it to everybody
                os.killpg(running.process.pid, self.signum)
            else:
                running.process.send_signal(self.signum)
        except ProcessLookupError:
            pass


def blows(seed: int) -> list[Blow]:
    """Every signal once, in any order, with one or two jobs, at any moment."""
    random = np.random.default_rng(seed)
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    made = []
    for signum in random.permutation(np.array(signals)).tolist():
        seconds = None if random.random() < 0.4 else random.uniform(0.05, 1.2)
        made.append(Blow(signal.Signals(signum), int(random.integers(1, 3)), seconds))
    return made


def test_killed_again_and_again(start, people, tmp_path):
    whole = people(LONG)
    target, report = tmp_path / "set.safetensors", tmp_path / "set.report.json"
    journal = tmp_path / "set.safetensors.part" / "done.jsonl"
    for blow in blows(seed=0):
        running = start(f"--jobs {blow.jobs}")
        blow.strike(running)
        code, error = running.end()
        assert code in (0, -blow.signum, 128 + blow.signum), error
        assert "this is a bug" not in error
        assert wait_until(lambda running=running: not running.others())
        if target.exists():  # it was too late
            assert target.read_bytes() == whole
            break
        if "goes on from there" in error:
            assert lines_in(journal) > 0
    else:
        known = lines_in(journal)
        code, error = start("--jobs 2").end()
        assert code == 0, error
        assert ("going on where a run stopped" in error) == (known > 0)
    assert target.read_bytes() == whole
    assert report.exists()
    if code == -signal.SIGKILL:  # perhaps before it could tidy up; the next run does
        assert start("--force").end()[0] == 0
        assert target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"data", target.name, report.name}


def test_ctrl_c_after_a_few_faces_keeps_them(start, tmp_path):
    """Each file takes so long that only some have been read when the first ones are there."""
    tree = trees.facescape(tmp_path / "originals", ids=(1,), expressions=("neutral", "smile"))
    originals = [tree.root / path for path in tree.files]
    (tmp_path / "data").mkdir()
    for k in range(6 * FILES_PER_BLOCK):
        name = f"p{k // 2:03d}_{('neutral', 'smile')[k % 2]}.ply"
        os.link(originals[k % 2], tmp_path / "data" / name.replace(".ply", ".obj"))
    running = start("--jobs 1 --pattern '{subject}_{expression}.obj'")
    faces = tmp_path / "set.safetensors.part" / "faces.bin"

    def second_block_has_come() -> bool:
        if not faces.exists():
            return False
        with faces.open("rb") as stream:
            stream.seek(FILES_PER_BLOCK * len(tree.topology.order) * 12)
            return stream.read(12) not in (b"", b"\0" * 12)

    assert wait_until(second_block_has_come, running)
    os.killpg(running.process.pid, signal.SIGINT)
    code, error = running.end()
    assert code == 130 and len(error.splitlines()) == 1
    assert "the same command goes on from there" in error
    assert lines_in(faces.with_name("done.jsonl")) > 0


def test_ctrl_c_while_the_workers_begin(start, people, tmp_path):
    """A terminal sends it to them too, before they know that they need not answer."""
    people(SHORT)
    running = start("--jobs 2")
    wait_until(lambda: len(running.workers()) == 2, running)
    time.sleep(0.15)  # they import what they need
    os.killpg(running.process.pid, signal.SIGINT)
    code, error = running.end()
    assert code in (0, -signal.SIGINT, 130), error
    assert len(error.splitlines()) == (0 if code == 0 else 1), error
    assert wait_until(lambda: not running.others())


def test_two_runs_at_once_on_one_set(start, shell, people, tmp_path):
    whole = people(LONG)
    running = start("--jobs 1")
    assert wait_until((tmp_path / "set.safetensors.part" / "done.jsonl").exists, running)
    running.process.send_signal(signal.SIGSTOP)
    for options in ("", "--force --no-resume"):
        done = shell(f"{COMMAND} --jobs 1 {options}")
        assert done.code == 2 and "another run" in done.line
    running.process.send_signal(signal.SIGCONT)
    assert running.end() == (0, "")
    assert (tmp_path / "set.safetensors").read_bytes() == whole


def test_workers_die_with_the_command(start, people):
    people(LONG)
    running = start("--jobs 2")
    assert wait_until(lambda: len(running.workers()) == 2, running)
    running.process.kill()
    running.end()
    assert wait_until(lambda: not running.others())


@pytest.mark.parametrize("others", [0, 1])
def test_a_worker_that_is_killed(start, people, tmp_path, others):
    """As the system does where memory is short; also while the next one is only beginning."""
    people(LONG)
    running = start("--jobs 2")
    assert wait_until(lambda: len(running.workers()) > others, running)
    os.kill(running.workers()[0], signal.SIGKILL)
    code, error = running.end()
    assert code == 3 and "--jobs" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "set.safetensors").exists()
