"""A network of somebody else's: one row in the table, and everything else knows it."""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from conftest import Run
from raising import raises

from facedis_core.data.latents import read_latents
from facedis_core.errors import ErrorCode
from facedis_core.model import networks
from facedis_core.model.config import PointNetConfig
from facedis_core.model.model_file import load_model, write_model
from facedis_core.model.networks import has_network, network_names, network_of, register_network
from facedis_core.nn.inference import network_from_model
from facedis_core.train.checkpoint import export_model
from facedis_core.train.recipe import load_recipe
from facedis_core.train.setup import build_auto_encoder, training_frame

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "own_network.py"
sys.path.append(str(SCRIPT.parent))

from own_network import (  # noqa: E402 - its folder had to be on the path
    ONE_MATRIX,
    OneMatrixAutoEncoder,
    OneMatrixConfig,
)

FACES = synthetic.face_set()


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(networks, "_NETWORKS", dict(networks._NETWORKS))
    networks._register_entry_points.cache_clear()
    yield
    networks._register_entry_points.cache_clear()


def test_a_third_network_is_trained_written_and_read_like_the_others(tmp_path: Path) -> None:
    register_network(ONE_MATRIX)
    recipe = load_recipe("linear", neutrals=False, changes=["network=one-matrix", "identity=5"])
    frame = training_frame(FACES, recipe)
    network = build_auto_encoder(recipe, frame, FACES, seed=0)
    assert isinstance(network, OneMatrixAutoEncoder)
    kept = {"reach_mm": frame.reach_mm, "recipe": {}, "metrics": {}, "history": []}
    path = tmp_path / "m.safetensors"
    with path.open("w+b") as stream:
        write_model(stream, export_model(network, FACES.preparation, **kept))
    model = load_model(path)
    assert model.config == OneMatrixConfig(36, 5, 64)
    again = network_from_model(model)
    assert isinstance(again, OneMatrixAutoEncoder)
    faces = torch.tensor(FACES.vertices[:4])
    latents = model.encode_prepared(FACES.vertices[:4])
    with torch.no_grad():
        expected = again.encode(again.normalise(faces)).identity.mean
        offsets = again.identity_offsets(expected) * again.scale
    np.testing.assert_allclose(latents.identity, expected.numpy(), atol=1e-5)
    found = model.decode_vectors(latents.identity, latents.expression, "identity", offsets=True)
    np.testing.assert_allclose(found, offsets.numpy(), atol=1e-3)


def test_names_and_fields_are_taken_once() -> None:
    for _ in range(2):
        register_network(ONE_MATRIX)
    assert network_names() == [
        "pointnet",
        "linear",
        "conv-mesh-ae",
        "kacem",
        "di-mesh-encoder",
        "jiang",
        "one-matrix",
    ]
    assert network_of(OneMatrixConfig(36, 5, 64)) is ONE_MATRIX
    with pytest.raises(ValueError, match="one-matrix"):
        register_network(replace(ONE_MATRIX, name="other"))
    with pytest.raises(ValueError, match="pointnet"):
        register_network(replace(ONE_MATRIX, name="other", config=PointNetConfig))


def installed(folder: Path, entry: str) -> Path:
    """A folder with an installed package whose entry point is this line."""
    metadata = folder / "somebodys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[facedis.networks]\n{entry}\n")
    return folder


@pytest.mark.slow
def test_commands_know_the_network_of_an_installed_package(shell: Run, tmp_path: Path) -> None:
    """With the blocks of docs/python.md: the row of the table, the entry point, the recipe."""
    page = (SCRIPT.parents[1] / "python.md").read_text("utf-8")
    blocks = page.partition("\n## A network of your own\n")[2].split("```")[1::2]
    row, project, recipe = (block.partition("\n")[2] for block in blocks)
    assert SCRIPT.read_text("utf-8").endswith(row)
    (group,) = tomllib.loads(project)["project"]["entry-points"].values()
    ((name, value),) = group.items()
    packages = installed(tmp_path / "packages", f"{name} = {value}")
    shutil.copy(SCRIPT, packages)
    synthetic.write_face_set(tmp_path / "set.safetensors", FACES)
    (tmp_path / "mine.toml").write_text(f"{recipe}identity = 5\nexpression = 4\nsteps = 3\n")
    known = {"PYTHONPATH": str(packages)}
    line = (
        "fd-train set.safetensors --recipe mine.toml -o m.safetensors"
        " && fd-encode set.safetensors -m m.safetensors --jobs 2 -o z.npy"
        " && fd-decode z.npy -m m.safetensors -o faces/"
        " && fd-metrics set.safetensors -m m.safetensors --json -o r.json"
    )
    done = shell(line, env=known)
    assert done.code == 0, done.err
    assert read_latents(tmp_path / "z.npy").identity.shape == (40, 5)
    assert json.loads((tmp_path / "r.json").read_text())["model"]["e_rec"]["n"] == 12
    unknown = shell("fd-encode set.safetensors -m m.safetensors -o other.npy")
    assert (unknown.code, len(unknown.err.splitlines())) == (3, 1)


def test_a_model_of_an_unknown_network_says_that_its_package_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = synthetic.random_model(identity=5, expression=4, channels=(8, 16))
    write_model(path, replace(model, recipe={"network": "deep"}))
    del networks._NETWORKS["pointnet"]  # as in an interpreter without the package
    with raises(ErrorCode.METADATA, match=r"m\.safetensors.*'deep'.*linear.*install.*networks"):
        load_model(path)


@pytest.mark.parametrize("value", ["nothing:HERE", "json:dumps", "json:none"])
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.syspath_prepend(str(installed(tmp_path, f"broken = {value}")))
    with raises(ErrorCode.NETWORK_BROKEN, match=f"'broken'.*{value}"):
        has_network("broken")
