"""Errors: every raise has a code, every code one class and one explanation."""

import ast
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import facedis_core.errors
from facedis_core.errors import ErrorCode, FacedisError, InputError, OutputError, UsageError

ROOT = Path(__file__).parent.parent
CLASSES = {
    name
    for name, kind in vars(facedis_core.errors).items()
    if isinstance(kind, type) and issubclass(kind, FacedisError)
}


# Name -> value and explanation, which is the comment beside it.
CODES = {
    name: (value, meaning)
    for name, value, meaning in re.findall(
        r'^    ([A-Z_]+) = "([a-z-]+)"  # (.*)$',
        (ROOT / "facedis_core" / "errors.py").read_text("utf-8"),
        re.MULTILINE,
    )
}


def constructed_errors() -> Iterator[tuple[str, str, ast.expr | None]]:
    """Place, class and code of every error that the sources construct."""
    for folder in ("facedis_core", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                if node.func.id in CLASSES:
                    yield place, node.func.id, node.args[1] if len(node.args) == 2 else None
                elif node.func.id == "partial" and ast.unparse(node.args[0]) in CLASSES:
                    yield place, ast.unparse(node.args[0]), node.keywords[0].value


def codes_of(code: ast.expr | None) -> set[str]:
    """The codes that an expression may be; none where it is the code of another error."""
    found = {
        node.attr
        for node in ast.walk(code or ast.Constant(None))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode"
    }
    if not found and isinstance(code, ast.Attribute):
        assert code.attr == "code"
    return found


def test_every_error_has_a_code_and_every_code_one_class():
    classes = defaultdict(set)
    for place, kind, code in constructed_errors():
        assert code is not None, f"{place}: {kind} without a code"
        for name in codes_of(code):
            classes[name].add(kind)
    assert {name: kinds for name, kinds in classes.items() if len(kinds) > 1} == {}
    assert set(classes) == set(CODES)


def test_codes_are_named_like_their_values_and_explained_by_a_sentence():
    assert CODES
    for name, (code, meaning) in CODES.items():
        assert getattr(ErrorCode, name) == code == name.lower().replace("_", "-")
        assert meaning[0].isupper() and meaning.endswith(".")
    assert CODES.keys() == {name for name in vars(ErrorCode) if name.isupper()}


def test_the_table_of_codes_is_up_to_date():
    page = (ROOT / "docs" / "pipelines-and-ci.md").read_text("utf-8")
    _, _, table = page.partition("| code | meaning |\n|---|---|\n")
    rows = [f"| `{code}` | {meaning} |" for code, meaning in CODES.values()]
    assert table.partition("\n\n")[0].splitlines() == rows


def test_an_error_of_a_worker_process_keeps_its_code():
    for kind in (FacedisError, InputError, OutputError, UsageError):
        error = pickle.loads(pickle.dumps(kind("message", ErrorCode.EMPTY)))
        assert (type(error), str(error), error.code) == (kind, "message", ErrorCode.EMPTY)
