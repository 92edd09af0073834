"""docs/scripts/flame_model.py, on a made-up file in the layout of FLAME's."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from synthetic import grid_mesh

from facedis_core.geometry.distances import vertex_distances
from facedis_core.mesh.mesh import Mesh, write_mesh
from facedis_core.model.model_file import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "scripts"))
from flame_model import main

VERTICES, TRIANGLES = grid_mesh(12)
SHAPES, EXPRESSIONS = 300, 20


def components() -> np.ndarray:
    """(V, 3, 320) metres a standard deviation: 100 that count, expressions among them."""
    rng = np.random.default_rng(0)
    size = np.r_[np.geomspace(3, 0.1, SHAPES), np.geomspace(2, 0.1, EXPRESSIONS)] / 1000
    axes = np.linalg.qr(rng.normal(size=(3 * len(VERTICES), 320)))[0]
    scaled: np.ndarray = (axes * size * np.sqrt(len(VERTICES))).reshape(-1, 3, 320)
    return scaled


def convert(*options: str) -> None:
    """Run the script on `generic_model.pkl`."""
    main(["generic_model.pkl", "-o", "flame.safetensors", *options])


@pytest.fixture
def flame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Content of `generic_model.pkl`, with an object of chumpy as the released file has."""

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x, self._dirty_vars = x, {"x"}

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module = types.ModuleType("chumpy.ch")
    vars(module)["Ch"] = Ch
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    monkeypatch.chdir(tmp_path)
    found = {
        "v_template": VERTICES / 1000,
        "shapedirs": Ch(components()),
        "f": TRIANGLES.astype(np.uint32),
        "J_regressor": csc_matrix(np.eye(5)),
        "bs_type": "lrotmin",
    }
    Path("generic_model.pkl").write_bytes(pickle.dumps(found, protocol=2))
    return found


def test_faces_of_the_model_come_back_split(flame: dict[str, Any], call: Any) -> None:
    convert("--residual", "1e-4")
    model = load_model("flame.safetensors")
    assert (model.config.identity, model.config.expression) == (SHAPES, EXPRESSIONS)
    rng = np.random.default_rng(1)
    beta, psi = rng.normal(size=(SHAPES, 1)), rng.normal(size=(EXPRESSIONS, 1))
    shapes, expressions = np.split(1000 * components(), [SHAPES], axis=2)
    identity = VERTICES + (shapes @ beta)[..., 0]
    face = identity + (expressions @ psi)[..., 0]
    write_mesh("face.ply", Mesh(face.astype(np.float32), TRIANGLES, "face"))
    latents = model.encode_prepared(face[None].astype(np.float32))
    np.testing.assert_allclose(latents.identity[0], beta[:, 0], atol=0.02)
    np.testing.assert_allclose(latents.expression[0], psi[:, 0], atol=0.02)
    for part, truth in (("full", face), ("identity", identity)):
        assert vertex_distances(model.decode(latents, part)[0], truth).max() < 0.02
    np.testing.assert_allclose(model.latent_covariance("identity"), np.eye(SHAPES), atol=0.01)
    # a scan of the template's registration, in metres, is a face as any other
    assert call("fd-encode face.ply -m flame.safetensors -o face.npy").code == 0
    assert call("fd-decode face.npy -m flame.safetensors -o again.ply").code == 0


def test_the_most_probable_latents(flame: dict[str, Any]) -> None:
    """Those that make |x - z B|^2 / residual + |z|^2 least, by the normal equations."""
    convert("--identity", "5", "--expression", "3", "--residual", "0.5")
    model = load_model("flame.safetensors")
    kept = [*range(5), *range(SHAPES, SHAPES + 3)]
    basis = 1000 * components()[..., kept].reshape(-1, 8)
    offset = np.random.default_rng(2).normal(size=VERTICES.shape)
    expected = np.linalg.solve(basis.T @ basis + 0.5 * np.eye(8), basis.T @ offset.ravel())
    latents = model.encode_prepared((VERTICES + offset)[None].astype(np.float32))
    found = np.r_[latents.identity[0], latents.expression[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


def test_other_files_are_refused_and_run_nothing(flame: dict[str, Any]) -> None:
    for change, told in (
        ({"v_template": Harm()}, "is no part of an array"),
        ({"shapedirs": components()[..., :SHAPES]}, "with 300 shape components"),
        ({"shapedirs": csc_matrix(np.eye(4))}, "no model of FLAME|have shapes"),
    ):
        Path("generic_model.pkl").write_bytes(pickle.dumps(flame | change, protocol=2))
        with pytest.raises(SystemExit, match=told) as stopped:
            convert()
        (line,) = str(stopped.value).splitlines()
        assert line.startswith("flame_model.py: generic_model.pkl")
    Path("generic_model.pkl").write_bytes(b"no pickle")
    with pytest.raises(SystemExit, match="no model of FLAME"):
        convert()
    with pytest.raises(SystemExit) as stopped:
        convert("--residual", "0")
    assert stopped.value.code == 2
    assert not list(Path().glob("*.safetensors")) and not Path("harmed").exists()
