"""Heads turned and moved: rigidly, by as much as asked for, and held by the components."""

import numpy as np
import pytest
import synthetic
import torch

from facedis_core.data.face_set import TRAIN
from facedis_core.geometry.alignment import rigid_alignments, rotation_about
from facedis_core.geometry.pca import Pca, fit_pca
from facedis_core.nn import augment
from facedis_core.nn.augment import PoseVariation, add_motions, pose_motions, random_poses

FACES = synthetic.face_set()


def test_faces_are_moved_rigidly_by_as_much_as_asked_for() -> None:
    face = torch.tensor(FACES.vertices[0], dtype=torch.float64)
    torch.manual_seed(0)
    moved = random_poses(face.expand(4000, -1, -1), PoseVariation(2.0, 1.0), 2.0).numpy()
    fits = rigid_alignments(face.expand(4000, -1, -1).numpy(), moved)
    assert np.abs(fits.apply(face.expand(4000, -1, -1).numpy()) - moved).max() < 1e-9
    np.testing.assert_allclose(np.linalg.det(fits.rotation), 1.0)
    angles = np.degrees(np.arccos((np.trace(fits.rotation, axis1=1, axis2=2) - 1) / 2))
    # of a normal distribution, without its sign
    assert abs(np.sqrt((angles**2).mean()) - 2.0) < 0.1
    assert abs((angles < 2.0 * 0.6745).mean() - 0.5) < 0.03
    way = moved.mean(axis=1) - face.mean(dim=0).numpy()
    np.testing.assert_allclose(way.std(axis=0), 0.5, rtol=0.05)
    np.testing.assert_allclose(way.mean(axis=0), 0.0, atol=0.03)
    axis = np.stack([fits.rotation[:, 2, 1], fits.rotation[:, 0, 2], fits.rotation[:, 1, 0]])
    np.testing.assert_allclose(axis.std(axis=1), np.radians(2.0) / 3**0.5, rtol=0.05)


def test_each_alone() -> None:
    faces = torch.tensor(FACES.vertices[:5])
    turned = random_poses(faces, PoseVariation(degrees=3.0), 1.0)
    moved = random_poses(faces, PoseVariation(mm=2.0), 1.0)
    assert random_poses(faces, PoseVariation(), 1.0) is faces
    assert (turned - faces).abs().max() > 0.1
    torch.testing.assert_close(turned.mean(dim=1), faces.mean(dim=1), rtol=0, atol=1e-3)
    ways = moved - faces
    torch.testing.assert_close(ways, ways[:, :1].expand_as(ways), rtol=0, atol=1e-3)
    assert ways.abs().max() > 0.5


def test_a_gpu_does_not_round_poses_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    found, matrices = [], augment._matrices

    def watched(rotations: torch.Tensor) -> torch.Tensor:
        found.append(torch.get_float32_matmul_precision())
        return matrices(rotations)

    monkeypatch.setattr(augment, "_matrices", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        random_poses(torch.tensor(FACES.vertices[:2]), PoseVariation(2.0, 1.0), 1.0)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == ["highest"]


def pca(components: int) -> Pca:
    return fit_pca(FACES.vertices, FACES.rows(TRAIN), components)


def test_components_of_posed_faces_are_those_of_many_posed_copies() -> None:
    rows = FACES.rows(TRAIN)
    rest = pca(len(rows))
    found = add_motions(rest, pose_motions(rest.mean, PoseVariation(1.0, 0.4)), 100)
    assert len(found.basis) == len(rest.basis) + 6
    rng = np.random.default_rng(0)
    copies = []
    for row in np.repeat(rows, 200):
        face = FACES.vertices[row].astype(np.float64)
        axis = rng.normal(size=3)
        turn = rotation_about(axis / np.linalg.norm(axis), np.radians(rng.normal()))
        centre = face.mean(axis=0)
        copies.append(((face - centre) @ turn.T + centre + 0.4 * rng.normal(size=3)).ravel())
    offsets = np.array(copies) - rest.mean
    along = (offsets @ found.basis.T).std(axis=0)
    np.testing.assert_allclose(np.sqrt(found.variance), along, rtol=0.25)
    held = ((offsets @ found.basis.T) ** 2).sum() / (offsets**2).sum()
    before = ((offsets @ rest.basis.T) ** 2).sum() / (offsets**2).sum()
    assert held > 0.999 > 0.99 > before


def test_the_basis_stays_orthonormal_and_sorted() -> None:
    for degrees, distance, motions in ((2.0, 1.0, 6), (0.0, 1.0, 3), (2.0, 0.0, 3)):
        for limit, count in ((9, 9), (400, 9 + motions)):
            rest = pca(9)
            motion = pose_motions(rest.mean, PoseVariation(degrees, distance))
            found = add_motions(rest, motion, limit)
            assert found.basis.shape == (count, 3 * FACES.vertices.shape[1])
            np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(count), atol=1e-9)
            assert (np.diff(found.variance) <= 0).all()
            again = add_motions(found, motion, 400)
            if limit == 400:  # they hold these motions already
                assert len(again.basis) == count
