"""fd-train: train a model that separates identity and expression."""

import fd_cli

from typing import Annotated, Literal

import typer

import fd_training_cli as shared


def train(
    face_set: shared.FaceSet,
    output: shared.Output,
    recipe: shared.Recipe = "linear",
    changes: shared.Set = None,
    neutrals: shared.Neutrals = False,
    discriminator: Annotated[
        str | None,
        typer.Option(
            metavar="DISC|none",
            show_default=False,
            help="Discriminator from fd-pretrain-disc; none = train without one.  [default: an "
            "untrained one if the recipe has a discriminator loss]",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", show_default=False, help="Model whose weights are the initial weights."
        ),
    ] = None,
    resume: shared.Resume = False,
    epochs: shared.Epochs = None,
    steps: shared.Steps = None,
    points: shared.Points = None,
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(
            "--precision",
            help="Precision of the search for the vertices that the max-pool selects; values and "
            "gradients stay fp32 (TF32 on a GPU).",
        ),
    ] = "fp32",
    data: shared.Data = "auto",
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Epochs between evaluations on the test split.  [default: 1, or as many as have "
            "100 steps]",
        ),
    ] = None,
    checkpoint_minutes: shared.CheckpointMinutes = 2.0,
    tensorboard: shared.TensorBoard = None,
    profile: shared.Profile = False,
    device: shared.Device = "auto",
    seed: fd_cli.Seed = 0,
    no_history: fd_cli.NoHistory = False,
    force: fd_cli.Force = False,
) -> None:
    """Train a model that separates identity and expression.

    Recipes (network, schedule and loss weights):

    \b
    linear       linear maps of principal components, in closed form, no
                 discriminator; takes seconds, needs tens of people with three
                 or more faces
    bilinear     linear, but with expressions that depend on the identity; smaller
                 errors of reconstruction from a hundred people or so on
    pointnet     the paper's PointNets and discriminator, weights tuned on the
                 faces of fd-prep ict
    pointnet-linear
                 the network of pointnet as a linear model, in closed form,
                 no discriminator; takes a minute
    coma, bu3dfe, facescape
                 pointnet with the paper's settings for these data sets
    flame-like   FLAME's linear model without joints, in closed form
    conv-mesh-ae CoMA: to itself, or with --neutrals from a face to the
                 neutral; takes hours
    kacem        after Kacem et al.: latents of faces to those of neutrals by a
                 GAN; takes hours
    di-mesh-encoder
                 after Zhang et al.: latents that a discriminator makes
                 independent; takes hours
    jiang        after Jiang et al.: a branch each for neutral and expression, and
                 their fusion; takes hours

    A .toml file changes the keys it names; base = "linear" (or a file) is what it begins with.

    Keys for --set, explained in docs/training.md:

    \b
    network     network, identity, expression (latent sizes), target, deformation, latent_relu,
                components, bilinear, points, scale, half_decoders, decoder_init,
                decoder_components, linear_start, encoder_offsets
    linear fit  pseudo_neutral, linear_fit, trust
    schedule    epochs, steps, minimum_steps, batch, minimum_batch, learning_rate,
                output_learning_rate, schedule, warmup, learning_rate_factor,
                learning_rate_every, kl_decay
    optimiser   optimizer, momentum, weight_decay, gradient_clip, log_variance_limit, weight_average
    loss weights
                reconstruction, kl_identity, kl_expression, discriminator,
                neutral, neutral_expression, neutral_latent, person, laplacian,
                swap, partner_latent, expression_norm, expression_power (an exponent)
    random poses
                pose_degrees, pose_mm
    discriminator
                discriminator_batch_norm, discriminator_learning_rate,
                discriminator_every, label_smoothing, instance_noise,
                pretrain_epochs, pretrain_steps, pretrain_minimum_steps,
                pretrain_batch, pretrain_learning_rate

    The log (OUT with the suffix .jsonl) has one JSON line per epoch, or where epochs are short per
    100 steps: losses, accuracies of the discriminator, and the metrics of fd-metrics on the test
    split. Ctrl-C finishes the current step and saves model and checkpoint (.state.safetensors);
    the same command with --resume continues, on a CPU to the same bytes as an uninterrupted run.
    On several GPUs or machines: torchrun -m fd_train; the recipe's batch is divided among the
    processes.

    Examples:
      fd-train set.safetensors --neutrals -o model.safetensors
      fd-train set.safetensors --recipe pointnet --discriminator disc.safetensors -o m.safetensors
      fd-train set.safetensors --set batch=8 --epochs 50 --points 1024 -o model.safetensors
    """  # noqa: D301 - click keeps the lines after \b as they are
    from facedis_core.train.plan import TrainingPlan

    plan = TrainingPlan(
        face_set=face_set,
        recipe=recipe,
        changes=shared.recipe_changes(changes, epochs=epochs, steps=steps, points=points),
        neutrals=neutrals,
        discriminator=discriminator,
        init=init,
        precision=precision,
        storage=data,
        seed=seed,
        evaluate_every=evaluate_every,
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
    if run is not None:
        fd_cli.say(f"model {run.id} written to {output}")


def main() -> None:
    """Entry point of fd-train."""
    fd_cli.run(train, numpy_threads=False)


if __name__ == "__main__":
    main()
