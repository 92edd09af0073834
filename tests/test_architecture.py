"""The structure of the code: what imports what, and what every command comes with.

The order of the packages, the place of torch and circles are contracts of import-linter in
pyproject.toml.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
CORE = ROOT / "facedis_core"
TOOLS = ROOT / "tools"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

COMMANDS = {
    script.partition(":")[0]: name for name, script in PROJECT["project"]["scripts"].items()
}


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Modules that a file imports: anywhere, or only when it is itself imported."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            yield str(node.module)


def test_packages_import_as_the_contracts_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports() == 0


def test_every_module_and_package_says_what_it_holds() -> None:
    for path in [*CORE.rglob("*.py"), *TOOLS.glob("*.py")]:
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert text and len(text.splitlines()[0]) > 20, path


def test_the_core_leaves_the_process_to_the_commands() -> None:
    for path in CORE.rglob("*.py"):
        code = re.sub(r'""".*?"""', "", path.read_text("utf-8"), flags=re.DOTALL)
        assert not re.search(r"(?m)(^|[^\w.`])(print|exit|input)\(|sys\.exit|sys\.argv", code), path


def test_commands_import_no_other_command() -> None:
    for path in TOOLS.glob("*.py"):
        assert not set(COMMANDS) & set(imports(path)), path


def test_commands_are_fast_to_start() -> None:
    """What is imported before the arguments are read takes some milliseconds."""
    light = {
        "typer",
        "facedis_core",
        "facedis_core.errors",
        "facedis_core.io.memory",
        "facedis_core.io.signals",
    } | {path.stem for path in TOOLS.glob("*.py")}
    for path in TOOLS.glob("*.py"):
        heavy = {
            name
            for name in imports(path, at_import=True)
            if name not in light and name.partition(".")[0] not in sys.stdlib_module_names
        }
        assert not heavy or path.stem == "fd_completion", (path, heavy)


def test_help_needs_neither_numpy_nor_torch() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['numpy', 'torch', 'rich', 'meshio']))\n"
        "from fd_edge import perform\n"
        "from runner import command_function\n"
        "assert not any(perform(command_function(name), ['--help']).code for name in sys.argv[1:])"
    )
    names = sorted(COMMANDS.values())
    words = [sys.executable, "-c", program, *names]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT / "tests")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"(?m)^Usage: (\S+) ", result.stdout) == names


def test_every_command_is_documented_and_tested() -> None:
    pages = (ROOT / "docs" / "commands.md").read_text("utf-8")
    for module, name in COMMANDS.items():
        assert module == name.replace("-", "_")
        assert (TOOLS / f"{module}.py").exists()
        assert (ROOT / "tests" / f"test_{module}.py").exists()
        assert f"\n## {name}\n" in pages or f"\n### {name}\n" in pages


def test_everything_is_installed() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert set(setuptools["py-modules"]) == {path.stem for path in TOOLS.glob("*.py")}
    packages = {
        ".".join(("facedis_core", *path.parent.relative_to(CORE).parts))
        for path in CORE.rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == {*packages, "facedis_weights"}
    installed = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in CORE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} <= installed
