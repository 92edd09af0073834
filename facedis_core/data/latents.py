"""Latents: one row per face, exchanged as structured `.npy` arrays.

The dtype is `name` U(longest), `model` U12, `identity` f4 (D_id), `expression` f4 (D_exp). The
model id is the provenance of a row: latents of one model mean nothing to another. One array is the
usual form; a stream is a sequence of them, the first without rows, for input without an end.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np

from facedis_core.data.rows import Rows, row_numbers
from facedis_core.errors import ErrorCode, InputError, check_argument
from facedis_core.io.npy import ArrayHeader, NpyReader, encoded_header, labelled
from facedis_core.io.paths import check_suffix
from facedis_core.io.streams import naming, open_input, open_output
from facedis_core.io.text import shown

_MODEL_WIDTH: Final = 12

# Other files that people give: offset and bytes of their magic number, and what to say.
_MISTAKEN: Final = (
    (0, b"ply", "a PLY mesh; encode it first: fd-encode"),
    (0, b"PK", "a zip archive such as .npz; save one array as .npy"),
    (0, b"\x80", "a pickle, which facedis never opens; write .npy with fd-encode"),
    (8, b"{", "a face set or a model, expected latents; encode a face set first: fd-encode"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Latents:
    """Identity and expression latents of N faces; an index or slice selects rows.

    Attributes:
        names: N names.
        models: N model ids; an empty one means unknown.
        identity: float32 (N, D_id).
        expression: float32 (N, D_exp).

    Raises:
        InputError: not N rows of numbers.

    Example:
        >>> import numpy as np
        >>> z = Latents(["ann", "bob"], ["", ""], np.zeros((2, 3), "f4"), np.ones((2, 4), "f4"))
        >>> z
        Latents(2 faces, identity (2, 3), expression (2, 4), model unknown)
        >>> z[1].names
        ['bob']
    """

    names: list[str]
    models: list[str]
    identity: np.ndarray
    expression: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.names)
        if isinstance(self.names, str) or len(self.models) != count:
            raise InputError(
                f"latents have {len(self.models)} models, expected one for each of "
                f"{count} names, in lists",
                ErrorCode.ARRAY_SHAPE,
            )
        for name in ("identity", "expression"):
            given = getattr(self, name)
            try:
                shape = str(np.shape(given))
                with np.errstate(over="ignore"):  # found later as not finite
                    values = np.asarray(given, np.float32)
            except (ValueError, TypeError):
                shape, values = "of no array of numbers", np.empty(0, np.float32)
            if values.ndim != 2 or len(values) != count:
                raise InputError(
                    f"the {name} latents have the shape {shape}, expected ({count}, D), "
                    "a row of numbers for each name",
                    ErrorCode.ARRAY_SHAPE,
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Rows) -> "Latents":
        return self.take(row_numbers(rows, len(self), "Latents"))

    def __repr__(self) -> str:
        models = " and ".join(sorted({model or "unknown" for model in self.models})) or "none"
        return (
            f"Latents({len(self)} face{'s' * (len(self) != 1)}, identity {self.identity.shape}, "
            f"expression {self.expression.shape}, model {models})"
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """(D_id, D_exp)."""
        return self.identity.shape[1], self.expression.shape[1]

    def take(self, rows: slice | Sequence[int] | np.ndarray) -> "Latents":
        """Some of the rows, in the order given."""
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows
        return Latents(
            [self.names[row] for row in numbers],
            [self.models[row] for row in numbers],
            self.identity[rows],
            self.expression[rows],
        )

    def check_model(self, model_id: str, label: str) -> None:
        """Raise InputError naming both ids if a row is of another model than `label`."""
        for name, found in zip(self.names, self.models, strict=True):
            if found and found != model_id:
                raise InputError(
                    f"the latents of {name!r} were made by fd-encode with model {found}, but "
                    f"{label} is model {model_id}; give the other model with -m or encode again",
                    ErrorCode.WRONG_MODEL,
                )

    def check_part(self, part: Literal["identity", "expression"]) -> None:
        """Raise InputError where the model that encoded the rows has no such latents."""
        if not getattr(self, part).shape[1]:
            raise InputError(
                f"the latents of {self.names[0]!r} have no {part}, as their model has none; encode "
                "the faces with another model",
                ErrorCode.PART_MISSING,
            )

    def check_finite(self) -> None:
        """Raise InputError naming the first row with a value that is not finite."""
        finite = np.isfinite(self.identity).all(axis=1) & np.isfinite(self.expression).all(axis=1)
        if not finite.all():
            name = self.names[int(np.argmin(finite))]
            raise InputError(
                f"the latents of {name!r} are not finite; encode the face again",
                ErrorCode.NOT_FINITE,
            )


ArrayKind = Literal["latents", "vertices"]


def array_kind(header: ArrayHeader) -> ArrayKind:
    """Whether an array holds latents or the vertices of faces: one answer for all commands.

    Fields are latents; floats (N, V, 3) and (V, 3) are vertices; other float rows are latents.

    Raises:
        InputError: neither.
    """
    dtype, shape, _ = header
    if dtype.names is not None:
        return "latents"
    if dtype.kind == "f" and len(shape) in (2, 3) and shape[-1] == 3 and shape[-2]:
        return "vertices"
    if dtype.kind == "f" and len(shape) == 2 and shape[1] != 3:
        return "latents"
    raise InputError(
        f"is an array {dtype} {shape}, expected float vertices (N, V, 3) or (V, 3), or latents as "
        "fd-encode writes them or float rows (N, D_id + D_exp)",
        ErrorCode.ARRAY_SHAPE,
    )


class LatentSource:
    """Latents that are read as they come, in constant memory.

    Attributes:
        label: name of the source, for messages.
        sizes: (D_id, D_exp); None for plain arrays, which do not say.
        is_file: whether they lie on a disk, so that reading them never waits.
        first_rows: number of rows in the first array.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        """Read as far as the header of the first array of a stream that `source` names.

        Raises:
            InputError: empty, or not a `.npy` array.
        """
        self.label = shown(source)
        self.is_file = source != "-" and stream.seekable()
        self._source = source
        self._reader = NpyReader(stream, "the latents that fd-encode writes", _MISTAKEN)
        with naming(source):
            header = self._reader.header()
            if header is None:
                raise InputError(
                    "is empty, expected latents; did the command before it fail?", ErrorCode.EMPTY
                )
            self._first = header
            self.sizes = _sizes(header)
            self.first_rows = math.prod(header.shape[:1])

    def blocks(
        self,
        sizes: tuple[int, int] | None = None,
        *,
        finite: bool = True,
        may_be_empty: bool = False,
    ) -> Iterator[Latents]:
        """All rows in order, some at a time; a stream's as they come.

        Args:
            sizes: divides plain arrays (N, D_id + D_exp); None refuses them. Their rows get the
                names row0000... and an unknown model.
            finite: refuse rows that are not finite.
            may_be_empty: accept a source without rows, such as a shard of few faces: one block
                without rows.

        Raises:
            InputError: truncated, of several sizes, not finite, not latents, no rows at all.
        """
        count = 0
        header: ArrayHeader | None = self._first
        sizes = self.sizes or sizes
        with naming(self._source):
            while header is not None:
                found = _sizes(header) or _divided(header, sizes)
                if found != (sizes := sizes or found):
                    raise InputError(
                        f"holds latents of different sizes: {sorted({sizes, found})}",
                        ErrorCode.LATENT_SIZE,
                    )
                for array in self._reader.blocks(header):
                    rows = _as_latents(array, sizes, count)
                    if finite:
                        rows.check_finite()
                    count += len(rows)
                    yield rows
                header = self._reader.header()
            if not count and may_be_empty and sizes is not None:
                yield _as_latents(np.empty(0, self._first.dtype), sizes, 0)
            elif not count:
                raise InputError(
                    "holds no rows, expected the latents of one face at least", ErrorCode.EMPTY
                )


@contextmanager
def open_latents(source: str) -> Iterator[LatentSource]:
    """Latents in a file, or on standard input for `-`, which is never sought in.

    Raises what `LatentSource` and `open_input` do.
    """
    with open_input(source) as stream:
        yield LatentSource(stream, source)


def read_latents(source: str | Path, *, sizes: tuple[int, int] | None = None) -> Latents:
    """Read all latents of a source, from one or several `.npy` arrays one after another.

    Args:
        source: a path, or `-` for standard input.
        sizes: (D_id, D_exp), which divide a plain float array (N, D_id + D_exp).

    Raises:
        InputError: missing, truncated, empty, not finite, no latents at all.
        UsageError: an argument of another type.

    Example:
        >>> from facedis_core import load_model, read_mesh
        >>> mesh = read_mesh("weights/examples/bob_smile.ply")
        >>> write_latents("bob.npy", load_model("ict-linear").encode(mesh))
        >>> read_latents("bob.npy").names
        ['bob_smile']
    """
    check_argument(source, (str, Path), "read_latents: source", "a path")
    with open_latents(str(source)) as opened:
        return concatenate(list(opened.blocks(sizes)))


def _sizes(header: ArrayHeader) -> tuple[int, int] | None:
    """(D_id, D_exp) of an array of latents; None of a plain one."""
    if array_kind(header) == "vertices":
        raise InputError(
            f"holds vertices {header.shape}, expected latents; encode them first: fd-encode",
            ErrorCode.WRONG_KIND,
        )
    if header.dtype.names is None:
        return None
    fields: Mapping[str, tuple] = header.dtype.fields or {}
    wanted = {"name": "U", "model": "U", "identity": "f", "expression": "f"}
    for name, kind in wanted.items():
        found = fields[name][0] if name in fields else None
        dimensions = 1 if kind == "f" else 0
        if found is None or found.base.kind != kind or len(found.shape) != dimensions:
            raise InputError(
                f"the field {name!r} of its latents is {found or 'missing'}, expected "
                f"{'a row of float32' if dimensions else 'text'}; encode the faces again",
                ErrorCode.ARRAY_SHAPE,
            )
    if len(header.shape) != 1:
        raise InputError(
            f"has latents of shape {header.shape}, expected one row a face", ErrorCode.ARRAY_SHAPE
        )
    return fields["identity"][0].shape[0], fields["expression"][0].shape[0]


def _divided(header: ArrayHeader, sizes: tuple[int, int] | None) -> tuple[int, int]:
    """The sizes, if a plain array can be divided so."""
    if sizes is None:
        raise InputError(
            "is a plain array, which does not say where identity ends and expression "
            "begins; encode the faces with fd-encode",
            ErrorCode.LATENT_SPLIT,
        )
    columns = header.shape[1]
    if columns != sum(sizes):
        raise InputError(
            f"has {columns} columns, expected {sizes[0]} of identity and {sizes[1]} of expression",
            ErrorCode.LATENT_SIZE,
        )
    return sizes


def _as_latents(array: np.ndarray, sizes: tuple[int, int], first_row: int) -> Latents:
    if array.dtype.names is not None:
        return Latents(
            names=_texts(array["name"]),
            models=_texts(array["model"]),
            identity=as_float32(array["identity"]),
            expression=as_float32(array["expression"]),
        )
    values = as_float32(array)
    return Latents(
        names=[f"row{first_row + row:04d}" for row in range(len(values))],
        models=[""] * len(values),
        identity=values[:, : sizes[0]],
        expression=values[:, sizes[0] :],
    )


def _texts(values: np.ndarray) -> list[str]:
    """Strings of a U array; NumPy's own conversion trusts every character to be one."""
    if values.dtype.itemsize:
        code = np.dtype("u4").newbyteorder(values.dtype.byteorder)
        if np.ascontiguousarray(values).view(code).max(initial=0) > sys.maxunicode:
            raise InputError(
                "has names that are no text; it is damaged, encode again", ErrorCode.DAMAGED
            )
    return values.tolist()


def as_float32(values: np.ndarray) -> np.ndarray:
    """The values in float32, one row after another in memory; what is too large is infinite."""
    with np.errstate(over="ignore"):  # found later as not finite
        return np.ascontiguousarray(values, np.float32)


def concatenate(blocks: Sequence[Latents]) -> Latents:
    """The rows of all blocks, which have one D_id and one D_exp, in order."""
    return Latents(
        names=[name for block in blocks for name in block.names],
        models=[model for block in blocks for model in block.models],
        identity=np.concatenate([block.identity for block in blocks]),
        expression=np.concatenate([block.expression for block in blocks]),
    )


def write_latents(target: str | Path | BinaryIO, *blocks: Latents, label: str = "") -> None:
    """Write the rows of all blocks as one structured array; same latents, same bytes.

    Args:
        target: a path, whose file is written whole or not at all and replaces another one; or a
            binary stream.
        blocks: at least one.
        label: words for the header, such as which shard of a batch they are; "" = none.

    Raises:
        InputError: a value is not finite.
        UsageError: a suffix that says otherwise, or an argument of another type.
        OutputError: the file cannot be written.

    Example:
        >>> import numpy as np
        >>> rows = Latents(["ann"], [""], np.zeros((1, 3), "f4"), np.ones((1, 4), "f4"))
        >>> write_latents("ann.npy", rows)
        >>> read_latents("ann.npy").expression
        array([[1., 1., 1., 1.]], dtype=float32)
    """
    for block in blocks or (None,):
        check_argument(block, Latents, "write_latents: latents", "Latents")
    if isinstance(target, str | Path):
        check_suffix(str(target), "latents", ".npy")
        with open_output(str(target), force=True) as stream:
            write_latents(stream, *blocks, label=label)
        return
    if not hasattr(target, "write"):
        check_argument(target, (), "write_latents: target", "a path or a binary stream")
    longest = max([1, *(len(name) for block in blocks for name in block.names)])
    dtype = np.dtype(
        [
            ("name", f"<U{longest}"),
            ("model", f"<U{_MODEL_WIDTH}"),
            ("identity", "<f4", blocks[0].identity.shape[1:]),
            ("expression", "<f4", blocks[0].expression.shape[1:]),
        ]
    )
    if label:
        dtype = labelled(dtype, label)
    for block in blocks:
        block.check_finite()
    # NumPy's writer goes to real files behind Python's back, and not to pipes
    target.write(encoded_header(dtype, (sum(map(len, blocks)),)))
    for block in blocks:
        rows = np.empty(len(block), dtype)
        rows["name"], rows["model"] = block.names, block.models
        rows["identity"], rows["expression"] = block.identity, block.expression
        target.write(rows.view(np.uint8).data)


def save_latents(
    output: str,
    blocks: Iterable[Latents],
    *,
    force: bool = False,
    stream: bool = False,
    label: str = "",
) -> int:
    """Write all rows to a file, or standard output for `-`; returns how many there were.

    Args:
        output: path or `-`; nothing is written if there is no row, unless there is a label.
        blocks: the rows.
        force: replace a file.
        stream: write an array a block as they come, the first without rows, not one at the end.
        label: as of `write_latents`; not with `stream`.

    Raises what `open_output` and `write_latents` do.
    """
    rows = (block for block in blocks if len(block) or label)
    first = next(rows, None)
    if first is None:
        return 0
    if not stream:
        whole = [first, *rows]
        with open_output(output, force=force) as target:
            write_latents(target, *whole, label=label)
        return sum(map(len, whole))
    count = 0
    with open_output(output, force=force) as target:
        for block in chain([first.take(slice(0)), first], rows):
            write_latents(target, block)
            target.flush()
            count += len(block)
    return count
