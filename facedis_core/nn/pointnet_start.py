"""Start of the paper's network as a linear model of the training faces, in closed form.

A PointNet with random weights needs thousands of steps until its maxima tell vertices apart. Here
the same layers read the offsets of single vertices from the first step on:

    shared layers   give a vertex a code, random features of its place in the mean face of which
                    half are zero, and hand its offset on;
    pooled layer    a coordinate of the offset, minus the features that are zero at one vertex: the
                    maximum over vertices is taken there, and what is subtracted is exactly zero;
    latent means    the encoder of a linear model, `linear_fit`, from these readings;
    decoders        those of the linear model, max(0, z) and max(0, -z) being hidden units.

So no digits are lost: the positions of vertices choose a maximum, but are no part of it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.pca import face_blocks
from facedis_core.geometry.surface import farthest_points
from facedis_core.model.config import LinearConfig
from facedis_core.nn.autoencoder import InitialData
from facedis_core.nn.linear_fit import fit_weights

if TYPE_CHECKING:
    from facedis_core.nn.pointnet import HiddenLayerDecoder, PointNetAutoEncoder

AXES: Final = 3
COMPONENTS: Final = 400  # of the linear model, as in its recipe
# Variance of the noise of a reading, relative to that of the least component. On the open benchmark
# it is that of the vertices; more noise makes a turned head another person.
READING_NOISE: Final = 0.01
# In units of the spread of the training faces: what is added to offsets so that ReLU keeps them,
# and how far below the lowest of a training face a reading may be.
SHIFT: Final = 50.0
ROOM: Final = 5.0
# In standard deviations of a feature: it counts as zero where it is so far below zero before ReLU,
# hundred times what rounding or a short training change.
MARGIN: Final = 0.05
# Least variance, relative to the largest, of a direction of features that the next layer sees as
# well as any other.
LEAST_VARIANCE: Final = 1e-3
# What the noise of each latent adds to a coordinate of a face, standard deviation in mm; at most
# this part of the latent.
NOISE: Final = 0.01
LARGEST_NOISE: Final = 0.3


@torch.no_grad()
def start_linear(network: "PointNetAutoEncoder", data: InitialData) -> None:
    """Set all weights of a network to those of a linear model of the training faces.

    Raises:
        InputError: the training faces are all alike.
        UsageError: no neutrals, no `encoder_offsets`, or too narrow decoders.
    """
    config, encoder = network.config, network.encoder
    if data.neutrals is None:
        raise UsageError(
            "linear_start needs neutrals, known or estimated; give --neutrals, or set "
            "pseudo_neutral=auto or linear_start=false",
            ErrorCode.OPTION_CONFLICT,
        )
    if encoder.spread is None:
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
    scale, spread = float(network.scale), float(encoder.spread)
    mean_face = network.mean_face.numpy()
    seen = np.arange(len(mean_face)) if encoder.points is None else encoder.points.numpy()
    read = farthest_points(mean_face[seen], min(config.channels[-1] // AXES, len(seen)))
    vertices = seen[read]
    lowest = np.min(
        [
            (block[:, vertices] - mean_face[vertices]).min(axis=0)
            for block in face_blocks(data.vertices, data.rows)
        ],
        axis=0,
    )
    room = ROOM - np.minimum(lowest.ravel(), 0.0) / (scale * spread)
    positions = network.normalised_mean_face[seen].double().numpy()
    read_vertices(encoder.layers, positions, read, room)

    sizes = (config.vertices, config.identity, config.expression, COMPONENTS)
    linear = fit_weights(LinearConfig(*sizes), data, mean_face, scale)
    basis = linear["basis"] * linear["deviation"][:, None]  # (K, 3V)
    # components from readings parts.T @ components + noise: ridge regression
    parts = basis.reshape(len(basis), -1, AXES)[:, vertices].reshape(len(basis), -1)
    noise = READING_NOISE * linear["deviation"][-1] ** 2 * np.eye(len(basis))
    components = np.linalg.solve(parts @ parts.T + noise, parts) * spread
    for part in ("identity", "expression"):
        weight = linear[f"encoder.{part}_mean.weight"] @ components
        head = getattr(encoder, f"{part}_mean")
        head.weight.zero_()
        head.weight[:, : len(room)] = torch.tensor(weight)
        head.bias.copy_(torch.tensor(linear[f"encoder.{part}_mean.bias"] - weight @ room))
        offsets = linear[f"{part}_decoder.weight"].T @ basis  # (D, 3V) of each latent
        decoder = getattr(network, f"{part}_decoder")
        _set_decoder(decoder, offsets, linear[f"{part}_decoder.bias"] @ basis)
        in_mm = np.sqrt((offsets**2).mean(axis=1)) * scale
        share = np.minimum(NOISE / np.maximum(in_mm, NOISE), LARGEST_NOISE)
        log_variance = getattr(encoder, f"{part}_log_variance")
        log_variance.weight.zero_()
        log_variance.bias.copy_(torch.tensor(2 * np.log(share)))


def read_vertices(
    layers: Iterable[Any], positions: np.ndarray, read: np.ndarray, room: np.ndarray
) -> None:
    """Shared layers and pooling that read the offsets of single vertices.

    The channels of the pooled layer are the coordinates of the vertices' offsets in the units of
    the input, each plus its `room`; further channels stay random.

    Args:
        layers: of a PointNet with six input channels and batch norm, with random weights.
        positions: (K, 3) of the vertices in the mean face.
        read: (R,) rows of `positions`; at most a third of the channels of the pooled layer.
        room: (3R,) the largest offset towards minus infinity that is read.
    """
    *shared, pooled = layers
    code, shift = positions, SHIFT
    for layer in shared:
        # The random weights of the layer, on inputs without correlations: so the features of one
        # layer vary faster over the face than those before it, and tell more vertices apart.
        values, vectors = np.linalg.eigh(np.cov(code.T, bias=True))
        white = vectors / np.sqrt(np.maximum(values, LEAST_VARIANCE * values[-1]))
        weight = layer.linear.weight[:-AXES, : code.shape[1]].double().numpy() @ white.T
        weight /= (code @ weight.T).std(axis=0)[:, None]
        bias = -weight @ code.mean(axis=0)
        before = code @ weight.T + bias
        rows, columns = weight.shape
        both = np.zeros((rows + AXES, columns + AXES))
        both[:rows, :columns], both[rows:, columns:] = weight, np.eye(AXES)
        _set_layer(layer, both, np.append(bias, [shift] * AXES))
        code, shift = np.maximum(before, 0.0), 0.0
    zeros = (before[read] < -MARGIN).astype(float)
    others = zeros @ code.T  # (R, K): the sum of these features at every vertex
    others[np.arange(len(read)), read] = np.inf
    zeros *= 2 * SHIFT / np.maximum(others.min(axis=1, keepdims=True), MARGIN)
    offsets = np.tile(np.eye(AXES), (len(read), 1))
    _set_layer(pooled, np.hstack([-np.repeat(zeros, AXES, axis=0), offsets]), room - SHIFT)


def _set_layer(layer: Any, weight: np.ndarray, bias: np.ndarray) -> None:
    """Set the first outputs of a layer, whose norm then changes nothing."""
    layer.linear.weight[: len(weight)] = torch.tensor(weight)
    layer.linear.bias[: len(bias)] = torch.tensor(bias)
    layer.norm.reset_parameters()
    layer.norm.running_var -= layer.norm.eps


def _set_decoder(decoder: "HiddenLayerDecoder", offsets: np.ndarray, mean: np.ndarray) -> None:
    """A decoder that gives mean + z @ offsets (D, 3V); hidden units not needed stay random."""
    latent = len(offsets)
    decoder.hidden.weight[: 2 * latent] = torch.cat([torch.eye(latent), -torch.eye(latent)])
    decoder.hidden.bias[: 2 * latent] = 0.0
    decoder.output.weight.zero_()
    decoder.output.weight[:, : 2 * latent] = torch.tensor(np.concatenate([offsets, -offsets]).T)
    decoder.output.bias.copy_(torch.tensor(mean))
