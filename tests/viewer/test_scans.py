"""Raw scans that are dropped on the page of fd-view; most tests replace the registration itself."""

import base64
import dataclasses
import io
import json
import multiprocessing
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
from raising import raises
from serving import ask, running
from simulated_scans import simulate_scan

import facedis_core.viewer.scan_jobs
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform, rotation_about
from facedis_core.geometry.surface import triangle_normals
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.registration.registration import Registration
from facedis_core.render.scan_surface import scan_surface
from facedis_core.viewer.faces import load_faces
from facedis_core.viewer.live_model import LiveModel
from facedis_core.viewer.scan_jobs import ScanJobs, send_face

EXAMPLES = weights_folder() / "examples"
TURN = RigidTransform(rotation_about(np.array([0, 1.0, 0]), 0.7), np.array([3.0, -2, 1]), 0.1)


@pytest.fixture(scope="module")
def encoder():
    return MeshEncoder(load_model("ict-pointnet"))


@pytest.fixture(scope="module")
def found(encoder):
    """A registration of bob's smile, which shows all but the left of the face."""
    model = encoder.model
    face = model.prepare(read_mesh(EXAMPLES / "bob_smile.ply"))
    observed = face[:, 0] < 20
    return Registration(
        mesh=Mesh(face, model.triangles, "scan", unit_mm=1.0),
        to_scan=TURN,
        unit="cm",
        observed=observed,
        distance_mm=np.where(observed, np.float32(0.25), np.float32(np.nan)),
        margin_mm=0.5,
        coverage=0.9,
        residual_mm=0.25,
        scan_residual_mm=0.3,
        prior_distance=1.0,
        start="smile",
        problem="",
        seconds=1.0,
    )


@pytest.fixture(scope="module")
def scan(encoder, found):
    """The scan of that: its triangles in another order, in its own frame and unit."""
    mesh = found.mesh
    forwards = mesh.vertices.astype(np.float64) + np.array([0, 0, 0.25])
    moved = TURN.apply(forwards).astype(np.float32)
    return Mesh(moved, mesh.triangles[::-1, [1, 2, 0]], "scan")


@pytest.fixture
def live(encoder):
    return LiveModel(encoder, load_faces(encoder, []))


class Steps:
    """A registration that waits in its second step; it may be refused."""

    def __init__(self, found):
        self.found = found
        self.calls = []
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.refused = None

    def register(self, scan, model, *, force, progress, **options):
        self.calls.append((scan.name, force))
        progress("pose")
        self.begun.release()
        assert self.may_go_on.wait(60)
        progress("fit")
        if self.refused is not None and not force:
            raise self.refused
        mesh = dataclasses.replace(self.found.mesh, name=scan.name)
        return dataclasses.replace(self.found, mesh=mesh, problem=str(self.refused or ""))

    def start(self, *arguments):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        return ours, InThread(theirs, arguments)


class InThread:
    """A thread in place of the process that registers."""

    def __init__(self, connection, arguments):
        self.connection, self.exitcode = connection, 1
        self.thread = threading.Thread(target=self.run, args=arguments, daemon=True)
        self.thread.start()

    def run(self, *arguments):
        with suppress(OSError), self.connection:  # it is closed where it was killed
            send_face(self.connection, *arguments)

    def kill(self):
        self.exitcode = -9
        self.connection.close()

    def join(self):
        pass


class Ended:
    """A process that has ended."""

    def __init__(self, exitcode):
        self.exitcode = exitcode

    def join(self):
        pass


@pytest.fixture
def steps(monkeypatch, found):
    """Replaces the registration: a thread does what this says, and then returns `found`."""
    done = Steps(found)
    monkeypatch.setattr(facedis_core.viewer.scan_jobs, "register", done.register)
    monkeypatch.setattr(facedis_core.viewer.scan_jobs, "start_worker", done.start)
    yield done
    done.may_go_on.set()


def ended(jobs, key):
    """The news of a scan as soon as it is not running."""
    said = jobs.news(key, -1, 0)
    while said["state"] == "running":
        seen = said["version"]
        said = jobs.news(key, seen, 60)
        assert said["version"] != seen, "no news"
    return said


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


class TestJobs:
    def test_a_scan_becomes_a_face_with_its_distances(self, live, steps, scan, encoder, found):
        steps.may_go_on.set()
        said = ended(live.scans, live.scans.start(scan))
        assert (said["state"], said["message"]) == ("done", "")
        face = said["face"]
        assert face["name"] == "scan"
        expected = encoder.model.encode_prepared(found.mesh.vertices[None])
        assert np.array_equal(floats(face["identity"]), expected.identity[0])
        assert (face["scan"]["unit"], face["scan"]["coverage"]) == ("cm", 0.9)
        distances = floats(face["scan"]["face_distances"])
        assert np.array_equal(distances[found.observed], found.distance_mm[found.observed])
        assert np.isnan(distances).mean() > 0.2

    def test_one_is_registered_at_a_time_and_in_order(self, live, steps, scan):
        keys = [live.scans.start(dataclasses.replace(scan, name=f"scan{k}")) for k in range(2)]
        assert steps.begun.acquire(timeout=10)
        assert not steps.begun.acquire(timeout=0.05)
        said = [live.scans.news(key, -1, 0) for key in keys]
        while not any(one["step"] == "pose" for one in said):  # the pipe takes its time
            said = [
                live.scans.news(k, one["version"], 1) for k, one in zip(keys, said, strict=True)
            ]
        assert sorted(one["step"] for one in said) == ["pose", "waiting for another scan"]
        steps.may_go_on.set()
        assert [ended(live.scans, key)["state"] for key in keys] == ["done", "done"]

    def test_one_that_is_cancelled_ends_at_once(self, live, steps, scan):
        first, second = (live.scans.start(scan) for _ in range(2))
        assert steps.begun.acquire(timeout=10)
        live.scans.cancel(first)
        live.scans.cancel(second)
        for key in (first, second):
            assert live.scans.news(key, -1, 0)["state"] == "cancelled"
        third = live.scans.start(scan)
        steps.may_go_on.set()
        assert ended(live.scans, third)["state"] == "done"
        assert live.scans.news(first, -1, 0)["face"] is None

    def test_a_refusal_gives_its_reason_and_can_be_overruled(self, live, steps, scan):
        steps.may_go_on.set()
        reason = "scan: two poses fit alike"
        steps.refused = InputError(f"{reason}, or pass --force-register", ErrorCode.POSE_AMBIGUOUS)
        key = live.scans.start(scan)
        said = ended(live.scans, key)
        assert (said["state"], said["message"], said["can_force"]) == ("refused", reason, True)
        live.scans.force(key)
        said = ended(live.scans, key)
        assert said["state"] == "done"
        assert reason in said["face"]["warning"]
        assert steps.calls == [("scan", False), ("scan", True)]
        with raises("request", "not refused"):
            live.scans.force(key)

    def test_what_is_no_doubt_cannot_be_overruled(self, live, steps, scan):
        steps.may_go_on.set()
        steps.refused = InputError("scan has no size of a head", ErrorCode.UNIT)
        key = live.scans.start(scan)
        assert not ended(live.scans, key)["can_force"]
        with raises("request", "not refused"):
            live.scans.force(key)

    def test_a_process_that_ends_without_a_word_is_told(self, live, steps, scan, monkeypatch):
        for code, words in ((1, "traceback in its terminal"), (-9, "needs more memory")):
            ours, theirs = multiprocessing.Pipe(duplex=False)
            theirs.close()
            worker = Ended(code)
            monkeypatch.setattr(
                facedis_core.viewer.scan_jobs, "start_worker", lambda *_, w=worker, o=ours: (o, w)
            )
            said = ended(live.scans, live.scans.start(scan))
            assert (said["state"], said["can_force"]) == ("refused", False)
            assert words in said["message"]

    def test_a_process_that_does_not_start_is_told(self, live, steps, scan, monkeypatch):
        def start_worker(*arguments):
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(facedis_core.viewer.scan_jobs, "start_worker", start_worker)
        said = ended(live.scans, live.scans.start(scan))
        assert said["message"] == "no process can be started: Resource temporarily unavailable"

    def test_not_more_than_some_wait_or_are_kept(self, live, steps, scan, monkeypatch):
        monkeypatch.setattr(facedis_core.viewer.scan_jobs, "MAX_SCANS", 2)
        monkeypatch.setattr(facedis_core.viewer.scan_jobs, "MAX_KEPT", 2)
        keys = [live.scans.start(scan) for _ in range(2)]
        with raises("request", "wait for one of them, or cancel it"):
            live.scans.start(scan)
        live.scans.cancel(keys[0])
        steps.may_go_on.set()
        ended(live.scans, keys[1])
        live.scans.cancel(live.scans.start(scan))
        with raises("name-unknown", "drop it again"):
            live.scans.news(keys[0], -1, 0)
        assert live.scans.news(keys[1], -1, 0)["state"] == "done"


class TestServer:
    @pytest.fixture
    def server(self, live):
        with running(live) as (server, bugs):
            yield server
            assert not bugs

    @staticmethod
    def drop(server, mesh, name="scan.ply"):
        stream = io.BytesIO()
        write_mesh(stream, mesh, ".ply")
        status, _, body = ask(server, f"encode?name={name}", "POST", stream.getvalue())
        return status, body.decode()

    def test_a_raw_scan_is_registered_while_other_requests_are_answered(self, server, steps, scan):
        status, body = self.drop(server, scan)
        assert status == 200
        key = json.loads(body)["registering"]
        assert steps.begun.acquire(timeout=10)
        said = json.loads(ask(server, f"scan?n={key}&seen=-1")[2])
        while said["step"] != "pose":  # the pipe takes its time
            said = json.loads(ask(server, f"scan?n={key}&seen={said['version']}")[2])
        assert said["state"] == "running"
        assert ask(server, "face?n=0")[0] == 200
        steps.may_go_on.set()
        while said["state"] == "running":
            said = json.loads(ask(server, f"scan?n={key}&seen={said['version']}")[2])
        assert said["state"] == "done"

    def test_cancel_and_force_are_requests(self, server, steps, scan):
        key = json.loads(self.drop(server, scan)[1])["registering"]
        assert ask(server, f"cancel?n={key}", "POST", b"")[0] == 200
        assert json.loads(ask(server, f"scan?n={key}")[2])["state"] == "cancelled"
        assert ask(server, f"force?n={key}", "POST", b"")[0] == 422
        for path in ("cancel", "force"):
            assert ask(server, f"{path}?n=7", "POST", b"")[0] == 422
            assert ask(server, f"{path}?n=1")[0] == 405

    def test_points_and_triangles_of_scanners_are_scans(self, server, steps):
        steps.may_go_on.set()
        lines = "\n".join(f"{k} 0 1" for k in range(300)).encode()
        status, _, body = ask(server, "encode?name=cloud.xyz", "POST", lines)
        assert status == 200
        assert "registering" in json.loads(body)
        status, _, body = ask(server, "encode?name=soup.stl", "POST", b"solid a\nendsolid a\n")
        assert status == 422
        assert b"no whole STL" in body

    def test_without_scipy_the_packages_are_named(self, server, scan, monkeypatch):
        monkeypatch.setitem(sys.modules, "scipy", None)
        status, line = self.drop(server, scan)
        assert status == 422
        assert line.startswith("scan has another topology than the model: registering such a raw")
        assert "-m pip install 'scipy>=" in line


def test_where_there_is_no_prior_the_topology_is_refused_as_ever(model, scan):
    encoder = MeshEncoder(model)
    small = LiveModel(encoder, load_faces(encoder, []))
    with raises("vertex-count", "4601 vertices, expected"):
        small.opened(_ply(scan), "scan.ply")
    with raises("topology", "no bundled registration prior"):
        ScanJobs(encoder).start(scan)


def _ply(mesh):
    stream = io.BytesIO()
    write_mesh(stream, mesh, ".ply")
    return stream.getvalue()


def turned_forwards(vertices, triangles):
    """Share of the triangles that face along +z."""
    return (triangle_normals(vertices.astype(float), triangles)[:, 2] > 0).mean()


class TestView:
    """The scan beside the face: drawn in the face's frame."""

    @pytest.mark.parametrize("is_cloud", [False, True])
    def test_it_lies_on_the_face(self, found, scan, is_cloud):
        given = scan
        if is_cloud:
            given = dataclasses.replace(scan, triangles=np.empty((0, 3), np.int32))
        view = scan_surface(given, TURN, found.mesh, found.distance_mm)
        known = np.isfinite(view.distances)
        assert 0.2 < known.mean() < 0.9  # the left is not compared
        assert np.nanmedian(view.distances) == pytest.approx(0.2, abs=0.1 if not is_cloud else 0.3)
        centre = view.vertices.mean(axis=0)
        assert np.abs(centre - found.mesh.vertices.mean(axis=0)).max() < 6
        share = turned_forwards(view.vertices, view.triangles)
        expected = turned_forwards(found.mesh.vertices, found.mesh.triangles)
        assert share == pytest.approx(expected, abs=0.05 if is_cloud else 0.01)

    @pytest.mark.parametrize("is_cloud", [False, True])
    def test_colors_stay_where_they_are(self, found, scan, is_cloud):
        given = scan
        if is_cloud:
            given = dataclasses.replace(scan, triangles=np.empty((0, 3), np.int32))
        shown = (scan.vertices - TURN.translation) @ TURN.rotation / TURN.scale
        colors = np.where(shown[:, 1:2] > 0, [1.0, 0.5, 0], [0, 0, 1.0])
        view = scan_surface(given, TURN, found.mesh, found.distance_mm, colors)
        assert view.colors.shape == view.vertices.shape
        above, below = view.vertices[:, 1] > 9, view.vertices[:, 1] < -9
        np.testing.assert_allclose(view.colors[above], np.tile([1, 0.5, 0], (above.sum(), 1)))
        np.testing.assert_allclose(view.colors[below], np.tile([0, 0, 1], (below.sum(), 1)))

    def test_a_soup_is_welded_and_its_triangles_are_turned_outwards(self, found, scan):
        corners = scan.vertices[scan.triangles]
        turned = np.random.default_rng(0).random(len(corners)) < 0.5
        corners[turned] = corners[turned][:, ::-1]
        soup = Mesh(corners.reshape(-1, 3), np.arange(corners.size // 3).reshape(-1, 3), "soup")
        view = scan_surface(soup, TURN, found.mesh, found.distance_mm)
        assert len(view.vertices) < 1.1 * len(scan.vertices)
        expected = turned_forwards(found.mesh.vertices, found.mesh.triangles)
        assert turned_forwards(view.vertices, view.triangles) > expected - 0.06

    def test_what_lies_far_from_the_face_is_left_out(self, found, scan):
        far = TURN.apply(np.array([[900.0, 0, 0], [901, 0, 0], [900, 1, 0]]))
        vertices = np.concatenate([scan.vertices, far.astype(np.float32)])
        more = np.concatenate([scan.triangles, [[len(vertices) - k for k in (3, 2, 1)]]])
        view = scan_surface(
            Mesh(vertices, more.astype(np.int32), "far"), TURN, found.mesh, found.distance_mm
        )
        assert view.vertices.max() < 400


class TestPage:
    """What a person sees: with chromium alone."""

    @pytest.fixture
    def page(self, browser, live):
        with running(live) as (server, bugs):
            browser.open(server.url)
            browser.until("updates > 0 && document.readyState === 'complete'")
            yield browser
            assert not browser.complaints()
            assert not bugs

    @pytest.fixture
    def file(self, scan, tmp_path):
        path = tmp_path / "scan.ply"
        path.write_bytes(_ply(scan))
        return str(path)

    def test_a_scan_is_shown_beside_its_face(self, page, steps, file):
        page.find("#first .file").send_keys(file)
        page.until("document.querySelector('.job .words')?.textContent.includes('pose')")
        count = page.run("return updates")
        page.set("#identity-1", 1)
        page.until(f"updates > {count} && !busy")  # while the scan is registered
        steps.may_go_on.set()
        page.until("sides.first.face.scan && !busy")
        assert page.run("return sides.first.choice.selectedOptions[0].text") == "scan"
        assert not page.run("return document.querySelector('.job')")
        report = page.find("#first .report").text
        assert "in cm; the scan shows 90 %" in report
        assert "0.25 mm" in report
        assert not page.find("#second .report").is_displayed()

        plain = page.pixels("#first canvas")
        page.find("#first .distance").click()
        colored = page.pixels("#first canvas")
        assert (plain != colored).any()
        assert page.find("#first .high").text.endswith("mm or more")
        drawn = [colored]
        for what in ("scan", "both"):
            page.run(
                "const s = sides.first.shown; s.value = arguments[0];"
                "s.dispatchEvent(new Event('change'))",
                what,
            )
            drawn.append(page.pixels("#first canvas"))
        assert (drawn[1] != drawn[0]).any()
        assert (drawn[2] != drawn[1]).any()
        page.find("#first .error").click()
        assert not page.find("#first .distance").is_selected()

    @pytest.mark.slow
    def test_a_registration_can_be_cancelled(self, page, steps, file):
        before = page.run("return sides.second.key")
        page.find("#second .file").send_keys(file)
        page.until("document.querySelector('.job .words')?.textContent.includes('pose')")
        page.find(".job .cancel").click()
        page.until("!document.querySelector('.job')")
        steps.may_go_on.set()
        assert page.run("return sides.second.key") == before

    @pytest.mark.slow
    def test_a_refused_scan_can_be_registered_anyway(self, page, steps, file):
        steps.may_go_on.set()
        steps.refused = InputError("scan: two poses fit alike", ErrorCode.POSE_AMBIGUOUS)
        page.find("#first .file").send_keys(file)
        page.until("document.querySelector('.job.refused')")
        assert "two poses fit alike" in page.find(".job .words").text
        page.find(".job .anyway").click()
        page.until("sides.first.face.scan && !busy")
        assert "Doubtful: scan: two poses fit alike" in page.find("#first .report").text
        assert "two poses fit alike" in page.find("#notice").text


@pytest.mark.slow
def test_a_simulated_scan_is_registered_and_mixed(live, encoder):
    face = encoder.model.prepare(read_mesh(EXAMPLES / "alice_smile.ply"))
    simulated = simulate_scan(
        face,
        encoder.model.triangles,
        seed=2,
        kind="cloud",
        clutter=False,
        density=(8000, 9000),
    )
    said = ended(live.scans, live.scans.start(simulated.mesh))
    assert said["state"] == "done", said["message"]
    distances = floats(said["face"]["scan"]["distances"])
    assert np.isfinite(distances).mean() > 0.7
    assert np.nanmean(distances) < 0.6
