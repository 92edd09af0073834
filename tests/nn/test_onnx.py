"""The export of docs/python.md in onnxruntime, against the NumPy forward pass."""

from pathlib import Path

import numpy as np
import pytest
from synthetic import random_model

from facedis_core.model.model_file import load_model

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
MODELS = {
    "pointnet": random_model(identity=5, expression=4, channels=(8, 8, 16)),
    "linear": random_model(identity=5, expression=4, components=30),
    "bilinear": random_model(identity=5, expression=4, components=30, bilinear=3),
    "ict-pointnet": None,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter's own code
@pytest.mark.parametrize("name", MODELS)
def test_exported_networks_agree_with_numpy(name: str, tmp_path: Path, monkeypatch) -> None:
    block = PAGE.read_text("utf-8").partition("\n## ONNX\n")[2].partition("```py\n")[2]
    model = MODELS[name] or load_model(name)
    if MODELS[name] is not None:
        block = block.replace('load_model("ict-pointnet")', "given_model")
        assert "given_model" in block
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(block.partition("```")[0], {"given_model": model})
    encoder, decoder = (
        onnxruntime.InferenceSession(f"demo/{half}.onnx") for half in ("encoder", "decoder")
    )
    rng = np.random.default_rng(0)
    for rows in (1, 2, 7):
        faces = model.mean_face + rng.normal(0, 3, (rows, *model.mean_face.shape))
        faces = faces.astype(np.float32)
        identity, expression = encoder.run(["identity", "expression"], {"faces": faces})
        expected = model.encode_prepared(faces)
        np.testing.assert_allclose(identity, expected.identity, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(expression, expected.expression, rtol=1e-4, atol=1e-4)
        (decoded,) = decoder.run(["faces"], {"identity": identity, "expression": expression})
        apart = np.linalg.norm(decoded - model.decode(expected), axis=-1)
        assert apart.max() < 1e-3  # mm
