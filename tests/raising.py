"""`raises`: pytest.raises for errors of facedis by their code."""

from typing import Any

import pytest

from facedis_core.errors import ErrorCode, FacedisError


def raises(code: str, match: str = "") -> Any:
    """Expect an error by its code and a pattern of its message.

    In a table both may be one string, `file-missing: none.ply`. Where a library decides,
    `damaged|wrong-kind` expects either code.
    """
    code, _, pattern = code.partition(": ")
    codes = code.split("|")
    assert set(codes) <= set(vars(ErrorCode).values())
    return pytest.raises(
        FacedisError, match=match or pattern or None, check=lambda error: error.code in codes
    )
