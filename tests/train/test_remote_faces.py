"""Training on a set by URL: the bytes of one on a disk; a storage that is lost ends it gently."""

import pytest
import synthetic

from facedis_core.io.remote_tensors import RemoteRows
from facedis_core.model.model_file import load_model
from facedis_core.train.face_storage import StreamedFaces

fsspec = pytest.importorskip("fsspec")
SMALL = "--set identity=4 --set expression=3 --set batch=6 --steps 8 --seed 3"


@pytest.fixture
def storage(tmp_path):
    system = fsspec.filesystem("memory")
    system.store.clear()
    path = synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())
    system.pipe("/data/set.safetensors", path.read_bytes())
    yield system
    system.store.clear()


@pytest.mark.parametrize("options", ["--neutrals", "--recipe bilinear --set points=none"])
def test_the_bytes_of_a_local_training(call, storage, tmp_path, options):
    train = f"fd-train {{}} --data streamed {options} {SMALL} -o {{}}.safetensors"
    for place, name in (("set.safetensors", "one"), ("memory://data/set.safetensors", "two")):
        done = call(train.format(place, name))
        assert done.code == 0, done.err
    for suffix in ("safetensors", "jsonl"):
        one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_a_set_that_becomes_another_one(call, storage, tmp_path, monkeypatch):
    batch, batches = StreamedFaces.batch, []

    def changing(faces, positions):
        batches.append(positions)
        if len(batches) == 6:
            changed = synthetic.face_set()
            changed.vertices[0] += 1
            path = synthetic.write_face_set(tmp_path / "other.safetensors", changed)
            storage.pipe("/data/set.safetensors", path.read_bytes())
        return batch(faces, positions)

    monkeypatch.setattr(StreamedFaces, "batch", changing)
    train = f"fd-train memory://data/set.safetensors --data streamed --neutrals {SMALL}"
    done = call(f"{train} -o m.safetensors")
    assert (done.code, done.kind) == (3, "file-unreadable")
    last = done.err.splitlines()[-1]
    assert "has become another file" in last and "with --resume" in last
    # nothing of the other one was learnt: it goes on as if nothing had happened
    storage.pipe("/data/set.safetensors", (tmp_path / "set.safetensors").read_bytes())
    assert call(f"{train} -o m.safetensors --resume").code == 0
    assert call(f"fd-train set.safetensors --neutrals {SMALL} -o whole.safetensors").code == 0
    whole, broken = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "m"))
    assert whole == broken


def test_pre_training_of_a_discriminator(call, storage, tmp_path):
    words = "--set discriminator_batch_norm=true --steps 1"
    for place, storing, name in (
        ("set.safetensors", "auto", "one"),
        ("memory://data/set.safetensors", "streamed", "two"),
        ("set.safetensors", "half", "three"),
    ):
        line = f"fd-pretrain-disc {place} --data {storing} {words} -o {name}.safetensors"
        assert call(line).code == 0
    one, two, three = (
        (tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two", "three")
    )
    assert one == two != three


def test_a_lost_storage_leaves_a_checkpoint(call, storage, tmp_path, monkeypatch):
    batch, batches = StreamedFaces.batch, []

    def unreliable(faces, positions):
        if isinstance(faces.vertices, RemoteRows):  # not the neutrals, which are estimates
            batches.append(positions)
        if len(batches) == 6:
            storage.store.pop("/data/set.safetensors", None)
        return batch(faces, positions)

    monkeypatch.setattr(StreamedFaces, "batch", unreliable)
    train = f"fd-train memory://data/set.safetensors --data streamed {SMALL}"
    lost = call(f"{train} -o m.safetensors")
    assert lost.code == 3
    last = lost.err.splitlines()[-1]
    assert "data/set.safetensors does not exist" in last and "with --resume" in last
    assert load_model(tmp_path / "m.safetensors").history
    assert (tmp_path / "m.state.safetensors").exists()
    storage.pipe("/data/set.safetensors", (tmp_path / "set.safetensors").read_bytes())
    resumed = call(f"{train} -o m.safetensors --resume")
    assert resumed.code == 0 and "resuming after step 5 of 8" in resumed.err
    # on a disk or not, it is the same run
    assert call(f"fd-train set.safetensors {SMALL} -o whole.safetensors").code == 0
    whole, broken = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "m"))
    assert whole == broken
