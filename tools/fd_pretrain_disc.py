"""fd-pretrain-disc: pre-train the identity discriminator on pairs of real faces."""

import fd_cli

import fd_training_cli as shared


def pretrain_disc(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = "pointnet",
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    epochs: shared.Epochs = None,
    steps: shared.Steps = None,
    points: shared.Points = None,
    data: shared.Data = "auto",
    resume: shared.Resume = False,
    checkpoint_minutes: shared.CheckpointMinutes = 2.0,
    tensorboard: shared.TensorBoard = None,
    profile: shared.Profile = False,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Pre-train the identity discriminator for fd-train --discriminator.

    The discriminator learns whether two faces show the same person, from pairs drawn with equal
    chance of one subject and of two; its accuracy on subjects of the test split is printed. Use
    the same --recipe, --set, --points and --neutrals as for fd-train: they define its layers and
    its input. Recipes and their keys are described by fd-train --help; linear has no
    discriminator.

    The log (OUT with the suffix .jsonl) has one JSON line per epoch, or where epochs are short per
    100 steps. Ctrl-C, --resume and torchrun
    work as in fd-train.

    Examples:
      fd-pretrain-disc set.safetensors --recipe pointnet -o disc.safetensors
      fd-train set.safetensors --recipe pointnet --discriminator disc.safetensors -o m.safetensors
    """
    from facedis_core.train.discriminator_trainer import NEAR_CHANCE
    from facedis_core.train.plan import PretrainingPlan

    plan = PretrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=shared.recipe_changes(
            changes, epochs=epochs, steps=steps, points=points, prefix="pretrain_"
        ),
        neutrals=neutrals,
        storage=data,
        seed=seed,
        checkpoint_minutes=checkpoint_minutes,
        with_history=not no_history,
    )
    run = shared.train(
        plan,
        output,
        device=device,
        resume=resume,
        tensorboard=tensorboard,
        profile=profile,
        force=force,
    )
    if run is None:
        return
    accuracy = run.metrics["unseen_accuracy"]
    if accuracy is None:
        fd_cli.warn(
            "the test split has too few subjects without training faces to measure accuracy"
        )
        return
    fd_cli.say(f"accuracy on pairs of unseen people: {accuracy:.1%} (chance: 50 %)")
    if accuracy < NEAR_CHANCE:
        fd_cli.warn("that is near chance; try more epochs or --set discriminator_batch_norm=true")


def main() -> None:
    """Entry point of fd-pretrain-disc."""
    fd_cli.run(pretrain_disc, numpy_threads=False)


if __name__ == "__main__":
    main()
