"""The page of registered scans, of made-up registrations of the example faces."""

import dataclasses
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from images import png
from raising import raises

from facedis_core.errors import ErrorCode
from facedis_core.geometry.alignment import RigidTransform, rotation_about
from facedis_core.mesh import ply
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.render.color_scale import UNKNOWN, ColorScale
from facedis_core.report.figures import FigureOptions
from facedis_core.report.registrations import (
    MOST_DOUBTFUL,
    RegistrationReportOptions,
    build_registration_report,
    read_registrations,
)

TURN = RigidTransform(rotation_about(np.array([0, 1.0, 0]), 0.7), np.array([3.0, -2, 1]), 0.1)
NAMES = ("alice_neutral", "bob_smile", "carol_smile")


def line(name, residual, **said):
    """What fd-register --report says of a scan."""
    return {
        "name": name,
        "source": f"scans/{name}.ply",
        "unit": "cm",
        "rotation": TURN.rotation.tolist(),
        "translation": TURN.translation.tolist(),
        "scale": TURN.scale,
        "margin_mm": None,
        "coverage": 0.9,
        "residual_mm": 0.2,
        "scan_residual_mm": residual,
        "prior_distance": 0.8,
        "observed": 0.5,
        "start": "neutral",
        "problem": "",
        "seconds": 4.2,
    } | said


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Faces and scans of three people, their report and a list of failures."""
    monkeypatch.chdir(tmp_path)
    model = load_model("ict-pointnet")
    for name in NAMES:
        face = model.prepare(read_mesh(weights_folder() / "examples" / f"{name}.ply"))
        distance = np.where(face[:, 0] < 20, 0.4, np.nan).astype(np.float32)
        for kind in ("faces", "scans"):
            (tmp_path / kind).mkdir(exist_ok=True)
        with (tmp_path / "faces" / f"{name}.ply").open("wb") as stream:
            ply.write(stream, face, model.triangles, name, True, {"distance": distance})
        scan = TURN.apply(face.astype(np.float64)).astype(np.float32)
        with (tmp_path / "scans" / f"{name}.ply").open("wb") as stream:
            write_mesh(stream, Mesh(scan, model.triangles, name), ".ply")
    said = [line(name, 0.2 + 0.1 * k) for k, name in enumerate(NAMES)]
    said[0]["problem"] = "two poses <fit> alike"
    write_lines(tmp_path / "faces.jsonl", said)
    failure = {"item": "scans/ball.ply", "kind": "no-face", "error": "scans/ball.ply: no <face>"}
    write_lines(tmp_path / "failed.jsonl", [failure])
    return tmp_path


def write_lines(path, said):
    path.write_text("".join(json.dumps(one) + "\n" for one in said))


OPTIONS = RegistrationReportOptions(
    "faces/", "faces.jsonl", "failed.jsonl", figures=FigureOptions(size=64)
)


def test_the_doubtful_come_first_and_the_refused_with_their_reasons(folder):
    report = build_registration_report(OPTIONS)
    assert [figure.title for figure in report.figures] == ["Doubtful", "Worst", "Best"]
    rows = re.findall(r'<tr( class="doubtful")?><th scope="row">(\w+)</th>', report.html)
    assert [name for _, name in rows] == ["alice_neutral", "carol_smile", "bob_smile"]
    assert bool(rows[0][0]) and not rows[1][0]
    assert "two poses &lt;fit&gt; alike" in report.html
    assert "scans/ball.ply: no &lt;face&gt;" in report.html
    assert list(report.charts) == [
        "chart-histogram-scan-to-face.svg",
        "chart-histogram-face-to-scan.svg",
    ]


def test_a_figure_shows_the_scan_the_face_and_its_distances(folder):
    whole = build_registration_report(OPTIONS).figures[0].picture
    (folder / "scans" / "alice_neutral.ply").unlink()
    without = build_registration_report(OPTIONS).figures[0].picture
    assert whole.shape == without.shape
    changed = (whole != without).any(axis=(1, 2))
    assert changed.any()
    assert np.flatnonzero(changed).max() < whole.shape[0] / 2.5  # the first row alone
    saturated = np.ptp(whole.astype(int), axis=2) > 60
    assert saturated[-whole.shape[0] // 2 :].any()  # the colors of distances


def test_scans_have_their_textures(folder):
    """One is green; the other one's is broken, which is told."""
    for name, content in (("bob_smile", png(0, 255, 0)), ("carol_smile", png(0, 255, 0)[:20])):
        scan = read_mesh(f"scans/{name}.ply")
        lines = [f"mtllib {name}.mtl", *(f"v {x} {y} {z}" for x, y, z in scan.vertices.tolist())]
        faces = ["f " + " ".join(f"{k}/1" for k in t) for t in (scan.triangles + 1).tolist()]
        text = "\n".join([*lines, "vt 0 0", "usemtl m", *faces, ""])
        Path(f"scans/{name}.obj").write_text(text)
        Path(f"scans/{name}.mtl").write_text(f"newmtl m\nmap_Kd {name}.png\n")
        Path(f"scans/{name}.png").write_bytes(content)
    names = {"carol_smile": 0.3, "bob_smile": 0.2}
    said = [line(name, far, source=f"scans/{name}.obj") for name, far in names.items()]
    write_lines(folder / "faces.jsonl", said)
    report = build_registration_report(OPTIONS)
    worst, best = (figure.picture.astype(int) for figure in report.figures)
    green = [(one[..., 1] > 2 * one[..., [0, 2]].max(axis=-1)).sum() for one in (worst, best)]
    assert green[0] == 0 and green[1] > 500
    assert "scans/carol_smile.obj: its texture of 20 bytes cannot be decoded" in report.html


def test_faces_without_distances_or_that_are_missing_are_told(folder):
    mesh = read_mesh("faces/bob_smile.ply")
    (folder / "faces" / "bob_smile.ply").unlink()
    with (folder / "faces" / "carol_smile.ply").open("wb") as stream:
        write_mesh(stream, dataclasses.replace(mesh, name="carol_smile"), ".ply")
    report = build_registration_report(OPTIONS)
    assert "There is no face of bob_smile in faces/." in report.html
    assert len(report.figures) == 2


def test_many_scans_are_a_line_each(folder):
    said = [line(f"scan{k:04d}", 0.2 + k / 5000, problem="odd" * (k < 30)) for k in range(500)]
    for one in said[30 - MOST_DOUBTFUL : 30]:  # the worst of the doubtful
        one["name"] = "alice_neutral"
    write_lines(folder / "faces.jsonl", said)
    tracemalloc.start()
    report = build_registration_report(OPTIONS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6
    assert report.html.count('<tr class="doubtful">') == 30
    assert [figure.title for figure in report.figures] == ["Doubtful"]
    assert "There is no face of scan0499" in report.html
    assert f"Of 30 doubtful registrations {MOST_DOUBTFUL} are drawn." in report.html


def test_the_mean_distance_of_the_landmarks(folder):
    said = [line("a", 0.2), line("b", 0.2, landmark_mm={"chin": 1.0, "nose_tip": 2.5})]
    write_lines(folder / "faces.jsonl", said)
    html = build_registration_report(OPTIONS).html
    assert ">landmarks<" in html and html.count(">1.75<") == 1
    write_lines(folder / "faces.jsonl", [line("a", 0.2, landmark_mm={"chin": "near"})])
    with raises(ErrorCode.WRONG_KIND, "line 1 is no registration"):
        read_registrations("faces.jsonl")


def test_a_mouth_that_may_be_wrong_is_a_doubt(folder):
    said = [line("a", 0.2, mouth_mm=None), line("b", 0.2, mouth_is_doubtful=True), line("c", 0.2)]
    write_lines(folder / "faces.jsonl", said)
    problems = [one["problem"] for one in read_registrations("faces.jsonl")]
    assert problems == ["", "the mouth may be wrong", ""]


def test_a_report_of_nothing_but_refusals(folder):
    (folder / "faces.jsonl").write_text("")
    report = build_registration_report(OPTIONS)
    assert "no &lt;face&gt;" in report.html
    assert not report.figures and not report.charts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("faces.jsonl", "no json"),
        ("faces.jsonl", "[1]"),
        ("faces.jsonl", '{"name": "a"}'),
        ("faces.jsonl", json.dumps(line("a", "0.2"))),
        ("failed.jsonl", '{"item": 1}'),
        ("failed.jsonl", json.dumps(line("a", 0.2))),
    ],
)
def test_other_files_are_named_with_their_line(folder, name, text):
    (folder / name).write_text(f"\n{text}\n")
    with raises("wrong-kind", f"{name}, line 2 is no "):
        build_registration_report(OPTIONS)


@pytest.mark.slow
def test_the_picture_of_the_docs(tmp_path):
    script = Path(__file__).parents[2] / "docs" / "scripts" / "registration_picture.py"
    subprocess.run([sys.executable, script, tmp_path / "scan.png"], check=True)
    content = (tmp_path / "scan.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 50_000 < len(content) < 300_000


def test_what_is_not_known_is_gray():
    colors = ColorScale(0, 1).colors(np.array([0.5, np.nan]))
    assert colors[1].tolist() == list(UNKNOWN)
    assert np.ptp(colors[0]) > 0.2
