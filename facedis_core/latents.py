"""Latents: one row a face, exchanged as structured `.npy` arrays.

The dtype is `name` U(longest), `model` U12, `identity` f4 (D_id), `expression` f4 (D_exp). The
model id is the provenance of a row: latents of one model mean nothing to another.
"""

import ast
import io
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from facedis_core.errors import InputError, UsageError
from facedis_core.streams import read_all, shown

_MAGIC: Final = b"\x93NUMPY"
_LONGEST_HEADER: Final = 65536
_MODEL_WIDTH: Final = 12

# First bytes of what people hand us instead, and what to tell them.
_MISTAKEN: Final = {
    b"ply": "a PLY mesh; encode it first: fd-encode",
    b"PK": "a zip archive such as .npz; save one array as .npy",
    b"\x80": "a pickle, which facedis never opens; write .npy with fd-encode",
}


@dataclass(frozen=True, eq=False)
class Latents:
    """What N faces are to a model.

    Attributes:
        names: N names.
        models: N model ids; an empty one means unknown.
        identity: float32 (N, D_id).
        expression: float32 (N, D_exp).
    """

    names: list[str]
    models: list[str]
    identity: np.ndarray
    expression: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def check_model(self, model_id: str, label: str) -> None:
        """Raise InputError naming both ids if a row is of another model than `label`."""
        for name, found in zip(self.names, self.models, strict=True):
            if found and found != model_id:
                raise InputError(
                    f"the latents of {name!r} are of model {found}, but {label} is model "
                    f"{model_id}; give the other model with -m or encode again"
                )


def read_latents(source: str, *, sizes: tuple[int, int] | None = None) -> Latents:
    """Read latents from one or several `.npy` arrays one after another.

    Args:
        source: a path, or `-` for standard input, which is never sought in.
        sizes: (D_id, D_exp), used to divide a plain float array (N, D_id + D_exp) into the two;
            None refuses such an array. Its rows get the names row0000... and an unknown model.

    Raises:
        InputError: missing, truncated, empty, not finite, no latents at all.
    """
    return _from_arrays(_read_arrays(source), sizes, shown(source))


def read_latents_pair(first: str, second: str) -> tuple[Latents, Latents]:
    """Read two sources as `read_latents` does; a plain array is divided as the other one is.

    Raises:
        UsageError: nothing but plain arrays.
        InputError: as of `read_latents`.
    """
    pair = [(_read_arrays(source), shown(source)) for source in (first, second)]
    for arrays, label in pair:
        if any(array.dtype.names is not None for array in arrays):
            known = _from_arrays(arrays, None, label)
            sizes = known.identity.shape[1], known.expression.shape[1]
            one, other = (_from_arrays(arrays, sizes, label) for arrays, label in pair)
            return one, other
    raise UsageError(
        f"{shown(first)} and {shown(second)} are plain arrays, which do not say where identity "
        "ends and expression begins; give one of them as fd-encode writes it"
    )


def _read_arrays(source: str) -> list[np.ndarray]:
    """The arrays of a source, without a copy of their data."""
    label = shown(source)
    data = memoryview(read_all(source))
    if not data:
        raise InputError(f"{label} is empty, expected latents; did the command before it fail?")
    arrays: list[np.ndarray] = []
    start = 0
    while start < len(data):
        array, start = _read_array(data, start, label)
        arrays.append(array)
    return arrays


def _from_arrays(
    arrays: Sequence[np.ndarray], sizes: tuple[int, int] | None, label: str
) -> Latents:
    blocks: list[Latents] = []
    for array in arrays:
        blocks.append(_as_latents(array, sizes, label, first_row=sum(len(b) for b in blocks)))
    latents = _joined(blocks, label)
    if not len(latents):
        raise InputError(f"{label} holds no rows, expected the latents of one face at least")
    _check_finite(latents, label)
    return latents


def _read_array(data: memoryview, start: int, label: str) -> tuple[np.ndarray, int]:
    """The array that begins at `start`, without a copy, and where it ends."""
    dtype, shape, fortran_order, first = _read_header(data, start, label)
    count = 1
    for length in shape:  # Python integers: the header may promise more than int64 holds
        count *= length
    end = first + count * dtype.itemsize
    if end > len(data):
        raise InputError(
            f"{label} is truncated: its header promises {end - first} bytes of latents, "
            f"{len(data) - first} are there"
        )
    flat = np.frombuffer(data[first:end], dtype, count) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C"), end


def _read_header(
    data: memoryview, start: int, label: str
) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape and order of the array at `start`, and where its data begin.

    Ours rather than NumPy's, which on doubtful input tells people to allow pickle.
    """
    if bytes(data[start : start + len(_MAGIC)]) != _MAGIC:
        raise InputError(f"{label} is {_guess(bytes(data[start : start + 16]), start)}")
    width = 2 if bytes(data[start + 6 : start + 7]) == b"\x01" else 4
    first = start + 8 + width
    length = int.from_bytes(data[start + 8 : first], "little")
    if length > _LONGEST_HEADER or first + length > len(data):
        raise InputError(f"{label} is truncated in its header, expected latents of fd-encode")
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python, about the text it parses
            header = ast.literal_eval(bytes(data[first : first + length]).decode().strip())
        dtype = np.lib.format.descr_to_dtype(header["descr"])
        shape = tuple(int(length) for length in header["shape"])
        fortran_order = bool(header["fortran_order"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise InputError(f"{label} has a damaged .npy header; encode the faces again") from None
    if dtype.hasobject:
        raise InputError(f"{label} holds Python objects, which facedis never opens; encode again")
    if not dtype.itemsize or dtype.subdtype is not None or any(length < 0 for length in shape):
        raise InputError(f"{label} has a damaged .npy header; encode the faces again")
    return dtype, shape, fortran_order, first + length


def _guess(beginning: bytes, start: int) -> str:
    if start:
        return "damaged: after its first array comes something that is no .npy array"
    for magic, what in _MISTAKEN.items():
        if beginning.startswith(magic):
            return what
    if beginning[8:9] == b"{":
        return "a face set or a model, expected latents; encode a face set first: fd-encode"
    return "not a .npy file, expected the latents that fd-encode writes"


def _as_latents(
    array: np.ndarray, sizes: tuple[int, int] | None, label: str, first_row: int
) -> Latents:
    if array.dtype.names is None:
        return _from_plain(array, sizes, label, first_row)
    fields: Mapping[str, tuple] = array.dtype.fields or {}
    wanted = {"name": "U", "model": "U", "identity": "f", "expression": "f"}
    for name, kind in wanted.items():
        found = fields[name][0] if name in fields else None
        dimensions = 1 if kind == "f" else 0
        if found is None or found.base.kind != kind or len(found.shape) != dimensions:
            raise InputError(
                f"{label}: the field {name!r} of its latents is {found or 'missing'}, expected "
                f"{'a row of float32' if dimensions else 'text'}; encode the faces again"
            )
    if array.ndim != 1:
        raise InputError(f"{label} has latents of shape {array.shape}, expected one row a face")
    return Latents(
        names=_texts(array["name"], label),
        models=_texts(array["model"], label),
        identity=as_float32(array["identity"]),
        expression=as_float32(array["expression"]),
    )


def _texts(values: np.ndarray, label: str) -> list[str]:
    """Strings of a U array; NumPy's own conversion trusts every character to be one."""
    if values.dtype.itemsize:
        code = np.dtype("u4").newbyteorder(values.dtype.byteorder)
        if np.ascontiguousarray(values).view(code).max(initial=0) > sys.maxunicode:
            raise InputError(f"{label} has names that are no text; it is damaged, encode again")
    return [str(value) for value in values]


def _from_plain(
    array: np.ndarray, sizes: tuple[int, int] | None, label: str, first_row: int
) -> Latents:
    if array.dtype.kind != "f" or array.ndim != 2:
        raise InputError(
            f"{label} is an array {array.dtype} {array.shape}, expected latents as fd-encode "
            "writes them or float rows (N, D_id + D_exp)"
        )
    if sizes is None:
        raise InputError(
            f"{label} is a plain array, which does not say where identity ends and expression "
            "begins; encode the faces with fd-encode"
        )
    if array.shape[1] != sum(sizes):
        raise InputError(
            f"{label} has {array.shape[1]} columns, expected {sizes[0]} of identity and "
            f"{sizes[1]} of expression"
        )
    values = as_float32(array)
    return Latents(
        names=[f"row{first_row + row:04d}" for row in range(len(values))],
        models=[""] * len(values),
        identity=values[:, : sizes[0]],
        expression=values[:, sizes[0] :],
    )


def as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is found as not finite
        return np.ascontiguousarray(values, np.float32)


def _joined(blocks: Sequence[Latents], label: str) -> Latents:
    shapes = {(block.identity.shape[1], block.expression.shape[1]) for block in blocks}
    if len(shapes) > 1:
        raise InputError(f"{label} holds latents of different sizes: {sorted(shapes)}")
    return concatenate(blocks)


def concatenate(blocks: Sequence[Latents]) -> Latents:
    """The rows of all blocks, which have one D_id and one D_exp, in order."""
    return Latents(
        names=[name for block in blocks for name in block.names],
        models=[model for block in blocks for model in block.models],
        identity=np.concatenate([block.identity for block in blocks]),
        expression=np.concatenate([block.expression for block in blocks]),
    )


def _check_finite(latents: Latents, label: str) -> None:
    finite = np.isfinite(latents.identity).all(axis=1) & np.isfinite(latents.expression).all(axis=1)
    if not finite.all():
        name = latents.names[int(np.argmin(finite))]
        raise InputError(f"{label}: the latents of {name!r} are not finite; encode the face again")


def write_latents(stream: BinaryIO, latents: Latents) -> None:
    """Write the rows as one structured array; same latents, same bytes.

    Raises:
        InputError: a value is not finite.
    """
    _check_finite(latents, "output")
    longest = max([1, *map(len, latents.names)])
    dtype = [
        ("name", f"<U{longest}"),
        ("model", f"<U{_MODEL_WIDTH}"),
        ("identity", "<f4", latents.identity.shape[1:]),
        ("expression", "<f4", latents.expression.shape[1:]),
    ]
    array = np.empty(len(latents), dtype)
    array["name"], array["model"] = latents.names, latents.models
    array["identity"], array["expression"] = latents.identity, latents.expression
    encoded = io.BytesIO()  # NumPy writes to real files behind Python's back, and not to pipes
    np.lib.format.write_array(encoded, array, version=(1, 0), allow_pickle=False)
    stream.write(encoded.getvalue())
