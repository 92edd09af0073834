"""One step of joint training against the same step written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor
from torch.nn import functional
from trainers import trainer

from facedis_core.geometry.alignment import rotation_about
from facedis_core.nn.max_pool.layer import set_pooling
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.batches import Batch
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import NOISE, build_auto_encoder, step_seed
from facedis_core.train.setup import training_frame as frame_of

FACES = synthetic.face_set()
FACES.neutrals[1] = np.nan  # one subject without

# Every weight counts, latents differ in size, and nothing starts at zero.
FULL = Recipe(
    identity=5,
    expression=3,
    batch=8,
    decoder_init="default",
    learning_rate=1e-3,
    weight_decay=0.1,
    gradient_clip=0.05,
    log_variance_limit=0.02,
    reconstruction=3.0,
    kl_identity=0.2,
    kl_expression=0.3,
    kl_decay=50.0,
    neutral=0.5,
    neutral_expression=0.7,
    neutral_latent=0.4,
    discriminator=0.6,
    laplacian=0.8,
    discriminator_learning_rate=2e-3,
    label_smoothing=0.1,
    instance_noise=0.01,
)
EXCHANGED = replace(FULL, swap=0.9, partner_latent=0.8, expression_norm=0.35, expression_power=0.5)
POSED = replace(EXCHANGED, pose_degrees=3.0, pose_mm=2.0)
# Faces of the subjects 0, 1 (no neutral) and 2, and other faces of the same people.
POSITIONS = np.array([0, 1, 2, 4, 5, 8, 9, 10])
PARTNERS = np.array([1, 2, 3, 5, 6, 9, 10, 11])


def dense_laplacian() -> Tensor:
    count = FACES.vertices.shape[1]
    linked = torch.zeros(count, count)
    for k in range(3):
        start, end = FACES.triangles[:, k], FACES.triangles[:, (k + 1) % 3]
        linked[start, end] = linked[end, start] = 1.0
    return torch.eye(count) - linked / linked.sum(dim=1, keepdim=True)


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=1).mean()


def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + (log_variance / 2).exp() * torch.randn(mean.shape)


def turned_and_moved(faces: Tensor, degrees: float, distance: float) -> Tensor:
    draws = torch.randn(len(faces), 7)
    moved = []
    for face, draw in zip(faces, draws, strict=True):
        axis = (draw[1:4] / draw[1:4].norm()).numpy()
        turn = torch.tensor(rotation_about(axis, np.radians(degrees * draw[0].item())))
        centre = face.mean(dim=0)
        moved.append((face - centre) @ turn.float().T + centre + distance * draw[4:])
    return torch.stack(moved)


def step_by_hand(subject: AdversarialTrainer) -> dict[str, Tensor]:
    """The terms of METHOD's losses; moves both networks of `subject` by one Adam step."""
    recipe, net, disc = subject.recipe, subject.network, subject.discriminator
    limit, smooth = recipe.log_variance_limit, recipe.label_smoothing
    mean_face = (net.mean_face - net.origin) / net.scale

    def normalised(vertices: np.ndarray) -> Tensor:
        return (torch.tensor(vertices) - net.origin) / net.scale

    def noisy(x: Tensor) -> Tensor:
        return x + recipe.instance_noise * torch.randn(x.shape)

    rows = FACES.rows(0)
    x, other = (normalised(FACES.vertices[rows[p]]) for p in (POSITIONS, PARTNERS))
    resting = x
    if recipe.pose_degrees:
        distance = recipe.pose_mm / float(net.scale)
        x = turned_and_moved(x, recipe.pose_degrees, distance)
        other = turned_and_moved(other, recipe.pose_degrees, distance)
    net.train()
    (mu_id, lv_id), (mu_exp, lv_exp) = net.encoder(x)
    lv_id, lv_exp = lv_id.clamp(-limit, limit), lv_exp.clamp(-limit, limit)
    z_id = sample(mu_id, lv_id)
    x_id = mean_face + net.identity_decoder(z_id)
    x_exp = net.expression_decoder(sample(mu_exp, lv_exp))
    terms = {}
    statistics = {k: v.clone() for k, v in net.encoder.state_dict().items() if "running" in k}
    (mu_again, lv_again), _ = net.encoder(x_id)
    z_again = sample(mu_again, lv_again.clamp(-limit, limit))
    net.encoder.load_state_dict(statistics, strict=False)  # of the real faces alone
    if recipe.swap:
        (mu_other, lv_other), _ = net.encoder(other)
        other_id = mean_face + net.identity_decoder(sample(mu_other, lv_other.clamp(-limit, limit)))
        terms["swap"] = ((other_id + x_exp - x) ** 2).mean()
        norms = (mu_id**2).sum(dim=1) + (mu_other**2).sum(dim=1)
        terms["partner_latent"] = (((mu_id - mu_other) ** 2).sum(dim=1) / norms).mean()
        lengths = torch.sqrt(((x_exp - (x - resting)) ** 2).sum(dim=2) + 1e-8)
        terms["expression_norm"] = torch.sqrt(lengths).mean()
    if disc is not None:
        disc.train()
        fake = x_id.detach()
        if recipe.pose_degrees:
            fake = turned_and_moved(fake, recipe.pose_degrees, distance)
        first = noisy(x.repeat_interleave(2, dim=0))
        second = noisy(torch.stack([other, fake], dim=1).flatten(0, 1))
        logits = disc(first, second)
        own = functional.cross_entropy(logits, torch.tensor([1, 0] * 8), label_smoothing=smooth)
        own.backward()
        torch.optim.Adam(disc.parameters(), recipe.discriminator_learning_rate).step()
        terms["discriminator_own"] = own
    terms["reconstruction"] = ((x_id + x_exp - x) ** 2).mean()
    terms["kl_identity"], terms["kl_expression"] = kl(mu_id, lv_id), kl(mu_exp, lv_exp)
    if subject.neutrals:
        known = [i for i, p in enumerate(POSITIONS) if p // 4 != 1]
        truth = normalised(FACES.neutrals[POSITIONS[known] // 4])
        terms["neutral"] = ((x_id[known] - truth) ** 2).mean()
        terms["neutral_expression"] = ((x_exp[known] - (x[known] - truth)) ** 2).mean()
    terms["neutral_latent"] = (z_id - z_again).abs().mean()
    terms["laplacian"] = ((dense_laplacian() @ x_id) ** 2).sum(dim=(1, 2)).mean() / x.shape[1]
    if disc is not None:
        disc.eval()
        fake = x_id
        if recipe.pose_degrees:
            fake = turned_and_moved(fake, recipe.pose_degrees, distance)
        logits = disc(noisy(x), noisy(fake))
        terms["discriminator"] = -torch.log_softmax(logits, dim=1)[:, 1].mean()
    weights = {
        "reconstruction": 3.0,
        "kl_identity": 0.2,
        "kl_expression": 0.3,
        "neutral": 1.5,
        "neutral_expression": 2.1,
        "neutral_latent": 0.4,
        "discriminator": 0.6,
        "laplacian": 0.8,
        "swap": 2.7,
        "partner_latent": 0.8,
        "expression_norm": 0.35,
    }
    terms["total"] = sum(weights[k] * v for k, v in terms.items() if k in weights)
    net.zero_grad()
    terms["total"].backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in net.parameters() if p.grad is not None))
    terms["gradient_norm"] = norm
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad *= min(1.0, recipe.gradient_clip / float(norm))
    torch.optim.Adam(
        net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    ).step()
    return terms


# Batch norm takes away what a bias before it adds: its gradient is rounding, and poses round.
@pytest.mark.parametrize(
    ("full", "neutrals", "adversary", "batch_norm"),
    [
        (FULL, False, False, False),
        (FULL, True, True, False),
        (FULL, False, True, True),
        (EXCHANGED, True, False, False),
        (EXCHANGED, False, True, True),
        (POSED, True, True, False),
    ],
)
def test_terms_weights_and_statistics_are_those_of_the_step_by_hand(
    full: Recipe, neutrals: bool, adversary: bool, batch_norm: bool
) -> None:
    recipe = replace(full, discriminator_batch_norm=batch_norm)
    ours, hand = (trainer(FACES, recipe, neutrals=neutrals, adversary=adversary) for _ in range(2))
    seed = step_seed(0, NOISE, 0, 0)
    torch.manual_seed(seed)
    ours.network.train()
    faces, partners = (ours.batches.faces.batch(p) for p in (POSITIONS, PARTNERS))
    known = ours.batches._neutrals(POSITIONS) if neutrals else None
    paired = adversary or recipe.swap
    record = ours._train_step(
        Batch(faces, partners if paired else None, known, train_discriminator=adversary)
    )
    torch.manual_seed(seed)
    terms = step_by_hand(hand)
    for name, value in terms.items():
        assert record[name] == pytest.approx(value.item(), rel=1e-4), name
    assert record["gradient_clipped"] == 1.0
    assert 0.5 < record["log_variance_clamped"] <= 1.0
    for name, network in ours.networks.items():
        other = hand.networks[name].state_dict()
        for key, value in network.state_dict().items():
            if "num_batches" in key:
                continue
            # Adam moves by the sign of tiny gradients, so single weights may differ by a step
            off = (value - other[key]).abs() > 1e-5 + 1e-4 * other[key].abs()
            assert off.float().mean() < 2e-3, f"{name} {key}"


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_reference_pooling_takes_the_same_step(batch_norm: bool) -> None:
    """In double precision: in single, rounding would hide an error."""
    recipe = replace(FULL, discriminator_batch_norm=batch_norm)
    fast, reference = (trainer(FACES, recipe) for _ in range(2))
    records = []
    for subject, implementation in ((fast, "fast"), (reference, "reference")):
        for network in subject.networks.values():
            set_pooling(network.double().train(), implementation=implementation)
        subject.laplacian = subject.laplacian.double()
        batch = next(subject.batches.epoch(0))
        batch = batch._replace(faces=batch.faces.double(), partners=batch.partners.double())
        torch.manual_seed(0)
        for _ in range(2):
            record = subject._train_step(batch)
        records.append(record)
    assert records[0] == pytest.approx(records[1], rel=1e-8)


def test_learning_rates_and_decay_of_both_optimisers() -> None:
    recipe = replace(FULL, batch=28, epochs=4, learning_rate_factor=0.5, learning_rate_every=50)
    subject = trainer(FACES, recipe)
    rates = []
    for _ in range(4):
        subject.run_epochs()
        rates.append([o.param_groups[0]["lr"] for o in subject.optimizers.values()])
    assert rates == [[1e-3, 2e-3], [1e-3, 2e-3], [5e-4, 1e-3], [5e-4, 1e-3]]
    decay = {name: o.param_groups[0]["weight_decay"] for name, o in subject.optimizers.items()}
    assert decay == {"auto_encoder": 0.1, "discriminator": 0}
    assert all(type(o) is torch.optim.Adam for o in subject.optimizers.values())


def test_the_discriminator_steps_as_often_as_the_recipe_says() -> None:
    recipe = replace(FULL, batch=7, discriminator_every=3)
    subject = trainer(FACES, recipe)
    record = subject.run_epochs()
    assert subject.steps_per_epoch == 4
    steps = {int(s["step"]) for s in subject.optimizers["discriminator"].state.values()}
    assert steps == {2}
    assert record is not None
    assert record["discriminator_own"] > 0.3  # the mean of two steps, not of four


@pytest.mark.parametrize(
    ("use", "paired"),
    [({}, [0, 3]), ({"swap": 0.5}, [0, 1, 2, 3]), ({"partner_latent": 0.5}, [0, 1, 2, 3])],
)
def test_there_are_partners_where_somebody_needs_them(
    use: dict[str, float], paired: list[int]
) -> None:
    recipe = replace(FULL, batch=7, discriminator_every=3, **use)
    for adversary, judged in ((True, [0, 3]), (False, [])):
        batches = list(trainer(FACES, recipe, adversary=adversary).batches.epoch(0))
        assert [k for k, batch in enumerate(batches) if batch.train_discriminator] == judged
        with_partners = [k for k, batch in enumerate(batches) if batch.partners is not None]
        assert with_partners == (paired if adversary or use else [])


def test_faces_are_shuffled_and_paired_anew_each_epoch() -> None:
    subject = trainer(FACES, FULL)
    batches = subject.batches
    size, steps = FULL.batch, subject.steps_per_epoch
    first, second = (
        [(order[k * size :][:size], partners[k * size :][:size]) for k in range(steps)]
        for order, partners in (batches._draw(0), batches._draw(1))
    )
    drawn = [
        [(batch.faces, batch.partners) for batch in batches.epoch(number)] for number in (0, 1)
    ]
    for epoch, positions in zip(drawn, (first, second), strict=True):
        for pair, places in zip(epoch, positions, strict=True):
            for faces, place in zip(pair, places, strict=True):
                assert torch.equal(faces, torch.tensor(FACES.vertices[FACES.rows(0)[place]]))
    for epoch in (first, second):
        faces = np.concatenate([p for p, _ in epoch])
        partners = np.concatenate([q for _, q in epoch])
        assert len(set(faces)) == len(faces) == steps * size
        assert (batches.subject[faces] == batches.subject[partners]).all()
        assert (faces != partners).all()
    assert not np.array_equal(first[0][0], np.arange(FULL.batch))
    assert not np.array_equal(first[0][0], second[0][0])


def test_initial_decoders_by_recipe() -> None:
    for init, zero in (("zero", True), ("default", False)):
        network = build_auto_encoder(
            replace(FULL, decoder_init=init), frame_of(FACES, FULL), FACES, seed=0
        )
        for decoder in (network.identity_decoder, network.expression_decoder):
            assert (not decoder.output.weight.any()) == zero
            assert (not decoder.output.bias.any()) == zero
