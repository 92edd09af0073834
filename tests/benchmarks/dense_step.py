"""The training step the ordinary way: every activation of every vertex in memory.

What a reader of the paper would write down first: convolutions of width one, batch norm, ReLU and
`max_pool1d` over the vertices, and a dense V x V Laplacian.  The step is the same as
`Trainer._step`, term for term; `test_step_speed.py` checks that before it compares.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.training import Trainer


class DensePointNet(nn.Module):
    """(B, V, C) -> (B, 1024)."""

    def __init__(self, channels: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers.append(nn.Conv1d(inputs, outputs, 1))
            layers += [nn.BatchNorm1d(outputs)] * batch_norm
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x.transpose(1, 2))
        return functional.max_pool1d(y, y.shape[2]).squeeze(2)


def dense_head(outputs: int, *, batch_norm: bool, dropout: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(1024, 512)]
    layers += [nn.BatchNorm1d(512)] * batch_norm
    layers += [nn.ReLU(), nn.Linear(512, 256)]
    layers += [nn.Dropout(0.5)] * (dropout and batch_norm)
    layers += [nn.BatchNorm1d(256)] * batch_norm
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(256, outputs))


class DenseDiscriminator(nn.Module):
    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        self.transform = DensePointNet((6, 64, 128, 1024), batch_norm=batch_norm)
        self.transform_head = dense_head(36, batch_norm=batch_norm, dropout=False)
        self.features = DensePointNet((6, 64, 128, 1024), batch_norm=batch_norm)
        self.head = dense_head(2, batch_norm=batch_norm, dropout=True)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        pair = torch.cat([first, second], dim=2)
        matrix = self.transform_head(self.transform(pair)).view(-1, 6, 6)
        return self.head(
            self.features(pair @ (matrix + torch.eye(6, dtype=pair.dtype, device=pair.device)))
        )


class DenseAutoEncoder(nn.Module):
    def __init__(self, vertices: int, latent: int) -> None:
        super().__init__()
        self.encoder = DensePointNet((3, 64, 64, 64, 128, 1024), batch_norm=True)
        self.heads = nn.ModuleList([nn.Linear(1024, latent) for _ in range(4)])
        self.identity, self.expression = (
            nn.Sequential(nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 3 * vertices))
            for _ in range(2)
        )

    def encode(self, x: Tensor) -> list[Tensor]:
        features = self.encoder(x)
        return [head(features) for head in self.heads]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Both networks list their parameters in the same order."""
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    with torch.no_grad():
        for ours, theirs in pairs:
            theirs.copy_(ours.view_as(theirs))


def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


class DenseStep:
    """The state of a training as `trainer` has it now, and its step the ordinary way."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, recipe = trainer, trainer.recipe
        vertices = trainer.network.config.vertices
        assert trainer.discriminator is not None and trainer.laplacian is not None
        self.network = DenseAutoEncoder(vertices, recipe.identity)
        self.discriminator = DenseDiscriminator(batch_norm=recipe.discriminator_batch_norm)
        self.laplacian = trainer.laplacian.to_dense()
        self.network.to(self.laplacian)
        self.discriminator.to(self.laplacian)
        copy_weights(trainer.network, self.network)
        copy_weights(trainer.discriminator, self.discriminator)
        self.mean_face = trainer.network.normalised_mean_face.clone()
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), recipe.discriminator_learning_rate
        )

    def step(self, faces: Tensor, partners: Tensor) -> dict[str, float]:
        """One step of the discriminator, then one of the auto-encoder; (B, V, 3) normalised."""
        recipe, network, discriminator = self.trainer.recipe, self.network, self.discriminator
        same = torch.ones(len(faces), dtype=torch.int64, device=faces.device)
        identity_mean, identity_log_variance, mean, log_variance = network.encode(faces)
        z = sample(identity_mean, identity_log_variance)
        identity_faces = self.mean_face + network.identity(z).view_as(faces)
        expression = network.expression(sample(mean, log_variance)).view_as(faces)

        noise = torch.randn_like(z)  # for later, drawn in the order of ours
        discriminator.train().requires_grad_(True)
        self.discriminator_optimizer.zero_grad()
        # real and fake pairs take turns, as ours do: dropout draws a number for each
        second = torch.stack([partners, identity_faces.detach()], dim=1).flatten(0, 1)
        logits = discriminator(faces.repeat_interleave(2, dim=0), second)
        own = functional.cross_entropy(logits, same.new_tensor([1, 0]).repeat(len(faces)))
        own.backward()
        self.discriminator_optimizer.step()

        again, again_log_variance, _, _ = network.encode(identity_faces)
        discriminator.eval().requires_grad_(False)
        terms = {
            "reconstruction": functional.mse_loss(identity_faces + expression, faces),
            "kl_identity": kl(identity_mean, identity_log_variance),
            "kl_expression": kl(mean, log_variance),
            "neutral_latent": functional.l1_loss(
                again + noise * (0.5 * again_log_variance).exp(), z
            ),
            "laplacian": (self.laplacian @ identity_faces).square().sum() / faces[..., 0].numel(),
            "discriminator": functional.cross_entropy(discriminator(faces, identity_faces), same),
        }
        total = sum(getattr(recipe, name) * term for name, term in terms.items())
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
        self.optimizer.step()
        return {name: term.item() for name, term in {**terms, "discriminator_own": own}.items()}
