"""Train the paper's network with and without neutrals and discriminator, as many epochs as fit.

    python docs/scripts/gpu_trainings.py OUT --faces SET

The cells are those of study.py. Every cell and seed is trained for 16 epochs, then all of
them anew for 32, 64, 128 and 280, until the time is over. The seeds are trained side by side, which
one GPU does in less time. The same command resumes where it was stopped. A JSON line with the
metrics follows every training. Without a face set the example faces are used.
"""

import argparse
import json
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from study import KINDS, Cell, Study

ROOT = Path(__file__).resolve().parent.parent.parent
CELLS = KINDS["pointnet"]


def face_set(options: argparse.Namespace, study: Study) -> str:
    """The face set, made where it is not given."""
    if options.faces is not None:
        return str(options.faces)
    if options.ict is None:
        examples = (str(ROOT / "weights" / "examples"), "--pattern", "{subject}_{expression}.ply")
        study.make("faces.safetensors", "fd-prep", "folder", *examples)
        return str(study.path("faces.safetensors"))
    source = options.ict
    if source.is_file():
        source = study.path("ict")
        if not source.exists():
            with tarfile.open(options.ict) as archive:
                archive.extractall(source, filter="data")
        source = next(source.rglob("generic_neutral_mesh.obj")).parent
    people = ("--subjects", "200", "--simplify", "9000")
    study.make("faces.safetensors", "fd-prep", "ict", str(source), *people)
    return str(study.path("faces.safetensors"))


def train(options: argparse.Namespace, study: Study, faces: str, seed: int, epochs: int) -> None:
    """Train every cell with one seed."""
    common = ["--recipe", "pointnet", "--seed", str(seed), "--device", options.device]
    common += ["--points", str(options.points)] if options.points else []
    cells: tuple[Cell, ...] = CELLS[-options.cells :]
    for cell in cells:
        discriminator = "none"
        if cell.discriminator:
            name = f"disc-{seed}.safetensors"
            # the recipe's own length, in all but the smallest run
            short = ["--epochs", "1"] if epochs == 1 else []
            study.make(name, "fd-pretrain-disc", faces, *common, *short, resume=True)
            discriminator = str(study.path(name))
        name = f"{cell.key}-{epochs}-{seed}"
        length = ["--epochs", str(epochs), "--evaluate-every", str(max(1, epochs // 2))]
        study.make(
            f"{name}.safetensors",
            *("fd-train", faces, *common, *length, "--checkpoint-minutes", "1"),
            *(
                "--discriminator",
                discriminator,
                *(["--neutrals"] if cell.condition == "labelled" else []),
            ),
            resume=True,
        )
        *_, last = study.path(f"{name}.jsonl").read_text().splitlines()
        metrics = json.loads(last)["test"]
        row = {"cell": f"{cell.title}, {cell.condition}", "epochs": epochs, "seed": seed}
        row["seconds"] = study.path(f"{name}.safetensors.made").read_text().splitlines()[0]
        for key in ("e_rec", "e_dis", "avd_neu"):
            if key in metrics:
                row[key] = metrics[key]["mean"]
        print(json.dumps(row), flush=True)


def main() -> None:
    """Parse the options and train until all is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=Path, help="face set")
    parser.add_argument("--ict", type=Path, help="FaceXModel of ICT-FaceKit, a folder or tar file")
    parser.add_argument("--epochs", type=int, nargs="+", default=[16, 32, 64, 128, 280])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--points", type=int, help="vertices that PointNets see")
    parser.add_argument("--cells", type=int, default=len(CELLS), help="the last of the four cells")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds)
    study = Study(Path(), options.out, 200, seeds, options.points, device=options.device)
    faces = face_set(options, study)
    for epochs in options.epochs:
        with ThreadPoolExecutor(options.seeds) as pool:
            tasks = [pool.submit(train, options, study, faces, seed, epochs) for seed in seeds]
        for task in tasks:
            task.result()


if __name__ == "__main__":
    sys.exit(main())
