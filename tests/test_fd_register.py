"""fd-register: outputs, batches, refusals; registration itself is in tests/registration."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from conftest import contents

from facedis_core.data.latents import read_latents
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.io.streams import append_output
from facedis_core.mesh.mesh import Mesh, read_mesh, read_meshes, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.prior import prior_of, write_prior
from facedis_core.registration.registration import Registration

EXAMPLES = weights_folder() / "examples"
FACE = read_mesh(EXAMPLES / "alice_smile.ply")
MODEL = {"FACEDIS_MODEL": "ict-linear"}
REGISTER = "facedis_core.pipeline.register.register"


def registered(scan: Mesh, model, **options) -> Registration:
    """What `register` could find; scans of fewer than ten points show no face."""
    if len(scan.vertices) < 10:
        raise InputError(f"{scan.name}: no face", ErrorCode.NO_FACE)
    observed = np.arange(len(FACE.vertices)) % 2 == 0
    return Registration(
        Mesh(FACE.vertices, FACE.triangles, scan.name, unit_mm=1.0),
        RigidTransform(np.eye(3), np.zeros(3), 0.1),
        "cm",
        observed,
        np.where(observed, 0.5, np.nan).astype(np.float32),
        margin_mm=np.inf,
        coverage=0.9,
        residual_mm=0.5,
        scan_residual_mm=0.2,
        prior_distance=1.0,
        start="neutral",
        mouth_mm=0.9 if scan.name == "f1" else 0.2,
        mouth_is_doubtful=scan.name == "f1",
        problem="two poses fit alike" if options["force"] else "",
        seconds=1.0,
    )


@pytest.fixture
def scans(tmp_path) -> Iterator[None]:
    """Two scans and one without a face in `scans/`, registered at once."""
    rng = np.random.default_rng(0)
    for name, count in (("ann", 30), ("bob", 5), ("sub/eve", 40)):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        points = Mesh(rng.normal(0, 50, (count, 3)), np.empty((0, 3), np.int32))
        write_mesh(tmp_path / "scans" / f"{name}.ply", points)
    with mock.patch(REGISTER, registered):
        yield


def test_a_batch(call, scans, tmp_path):
    line = (
        "fd-register scans -o faces/ --latents z.npy --report r.jsonl --keep-going "
        "--failures failed.jsonl"
    )
    result = call(line, env=MODEL)
    assert (result.code, result.kind) == (1, "items-skipped")
    assert "1 of 3" in result.err
    (failed,) = map(json.loads, (tmp_path / "failed.jsonl").read_text().splitlines())
    assert (failed["item"], failed["kind"]) == ("scans/bob.ply", "no-face")
    report = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["name"] for line in report] == ["ann", "sub/eve"]
    assert report[0]["margin_mm"] is None and report[0]["unit"] == "cm"
    face = read_mesh(tmp_path / "faces" / "sub" / "eve.ply")
    assert np.array_equal(face.vertices, FACE.vertices) and face.unit_mm == 1.0
    with (tmp_path / "faces" / "ann.ply").open("rb") as stream:
        header = stream.read(600).partition(b"end_header")[0]
    assert b"property float distance\nproperty uchar observed\n" in header
    latents = read_latents(tmp_path / "z.npy")
    assert latents.names == ["ann", "sub/eve"]
    encoded = call("fd-encode faces -o again.npy", env=MODEL)
    assert encoded.code == 0
    again = read_latents(tmp_path / "again.npy")
    np.testing.assert_array_equal(latents.identity, again.identity)


@pytest.mark.parametrize("options", ["", "--force", "--skip-existing", "--shard 1/3 --force"])
def test_scans_of_one_name_are_refused_before_any_is_read(call, scans, tmp_path, options):
    """Also where each is in another part, which would replace the other's file."""
    shutil.copytree(tmp_path / "scans", tmp_path / "more")
    with mock.patch(REGISTER, mock.Mock(wraps=registered)) as register:
        result = call(f"fd-register scans more -o faces/ {options}", env=MODEL)
    assert (result.code, result.kind) == (2, "output-collision")
    assert "'ann' and 'ann' would both be written to faces/ann.ply" in result.line
    assert not register.called and not (tmp_path / "faces").exists()
    # the next step that the message names
    line = f"fd-register scans more --root . -o faces/ --keep-going {options}"
    assert call(line, env=MODEL).code in (0, 1)


def test_formats_of_scans(call, scans, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "cy.xyz").write_text("1 2 3\n" * 20)
    assert call("fd-register more -o faces/", env=MODEL).code == 0
    assert call("fd-register more/cy.xyz -o cy.ply", env=MODEL).code == 0
    assert (tmp_path / "faces" / "cy.ply").exists() and (tmp_path / "cy.ply").exists()
    assert call("fd-encode more/cy.xyz -o z.npy", env=MODEL).code == 3


def test_existing_files_are_kept(call, scans, tmp_path):
    command = "fd-register scans/ann.ply scans/sub/eve.ply -o faces/"
    assert call(command, env=MODEL).code == 0
    (tmp_path / "faces" / "eve.ply").unlink()
    assert call(command, env=MODEL).kind == "output-exists"
    with mock.patch(REGISTER, mock.Mock(wraps=registered)) as register:
        assert call(f"{command} --skip-existing", env=MODEL).code == 0
    assert [args[0].name for args, _ in register.call_args_list] == ["eve"]


def test_a_batch_is_resumed(call, scans, tmp_path):
    line = "fd-register scans -o faces/ --skip-existing --keep-going --report r.jsonl"
    report = tmp_path / "r.jsonl"
    assert call(line, env=MODEL).code == 1
    first, last = report.read_bytes().splitlines(keepends=True)
    # as if it had been killed while the second line was written
    (tmp_path / "faces" / "sub" / "eve.ply").unlink()
    report.write_bytes(first.replace(b'"seconds": 1.0', b'"seconds": 7.0') + last[:-9])
    assert call(line, env=MODEL).code == 1
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["name"], line["seconds"]) for line in lines] == [("ann", 7.0), ("sub/eve", 1.0)]
    # a face that is gone is registered again, and has one line
    (tmp_path / "faces" / "ann.ply").unlink()
    assert call(line, env=MODEL).code == 1
    names = [json.loads(line)["name"] for line in report.read_text().splitlines()]
    assert names == ["sub/eve", "ann"]


def test_a_batch_is_resumed_with_its_list_of_failures(call, scans, tmp_path):
    """What failed is tried again, so the list is written anew."""
    line = "fd-register scans -o faces/ --skip-existing --keep-going --failures f.jsonl"
    assert call(line, env=MODEL).code == 1
    shutil.copy(tmp_path / "scans" / "ann.ply", tmp_path / "scans" / "bob.ply")
    assert call(line, env=MODEL).code == 0
    assert (tmp_path / "f.jsonl").read_text() == ""


def test_a_face_that_another_process_wrote_meanwhile_stays(call, scans, tmp_path):
    def slow(scan, model, **options):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / "ann.ply").write_bytes(b"of the other")
        return registered(scan, model, **options)

    with mock.patch(REGISTER, slow):
        line = "fd-register scans/ann.ply scans/sub/eve.ply -o faces/"
        assert call(f"{line} --skip-existing", env=MODEL).code == 0
        assert (tmp_path / "faces" / "ann.ply").read_bytes() == b"of the other"
        assert (tmp_path / "faces" / "eve.ply").exists()
        assert call(line, env=MODEL).kind == "output-exists"


def test_a_report_is_continued_by_one_process(call, scans, tmp_path):
    line = "fd-register scans -o faces/ --skip-existing --keep-going --report r.jsonl"
    with append_output(str(tmp_path / "r.jsonl")):
        result = call(line, env=MODEL)
    assert (result.code, result.kind) == (4, "output-unwritable")
    assert "r.jsonl is being written by another process" in result.line
    assert not (tmp_path / "faces").exists()
    assert call(line, env=MODEL).code == 1
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "content", ["precious\n", '{"a": 1}\n{"name": "ann"}\n', "[]\n", '{"name": 3}\n']
)
def test_a_report_that_is_none_stays(call, scans, tmp_path, content):
    (tmp_path / "r.jsonl").write_text(content)
    line = "fd-register scans -o faces/ --skip-existing --report r.jsonl"
    assert call(line, env=MODEL).kind == "wrong-kind"
    assert (tmp_path / "r.jsonl").read_text() == content


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda p: {"preparation": replace(p.preparation, raw_topology="0" * 12)}, "topology"),
        (lambda p: {"mean": p.mean + 50}, "far-face"),
    ],
)
def test_a_prior_of_other_faces(call, tmp_path, change, kind):
    own = prior_of(load_model("ict-linear").preparation)
    with (tmp_path / "p.safetensors").open("wb+") as stream:
        write_prior(stream, replace(own, **change(own)))
    (tmp_path / "scan.ply").write_text("broken, which is noticed later")
    result = call("fd-register scan.ply -o out.ply --prior p.safetensors", env=MODEL)
    assert (result.code, result.kind) == (3, kind)
    assert "p.safetensors" in result.line


def test_landmarks_and_poses_by_name(call, scans, tmp_path):
    (tmp_path / "points" / "sub").mkdir(parents=True)
    (tmp_path / "points" / "sub" / "eve.csv").write_text("nose_tip,1,2,3\n")
    first = call("fd-register scans/ann.ply -o a.ply --report r.jsonl", env=MODEL)
    assert first.code == 0
    line = "fd-register scans -o faces/ --keep-going --landmarks points --pose r.jsonl"
    with mock.patch(REGISTER, mock.Mock(wraps=registered)) as register:
        result = call(line, env=MODEL)
    assert "ann: has no landmarks in points" in result.err
    assert "sub/eve: has no pose in r.jsonl" in result.err
    given = {args[0].name: options for args, options in register.call_args_list}
    assert given["sub/eve"]["landmarks"] == {"nose_tip": (1.0, 2.0, 3.0)}
    assert given["ann"]["pose"][0, 0] == 0.1 and "pose" not in given["sub/eve"]
    with mock.patch(REGISTER, mock.Mock(wraps=registered)) as register:
        call("fd-register scans/sub/eve.ply -o b.ply --landmarks points/sub/{name}.csv", env=MODEL)
    assert "landmarks" in register.call_args.kwargs


def test_a_sequence(call, scans, tmp_path):
    (tmp_path / "frames").mkdir()
    for name in ("f10", "f9", "f1"):
        content = (tmp_path / "scans" / "ann.ply").read_bytes()
        (tmp_path / "frames" / f"{name}.ply").write_bytes(content)
    tracker = mock.Mock(lost=True)

    def follow(scan):
        tracker.is_other = scan.name == "f10"
        return registered(scan, None, force=False)

    tracker.side_effect = follow
    with mock.patch("facedis_core.registration.sequence.FaceTracker", return_value=tracker):
        result = call("fd-register --sequence frames -o faces/ --report r.jsonl", env=MODEL)
    assert result.code == 0
    assert [args[0].name for args, _ in tracker.call_args_list] == ["f1", "f9", "f10"]
    assert result.err.count("the mouth may be wrong") == 1
    assert "f9: the face was lost and searched for again" in result.err
    assert (
        "f10: is not the face of the frames before it, so the later ones hold its identity"
        in result.err
    )
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


def test_pipes(call, scans, tmp_path):
    content = b"".join((tmp_path / "scans" / f"{n}.ply").read_bytes() for n in ("ann", "sub/eve"))
    result = call("fd-register --force-register --report r.jsonl", stdin=content, env=MODEL)
    assert result.code == 0
    assert result.err.count("two poses fit alike") == 2
    (tmp_path / "out.ply").write_bytes(result.out)
    with (tmp_path / "out.ply").open("rb") as stream:
        assert len(list(read_meshes(stream))) == 2


def test_a_refused_scan_does_not_end_its_file(call, scans, tmp_path):
    parts = [(tmp_path / "scans" / f"{n}.ply").read_bytes() for n in ("bob", "ann", "sub/eve")]
    (tmp_path / "all.ply").write_bytes(b"".join(parts))
    line = "fd-register all.ply -o faces/ --keep-going --failures failed.jsonl"
    result = call(line, env=MODEL)
    assert (result.code, result.kind) == (1, "items-skipped")
    assert "1 of 3" in result.err
    assert len(list((tmp_path / "faces").iterdir())) == 2
    (failed,) = map(json.loads, (tmp_path / "failed.jsonl").read_text().splitlines())
    assert failed["item"] == "all.ply" and failed["kind"] == "no-face"


def test_a_refusal_names_the_file_once(call, scans):
    result = call("fd-register scans/bob.ply -o out.ply", env=MODEL)
    assert result.err == "fd-register: scans/bob.ply: no face\n"


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("scans/bob.ply -o out.ply", 3, "no-face"),
        ("scans -o faces/", 3, "no-face"),
        ("scans/bob.ply -o scans/ann.ply/faces/", 4, "output-unwritable"),
        ("scans/ann.ply scans/sub/eve.ply -o out.ply", 2, "output-collision"),
        ("scans -o faces/ --skip-existing --force", 2, "option-conflict"),
        ("scans -o out.ply --skip-existing", 2, "option-conflict"),
        ("scans -o faces/ --skip-existing --latents z.npy", 2, "option-conflict"),
        ("scans -o f/ --skip-existing --report memory://r.jsonl", 2, "option-conflict"),
        ("scans -o faces/ --latents z.ply", 2, "output-suffix"),
        ("scans -o faces/ --report z.npy", 2, "output-suffix"),
        ("scans -o out.stl", 2, "output-suffix"),
        ("scans -o faces/ --failures f.jsonl", 2, "option-missing"),
        ("scans/ann.ply -o x.ply --latents x.ply", 2, "output-suffix"),
        ("scans -o faces/ --prior scans/ann.ply", 3, "wrong-kind"),
        ("gone.ply -o out.ply", 3, "file-missing"),
        ("scans -o faces/ --units mile", 2, "arguments"),
        ("--sequence scans -o faces/ --jobs 2", 2, "option-conflict"),
        ("--sequence scans -o faces/ --pose scans", 2, "option-conflict"),
        ("scans -o faces/ --landmarks scans/ann.ply", 2, "option-conflict"),
        ("scans/ann.ply -o out.ply --landmarks scans/ann.ply", 3, "unsupported"),
        ("scans -o faces/ --landmarks gone", 3, "file-missing"),
        ("scans/ann.ply -o out.ply --pose scans/ann.ply", 3, "wrong-kind"),
        ("scans --make-prior set.safetensors -o prior.safetensors", 2, "option-conflict"),
        ("--make-prior s.safetensors -o ./s.safetensors --force", 2, "same-file"),
    ],
)
def test_errors(call, scans, words, code, kind):
    result = call(f"fd-register {words}", env=MODEL)
    assert (result.code, result.kind) == (code, kind)


def test_a_model_without_a_prior(call, scans):
    assert call("fd-register scans/ann.ply -o out.ply").kind == "topology"


def test_a_prior_of_a_set(call, tmp_path):
    made = call(
        f"fd-prep folder {EXAMPLES} --pattern '{{subject}}_{{expression}}.ply' --like ict-linear "
        "-o set.safetensors"
    )
    assert made.code == 0, made.err
    assert call("fd-register --make-prior set.safetensors -o prior.safetensors").code == 0
    facts = json.loads(call("fd-info prior.safetensors --json --verify").out)
    assert facts["kind"] == "registration prior"
    assert facts["components"] == 5  # of six training faces
    assert sorted(facts["expressions"]) == ["mouth_stretch", "neutral", "smile"]
    wrong = call("fd-register --make-prior set.safetensors -o prior.npy")
    assert wrong.kind == "output-suffix"


def test_scipy_is_missing(shell, without_torch):
    result = shell(
        f"fd-register {EXAMPLES}/alice_smile.ply -o out.ply", env={**without_torch, **MODEL}
    )
    assert result.code == 2
    assert "-m pip install 'scipy>=1.11'" in result.line


def test_parts_of_a_batch(call, scans, tmp_path):
    """Faces, latents and lists are those of one run."""
    line = "fd-register scans --keep-going"
    assert call(f"{line} --failures one.jsonl -o one/ --latents one.npy", env=MODEL).code == 1
    codes = [
        call(
            f"{line} --failures {k}.jsonl -o parts/ --latents {k}.npy --shard {k}/3", env=MODEL
        ).code
        for k in (1, 2, 3)
    ]
    assert codes == [0, 1, 0]
    assert contents(tmp_path / "parts") == contents(tmp_path / "one")
    assert call("fd-encode --merge '[123].npy' -o all.npy", env=MODEL).code == 0
    assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
    lists = [(tmp_path / f"{k}.jsonl").read_bytes() for k in (1, 2, 3)]
    assert b"".join(lists) == (tmp_path / "one.jsonl").read_bytes()
