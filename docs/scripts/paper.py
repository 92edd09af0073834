"""Train the paper's four models on a licensed data set: paper.py coma /data/coma.

Prepares the data, pre-trains discriminators, trains with and without neutrals and discriminator,
measures the test split, and prints every number beside the paper's (Gu, Pears, Sun, FG 2023,
ablation table). The settings are the published ones, with the published initial weights. Finished
steps are kept, so the same command resumes. OUT holds the set, the models with their logs, the
reports, and table.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from resumable import e_rec_by_epoch, interruptible, last_change, make, minutes
from study_tables import BASELINES, markdown, number, shown

from facedis_core.data.face_set import load_face_set
from facedis_core.train.recipe import load_recipe

METRICS = {"AVD_neu": "avd_neu", "E_dis": "e_dis", "E_rec": "e_rec"}

# What the authors' code has and the recipes, on purpose, have not (docs/training.md).
PUBLISHED = ("decoder_init=default", "gradient_clip=0")

RULERS = (
    "Standard deviations and medians are over meshes here, over vertices in the paper's CoMA "
    "table: only means are beside each other.",
    "Log-variances are clamped to +-10 here; the log tells whether that occurs.",
)


@dataclass(frozen=True)
class Cell:
    """One model: what it is given besides the faces."""

    neutrals: bool
    discriminator: bool

    @property
    def name(self) -> str:
        """Its file, without suffix."""
        kinds = ("neutrals", self.neutrals), ("discriminator", self.discriminator)
        return "_".join(word if given else f"no-{word}" for word, given in kinds)


CELLS = [Cell(*each) for each in product((False, True), (False, True))]


@dataclass(frozen=True)
class Publication:
    """What the paper has on a data set.

    Attributes:
        meshes: numbers of training and test meshes.
        numbers: (4, 3) in the order of `CELLS` and `METRICS`, mm.
        differences: of our protocol from the paper's, as sentences.
        measure: options of fd-metrics and fd-report.
    """

    meshes: tuple[int, int]
    numbers: Sequence[Sequence[float]]
    differences: Sequence[str]
    measure: Sequence[str] = ()


PAPER = {
    "coma": Publication(
        (18422, 2040),
        (
            (2.775, 1.439, 0.686),
            (1.528, 0.176, 0.783),
            (0.071, 0.016, 0.669),
            (0.065, 0.014, 0.651),
        ),
        (
            "Test frames are the first 10 of every 100 here; the paper's code draws 204 windows of "
            "10 frames without a seed, which nobody can repeat. Both test on people and sequences "
            "of the training, a few frames away.",
            "Weights follow the paper where the authors' code differs: without neutrals the code "
            "has --set reconstruction=600, with neutrals --set discriminator=1e-5 --set "
            "discriminator_learning_rate=1e-3.",
        ),
    ),
    "bu3dfe": Publication(
        (2250, 250),
        (
            (4.108, 1.211, 1.469),
            (2.429, 0.443, 1.421),
            (1.885, 0.345, 1.509),
            (1.894, 0.348, 1.500),
        ),
        (
            "The registration of the scans is the user's: the paper's is not published, and what "
            "one leaves of the expression or of noise changes every number.",
        ),
        ("--align",),
    ),
    "facescape": Publication(
        (11812, 5055),
        (
            (12.020, 1.791, 1.187),
            (3.112, 0.765, 1.157),
            (1.927, 0.582, 1.393),
            (1.927, 0.569, 1.370),
        ),
        (
            "The test people are drawn with --seed 0, always with those who may be shown in "
            "publications; the paper's draw is not published.",
            "Person 603 is left out; of the 33 broken meshes that the paper's code drops by row "
            "number the others are not named there, so they are in, unless excluded.",
            "Meshes are reduced by another quadric edge collapse to about as many vertices, which "
            "keeps vertices of the original.",
        ),
    ),
}


def train(asked: argparse.Namespace, faces: Path) -> dict[Cell, Path]:
    """Pre-train the discriminators and train the four models: cell -> model."""
    settings = [f"--set={change}" for change in (*PUBLISHED, *asked.set)]
    common = ["--recipe", asked.data_set, *settings, "--seed", str(asked.seed)]
    common += ["--device", asked.device]
    common += ["--points", str(asked.points)] if asked.points else []
    models = {}
    for cell in CELLS:
        given = [str(faces), *common, "--neutrals" if cell.neutrals else "--no-neutrals"]
        discriminator = "none"
        if cell.discriminator:
            recipe = load_recipe(asked.data_set, neutrals=cell.neutrals, changes=asked.set)
            kind = "batch-norm" if recipe.discriminator_batch_norm else "plain"
            pretrained = asked.out / f"discriminator_{kind}.safetensors"
            if not pretrained.with_name(f"{pretrained.name}.made").exists():
                make(pretrained, "fd-pretrain-disc", *given, resume=True)
            discriminator = str(pretrained)
        models[cell] = asked.out / f"{cell.name}.safetensors"
        make(models[cell], "fd-train", *given, "--discriminator", discriminator, resume=True)
    return models


def table(
    published: Publication, reports: dict[Cell, dict[str, Any]], models: dict[Cell, Path]
) -> Iterator[str]:
    """Our metrics beside the paper's, and those of the baselines, as Markdown."""
    rows = []
    for cell, theirs in zip(CELLS, published.numbers, strict=True):
        row = ["yes" if given else "no" for given in (cell.neutrals, cell.discriminator)]
        for key, paper in zip(METRICS.values(), theirs, strict=True):
            row += [shown(number(reports[cell]["model"], key)), shown(paper)]
        curve = e_rec_by_epoch(models[cell])
        rows.append([*row, minutes(models[cell]), last_change(curve)])
    columns = [word for name in METRICS for word in (name, "paper")]
    heading = ["neutrals", "discriminator", *columns, "minutes", "E_rec in the last tenth"]
    yield from markdown(heading, rows)
    yield "\nLinear baselines on the same faces:\n"
    baselines = next(iter(reports.values()))["baselines"]
    found = [(title, baselines[key]) for key, title in BASELINES.items() if key in baselines]
    yield from markdown(
        ["baseline", "condition", *METRICS],
        (
            [title, of["condition"], *(shown(number(of, key)) for key in METRICS.values())]
            for title, of in found
        ),
    )


def main() -> None:
    """Parse the options, run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data_set", choices=list(PAPER))
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("-o", "--out", type=Path, help="output folder (default: paper-DATA_SET)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--points", type=int, help="vertices that the networks see")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe"
    )
    asked = parser.parse_args()
    published = PAPER[asked.data_set]
    asked.out = asked.out or Path(f"paper-{asked.data_set}")
    asked.out.mkdir(parents=True, exist_ok=True)
    faces = asked.out / "faces.safetensors"
    make(faces, "fd-prep", asked.data_set, str(asked.root), "--seed", str(asked.seed))
    models = train(asked, faces)
    reports = {}
    for cell, model in models.items():
        report = asked.out / f"{cell.name}.json"
        measure = [str(faces), "-m", str(model), *published.measure]
        # the baselines are those of the faces, whatever the model
        baselines = ["--baselines"] if cell == CELLS[0] else []
        make(report, "fd-metrics", *measure, *baselines, "--json")
        reports[cell] = json.loads(report.read_text())
    each = [word for model in models.values() for word in ("-m", str(model))]
    options = [*published.measure, "--title", f"The paper's models on {asked.data_set}"]
    make(asked.out / "report.html", "fd-report", str(faces), *each, *options)

    kept = load_face_set(faces)
    here = [len(kept.rows(split)) for split in ("train", "test")]
    counts = f"{here[0]:,} training and {here[1]:,} test meshes here"
    counts += f", {published.meshes[0]:,} and {published.meshes[1]:,} in the paper."
    asked_for = [f"Changed: {', '.join(asked.set)}."] if asked.set else []
    asked_for += [f"The networks see {asked.points} vertices."] if asked.points else []
    differences = [counts, *published.differences, *RULERS, *asked_for]
    text = "\n".join(
        [
            f"# {asked.data_set}: here and in the paper, mm\n",
            *table(published, reports, models),
            "\nDifferences from the paper's protocol:\n",
            *(f"- {sentence}" for sentence in differences),
        ]
    )
    (asked.out / "table.md").write_text(f"{text}\n")
    print(text)


if __name__ == "__main__":
    interruptible(main)
