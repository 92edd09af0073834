"""Ways to damage a file: bytes, numbers, words, and the JSON that a header holds."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")
_EXTREMES = (
    *(b"0", b"-1", b"1", b"2", b"3", b"255", b"256", b"65536", b"2147483647", b"2147483648"),
    *(b"-2147483649", b"4294967295", b"1000000000000", b"9223372036854775807", b"1e400"),
    *(b"18446744073709551616", b"nan", b"-inf", b"1e-400", b"0.1", b"9" * 400, b"9" * 5000, b""),
)
_JUNK = (
    *(
        b"\0",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"\t",
        b"#",
        b'"',
        b"'",
        b"\\",
        b"\\\n",
        b"/",
        b"{",
        b"}",
    ),
    *(
        b"[",
        b"]",
        b"(",
        b",",
        b";",
        b":",
        b"=",
        b"-",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\x1b[31m",
    ),
    *(
        b"\x80\x04.",
        b"[" * 2000,
        b"{" * 2000,
        b"a." * 2000,
        b"\n" * 5000,
        b" " * 5000,
        b"7" * 70000,
    ),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "../../x", "/etc/passwd", "\0", "\n", "\ud800", "x" * 5000, "1", "facedis.model/1"),
    *(
        [],
        [[]],
        [0],
        ["a"],
        {},
        {"a": []},
        [{}],
        [None],
        [1e400],
        {"kind": "rigid"},
        list(range(300)),
    ),
)


def damaged(random_: random.Random, seeds: Sequence[bytes], *, with_header: bool) -> bytes:
    """One of the seeds with some damage; `with_header`: they may be files of ours with JSON."""
    data = random_.choice(seeds)
    size = int.from_bytes(data[:8], "little")
    if with_header and data[8:9] == b"{" and 8 + size <= len(data) and random_.random() < 0.7:
        return _other_json(random_, data[8 : 8 + size], data[8 + size :])
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        data = random_.choice(_DAMAGES)(random_, data, random_.choice(seeds))
    return data


def _place(random_: random.Random, data: bytes) -> int:
    """Anywhere, or in the first bytes, where most formats have their header."""
    return random_.randrange(min(len(data), random_.choice((64, 512, len(data) + 1))) + 1)


def _flip(random_: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 4, 32))):
        if changed:
            changed[_place(random_, data) % len(changed)] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _truncate(random_: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(random_, data)]


def _insert(random_: random.Random, data: bytes, other: bytes) -> bytes:
    place = _place(random_, data)
    junk = random_.choice((random_.choice(_JUNK), random_.randbytes(random_.randrange(1, 20))))
    return data[:place] + junk + data[place:]


def _remove(random_: random.Random, data: bytes, other: bytes) -> bytes:
    place = _place(random_, data)
    return data[:place] + data[place + random_.choice((1, 2, 4, 12, 100)) :]


def _repeat(random_: random.Random, data: bytes, other: bytes) -> bytes:
    place = _place(random_, data)
    block = data[place : place + random_.choice((1, 4, 13, 40, 400, len(data)))]
    times = random_.choice((1, 1, 1, 2, 10, 3000 if len(block) < 50 else 3))
    return data[:place] + block * times + data[place:]


def _number(random_: random.Random, data: bytes, other: bytes) -> bytes:
    return _replace(random_, _NUMBER, data, random_.choice(_EXTREMES))


def _word(random_: random.Random, data: bytes, other: bytes) -> bytes:
    words = _WORD.findall(data[:2000]) + _WORD.findall(other[:2000])
    return _replace(random_, _WORD, data, random_.choice(words or [b"word"]))


def _replace(random_: random.Random, what: re.Pattern[bytes], data: bytes, by: bytes) -> bytes:
    start = random_.choice((0, _place(random_, data)))
    found = list(what.finditer(data, start, start + 4000))
    if not found:
        return data + by
    match = random_.choice(found)
    return data[: match.start()] + by + data[match.end() :]


def _splice(random_: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(random_, data)] + other[_place(random_, other) :]


def _set_bytes(random_: random.Random, data: bytes, other: bytes) -> bytes:
    """A number of a binary file, such as a length, to an extreme."""
    place, width = _place(random_, data), random_.choice((1, 2, 4, 8))
    value = random_.choice((0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
    packed = (value % 256**width).to_bytes(width, random_.choice(("little", "big")))
    return data[:place] + packed + data[place + width :]


_DAMAGES = (
    *(_flip, _truncate, _insert, _insert, _remove, _repeat, _number, _number, _word, _splice),
    _set_bytes,
)


def _other_json(random_: random.Random, header: bytes, body: bytes) -> bytes:
    """A safetensors file of ours with something else in its header, or in the metadata there."""
    entries = json.loads(header)
    texts = entries.get("__metadata__", {})
    if "facedis" in texts and random_.random() < 0.75:
        texts["facedis"] = json.dumps(_changed(random_, json.loads(texts["facedis"])))
    else:
        entries = _changed(random_, entries)
    text = json.dumps(entries, ensure_ascii=random_.random() < 0.5)
    encoded = text.encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def _changed(random_: random.Random, value: Any) -> Any:
    """A copy of JSON where one part, at any depth, is another, missing, twice or misnamed."""
    inside = isinstance(value, dict | list) and len(value) > 0 and random_.random() < 0.85
    if not inside:
        return random_.choice(_VALUES)
    if isinstance(value, list):
        copy = list(value)
        place = random_.randrange(len(copy))
        action = random_.randrange(5)
        if action == 0:
            del copy[place]
        elif action == 1:
            copy.insert(place, copy[place])
        else:
            copy[place] = _changed(random_, copy[place])
        return copy
    key = random_.choice(sorted(value))
    action = random_.randrange(8)
    if action == 0:
        return {k: v for k, v in value.items() if k != key}
    if action == 1:
        return {(k + "x" if k == key else k): v for k, v in value.items()}
    return value | {key: _changed(random_, value[key])}
