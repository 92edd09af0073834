"""Numbers in text, read and written in blocks, for OBJ, ASCII PLY and VRML.

Eight digits of all numbers are taken at a time, and the few numbers for which that could round
differently from `numpy.float32(float(token))` are handed to `float`: the same bits.  Both
`numpy.fromstring(text, sep=" ")` and `numpy.array(text.split(), float)` give these bits too, but
take 1.0 to 3.4 times as long: least for nine digits, most for 17 or beside unwanted columns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import LONGEST_MARK, quoted, with_newlines, without_mark

Indices = NDArray[np.int64]

LONGEST_LINE = 1 << 20
"""Bytes of a line of text; a longer one is no mesh."""

_READ_AT_ONCE = 1 << 18  # bytes of a text file
_MAX_DIGITS = 19  # the most that always fit into 64 bits
_LONGEST_TOKEN = 400
_AT_ONCE = 1 << 14
_ROWS_AT_ONCE = 8192  # bounds the formatted text, many times larger than its numbers
_PADDING = b"\n" * 8  # so that eight bytes can be taken from the start of any word or its end
_POWERS = 10 ** np.arange(_MAX_DIGITS + 1, dtype=np.uint64)
_EXACT_POWERS = 10.0 ** np.arange(23)  # 1e22 is the last power of ten that float64 holds exactly
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Words of a text separated by blanks: word i is `text[starts[i]:ends[i]]`."""

    text: NDArray[np.uint8]  # ends with eight blanks
    starts: Indices
    ends: Indices

    def word(self, index: int) -> bytes:
        """The bytes of one word, for a message or the slow way."""
        return self.text[self.starts[index] : self.ends[index]].tobytes()


def tokenize(data: bytes) -> Tokens:
    """Split at blanks and control characters.

    Raises InputError where the data holds NUL bytes, which no text does.
    """
    if b"\0" in data:
        raise InputError("contains NUL bytes; expected text", ErrorCode.MESH_SYNTAX)
    padded = np.frombuffer(b"\n%b%b" % (data, _PADDING), np.uint8)
    changes = np.empty(len(padded) - 1, np.bool_)
    for block in _blocks(len(changes)):
        blank = padded[block.start : block.stop + 1] <= ord(" ")
        np.not_equal(blank[1:], blank[:-1], out=changes[block])
    # Without the blank in front of it, a text has its words where the blanks before them were.
    edges = np.flatnonzero(changes)
    return Tokens(padded[1:], edges[0::2], edges[1::2])


def lines(tokens: Tokens) -> tuple[Indices, Indices]:
    """Index of the first word and number of words of every line that has any."""
    gap_starts, gap_ends = tokens.ends[:-1], tokens.starts[1:]
    breaks = tokens.text[gap_starts] == ord("\n")
    # A gap of several blanks (CRLF, trailing spaces, indentation) may hide its newline further on.
    wide = np.flatnonzero((gap_ends - gap_starts > 1) & ~breaks)
    if wide.size:
        newlines = np.flatnonzero(tokens.text == ord("\n"))
        following = newlines[np.searchsorted(newlines, gap_starts[wide])]
        breaks[wide] = following < gap_ends[wide]
    first = np.flatnonzero(np.concatenate(([tokens.starts.size > 0], breaks)))
    return first, np.diff(first, append=tokens.starts.size)


def spans(starts: Indices, lengths: Indices, step: int = 1) -> Indices:
    """`[s, s + step, ..., s + (n - 1) step]` for every start s and length n, one after another."""
    begins = starts - step * (np.cumsum(lengths) - lengths)
    return np.repeat(begins, lengths) + np.arange(0, step * lengths.sum(), step)


def integers(tokens: Tokens, which: Indices, *, until_slash: bool = False) -> Indices:
    """Integers of the words `which`; the 12 of `12/7/3` if `until_slash`.

    Raises InputError naming the first word that is none.
    """
    result = np.empty(len(which), np.int64)
    for block in _blocks(len(which)):
        result[block] = _integers(tokens, which[block], until_slash)
    return result


def decimals(
    tokens: Tokens, which: Indices, vertex: Callable[[int], int] | None = None
) -> NDArray[np.float32]:
    """Decimal numbers of the words `which`, equal to `numpy.float32(float(word))`.

    Args:
        tokens: the words.
        which: indices of the words.
        vertex: number of the vertex that a word of `which` is of, for the error.

    Raises:
        InputError: a word is no number; `nan` and `inf` are numbers here.
    """
    result = np.empty(len(which), np.float32)
    for block in _blocks(len(which)):
        with np.errstate(over="ignore"):  # too large for float32 is inf, which callers refuse
            result[block], wrong = _decimals(tokens, which[block])
        if wrong is not None:
            of_vertex = f"vertex {vertex(block.start + wrong)} " if vertex else ""
            _refuse(tokens.word(int(which[block.start + wrong])), "a number", of_vertex)
    return result


def decimal(word: bytes) -> float:
    """The number of a single word, not rounded to float32; raises InputError where it is none."""
    number = _parse(word)
    if number is None:
        _refuse(word, "a number")
    return number


def write_rows(stream: BinaryIO, line: str, rows: NDArray[np.generic]) -> None:
    """Write each row formatted by `line`, such as `v %.9g %.9g %.9g` and a newline."""
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[begin : begin + _ROWS_AT_ONCE]
        stream.write((line * len(block) % tuple(block.ravel().tolist())).encode("ascii"))


def _end_of_last_line(text: bytes) -> int:
    return text.rfind(b"\n") + 1


def line_blocks(
    stream: BinaryIO, expected: str, end_of_lines: Callable[[bytes], int] = _end_of_last_line
) -> Iterator[bytes]:
    """Blocks of whole lines of a text, which end with LF; the last line may lack its end.

    Args:
        stream: the text, with or without a byte order mark, with any line ends.
        expected: what the file should be, for messages.
        end_of_lines: end of the whole lines in the text that was read so far.

    Raises:
        InputError: a line longer than LONGEST_LINE, or text in UTF-16 or UTF-32.
    """
    left = without_mark(stream.read(LONGEST_MARK))
    more = True
    while more:
        piece = stream.read(_READ_AT_ONCE)
        more = bool(piece)
        left += piece
        # the LF of a last CR may come with the next piece
        tail = b"\r" if left.endswith(b"\r") and more else b""
        left = with_newlines(left.removesuffix(tail)) + tail
        end = end_of_lines(left) if more else len(left)
        if len(left) - end >= LONGEST_LINE:
            raise InputError(
                f"has a line of more than {LONGEST_LINE} bytes; expected {expected}",
                ErrorCode.TOO_LARGE,
            )
        yield left[:end]
        left = left[end:]


def _blocks(count: int) -> Iterator[slice]:
    """Parts whose intermediate results stay in the cache and need no fresh memory each time."""
    for begin in range(0, count, _AT_ONCE):
        yield slice(begin, begin + _AT_ONCE)


def _integers(tokens: Tokens, which: Indices, until_slash: bool) -> Indices:
    start, end = tokens.starts[which], tokens.ends[which]
    negative, first = _signs(tokens.text, start)
    value, stop = _digits(tokens.text, first)
    good = (stop > first) & (value < _POWERS[_MAX_DIGITS - 1])
    if until_slash:
        good &= (stop == end) | (tokens.text[stop] == ord("/"))
    else:
        good &= stop == end
    if not good.all():
        _refuse(tokens.word(int(which[int(np.argmin(good))])), "a whole number")
    signed = value.astype(np.int64)
    np.negative(signed, out=signed, where=negative)
    return signed


def _decimals(tokens: Tokens, which: Indices) -> tuple[NDArray[np.float64], int | None]:
    """Numbers that round to the right float32, and the place of the first word that is none.

    The digits make one integer m below 2^64 and the value is m 10^p. For |p| <= 22 the power is
    exact, so m and the product are rounded once each in float64 and are off by at most two units
    in its last place: that changes the float32 only next to a midpoint between two of them.
    """
    text = tokens.text
    start, end = tokens.starts[which], tokens.ends[which]
    negative, first = _signs(text, start)
    whole, point = _digits(text, first)
    after_point = point + (text[point] == ord("."))
    fraction, stop = _digits(text, after_point)
    places = stop - after_point
    digits = point - first + places
    power, stop = _exponents(text, stop)
    power -= places

    mantissa = whole * _POWERS[np.minimum(places, _MAX_DIGITS)] + fraction
    scale = _EXACT_POWERS[np.minimum(np.abs(power), 22)]
    value = mantissa.astype(np.float64)
    value = np.where(power < 0, value / scale, value * scale)

    plain = (stop == end) & (digits > 0) & (np.abs(power) <= 22)
    plain &= (digits <= _MAX_DIGITS) | (whole == 0)  # else m itself may have had no room
    below_float32 = value.view(np.int64) & ((1 << 29) - 1)  # the bits that float32 has no room for
    at_midpoint = np.abs(below_float32 - (1 << 28)) <= 4
    subnormal = (value < _SMALLEST_NORMAL) & (mantissa > 0)
    np.negative(value, out=value, where=negative)
    for index in np.flatnonzero(~plain | at_midpoint | subnormal):
        number = _parse(tokens.word(int(which[index])))
        if number is None:
            return value, int(index)
        value[index] = number
    return value, None


def _signs(text: NDArray[np.uint8], start: Indices) -> tuple[NDArray[np.bool_], Indices]:
    """Sign of each number, and the position of its first digit."""
    sign = text[start]
    negative = sign == ord("-")
    return negative, start + (negative | (sign == ord("+")))


def _digits(text: NDArray[np.uint8], position: Indices) -> tuple[NDArray[np.uint64], Indices]:
    """The unsigned numbers that begin at `position`, and where their digits stop.

    What has no room in 64 bits stops early, before digits that are left out of its value.
    """
    value, count = _eight_digits(text, position)
    stop = position + count
    for _ in range(3):  # a word of very many zeros is no reason to go on for long
        if not (count == 8).any():
            break
        # Numbers that have stopped take part: they find no digit and multiply by 1.
        more, count = _eight_digits(text, stop)
        room = value < _POWERS[_MAX_DIGITS - count]
        if not room.all():
            more, count = np.where(room, more, np.uint64(0)), np.where(room, count, 0)
        value = value * _POWERS[count] + more
        stop += count
    return value, stop


def _eight_digits(
    text: NDArray[np.uint8], position: Indices
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The numbers made by up to eight digits at `position`, and how many digits those are.

    Eight bytes are one 64-bit integer, the first byte lowest, and are worked on together.
    """
    eights = np.ndarray(len(text) - 7, "<u8", text, strides=(1,))
    # Digits become 0..9, all other bytes 10 and more: adding 118 then reaches their highest bit.
    word = eights[position] ^ _each_byte(ord("0"))
    other = (((word & _each_byte(127)) + _each_byte(118)) | word) & _each_byte(128)
    lowest = other & (~other + np.uint64(1))  # 2^(8 n + 7) after n digits, 0 after eight
    exponent = (lowest.astype(np.float64).view(np.int64) >> 52) - 1023
    count = np.where(lowest == 0, 8, (exponent - 7) >> 3)
    # The digits move to the upper end, zeros come in front of them; then neighbours are joined to
    # numbers of two, four and eight digits.  Shifting out all 64 bits gives 0 in NumPy.
    word <<= (64 - 8 * count).astype(np.uint64)
    word = (word * np.uint64(10 * 2**8 + 1)) >> np.uint64(8)
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1)) >> np.uint64(16)
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10000 * 2**32 + 1)) >> np.uint64(32)
    return word, count


def _each_byte(value: int) -> np.uint64:
    return np.uint64(value * 0x0101010101010101)


def _exponents(text: NDArray[np.uint8], position: Indices) -> tuple[Indices, Indices]:
    """Decimal exponents that begin at `position`, 0 where there is none, and where they stop."""
    exponent = np.zeros(position.shape, np.int64)
    marked = np.flatnonzero((text[position] | np.uint8(32)) == ord("e"))
    if marked.size:
        negative, first = _signs(text, position[marked] + 1)
        value, stop = _digits(text, first)
        magnitude = np.minimum(value, np.uint64(9999)).astype(np.int64)
        exponent[marked] = np.where(negative, -magnitude, magnitude)
        position = position.copy()
        # "1e" has no digits: left standing at its "e", it does not end where its word does.
        position[marked] = np.where(stop > first, stop, position[marked])
    return exponent, position


def _parse(word: bytes) -> float | None:
    # float() takes 1_000, which no mesh file means as a thousand.
    if b"_" not in word and len(word) <= _LONGEST_TOKEN:
        try:
            return float(word)
        except ValueError:
            pass
    return None


def _refuse(word: bytes, expected: str, of: str = "") -> NoReturn:
    raise InputError(f"{of}has {quoted(word)} where {expected} was expected", ErrorCode.MESH_SYNTAX)
