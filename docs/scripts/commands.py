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
from dataclasses import fields
from pathlib import Path

from facedis_core.train.recipe import Recipe, load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs" / "commands.md"
TRAINING = ROOT / "docs" / "training.md"
# Meaning of every field of Recipe.
KEYS = {
    "network": "`pointnet`, `linear`, `conv-mesh-ae`, `kacem`, `di-mesh-encoder` or `jiang`",
    "identity": "size of the identity latent",
    "expression": "size of the expression latent",
    "target": "what `conv-mesh-ae` makes of a face: `self`, from `expression` latents, or "
    "`neutral`, from `identity` latents",
    "deformation": "whether `jiang` works on a deformation representation, as published, not on "
    "coordinates",
    "latent_relu": "whether latents of `conv-mesh-ae` pass a ReLU, as in CoMA's program",
    "components": "principal components of `linear`, at most",
    "bilinear": "leading expression directions of `linear` whose X_exp depends on the identity "
    "latent as well; - = none",
    "points": "vertices that encoder and discriminator see, spread over the region of the set",
    "half_decoders": "store decoders or principal components as float16",
    "decoder_init": "last layers of PointNet decoders: `zero`, or `default` of PyTorch",
    "decoder_components": "PointNet decoders learn coefficients of so many principal components "
    "of the training faces; stored as the paper's; - = coordinates of vertices",
    "linear_start": "PointNets start as a linear model of the training faces in closed form, not "
    "at random, and keep the statistics of batch norm",
    "encoder_offsets": "a PointNet encoder sees each vertex's mean position and offset from it, "
    "not its position",
    "scale": "mm per unit of the network's coordinates",
    "epochs": "length in epochs",
    "steps": "length in optimiser steps, in place of `epochs`; 0 = the closed form alone",
    "pseudo_neutral": "stands for a person's neutral without `--neutrals`: `medoid`, `centre`, "
    "`auto` (one of them, chosen for the whole set) or `none`",
    "linear_fit": "closed form of `linear`: `split`, ours, or `flame`, FLAME's linear model "
    "(without `trust`, poses and `points`)",
    "trust": "weight of the neutrals in the closed form: small ones reconstruct better, large "
    "ones keep X_id of a person together",
    "minimum_steps": "fewest steps; small sets get more epochs",
    "batch": "faces per step",
    "minimum_batch": "small sets halve the batch down to this",
    "optimizer": "of networks on meshes: `adam` or `sgd`; Adam for all others",
    "momentum": "of `sgd`",
    "learning_rate": "of the auto-encoder",
    "output_learning_rate": "learning rate of the last layers of PointNet decoders, times "
    "`learning_rate`",
    "warmup": "part of the run in which all learning rates rise from 0, in per cent",
    "schedule": "of all learning rates: `step`, or `cosine` (half a cosine to 0)",
    "learning_rate_factor": "factor on all learning rates of `step` ...",
    "learning_rate_every": "... every so many per cent of the run",
    "weight_decay": "of the auto-encoder; of networks on meshes for dense layers alone",
    "gradient_clip": "largest norm of the auto-encoder's gradient; 0 = none",
    "log_variance_limit": "log-variances are clamped to +- this",
    "weight_average": "part of the run over which the weights evaluated and stored are averaged, "
    "in per cent",
    "reconstruction": "weight: reconstruction to input",
    "kl_identity": "weight: KL divergence of the identity latent",
    "kl_expression": "weight: KL divergence of the expression latent",
    "kl_decay": "part of the run in which the KL weights fall linearly to 0, in per cent",
    "discriminator": "weight: generator loss, identity faces against the discriminator",
    "neutral": "weight (times `reconstruction`): identity face to the true neutral",
    "neutral_expression": "weight (times `reconstruction`): expression to face minus neutral",
    "neutral_latent": "weight: identity latent of the identity face to that of the face; of "
    "`kacem` to that of the neutral",
    "person": "weight: cross-entropy of the training person, by the identity latent (`kacem`)",
    "laplacian": "weight: roughness of the identity face",
    "swap": "weight (times `reconstruction`): swapped identities of a person's faces",
    "partner_latent": "weight: distance to the identity latent of another face of the person",
    "expression_norm": "weight: size of the expression",
    "expression_power": "exponent of each vertex's length in `expression_norm`",
    "pose_degrees": "standard deviation of random rotations of the training faces",
    "pose_mm": "standard deviation of random translations, per coordinate",
    "discriminator_batch_norm": "whether the discriminator has batch norm",
    "discriminator_learning_rate": "of Adam, for the discriminator",
    "discriminator_every": "steps of the auto-encoder per step of the discriminator",
    "label_smoothing": "of the discriminator's cross-entropy",
    "instance_noise": "standard deviation of noise on the discriminator's input",
    "pretrain_epochs": "length of fd-pretrain-disc in epochs",
    "pretrain_steps": "length of fd-pretrain-disc in steps, in place of `pretrain_epochs`",
    "pretrain_minimum_steps": "fewest steps of fd-pretrain-disc",
    "pretrain_batch": "pairs per step of fd-pretrain-disc",
    "pretrain_learning_rate": "of Adam in fd-pretrain-disc",
}


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
    for field in fields(Recipe):
        key = field.name
        rows.append([f"`{key}`", KEYS[key], *(cell(pair, key) for pair in pairs)])
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
