"""Trainers for tests, as `fd-train` sets them up, and trainings that are interrupted."""

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facedis_core.data.face_set import FaceSet
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.objective import KnownNeutrals, LabelledFaces, Objective
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.recipe import Recipe, load_recipe
from facedis_core.train.setup import (
    build_auto_encoder,
    build_discriminator,
    initial_data,
    training_frame,
)
from facedis_core.train.training import train


def trainer(
    faces: FaceSet,
    recipe: Recipe,
    *,
    neutrals: bool = False,
    adversary: bool = True,
    seed: int = 0,
) -> AdversarialTrainer:
    """Fresh networks on the training faces, on the CPU; `adversary` = with a discriminator."""
    frame = training_frame(faces, recipe)
    return AdversarialTrainer(
        build_auto_encoder(recipe, frame, faces, seed),
        build_discriminator(recipe, frame, seed) if adversary else None,
        faces,
        recipe,
        neutrals=neutrals,
        seed=seed,
        device=torch.device("cpu"),
    )


def objective_of(faces: FaceSet, recipe: str, **changes: object) -> Objective:
    """The losses of a fresh network, `network` of them, trained with the neutrals of the set."""
    changed = replace(load_recipe(recipe, neutrals=True), **changes)
    frame = training_frame(faces, changed)
    network = build_auto_encoder(changed, frame, faces, 0, neutrals=True)
    objective = network.objective(
        changed.as_dict(), initial_data(changed, frame, faces, neutrals=True)
    )
    assert objective is not None
    return objective


def four_faces(
    faces: FaceSet,
    network: AutoEncoder,
    progress: float,
    *,
    person: Sequence[int] = (0, 0, 1, 1),
    expression: Sequence[int] = (0, 0, 1, 1),
) -> LabelledFaces:
    """The first faces of a set in a step; of the first and the last the neutral is known.

    They are the neutrals of the first two people, and count half.
    """
    shown = network.normalise(torch.tensor(faces.vertices[:4]))
    neutrals = network.normalise(torch.tensor(faces.neutrals[:2]))
    known = KnownNeutrals(torch.tensor([0, 3]), neutrals, 0.5)
    return LabelledFaces(shown, torch.tensor(person), torch.tensor(expression), known, progress)


def interrupted(program: Path, line: str, folder: Path) -> str:
    """Start a training in a folder and press Ctrl-C once its log is there; its last words."""
    log = folder / line.split("-o ")[1].split()[0].replace(".safetensors", ".jsonl")
    command = [str(program), *line.split()]
    run = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not log.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=100)
    assert run.returncode == 130, err
    return err.splitlines()[-1]


def trained_in_parts(
    folder: Path, faces: FaceSet, recipe: str, changes: dict[str, object], *, neutrals: bool
) -> Path:
    """A model, after checking that a training that stops half way and resumes gives its bytes."""
    whole, parts = folder / "whole.safetensors", folder / "parts.safetensors"
    records: list[int] = []
    options = {"changes": changes, "neutrals": neutrals, "evaluate_every": 99}
    train(
        faces,
        recipe,
        output=whole,
        on_record=lambda record: records.append(record["step"]),
        **options,
    )

    class Stop(Exception):
        pass

    def stop(record):
        if record["step"] >= records[-1] / 2:
            raise Stop

    options |= {"output": parts, "checkpoint_minutes": 0}
    with pytest.raises(Stop):
        train(faces, recipe, on_record=stop, **options)
    train(faces, recipe, resume=True, **options)
    assert whole.read_bytes() == parts.read_bytes()
    return whole
