"""HTTP server of fd-view, for the browser of this machine only.

It listens on the loopback interface, below a path with a random token. Requests by pages of other
sites in the same browser are refused by their `Origin` and `Sec-Fetch-Site` headers, and those by
DNS rebinding by their `Host`.
"""

import json
import re
import secrets
import socket
import socketserver
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs

from facedis_core import render
from facedis_core.errors import ErrorCode, FacedisError, UsageError
from facedis_core.io.streams import read_up_to
from facedis_core.viewer.live_model import LiveModel

# Seconds without a byte, or until a request line and its headers are whole, before a connection is
# closed.
SOCKET_TIMEOUT: Final = 20.0
MAX_CONNECTIONS: Final = 64  # at once, with a thread each; a browser opens six
MAX_WAITING: Final = 16  # requests that wait for news; others are answered at once
NEWS_SECONDS: Final = 10.0  # until a request is answered though there is no news
MAX_FILE_BYTES: Final = 256 << 20
MAX_JSON_BYTES: Final = 1 << 20

_WEB: Final = Path(__file__).parent / "web"
_SHARED_WEB: Final = Path(render.__file__).parent / "web"
_FILES: Final = {
    "": _WEB / "view.html",
    "view.js": _WEB / "view.js",
    "view.css": _WEB / "view.css",
    "face_viewer.js": _SHARED_WEB / "face_viewer.js",
}
_CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_JSON: Final = "application/json"
_BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"


_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Response(NamedTuple):
    """Body, content type and status of a response."""

    body: bytes
    content_type: str
    status: int = 200


class Route(NamedTuple):
    """Method and handler of a path; the handler takes the query and a body of `max_bytes`."""

    method: str
    answer: Callable[[dict[str, str], bytes], Response]
    max_bytes: int = 0


@dataclass
class _Connection:
    """What a connection is doing.

    Attributes:
        since: when that began, in seconds of the monotonic clock.
        stage: `request` until the headers of a request are whole, `body` until its body is,
            `answer` while that is computed, `response` while it is sent.
        known: a request with the token has come by it.
    """

    since: float
    stage: Literal["request", "body", "answer", "response"] = "request"
    known: bool = False

    def enter(self, stage: Literal["request", "body", "answer", "response"]) -> None:
        """Begin another stage."""
        self.stage, self.since = stage, time.monotonic()


class RequestRefused(Exception):
    """A request is refused, for a reason in one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def build_routes(live: LiveModel) -> dict[str, Route]:
    """Routes by the path below the token."""

    def as_json(value: Any) -> Response:
        return Response(json.dumps(value).encode(), _JSON)

    def vertices(query: dict[str, str], body: bytes) -> Response:
        return Response(live.vertices(live.mixture(body)).astype("<f4").tobytes(), _BYTES)

    def file(query: dict[str, str], body: bytes) -> Response:
        return Response(live.file(live.mixture(body), query.get("suffix", "")), _BYTES)

    def encode(query: dict[str, str], body: bytes) -> Response:
        opened = live.opened(body, query.get("name", ""))
        return as_json({"registering": opened} if isinstance(opened, str) else live.keep(opened))

    def beside(query: dict[str, str], body: bytes) -> Response:
        live.lay_beside(body, query.get("name", ""))
        return as_json({})

    waiting = BoundedSemaphore(MAX_WAITING)

    def awaited(news: Callable[[float], dict[str, Any]]) -> Response:
        waits = waiting.acquire(blocking=False)
        try:
            return as_json(news(NEWS_SECONDS if waits else 0.0))
        finally:
            if waits:
                waiting.release()

    def news(query: dict[str, str], body: bytes) -> Response:
        return awaited(lambda seconds: live.news(query.get("seen", ""), seconds))

    def scan(query: dict[str, str], body: bytes) -> Response:
        key, seen = query.get("n", ""), query.get("seen", "")
        return awaited(lambda seconds: live.scan_news(key, seen, seconds))

    def cancel(query: dict[str, str], body: bytes) -> Response:
        live.scans.cancel(query.get("n", ""))
        return as_json({})

    def force(query: dict[str, str], body: bytes) -> Response:
        live.scans.force(query.get("n", ""))
        return as_json({})

    description = as_json(live.description())
    return {
        "model": Route("GET", lambda query, body: description),
        "face": Route("GET", lambda query, _: as_json(live.shown(live.face(query.get("n", ""))))),
        "news": Route("GET", news),
        "vertices": Route("POST", vertices, MAX_JSON_BYTES),
        "file": Route("POST", file, MAX_JSON_BYTES),
        "encode": Route("POST", encode, MAX_FILE_BYTES),
        "beside": Route("POST", beside, MAX_FILE_BYTES),
        "scan": Route("GET", scan),
        "cancel": Route("POST", cancel),
        "force": Route("POST", force),
        **{path: Route("GET", partial(_static, _asset(file))) for path, file in _FILES.items()},
    }


def _asset(file: Path) -> Response:
    return Response(file.read_bytes(), _CONTENT_TYPES[file.suffix])


def _static(answer: Response, query: dict[str, str], body: bytes) -> Response:
    return answer


class LiveServer(ThreadingHTTPServer):
    """Server of one model, with a thread per connection.

    Attributes:
        token: first part of every path.
        connections: open ones, by their sockets.
        on_bug: called with unexpected errors; the client gets one line.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, live: LiveModel, port: int = 0, on_bug: Callable[[BaseException], None] | None = None
    ) -> None:
        """Listen on a port of 127.0.0.1; 0 = a free one.

        Raises:
            UsageError: the port is in use, or not permitted.
        """
        self.token = secrets.token_urlsafe(18)
        self.routes = build_routes(live)
        self.on_bug = on_bug or (lambda error: None)
        self.connections: dict[Any, _Connection] = {}  # by their sockets
        self._lock = Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used ({error.strerror}); give another --port, or none",
                ErrorCode.OPTION_VALUE,
            ) from None
        names = [f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")]
        # browsers leave out the port of the protocol
        self.hosts = {*names, *(["127.0.0.1", "localhost"] if self.server_port == 80 else [])}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread; beyond MAX_CONNECTIONS the slowest is closed."""
        with self._lock:
            if len(self.connections) >= MAX_CONNECTIONS and not self._close_slowest():
                self.shutdown_request(request)  # all wait for an answer of ours
                return
            self.connections[request] = _Connection(time.monotonic())
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self._forget(request)
            self.shutdown_request(request)

    def _close_slowest(self) -> bool:
        """Close the connection that has kept us waiting longest; those without the token first."""
        slow = {key: one for key, one in self.connections.items() if one.stage != "answer"}
        if not slow:
            return False
        slowest = min(slow, key=lambda key: (slow[key].known, slow[key].since))
        del self.connections[slowest]
        _hang_up(slowest)
        return True

    def _forget(self, request: Any) -> None:
        with self._lock:
            self.connections.pop(request, None)

    def service_actions(self) -> None:
        """Close connections that send their headers byte by byte; called now and then."""
        limit = time.monotonic() - SOCKET_TIMEOUT
        with self._lock:
            for request, connection in self.connections.items():
                if connection.stage == "request" and connection.since < limit:
                    _hang_up(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in this thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which the library does and which may be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error to `on_bug`, unless the client has gone away."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.on_bug(error)


def _hang_up(request: Any) -> None:
    """End a connection that another thread serves; that thread then closes it."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version = "facedis"
    sys_version = ""
    timeout = SOCKET_TIMEOUT
    # headers and body are sent in one packet; a second one would wait for an acknowledgement
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Find out which connection this is."""
        super().setup()
        # one that was closed before its thread began is no longer listed
        unlisted = _Connection(time.monotonic())
        self._connection = self.server.connections.get(self.request, unlisted)

    def handle_one_request(self) -> None:
        """Serve a request, of which there may be more on a connection."""
        self._connection.enter("request")
        super().handle_one_request()

    def _serve(self) -> None:
        self._connection.enter("body")
        try:
            answer = self._answer()
        except RequestRefused as error:
            answer = Response(str(error).encode(), TEXT, error.status)
        except FacedisError as error:
            line = re.sub(r"\s+", " ", str(error)).strip()
            answer = Response(line.encode("utf-8", "backslashreplace"), TEXT, 422)
        except MemoryError:
            answer = Response(b"out of memory; open fewer or smaller files", TEXT, 422)
        except ConnectionError:
            raise
        except Exception as error:  # one failed request must not end the server
            self.server.on_bug(error)
            line = "this is a bug in facedis; see the traceback in the terminal of fd-view"
            answer = Response(line.encode(), TEXT, 500)
        self._send(answer)

    # http.server looks up the handler of a method by these names
    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _answer(self) -> Response:
        """The response; raises RequestRefused or FacedisError. Unread bodies end the connection."""
        ends = self.close_connection  # as the client asked
        length = self._length()
        if length or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        self._check_sender()
        path, _, query = self.path.partition("?")
        prefix = f"/{self.server.token}/"
        known = secrets.compare_digest(path[: len(prefix)].encode(), prefix.encode())
        route = self.server.routes.get(path[len(prefix) :]) if known else None
        self._connection.known |= known
        if route is None:
            raise RequestRefused(404, "not found; open the address that fd-view prints")
        if self.command != route.method:
            raise RequestRefused(405, f"expected {route.method}")
        if "Transfer-Encoding" in self.headers or (length is None and route.method == "POST"):
            raise RequestRefused(411, "a body needs a Content-Length, and no Transfer-Encoding")
        if length is not None and length > route.max_bytes:
            limit = f"at most {route.max_bytes >> 20} MB" if route.max_bytes else "no body"
            raise RequestRefused(413, f"body of {length} bytes; expected {limit}")
        try:
            values = parse_qs(query, keep_blank_values=True, max_num_fields=8)
        except ValueError:
            raise RequestRefused(400, "the query has too many fields") from None
        body = self._body(length or 0)
        self.close_connection = ends
        self._connection.enter("answer")
        return route.answer({key: found[0] for key, found in values.items()}, body)

    def _length(self) -> int | None:
        """Content-Length of the request; None where there is none."""
        said = self.headers.get_all("Content-Length", [])
        if not said or "Transfer-Encoding" in self.headers:
            return None
        if len(said) > 1 or not re.fullmatch(r"[0-9]{1,15}", said[0]):
            self.close_connection = True
            raise RequestRefused(
                400, f"Content-Length {said[0][:30]!r}, expected one number of bytes"
            )
        return int(said[0])

    def _check_sender(self) -> None:
        """Refuse requests by pages of other sites."""
        host = self.headers.get_all("Host", [])
        if len(host) != 1 or host[0].lower() not in self.server.hosts:
            raise RequestRefused(
                403,
                f"Host {', '.join(host)[:100]!r}, expected {' or '.join(sorted(self.server.hosts))}"
                "; open the address that fd-view prints, and forward a port to the same number",
            )
        origins = {f"http://{name}" for name in self.server.hosts}
        for origin in self.headers.get_all("Origin", []):
            if origin.lower() not in origins:
                raise RequestRefused(403, "requests by other pages are refused")
        for site in self.headers.get_all("Sec-Fetch-Site", []):
            if site not in ("same-origin", "none"):
                raise RequestRefused(403, "requests by other pages are refused")

    def _body(self, length: int) -> bytes:
        try:
            # the library's types do not call its buffered stream a BinaryIO, which it is
            body = read_up_to(self.rfile, length)  # type: ignore[arg-type]
        except TimeoutError:
            raise RequestRefused(408, "the request was not complete in time") from None
        if len(body) < length:
            raise ConnectionAbortedError
        return body

    def _send(self, answer: Response) -> None:
        self._connection.enter("response")
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request in one line, with our headers, where http.server would."""
        self.close_connection = True
        self._send(Response(f"{message or 'bad request'}".encode(), TEXT, int(code)))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing; standard error is for messages to the user."""
