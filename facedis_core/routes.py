"""What a live page can ask for: paths, and how each is answered."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from facedis_core.live import LiveModel

LARGEST_FILE: Final = 256 << 20
LARGEST_WORDS: Final = 1 << 20

_WEB: Final = Path(__file__).parent / "web"
_PAGE: Final = {"": "view.html", "page.css": "page.css"} | {
    name: name for name in ("viewer.js", "view.js")
}
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_JSON: Final = "application/json"
_BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a client gets."""

    body: bytes
    kind: str
    status: int = 200


class Route(NamedTuple):
    """How one path is answered: from the query and the body, of which so many bytes are taken."""

    method: str
    answer: Callable[[dict[str, str], bytes], Answer]
    largest: int = 0


class Refused(Exception):
    """A request that is not answered, in one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def routes(live: LiveModel) -> dict[str, Route]:
    """What there is below the token, by path."""

    def as_json(value: Any) -> Answer:
        return Answer(json.dumps(value).encode(), _JSON)

    def vertices(query: dict[str, str], body: bytes) -> Answer:
        return Answer(live.vertices(live.mixture(body)).astype("<f4").tobytes(), _BYTES)

    def file(query: dict[str, str], body: bytes) -> Answer:
        return Answer(live.file(live.mixture(body), query.get("suffix", "")), _BYTES)

    def encode(query: dict[str, str], body: bytes) -> Answer:
        return as_json(live.encoded(body, query.get("name", "")).as_json())

    description = as_json(live.description())
    return {
        "model": Route("GET", lambda query, body: description),
        "face": Route("GET", lambda query, _: as_json(live.face(query.get("n", "")).as_json())),
        "vertices": Route("POST", vertices, LARGEST_WORDS),
        "file": Route("POST", file, LARGEST_WORDS),
        "encode": Route("POST", encode, LARGEST_FILE),
        **{path: Route("GET", partial(_same, _asset(name))) for path, name in _PAGE.items()},
    }


def _asset(name: str) -> Answer:
    return Answer((_WEB / name).read_bytes(), _KINDS[Path(name).suffix])


def _same(answer: Answer, query: dict[str, str], body: bytes) -> Answer:
    return answer
