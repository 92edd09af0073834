"""Start of the paper's network as a linear model of the training faces, in closed form.

A PointNet with random weights needs thousands of steps until its maxima tell vertices apart. Here
the same layers read the offsets of single vertices from the first step on:

    shared layers   the first gives how far a vertex of the mean face lies above thresholds of each
                    coordinate, of which |p|^2 is a weighted sum, and its offset, kept positive; the
                    last gives bumps max(0, r^2 - |p - c|^2) around vertices c, and the offset;
    pooled layer    bump / r^2 + READING * offset along a direction: the maximum over vertices is
                    that offset at c, or beside it;
    latent means    ridge regression from these readings to the latents of `linear_split`;
    decoders        those of `linear_split`, max(0, z) and max(0, -z) being hidden units.

Training then changes all of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.pca import face_blocks
from facedis_core.geometry.surface import farthest_points
from facedis_core.nn.augment import pose_motions, random_poses
from facedis_core.nn.autoencoder import InitialData
from facedis_core.nn.linear_split import split_components
from facedis_core.nn.max_pool.batch_statistics import FoldedLayer, apply_layers, block_moments
from facedis_core.nn.max_pool.layer import pool

if TYPE_CHECKING:
    from facedis_core.nn.pointnet import HiddenLayerDecoder, PointNetAutoEncoder

# Weight of an offset of one spread beside a bump of height 1: larger readings are taken at other
# vertices too often, smaller ones need larger weights after them.
READING: Final = 0.05
RADIUS: Final = 1.5  # of a bump, relative to the largest distance of a vertex to the next centre
THRESHOLD: Final = 0.9  # of a reading, relative to the least of a channel in the sample
# Ridge penalty relative to the mean variance of the readings.
PENALTY: Final = 1e-4
# What the noise of each latent adds to a coordinate of a face, standard deviation in mm; at most
# this part of the latent.
NOISE: Final = 0.01
LARGEST_NOISE: Final = 0.3
# Offsets d pass as max(0, d) and max(0, -d).
_SIGNS: Final = np.concatenate([np.eye(3), -np.eye(3)])
_SAMPLE: Final = 32  # faces for the statistics of batch norm


@torch.no_grad()
def start_linear(network: "PointNetAutoEncoder", data: InitialData) -> None:
    """Set all weights of a network to those of a linear model of the training faces.

    Raises:
        UsageError: no neutrals, no `encoder_offsets`, or too narrow decoders.
    """
    config, poses, neutrals = network.config, data.poses, data.neutrals
    if neutrals is None:
        raise UsageError(
            "linear_start needs neutrals, known or estimated; give --neutrals, or set "
            "pseudo_neutral=auto or linear_start=false",
            ErrorCode.OPTION_CONFLICT,
        )
    if not config.encoder_offsets:
        raise UsageError(
            "linear_start needs offsets to read; set encoder_offsets=true, or linear_start=false",
            ErrorCode.OPTION_CONFLICT,
        )
    if 2 * max(config.identity, config.expression) > config.decoder_hidden:
        raise UsageError(
            f"linear_start takes at most {config.decoder_hidden // 2} identity and expression "
            "latents, half of the hidden units; set fewer, or linear_start=false",
            ErrorCode.OPTION_CONFLICT,
        )
    pca, scale = data.pca, float(network.scale)
    coefficients = np.concatenate([pca.encode(f) for f in face_blocks(data.vertices, data.rows)])
    people, person = np.unique(data.subject, return_inverse=True)
    motions = pose_motions(pca.mean, poses) @ pca.basis.T
    split = split_components(
        coefficients,
        person,
        np.concatenate([pca.encode(face) for face in face_blocks(neutrals, people)]),
        motions.T @ motions,
        identity=config.identity,
        expression=config.expression,
        trust=data.trust,
    )

    def seen(faces: np.ndarray) -> Tensor:
        return network.normalise(torch.tensor(faces, dtype=torch.float32))

    step = max(1, len(data.rows) // _SAMPLE)
    sample = seen(data.vertices[np.asarray(data.rows[::step][:_SAMPLE])])
    network.eval()
    read_offsets(network.encoder.layers, network.encoder_input(random_poses(sample, poses, scale)))
    readings, latents = [], []
    encoders = np.concatenate([split.identity_encoder, split.expression_encoder])
    biases = np.concatenate([split.identity_bias, split.expression_bias])
    sizes = np.sqrt(((coefficients @ encoders.T + biases) ** 2).mean(axis=0))  # of each latent
    least = np.finfo(np.float32).tiny
    for block in face_blocks(data.vertices, data.rows):
        faces = random_poses(seen(block), poses, scale)
        in_mm = faces.double().numpy() * scale + network.origin.double().numpy()
        readings.append(network.encoder.features(network.encoder_input(faces)).double().numpy())
        latents.append((pca.encode(in_mm) @ encoders.T + biases) / np.maximum(sizes, least))
    network.train()
    weight, bias = _ridge(np.concatenate(readings), np.concatenate(latents))
    first = 0
    for part, decoder, decoded, mean in (
        ("identity", network.identity_decoder, split.identity_decoder, split.identity_mean),
        ("expression", network.expression_decoder, split.expression_decoder, None),
    ):
        own = slice(first, first + decoded.shape[1])
        first = own.stop
        columns = pca.basis.T @ (decoded * sizes[own])  # (3V, D) mm
        head = getattr(network.encoder, f"{part}_mean")
        head.weight.copy_(torch.tensor(weight[own]))
        head.bias.copy_(torch.tensor(bias[own]))
        in_mm = np.sqrt((columns**2).mean(axis=0))
        noise = np.minimum(NOISE / np.maximum(in_mm, least), LARGEST_NOISE)
        spread = getattr(network.encoder, f"{part}_log_variance")
        spread.weight.zero_()
        spread.bias.copy_(torch.tensor(2 * np.log(noise)))
        _set_decoder(decoder, columns / scale, 0.0 if mean is None else mean @ pca.basis / scale)


def _ridge(inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight (O, I) and bias (O,) of the ridge regression from inputs (n, I) to outputs (n, O)."""
    mean, target = inputs.mean(axis=0), outputs.mean(axis=0)
    centred = inputs - mean
    second = centred.T @ centred
    second += PENALTY * np.trace(second) / len(second) * np.eye(len(second))
    weight = np.linalg.solve(second, centred.T @ (outputs - target)).T
    return weight, target - weight @ mean


def _set_decoder(
    decoder: "HiddenLayerDecoder", columns: np.ndarray, mean: np.ndarray | float
) -> None:
    """A decoder that gives mean + columns (3V, D) @ z; hidden units not needed stay random."""
    latent = columns.shape[1]
    decoder.hidden.weight[: 2 * latent] = torch.cat([torch.eye(latent), -torch.eye(latent)])
    decoder.hidden.bias[: 2 * latent] = 0.0
    decoder.output.weight.zero_()
    decoder.output.weight[:, :latent] = torch.tensor(columns)
    decoder.output.weight[:, latent : 2 * latent] = -torch.tensor(columns)
    decoder.output.bias.copy_(torch.tensor(mean))


def read_offsets(layers: Iterable[Any], inputs: Tensor) -> None:
    """Shared layers and pooling that read the offsets of single vertices.

    Args:
        layers: of a PointNet with six input channels, its layers not narrower than the ones before.
        inputs: (B, K, 6) mean face and offsets of some training faces, as the encoder sees them.
    """
    first, *between, bumps, pooled = layers = list(layers)
    positions = inputs[0, :, :3].double().numpy()
    count = (len(first.linear.bias) - len(_SIGNS)) // 3  # thresholds a coordinate
    lowest, highest = positions.min(axis=0), positions.max(axis=0)
    thresholds = np.linspace(lowest, highest, count, endpoint=False)  # (count, 3)
    gap = thresholds[1] - thresholds[0]
    weight = np.zeros((3 * count + len(_SIGNS), 6))
    weight[: -len(_SIGNS), :3] = np.kron(np.eye(3), np.ones((count, 1)))
    weight[-len(_SIGNS) :, 3:] = _SIGNS
    bias = np.append(-thresholds.T.ravel(), np.zeros(len(_SIGNS)))
    rows, size = _set_layer(first, inputs.flatten(0, 1), weight, bias)
    for layer in between:
        rows, size = _set_layer(layer, rows, np.diag(size), np.zeros(len(size)))

    # On each axis p = lowest + first channel, and p^2 = lowest^2 + channels times changes of slope.
    square = np.diff(2 * thresholds + gap, axis=0, prepend=0.0).T.ravel()
    centres = positions[
        farthest_points(positions, min(len(bumps.linear.bias) - len(_SIGNS), len(positions)))
    ]
    nearest = np.min(((positions[:, None] - centres) ** 2).sum(axis=2), axis=1)
    radius = RADIUS * max(float(nearest.max()) ** 0.5, float(gap.max()))
    weight = np.zeros((len(centres) + len(_SIGNS), len(size)))
    weight[: len(centres), : 3 * count] = -square
    weight[: len(centres), : 3 * count : count] += 2 * centres
    weight[len(centres) :, 3 * count : 3 * count + len(_SIGNS)] = np.eye(len(_SIGNS))
    start = (lowest**2).sum() - 2 * centres @ lowest
    bias = np.append(radius**2 - (centres**2).sum(axis=1) - start, np.zeros(len(_SIGNS)))
    rows, size = _set_layer(bumps, rows, weight * size, bias)

    channels = np.arange(len(pooled.linear.bias))
    own, turn = channels % len(centres), channels // len(centres)
    directions = functional.normalize(torch.randn(len(channels), 3), dim=1).double().numpy()
    directions[turn < len(_SIGNS)] = _SIGNS[turn[turn < len(_SIGNS)]]
    weight = np.zeros((len(channels), len(size)))
    weight[channels, own] = 1 / radius**2
    weight[:, len(centres) : len(centres) + len(_SIGNS)] = READING * directions @ _SIGNS.T
    _set_layer(pooled, rows, weight * size, np.zeros(len(channels)))
    least = pool(layers, inputs).amin(dim=0)
    pooled.norm.bias -= THRESHOLD * least


def _set_layer(
    layer: Any, rows: Tensor, weight: np.ndarray, bias: np.ndarray
) -> tuple[Tensor, np.ndarray]:
    """Set the first outputs of a layer, whose norm divides by their deviation and does not centre.

    Returns:
        the outputs of the layer for its inputs `rows`, and the deviations (C_out,).
    """
    linear, norm = layer.linear, layer.norm
    linear.weight[: len(weight)] = torch.tensor(weight, dtype=torch.float32)
    linear.bias[: len(bias)] = torch.tensor(bias, dtype=torch.float32)
    moments = block_moments(rows)
    mean = linear.weight @ moments.mean + linear.bias
    variance = ((linear.weight @ moments.covariance) * linear.weight).sum(dim=1)
    deviation = (variance + norm.eps).sqrt()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.fill_(1.0)
    norm.bias.copy_(mean / deviation)
    folded = FoldedLayer(linear.weight / deviation[:, None], linear.bias / deviation)
    return apply_layers(rows, [folded]), deviation.double().numpy()
