"""fd-train: train the auto-encoder, with or without neutrals, with or without discriminator."""

import fd_cli

from functools import partial
from typing import Annotated, Literal

import typer

import fd_training_cli as shared


def train(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = None,
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    discriminator: Annotated[
        str | None,
        typer.Option(
            metavar="DISC|none",
            show_default=False,
            help="Pre-trained discriminator, or none to do without.  [default: an untrained one]",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="MODEL", show_default=False, help="Start from this model's weights."),
    ] = None,
    resume: shared.Resume = False,
    epochs: shared.Epochs = None,
    points: shared.Points = None,
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(
            "--precision",
            help="Of the products that choose the vertices; all others are fp32 (on a GPU TF32).",
        ),
    ] = "fp32",
    data: Annotated[
        Literal["auto", "resident", "half", "streamed"],
        typer.Option(
            "--data",
            help="Faces in the device's memory, there as float16 offsets, or read batch by batch; "
            "auto = resident on a GPU if they fit, else streamed.",
        ),
    ] = "auto",
    evaluate_every: Annotated[
        int, typer.Option(min=1, help="Epochs between two looks at the test faces.")
    ] = 1,
    checkpoint_minutes: shared.CheckpointMinutes = 2.0,
    tensorboard: shared.TensorBoard = None,
    profile: shared.Profile = False,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Train a model that splits faces into identity and expression.

    Writes the model, and beside it a log with one JSON line an epoch (OUT with .jsonl for its
    suffix): every loss, the discriminator's accuracies, and the metrics on the test faces. Ctrl-C
    stops after the step and saves; the same command with --resume goes on, also after a kill, on
    the CPU to the same bytes as an unbroken run. For several GPUs or machines start it with
    torchrun -m fd_train; the batch is shared among the processes.
    """
    from facedis_core.plans import TrainingPlan, prepare_run

    plan = TrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=shared.changes(changes, epochs=epochs, points=points),
        neutrals=neutrals,
        discriminator=discriminator,
        init=init,
        precision=precision,
        residence=data,
        seed=seed,
        evaluate_every=evaluate_every,
        checkpoint_minutes=checkpoint_minutes,
        with_history=not no_history,
    )
    run = shared.carry_out(
        partial(prepare_run, plan),
        output,
        device=device,
        resume=resume,
        tensorboard=tensorboard,
        profile=profile,
        force=force,
    )
    if run is not None:
        fd_cli.say(f"model {run.id} written to {output}")


def main() -> None:
    """Entry point of fd-train."""
    fd_cli.run(train, numpy_threads=False)


if __name__ == "__main__":
    main()
