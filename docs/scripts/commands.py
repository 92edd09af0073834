"""Bring the generated parts of README.md up to date; with --check only compare.

These are the pipeline (docs/scripts/demo.sh), the --help of every command and the table of recipes.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from facedis_core.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RECIPES = ("coma", "bu3dfe", "facescape", "ict", "registered")
# What differs between the recipes and a reader wants to compare; the rest is in recipe.py.
KEYS = (
    "network",
    "components",
    "identity",
    "expression",
    "scale",
    "epochs",
    "batch",
    "learning_rate",
    "pretrain_epochs",
    "pretrain_learning_rate",
    "reconstruction",
    "kl_identity",
    "kl_expression",
    "discriminator",
    "neutral",
    "neutral_expression",
    "neutral_latent",
    "laplacian",
    "swap",
    "partner_latent",
    "expression_norm",
    "expression_power",
    "pose_degrees",
    "pose_mm",
    "discriminator_batch_norm",
    "discriminator_every",
    "points",
    "half_decoders",
)


def replaced(readme: str, pattern: str, text: str) -> str:
    """The README with the first match of `pattern` between its two groups replaced by `text`."""
    found = re.search(pattern, readme, re.DOTALL | re.MULTILINE)
    if found is None:
        sys.exit(f"README.md has no part that matches {pattern!r}; give it one to be filled")
    return readme[: found.end(1)] + text + readme[found.start(2) :]


def help_text(command: str) -> str:
    """What `command --help` prints on a terminal 100 columns wide."""
    result = subprocess.run(
        [sys.executable, "-m", command.replace("-", "_"), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        check=True,
    )
    return f"{result.stdout.strip()}\n"


def recipe_table() -> str:
    """A row a key, a column a recipe; `with / without neutrals` where that matters."""
    pairs = [[load_recipe(name, neutrals=n) for n in (True, False)] for name in RECIPES]

    def cell(pair: list[Recipe], key: str) -> str:
        values = [getattr(recipe, key) for recipe in pair]
        words = ["-" if v is None else f"{v:g}" if type(v) is float else str(v) for v in values]
        return words[0] if words[0] == words[1] else " / ".join(words)

    rows = [["key", *RECIPES], ["---"] * (len(RECIPES) + 1)]
    rows += [[f"`{key}`", *(cell(pair, key) for pair in pairs)] for key in KEYS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Rewrite README.md, or say that it should be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    before = README.read_text("utf-8")
    demo = (ROOT / "docs" / "scripts" / "demo.sh").read_text("utf-8")
    after = replaced(before, r"(^## The pipeline$.*?^```sh\n).*?(^```$)", demo)
    after = replaced(after, r"(^## Recipes$\n\n[^|]*\n\n).*?(\n## )", recipe_table())
    for command in project["scripts"]:
        part = rf"(^### {command}$\n\n```text\n).*?(^```$)"
        after = replaced(after, part, help_text(command))
    if "--check" not in sys.argv:
        README.write_text(after, "utf-8")
    elif after != before:
        sys.exit("README.md is out of step with the commands; run make readme")


if __name__ == "__main__":
    main()
