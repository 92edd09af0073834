"""What a slider of fd-view waits for: an update over HTTP beside the decoding in it, and on a page.

The page draws with the processor here; its rounds are what a person sees, frame by frame.
"""

import http.client
import json
import threading
from contextlib import closing

import pytest

from facedis_core.model.model_file import load_model
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.viewer.faces import load_faces
from facedis_core.viewer.live_model import LiveModel
from facedis_core.viewer.server import LiveServer


@pytest.fixture(scope="module", params=["ict-linear", "ict-pointnet"])
def live(request):
    encoder = MeshEncoder(load_model(request.param))
    return LiveModel(encoder, load_faces(encoder, []))


@pytest.fixture(scope="module")
def server(live):
    with LiveServer(live) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def mixture(live):
    face = live.faces[0].as_json()
    moves = {"identity": [1.0] * 8, "expression": [1.0] * 8}
    share = {"identity": 0.5, "expression": 0.5}
    said = dict(first=face, second=face, share=share, strength=1, moves=moves, part="full")
    said |= dict(blendshapes={}, original="")
    return json.dumps(said).encode()


@pytest.mark.benchmark(group="update")
def test_the_face_alone(benchmark, live, mixture):
    found = benchmark(lambda: live.vertices(live.mixture(mixture)))
    assert len(found) == live.model.config.vertices


@pytest.mark.benchmark(group="update")
def test_the_face_over_http(benchmark, live, server, mixture):
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection:

        def update():
            connection.request("POST", f"/{server.token}/vertices", mixture)
            return connection.getresponse().read()

        assert len(benchmark(update)) == 12 * live.model.config.vertices


@pytest.mark.benchmark(group="update")
def test_the_face_on_the_page(benchmark, server, browser):
    browser.driver.set_window_size(1366, 768)
    browser.open(server.url)
    browser.until("updates > 0")
    browser.driver.set_script_timeout(60)

    def thirty():
        """A slider moves in every frame until thirty faces have been shown."""
        return browser.driver.execute_async_script(
            "const done = arguments[0], slider = document.querySelector('#identity-1');"
            "const from = updates; let n = 0;"
            "(function tick() { slider.value = 2 * Math.sin(n++ / 10);"
            "slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "updates < from + 30 ? requestAnimationFrame(tick) : done(updates); })();"
        )

    benchmark.pedantic(thirty, rounds=5, warmup_rounds=1)
