"""fd-pretrain-disc: teach the identity discriminator on pairs of real faces."""

from typing import TYPE_CHECKING

import fd_cli
import fd_training_cli as shared

if TYPE_CHECKING:
    from facedis_core.pretraining import PreTrainer
    from facedis_core.runs import EpochLog


def pretrain_disc(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = None,
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    epochs: shared.Epochs = None,
    points: shared.Points = None,
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
    from facedis_core import world
    from facedis_core.build import choose_device
    from facedis_core.checkpoint import write_discriminator
    from facedis_core.plans import PretrainingPlan, prepare_pretraining
    from facedis_core.runs import EpochLog, RunFiles
    from facedis_core.streams import open_output

    files = RunFiles.beside(output)
    chosen = choose_device(device)
    plan = PretrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=shared.changes(changes, pretrain_epochs=epochs, points=points),
        neutrals=neutrals,
        seed=seed,
    )
    with world.joined(chosen):
        force = force or world.restarted()
        if world.leads():
            files.check(force=force)
        trainer, history = prepare_pretraining(plan, chosen)
        log = EpochLog(files.log if world.leads() else None)
        metrics = _train(trainer, log)
        if not world.leads():
            return
    _judge(metrics["unseen_accuracy"])
    with open_output(output, force=force) as stream:
        write_discriminator(
            stream,
            trainer.discriminator,
            trainer.face_set.topology,
            metrics,
            [] if no_history else history,
        )


def _train(trainer: "PreTrainer", log: "EpochLog") -> dict[str, float | None]:
    from facedis_core import world
    from facedis_core.errors import Stopped

    try:
        with shared.stop_on_interrupt() as asked, shared.epoch_table() as table:
            return trainer.train(
                lambda: world.any_of(asked(), trainer.device),
                on_epoch=(log.append, table.epoch),
                on_step=table.step,
            )
    except Stopped:
        log.discard()
        raise


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
