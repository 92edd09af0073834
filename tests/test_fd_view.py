"""fd-view, and its page in a browser."""

import base64
import http.client
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import face, save_mesh
from images import png
from synthetic import grid_mesh

from facedis_core.data.latents import read_latents
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.model_file import load_model

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "weights" / "examples"
ADDRESS = re.compile(r"http://127\.0\.0\.1:[0-9]+/[\w-]{20,}/\n")


@contextmanager
def viewing(commands, *arguments, model="", cwd=None, stdin=None, **environment):
    """The address that fd-view prints, and its process; its standard input may be a pipe."""
    process = subprocess.Popen(
        [commands / "fd-view", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "FACEDIS_MODEL": str(model), **environment},
    )
    try:
        line = process.stderr.readline()
        assert ADDRESS.fullmatch(line), line + process.stderr.read()
        yield line.strip(), process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()


def ask(url, method="GET", body=None):
    """Status and body of a request below the address."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=20)
    try:
        connection.request(method, place.path + ("?" + place.query if place.query else ""), body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_says_one_line_serves_and_ends_quietly_by_ctrl_c(commands, model_file):
    with viewing(commands, model=model_file) as (url, process):
        status, page = ask(url)
        assert status == 200
        assert b"<title>fd-view</title>" in page
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT  # 130 to a shell
    assert (out, err) == ("", "")


def test_ctrl_c_ends_it_while_a_client_is_connected(commands, model_file):
    with viewing(commands, model=model_file) as (url, process):
        place = urlsplit(url)
        connection = http.client.HTTPConnection(place.netloc)
        connection.request("GET", place.path)
        connection.getresponse().read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT
        connection.close()


def test_the_browser_is_opened_where_that_is_asked_for(commands, model_file, tmp_path):
    browser = tmp_path / "browser"
    opened = tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.new\nmv {opened}.new {opened}\n')
    browser.chmod(0o755)
    with viewing(commands, "--open", model=model_file, BROWSER=str(browser)) as (url, _):
        end = time.monotonic() + 10
        while not opened.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert opened.read_text() == f"{url}\n"
        assert ask(url)[0] == 200


def test_faces_of_every_kind_can_be_chosen_from(commands, call, faces, model_file, tmp_path):
    assert call("fd-encode faces/bob.ply -o bob.npy").code == 0
    vertices = np.stack([face(7), face(8)])
    np.save(tmp_path / "two.npy", vertices)
    given = ("faces", "bob.npy", "two.npy")
    with viewing(commands, *given, model=model_file, cwd=tmp_path) as (url, _):
        status, said = ask(url + "model")
    assert status == 200
    for name in (b'"deep/dan"', b'"eva gr\\u00fcn"', b'"cy"', b'"two_0001"', b'"mean face"'):
        assert name in said
    for name in (b'"bob (bob.ply)"', b'"bob (bob.npy)"'):
        assert name in said


def test_a_doubtful_face_is_warned_of_as_by_fd_encode(commands, call, model_file, tmp_path):
    save_mesh(tmp_path / "odd.ply", face(0) + 5)
    warned = call("fd-encode odd.ply -o odd.npy").line
    with subprocess.Popen(
        [commands / "fd-view", "-m", model_file, "odd.ply"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        first, address = (process.stderr.readline() for _ in range(2))
        process.terminate()
    assert first.replace("fd-view", "fd-encode") == f"{warned}\n"
    assert ADDRESS.fullmatch(address)


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "named"),
    [
        ("missing.ply", 3, "file-missing", "missing.ply"),
        ("--port 70000", 2, "arguments", "65535"),
        ("--model nothing", 2, "model-missing", "'nothing'"),
        ("-m {model} far.ply", 3, "far-face", "far.ply"),
    ],
)
def test_what_cannot_be_shown_is_told_before_anything_is_served(
    call, model_file, tmp_path, arguments, code, kind, named
):
    save_mesh(tmp_path / "far.ply", face(0) + 500)
    result = call(f"fd-view {arguments.format(model=model_file)}")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert not result.out


def test_a_port_that_is_taken_is_a_mistake_in_the_call(commands, call, model_file):
    with viewing(commands, model=model_file) as (url, _):
        result = call(f"fd-view --port {urlsplit(url).port}")
    assert (result.code, result.kind) == (2, "option-value")
    assert "--port" in result.line


# Tells of everything that Python opens to write, or makes, in its own process.
WATCHED = """
import os, sys
def watch(event, arguments):
    wanted = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    made = event in ("os.mkdir", "os.rename", "tempfile.mkstemp", "tempfile.mkdtemp")
    if made or (event == "open" and isinstance(arguments[2], int) and arguments[2] & wanted):
        os.write(2, f"WROTE {event} {arguments}\\n".encode())
sys.addaudithook(watch)
import fd_view
sys.argv = ["fd-view"]
fd_view.main()
"""


def news(url, done):
    """What the page is told of standard input, as soon as it satisfies a condition."""
    told = json.loads(ask(url + "news")[1])
    end = time.monotonic() + 10
    while not done(told):
        assert time.monotonic() < end, told
        told = json.loads(ask(f"{url}news?seen={told['version']}")[1])
    return told


def sent(process, data):
    """Write bytes to the standard input of a process, at once."""
    process.stdin.buffer.write(data)
    process.stdin.buffer.flush()


def ply(name, vertices):
    """The bytes of a face of the small model."""
    stream = io.BytesIO()
    write_mesh(stream, Mesh(vertices, grid_mesh()[1], name, unit_mm=1.0))
    return stream.getvalue()


class TestStandardInput:
    @pytest.mark.parametrize("before", ["", "fd-decode", "fd-decode --npy"])
    def test_a_finite_stream_ends_in_the_faces_of_a_file(
        self, commands, call, faces, model_file, before
    ):
        data = call("fd-encode faces").out
        names = ["ann", "bob", "cy", "deep/dan", "eva grün"]
        if before:
            data = call(before, stdin=data).out
        if "--npy" in before:
            names = [f"row{number:04d}" for number in range(len(names))]
        with viewing(commands, "-", model=model_file, stdin=subprocess.PIPE) as (url, process):
            sent(process, data)
            process.stdin.close()
            told = news(url, lambda told: told["state"] == "ended")
            said = json.loads(ask(url + "model")[1])
        assert [label for _, label in told["faces"]] == names
        assert (said["faces"], said["stream"]) == (["mean face"], 0)

    def test_faces_are_shown_as_they_come_and_a_broken_stream_is_told(self, commands, model_file):
        pipe = subprocess.PIPE
        with viewing(commands, "-", model=model_file, stdin=pipe) as (url, process):
            assert news(url, lambda told: True)["count"] == 0  # before the first face
            for number in (1, 2):
                sent(process, ply(f"face {number}", face(number)))
                told = news(url, lambda told, number=number: told["count"] == number)
                assert told["state"] == "open"
                assert json.loads(ask(url + "face?n=newest")[1])["name"] == f"face {number}"
            sent(process, b"ply\nformat")
            process.stdin.close()
            told = news(url, lambda told: told["state"] != "open")
            line = process.stderr.readline()
            assert ask(url)[0] == 200
        assert told["state"] == "broken"
        assert "standard input, mesh 3" in told["message"]
        assert told["message"] in line
        assert "after 2 faces" in line

    def test_ctrl_c_ends_it_while_the_stream_is_open(self, commands, model_file):
        pipe = subprocess.PIPE
        with viewing(commands, "-", model=model_file, stdin=pipe) as (url, process):
            sent(process, ply("ann", face(1))[:100])
            assert ask(url)[0] == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == -signal.SIGINT
            assert process.stderr.read() == ""

    def test_a_terminal_is_refused(self, call):
        leader, follower = pty.openpty()
        with os.fdopen(leader, "rb"), os.fdopen(follower, "r") as terminal:
            result = call("fd-view -", stdin=terminal)
        assert (result.code, result.kind) == (2, "terminal")


def test_faces_of_files_are_in_order_and_told_apart(commands, call, model_file, tmp_path):
    for name in ("x/ann", "y/ann", "bob"):
        save_mesh(tmp_path / f"{name}.ply", face(len(name)))
    assert call("fd-encode bob.ply -o bob.npy").code == 0
    given = ("y/ann.ply", "bob.npy", "x/ann.ply", "bob.ply")
    with viewing(commands, *given, model=model_file, cwd=tmp_path) as (url, _):
        said = json.loads(ask(url + "model")[1])
    assert said["faces"] == ["y/ann", "bob (bob.npy)", "x/ann", "bob (bob.ply)", "mean face"]


def test_nothing_is_written_to_disk(model_file, tmp_path):
    good = save_mesh(tmp_path / "good.obj", face(3)).read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", WATCHED],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FACEDIS_MODEL": str(model_file), "PYTHONPATH": str(ROOT / "tools")},
    )
    try:
        url = process.stderr.readline().strip()
        assert ask(url + "encode?name=good.obj", "POST", good)[0] == 200
        for name in ("bad.vtk", "bad.off", "bad.stl", "bad.ply", "bad.npy", "../bad", "/bad"):
            assert ask(url + f"encode?name={name}", "POST", b"OFF\n3 1 0\n0 0 0\n")[0] == 422
        process.terminate()
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert err == ""


@contextmanager
def served(commands, model):
    """The address of the page of a bundled model and the faces that are bundled."""
    with viewing(commands, model=model) as (url, process):
        yield url
        process.terminate()
        assert process.communicate()[1] == ""  # no traceback in all of these tests


@contextmanager
def opened(browser, address):
    """The page with A and B on it, which ends without errors in the console."""
    browser.open(address)
    browser.until("updates > 0 && document.readyState === 'complete'")
    yield browser
    assert not browser.complaints()


@pytest.fixture(scope="module")
def address(commands):
    with served(commands, "ict-pointnet") as url:  # of 4,601 vertices, which are drawn soonest
        yield url


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


@pytest.fixture(scope="module")
def default_address(commands):
    with served(commands, "") as url:
        yield url


@pytest.fixture
def head_page(browser, default_address):
    """The page of the default model: whole heads."""
    with opened(browser, default_address) as page:
        yield page


class TestPage:
    """What a person does on the page, with the model and the faces that are bundled."""

    @staticmethod
    def moved(page, action):
        """What an action changes: the result before and after it, drawn."""
        before, count = page.pixels("#mixed"), page.run("return updates")
        action()
        page.until(f"updates > {count} && !busy")
        return before, page.pixels("#mixed")

    def test_three_faces_are_drawn(self, head_page):
        for canvas in ("#first canvas", "#second canvas", "#mixed"):
            pixels = head_page.pixels(canvas)
            is_face = pixels[..., 3] == 255
            assert is_face.any(axis=1).mean() > 0.5  # a head fills the height of a wide canvas
            assert 0.1 < is_face[:, is_face.any(axis=0)].mean() < 0.8
            assert pixels[0, 0, 3] == 0  # beside the face the page shows through
            assert pixels[..., :3][pixels[..., 3] == 255].std() > 10  # lit, not flat

    def test_every_control_has_a_name(self, head_page):
        nameless = head_page.run(
            "return [...document.querySelectorAll('input, select, button, canvas')].filter("
            "(e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).length"
        )
        assert nameless == 0
        sliders = "return document.querySelectorAll('input[type=range]').length"
        assert head_page.run(sliders) == 19 + 51  # and ARKit's blendshapes
        names = head_page.run(
            "return [...document.querySelectorAll('#expression input')].map((e) => e.ariaLabel)"
        )
        assert re.fullmatch(r"expression direction 2: lips and chin, 3\.5 mm sideways", names[1])
        assert len(set(names)) == 8

    def test_sliders_parts_and_buttons_change_the_face(self, page):
        for action in (
            lambda: page.set("#identity-1", 2.5),
            lambda: page.set("#expression-1", -2),
            lambda: page.set("#mixture-Strength", 0),
            lambda: page.find("#mixture .reset").click(),
            lambda: page.find("#identity .random").click(),
            lambda: page.find("[value=identity]").click(),
        ):
            before, after = self.moved(page, action)
            assert (before != after).any()

    @pytest.mark.slow  # 4 s: deformation transfer of the first one
    def test_blendshapes_have_the_names_of_arkit(self, head_page):
        head_page.find("#arkit summary").click()
        before, after = self.moved(head_page, lambda: head_page.set("#arkit-eyeBlinkLeft", 1))
        difference = np.abs(after.astype(int) - before).max(axis=-1)
        rows, columns = (difference > 20).nonzero()
        height, width = before.shape[:2]
        assert np.median(columns) > width / 2  # the person's left
        assert np.ptp(np.percentile(rows, [25, 75])) < height / 8
        _, again = self.moved(head_page, lambda: head_page.find("#arkit .reset").click())
        assert np.array_equal(before, again)
        self.moved(head_page, lambda: head_page.set("#arkit-eyeBlinkLeft", 1))
        head_page.find("[data-suffix='.npy']").click()
        said = head_page.until("document.querySelector('#notice.bad')?.textContent")
        assert "latents cannot hold ARKit's blendshapes" in said
        assert len(head_page.complaints()) == 1  # the browser's own word on the refusal

    def test_the_edges_of_triangles_are_drawn(self, page):
        plain = page.pixels("#mixed")
        page.find("#wireframe").click()
        wired = page.pixels("#mixed")
        inside = plain[..., 3] == 255
        assert (plain != wired).any(axis=-1)[inside].mean() > 0.3
        assert wired[inside].mean() < plain[inside].mean()
        page.find("#wireframe").click()
        assert np.array_equal(plain, page.pixels("#mixed"))

    @pytest.mark.slow  # 2 s: a whole head as OBJ; tests/viewer/test_live_model.py has a small one
    def test_the_file_of_a_comes_back(self, page, call, tmp_path):
        mesh = read_mesh(EXAMPLES / "bob_smile.ply")
        path = save_mesh(tmp_path / "mine.obj", mesh.vertices, mesh.triangles)
        path.write_bytes(b"# mine\n" + path.read_bytes())
        assert not page.find("#onto").is_enabled()  # a bundled face
        page.find("#first .file").send_keys(str(path))
        page.until("sides.first.face.name === 'mine' && !busy")
        page.run("sides.second.choose(sides.first.key)")
        page.until("sides.second.face.name === 'mine' && !busy")
        page.find("#onto").click()
        assert page.downloaded("mine.obj").read_bytes() == path.read_bytes()

    @pytest.mark.slow
    def test_a_texture_that_is_opened_with_a_mesh_is_drawn(self, page, tmp_path):
        """Of a whole head, of which the model has the face; the result has the texture of A."""
        mesh = read_mesh(EXAMPLES / "bob_smile.ply")
        path = save_mesh(tmp_path / "mine.obj", mesh.vertices, mesh.triangles)
        faces = [
            "f " + " ".join(f"{k}/{k}" for k in t)
            for t in (mesh.triangles + 1).astype(str).tolist()
        ]
        places = [f"vt {x % 1} {y % 1}" for x, y, _ in (mesh.vertices / 300).tolist()]
        vertices = [line for line in path.read_text().splitlines() if line.startswith("v ")]
        head = ["mtllib m.mtl", *vertices, *places, "usemtl skin", *faces, ""]
        path.write_text("\n".join(head))
        (tmp_path / "m.mtl").write_text("newmtl skin\nmap_Kd green.png\n")
        (tmp_path / "green.png").write_bytes(png(0, 255, 0))
        files = [path, tmp_path / "m.mtl", tmp_path / "green.png"]
        page.find("#first .file").send_keys("\n".join(map(str, files)))
        page.until("sides.first.face.name === 'mine' && !busy", 30)

        def green(canvas):
            pixels = page.pixels(canvas).astype(int)
            on_face = pixels[pixels[..., 3] == 255]
            return (on_face[:, 1] > 2 * on_face[:, [0, 2]].max(axis=1)).mean()

        assert green("#first canvas") > 0.9 and green("#mixed") > 0.9
        assert green("#second canvas") == 0
        page.find("#texture").click()
        page.until("!busy && !wanted")
        assert green("#first canvas") == 0 and green("#mixed") == 0

    def test_reset_brings_the_face_back(self, page):
        before, after = self.moved(page, lambda: page.set("#identity-1", 3))
        assert (before != after).any()
        _, again = self.moved(page, lambda: page.find("#identity .reset").click())
        assert np.array_equal(before, again)

    def test_the_newest_wish_wins(self, page):
        page.run(
            "for (let i = 0; i <= 60; i++) { const input = document.querySelector('#identity-1');"
            "input.value = i / 20; input.dispatchEvent(new Event('input')); }"
        )
        page.until("!busy && !wanted")
        assert page.run("return updates") < 20  # requests do not queue up
        quickly = page.pixels("#mixed")
        _, slowly = self.moved(page, lambda: page.set("#identity-1", 3))
        assert np.array_equal(quickly, slowly)

    @pytest.mark.slow
    def test_keys_and_the_mouse_turn_all_faces(self, page):
        before = {name: page.pixels(name) for name in ("#first canvas", "#mixed")}
        page.find("#mixed").send_keys("\ue014\ue014+")  # right, right, plus
        assert page.run("return viewers.map((viewer) => viewer.yaw)") == [15, 15, 15]
        assert all((before[name] != page.pixels(name)).any() for name in before)
        page.find("#mixed").send_keys("0")
        assert all(np.array_equal(before[name], page.pixels(name)) for name in before)

        grip = page.find("#second canvas")
        page.drag(grip, 40, -20)
        yaw, pitch, _ = page.run("return result.pose")
        assert (yaw, pitch) == pytest.approx((20, -10))
        page.run(
            "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -100, cancelable: true}))",
            grip,
        )
        assert page.run("return result.zoom") > 1.1
        page.driver.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))", grip
        )
        assert page.run("return result.pose") == [0, 0, 1]

    def test_a_lost_context_comes_back(self, page):
        before = page.pixels("#mixed")
        page.run(
            "window.losing = result.gl.getExtension('WEBGL_lose_context'); losing.loseContext()"
        )
        page.until("result.gl.isContextLost()")
        page.run("losing.restoreContext()")
        page.until("!result.gl.isContextLost()")
        assert np.array_equal(before, page.pixels("#mixed"))

    def choose(self, page, side, name):
        count = page.run("return updates")
        page.run(
            "const choice = sides[arguments[0]].choice;"
            "choice.value = [...choice.options].find((o) => o.text === arguments[1]).value;"
            "choice.dispatchEvent(new Event('change'));",
            side,
            name,
        )
        page.until(f"updates > {count} && !busy")

    @pytest.mark.slow
    def test_a_transfer_is_what_the_commands_make(self, head_page, call, tmp_path):
        self.choose(head_page, "first", "alice_neutral")
        self.choose(head_page, "second", "bob_smile")
        found = {}
        for suffix in (".ply", ".obj", ".npy"):
            head_page.find(f"[data-suffix='{suffix}']").click()
            found[suffix] = head_page.downloaded(f"alice_neutral__bob_smile{suffix}")
        ict = {"FACEDIS_MODEL": ""}
        smile = call(f"fd-encode {EXAMPLES}/bob_smile.ply", env=ict).out
        for line in (
            f"fd-encode {EXAMPLES}/alice_neutral.ply -o a.npy",
            "fd-transfer a.npy - -o ab.npy",
            "fd-decode ab.npy -o ab.ply",
        ):
            assert call(line, stdin=smile, env=ict).code == 0
        assert found[".npy"].read_bytes() == (tmp_path / "ab.npy").read_bytes()
        assert found[".ply"].read_bytes() == (tmp_path / "ab.ply").read_bytes()
        assert np.array_equal(
            read_mesh(found[".obj"]).vertices, read_mesh(tmp_path / "ab.ply").vertices
        )
        back = call("fd-encode -o again.npy", stdin=found[".ply"].read_bytes(), env=ict)
        assert back.code == 0
        assert read_latents(str(tmp_path / "again.npy")).names == ["alice_neutral__bob_smile"]

    @pytest.mark.slow
    def test_a_mesh_that_is_opened_becomes_a(self, page, tmp_path):
        mesh = read_mesh(EXAMPLES / "carol_smile.ply")
        dropped = save_mesh(tmp_path / "mine.obj", mesh.vertices * 1.01, mesh.triangles)
        page.find("#first .file").send_keys(str(dropped))
        page.until("sides.first.face.name === 'mine' && !busy")
        assert page.run("return sides.first.choice.selectedOptions[0].text") == "mine"
        assert (
            page.run("return document.querySelector('#notice').textContent")
            == "mine.obj is encoded"
        )
        assert page.run("return document.querySelector('#name').textContent").startswith("mine__")

    def test_a_mesh_that_is_dropped_on_b_becomes_b(self, page):
        content = base64.b64encode((EXAMPLES / "bob_smile.ply").read_bytes()).decode()
        page.run(
            "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
            "const files = new DataTransfer(); files.items.add(new File([bytes], 'b.ply'));"
            "document.querySelector('#second canvas').dispatchEvent("
            "new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true}));",
            content,
        )
        page.until("sides.second.face.name === 'b' && !busy")
        assert page.run("return sides.first.face.name") != "b"

    @pytest.mark.slow
    def test_of_several_files_each_can_be_chosen(self, page, tmp_path):
        paths = [tmp_path / name for name in ("one.ply", "notes.txt", "two.ply")]
        for path in paths:
            path.write_bytes((EXAMPLES / "bob_smile.ply").read_bytes())
        page.find("#first .file").send_keys("\n".join(map(str, paths)))
        said = page.until("document.querySelector('#notice.bad')?.textContent")
        assert "notes.txt cannot be opened by fd-view" in said
        assert page.run("return sides.first.face.name") == "one"
        assert self.labels(page)[-2:] == ["one", "two"]
        assert len(page.complaints()) == 1  # the browser's own word on the refusal

    @staticmethod
    def labels(page):
        return page.run("return [...sides.first.choice.options].map((option) => option.text)")

    @pytest.mark.slow
    def test_opened_files_of_one_name_are_told_apart(self, page, tmp_path):
        mesh = read_mesh(EXAMPLES / "bob_smile.ply")
        for name in ("bob_smile.ply", "bob_smile.obj"):
            opened = save_mesh(tmp_path / name, mesh.vertices, mesh.triangles)
            for _ in range(2):
                count = len(self.labels(page))
                page.find("#first .file").send_keys(str(opened))
                page.until(f"sides.first.choice.options.length > {count}")
        labels = self.labels(page)
        assert labels[-4:] == [
            "bob_smile (bob_smile.ply)",
            "bob_smile (bob_smile.ply) 2",
            "bob_smile (bob_smile.obj)",
            "bob_smile (bob_smile.obj) 2",
        ]
        assert len(set(labels)) == len(labels)

    def test_a_picture_of_the_result_is_saved(self, page):
        page.find("#mixed").send_keys("\ue014")  # right
        self.moved(page, lambda: page.find("[value=identity]").click())
        size = page.run("return [result.canvas.width, result.canvas.height]")
        name, shown = page.run("return nameOfResult()"), page.pixels("#mixed")
        page.find("#picture").click()
        content = page.downloaded(f"{name}_identity_view8_0.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert list(struct.unpack(">II", content[16:24])) == size
        drawn = page.driver.execute_async_script(
            "const [text, done] = arguments, image = new Image();"
            "image.onload = () => { const canvas = document.createElement('canvas');"
            "canvas.width = image.width; canvas.height = image.height;"
            "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
            "const {data} = context.getImageData(0, 0, image.width, image.height);"
            "let opaque = 0; for (let i = 3; i < data.length; i += 4) opaque += data[i] === 255;"
            "done(opaque / (data.length / 4)); };"
            "image.src = 'data:image/png;base64,' + text;",
            base64.b64encode(content).decode(),
        )
        assert drawn == pytest.approx((shown[..., 3] == 255).mean(), abs=1e-6)

    def test_a_file_says_how_it_was_mixed(self, page):
        page.set("#mixture-Identity", 0.5)
        page.set("#expression-1", 2)
        _, _ = self.moved(page, lambda: page.set("#mixture-Strength", 1.5))
        name = page.run("return nameOfResult()")
        page.find("[data-suffix='.npy']").click()
        assert page.downloaded(f"{name}_id50_x1.5_moved.npy").stat().st_size

    def test_a_bad_file_is_told_as_the_command_line_tells_it(self, page, call, tmp_path):
        whole = (EXAMPLES / "bob_smile.ply").read_bytes()
        (tmp_path / "cut.ply").write_bytes(whole[: len(whole) // 2])
        name = page.run("return sides.first.face.name")
        page.find("#first .file").send_keys(str(tmp_path / "cut.ply"))
        said = page.until("document.querySelector('#notice.bad')?.textContent")
        line = call("fd-encode cut.ply", env={"FACEDIS_MODEL": ""}).line
        assert line == f"fd-encode: {said}"
        assert page.run("return sides.first.face.name") == name
        # the browser itself writes the refusal down; it is the only complaint
        (complaint,) = page.complaints()
        assert "422" in complaint
        before, after = self.moved(page, lambda: page.set("#identity-1", 2))
        assert (before != after).any()

    @pytest.mark.slow
    def test_what_the_model_lacks_is_shown_in_colors(self, head_page):
        self.choose(head_page, "first", "alice_smile")
        skin = head_page.pixels("#first canvas")
        head_page.find("#first .error").click()
        heat = head_page.pixels("#first canvas")
        assert np.array_equal(skin[..., 3], heat[..., 3])
        on_face = heat[..., 3] == 255
        assert (skin != heat).any(-1)[on_face].mean() > 0.9
        model = load_model("ict-linear")
        vertices = read_mesh(EXAMPLES / "alice_smile.ply").vertices[None]
        latents = model.encode_prepared(vertices)
        error = np.linalg.norm(
            model.decode_vectors(latents.identity, latents.expression) - vertices, axis=2
        )
        words = head_page.find("#first .numbers").text
        told = [float(number) for number in re.findall(r"[\d.]+", words)]
        assert told == pytest.approx([error.mean(), error.max()], rel=0.05)
        head_page.find("#first .error").click()
        assert np.array_equal(skin, head_page.pixels("#first canvas"))

    @pytest.mark.slow
    def test_without_webgl_a_sentence_says_so(self, browser, address):
        script = browser.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument",
            {"source": "HTMLCanvasElement.prototype.getContext = () => null;"},
        )
        try:
            browser.open(address)
            browser.until("updates > 0")
            assert browser.run("return document.querySelectorAll('canvas').length") == 0
            assert browser.find("main").text.count("WebGL 2 is missing or turned off.") == 3
            assert not browser.complaints()
        finally:
            browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    @pytest.mark.slow
    def test_the_newest_face_of_a_stream_is_shown(self, browser, commands, model_file):
        pipe = subprocess.PIPE
        with viewing(commands, "-", model=model_file, stdin=pipe) as (url, process):
            browser.open(url)
            browser.until("updates > 0")
            assert self.labels(browser) == ["Newest (live)", "mean face"]
            assert "waiting" in browser.find("#stream").text
            for number, name in enumerate(("ann", "bob")):
                sent(process, ply(name, face(number)))
                browser.until(f"nameOfResult() === '{name}' && !busy")
            assert browser.find("#stream").text == "live: 2 faces"
            self.choose(browser, "first", "ann")
            sent(process, ply("cy", face(3)))
            browser.until("nameOfResult() === 'ann__cy' && !busy")
            process.stdin.close()
            browser.until("news.state === 'ended' && !faces.has('newest')")
            assert self.labels(browser) == ["ann", "bob", "cy", "mean face"]
            values = "return [sides.first.choice.value, sides.second.choice.value]"
            assert browser.run(values) == ["s0", "s2"]
            assert browser.find("#stream").text == "input has ended: 3 faces"
            self.choose(browser, "second", "bob")
            browser.set("#identity-1", 1)
            browser.until("!busy && !wanted")
            assert not browser.complaints()

    @pytest.mark.slow
    def test_a_stream_drives_the_expression_of_a_face_of_a_file_until_it_breaks(
        self, browser, commands, model_file, tmp_path
    ):
        file, pipe = save_mesh(tmp_path / "ann.ply", face(1)), subprocess.PIPE
        with viewing(commands, file, "-", model=model_file, stdin=pipe) as (url, process):
            browser.open(url)
            browser.until("updates > 0")
            sent(process, ply("bob", face(2)))
            browser.until("nameOfResult() === 'ann__bob' && !busy")
            sent(process, b"ply?")
            process.stdin.close()
            browser.until("document.querySelector('#notice.bad')")
            assert browser.find("#notice").text == "standard input broke off"
            words = browser.find("#stream.bad").text
            assert words.startswith("input broke off after 1 face: standard input, mesh 2: ")
            assert self.labels(browser) == ["ann", "bob", "mean face"]
            self.choose(browser, "first", "bob")
            assert not browser.complaints()

    def test_a_face_that_is_no_longer_kept_stays_as_long_as_it_is_shown(self, page):
        """News of a stream, as the server would send them."""
        page.run(
            "model.stream = 0;"
            "return showNews({version: 1, state: 'open', count: 2, refused: 0, message: '',"
            " faces: [['s0', 'one'], ['s1', 'two']]})"
        )
        page.run(
            "sides.first.take(sides.first.face, 's0'); sides.first.choice.value = 's0';"
            "return showNews({version: 2, state: 'open', count: 3, refused: 1, message: 'odd',"
            " faces: [['s2', 'three']]})"
        )
        assert self.labels(page)[:3] == ["one", "three", "alice_mouth_stretch"]
        assert page.find("#stream").text == "live: 3 faces, 1 not usable: odd"
        self.choose(page, "second", "one")
        assert page.run("return sides.second.key") == "s0"

    @pytest.mark.slow
    def test_a_server_that_has_gone_is_told(self, browser, commands, model_file):
        with viewing(commands, model=model_file) as (url, process):
            browser.open(url)
            browser.until("updates > 0")
            process.terminate()
            process.wait()
            browser.set("#identity-1", 1)
            browser.until("document.querySelector('#notice.bad')")
        assert "is it still running?" in browser.find("#notice").text
        browser.complaints()
