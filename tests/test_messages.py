"""Errors: their codes, and the wording of messages."""

import pickle
from pathlib import Path

from facedis_core.errors import ErrorCode, FacedisError, InputError, OutputError, UsageError

ROOT = Path(__file__).parent.parent


def test_the_table_of_codes_is_up_to_date():
    page = (ROOT / "docs" / "pipelines-and-ci.md").read_text("utf-8")
    _, _, table = page.partition("| code | meaning |\n|---|---|\n")
    rows = [f"| `{code}` | {code.meaning} |" for code in ErrorCode]
    assert table.partition("\n\n")[0].splitlines() == rows


def test_an_error_of_a_worker_process_keeps_its_code():
    for kind in (FacedisError, InputError, OutputError, UsageError):
        error = pickle.loads(pickle.dumps(kind("message", ErrorCode.EMPTY)))
        assert (type(error), str(error), error.code) == (kind, "message", ErrorCode.EMPTY)
