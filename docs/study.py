"""The tables of docs/benchmark.md, made by the commands: python docs/study.py FaceXModel/.

FaceXModel is the folder of ICT-FaceKit. What is finished is kept, so the same command goes on where
it was stopped, and a training within an epoch. Everything is in OUT: sets, models with their logs,
reports of fd-metrics and fd-recognize, and tables.md.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

VARIATIONS = ("strong", "combined", "moved", "noisy")
PAPERS_EPOCHS, PAPERS_STEP = 280, 50  # epochs of the ict recipe, and between two learning rates
CONVERGED = 0.01  # change of E_rec over the last tenth of a training


@dataclass(frozen=True)
class Cell:
    """One way of training, once a seed.

    Attributes:
        key: its name in files.
        title: its row of the tables.
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
        """The set it is trained on."""
        return "quarter" if self.quarter else "whole"


RANDOM = ("decoder_init=default",)
WHOLE_POINTNET = (
    Cell("pointnet-none-nodisc-zero", "PointNet", "ict"),
    Cell("pointnet-none-disc-zero", "PointNet, discriminator", "ict", discriminator=True),
    Cell("pointnet-none-nodisc-default", "PointNet, random start", "ict", changes=RANDOM),
    Cell(
        "pointnet-none-disc-default",
        "PointNet, random start, discriminator",
        "ict",
        discriminator=True,
        changes=RANDOM,
    ),
    Cell("pointnet-neutrals-nodisc-zero", "PointNet, neutrals", "ict", neutrals=True),
    Cell(
        "pointnet-neutrals-disc-zero",
        "PointNet, neutrals, discriminator",
        "ict",
        neutrals=True,
        discriminator=True,
    ),
)
WHOLE_REGISTERED = (
    Cell("registered-none", "registered", "registered"),
    Cell("registered-neutrals", "registered, neutrals", "registered", neutrals=True),
    Cell(
        "registered-neutrals-96",
        "registered, neutrals, 96 + 32 latents",
        "registered",
        neutrals=True,
        changes=("identity=96", "expression=32"),
    ),
)


def with_quarters(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells, and those with all that the method has on a quarter of the people as well."""
    whole = [cell for cell in cells if cell.discriminator or cell.recipe == "registered"]
    quarters = [
        replace(cell, key=f"{cell.key}-quarter", quarter=True) for cell in whole if not cell.changes
    ]
    return (*cells, *quarters)


KINDS = {"registered": with_quarters(WHOLE_REGISTERED), "pointnet": with_quarters(WHOLE_POINTNET)}
BASELINES = {
    "mean_face": "mean face",
    "pca": "PCA",
    "ridge_identity_mean": "ridge to the person's mean face",
    "ridge_identity_mean_2x": "the same, twice the coefficients",
    "ridge_neutral": "ridge to the neutral (neutrals)",
    "ridge_neutral_2x": "the same, twice the coefficients",
}
SHORT = {"E_rec": ("e_rec", "mean"), "E_dis": ("e_dis", "mean"), "AVD_neu": ("avd_neu", "mean")}
COLUMNS = {
    **SHORT,
    "E_dis (Jiang)": ("e_dis_jiang", "mean"),
    "between people": ("between_subject", "mean"),
    "rank-1 (vertices)": ("rank1_vertex_accuracy",),
}
RECOGNITION = {
    "rank-1": ("model", "rank1_cosine_accuracy"),
    "rank-5": ("model", "rank5_cosine_accuracy"),
    "AUC": ("model", "auc_cosine"),
    "EER": ("model", "eer_cosine"),
}
LATENTS = {
    "expression from z_id": ("expression_from_identity_accuracy",),
    "from z_exp": ("expression_from_expression_accuracy",),
    "chance": ("expression_chance",),
}
OTHERWISE = {
    "quarter": "Trained on a quarter of the people",
    "strong": "Expressions 1.5 times as strong",
    "combined": "Two expressions at once",
    "moved": "Faces moved by 1 mm and 2 degrees",
    "noisy": "0.5 mm of noise",
}


@dataclass(frozen=True)
class Study:
    """What is asked for, and the folder where all of it goes."""

    source: Path
    out: Path
    subjects: int
    seeds: Sequence[int]
    points: int | None
    passes: int | None
    registered_passes: int | None
    device: str

    def path(self, name: str) -> Path:
        """A file of the study."""
        return self.out / name

    def make(self, output: str, *command: str, resume: bool = False) -> None:
        """Run a command that writes `output`, unless it has done so before; note the seconds."""
        target, done = self.path(output), self.path(f"{output}.seconds")
        if done.exists():
            return
        going_on = resume and target.with_suffix(".state.safetensors").exists()
        words = [*command, "-o", str(target), *(["--resume"] if going_on else ["--force"])]
        print("$", " ".join(words), flush=True)
        start = time.monotonic()
        module = command[0].replace("-", "_")
        status = subprocess.run([sys.executable, "-m", module, *words[1:]]).returncode
        if status:
            sys.exit(status)
        # of a training that went on, what it took since: it says so
        done.write_text(f"{time.monotonic() - start:.0f}{' and more' if going_on else ''}\n")

    def prepare(self) -> None:
        """The benchmark, a quarter of its training people, and the test people's variations."""
        base = ("fd-prep", "ict", str(self.source), "--subjects", str(self.subjects))
        self.make("whole.safetensors", *base)
        counts = subprocess.run(
            [sys.executable, "-m", "fd_prep", *base[1:], "--dry-run"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = [line.split("\t") for line in counts.splitlines()]
        training = [row[1] for row in rows if row[0] == "subject" and int(row[3])]
        # a set has at least one person to train on
        for name, kept in (("quarter", training[::4]), ("one", training[:1])):
            left_out = [person for person in training if person not in kept]
            self.path(f"not_{name}.txt").write_text("".join(f"{one}\n" for one in left_out))
        quarter = ("--exclude", str(self.path("not_quarter.txt")))
        self.make("quarter.safetensors", *base, *quarter)
        for name in VARIATIONS:
            options = ("--variation", name, "--exclude", str(self.path("not_one.txt")))
            self.make(f"{name}.safetensors", *base, *options)

    def train(self, cells: Iterable[Cell]) -> None:
        """Every cell once a seed; PointNets by one pre-trained discriminator a seed."""
        for seed in self.seeds:
            for cell in cells:
                trained_on = str(self.path(f"{cell.trained_on}.safetensors"))
                common = ["--recipe", cell.recipe, "--seed", str(seed), "--device", self.device]
                if cell.recipe == "ict" and self.points:
                    common += ["--points", str(self.points)]
                discriminator = "none"
                if cell.discriminator:
                    name = f"disc-{cell.trained_on}-{seed}.safetensors"
                    discriminator = str(self.path(name))
                    self.make(name, "fd-pretrain-disc", trained_on, *common, resume=True)
                self.make(
                    f"{cell.key}-{seed}.safetensors",
                    *("fd-train", trained_on, *common, *self._length(cell)),
                    *("--discriminator", discriminator),
                    *(["--neutrals"] if cell.neutrals else []),
                    *(f"--set={change}" for change in cell.changes),
                    resume=True,
                )

    def _length(self, cell: Cell) -> list[str]:
        """Options for fewer passes than the recipe's; the learning rate falls as much in them."""
        passes = self.passes if cell.recipe == "ict" else self.registered_passes
        if passes is None:
            return ["--evaluate-every", "10"]
        epochs, step = (PAPERS_EPOCHS, PAPERS_STEP) if cell.recipe == "ict" else (60, 10)
        return [
            *("--epochs", str(passes)),
            *("--set", f"learning_rate_epochs={max(1, round(step * passes / epochs))}"),
            *("--evaluate-every", str(max(1, passes // 10))),
        ]

    def measure(self, cells: Iterable[Cell]) -> None:
        """Every model on the test people, and on their variations."""
        for cell, seed in ((cell, seed) for cell in cells for seed in self.seeds):
            model = f"{cell.key}-{seed}"
            sets = (cell.trained_on,) if cell.quarter else ("whole", *VARIATIONS)
            for name in sets:
                command = ["fd-metrics", str(self.path(f"{name}.safetensors")), "--json"]
                command += ["--model", str(self.path(f"{model}.safetensors"))]
                if not self.path(f"baselines_on_{name}.json").exists():
                    fitted_on = self.path(f"{cell.trained_on}.safetensors")
                    self.make(
                        f"baselines_on_{name}.json", *command, "--baselines-from", str(fitted_on)
                    )
                self.make(f"{model}_on_{name}.json", *command)
            recognise = ["fd-recognize", str(self.path(f"{sets[0]}.safetensors")), "--json"]
            recognise += ["--model", str(self.path(f"{model}.safetensors"))]
            self.make(f"{model}_recognized.json", *recognise)

    def report(self, name: str) -> dict[str, Any]:
        """A report that has been written."""
        return json.loads(self.path(name).read_text())

    def reports(self, cell: Cell, suffix: str) -> list[dict[str, Any]]:
        """Reports of a cell, one a seed that is there, of this run or an earlier one."""
        paths = sorted(self.out.glob(f"{cell.key}-[0-9]*_{suffix}.json"))
        return [self.report(path.name) for path in paths]

    def metrics(self, cell: Cell, name: str) -> list[dict[str, Any]]:
        """Metrics of a cell on a set, one a seed."""
        return [report["model"] for report in self.reports(cell, f"on_{name}")]

    def minutes(self, cell: Cell) -> str:
        """How long a training took, without its discriminator's."""
        found = self.out.glob(f"{cell.key}-[0-9]*.safetensors.seconds")
        texts = [path.read_text().split() for path in found]
        more = "+" if any(len(text) > 1 for text in texts) else ""
        return f"{fmean(float(text[0]) for text in texts) / 60:.1f}{more}" if texts else ""

    def last_change(self, cell: Cell) -> str:
        """By how much the last tenth of its training changed E_rec, of the first seed."""
        log = min(self.out.glob(f"{cell.key}-[0-9]*.jsonl"))
        records = [json.loads(line) for line in log.read_text().splitlines()]
        curve = {r["epoch"]: r["test"]["e_rec"]["mean"] for r in records if "test" in r}
        end = max(curve)
        before = max((epoch for epoch in curve if epoch <= 0.9 * end), default=end)
        if before == end:
            return "?"
        # evaluated less often than every tenth: the part of the change that a tenth has
        change = (curve[end] / curve[before] - 1) * min(1.0, 0.1 * end / (end - before))
        return f"{change:+.1%}" + ("" if abs(change) < CONVERGED else ", not converged")


def value(report: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """A number of a report; None where it does not have it."""
    found: Any = report
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def numbers(
    reports: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[str]]
) -> list[str]:
    """A cell a column: the mean of some seeds, and their standard deviation."""
    cells = []
    for path in columns.values():
        values = [found for report in reports if (found := value(report, path)) is not None]
        spread = f" ± {pstdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{fmean(values):.3f}{spread}" if values else "")
    return cells


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table."""
    for row in (heading, ["---"] * len(heading), *rows):
        yield f"| {' | '.join(row)} |"


def tables(study: Study) -> Iterator[str]:
    """All tables, as Markdown, of everything that has been measured."""
    cells = [cell for kind in KINDS.values() for cell in kind]
    whole = [cell for cell in cells if study.metrics(cell, "whole")]
    yield "## The test people\n"
    linear = study.report("baselines_on_whole.json")["baselines"]
    rows = [
        [title, *numbers([linear[key]], COLUMNS), "", "", ""] for key, title in BASELINES.items()
    ]
    for cell in whole:
        found = study.metrics(cell, "whole")
        training = [str(len(found)), study.minutes(cell), study.last_change(cell)]
        rows.append([cell.title, *numbers(found, COLUMNS), *training])
    yield from markdown(["mm", *COLUMNS, "seeds", "minutes", "E_rec, last tenth"], rows)
    yield "\n## Who it is, and what the latents tell\n"
    rows = [
        [
            cell.title,
            *numbers(study.reports(cell, "recognized"), RECOGNITION),
            *numbers(study.metrics(cell, "whole"), LATENTS),
        ]
        for cell in whole
    ]
    yield from markdown(["", *RECOGNITION, *LATENTS], rows)
    for name, heading in OTHERWISE.items():
        if not study.path(f"baselines_on_{name}.json").exists():
            continue
        yield f"\n## {heading}\n"
        linear = study.report(f"baselines_on_{name}.json")["baselines"]
        rows = [[title, *numbers([linear[key]], SHORT)] for key, title in BASELINES.items()]
        rows += [
            [cell.title, *numbers(found, SHORT)]
            for cell in cells
            if (found := study.metrics(cell, name))
        ]
        yield from markdown(["mm", *SHORT], rows)


def main() -> None:
    """Parse, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, help="the folder FaceXModel of ICT-FaceKit")
    parser.add_argument("-o", "--out", type=Path, default=Path("study"))
    parser.add_argument("--only", choices=list(KINDS), help="one kind of network")
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--points", type=int, help="of PointNets, for a CPU")
    parser.add_argument("--passes", type=int, help="of PointNets, fewer for a CPU")
    parser.add_argument("--registered-passes", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="minutes on a CPU, to see it work")
    asked = parser.parse_args()
    if asked.quick:
        asked.subjects, asked.seeds, asked.points, asked.passes = 20, 1, 128, 2
        asked.registered_passes = 10
    cells = [cell for kind in KINDS if asked.only in (None, kind) for cell in KINDS[kind]]
    study = Study(
        asked.source,
        asked.out,
        asked.subjects,
        range(asked.seeds),
        asked.points,
        asked.passes,
        asked.registered_passes,
        asked.device,
    )
    study.out.mkdir(parents=True, exist_ok=True)
    study.prepare()
    study.train(cells)
    study.measure(cells)
    text = "\n".join(tables(study)) + "\n"
    study.path("tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
