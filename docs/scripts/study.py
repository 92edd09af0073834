"""Train and measure everything in docs/benchmark.md: python docs/scripts/study.py FaceXModel/.

FaceXModel is the folder of ICT-FaceKit. Finished steps are kept, so the same command resumes an
interrupted study, and an interrupted training within it. OUT holds the face sets, the models with
their logs, the reports of fd-metrics and fd-recognize, and tables.md.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facedis_core.datasets.ict_synthesis import VARIATIONS


@dataclass(frozen=True)
class Cell:
    """One row of the tables: a training, repeated for every seed.

    Attributes:
        key: prefix of its file names.
        title: label of its row in the tables.
        quarter: trained on a quarter of the training people.
    """

    key: str
    title: str
    recipe: str
    neutrals: bool = False
    discriminator: bool = False
    changes: tuple[str, ...] = ()
    quarter: bool = False

    @property
    def trained_on(self) -> str:
        """Name of the face set it is trained on."""
        return "quarter" if self.quarter else "whole"


RANDOM = ("decoder_init=default",)
ROUGH = (*RANDOM, "laplacian=0")
NO_POSES = ("pose_degrees=0", "pose_mm=0")
WHOLE_POINTNET = (
    Cell("pointnet-none-nodisc-zero", "PointNet", "pointnet"),
    Cell("pointnet-none-disc-zero", "PointNet, discriminator", "pointnet", discriminator=True),
    Cell("pointnet-none-nodisc-default", "PointNet, random init", "pointnet", changes=RANDOM),
    Cell(
        "pointnet-none-disc-default",
        "PointNet, random init, discriminator",
        "pointnet",
        discriminator=True,
        changes=RANDOM,
    ),
    Cell(
        "pointnet-none-nodisc-rough",
        "PointNet, random init, no Laplacian",
        "pointnet",
        changes=ROUGH,
    ),
    Cell(
        "pointnet-none-disc-rough",
        "PointNet, random init, no Laplacian, discriminator",
        "pointnet",
        discriminator=True,
        changes=ROUGH,
    ),
    Cell("pointnet-neutrals-nodisc-zero", "PointNet, neutrals", "pointnet", neutrals=True),
    Cell(
        "pointnet-neutrals-disc-zero",
        "PointNet, neutrals, discriminator",
        "pointnet",
        neutrals=True,
        discriminator=True,
    ),
)
WHOLE_LINEAR = (
    Cell("linear-none", "linear", "linear"),
    Cell("linear-neutrals", "linear, neutrals", "linear", neutrals=True),
    Cell("linear-none-rest", "linear, no pose augmentation", "linear", changes=NO_POSES),
    Cell(
        "linear-neutrals-rest",
        "linear, no pose augmentation, neutrals",
        "linear",
        neutrals=True,
        changes=NO_POSES,
    ),
    Cell(
        "linear-neutrals-rest-wide",
        "linear, no pose augmentation, neutrals, 96 + 32 latents",
        "linear",
        neutrals=True,
        changes=(*NO_POSES, "identity=96", "expression=32"),
    ),
)


def with_quarters(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells, and copies of the complete methods trained on a quarter of the people."""
    whole = [cell for cell in cells if cell.discriminator or cell.recipe == "linear"]
    quarters = [
        replace(cell, key=f"{cell.key}-quarter", quarter=True) for cell in whole if not cell.changes
    ]
    return (*cells, *quarters)


KINDS = {"linear": with_quarters(WHOLE_LINEAR), "pointnet": with_quarters(WHOLE_POINTNET)}


@dataclass(frozen=True)
class Study:
    """Options of a study, its output folder, and its steps."""

    source: Path
    out: Path
    subjects: int
    seeds: Sequence[int]
    points: int | None
    epochs: int | None
    linear_epochs: int | None
    device: str
    pretrain_epochs: int | None = None

    def path(self, name: str) -> Path:
        """A file of the study."""
        return self.out / name

    def make(self, output: str, *command: str, resume: bool = False) -> None:
        """Run a command that writes `output`, unless it has done so before.

        OUTPUT.made keeps the command and its seconds; an output of another command is an error.
        """
        target, done = self.path(output), self.path(f"{output}.made")
        words = [*command, "-o", str(target)]
        asked = " ".join(words)
        if done.exists():
            _, made_by = done.read_text().splitlines()
            if made_by != asked:
                sys.exit(f"{target} was made by\n  {made_by}\nnot by\n  {asked}\nchoose another -o")
            return
        going_on = resume and target.with_suffix(".state.safetensors").exists()
        print("$", asked, flush=True)
        start = time.monotonic()
        run = [sys.executable, "-m", command[0].replace("-", "_"), *words[1:]]
        status = subprocess.run([*run, "--resume" if going_on else "--force"]).returncode
        if status:
            sys.exit(status)
        # of a resumed training only the time since then
        seconds = f"{time.monotonic() - start:.0f}{' and more' if going_on else ''}"
        done.write_text(f"{seconds}\n{asked}\n")

    def prepare(self) -> None:
        """Make the face sets: all people, a quarter of the training people, variations."""
        people = ("--subjects", str(self.subjects), "--simplify", "9000")
        base = ("fd-prep", "ict", str(self.source), *people)
        self.make("whole.safetensors", *base)
        counts = subprocess.run(
            [sys.executable, "-m", "fd_prep", *base[1:], "--dry-run"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = [line.split("\t") for line in counts.splitlines()]
        training = [row[1] for row in rows if row[0] == "subject" and int(row[3])]
        # a face set needs at least one training person
        for name, kept in (("quarter", training[::4]), ("one", training[:1])):
            left_out = [person for person in training if person not in kept]
            self.path(f"not_{name}.txt").write_text("".join(f"{one}\n" for one in left_out))
        quarter = ("--exclude", str(self.path("not_quarter.txt")))
        self.make("quarter.safetensors", *base, *quarter)
        for name in VARIATIONS:
            options = ("--variation", name, "--exclude", str(self.path("not_one.txt")))
            self.make(f"{name}.safetensors", *base, *options)
        # moved training people, to fit the linear methods on
        self.make("moved-people.safetensors", *base, "--variation", "moved")

    def train(self, cells: Iterable[Cell]) -> None:
        """Train every cell with every seed; PointNets share one discriminator a seed."""
        for seed in self.seeds:
            for cell in cells:
                trained_on = str(self.path(f"{cell.trained_on}.safetensors"))
                common = ["--recipe", cell.recipe, "--seed", str(seed), "--device", self.device]
                if cell.recipe == "pointnet" and self.points:
                    common += ["--points", str(self.points)]
                discriminator = "none"
                if cell.discriminator:
                    name = f"disc-{cell.trained_on}-{seed}.safetensors"
                    discriminator = str(self.path(name))
                    length = []
                    if self.pretrain_epochs:
                        length = ["--epochs", str(self.pretrain_epochs)]
                    self.make(name, "fd-pretrain-disc", trained_on, *common, *length, resume=True)
                self.make(
                    f"{cell.key}-{seed}.safetensors",
                    *("fd-train", trained_on, *common, *self._length(cell)),
                    *("--discriminator", discriminator),
                    *(["--neutrals"] if cell.neutrals else []),
                    *(f"--set={change}" for change in cell.changes),
                    resume=True,
                )

    def _length(self, cell: Cell) -> list[str]:
        """Options for fewer epochs."""
        epochs = self.epochs if cell.recipe == "pointnet" else self.linear_epochs
        if epochs is None:
            return ["--evaluate-every", "10"]
        return ["--epochs", str(epochs), "--evaluate-every", str(max(1, epochs // 10))]

    def measure(self, cells: Iterable[Cell]) -> None:
        """Measure every model on the test people and on their variations."""
        for cell, seed in ((cell, seed) for cell in cells for seed in self.seeds):
            model = f"{cell.key}-{seed}"
            sets = (cell.trained_on,) if cell.quarter else ("whole", *VARIATIONS)
            for name in sets:
                command = ["fd-metrics", str(self.path(f"{name}.safetensors")), "--json"]
                command += ["--model", str(self.path(f"{model}.safetensors"))]
                fitted = {f"baselines_on_{name}.json": cell.trained_on}
                if name == "moved":
                    fitted["baselines_that_saw_moved.json"] = "moved-people"
                for report, people in fitted.items():
                    if not self.path(report).exists():
                        fitted_on = str(self.path(f"{people}.safetensors"))
                        self.make(report, *command, "--baselines-from", fitted_on)
                self.make(f"{model}_on_{name}.json", *command)
            recognise = ["fd-recognize", str(self.path(f"{sets[0]}.safetensors")), "--json"]
            recognise += ["--model", str(self.path(f"{model}.safetensors"))]
            self.make(f"{model}_recognized.json", *recognise)

    def report(self, name: str) -> dict[str, Any]:
        """Read a JSON report."""
        return json.loads(self.path(name).read_text())

    def reports(self, cell: Cell, suffix: str) -> list[dict[str, Any]]:
        """Reports of a cell for all seeds found, of this run or an earlier one."""
        paths = sorted(self.out.glob(f"{cell.key}-[0-9]*_{suffix}.json"))
        return [self.report(path.name) for path in paths]

    def metrics(self, cell: Cell, name: str) -> list[dict[str, Any]]:
        """Metrics of a cell on a face set, one a seed."""
        return [report["model"] for report in self.reports(cell, f"on_{name}")]


def main() -> None:
    """Parse the options, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, help="the folder FaceXModel of ICT-FaceKit")
    parser.add_argument("-o", "--out", type=Path, help="study, or study-quick")
    parser.add_argument("--only", choices=list(KINDS), help="one kind of network")
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--points", type=int, help="vertices that PointNets see")
    parser.add_argument("--epochs", type=int, help="epochs of PointNets")
    parser.add_argument("--linear-epochs", type=int)
    parser.add_argument("--pretrain-epochs", type=int, help="epochs of discriminators")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a minimal study: minutes on a CPU")
    asked = parser.parse_args()
    if asked.quick:
        asked.subjects, asked.seeds, asked.points, asked.epochs = 20, 1, 128, 2
        asked.linear_epochs, asked.pretrain_epochs = 10, 2
    folder = asked.out or Path("study-quick" if asked.quick else "study")
    cells = [cell for kind in KINDS if asked.only in (None, kind) for cell in KINDS[kind]]
    study = Study(
        asked.source,
        folder,
        asked.subjects,
        range(asked.seeds),
        asked.points,
        asked.epochs,
        asked.linear_epochs,
        asked.device,
        asked.pretrain_epochs,
    )
    study.out.mkdir(parents=True, exist_ok=True)
    study.prepare()
    study.train(cells)
    study.measure(cells)
    from study_tables import tables  # it imports this module

    text = "\n".join(tables(study)) + "\n"
    study.path("tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
