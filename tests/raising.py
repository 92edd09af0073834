"""`raises`: pytest.raises for errors of facedis by their code."""

from typing import Any

import pytest

from facedis_core.errors import ErrorCode, FacedisError


def raises(code: str, match: str | None = None) -> Any:
    """Expect an error with this code, such as `file-missing`, and a message that matches."""
    assert code in vars(ErrorCode).values()
    return pytest.raises(FacedisError, match=match, check=lambda error: error.code == code)
