"""Arrays after one another, block by block, against NumPy's own reader."""

import io

import numpy as np
import pytest
from raising import raises

from facedis_core.io.npy import ArrayHeader, NpyReader, encoded_header, peek_header


class Pipe(io.RawIOBase):
    """Bytes that come as they are asked for, with no way back; remembers how many were."""

    def __init__(self, data: bytes) -> None:
        self._data, self.asked = data, 0

    def read(self, size: int = -1) -> bytes:
        part = self._data[self.asked : self.asked + size]
        self.asked += len(part)
        return part


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(4, 3),
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        np.arange(600000, dtype=">f4").reshape(1000, 200, 3),  # several blocks
        np.array(3.5),
        np.zeros((0, 5)),
        np.array([("a", 1.5)], [("name", "U3"), ("value", "f4")]),
    ],
    ids=["C", "Fortran", "large", "scalar", "empty", "structured"],
)
def test_what_numpy_writes_is_read(array):
    reader = NpyReader(Pipe(npy(array) * 2), "numbers")
    for _ in range(2):
        header = reader.header()
        assert header is not None
        assert (header.dtype, header.shape) == (array.dtype, array.shape)
        blocks = list(reader.blocks(header))
        if array.size:
            found = blocks[0] if array.ndim == 0 else np.concatenate(blocks)
            np.testing.assert_array_equal(found, array)
    assert reader.header() is None


def test_nothing_beyond_a_block_is_asked_for():
    data = npy(np.zeros((100, 100_000), np.float32))
    pipe = Pipe(data)
    reader = NpyReader(pipe, "numbers")
    header = reader.header()
    assert header is not None
    blocks = reader.blocks(header)
    next(blocks)
    assert pipe.asked < 2 << 20


def test_our_headers_are_numpys():
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert encoded_header(array.dtype, array.shape) + array.tobytes() == npy(array)


def test_a_promise_costs_nothing():
    text = b"{'descr': '<f4', 'fortran_order': True, 'shape': (1000000000000, 5)}".ljust(117)
    data = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text + b"\n" + bytes(100)
    reader = NpyReader(Pipe(data), "numbers")
    header = reader.header()
    assert header is not None
    with raises("truncated", "20000000000000 bytes of an array, 100"):
        list(reader.blocks(header))


def with_header(text: str, version: int = 1, encoding: str = "latin1") -> bytes:
    """The beginning of an array with this very header."""
    data = text.encode(encoding) + b"\n"
    length = len(data).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + data


PLAIN = ArrayHeader(np.dtype("<f4"), (2, 3), False)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }", PLAIN),
        ("{'descr':'<f4','fortran_order':False,'shape':(2,3)}", PLAIN),
        ("  {'shape': (2 , 3),  'fortran_order': False, 'descr': '<f4'}", PLAIN),
        (
            '{"descr": ">f8", "fortran_order": True, "shape": (4,)}',
            ArrayHeader(np.dtype(">f8"), (4,), True),
        ),
        (
            "{'descr': [('a', '<f4', (3,)), ('b', '|u1')], 'fortran_order': False, 'shape': (1L,)}",
            ArrayHeader(np.dtype([("a", "<f4", 3), ("b", "u1")]), (1,), False),
        ),
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_are_read_as_by_numpy(recwarn, text, header, version):
    data = with_header(text, version)
    for stream in (io.BytesIO(data), io.BytesIO(data + bytes(100))):
        assert peek_header(stream)[0] == header
    _, stream = peek_header(io.BytesIO(data + b"more"))
    assert stream.read() == data + b"more"
    assert not recwarn.list


def test_names_of_fields_in_every_version():
    text = "{'descr': [('größe', '<f4')], 'fortran_order': False, 'shape': (1,)}"
    for version, encoding in ((1, "latin1"), (2, "latin1"), (3, "utf-8")):
        header, _ = peek_header(io.BytesIO(with_header(text, version, encoding)))
        assert header is not None and header.dtype.names == ("größe",)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (with_header("{'descr': '<f4', 'fortran_order': False}"), "damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}"), "damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': 2}"), "damaged"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}"), "damaged"),
        (with_header("{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}"), "damaged"),
        (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"), "unsupported"),
        (with_header("(" * 9000), "damaged"),
        (with_header("'''"), "damaged"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4),
            "format-version",
        ),
        (with_header("{}".ljust(70_000), 2), "too-large: 70001 bytes"),
        (b"\x93NUMPY\x02\x00\xff", "truncated"),
    ],
)
def test_bad_headers(data, error):
    with raises(error):
        peek_header(io.BytesIO(data))
    with raises(error):
        NpyReader(Pipe(data), "numbers").header()


def test_nothing_else_is_peeked_at():
    header, stream = peek_header(io.BytesIO(b"ply\n"))
    assert header is None and stream.read() == b"ply\n"
