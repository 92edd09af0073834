"""The bundled models on faces that no training saw: the examples, and raw ICT-FaceKit meshes."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facedis_core.data.latents import read_latents
from facedis_core.data.regions import named_region
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.distances import vertex_distance
from facedis_core.mesh.mesh import Mesh, mesh_files, read_mesh, write_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.nn.inference import network_from_model

BUNDLED = {"FACEDIS_MODEL": "ict-linear"}
UNSEEN_SEED = 4711


@pytest.fixture(scope="module")
def bundled() -> Model:
    return load_model("ict-linear")


@pytest.fixture(scope="module")
def examples(bundled: Model) -> np.ndarray:
    """(9, V, 3) mm."""
    meshes = [read_mesh(path) for path in mesh_files(weights_folder() / "examples")]
    return np.stack([bundled.preparation.apply(m, bundled.mean_face) for m in meshes])


def test_torch_and_numpy_agree_on_every_vertex(bundled: Model, examples: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    network = network_from_model(bundled).eval()
    with torch.no_grad():
        posterior = network.encode(network.normalise(torch.tensor(examples)))
        offsets = network.identity_offsets(posterior.identity.mean)
        offsets += network.expression_offsets(posterior.expression.mean, posterior.identity.mean)
        theirs = (network.mean_face + offsets * network.scale).numpy()
    latents = bundled.encode_prepared(examples)
    ours = bundled.decode_vectors(latents.identity, latents.expression)
    assert np.linalg.norm(ours - theirs, axis=-1).max() < 1e-3  # mm


def test_reconstructions_are_nearer_than_the_mean_face(
    bundled: Model, examples: np.ndarray
) -> None:
    latents = bundled.encode_prepared(examples)
    error = vertex_distance(bundled.decode_vectors(latents.identity, latents.expression), examples)
    assert error.mean() < 0.75 * bundled.distance_to_mean(examples).mean()


def test_latents_know_who_it_is(bundled: Model, examples: np.ndarray) -> None:
    """Three people with three expressions: nearest by identity latents is the same person."""
    z = bundled.encode_prepared(examples).identity
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    likeness = z @ z.T - 2 * np.eye(len(z))
    assert (likeness.argmax(axis=1) // 3 == np.arange(9) // 3).mean() >= 7 / 9


@pytest.mark.parametrize(
    ("degrees", "way", "options", "limit"),
    [(2.0, 1.0, "", 0.15), (20.0, 30.0, "--align rigid", 0.5)],
    ids=["a little", "aligned"],
)
def test_a_head_in_another_pose_is_the_same_person(
    call,
    examples: np.ndarray,
    bundled: Model,
    tmp_path: Path,
    degrees: float,
    way: float,
    options: str,
    limit: float,
) -> None:
    """Identity faces in mm, where the expressions of these people move them by several."""
    (tmp_path / "turned").mkdir()
    turn = rotation_about(np.array([0.6, -0.64, 0.48]), np.radians(degrees))
    names = [path.stem for path in mesh_files(weights_folder() / "examples")]
    for name, face in zip(names, examples, strict=True):
        mesh = Mesh((face @ turn.T + way).astype(np.float32), bundled.triangles, name)
        with (tmp_path / "turned" / f"{name}.ply").open("wb") as stream:
            write_mesh(stream, mesh)
    encoded = call(f"fd-encode turned {options}", env=BUNDLED)
    assert encoded.code == 0, encoded.err
    done = call("fd-decode --part identity --npy -o o.npy", stdin=encoded.out, env=BUNDLED)
    assert done.code == 0, done.err
    latents = bundled.encode_prepared(examples)
    resting = bundled.decode_vectors(latents.identity, latents.expression, "identity")
    narrow = named_region("narrow-face", bundled.preparation)
    moved = vertex_distance(np.load(tmp_path / "o.npy")[:, narrow], resting[:, narrow])
    assert moved.max() < limit


@pytest.fixture(scope="module")
def made_raw_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.environ.get("FACEDIS_ICT")
    if not root:
        pytest.skip("FACEDIS_ICT does not name the folder FaceXModel")
    from ict_twin import raw_meshes

    folder = tmp_path_factory.mktemp("raw")
    for subject, name in ((3, "alice"), (8, "bob")):
        for mesh in raw_meshes(Path(root), UNSEEN_SEED, subject, ["neutral", "mouth_stretch"]):
            expression = mesh.name.partition("_")[2]
            with (folder / f"{name}_{expression}.obj").open("wb") as stream:
                write_mesh(stream, mesh, ".obj")
    return folder


@pytest.fixture
def raw_faces(made_raw_faces: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.symlink_to(made_raw_faces)
    return folder


@pytest.mark.slow
def test_raw_meshes_go_through_the_pipe(
    shell, without_torch, bundled: Model, raw_faces: Path, tmp_path: Path
) -> None:
    done = shell(
        "fd-encode raw/alice_neutral.obj -o alice.npy && "
        "fd-encode raw/bob_mouth_stretch.obj | fd-transfer alice.npy - | fd-decode > out.ply",
        env=BUNDLED | without_torch,
    )
    assert done.code == 0, done.err
    assert done.err == ""
    out = read_mesh(tmp_path / "out.ply")
    assert len(out.vertices) == bundled.config.vertices
    assert np.array_equal(out.triangles, bundled.triangles)
    assert np.isfinite(out.vertices).all()
    alice = bundled.preparation.apply(read_mesh(raw_faces / "alice_neutral.obj"), None)
    opened = np.linalg.norm(out.vertices - alice, axis=1)
    assert vertex_distance(out.vertices, alice) < 15  # a face, and
    assert opened.max() > 10  # with an open mouth


@pytest.mark.slow
def test_a_raw_mesh_and_its_prepared_form_have_the_same_latents(
    call, bundled: Model, raw_faces: Path, tmp_path: Path
) -> None:
    raw = read_mesh(raw_faces / "bob_neutral.obj")
    prepared = bundled.preparation.apply(raw, None)
    with (tmp_path / "prepared.ply").open("wb") as stream:
        write_mesh(stream, Mesh(prepared, bundled.triangles, "prepared"))
    done = call("fd-encode raw/bob_neutral.obj prepared.ply -o both.npy", env=BUNDLED)
    assert done.code == 0, done.err
    latents = read_latents(str(tmp_path / "both.npy"))
    assert latents.identity[0] == pytest.approx(latents.identity[1], abs=1e-5)
    assert latents.expression[0] == pytest.approx(latents.expression[1], abs=1e-5)


def test_the_generic_mesh_with_quads_and_texture_is_a_face(shell) -> None:
    root = os.environ.get("FACEDIS_ICT")
    if not root:
        pytest.skip("FACEDIS_ICT does not name the folder FaceXModel")
    done = shell('fd-encode "$FACEDIS_ICT/generic_neutral_mesh.obj" | fd-decode', env=BUNDLED)
    assert done.code == 0, done.err
    assert done.out.startswith(b"ply\n")


@pytest.fixture(scope="module")
def benchmark_people(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test people of the open benchmark, and one other, without whom it is no set.

    A folder with a face set for each bundled model, of its topology.
    """
    if not os.environ.get("FACEDIS_ICT"):
        pytest.skip("FACEDIS_ICT does not name the folder FaceXModel")
    folder = tmp_path_factory.mktemp("benchmark")
    prepare = 'fd-prep ict "$FACEDIS_ICT" --exclude others.txt'
    script = (
        'fd-prep ict "$FACEDIS_ICT" --dry-run > count.txt && '
        "awk '/^subject/ && $4 {if (n++) print $2}' count.txt > others.txt && "
        f"{prepare} -o ict-linear.safetensors && "
        f"{prepare} --simplify 9000 -o ict-pointnet.safetensors"
    )
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    subprocess.run(
        ["sh", "-c", script], cwd=folder, check=True, capture_output=True, env=environment
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ict-linear", "ict-pointnet"])
def test_a_bundled_model_has_the_numbers_of_its_card(
    call, benchmark_people: Path, tmp_path: Path, name: str
) -> None:
    done = call(f"fd-metrics {benchmark_people}/{name}.safetensors -m {name} --json -o found.json")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "found.json").read_text())["model"]
    card = (weights_folder() / f"{name}.md").read_text("utf-8")
    (row,) = re.findall(r"^\| this model \|(.*)\|$", card, re.MULTILINE)
    told = [float(cell) for cell in row.split("|")]
    measured = [found[key]["mean"] for key in ("e_rec", "e_dis", "avd_neu")]
    measured.append(found["rank1_cosine_accuracy"])
    assert told == pytest.approx(measured, abs=1e-3)
    stored = load_model(name).metrics["test"]
    for key in ("e_rec", "e_dis", "avd_neu"):
        assert stored[key]["mean"] == pytest.approx(found[key]["mean"], rel=1e-3)
    assert load_model(name).id in card
