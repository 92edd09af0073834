"""fd-prep in a real shell, and what the driver promises: bytes, neutrals, alignment, --like."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import ict_twin
import numpy as np
import pytest
import synthetic
from conftest import save_mesh
from raising import raises
from synthetic import grid_mesh

from facedis_core.data.face_set import TEST, TRAIN, load_face_set
from facedis_core.data.history import history_step
from facedis_core.datasets.prepare import PrepareOptions, plan_face_set, prepare_face_set
from facedis_core.geometry.alignment import rigid_alignment, rotation_about
from facedis_core.geometry.surface import unit_vectors

EXPRESSIONS = ("neutral", "smile", "frown")
FOLDER = "fd-prep folder scans --pattern '{subject}_{expression}.ply' -o set.safetensors --jobs 1"
TWO = FOLDER.replace("--jobs 1", "--jobs 2")


def face(subject, expression):
    """Everybody's face, (36, 3) mm; expression 0 is the neutral."""
    vertices, _ = grid_mesh()
    person = np.random.default_rng(subject).normal(0, 2, vertices.shape)
    shown = np.random.default_rng(100 + expression).normal(0, 1, vertices.shape)
    return (vertices + person + shown * (expression > 0)).astype(np.float32)


@pytest.fixture
def scans(tmp_path):
    """A folder `scans`: seven people, three expressions."""
    for s in range(7):
        for e, name in enumerate(EXPRESSIONS):
            save_mesh(tmp_path / "scans" / f"p{s}_{name}.ply", face(s, e))
    return tmp_path / "scans"


@pytest.fixture
def like(tmp_path):
    """A set of the made-up ICT-FaceKit whose map others can follow, and the folder beside it."""
    return ict_twin.write_like(tmp_path)


def test_folder_to_face_set(call, scans, tmp_path):
    done = call(FOLDER)
    assert (done.code, done.out) == (0, b"")
    assert done.line == (
        "21 faces written to set.safetensors: 7 people (15 train, 6 test), 36 vertices, 106 mm "
        "high, topology of no bundled model"
    )
    made = load_face_set(tmp_path / "set.safetensors")
    assert made.vertices.shape == (21, 36, 3) and made.source == "folder"
    for row, name in enumerate(made.labels.names):
        subject, expression = name.split("_")
        expected = face(int(subject[1:]), EXPRESSIONS.index(expression))
        np.testing.assert_array_equal(made.vertices[row], expected)
        assert made.labels.subjects[made.labels.subject[row]] == subject
        assert made.labels.expressions[made.labels.expression[row]] == expression
    for subject in range(7):
        np.testing.assert_array_equal(made.neutrals[subject], face(subject, 0))
    np.testing.assert_array_equal(made.neutrals_eval, made.neutrals)
    options = {"source": "folder", "pattern": "{subject}_{expression}.ply", "seed": 0}
    assert made.history == [history_step("fd-prep", {}, options)]
    assert str(tmp_path) not in (tmp_path / "set.safetensors").read_bytes().decode("latin1")


def test_region(call, scans, tmp_path):
    (tmp_path / "region.txt").write_text("0\n1\n5\n")
    done = call(f"{FOLDER} --region region.txt")
    assert done.code == 0
    assert "36 vertices (metrics count 3 of 36 vertices), " in done.err
    made = load_face_set(tmp_path / "set.safetensors")
    chosen = made.preparation.vertex_index[made.region]
    assert set(chosen.tolist()) == {0, 1, 5}  # of the raw meshes
    assert made.history[-1].options["region"] == "region.txt"
    again = call(f"{FOLDER.replace('-o set', '-o again')} --like set.safetensors")
    assert again.code == 0
    np.testing.assert_array_equal(load_face_set(tmp_path / "again.safetensors").region, made.region)
    facts = json.loads(call("fd-info set.safetensors --json").out)
    assert facts["region"] == f"3 of {len(made.region)} vertices"
    unknown = call(f"{FOLDER} --force --region nose")
    assert (unknown.code, unknown.kind) == (2, "option-value")


def test_same_bytes_whatever_the_jobs_and_the_way_out(call, shell, like, tmp_path):
    command = "fd-prep ict FaceXModel --like like.safetensors --subjects 7 --seed 3"
    assert call(f"{command} -o jobs1.safetensors --jobs 1").code == 0
    assert shell(f"{command} -o - --jobs 2 > piped.safetensors").code == 0
    whole = (tmp_path / "jobs1.safetensors").read_bytes()
    assert (tmp_path / "piped.safetensors").read_bytes() == whole
    assert call(f"{command} -o other.safetensors --seed 4 --no-history --jobs 1").code == 0
    other = load_face_set(tmp_path / "other.safetensors")
    made = load_face_set(tmp_path / "jobs1.safetensors")
    assert made.id != other.id and other.history == []
    assert made.history[0].inputs == {"like": load_face_set(like).id}
    assert made.vertices.shape == (140, 30, 3)
    # The true neutral has no noise, the neutral mesh has.
    apart = made.vertices[::20] - made.neutrals
    assert apart.std() == pytest.approx(0.05, rel=0.1)


def test_folder_in_two_processes(call, shell, scans, tmp_path):
    assert call(FOLDER).code == 0
    alone = (tmp_path / "set.safetensors").read_bytes()
    assert shell(f"{TWO} --force").code == 0
    assert (tmp_path / "set.safetensors").read_bytes() == alone


def test_a_bad_mesh_in_a_worker_leaves_nothing(shell, scans, tmp_path):
    save_mesh(scans / "p6_smile.ply", face(6, 1)[:-1], np.zeros((0, 3), np.int32))
    done = shell(TWO)
    assert done.code == 3
    assert "p6_smile.ply has 35 vertices, expected 36 as the others; " in done.line
    assert "--keep-going" in done.line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans"]


def test_exclude(call, scans, tmp_path):
    (tmp_path / "bad.txt").write_text("# broken scans\np3\n\np5_smile\n")
    assert call(f"{FOLDER} --exclude bad.txt").code == 0
    made = load_face_set(tmp_path / "set.safetensors")
    assert len(made.labels.names) == 17 and "p3" not in made.labels.subjects
    assert "p5_smile" not in made.labels.names and "p5_frown" in made.labels.names
    row = made.labels.names.index("p6_smile")
    np.testing.assert_array_equal(made.vertices[row], face(6, 1))
    np.testing.assert_array_equal(made.neutrals[made.labels.subjects.index("p6")], face(6, 0))
    assert list(made.history[0].inputs) == ["exclude"]
    call(f"{FOLDER} --force")
    everybody = load_face_set(tmp_path / "set.safetensors").labels
    before = dict(zip(everybody.names, everybody.split, strict=True))
    assert all(before[n] == s for n, s in zip(made.labels.names, made.labels.split, strict=True))
    (tmp_path / "bad.txt").write_text("p33\n")
    unknown = call(f"{FOLDER} --exclude bad.txt -o x")
    assert (unknown.kind, "'p33'" in unknown.line) == ("name-unknown", True)


def test_neutrals_for_training_come_from_training_faces(scans, tmp_path):
    rows = [
        ["p0_neutral.ply", "ann", "neutral"],
        ["p1_neutral.ply", "ann", "neutral"],
        ["p2_smile.ply", "ann", "smile"],
        ["p3_neutral.ply", "bob", "neutral"],
        ["p4_smile.ply", "cy", "smile"],
        ["p5_neutral.ply", "cy", "neutral"],
    ]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "subject", "expression"], *rows])
    options = PrepareOptions(
        "folder",
        scans,
        output=str(tmp_path / "set.safetensors"),
        source_options={"labels": tmp_path / "labels.csv"},
    )
    plan = plan_face_set(options)
    opened = plan.opened
    # as a data set that is split by its frames
    split = np.array([TRAIN, TEST, TRAIN, TEST, TRAIN, TEST], np.uint8)
    labels = replace(opened.source.labels, split=split)
    by_frames = replace(opened, source=replace(opened.source, labels=labels))
    prepare_face_set(replace(plan, opened=by_frames))
    made = load_face_set(tmp_path / "set.safetensors")
    assert list(made.labels.subjects) == ["ann", "bob", "cy"]
    ann, bob, cy = made.neutrals
    np.testing.assert_array_equal(ann, face(0, 0))
    np.testing.assert_array_equal(bob, face(3, 0))
    assert np.isnan(cy).all()
    both = (face(0, 0) + face(1, 0)) / 2
    np.testing.assert_allclose(made.neutrals_eval[0], both, atol=1e-5)
    np.testing.assert_array_equal(made.neutrals_eval[2], face(5, 0))


def moved(vertices, seed, scale):
    """The face somewhere else."""
    rng = np.random.default_rng(seed)
    rotation = rotation_about(unit_vectors(rng.normal(size=3)), rng.uniform(0.5, 3))
    size = rng.uniform(0.8, 1.25) if scale else 1
    return (size * vertices @ rotation.T + rng.normal(0, 100, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_alignment_undoes_motion(call, tmp_path, kind):
    for s in range(5):
        for e, name in enumerate(EXPRESSIONS):
            vertices = moved(face(s, e), 10 * s + e, kind == "similarity")
            save_mesh(tmp_path / "scans" / f"p{s}_{name}.ply", vertices)
    assert call(f"{FOLDER} --align {kind}").code == 0
    made = load_face_set(tmp_path / "set.safetensors")
    assert made.preparation.alignment == kind
    mean = made.mean_face(made.rows(0))
    for row in range(15):
        again = rigid_alignment(made.vertices[row], mean, scale=kind == "similarity")
        np.testing.assert_allclose(again.rotation, np.eye(3), atol=2e-3)
        # The scale of least squares is a little under 1 where shapes differ at all.
        assert again.scale == pytest.approx(1, abs=5e-3)
        subject, expression = made.labels.names[row].split("_")
        shape = face(int(subject[1:]), EXPRESSIONS.index(expression))
        back = rigid_alignment(shape, made.vertices[row], scale=kind == "similarity")
        np.testing.assert_allclose(back.apply(shape), made.vertices[row], atol=1e-2)
    # Neutrals are means of aligned faces, so they lie with the others.
    rest = made.labels.names.index("p2_neutral")
    np.testing.assert_array_equal(made.neutrals[2], made.vertices[rest])


def test_like_a_model(call, model, model_file, tmp_path):
    from conftest import raw_mesh

    for s in range(3):
        (tmp_path / "scans").mkdir(exist_ok=True)
        mesh = raw_mesh(face(s, 0))
        save_mesh(tmp_path / "scans" / f"p{s}_neutral.obj", mesh.vertices, mesh.triangles)
        save_mesh(tmp_path / "scans" / f"p{s}_smile.ply", face(s, 1))
    command = f"{FOLDER.replace('.ply', '.*')} --like {model_file}"
    assert call(command).code == 0
    made = load_face_set(tmp_path / "set.safetensors")
    assert made.topology == model.topology
    assert made.preparation.raw_unit_mm == 10
    for row, name in enumerate(made.labels.names):
        expected = face(int(name[1]), int(name.endswith("smile")))
        np.testing.assert_allclose(made.vertices[row], expected, atol=1e-4)
    assert made.history[0].inputs == {"like": model.id}
    decided = call(f"{command} --align rigid --force")
    assert (decided.code, decided.kind) == (2, "option-conflict")
    assert "--align" in decided.line


@pytest.mark.parametrize(
    ("factor", "code", "message"),
    [
        (1.2, 0, r"warning: p\d_neutral lies .* at most; 3 of 3 faces lie farther than these"),
        (1.4, 3, r"p\d_neutral lies .* at most; check --units"),
    ],
)
def test_faces_too_far_from_those_of_a_model(call, model_file, tmp_path, factor, code, message):
    for s in range(3):
        save_mesh(tmp_path / "scans" / f"p{s}_neutral.obj", face(s, 0) * np.float32(factor))
    command = FOLDER.replace(".ply'", ".obj'").replace("-o", f"--like {model_file} -o")
    done = call(command)
    assert done.code == code, done.err
    assert re.search(message, done.err.splitlines()[0])
    assert (tmp_path / "set.safetensors").exists() == (code == 0)


def test_like_a_set_with_a_broken_face(call, scans, tmp_path):
    broken = synthetic.face_set()
    broken.vertices[1] = np.nan
    synthetic.write_face_set(tmp_path / "broken.safetensors", broken)
    done = call(f"{FOLDER} --like broken.safetensors")
    assert (done.code, done.kind) == (3, "not-finite")
    assert "'person0/expression1'" in done.line
    assert not (tmp_path / "set.safetensors").exists()


NAMED = "folder scans --pattern '{subject}_{expression}.ply'"


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "named"),
    [
        ("ict scans", 3, "layout", "scans has no generic_neutral_mesh.obj"),
        ("ict nowhere", 3, "layout", "nowhere has no generic_neutral_mesh.obj"),
        ("coma2 scans", 2, "option-value", "'coma2'; choose from coma, "),
        ("folder scans", 2, "option-missing", "--pattern"),
        ("folder scans --pattern '{subject}-{expression}.ply'", 3, "pattern-mismatch", "21 files"),
        (f"{NAMED} --subjects 3", 2, "option-conflict", "--subjects; it is for ict"),
        ("ict scans --pattern x", 2, "option-conflict", "--pattern; it is for folder"),
        (f"{NAMED} --align stable", 2, "option-value", "bu3dfe only"),
        (f"{NAMED} --protocol subjects:2", 2, "option-value", "subjects:2"),
        (f"{NAMED} --simplify 9000", 3, "not-simplified", "50 triangles"),
        (f"{NAMED} --like gone", 2, "model-missing", "'gone'"),
        (f"{NAMED} --exclude no.txt", 3, "file-missing", "no.txt"),
        (f"folder {'a' * 300} --pattern x", 3, "not-a-folder", "aaa"),
        (f"ict {'a' * 300}", 3, "layout", "generic_neutral_mesh.obj"),
        ("folder scans --labels scans", 3, "not-a-file", "scans"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(call, scans, tmp_path, arguments, code, kind, named):
    done = call(f"fd-prep {arguments} -o set.safetensors --jobs 1")
    assert (done.code, done.kind) == (code, kind), done.err
    assert named in done.line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans"]


def test_an_existing_set_needs_force(call, scans, tmp_path):
    (tmp_path / "set.safetensors").write_text("mine")
    assert call(FOLDER).kind == "output-exists"
    for option in ("--like", "--map"):  # a model or map would be gone
        assert call(f"{FOLDER} --force {option} ./set.safetensors").kind == "same-file"
    assert (tmp_path / "set.safetensors").read_text() == "mine"


@pytest.mark.skipif("FACEDIS_ICT" not in os.environ, reason="FACEDIS_ICT is not set")
@pytest.mark.slow
def test_the_real_benchmark(shell, tmp_path):
    done = shell(
        'fd-prep ict "$FACEDIS_ICT" --subjects 4 --simplify 9000 --validation 0.34 --jobs 2 '
        "-o ict.safetensors"
    )
    assert done.code == 0, done.err
    assert done.line.startswith(
        "80 faces written to ict.safetensors: 4 people (40 train, 20 test, "
    )
    made = load_face_set(tmp_path / "ict.safetensors")
    assert made.vertices.shape == (80, 4601, 3) and len(made.triangles) == 9000
    assert np.bincount(made.labels.split).tolist() == [40, 20, 20]
    assert np.isfinite(made.vertices).all() and np.isfinite(made.neutrals).all()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "option-missing: -o SET"),
        (
            {"output": "x", "like": "ict-linear", "source_options": {"simplify": 0}},
            "option-conflict: --simplify",
        ),
        (
            {"output": "x", "like": "ict-linear", "source_options": {"align": "none"}},
            "option-conflict: --align",
        ),
    ],
)
def test_options_that_exclude_each_other(given, error):
    with raises(error):
        PrepareOptions("folder", Path("scans"), **given)


MANY = 2500  # faces: reading them takes long enough to interrupt it


@dataclass(frozen=True)
class Running:
    """A command in a session, that is a group of processes, of its own."""

    process: subprocess.Popen[bytes]

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

    def reads(self) -> bool:
        """Whether some faces are in their temporary file, which has no name."""
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                size = descriptor.stat().st_size
                if "(deleted)" in str(descriptor.readlink()) and size > MANY * 36 * 12:
                    place = (descriptor.parent.parent / "fdinfo" / descriptor.name).read_text()
                    if int(place.split()[1]) > 0:
                        return True
            except OSError:
                continue
        return False

    def wait_until(self, holds: Callable[[], bool]) -> bool:
        """Until it holds, the command has ended, or half a minute has passed."""
        end = time.monotonic() + 30
        while not (found := holds()) and time.monotonic() < end:
            if self.process.poll() is not None:
                return holds()
            time.sleep(0.005)
        return found

    def send(self, signum: signal.Signals) -> None:
        """Ctrl-C goes to every process of a terminal, other signals to the command alone."""
        if signum == signal.SIGINT:
            os.killpg(self.process.pid, signum)
        else:
            self.process.send_signal(signum)

    def end(self) -> tuple[int, str]:
        """Wait for it and all its processes; exit code and stderr."""
        _, error = self.process.communicate(timeout=30)
        deadline = time.monotonic() + 10
        while self.others() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not self.others()
        return self.process.returncode, error.decode()


@pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="needs Linux's /proc")
class TestInterrupted:
    @pytest.fixture
    def start(self, commands: Path, tmp_path: Path) -> Iterator[Callable[[str], Running]]:
        """Start the command on a folder of `MANY` faces, links to a few files."""
        files = [save_mesh(tmp_path / "files" / f"{k}.ply", face(k, 0)) for k in range(23)]
        (tmp_path / "data").mkdir()
        for k in range(MANY):
            os.link(files[k % 23], tmp_path / "data" / f"p{k // 2:04d}_{EXPRESSIONS[k % 2]}.ply")
        started: list[Running] = []

        def run(options: str) -> Running:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {FOLDER.replace('scans', 'data')} {options}"],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PATH": f"{commands}:{os.environ['PATH']}",
                    "TMPDIR": str(tmp_path),
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            started.append(Running(process))
            return started[-1]

        yield run
        for running in started:
            if running.process.poll() is None:
                running.process.kill()
                running.end()

    @pytest.mark.parametrize(
        ("signum", "jobs"),
        [
            (signal.SIGINT, 1),
            pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
            pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
            (signal.SIGTERM, 2),
            pytest.param(signal.SIGKILL, 1, marks=pytest.mark.slow),
            (signal.SIGKILL, 2),
        ],
    )
    def test_nothing_is_left(self, start, tmp_path, signum, jobs):
        running = start(f"--jobs {jobs}")
        assert running.wait_until(running.reads)
        running.send(signum)
        code, error = running.end()
        assert code == -signum
        if signum != signal.SIGKILL:  # then Python itself says what it removes
            assert error == ("fd-prep: interrupted\n" if signum == signal.SIGINT else "")
        assert {path.name for path in tmp_path.iterdir()} == {"files", "data"}

    def test_while_the_workers_start(self, start):
        """A terminal's Ctrl-C reaches them before they ignore it."""
        running = start("--jobs 2")
        running.wait_until(lambda: len(running.workers()) == 2)
        time.sleep(0.15)  # they import what they need
        running.send(signal.SIGINT)
        assert running.end() == (-signal.SIGINT, "fd-prep: interrupted\n")

    @pytest.mark.parametrize("others", [0, 1])
    def test_a_worker_that_is_killed(self, start, tmp_path, others):
        """As the system does where memory is short; also while the next one is only starting."""
        running = start("--jobs 2")
        assert running.wait_until(lambda: len(running.workers()) > others)
        os.kill(running.workers()[0], signal.SIGKILL)
        code, error = running.end()
        assert code == 3 and "fewer --jobs" in error and len(error.splitlines()) == 1
        assert {path.name for path in tmp_path.iterdir()} == {"files", "data"}


def test_units_with_a_set_to_be_like(call, scans, tmp_path):
    assert call(FOLDER).code == 0
    for s in range(3):
        save_mesh(tmp_path / "cm" / f"p{s}_neutral.obj", face(s, 0) / 10)
    command = FOLDER.replace("scans", "cm").replace(".ply'", ".obj'")
    command = command.replace("-o", "--like set.safetensors --protocol subjects:0 -o")
    assert call(command.replace("-o set", "-o made")).code == 0
    wrong = call(f"{command.replace('-o set', '-o wrong')} --units mm")
    assert (wrong.code, wrong.kind) == (3, "unit")
    assert not (tmp_path / "wrong.safetensors").exists()


def made_of_parts(call, command, count):
    """Run a command that writes `set.safetensors` at once and in parts, and what each wrote."""
    outputs = []
    for number in range(1, count + 1):
        part = f"--shard {number}/{count} -o parts/{number}.npy"
        assert call(command.replace("-o set.safetensors", part)).code == 0
    for words in ("-o one.safetensors", "--merge parts -o all.safetensors"):
        result = call(command.replace("-o set.safetensors", words))
        name = words.split()[-1].removesuffix(".safetensors")
        files = [f"{name}.safetensors", f"{name}.report.json"]
        said = result.err.replace(name, "NAME")
        outputs.append((result.code, said, *(call.folder.joinpath(f).read_bytes() for f in files)))
    return outputs


class TestParts:
    """What parts prepare, merged, is what one run prepares."""

    @pytest.fixture
    def here(self, call, tmp_path):
        (tmp_path / "parts").mkdir()
        call.folder = tmp_path
        return call

    @pytest.mark.parametrize("count", [2, 5])
    def test_of_files(self, here, scans, count):
        (scans / "p1_smile.ply").write_bytes(b"ply\n")
        (scans / "p6_frown.ply").write_bytes(b"")
        command = f"{FOLDER} --keep-going --align rigid --validation 0.3"
        at_once, merged = made_of_parts(here, command, count)
        assert at_once[0] == 1 and "p1_smile" in at_once[1]
        assert merged == at_once

    @pytest.mark.slow  # reads 150 OBJ five times
    def test_of_people_with_neutrals(self, here, like):
        command = "fd-prep ict FaceXModel --subjects 3 --like like.safetensors -j 1"
        at_once, merged = made_of_parts(here, f"{command} -o set.safetensors", 2)
        assert at_once[0] == 0
        assert merged == at_once

    def test_refusals(self, here, scans, tmp_path):

        def make(number):
            part = f"--shard {number}/2 -o parts/{number}.npy"
            assert here(FOLDER.replace("-o set.safetensors", part)).code == 0

        make(1)
        assert here(f"{FOLDER} --merge parts").kind == "shards"
        make(2)
        for words in ("--seed 1", "--align rigid", "--keep-going", "--units mm"):
            assert here(f"{FOLDER} --merge parts {words}").kind == "shards", words
        (scans / "p0_frown.ply").rename(scans / "p0_grin.ply")
        assert here(f"{FOLDER} --merge parts").kind == "shards"
        (scans / "p0_grin.ply").rename(scans / "p0_frown.ply")
        whole = (tmp_path / "parts" / "2.npy").read_bytes()
        (tmp_path / "parts" / "2.npy").write_bytes(whole[:-2000])
        assert here(f"{FOLDER} --merge parts").kind == "truncated"
        assert not (tmp_path / "set.safetensors").exists()
        for words in ("--shard 1/2", "--shard 1/2 --dry-run", "--shard 1/2 --merge parts"):
            assert here(f"{FOLDER} {words}").code == 2, words
