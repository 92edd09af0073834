"""Names of inputs: those given, those in a list of files, and those that match a pattern."""

import os
from collections.abc import Sequence
from glob import glob, has_magic
from typing import Final

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.npy import MAGIC
from facedis_core.io.paths import exists
from facedis_core.io.remote import remote_glob
from facedis_core.io.streams import naming, read_all
from facedis_core.io.text import shown, without_mark
from facedis_core.io.urls import is_url

# What a list of files may be by mistake: its first bytes.
_MISTAKEN_LISTS: Final = (MAGIC, b"ply\n", b"ply\r", b"\x89PNG", b"PK\x03")
_MOST_LIST_BYTES: Final = 1 << 28
_LONGEST_NAME: Final = 4096


def collect_inputs(inputs: Sequence[str], files_from: str | None) -> list[str]:
    """The given inputs and those of a list of files; standard input where there are none.

    Raises:
        UsageError: standard input is both a list and faces.
        InputError: errors of `read_file_list`.
    """
    if files_from is None:
        return list(inputs) or ["-"]
    if files_from == "-" and "-" in inputs:
        raise UsageError(
            "standard input (-) is a list of files and faces; give a file for one",
            ErrorCode.SAME_FILE,
        )
    return [*inputs, *read_file_list(files_from)]


def read_file_list(source: str) -> list[str]:
    """The names in a list of files: one a line, or each ended by a NUL (find -print0).

    Args:
        source: path, or `-` for standard input.

    Raises:
        InputError: unreadable, another kind of file, or without a name.
    """
    content = read_all(source, _MOST_LIST_BYTES, "a list of files")
    with naming(source):
        content = without_mark(content, nuls=True)
    if content.startswith(_MISTAKEN_LISTS) or content[7:9] == b"\0{":  # safetensors
        raise InputError(
            f"{shown(source)} is not a list of files; give it as an input", ErrorCode.WRONG_KIND
        )
    if b"\0" in content:
        lines = content.split(b"\0")
        if _are_characters(lines):
            raise InputError(
                f"{shown(source)} is text in UTF-16 or UTF-32; save it as UTF-8",
                ErrorCode.WRONG_KIND,
            )
    elif b"\n" in content:
        lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    else:
        lines = content.split(b"\r")
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if any(len(name) > _LONGEST_NAME for name in names):
        raise InputError(
            f"{shown(source)} has a line of more than {_LONGEST_NAME} bytes; expected file names",
            ErrorCode.TOO_LARGE,
        )
    if not names:
        raise InputError(
            f"{shown(source)} lists no files; expected one a line, or as find -print0",
            ErrorCode.EMPTY,
        )
    return names


def _are_characters(names: Sequence[bytes]) -> bool:
    """Whether the names between NULs are the characters of names in UTF-16 without a mark."""
    # folders of subjects may all have names of one digit, and `find` begins with the folder `.`
    return all(len(name) <= 1 for name in names) and not {b"/", b"\n"}.isdisjoint(names[1:])


def expand_pattern(source: str) -> list[str]:
    """The paths that match a pattern, sorted; `source` itself where nothing matches."""
    if source == "-" or not has_magic(source):
        return [source]
    if exists(source):
        return [source]
    if is_url(source):
        return remote_glob(source) or [source]
    return sorted(glob(source, recursive=True)) or [source]  # noqa: PTH207 - also from the root
