"""Regenerate the --help texts and the table of recipes in docs/commands.md; --check only compares.

The text around them is written by hand: a heading and an empty ```text block are enough for a new
command.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from facedis_core.train.recipe import Recipe, load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "commands.md"
# Keys that differ between recipes, and `points`; all keys are fields of Recipe.
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


def replaced(page: str, pattern: str, text: str) -> str:
    """The page with what lies between the two groups of `pattern` replaced by `text`."""
    found = re.search(pattern, page, re.DOTALL | re.MULTILINE)
    if found is None:
        sys.exit(f"{PAGE} has no part that matches {pattern!r}; add the heading and the block")
    return page[: found.end(1)] + text + page[found.start(2) :]


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
    recipes = recipe_names()
    pairs = [[load_recipe(name, neutrals=n) for n in (True, False)] for name in recipes]

    def cell(pair: list[Recipe], key: str) -> str:
        values = [getattr(recipe, key) for recipe in pair]
        words = ["-" if v is None else f"{v:g}" if type(v) is float else str(v) for v in values]
        return words[0] if words[0] == words[1] else " / ".join(words)

    rows = [["key", *recipes], ["---"] * (len(recipes) + 1)]
    rows += [[f"`{key}`", *(cell(pair, key) for pair in pairs)] for key in KEYS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Rewrite docs/commands.md, or exit 1 if that would change it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    before = after = PAGE.read_text("utf-8")
    for command in project["scripts"]:
        block = rf"(^## {command}$\n\n```text\n).*?(^```$)"
        after = replaced(after, block, help_text(command))
    after = replaced(after, r"(^## Recipes$.*?\n\n(?=\| key)).*?(^$|\Z)", recipe_table())
    if "--check" not in sys.argv:
        PAGE.write_text(after, "utf-8")
    elif after != before:
        sys.exit("docs/commands.md differs from --help or the recipes; run make docs")


if __name__ == "__main__":
    main()
