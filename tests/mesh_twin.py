"""Slow twins of networks on meshes: dense matrices in float64, written from the papers."""

import numpy as np

from facedis_core.geometry.mesh_hierarchy import mesh_hierarchy


def normalised_laplacian(count, edges):
    """I - D^-1/2 A D^-1/2 of a mesh with so many vertices."""
    adjacency = np.zeros((count, count))
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1
    root = np.diag(adjacency.sum(axis=1) ** -0.5)
    return np.eye(count) - root @ adjacency @ root


def largest_eigenvalue(count, edges):
    return np.linalg.eigvalsh(normalised_laplacian(count, edges))[-1]


def dense_convolution(x, edges, weight, bias=None, largest=2.0):
    """The sum of T_k(L) x W_k + bias in float64, with L of all V vertices and T_k one by one.

    L is rescaled by its largest eigenvalue, or by 2 in its place.
    """
    rescaled = 2 * normalised_laplacian(len(x), edges) / largest - np.eye(len(x))
    polynomials = [np.eye(len(x)), rescaled]
    while len(polynomials) < len(weight):
        polynomials.append(2 * rescaled @ polynomials[-1] - polynomials[-2])
    total = sum(t @ x @ w for t, w in zip(polynomials, weight, strict=True))
    return total if bias is None else total + bias


class SlowMeshes:
    """The meshes of a model, and its encoders and decoders by name.

    Args:
        model: with layers as of CoMA.
        training: (n, V, 3) mm, its training faces.
    """

    def __init__(self, model, training):
        self.w = {name: array.astype(float) for name, array in model.weights.items()}
        self.mean, self.deviation = (f(training.astype(float), axis=0) for f in (np.mean, np.std))
        self.levels = mesh_hierarchy(model.mean_face, model.triangles, 4)

    def dense(self, name, values):
        return self.w[f"{name}.weight"] @ values + self.w[f"{name}.bias"]

    def encoded(self, name, face):
        """Outputs of the dense layer of an encoder, of a face (V, 3) mm."""
        x = (face - self.mean) / self.deviation
        for k, level in enumerate(self.levels):
            layer = f"{name}.convolutions.{k}"
            weight, bias = self.w[f"{layer}.weight"], self.w[f"{layer}.bias"]
            x = dense_convolution(x, level.edges, weight, bias)
            selection = np.eye(len(x))[level.kept]
            x = selection @ np.maximum(x, 0)
        return self.dense(f"{name}.dense", x.ravel())

    def decoded(self, name, z):
        """The face (V, 3) mm that a decoder makes."""
        y = np.maximum(self.dense(f"{name}.dense", z), 0)
        y = y.reshape(len(self.levels[-1].kept), -1)
        for k, level in enumerate(reversed(self.levels)):
            up = np.zeros((len(level.corners), len(y)))
            for row, (corners, weights) in enumerate(
                zip(level.corners, level.weights, strict=True)
            ):
                np.add.at(up[row], corners, weights)
            layer = f"{name}.convolutions.{k}"
            weight, bias = self.w[f"{layer}.weight"], self.w[f"{layer}.bias"]
            y = np.maximum(dense_convolution(up @ y, level.edges, weight, bias), 0)
        edges = self.levels[0].edges
        y = dense_convolution(y, edges, self.w[f"{name}.output.weight"], None)
        return self.mean + y * self.deviation
