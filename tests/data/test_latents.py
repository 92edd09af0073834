"""Latents: what is written is read, from every kind of array; everything else is refused."""

import io
import pickle

import numpy as np
import pytest
from raising import raises
from synthetic import MODEL_ID, OTHER_ID, latents

from facedis_core.data.latents import concatenate, read_latents, write_latents


def encoded(rows):
    stream = io.BytesIO()
    write_latents(stream, rows)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def read(tmp_path):
    def read_bytes(data, **options):
        path = tmp_path / "latents.npy"
        path.write_bytes(data)
        return read_latents(str(path), **options)

    return read_bytes


def same(a, b):
    assert a.names == b.names
    assert a.models == b.models
    np.testing.assert_array_equal(a.identity, b.identity)
    np.testing.assert_array_equal(a.expression, b.expression)
    assert a.identity.dtype == a.expression.dtype == np.float32


class TestCodec:
    @pytest.mark.parametrize("names", [["a"], ["ann", "eva grün/smile 😀", ""]])
    def test_what_is_written_is_read(self, read, names):
        same(read(encoded(latents(names))), latents(names))

    def test_same_latents_same_bytes(self):
        assert encoded(latents("abc")) == encoded(latents("abc"))

    def test_is_an_ordinary_structured_array(self):
        array = np.load(io.BytesIO(encoded(latents(["ann", "bo"]))), allow_pickle=False)
        assert array.dtype == np.dtype(
            [("name", "<U3"), ("model", "<U12"), ("identity", "<f4", 3), ("expression", "<f4", 2)]
        )

    def test_arrays_after_one_another_are_one(self, read):
        first, second = latents(["a"]), latents(["longer", "names"], seed=1)
        empty = latents([])
        data = encoded(empty) + encoded(first) + encoded(second)
        same(read(data), concatenate([first, second]))

    @pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
    def test_takes_every_version_of_the_format(self, read, version):
        rows = latents(["ann"])
        array = np.load(io.BytesIO(encoded(rows)))
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version)
        same(read(stream.getvalue()), rows)

    def test_takes_another_byte_order_and_precision(self, read):
        rows = latents(["ann", "bo"])
        dtype = [
            ("expression", ">f8", 2),
            ("name", ">U9"),
            ("identity", "<f8", 3),
            ("model", "<U20"),
        ]
        array = np.empty(2, dtype)
        array["name"], array["model"] = rows.names, rows.models
        array["identity"], array["expression"] = rows.identity, rows.expression
        same(read(npy(array)), rows)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
    def test_a_plain_array_is_divided_by_the_sizes(self, read, order, dtype):
        values = np.arange(10).reshape(2, 5)
        rows = read(npy(np.array(values, dtype, order=order)), sizes=(3, 2))
        assert rows.names == ["row0000", "row0001"]
        assert rows.models == ["", ""]
        np.testing.assert_array_equal(rows.identity, values[:, :3])
        np.testing.assert_array_equal(rows.expression, values[:, 3:])

    def test_writing_what_is_not_finite_is_refused(self):
        rows = latents(["ann", "bo"])
        rows.identity[1, 0] = np.nan
        with raises("not-finite", "'bo'"):
            encoded(rows)


def not_finite(value):
    rows = np.load(io.BytesIO(encoded(latents(["ann", "bo"]))))
    rows["expression"][1, 1] = value
    return npy(rows)


def promising(header):
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


BAD = {
    "empty": (b"", "empty"),
    "truncated rows": (encoded(latents("ab"))[:-1], "truncated"),
    "truncated header": (encoded(latents("ab"))[:40], "truncated: header"),
    "only the magic": (b"\x93NUMPY", "truncated: header"),
    "no rows": (encoded(latents([])), "empty"),
    "nan": (not_finite(np.nan), "not-finite: 'bo'"),
    "infinity": (not_finite(np.inf), "not-finite: 'bo'"),
    "too large for float32": (npy(np.full((1, 5), 1e300)), "not-finite"),
    "a pickle": (pickle.dumps([1, 2]), "wrong-kind: a pickle, which facedis never opens"),
    "objects": (npy(np.array([{}, []], object)), "unsupported"),
    "text": (b"hello, world", "wrong-kind: not a .npy file"),
    "a mesh": (b"ply\nformat ascii 1.0\n", "wrong-kind: fd-encode"),
    "a zip": (b"PK\x03\x04", "wrong-kind: .npz"),
    "a face set": (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "wrong-kind: a face set or a model"),
    "whole numbers": (npy(np.zeros((2, 5), int)), "array-shape: int64"),
    "three dimensions": (npy(np.zeros((2, 5, 1))), "array-shape: float64"),
    "wrong columns": (npy(np.zeros((2, 6))), "latent-size: 6 columns"),
    "no characters": (encoded(latents(["x"])).replace(b"x\0\0\0", b"x\0\0\xff"), "damaged"),
    "other fields": (npy(np.zeros(2, [("name", "U3"), ("age", "f4")])), "array-shape: 'model'"),
    "rubbish behind": (encoded(latents("ab")) + b"rubbish", "wrong-kind: damaged"),
    "two sizes": (encoded(latents("a")) + encoded(latents("b", identity=4)), "latent-size"),
    "a huge promise": (
        promising(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 5)}}"),
        "truncated",
    ),
    "a negative shape": (
        promising("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5)}"),
        "damaged",
    ),
    "no type": (promising("{'descr': 'U0', 'fortran_order': False, 'shape': (9,)}"), "damaged"),
    "code": (promising("__import__('os').abort()"), "damaged"),
}


@pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD)
def test_bad_files_are_refused_in_one_line(read, data, error):
    with raises(error) as caught:
        read(data, sizes=(3, 2))
    assert "\n" not in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


def test_a_plain_array_needs_sizes(read):
    with raises("latent-split"):
        read(npy(np.zeros((2, 5))))


def test_a_missing_file_is_an_input_error(tmp_path):
    with raises("file-missing"):
        read_latents(str(tmp_path / "nothing.npy"))


def test_latents_of_another_model_are_refused_with_both_ids():
    latents("ab").check_model(MODEL_ID, "ict")
    latents("ab", model="").check_model(MODEL_ID, "ict")
    with raises("wrong-model", f"{OTHER_ID}.*ict is model {MODEL_ID}"):
        latents("ab", model=OTHER_ID).check_model(MODEL_ID, "ict")
