"""fd-train: train the auto-encoder, with or without neutrals, with or without discriminator."""

from typing import Annotated

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
    evaluate_every: Annotated[
        int, typer.Option(min=1, help="Epochs between two looks at the test faces.")
    ] = 1,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(min=0, metavar="MINUTES", help="What a run that is killed loses at most."),
    ] = 2.0,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Train a model that splits faces into identity and expression.

    Writes the model, and beside it a log with one JSON line an epoch (OUT with .jsonl for its
    suffix): every loss, the discriminator's accuracies, and the metrics on the test faces. Ctrl-C
    stops after the step and saves; the same command with --resume goes on, also after a kill, on
    the CPU to the same bytes as an unbroken run.
    """
    from facedis_core.plans import TrainingPlan, prepare_run
    from facedis_core.runs import Callbacks, RunFiles

    files = RunFiles.beside(output)
    files.check(force=force or resume)
    plan = TrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=[*(changes or []), *([f"epochs={epochs}"] if epochs else [])],
        neutrals=neutrals,
        discriminator=discriminator,
        init=init,
        seed=seed,
        device=device,
        evaluate_every=evaluate_every,
        checkpoint_minutes=checkpoint_minutes,
        with_history=not no_history,
    )
    run, notes = prepare_run(plan, files)
    if resume:
        run.resume()
    for note in notes:
        fd_cli.warn(note)
    with shared.stop_on_interrupt() as should_stop, shared.epoch_table() as table:
        model_id = run.train(Callbacks(should_stop, table.epoch, table.step))
    fd_cli.say(f"model {model_id} written to {output}")


def main() -> None:
    """Entry point of fd-train."""
    fd_cli.run(train, numpy_threads=False)


if __name__ == "__main__":
    main()
