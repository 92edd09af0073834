"""The server of fd-view over real sockets."""

import http.client
import json
import select
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from conftest import face, save_mesh
from raising import raises
from serving import ask, running

import facedis_core.viewer.server
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.face_stream import FaceStream
from facedis_core.viewer.faces import ViewerFaces, load_faces
from facedis_core.viewer.live_model import LiveModel
from facedis_core.viewer.server import MAX_CONNECTIONS, MAX_WAITING, LiveServer


@pytest.fixture(scope="module")
def live(model):
    encoder = MeshEncoder(model)
    return LiveModel(encoder, load_faces(encoder, []))


@pytest.fixture(scope="module")
def server(live):
    with running(live) as (server, bugs):
        yield server
        assert not bugs


def a_mixture(server):
    row = json.loads(ask(server, "face?n=0")[2])
    still = {"identity": [], "expression": []}
    share = {"identity": 0.5, "expression": 0.5}
    said = dict(first=row, second=row, share=share, strength=1, moves=still, part="full")
    said |= dict(blendshapes={}, original="")
    return json.dumps(said).encode()


class TestWhatThereIs:
    def test_the_page_and_its_parts(self, server):
        for path, kind in (
            ("", "text/html"),
            ("view.css", "text/css"),
            ("view.js", "text/javascript"),
            ("face_viewer.js", "text/javascript"),
            ("model", "application/json"),
        ):
            status, headers, body = ask(server, path)
            assert (status, headers.get_content_type()) == (200, kind)
            assert len(body) == int(headers["Content-Length"]) > 100

    def test_vertices_and_files_of_a_mixture(self, server, model):
        mixture = a_mixture(server)
        status, _, body = ask(server, "vertices", "POST", mixture)
        assert (status, len(body)) == (200, 4 * model.mean_face.size)
        assert ask(server, "file?suffix=.ply", "POST", mixture)[2].startswith(b"ply\n")
        assert ask(server, "file?suffix=.npy", "POST", mixture)[2].startswith(b"\x93NUMPY")

    def test_a_mesh_is_encoded(self, server, tmp_path):
        mesh = save_mesh(tmp_path / "a.ply", face(1)).read_bytes()
        status, _, body = ask(server, "encode?name=gr%C3%BCn%20%231.ply", "POST", mesh)
        assert status == 200
        assert json.loads(body)["name"] == "grün #1"

    def test_a_connection_serves_many_requests(self, server):
        with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection:
            mixture = a_mixture(server)
            bodies = set()
            for _ in range(5):
                connection.request("POST", f"/{server.token}/vertices", mixture)
                bodies.add(connection.getresponse().read())
                held = connection.sock
                assert held is not None  # the server has not closed it
            assert len(bodies) == 1

    def test_nothing_may_be_kept_framed_or_run_from_elsewhere(self, server):
        for path in ("", "model", "nothing"):
            _, headers, _ = ask(server, path)
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; ")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in headers
            assert "Python" not in str(headers)


class TestWhoIsAnswered:
    @pytest.mark.parametrize("token", ["", "../etc", "x" * 24, "%C3%A9", "%2e%2e"])
    def test_nothing_is_there_without_the_token(self, server, token):
        for path in ("", "model"):
            assert ask(server, path, token=token)[0] == 404

    def test_tokens_are_long_and_never_the_same(self, live):
        with LiveServer(live) as one, LiveServer(live) as other:
            assert one.token != other.token
            assert len(one.token) >= 22

    @pytest.mark.parametrize("path", ["../view.html", "..%2fview.html", "/etc/passwd", "live.py"])
    def test_only_what_is_listed_is_there(self, server, path):
        assert ask(server, path)[0] == 404

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "", None])
    def test_names_that_were_bound_to_this_machine_are_refused(self, server, host):
        assert ask(server, headers={"Host": host})[0] == 403

    def test_who_forwards_a_port_is_told_how(self, server):
        _, _, line = ask(server, headers={"Host": "localhost:9"})
        assert b"Host 'localhost:9', expected 127.0.0.1:%d or" % server.server_port in line
        assert b"forward a port to the same number" in line
        assert ask(server, headers={"Host": f"localhost:{server.server_port}"})[0] == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "https://127.0.0.1:{port}"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_other_pages_are_refused(self, server, headers):
        headers = {k: v.format(port=server.server_port) for k, v in headers.items()}
        for method, path in (("GET", ""), ("POST", "vertices"), ("PUT", "x")):
            assert ask(server, path, method, b"", headers)[0] == 403

    def test_its_own_page_is_answered_on_this_machine_alone(self, server):
        own = {"Origin": f"http://127.0.0.1:{server.server_port}", "Sec-Fetch-Site": "same-origin"}
        assert ask(server, headers=own)[0] == 200
        assert server.socket.getsockname()[0] == "127.0.0.1"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("path", "method", "body", "headers", "status"),
        [
            ("vertices", "GET", None, {}, 405),
            ("", "POST", b"", {}, 405),
            ("", "DELETE", None, {}, 405),
            ("model", "HEAD", None, {}, 405),
            ("vertices", "POST", None, {}, 411),
            ("vertices", "POST", None, {"Transfer-Encoding": "chunked"}, 411),
            ("vertices", "POST", None, {"Content-Length": "99999999"}, 413),
            ("encode?name=a.ply", "POST", None, {"Content-Length": str(257 << 20)}, 413),
            ("", "GET", b"x", {}, 413),
            ("", "GET", None, {"Transfer-Encoding": "chunked"}, 411),
            ("vertices", "POST", None, {"Content-Length": "-1"}, 400),
            ("vertices", "POST", None, {"Content-Length": "9" * 20}, 400),
            ("model?" + "a&" * 20, "GET", None, {}, 400),
            ("vertices", "POST", b"{}", {}, 422),
            ("file?suffix=.exe", "POST", b"{}", {}, 422),
            ("face?n=7", "GET", None, {}, 422),
            ("encode?name=a.ply", "POST", b"solid", {}, 422),
            ("encode?name=a.vtk", "POST", b"solid", {}, 422),
            ("encode", "POST", b"", {}, 422),
            ("encode?name=%00%0a%ff", "POST", b"solid", {}, 422),
        ],
    )
    def test_in_one_line_and_the_next_is_answered(
        self, server, path, method, body, headers, status
    ):
        found, _, line = ask(server, path, method, body, headers)
        assert found == status
        assert line.count(b"\n") == 0
        assert line or method == "HEAD"
        assert ask(server)[0] == 200

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",  # a browser that wants https
            b"BREW /pot HTTP/1.1\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            b"GET /\xc3\xa9\xff\x00/ HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"\r\n",
        ],
    )
    def test_what_is_hardly_http_ends_its_own_connection(self, server, data):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                assert b"Traceback" not in piece
        assert ask(server)[0] == 200

    def test_a_body_that_is_cut_off_ends_its_own_connection(self, server):
        head = (
            f"POST /{server.token}/vertices HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n"
            "Content-Length: 50\r\n\r\n{}"
        )
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.sendall(head.encode())
        assert ask(server)[0] == 200


class TestNews:
    """Requests that wait for faces of standard input."""

    @pytest.fixture
    def stream(self, live):
        return FaceStream(live.encoder)

    @pytest.fixture
    def server(self, live, stream):
        offered = ViewerFaces(live.faces, [], 0)
        with running(LiveModel(live.encoder, offered, stream)) as (server, bugs):
            yield server
            assert not bugs

    def test_a_face_is_told_as_soon_as_it_comes(self, server, stream, tmp_path):
        seen = json.loads(ask(server, "news")[2])
        assert (seen["state"], seen["count"]) == ("open", 0)
        answers = []

        def wait():
            answers.append(ask(server, f"news?seen={seen['version']}"))

        waiting = threading.Thread(target=wait)
        waiting.start()
        path = save_mesh(tmp_path / "a.ply", face(1))
        with path.open("rb") as data:
            stream.read(data)
        waiting.join(5)
        ((status, _, body),) = answers
        assert (status, json.loads(body)["count"]) == (200, 1)
        assert ask(server, "face?n=newest")[2] == ask(server, "face?n=s0")[2]

    def test_without_news_a_request_is_answered_after_a_while(self, server, monkeypatch):
        monkeypatch.setattr(facedis_core.viewer.server, "NEWS_SECONDS", 0.05)
        seen = json.loads(ask(server, "news")[2])
        assert json.loads(ask(server, f"news?seen={seen['version']}")[2]) == seen

    @pytest.mark.parametrize("seen", ["x", "-1", "9" * 99, "²", "1&seen=2"])
    def test_any_version_is_answered(self, server, seen):
        assert ask(server, f"news?seen={quote(seen, safe='&=')}")[0] == 200

    def test_many_that_wait_hold_up_nobody(self, server):
        seen = json.loads(ask(server, "news")[2])
        line = f"GET /{server.token}/news?seen={seen['version']} HTTP/1.1"
        with ExitStack() as stack:
            waiting = []
            for _ in range(MAX_WAITING + 5):
                one = stack.enter_context(socket.create_connection(server.server_address[:2]))
                one.sendall(f"{line}\r\nHost: localhost:{server.server_port}\r\n\r\n".encode())
                waiting.append(one)
            ready: list[socket.socket] = []
            while len(ready) < 5:
                ready, _, _ = select.select(waiting, [], [], 5)
                assert ready
            assert len(ready) == 5
            assert ask(server, "model")[0] == 200

    def test_news_are_for_those_with_the_token(self, server):
        assert ask(server, "news", token="x" * 24)[0] == 404
        assert ask(server, "news", headers={"Origin": "http://evil.example"})[0] == 403
        assert ask(server, "news", "POST", b"")[0] == 405


class TestManyClients:
    def test_one_that_sends_nothing_more_holds_up_nobody(self, server, monkeypatch):
        monkeypatch.setattr(facedis_core.viewer.server._Handler, "timeout", 1.0)
        head = (
            f"POST /{server.token}/encode?name=a.ply HTTP/1.1\r\n"
            f"Host: localhost:{server.server_port}\r\nContent-Length: 1000000\r\n\r\nply\n"
        )
        slow = [
            socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
            for _ in range(20)
        ]
        for number, connection in enumerate(slow):
            connection.sendall(head[: len(head) - 30 * number].encode())
        start = time.monotonic()
        assert ask(server)[0] == 200
        assert time.monotonic() - start < 0.9
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")  # and is given up
        for connection in slow:
            connection.close()

    @pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: a", b"POST"])
    def test_slow_ones_beyond_what_there_is_room_for_make_room_for_new_ones(self, live, beginning):
        with running(live) as (server, bugs):
            slow = []
            for _ in range(MAX_CONNECTIONS + 5):
                slow.append(socket.create_connection(server.server_address[:2], timeout=20))
                slow[-1].sendall(beginning)
            for _ in range(3):
                assert ask(server)[0] == 200
            for connection in slow[:5]:
                with suppress(ConnectionResetError):
                    assert connection.recv(1) == b""
            assert len(server.connections) <= MAX_CONNECTIONS
            for connection in slow:
                connection.close()
            assert not bugs

    def test_those_with_the_token_stay_longest(self, live):
        with running(live) as (server, bugs), ExitStack() as stack:
            own = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            stack.callback(own.close)
            own.request("GET", f"/{server.token}/model")
            own.getresponse().read()
            for _ in range(2 * MAX_CONNECTIONS):
                address = server.server_address[:2]
                stack.enter_context(socket.create_connection(address, timeout=20))
            assert own.sock is not None
            own.request("GET", f"/{server.token}/model")
            assert own.getresponse().status == 200
            assert not bugs

    def test_responses_that_nobody_reads_make_room(self, live):
        with running(live) as (server, bugs), ExitStack() as stack:
            line = f"GET /{server.token}/view.js HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}"
            for _ in range(MAX_CONNECTIONS + 5):
                address = server.server_address[:2]
                one = stack.enter_context(socket.create_connection(address, timeout=20))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                with suppress(ConnectionError):
                    one.sendall(f"{line}\r\n\r\n".encode() * 100)
            assert ask(server)[0] == 200
            assert not bugs

    def test_headers_that_come_byte_by_byte_are_cut_off(self, live, monkeypatch):
        monkeypatch.setattr(facedis_core.viewer.server, "SOCKET_TIMEOUT", 0.3)
        with running(live) as (server, bugs):
            slow = socket.create_connection(server.server_address[:2], timeout=20)
            slow.sendall(b"GET / HTTP/1.1\r\n")
            end = time.monotonic() + 20
            with closing(slow), suppress(ConnectionError):
                while time.monotonic() < end:
                    slow.sendall(b"a")
                    time.sleep(0.02)
            assert time.monotonic() < end
            assert not bugs

    def test_a_thread_that_the_system_refuses_closes_one_connection(self, live, monkeypatch):
        with running(live) as (server, bugs):
            start = threading.Thread.start
            refused = iter([True])

            def limited(thread):
                if next(refused, False):
                    raise RuntimeError("can't start new thread")
                start(thread)

            monkeypatch.setattr(threading.Thread, "start", limited)
            refused_one = socket.create_connection(server.server_address[:2])
            with closing(refused_one), suppress(ConnectionResetError):
                assert refused_one.recv(1) == b""
            assert ask(server)[0] == 200
            assert not bugs

    def test_everybody_gets_an_own_answer(self, server, live):
        mixture = json.loads(a_mixture(server))
        expected, found = {}, {}
        for n in range(8):
            mixture["moves"] = {"identity": [n / 4], "expression": []}
            said = json.dumps(mixture).encode()
            expected[n] = said, live.vertices(live.mixture(said)).tobytes()

        def client(n):
            said, _ = expected[n]
            found[n] = {ask(server, "vertices", "POST", said)[2] for _ in range(10)}

        threads = [threading.Thread(target=client, args=(n,)) for n in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {n: {answer} for n, (_, answer) in expected.items()}

    def test_one_that_leaves_before_its_answer_is_no_bug(self, live):
        with running(live) as (server, bugs):
            for _ in range(20):
                connection = socket.create_connection(("127.0.0.1", server.server_port))
                host = f"localhost:{server.server_port}"
                request = f"GET /{server.token}/view.js HTTP/1.1\r\nHost: {host}\r\n\r\n"
                connection.sendall(request.encode() * 50)
                # closes with a reset, so that what is written breaks
                linger = np.array([1, 0], np.int32).tobytes()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()
            assert ask(server)[0] == 200
            time.sleep(0.1)
            assert not bugs


def test_a_bug_is_told_to_the_terminal_and_the_next_request_is_answered(live):
    broken = LiveModel(live.encoder, ViewerFaces(live.faces, [], None))
    with running(broken) as (server, bugs):
        broken.faces[0] = replace(broken.faces[0], latents=None)
        status, _, line = ask(server, "face?n=0")
        assert status == 500
        assert b"bug" in line
        assert b"NoneType" not in line
        assert [type(bug) for bug in bugs] == [AttributeError]
        assert ask(server)[0] == 200


def test_a_port_that_is_taken_is_a_mistake_in_the_call(live, server):
    with raises("option-value", "--port"):
        LiveServer(live, server.server_port)
