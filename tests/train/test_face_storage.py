"""Faces on the device, rounded there, or read ahead: the same faces."""

import numpy as np
import pytest
import torch
from raising import raises

from facedis_core.train import face_storage
from facedis_core.train.face_storage import ResidentFaces, StreamedFaces, store_faces

CPU = torch.device("cpu")
ROWS = np.array([5, 0, 9, 3, 7, 11, 2])
BATCHES = [np.array([0, 6, 6]), np.array([4]), np.array([1, 2])]


@pytest.fixture
def vertices(tmp_path) -> np.ndarray:
    """(12, 30, 3) mm in a memory map, as a face set has them."""
    path = tmp_path / "faces.npy"
    np.save(path, np.random.default_rng(0).normal(0, 60, (12, 30, 3)).astype(np.float32))
    return np.load(path, mmap_mode="r")


@pytest.fixture
def mean_face(vertices: np.ndarray) -> np.ndarray:
    return vertices.mean(axis=0)


@pytest.mark.parametrize("kind", [ResidentFaces, StreamedFaces])
def test_batches_are_those_of_the_map(vertices, kind, monkeypatch) -> None:
    monkeypatch.setattr(face_storage, "_BLOCK", 3)
    faces = kind(vertices, ROWS, CPU)
    found = list(faces.batches(BATCHES))
    assert len(found) == len(BATCHES)
    for batch, positions in zip(found, BATCHES, strict=True):
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch.numpy(), vertices[ROWS[positions]])
        np.testing.assert_array_equal(faces.batch(positions).numpy(), vertices[ROWS[positions]])
    assert list(faces.batches([])) == []


def test_float16_offsets_are_off_by_their_rounding_alone(vertices, mean_face) -> None:
    faces = ResidentFaces(vertices, ROWS, CPU, mean_face)
    assert faces.faces.dtype == torch.float16
    for batch, positions in zip(faces.batches(BATCHES), BATCHES, strict=True):
        truth = vertices[ROWS[positions]]
        error = np.abs(batch.numpy() - truth)
        assert error.max() > 0
        assert (error <= np.abs(truth - mean_face) * 2.0**-11 + 2e-5).all()


def test_the_next_batch_is_read_while_the_last_one_is_in_use(vertices) -> None:
    faces = StreamedFaces(vertices, ROWS, CPU)
    taken: list[int] = []
    take = faces.batch
    faces.batch = lambda positions: (taken.append(len(positions)), take(positions))[1]
    batches = faces.batches(BATCHES)
    next(batches)
    next(batches)  # the reader has been given the third
    batches.close()  # and is waited for
    assert taken == [3, 1, 2]


def test_where_faces_are_placed(vertices, mean_face, monkeypatch) -> None:
    def kind(where: str, device: str = "cpu") -> tuple[type, torch.dtype | None]:
        placed = store_faces(vertices, ROWS, torch.device(device), where, mean_face)
        return type(placed), getattr(getattr(placed, "faces", None), "dtype", None)

    assert kind("auto") == kind("streamed") == (StreamedFaces, None)
    assert kind("resident") == (ResidentFaces, torch.float32)
    assert kind("half") == (ResidentFaces, torch.float16)
    assert type(store_faces(vertices, ROWS[:0], CPU, "resident")) is StreamedFaces


def test_a_gpu_takes_what_fits(vertices, mean_face, monkeypatch) -> None:
    """Free memory and the copy are made up: what is decided needs no GPU."""
    size = len(ROWS) * vertices[0].nbytes
    monkeypatch.setattr(face_storage, "ResidentFaces", lambda *a: ("resident", a[3] is not None))
    gpu = torch.device("cuda", 0)

    def placed(free: int, where: str):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
        found = store_faces(vertices, ROWS, gpu, where, mean_face)
        return found if isinstance(found, tuple) else type(found)

    assert placed(2 * size, "auto") == ("resident", False)
    assert placed(2 * size - 1, "auto") is StreamedFaces
    assert placed(size, "resident") == ("resident", False)
    assert placed(size // 2, "half") == ("resident", True)
    with raises("device", "--data half"):
        placed(size - 1, "resident")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("where", ["auto", "resident", "half", "streamed"])
def test_on_a_gpu(vertices, mean_face, where) -> None:
    faces = store_faces(vertices, ROWS, torch.device("cuda", 0), where, mean_face)
    for batch, positions in zip(faces.batches(BATCHES), BATCHES, strict=True):
        assert batch.is_cuda
        truth = vertices[ROWS[positions]]
        np.testing.assert_allclose(batch.cpu(), truth, atol=0.07 if where == "half" else 0)
