"""fd-train: train the auto-encoder, with or without neutrals, with or without discriminator."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import fd_cli
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
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
    checkpoint_minutes: Annotated[
        float,
        typer.Option(min=0, metavar="MINUTES", help="What a run that is killed loses at most."),
    ] = 2.0,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Also log scalars for TensorBoard."),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Tell where the time and memory of steps 3 to 7 go."),
    ] = False,
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
    from facedis_core import world
    from facedis_core.build import choose_device
    from facedis_core.plans import TrainingPlan, prepare_run
    from facedis_core.runs import Callbacks, RunFiles

    files = RunFiles.beside(output)
    chosen = choose_device(device)
    with world.joined(chosen):
        again = world.any_of(world.restarted(), chosen)
        if world.leads():
            files.check(force=force or resume or again)
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
        run, notes = prepare_run(plan, files, chosen)
        if (resume or again) and run.resume(required=not again):
            epoch = run.trainer.epoch
            shared.say(f"going on in epoch {epoch.number + 1} after step {epoch.step}")
        for note in notes:
            shared.warn(note)
        with (
            shared.stop_on_interrupt() as should_stop,
            shared.epoch_table() as table,
            shared.scalars(tensorboard, run.trainer.epoch.number) as scalars,
        ):
            if profile:
                run.trainer.profile.tell = table.profile
            model_id = run.train(Callbacks(should_stop, [table.epoch, scalars], table.step))
        if profile and not run.trainer.profile.done:
            shared.warn("the run ended before its 7th step, so there is no profile")
        shared.say(f"model {model_id} written to {output}")


def main() -> None:
    """Entry point of fd-train."""
    fd_cli.run(train, numpy_threads=False)


if __name__ == "__main__":
    main()
