"""fd-pretrain-disc: teach the identity discriminator on pairs of real faces."""

import fd_cli
import fd_training_cli as shared


def pretrain_disc(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = None,
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    epochs: shared.Epochs = None,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Pre-train the identity discriminator that fd-train starts from.

    It learns whether two faces show the same person, from pairs drawn with equal chance of one
    subject and of two, and reports its accuracy on people it has not seen (the test split). A log
    with one JSON line an epoch lies beside OUT (.jsonl). Give fd-train the same recipe,
    --set and --neutrals.
    """
    from facedis_core.checkpoint import write_discriminator
    from facedis_core.errors import Stopped
    from facedis_core.plans import PretrainingPlan, prepare_pretraining
    from facedis_core.pretraining import NEAR_CHANCE
    from facedis_core.runs import EpochLog, RunFiles
    from facedis_core.streams import open_output

    files = RunFiles.beside(output)
    files.check(force=force)

    plan = PretrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=[*(changes or []), *([f"pretrain_epochs={epochs}"] if epochs else [])],
        neutrals=neutrals,
        seed=seed,
        device=device,
    )
    trainer, history = prepare_pretraining(plan)
    log = EpochLog(files.log)
    try:
        with shared.stop_on_interrupt() as should_stop, shared.epoch_table() as table:
            metrics = trainer.train(
                should_stop, on_epoch=(log.append, table.epoch), on_step=table.step
            )
    except Stopped:
        log.discard()
        raise
    unseen = metrics["unseen_accuracy"]
    if unseen is None:
        fd_cli.warn("the test split has too few new people to tell how this does on unseen ones")
    else:
        fd_cli.say(f"{unseen:.1%} of pairs of unseen people judged rightly (chance: 50 %)")
        if unseen < NEAR_CHANCE:
            fd_cli.warn(
                "that is near chance; try more epochs or --set discriminator_batch_norm=true"
            )
    with open_output(output, force=force) as stream:
        write_discriminator(
            stream,
            trainer.discriminator,
            trainer.face_set.topology,
            metrics,
            [] if no_history else history,
        )


def main() -> None:
    """Entry point of fd-pretrain-disc."""
    fd_cli.run(pretrain_disc, numpy_threads=False)


if __name__ == "__main__":
    main()
