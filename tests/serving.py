"""The server of fd-view in this process, and requests to it, for tests."""

import http.client
import threading
from contextlib import closing, contextmanager

from facedis_core.viewer.server import LiveServer


@contextmanager
def running(live):
    """A server in a thread of its own, and the bugs that it was told of."""
    bugs = []
    with LiveServer(live, on_bug=bugs.append) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, bugs
        finally:
            server.shutdown()
            thread.join()


def ask(server, path="", method="GET", body=None, headers=None, token=None):
    """Status, headers and body of a request; a header of None is not sent."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)) as one:
        token = server.token if token is None else token
        given = {"Host": f"127.0.0.1:{server.server_port}"} | (headers or {})
        one.putrequest(method, f"/{token}/{path}", skip_host=True, skip_accept_encoding=True)
        if body is not None and "Content-Length" not in given:
            given["Content-Length"] = str(len(body))
        for name, value in given.items():
            if value is not None:
                one.putheader(name, value)
        one.endheaders(body)
        answer = one.getresponse()
        return answer.status, answer.headers, answer.read()
