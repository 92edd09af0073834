"""Arrays after one another, block by block, against NumPy's own reader."""

import io

import numpy as np
import pytest
from raising import raises

from facedis_core.io.npy import NpyReader, encoded_header


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
