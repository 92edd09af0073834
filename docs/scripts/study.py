"""Train and measure everything in docs/benchmark.md: python docs/scripts/study.py FaceXModel/.

FaceXModel is the folder of ICT-FaceKit. Finished steps are kept, so the same command resumes an
interrupted study, and an interrupted training within it. Processes that run it at the same time, on
one machine or on several with a shared folder, share its trainings and measurements. OUT holds the
face sets, the models with their logs, the reports of fd-metrics, and tables.md.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import resumable

from facedis_core.datasets.ict_synthesis import VARIATIONS
from facedis_core.model.model_file import load_model
from facedis_core.train.recipe import Recipe, load_recipe

ENCODED = 20  # times that a face is encoded to measure its time


@dataclass(frozen=True)
class Cell:
    """One row of the tables: a training, repeated for every seed.

    Attributes:
        recipe: its name.
        condition: labelled, present or absent: what is known of the training people's neutrals.
        identity, expression: numbers of latents, of the networks that have both.
        discriminator: whether the training has one.
        few: trained on a quarter of the people, with the first seed alone.
        to_neutral: conv-mesh-ae to estimates of the neutrals.
        changed: what is otherwise than in the recipe, a key of CHANGED; with the first seed alone.
    """

    recipe: str
    condition: str
    identity: int = 64
    expression: int = 64
    discriminator: bool = False
    few: bool = False
    to_neutral: bool = False
    changed: str = ""

    @property
    def people(self) -> str:
        """Name of the face set it is trained on, without the seed."""
        name = "dropped" if self.condition == "absent" else "plain"
        return f"few-{name}" if self.few else name

    @property
    def group(self) -> str:
        """What cells with the same baselines share: prefix of their reports."""
        beside = "linear" if self.recipe in CLOSED_FORMS else self.recipe
        beside += "-changed" if self.changed else ""
        return f"{beside}-{self.people}-{self.identity}-{self.expression}"

    @property
    def key(self) -> str:
        """Prefix of its file names."""
        end = "-discriminator" if self.discriminator else "-to-neutral" if self.to_neutral else ""
        end += f"-{self.changed}" if self.changed else ""
        sizes = f"{self.identity}-{self.expression}"
        return f"{self.recipe}-{self.people}-{sizes}-{self.condition}{end}"

    @property
    def title(self) -> str:
        """Label of its row in the tables."""
        end = ", discriminator" if self.discriminator else ", to estimates" * self.to_neutral
        end += f", {self.changed.replace('-', ' ')}" if self.changed else ""
        return f"`{self.recipe}`{end}"

    @property
    def settings(self) -> Recipe:
        """Its recipe with what is changed of it."""
        changes = [change.removeprefix("--set=") for change in self.changes]
        return load_recipe(self.recipe, neutrals=self.condition == "labelled", changes=changes)

    @property
    def is_closed_form(self) -> bool:
        """Whether its recipe has no steps of a training."""
        return self.settings.steps == 0

    @property
    def latents(self) -> str:
        """Sizes of its latents; 0 of one that the network lacks."""
        config = self.settings.model_config(vertices=4)
        return f"{config.identity} + {config.expression}"

    @property
    def changes(self) -> list[str]:
        """Options for keys of its recipe."""
        changes = ["pseudo_neutral=auto"] if self.to_neutral else []
        config = load_recipe(
            self.recipe, neutrals=self.condition == "labelled", changes=changes
        ).model_config(vertices=4)
        halves = [half for half in ("identity", "expression") if getattr(config, half)]
        changes += [f"{half}={getattr(self, half)}" for half in halves]
        if self.changed:
            changes += CHANGED[self.changed]
        return [f"--set={change}" for change in changes]


CONDITIONS = ("labelled", "present", "absent")
# keys of recipes of which the effect is shown, one change at a time; the first is of `jiang`
CHANGED = {
    "deformation": ["deformation=true"],
    "pseudo-neutrals": ["pseudo_neutral=auto"],
    "no-laplacian": ["laplacian=0"],
    "no-neutral-latent": ["neutral_latent=0"],
    "strong-kl": ["kl_identity=1e-3", "kl_expression=1e-3"],
    "random-decoders": ["decoder_init=default"],
    "weak-discriminator": ["discriminator=1e-3"],
    "strong-discriminator": ["discriminator=0.1"],
    "weak-discriminator-no-laplacian": ["discriminator=1e-3", "laplacian=0"],
    "slow-steps": ["learning_rate=1e-4", "schedule=step"],
}
CLOSED_FORMS = ("linear", "bilinear")  # recipes measured together, with few people as well
KINDS = {
    "linear": (
        *(Cell(recipe, each) for recipe in CLOSED_FORMS for each in CONDITIONS),
        *(Cell(recipe, each, 92, 44) for recipe in CLOSED_FORMS for each in CONDITIONS),
        *(Cell(recipe, each, few=True) for recipe in CLOSED_FORMS for each in CONDITIONS),
    ),
    "pointnet": tuple(
        Cell("pointnet", condition, discriminator=discriminator)
        for condition in ("present", "labelled", "absent")
        for discriminator in (False, True)
    ),
    # the same network with one thing changed, most of it where neutrals are not labelled
    "changed": (
        *(Cell("pointnet", each, changed="pseudo-neutrals") for each in CONDITIONS[1:]),
        *(
            Cell("pointnet", "present", discriminator=True, changed=each)
            for each in (
                *("no-laplacian", "no-neutral-latent", "strong-kl", "random-decoders"),
                *("weak-discriminator", "strong-discriminator", "weak-discriminator-no-laplacian"),
            )
        ),
        *(
            Cell("pointnet", "present", changed=each)
            for each in ("no-laplacian", "random-decoders", "slow-steps")
        ),
        *(
            Cell("pointnet", "labelled", discriminator=each, changed="random-decoders")
            for each in (False, True)
        ),
    ),
    # the systems that the paper compares with; conv-mesh-ae to itself, and from a face to its
    # person's neutral, or an estimate of it
    "compared": (
        *(Cell("flame-like", each) for each in CONDITIONS),
        Cell("conv-mesh-ae", "present", 8, 8),
        Cell("conv-mesh-ae", "labelled", 8, 8),
        *(Cell("conv-mesh-ae", each, 8, 8, to_neutral=True) for each in CONDITIONS[1:]),
        *(Cell("kacem", each) for each in CONDITIONS),
        *(Cell("di-mesh-encoder", each) for each in CONDITIONS),
        *(Cell("jiang", each, 50, 25) for each in CONDITIONS),
        Cell("jiang", "labelled", 50, 25, changed="deformation"),
    ),
}


@dataclass(frozen=True)
class Study:
    """Options of a study, its output folder, and its steps."""

    source: Path
    out: Path
    subjects: int
    seeds: Sequence[int]
    points: int | None = None
    epochs: int | None = None
    device: str = "auto"
    pretrain_epochs: int | None = None
    recording: Path | None = None
    triangles: int = 9000

    def path(self, name: str) -> Path:
        """A file of the study."""
        return self.out / name

    @property
    def variations(self) -> tuple[str, ...]:
        """Names of the sets that show the test people otherwise."""
        return (*VARIATIONS, *(["captured"] if self.recording else []))

    def seeds_of(self, cell: Cell) -> Sequence[int]:
        """The seeds with which a cell is trained."""
        return self.seeds[:1] if cell.few or cell.changed else self.seeds

    def make(self, output: str, *command: str, resume: bool = False, wait: bool = True) -> bool:
        """Run a command that writes `output`, unless it has done so before; as `resumable.make`."""
        return resumable.make(self.path(output), *command, resume=resume, wait=wait)

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Make the face sets: people of every seed; of the first also a quarter, and variations."""
        common = ["--subjects", str(self.subjects), "--simplify", str(self.triangles)]
        whole = {"plain"} | {cell.people for cell in cells if not cell.few}
        for seed in self.seeds:
            base = ("fd-prep", "ict", str(self.source), *common, "--seed", str(seed))
            for name in sorted(whole, reverse=True):
                dropped = ["--drop-neutrals"] if name == "dropped" else []
                self.make(f"{name}-{seed}.safetensors", *base, *dropped)
        first = self.seeds[0]
        base = ("fd-prep", "ict", str(self.source), *common, "--seed", str(first))
        counts = subprocess.run(
            [sys.executable, "-m", "fd_prep", *base[1:], "--dry-run"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = [line.split("\t") for line in counts.splitlines()]
        training = [row[1] for row in rows if row[0] == "subject" and int(row[3])]
        # a face set needs at least one training person
        for name, kept in (("few", training[::4]), ("one", training[:1])):
            left_out = [person for person in training if person not in kept]
            self.path(f"not_{name}.txt").write_text("".join(f"{one}\n" for one in left_out))
        quarter = ("--exclude", str(self.path("not_few.txt")))
        for name in sorted({cell.people for cell in cells if cell.few}):
            dropped = ["--drop-neutrals"] if name == "few-dropped" else []
            self.make(f"{name}-{first}.safetensors", *base, *quarter, *dropped)
        for name in self.variations:
            options = ["--variation", name]
            if name == "captured":
                options = ["--captured", str(self.recording)]
            one = ("--exclude", str(self.path("not_one.txt")))
            self.make(f"{name}-{first}.safetensors", *base, *options, *one)

    def train(self, cells: Sequence[Cell], wait: bool = True) -> None:
        """Train every cell with every seed; PointNets share one discriminator a seed.

        What another process trains is waited for, or left to it.
        """
        runs = [(cell, seed) for cell in cells for seed in self.seeds_of(cell)]
        for cell, seed in runs:
            faces = str(self.path(f"{cell.people}-{seed}.safetensors"))
            common = ["--recipe", cell.recipe, "--seed", str(seed), "--device", self.device]
            length = []
            if cell.recipe == "pointnet":
                common += ["--points", str(self.points)] if self.points else []
            if not cell.is_closed_form:
                length = ["--evaluate-every", "10"]
                if self.epochs:
                    every = str(max(1, self.epochs // 10))
                    length = ["--epochs", str(self.epochs), "--evaluate-every", every]
            discriminator = "none"
            if cell.discriminator:
                name = f"disc-{cell.people}-{seed}.safetensors"
                discriminator = str(self.path(name))
                short = ["--epochs", str(self.pretrain_epochs)] if self.pretrain_epochs else []
                pretrain = ("fd-pretrain-disc", faces, *common, *short)
                if not self.make(name, *pretrain, resume=True, wait=wait):
                    continue
            self.make(
                f"{cell.key}-{seed}.safetensors",
                *("fd-train", faces, *common, *length, "--discriminator", discriminator),
                "--neutrals" if cell.condition == "labelled" else "--no-neutrals",
                *cell.changes,
                resume=True,
                wait=wait,
            )

    def measure(self, cells: Sequence[Cell], wait: bool = True) -> None:
        """Measure every model on the test people, with the first seed beside the baselines.

        Models of all people, with neutrals among their faces, are measured on variations as well.
        Those of a changed recipe are measured on the test people alone, without baselines.
        """
        for seed in self.seeds:
            groups: dict[str, list[Cell]] = {}
            for cell in cells:
                if seed in self.seeds_of(cell):
                    groups.setdefault(cell.group, []).append(cell)
            for group, members in groups.items():
                people, command = members[0].people, ["--json"]
                as_it_is = seed == self.seeds[0] and not members[0].changed
                for cell in members:
                    command += ["--model", str(self.path(f"{cell.key}-{seed}.safetensors"))]
                if as_it_is:
                    fitted_on = self.path(f"{people}-{seed}.safetensors")
                    command += ["--baselines-from", str(fitted_on)]
                varied = self.variations if as_it_is and people == "plain" else ()
                for name in ("plain", *varied):
                    faces = str(self.path(f"{name}-{seed}.safetensors"))
                    report = f"{group}-{seed}_on_{name}.json"
                    self.make(report, "fd-metrics", faces, *command, wait=wait)

    def encode_ms(self, cell: Cell, seed: int) -> float:
        """Milliseconds in which the model of a cell encodes a face, measured once."""
        known = self.path(f"{cell.key}-{seed}.encode-ms")
        if not known.exists():
            model = load_model(self.path(f"{cell.key}-{seed}.safetensors"))
            faces = model.mean_face[None]
            model.encode_prepared(faces)
            times = []
            for _ in range(ENCODED):
                start = time.perf_counter()
                model.encode_prepared(faces)
                times.append(time.perf_counter() - start)
            known.write_text(f"{1000 * median(times):.3g}\n")
        return float(known.read_text())

    def report(self, cell: Cell, seed: int, name: str = "plain") -> dict[str, Any] | None:
        """What is told of a cell, by this run or an earlier one; None where it was not measured.

        `model` and `strongest` are the metrics of the cell and of its strongest baselines, and
        `intervals` those of the metrics.
        """
        path = self.path(f"{cell.group}-{seed}_on_{name}.json")
        if not path.exists():
            return None
        found = json.loads(path.read_text())

        def of_cell(part: dict[str, Any]) -> dict[str, Any]:
            values = part.get("model") or part.get("models", {}).get(f"{cell.key}-{seed}", {})
            return dict(values)

        if not of_cell(found):
            return None
        return {
            "model": of_cell(found),
            "intervals": of_cell(found.get("intervals", {})),
            "strongest": of_cell(found.get("strongest_baselines", {})),
            "baselines": found.get("baselines", {}),
        }


def main() -> None:
    """Parse the options, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, help="the folder FaceXModel of ICT-FaceKit")
    parser.add_argument("-o", "--out", type=Path, help="study, or study-quick")
    parser.add_argument("--only", choices=list(KINDS), help="one kind of network")
    parser.add_argument("--captured", type=Path, help="CSV of ARKit weights, for a variation")
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--simplify", type=int, default=9000, help="triangles of every face")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--points", type=int, help="vertices that PointNets see")
    parser.add_argument("--epochs", type=int, help="epochs of trained networks")
    parser.add_argument("--pretrain-epochs", type=int, help="epochs of discriminators")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a minimal study: minutes on a CPU")
    asked = parser.parse_args()
    if asked.quick:
        asked.subjects, asked.seeds, asked.points, asked.epochs = 20, 1, 128, 2
        asked.pretrain_epochs, asked.simplify = 2, 1000
    cells = [cell for kind in KINDS if asked.only in (None, kind) for cell in KINDS[kind]]
    study = Study(
        asked.source,
        asked.out or Path("study-quick" if asked.quick else "study"),
        asked.subjects,
        range(asked.seeds),
        asked.points,
        asked.epochs,
        asked.device,
        asked.pretrain_epochs,
        asked.captured,
        asked.simplify,
    )
    study.out.mkdir(parents=True, exist_ok=True)
    study.prepare(cells)
    for step in (study.train, study.measure):
        for wait in (False, True):  # first what no other process makes
            step(cells, wait)
    from study_tables import tables  # it imports this module

    text = "\n".join(tables(study)) + "\n"
    study.path("tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    resumable.interruptible(main)
