"""What may import what, as one table, and what every command comes with."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "facedis_core"
TOOLS = ROOT / "tools"

# A module imports from its own line and the lines above it.
LINES = (
    "errors progress paths signals atomic streams history config network_table recipe",
    "text_numbers surface_builder ply obj vrml meshio_formats mesh csv_text patterns "
    "geometry procrustes simplification unfolding",
    "bundle safetensors_file preparation faceset npy latents pairing "
    "transfer forward inference failures parallel arrays faces encoding decoding info "
    "verification metrics readout neutrals prediction linear baselines evaluation comparison "
    "checks measurement regression junit recognition lookup identification",
    "sources selection follow inventory prepare",
    "camera rasterizer color_scale shading error_map background text_drawing color_bar "
    "contact_sheet scene animation image_files draw_faces",
    "example_faces model_comparison figures viewer_payload report_html charts report_tables "
    "regions sections report_page",
    "latent_directions gallery live_model viewer_server",
    "world threads moments fusedmax winners maxlinear autoencoder pointnet discriminator pose "
    "principal losses residence build batches checkpoint synthesis profiling epochs "
    "scalars training pretraining runs plans",
)
LINE_OF = {module: number for number, line in enumerate(LINES) for module in line.split()}
TORCH_LINE = LINE_OF["pointnet"]

# What the commands share, and what they may import before they know more than their options.
SHARED = {"fd_start", "fd_edge", "fd_parse", "fd_completion", "fd_cli", "fd_training_cli"}
LIGHT = {
    "typer",
    "typer.completion",
    "facedis_core",
    "facedis_core.errors",
    "facedis_core.signals",
    "facedis_core.bundle",
    "facedis_core.recipe",
} | SHARED

MODULES = sorted(CORE.rglob("*.py"))
TOOL_FILES = sorted(TOOLS.glob("*.py"))
COMMANDS = [path for path in TOOL_FILES if path.stem not in SHARED]


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere or only when itself imported."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {
                name for name in inside if node.module == "facedis_core" and core_module(name)
            }
            yield from modules if modules == inside else modules | {node.module}


def core_module(name: str) -> str | None:
    """`facedis_core.sources.ict` -> `sources`; None for what is not a module of the core."""
    package, _, rest = name.partition(".")
    module = rest.partition(".")[0]
    exists = (CORE / f"{module}.py").exists() or (CORE / module / "__init__.py").exists()
    return module if package == "facedis_core" and module and exists else None


def own_name(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def test_the_table_names_exactly_the_modules_there_are() -> None:
    assert set(LINE_OF) == {own_name(path) for path in MODULES} - {"__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
class TestCore:
    def test_imports_only_from_its_line_and_those_above(self, path: Path) -> None:
        own = LINE_OF.get(own_name(path), -1)
        below = {m for name in imports(path) if (m := core_module(name)) and LINE_OF[m] > own}
        assert not below

    def test_only_the_torch_line_knows_torch(self, path: Path) -> None:
        if LINE_OF.get(own_name(path)) != TORCH_LINE:
            assert "torch" not in {name.partition(".")[0] for name in imports(path)}

    def test_learning_does_not_know_the_data_sets(self, path: Path) -> None:
        if LINE_OF.get(own_name(path)) == TORCH_LINE:
            assert not {"sources", "prepare"} & {core_module(name) for name in imports(path)}

    def test_leaves_the_process_to_the_tools(self, path: Path) -> None:
        assert not {name.partition(".")[0] for name in imports(path)} & {"typer", "fd_cli", "rich"}
        source = path.read_text("utf-8")
        assert not re.search(r"(?m)(^|[^\w.`])(print|exit|input)\(|sys\.exit|sys\.argv", source)


@pytest.mark.parametrize("path", TOOL_FILES, ids=lambda path: path.stem)
class TestTools:
    def test_import_no_other_tool(self, path: Path) -> None:
        assert not {command.stem for command in COMMANDS} & set(imports(path))

    def test_import_nothing_heavy_at_module_level(self, path: Path) -> None:
        names = set(imports(path, top_level=True)) - LIGHT
        heavy = {n for n in names if n.partition(".")[0] not in sys.stdlib_module_names}
        assert not heavy


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
class TestCommands:
    def test_has_an_entry_point_and_a_test_file(self, path: Path) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        command = path.stem.replace("_", "-")
        assert project["project"]["scripts"].get(command) == f"{path.stem}:main"
        assert (ROOT / "tests" / f"test_{path.stem}.py").exists()

    def test_help_needs_neither_numpy_nor_torch(self, path: Path) -> None:
        program = (
            "import sys; sys.modules.update(numpy=None, torch=None); "
            f"sys.argv = ['{path.stem}', '--help']; import {path.stem}; {path.stem}.main()"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "Usage:" in result.stdout
        assert not result.stderr


def test_every_entry_point_is_a_command_and_every_tool_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    scripts = project["project"]["scripts"].values()
    assert set(scripts) == {f"{path.stem}:main" for path in COMMANDS}
    modules = project["tool"]["setuptools"]["py-modules"]
    assert set(modules) == {path.stem for path in TOOL_FILES}


@pytest.mark.parametrize("path", [*MODULES, *TOOL_FILES], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_asks_to_be_two(path: Path) -> None:
    length = len(path.read_text("utf-8").splitlines())
    assert length <= 600


def test_importing_the_package_imports_no_numpy() -> None:
    program = "import sys, facedis_core; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
