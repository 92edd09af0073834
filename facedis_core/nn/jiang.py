"""Disentangled auto-encoder of graph convolutions, after Jiang et al. 2019; schedule ours.

A branch makes a person's neutral of a face, another the expression on the mean neutral, and a
fusion the face of both. Features are coordinates, the authors' ablation, or with
`deformation` a deformation representation, as published.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.deformation_representation import (
    DeformationRepresentation,
    edge_weights,
)
from facedis_core.geometry.pca import face_blocks
from facedis_core.geometry.surface import unique_edges
from facedis_core.model.jiang_config import (
    ENCODER_WIDTHS,
    FUSION_WIDTHS,
    LAST_WIDTHS,
    LEAK,
    ORDERS,
    JiangConfig,
)
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.distributed import shard, world_size
from facedis_core.nn.losses import kl_divergence
from facedis_core.nn.mesh_layers import SparseMatrix, chebyshev
from facedis_core.nn.objective import AUTO_ENCODER, LabelledFaces, Objective, Turn

# Features of training faces lie within +- this part of the range of tanh.
_FILLED: Final = 0.9
# Least half range of a feature, relative to that of all: what hardly varies is not magnified.
_LEAST_RANGE: Final = 1e-2
# Parts of the steps that end the training of each branch and of the fusion; then all are trained.
STAGES: Final = {"identity": 0.25, "expression": 0.5, "fusion": 0.75}
# Weights of the sum of squared weights of each part, in its own stage and at the end; of the
# fusion in its own stage of the sum of absolute weights.
_DECAYS: Final = {"identity": (1e-5, 3e-5), "expression": (0.0, 1e-6), "fusion": (1e-5, 1e-5)}
# Factor on the errors of a branch that works on a deformation representation.
_BRANCH_ERROR: Final = 1 / 1.8
_MIXED: Final = 5  # people of an interpolated person; ours
_POWER_STEPS: Final = 500


class JiangAutoEncoder(AutoEncoder):
    """Two variational branches and their fusion.

    X_exp is what the fusion adds to the neutral, so that it depends on both latents.

    Attributes:
        edges: int64 (E, 2) of the mesh.
        neutral: (V, 3), the mean neutral minus the mean face, normalised.
        centre, half_range: (V, C) of the features of the training faces, by which they are scaled.
        edge_weights, steadiness: (E,) and (V,) of a deformation representation.

    Example:
        >>> config = JiangConfig(4, 8, 6, mesh_edges=6)
        >>> network = JiangAutoEncoder(config, torch.randn(4, 3), torch.zeros(3), scale=100.0)
        >>> network.expression_offsets(torch.zeros(2, 6), torch.zeros(2, 8)).shape
        torch.Size([2, 4, 3])
    """

    is_exportable = False  # sparse products
    config: JiangConfig

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.register_buffer("edges", torch.zeros(config.mesh_edges, 2, dtype=torch.int64))
        self.register_buffer("eigenvalue", torch.full((1,), 2.0))
        self.register_buffer("neutral", torch.zeros_like(self.mean_face))
        vertices, hidden, channels = config.vertices, config.hidden, config.channels
        self.register_buffer("centre", torch.zeros(vertices, channels))
        self.register_buffer("half_range", torch.ones(vertices, channels))
        if config.deformation:
            self.register_buffer("edge_weights", torch.ones(config.mesh_edges))
            self.register_buffer("steadiness", torch.ones(vertices))
        self.edges: Tensor
        self.eigenvalue: Tensor
        self.neutral: Tensor
        self.centre: Tensor
        self.half_range: Tensor
        self.edge_weights: Tensor
        self.steadiness: Tensor
        self._matrices: dict[torch.device, SparseMatrix] = {}
        self._representation: DeformationRepresentation | None = None
        face = vertices, channels
        self.identity_encoder = GraphEncoder(*face, "identity", hidden, config.identity)
        self.identity_decoder = DenseDecoder(*face, config.identity, hidden)
        self.expression_encoder = GraphEncoder(*face, "expression", hidden, config.expression)
        self.expression_decoder = DenseDecoder(*face, config.expression, hidden)
        self.fusion = GraphConvolutions((2 * channels, *FUSION_WIDTHS, channels), vertices)

    @classmethod
    def fresh(
        cls, config: Any, mean_face: Tensor, origin: Tensor, scale: float, data: InitialData
    ) -> Self:
        """A network with random weights, on the edges of the triangles."""
        assert data.triangles is not None
        edges = unique_edges(np.asarray(data.triangles))
        config = replace(config, mesh_edges=len(edges))
        network = cls(config, mean_face, origin, scale)
        network.edges.copy_(torch.from_numpy(edges))
        network.eigenvalue.fill_(largest_eigenvalue(edges, config.vertices))
        if data.neutrals is not None:
            mean = torch.from_numpy(_known_neutrals(data).mean(axis=0, dtype=np.float64))
            network.neutral.copy_((mean - mean_face) / scale)
        if config.deformation:
            network._set_weights(data)
        low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for block in face_blocks(data.vertices, data.rows):
            features = network.features(network.normalise(torch.tensor(block).float()))
            low = torch.minimum(low, features.amin(dim=0))
            high = torch.maximum(high, features.amax(dim=0))
        half = (high - low) / (2 * _FILLED)
        least = _LEAST_RANGE * half.square().mean().sqrt() + torch.finfo(torch.float32).tiny
        network.centre.copy_((low + high) / 2)
        network.half_range.copy_(half.clamp_min(least))
        return network

    @property
    def matrix(self) -> SparseMatrix:
        """The normalised Laplacian, rescaled to eigenvalues from -1 to 1; made on first use."""
        device = self.edges.device
        if device not in self._matrices:
            self._matrices[device] = rescaled_laplacian(
                self.edges, self.config.vertices, float(self.eigenvalue)
            )
        return self._matrices[device]

    @property
    def representation(self) -> DeformationRepresentation:
        """That of faces against the mean neutral; made on first use."""
        if self._representation is None:
            tensors = (
                self.normalised_mean_face + self.neutral,
                self.edges,
                self.edge_weights,
                self.steadiness,
            )
            self._representation = DeformationRepresentation(*(t.cpu().numpy() for t in tensors))
        return self._representation

    def features(self, faces: Tensor) -> Tensor:
        """Normalised faces (B, V, 3) -> their features (B, V, C), those of the mean neutral 0.

        They are offsets, or a deformation representation, which has no gradient.
        """
        if not self.config.deformation:
            return faces - self.normalised_mean_face - self.neutral
        return torch.from_numpy(self.representation.features(faces.detach().cpu().numpy())).to(
            faces
        )

    def offsets(self, features: Tensor) -> Tensor:
        """Features (B, V, C) -> offsets (B, V, 3) from the mean face, the inverse of `features`."""
        if not self.config.deformation:
            return self.neutral + features
        faces = torch.from_numpy(self.representation.faces(features.detach().cpu().numpy()))
        return faces.to(features) - self.normalised_mean_face

    def scaled(self, features: Tensor) -> Tensor:
        """Features -> within the range of tanh."""
        return (features - self.centre) / self.half_range

    def encode_identity(self, features: Tensor) -> Gaussian:
        """Features (B, V, C) -> distribution of identity latents."""
        found: Gaussian = self.identity_encoder(self.scaled(features), self.matrix)
        return found

    def encode_expression(self, features: Tensor) -> Gaussian:
        """Features (B, V, C) -> distribution of expression latents."""
        found: Gaussian = self.expression_encoder(self.scaled(features), self.matrix)
        return found

    def decode_neutral(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> features of neutrals (B, V, C)."""
        return self._unscaled(self.identity_decoder(z))

    def decode_expression(self, z: Tensor) -> Tensor:
        """Expression latents (B, D) -> features (B, V, C) of expressions on the mean neutral."""
        return self._unscaled(self.expression_decoder(z))

    def fused(self, neutrals: Tensor, expressions: Tensor) -> Tensor:
        """Features of neutrals and of expressions (B, V, C) -> those of faces."""
        x = torch.cat([self.scaled(neutrals), self.scaled(expressions)], dim=2)
        change = torch.tanh(self.fusion(x.transpose(0, 1), self.matrix)).transpose(0, 1)
        return neutrals + expressions + self.half_range * change

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        features = self.features(faces)
        return Posterior(self.encode_identity(features), self.encode_expression(features))

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self.offsets(self.decode_neutral(z))

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D_exp) of people (B, D_id) -> X_exp, (B, V, 3)."""
        neutrals = self.decode_neutral(identity)
        return self.offsets(self.fused(neutrals, self.decode_expression(z))) - self.offsets(
            neutrals
        )

    def objective(self, recipe: Mapping[str, Any], data: InitialData) -> "JiangObjective":
        """Its losses."""
        return JiangObjective(self, recipe, data)

    def part(self, name: str) -> list[nn.Module]:
        """The modules of a branch, or of the fusion."""
        if name == "fusion":
            return [self.fusion]
        return [getattr(self, f"{name}_encoder"), getattr(self, f"{name}_decoder")]

    def _unscaled(self, x: Tensor) -> Tensor:
        return self.centre + self.half_range * x

    def _set_weights(self, data: InitialData) -> None:
        """Give its edges weights, and each vertex the inverse square of its variance."""
        total, squares = np.zeros((2, self.config.vertices, 3))
        for block in face_blocks(data.vertices, data.rows):
            offsets = np.asarray(block, np.float64) - self.mean_face.numpy()
            total += offsets.sum(axis=0)
            squares += (offsets**2).sum(axis=0)
        mean = total / len(data.rows)
        variance = (squares / len(data.rows) - mean**2).sum(axis=1)
        variance += 1e-3 * variance.mean() + np.finfo(np.float32).tiny
        self.steadiness.copy_(torch.from_numpy((variance.mean() / variance) ** 2))
        reference = (self.normalised_mean_face + self.neutral).numpy()
        weights = edge_weights(reference, np.asarray(data.triangles))[1]
        self.edge_weights.copy_(torch.from_numpy(weights))


class GraphConvolutions(nn.Module):
    """Chebyshev convolutions on one mesh, leaky ReLUs between them; a bias for every vertex.

    Args:
        widths: channels of the input and of every convolution.
        vertices: V; None = no biases.
    """

    def __init__(self, widths: tuple[int, ...], vertices: int | None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            GraphConvolution(*pair, vertices) for pair in pairwise(widths)
        )

    def forward(self, x: Tensor, matrix: SparseMatrix) -> Tensor:
        """(V, B, C_in) -> (V, B, C_out)."""
        *layers, last = self.convolutions
        for layer in layers:
            x = functional.leaky_relu(layer(x, matrix), LEAK)
        found: Tensor = last(x, matrix)
        return found


class GraphConvolution(nn.Module):
    """Chebyshev convolution of order 2, with a bias for every vertex or none."""

    def __init__(self, inputs: int, outputs: int, vertices: int | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(ORDERS, inputs, outputs))
        nn.init.xavier_uniform_(self.weight.data.view(ORDERS * inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(vertices, outputs)) if vertices else None

    def forward(self, x: Tensor, matrix: SparseMatrix) -> Tensor:
        """(V, B, C_in) -> (V, B, C_out)."""
        found = chebyshev(matrix, x, self.weight)
        return found if self.bias is None else found + self.bias[:, None]


class GraphEncoder(GraphConvolutions):
    """Convolutions, then dense layers to the mean and log-variance of a latent."""

    def __init__(
        self, vertices: int, channels: int, branch: str, hidden: int, outputs: int
    ) -> None:
        last = LAST_WIDTHS[branch]
        self.has_biases = branch == "identity"
        super().__init__((channels, *ENCODER_WIDTHS, last), vertices if self.has_biases else None)
        self.hidden = _dense(vertices * last, hidden)
        self.mean = _dense(hidden, outputs)
        self.log_variance = _dense(hidden, outputs)

    def forward(self, x: Tensor, matrix: SparseMatrix) -> Gaussian:  # type: ignore[override]  # ends in a latent
        """(B, V, C) -> (B, D); the last activation is tanh where there are no biases."""
        x = super().forward(x.transpose(0, 1), matrix).transpose(0, 1)
        x = functional.leaky_relu(x, LEAK) if self.has_biases else torch.tanh(x)
        hidden = functional.leaky_relu(self.hidden(x.flatten(1)), LEAK)
        return Gaussian(self.mean(hidden), self.log_variance(torch.sigmoid(hidden)))


class DenseDecoder(nn.Module):
    """A hidden layer, then all features of a mesh, within the range of tanh."""

    def __init__(self, vertices: int, channels: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.channels = channels
        self.hidden = _dense(inputs, hidden)
        self.output = _dense(hidden, channels * vertices)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, V, C)."""
        hidden = functional.leaky_relu(self.hidden(z), LEAK)
        return torch.tanh(self.output(hidden)).unflatten(1, (-1, self.channels))


class JiangObjective(Objective):
    """Each branch alone, then the fusion alone, then all of them from end to end.

    Errors are mean lengths of differences of coordinates, or mean absolute errors of the numbers of
    a deformation representation. The branch of identities learns interpolated people as well:
    convex combinations of neutrals, with the mean of an expression added.

    Args:
        network: the auto-encoder.
        recipe: weights of the losses.
        data: the training faces, with neutrals and expressions.

    Raises:
        UsageError: no neutrals.
        InputError: no two expressions.
    """

    def __init__(
        self, network: JiangAutoEncoder, recipe: Mapping[str, Any], data: InitialData
    ) -> None:
        data.check_neutrals()
        kinds, kind = np.unique(
            np.zeros(len(data.rows)) if data.expression is None else data.expression,
            return_inverse=True,
        )
        if len(kinds) < 2:
            raise InputError(
                "the network learns the mean of every expression, and the training faces have no "
                "two expressions; prepare the set with an {expression} in --pattern",
                ErrorCode.LABEL_MISSING,
            )
        self.network = network
        self.networks = {AUTO_ENCODER: network}
        self.limit = recipe["log_variance_limit"]
        rec = recipe["reconstruction"]
        self.weights = {
            "reconstruction": rec,
            "neutral": rec * recipe["neutral"],
            "neutral_expression": rec * recipe["neutral_expression"],
            "kl_identity": recipe["kl_identity"],
            "kl_expression": recipe["kl_expression"],
            "decay": 1.0,
        }
        with torch.no_grad():
            known = torch.tensor(_known_neutrals(data)).float()
            self.people = network.features(network.normalise(known))
            self.expression_means = torch.zeros(len(kinds), *self.people.shape[1:])
            # over people, of whom some may show an expression more often than others
            shown, which, often = np.unique(
                [kind, data.subject], axis=1, return_inverse=True, return_counts=True
            )
            weight = torch.from_numpy((1 / often)[which.ravel()]).float()
            start = 0
            for block in face_blocks(data.vertices, data.rows):
                features = network.features(network.normalise(torch.tensor(block).float()))
                part = slice(start, start + len(block))
                features *= weight[part, None, None]
                self.expression_means.index_add_(0, torch.from_numpy(kind[part]), features)
                start += len(block)
            self.expression_means /= torch.from_numpy(np.bincount(shown[0]))[:, None, None]

    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """One turn: the part that is trained at that progress."""
        device = batch.faces.device
        self.people, self.expression_means = (
            each.to(device) for each in (self.people, self.expression_means)
        )
        stage = next((name for name, end in STAGES.items() if batch.progress < end), "all")
        terms = getattr(self, f"_{stage}_terms")(self.network.features(batch.faces), batch)
        yield Turn.weighted(AUTO_ENCODER, terms, self.weights)

    def _identity_terms(self, features: Tensor, batch: LabelledFaces) -> dict[str, Tensor]:
        """Neutrals of the faces, and of as many interpolated people."""
        mixed, truth = self._interpolated(len(features))
        faces = torch.cat([features, mixed])
        own = self.network.encode_identity(faces).clamped(self.limit)
        # each half is a part of the whole batch, of which a process has some rows
        halves = map(Gaussian, *(each.chunk(2) for each in own))
        predicted = self.network.decode_neutral(torch.cat([half.sample() for half in halves]))
        error = self._neutral_error(predicted[: len(features)], batch)
        return {
            "neutral": error + self._branch_error(predicted[len(features) :], truth),
            "kl_identity": kl_divergence(*own),
            "decay": self._decay("identity", 0),
        }

    def _expression_terms(self, features: Tensor, batch: LabelledFaces) -> dict[str, Tensor]:
        """Expressions on the mean neutral."""
        shown, expressions = self._sampled_expressions(features)
        return {
            "neutral_expression": self._branch_error(expressions, self._means(batch)),
            "kl_expression": kl_divergence(*shown),
        }

    def _fusion_terms(self, features: Tensor, batch: LabelledFaces) -> dict[str, Tensor]:
        """Faces, of branches that do not change."""
        network = self.network
        with torch.no_grad():
            _, neutrals = self._sampled_neutrals(features)
            _, expressions = self._sampled_expressions(features)
        return {
            "reconstruction": self._error(network.fused(neutrals, expressions), features),
            "decay": _DECAYS["fusion"][0]
            * torch.stack([w.abs().sum() for w in self._weights("fusion")]).sum(),
        }

    def _all_terms(self, features: Tensor, batch: LabelledFaces) -> dict[str, Tensor]:
        """Everything, and what each branch makes of the other's output: the mean neutral."""
        own, neutrals = self._sampled_neutrals(features)
        shown, expressions = self._sampled_expressions(features)
        _, no_expression = self._sampled_expressions(neutrals)
        _, no_identity = self._sampled_neutrals(expressions)
        nothing = torch.zeros_like(features)
        return {
            "reconstruction": self._error(self.network.fused(neutrals, expressions), features)
            + self._error(no_expression, nothing)
            + self._error(no_identity, nothing),
            "neutral": self._neutral_error(neutrals, batch),
            "neutral_expression": self._branch_error(expressions, self._means(batch)),
            "kl_identity": kl_divergence(*own),
            "kl_expression": kl_divergence(*shown),
            "decay": torch.stack([self._decay(part, 1) for part in _DECAYS]).sum(),
        }

    def _sampled_neutrals(self, features: Tensor) -> tuple[Gaussian, Tensor]:
        """The identity latents of features (B, V, C), and the neutrals of a sample of them."""
        latent = self.network.encode_identity(features).clamped(self.limit)
        return latent, self.network.decode_neutral(latent.sample())

    def _sampled_expressions(self, features: Tensor) -> tuple[Gaussian, Tensor]:
        """The expression latents of features (B, V, C), and the expressions of a sample of them."""
        latent = self.network.encode_expression(features).clamped(self.limit)
        return latent, self.network.decode_expression(latent.sample())

    def _error(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Of features (B, V, C)."""
        if self.network.config.deformation:
            return (predicted - truth).abs().mean()
        return (predicted - truth).norm(dim=2).mean()

    def _branch_error(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """Of the features (B, V, C) that a branch makes."""
        factor = _BRANCH_ERROR if self.network.config.deformation else 1.0
        return factor * self._error(predicted, truth)

    def _means(self, batch: LabelledFaces) -> Tensor:
        """The features (B, V, C) of the mean faces of the expressions shown."""
        return self.expression_means[batch.expression]

    def _neutral_error(self, predicted: Tensor, batch: LabelledFaces) -> Tensor:
        """Of the faces whose neutral is known."""
        known = batch.neutrals
        if known is None or not len(known.places):
            return 0 * predicted.sum()
        truth = self.network.features(known.faces)
        return self._branch_error(predicted[known.places], truth) * known.weight

    def _interpolated(self, count: int) -> tuple[Tensor, Tensor]:
        """Features (B, V, C) of people that do not exist with mean expressions, and neutral."""
        device, total = self.people.device, count * world_size()
        chosen = shard(torch.randint(len(self.people), (total, _MIXED), device=device))
        shares = shard(torch.empty(total, _MIXED, device=device).exponential_())
        shares = shares / shares.sum(dim=1, keepdim=True)
        neutrals = (shares[:, :, None, None] * self.people[chosen]).sum(dim=1)
        means = self.expression_means
        shown = means[shard(torch.randint(len(means), (total,), device=device))]
        return neutrals + shown, neutrals

    def _decay(self, part: str, stage: int) -> Tensor:
        weights = torch.stack([w.square().sum() for w in self._weights(part)])
        return _DECAYS[part][stage] * weights.sum()

    def _weights(self, part: str) -> list[Tensor]:
        """The weights of its layers, without biases."""
        return [
            each
            for module in self.network.part(part)
            for name, each in module.named_parameters()
            if name.endswith("weight")
        ]


def rescaled_laplacian(edges: Tensor, vertices: int, eigenvalue: float) -> SparseMatrix:
    """2 L / eigenvalue - I, L = I - D^-1/2 A D^-1/2 of the adjacency A and degrees D.

    Args:
        edges: int64 (E, 2), each once.
        vertices: V.
        eigenvalue: the largest of L.
    """
    start, end = torch.cat([edges, edges.flip(1)]).T
    degree = torch.bincount(start, minlength=vertices).clamp_min(1)
    value = -(degree[start] * degree[end]).to(torch.float32).rsqrt()
    own = torch.arange(vertices, device=edges.device)
    factor = 2 / eigenvalue
    return SparseMatrix(
        torch.cat([start, own]),
        torch.cat([end, own]),
        torch.cat([factor * value, (factor - 1) * torch.ones_like(own)]),
        (vertices, vertices),
    )


def largest_eigenvalue(edges: np.ndarray, vertices: int) -> float:
    """That of the normalised Laplacian L of a mesh, by power iteration; from 0 to 2.

    Args:
        edges: (E, 2), each once.
        vertices: V.
    """
    # L - I; to it 1 is added, so that the largest eigenvalue is that of the largest size
    matrix = rescaled_laplacian(torch.from_numpy(edges.astype(np.int64)), vertices, 2.0)
    x = torch.randn(vertices, 1, 1, generator=torch.Generator().manual_seed(0))
    for _ in range(_POWER_STEPS):
        x = x / x.norm()
        product = matrix @ x
        quotient = (x * product).sum()
        x = x + product
    return 1 + float(quotient)


def _known_neutrals(data: InitialData) -> np.ndarray:
    """The neutrals (P, V, 3) of the training people that have one, mm."""
    assert data.neutrals is not None
    known = data.neutrals[np.unique(data.subject)]
    return known[np.isfinite(known).all(axis=(1, 2))]


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
