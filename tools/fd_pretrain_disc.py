"""fd-pretrain-disc: teach the identity discriminator on pairs of real faces."""

import fd_cli

from functools import partial

import fd_training_cli as shared


def pretrain_disc(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = None,
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    epochs: shared.Epochs = None,
    points: shared.Points = None,
    resume: shared.Resume = False,
    checkpoint_minutes: shared.CheckpointMinutes = 2.0,
    tensorboard: shared.TensorBoard = None,
    profile: shared.Profile = False,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Pre-train the identity discriminator that fd-train starts from.

    It learns whether two faces show the same person, from pairs drawn with equal chance of one
    subject and of two, and reports its accuracy on people it has not seen (the test split). A log
    with one JSON line an epoch lies beside OUT (.jsonl). Give fd-train the same recipe,
    --points, --set and --neutrals. Ctrl-C, --resume and torchrun are as in fd-train.
    """
    from facedis_core.plans import PretrainingPlan, prepare_pretraining

    plan = PretrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=shared.changes(changes, pretrain_epochs=epochs, points=points),
        neutrals=neutrals,
        seed=seed,
        checkpoint_minutes=checkpoint_minutes,
        with_history=not no_history,
    )
    run = shared.carry_out(
        partial(prepare_pretraining, plan),
        output,
        device=device,
        resume=resume,
        tensorboard=tensorboard,
        profile=profile,
        force=force,
    )
    if run is not None:
        _judge(run.metrics["unseen_accuracy"])


def _judge(unseen: float | None) -> None:
    from facedis_core.pretraining import NEAR_CHANCE

    if unseen is None:
        fd_cli.warn("the test split has too few new people to tell how this does on unseen ones")
        return
    fd_cli.say(f"{unseen:.1%} of pairs of unseen people judged rightly (chance: 50 %)")
    if unseen < NEAR_CHANCE:
        fd_cli.warn("that is near chance; try more epochs or --set discriminator_batch_norm=true")


def main() -> None:
    """Entry point of fd-pretrain-disc."""
    fd_cli.run(pretrain_disc, numpy_threads=False)


if __name__ == "__main__":
    main()
