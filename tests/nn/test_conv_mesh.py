"""CoMA: its forward pass against a slow twin with dense matrices, its losses, and model files."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from mesh_twin import SlowMeshes
from raising import raises
from synthetic import face_set, random_model, write_face_set
from trainers import four_faces, objective_of, trained_in_parts

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.data.latents import read_latents, write_latents
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.mesh.mesh import Mesh, write_mesh
from facedis_core.model.model_file import load_model, write_model
from facedis_core.nn.conv_mesh import ConvMeshAutoEncoder
from facedis_core.nn.mesh_layers import SparseMatrix, chebyshev
from facedis_core.pipeline.combine import interpolate, transfer
from facedis_core.pipeline.encode import MeshEncoder
from facedis_core.train.plan import PretrainingPlan
from facedis_core.train.recipe import load_recipe
from facedis_core.train.run import RunFiles
from facedis_core.train.training import train
from facedis_core.viewer.faces import load_faces
from facedis_core.viewer.live_model import LiveModel

FACES = face_set(size=8)
SELDOM = {"evaluate_every": 99}
SHORT = {"batch": 4, "steps": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models by what they make of a face."""
    found = {}
    for target in ("self", "neutral", "no ReLU"):
        path = tmp_path_factory.mktemp("conv") / f"{target}.safetensors"
        size = {"identity": 5} if target == "neutral" else {"expression": 6}
        changes = {**SHORT, **size, "latent_relu": target != "no ReLU"}
        train(
            FACES,
            "conv-mesh-ae",
            changes=changes,
            neutrals=target == "neutral",
            output=path,
            **SELDOM,
        )
        found[target] = load_model(path)
    return found


@pytest.mark.parametrize("target", ["self", "neutral", "no ReLU"])
def test_slow_twin_numpy_and_torch(models, target):
    model, faces = models[target], FACES.read(FACES.rows(TEST)[:3])
    predicted = model_predictor(model)(faces)
    assert (predicted.reconstruction is None) == (target == "neutral")
    assert (predicted.identity is None) == (target != "neutral")
    full = predicted.identity if target == "neutral" else predicted.reconstruction
    latents = model.encode_prepared(faces)
    assert latents.sizes == ((5, 0) if target == "neutral" else (0, 6))
    z = np.hstack([latents.identity, latents.expression])
    assert (z >= 0).all() == (target != "no ReLU") and z.any()
    with torch.no_grad():
        in_torch = model.to_torch()(torch.tensor(faces))
    twin = SlowMeshes(model, FACES.vertices[FACES.rows(TRAIN)])
    for row, face in enumerate(faces):
        slow_z = twin.encoded("encoder", face)
        slow_z = slow_z if target == "no ReLU" else np.maximum(slow_z, 0)
        slow = twin.decoded("decoder", slow_z)
        np.testing.assert_allclose(z[row], slow_z, atol=1e-4)
        np.testing.assert_allclose(full[row], slow, atol=1e-3)
    np.testing.assert_allclose(in_torch.reconstruction, full, atol=1e-3)


def test_both_forms_of_the_convolution_and_their_gradients():
    rng = torch.Generator().manual_seed(0)
    row, column = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 2, 2, 1])
    value = torch.randn(4, generator=rng)
    matrix, dense = SparseMatrix(row, column, value, (4, 4)), torch.zeros(4, 4)
    dense[row, column] = value
    for inputs, outputs in ((2, 5), (5, 2)):
        x = torch.randn(4, 3, inputs, generator=rng, requires_grad=True)
        weight = torch.randn(4, inputs, outputs, generator=rng, requires_grad=True)
        terms = [torch.eye(4), dense]
        terms += [2 * dense @ dense - torch.eye(4)]
        terms += [2 * dense @ terms[2] - dense]
        slow = sum(
            torch.einsum("vw,wbi,io->vbo", t, x, w) for t, w in zip(terms, weight, strict=True)
        )
        fast = chebyshev(matrix, x, weight)
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
        upstream = torch.randn(slow.shape, generator=rng)
        for ours, theirs in zip(
            torch.autograd.grad((fast * upstream).sum(), (x, weight)),
            torch.autograd.grad((slow * upstream).sum(), (x, weight)),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_the_published_sizes_at_the_vertices_of_flame():
    recipe = load_recipe("conv-mesh-ae", neutrals=False)
    config = recipe.model_config(5023).on_meshes((1256, 314, 79, 20), (1, 1, 1, 1))
    network = ConvMeshAutoEncoder(config, torch.zeros(5023, 3), torch.zeros(3), 1.0)
    shapes = config.weight_shapes()
    assert {k: tuple(v.shape) for k, v in network.named_parameters()}.items() <= shapes.items()
    assert shapes["encoder.dense.weight"] == (8, 20 * 32)
    assert shapes["decoder.convolutions.0.weight"] == (6, 32, 32)
    assert shapes["decoder.output.weight"] == (6, 16, 3)
    deviations = [p.std() for name, p in network.named_parameters() if name.endswith("weight")]
    assert all(0.08 < deviation < 0.1 for deviation in deviations)  # 0.1, cut at twice of it
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    assert len(biases) == 2 * 5 and all((bias == 0.1).all() for bias in biases)
    assert sum(p.numel() for p in network.parameters()) == 30_056


def test_the_losses():
    for target in ("self", "neutral"):
        changes = {"target": target, "neutral": 2.0, "reconstruction": 3.0}
        objective = objective_of(FACES, "conv-mesh-ae", **changes)
        network = objective.network
        batch = four_faces(FACES, network, 0.0)
        faces, known = batch.faces, batch.neutrals
        (turn,) = objective.turns(batch)
        posterior = network.encode(faces)
        z = getattr(posterior, "identity" if target == "neutral" else "expression").mean
        found = network.decoder(z, network.meshes)
        truth, weight = (faces, 3.0) if target == "self" else (known.faces, 3.0 * 2.0 * 0.5)
        found = found if target == "self" else found[[0, 3]]
        error = ((found * network.deviation + network.normalised_mean_face) - truth).abs()
        torch.testing.assert_close(turn.total, weight * (error / network.deviation).mean())
        decayed, others = objective.parameters("auto_encoder")
        dense = [*network.encoder.dense.parameters(), *network.decoder.dense.parameters()]
        assert {id(each) for each in decayed} == {id(each) for each in dense}
        assert len(decayed) + len(others) == len(list(network.parameters()))


def test_it_learns():
    changes = {"optimizer": "adam", "learning_rate": 0.005, "weight_decay": 0, "epochs": 10}
    records = []
    train(
        FACES, "conv-mesh-ae", changes={**changes, "batch": 7}, on_record=records.append, **SELDOM
    )
    assert records[-1]["reconstruction"] < 0.99 * records[0]["reconstruction"]
    assert set(records[-1]["test"]) == {"e_rec"}


def test_it_resumes_to_the_same_bytes(tmp_path):
    changes = {"expression": 6, "batch": 7, "epochs": 3}
    whole = trained_in_parts(tmp_path, FACES, "conv-mesh-ae", changes, neutrals=False)
    before = load_model(whole).weights
    # two steps of the weight decay alone: w - 0.1 v with v = 0.9 v + 0.5 w
    decay = {"reconstruction": 0, "learning_rate": 0.1, "weight_decay": 0.5, "steps": 2}
    decay["learning_rate_factor"] = 1
    further = train(FACES, "conv-mesh-ae", changes={**changes, **decay}, init=whole)
    for name, weights in further.weights.items():
        left = 0.95 - 0.1 * (0.9 * 0.5 + 0.5 * 0.95) if ".dense." in name else 1
        np.testing.assert_allclose(weights, left * before[name], rtol=1e-5, err_msg=name)


def test_a_copy_is_where_the_network_is():
    """As an average of weights (`weight_average`) is made on a GPU; meta stands for one."""
    network = objective_of(FACES, "conv-mesh-ae").network.double().to("meta")
    copied = deepcopy(network).state_dict()
    for name, tensor in network.state_dict().items():
        assert (copied[name].device, copied[name].dtype) == (tensor.device, tensor.dtype), name


def test_what_one_half_cannot_do(models):
    faces = FACES.read(FACES.rows(TEST)[:2])
    for target, part in (("self", "identity"), ("neutral", "expression")):
        latents = models[target].encode_prepared(faces, ["ann", "bob"])
        with raises("part-missing", f"no {part} latents"):
            models[target].decode(latents, part)
        with raises("part-missing", f"have no {part}"):
            transfer(latents, latents)
        between = interpolate(latents[[0]], latents[[1]], steps=3)
        assert between.sizes == latents.sizes and len(between) == 3


def test_it_learns_estimates_of_the_neutrals():
    changes = {**SHORT, "target": "neutral", "pseudo_neutral": "auto", "steps": 1}
    records = []
    model = train(FACES, "conv-mesh-ae", changes=changes, on_record=records.append, **SELDOM)
    assert records[-1]["total"] == records[-1]["neutral"] > 0
    assert model.recipe["pseudo_neutral"] == "medoid"


def test_what_it_cannot_train_on():
    with raises("option-conflict", "--neutrals"):
        train(FACES, "conv-mesh-ae", changes={**SHORT, "target": "neutral"})
    plan = PretrainingPlan(face_set=FACES, recipe="conv-mesh-ae")
    files = RunFiles("disc.safetensors", None, None, None)
    with raises("option-conflict", "losses of its own"):
        plan.prepare(files, torch.device("cpu"))
    with raises("option-conflict", "losses of its own"):
        train(FACES, "conv-mesh-ae", changes=SHORT, discriminator="disc.safetensors")


def test_commands_say_what_one_half_cannot_do(models, call, tmp_path):
    write_face_set(tmp_path / "set.safetensors", FACES)
    found = {}
    for target, keys in (("self", {"e_rec"}), ("neutral", {"e_dis", "avd_neu"})):
        write_model(tmp_path / f"{target}.safetensors", models[target])
        line = f"fd-metrics set.safetensors -m {target}.safetensors --baselines --json"
        report = json.loads(call(line).out)
        assert {"e_rec", "e_dis", "avd_neu", "e_exp"} & report["model"].keys() == keys
        assert "pca" in report["baselines"] and "flame_like" not in report["baselines"]
        encoded = call(f"fd-encode set.safetensors -m {target}.safetensors -o {target}.npy")
        assert encoded.code == 0, encoded.err
        found[target] = [
            "fd-transfer {0}.npy {0}.npy -o out.npy",
            "fd-transfer face.ply face.ply -m {0}.safetensors -o out.ply",
            "fd-metrics set.safetensors -m {0}.safetensors --samples 5",
        ]
    mesh = Mesh(FACES.vertices[0], FACES.triangles, "face")
    write_mesh(tmp_path / "face.ply", mesh)
    write_latents(tmp_path / "few.npy", read_latents(tmp_path / "self.npy")[::4])
    found["self"] += [
        "fd-recognize few.npy {0}.npy -m {0}.safetensors --pattern '{{subject}}/{{expression}}'",
        "fd-decode {0}.npy -m {0}.safetensors --part identity -o out/",
    ]
    found["self"].append("fd-interp {0}.npy {0}.npy --part identity -o out.npy")
    found["neutral"] += [
        "fd-export {0}.npy -m {0}.safetensors --targets directions -o out/",
        "fd-interp {0}.npy {0}.npy --part expression -o out.npy",
        "fd-sample {0}.npy -n 2 --of {0}.npy -o out.npy",
    ]
    for target, lines in found.items():
        for line in lines:
            result = call(line.format(target))
            assert (result.code, result.kind) == (3, "part-missing"), (line, result.err)
            assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_a_report_shows_the_halves_that_there_are(models, call, tmp_path):
    write_face_set(tmp_path / "set.safetensors", FACES)
    write_model(tmp_path / "whole.safetensors", random_model(size=8, identity=3, expression=2))
    for target in ("self", "neutral"):
        write_model(tmp_path / f"{target}.safetensors", models[target])
    line = "fd-report set.safetensors --no-baselines --size 40 -o r.html --figures r --force"
    found = {}
    for names in ("neutral", "self neutral whole"):
        given = " ".join(f"-m {name}.safetensors" for name in names.split())
        done = call(f"{line} {given}")
        assert done.code == 0, done.err
        page = (tmp_path / "r.html").read_text()
        assert "neutral has no expression latents" in page
        payload = json.loads(page.split('id="viewer-data">')[1].split("</script>")[0])
        predicted = payload["faces"][0]["predicted"]
        found[names] = (
            {path.stem.split("-", 1)[1] for path in (tmp_path / "r").glob("*.png")},
            [sorted(key for key, part in each.items() if part) for each in predicted],
            [group["label"] for group in payload["groups"]],
        )
    figures, parts, groups = found["neutral"]
    assert figures == {"mean-errors", "errors-identity-neutral"}
    assert (parts, groups) == ([["identity"]], ["by identity, neutral"])
    figures, parts, groups = found["self neutral whole"]
    assert figures == {
        *("mean-errors", "identities", "transfer-whole", "interpolation-whole"),
        *("errors-full-self", "errors-full-whole", "errors-expression-whole"),
        *("errors-identity-neutral", "errors-identity-whole"),
    }
    assert parts == [["full"], ["identity"], ["full", "identity"]]
    assert groups[:2] == ["by reconstruction, self", "by identity, neutral"]
    unlabelled = replace(FACES, neutrals_eval=np.full_like(FACES.neutrals_eval, np.nan))
    write_face_set(tmp_path / "set.safetensors", unlabelled)
    refused = call(f"{line} -m neutral.safetensors")
    assert (refused.code, refused.kind) == (3, "neutral-missing"), refused.err


@pytest.mark.parametrize("target", ["self", "neutral"])
def test_a_page_mixes_the_half_that_there_is(models, target, tmp_path):
    model, faces = models[target], FACES.read(FACES.rows(TEST)[:2])
    paths = [tmp_path / "a.ply", tmp_path / "b.ply"]
    for path, vertices in zip(paths, faces, strict=True):
        with path.open("wb") as stream:
            write_mesh(stream, Mesh(vertices, FACES.triangles, path.stem, unit_mm=1.0), ".ply")
    encoder = MeshEncoder(model)
    live = LiveModel(encoder, load_faces(encoder, list(map(str, paths))))
    sizes = {part: len(words) for part, words in live.description()["directions"].items()}
    own, other = ("identity", "expression") if target == "neutral" else ("expression", "identity")
    assert sizes == {own: getattr(model.config, own), other: 0}
    first, second = (live.face(number).as_json() for number in ("0", "1"))
    said = {
        **{"first": first, "second": second, "share": {own: 0.25, other: 1}, "strength": 1},
        **{"moves": {own: [1, -2], other: []}, "blendshapes": {}, "part": "full", "original": ""},
    }
    z = getattr(model.encode_prepared(faces), own)
    moved = 0.75 * z[:1] + 0.25 * z[1:] + [[1, -2]] @ live.directions[own].steps[:2]
    rows = {own: moved.astype(np.float32), other: z[:1, :0]}
    expected = model.decode_vectors(rows["identity"], rows["expression"])[0]
    shown = live.vertices(live.mixture(json.dumps(said).encode()))
    np.testing.assert_allclose(shown, expected, atol=1e-3)
