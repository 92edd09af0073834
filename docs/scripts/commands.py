"""Regenerate the help texts in docs/commands.md and the table of recipes in docs/training.md.

--check only compares.

The text around them is written by hand: a heading and an empty ```text block are enough for a new
command.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from facedis_core.train.recipe import Recipe, key_meanings, load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs" / "commands.md"
TRAINING = ROOT / "docs" / "training.md"


def replaced(page: str, pattern: str, text: str) -> str:
    """The page with what lies between the two groups of `pattern` replaced by `text`."""
    found = re.search(pattern, page, re.DOTALL | re.MULTILINE)
    if found is None:
        sys.exit(f"the page has no part that matches {pattern!r}; add the heading and the block")
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
    """A row per key, a column per recipe; `with / without neutrals` where that matters."""
    recipes = recipe_names()
    pairs = [
        (
            load_recipe(name, neutrals=True),
            load_recipe(name, neutrals=False, changes=["pseudo_neutral=none"]),
        )
        for name in recipes
    ]

    def cell(pair: tuple[Recipe, Recipe], key: str) -> str:
        values = [getattr(recipe, key) for recipe in pair]
        if key == "pseudo_neutral":  # taken away above
            values[1] = values[0]
        words = ["-" if v is None else f"{v:g}" if type(v) is float else str(v) for v in values]
        return words[0] if words[0] == words[1] else " / ".join(words)

    rows = [["key", "meaning", *recipes], ["---"] * (len(recipes) + 2)]
    for key, meaning in key_meanings().items():
        rows.append([f"`{key}`", meaning, *(cell(pair, key) for pair in pairs)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Rewrite both pages, or exit 1 if that would change one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    commands, training = (page.read_text("utf-8") for page in (COMMANDS, TRAINING))
    after = commands
    for command in project["scripts"]:
        block = rf"(^## {command}$\n\n```text\n).*?(^```$)"
        after = replaced(after, block, help_text(command))
    table = replaced(training, r"(^## Recipes$.*?\n\n(?=\| key)).*?(^$|\Z)", recipe_table())
    for page, old, new in ((COMMANDS, commands, after), (TRAINING, training, table)):
        if "--check" not in sys.argv:
            page.write_text(new, "utf-8")
        elif new != old:
            sys.exit(f"{page.relative_to(ROOT)} differs from --help or the recipes; run make docs")


if __name__ == "__main__":
    main()
