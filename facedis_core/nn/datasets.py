"""Data sets of torch over arrays of faces: single faces, and pairs of one subject."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from facedis_core.nn.face_pairs import FacePairs


class FaceSample(NamedTuple):
    """A face of a data set; a DataLoader stacks the values.

    Attributes:
        face: (V, 3) mm.
        subject: its number in the labels.
        expression: its number in the labels.
    """

    face: Tensor
    subject: int
    expression: int


class PairSample(NamedTuple):
    """A face and another one of the same subject; a DataLoader stacks the values.

    Attributes:
        face: (V, 3) mm.
        partner: (V, 3) mm, another face of the subject; the same where there is no other.
        neutral: (V, 3) mm, the subject's neutral; NaN where unknown.
        subject: its number in the labels.
        expression: that of `face` in the labels.
    """

    face: Tensor
    partner: Tensor
    neutral: Tensor
    subject: int
    expression: int


class FaceDataset(Dataset[FaceSample]):
    """Faces one by one, read when they are asked for.

    Args:
        vertices: (N, V, 3) mm, may be a memory map.
        rows: (n,) the faces to use.
        subject: (n,) of these faces.
        expression: (n,) of these faces.

    Example:
        >>> faces, subject = np.zeros((4, 50, 3), np.float32), np.array([0, 0, 1, 1])
        >>> data = FaceDataset(faces, np.arange(4), subject, expression=np.array([0, 1, 0, 1]))
        >>> data[3].face.shape, data[3].subject
        (torch.Size([50, 3]), 1)
    """

    def __init__(
        self, vertices: np.ndarray, rows: np.ndarray, subject: np.ndarray, expression: np.ndarray
    ) -> None:
        self.vertices, self.rows = vertices, rows
        self.subject, self.expression = subject, expression

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> FaceSample:
        face = self._face(index)
        return FaceSample(face, int(self.subject[index]), int(self.expression[index]))

    def _face(self, index: int) -> Tensor:
        return _tensor(self.vertices[self.rows[index]])


class FacePairDataset(Dataset[PairSample]):
    """Faces with random partners of the same subject, drawn by the random numbers of torch.

    Args:
        vertices: (N, V, 3) mm, may be a memory map.
        rows: (n,) the faces to use.
        subject: (n,) of these faces.
        expression: (n,) of these faces.
        neutrals: (S, V, 3) mm by subject, NaN where unknown.

    Example:
        >>> faces, subject = np.zeros((4, 50, 3), np.float32), np.array([0, 0, 1, 1])
        >>> expression, neutrals = np.array([0, 1, 0, 1]), faces[[0, 2]]
        >>> data = FacePairDataset(faces, np.arange(4), subject, expression, neutrals)
        >>> data[3].partner.shape
        torch.Size([50, 3])
    """

    def __init__(
        self,
        vertices: np.ndarray,
        rows: np.ndarray,
        subject: np.ndarray,
        expression: np.ndarray,
        neutrals: np.ndarray,
    ) -> None:
        self.faces = FaceDataset(vertices, rows, subject, expression)
        self.neutrals, self.pairs = neutrals, FacePairs(subject)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> PairSample:
        face, subject, expression = self.faces[index]
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        (other,) = self.pairs.same_subject(np.array([index % len(self)]), rng)
        neutral = _tensor(self.neutrals[subject])
        return PairSample(face, self.faces[int(other)].face, neutral, subject, expression)


def _tensor(vertices: np.ndarray) -> Tensor:
    """A copy in memory: torch must not write into a memory map."""
    return torch.from_numpy(np.array(vertices, np.float32))
