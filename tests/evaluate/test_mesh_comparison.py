"""Folders and pipes of predicted meshes against true ones."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import save_mesh
from raising import raises
from synthetic import grid_mesh

from facedis_core.evaluate import metrics
from facedis_core.evaluate.face_labels import read_labels
from facedis_core.evaluate.mesh_comparison import compare_meshes, find_meshes
from facedis_core.mesh.mesh import Mesh, write_mesh

PEOPLE = ("ann", "bob", "cy")
KINDS = ("neutral", "smile", "angry")


@pytest.fixture
def folders(tmp_path):
    """True and predicted faces of three people, and their labels."""
    rng = np.random.default_rng(5)
    mean, _ = grid_mesh()
    truth, predicted, lines = {}, {}, ["name,subject,expression"]
    for person in PEOPLE:
        shape = mean + rng.normal(0, 3, mean.shape)
        for kind in KINDS:
            name = f"{person}/{kind}"
            truth[name] = (shape + rng.normal(0, 2, mean.shape) * (kind != "neutral")).astype("f4")
            predicted[name] = (shape + rng.normal(0, 1, mean.shape)).astype("f4")
            save_mesh(tmp_path / "truth" / f"{name}.ply", truth[name])
            save_mesh(tmp_path / "predicted" / f"{name}.ply", predicted[name])
            lines.append(f"{name},{person},{kind}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines))
    return SimpleNamespace(
        truth=truth,
        predicted=predicted,
        paths=(str(tmp_path / "truth"), str(tmp_path / "predicted")),
        labels=str(labels),
    )


def test_reconstructions_and_identity_faces(folders, tmp_path):
    identity = {
        name: folders.truth[f"{name.partition('/')[0]}/neutral"] + np.float32([0, 0, place])
        for place, name in enumerate(folders.truth)
    }
    for name, vertices in identity.items():
        save_mesh(tmp_path / "identity" / f"{name}.ply", vertices)
    both = compare_meshes(*folders.paths, folders.labels, identity=str(tmp_path / "identity"))
    found = both.evaluation
    alone = compare_meshes(*folders.paths).evaluation
    assert found.metrics["e_rec"] == alone.metrics["e_rec"]
    places = {name: place for place, name in enumerate(folders.truth)}
    expected = [places[name] for name in both.names]
    np.testing.assert_allclose(found.per_mesh["avd_neu"], expected, atol=1e-5)
    offsets = [
        np.stack([folders.predicted[f"{p}/{k}"] - identity[f"{p}/{k}"] for p in PEOPLE])
        for k in KINDS
    ]
    e_exp = [metrics.FaceSpread.of(faces).std() for faces in offsets]
    assert found.metrics["e_exp"] == pytest.approx(metrics.summarize(e_exp)._asdict(), rel=1e-5)
    only = compare_meshes(
        folders.paths[0], None, folders.labels, identity=str(tmp_path / "identity")
    ).evaluation.metrics
    assert only["avd_neu"] == found.metrics["avd_neu"]
    assert not {"e_rec", "e_exp"} & set(only)


def test_a_region(folders, tmp_path):
    region = np.arange(36) < 10
    np.save(tmp_path / "region.npy", region)
    matched = []
    found = compare_meshes(
        *folders.paths,
        folders.labels,
        region=str(tmp_path / "region.npy"),
        on_match=lambda *arguments: matched.append(arguments),
    )
    expected = [
        metrics.vertex_distance(folders.predicted[name][region], folders.truth[name][region])
        for name in found.names
    ]
    np.testing.assert_allclose(found.evaluation.per_mesh["e_rec"], expected)
    assert found.evaluation.metrics["rank1_probes"] == 6
    ((pairs, mask),) = matched
    assert pairs == 9
    np.testing.assert_array_equal(mask, region)


def test_reconstruction_error_by_name(folders):
    found = compare_meshes(*folders.paths)
    assert found.names == sorted(folders.truth)
    assert list(found.evaluation.metrics) == ["e_rec"]
    expected = [
        metrics.vertex_distance(folders.predicted[name], folders.truth[name])
        for name in found.names
    ]
    np.testing.assert_allclose(found.evaluation.per_mesh["e_rec"], expected)


def test_labels_bring_the_other_metrics(folders):
    found = compare_meshes(*folders.paths, folders.labels).evaluation.metrics
    by_person = [np.stack([folders.predicted[f"{p}/{k}"] for k in KINDS]) for p in PEOPLE]
    e_dis = metrics.summarize([metrics.FaceSpread.of(faces).std() for faces in by_person])
    assert found["e_dis"] == pytest.approx(e_dis._asdict())
    neutrals = [folders.truth[f"{p}/neutral"] for p in PEOPLE]
    errors = [
        metrics.neutral_error(faces, neutral)
        for faces, neutral in zip(by_person, neutrals, strict=True)
    ]
    assert found["avd_neu"] == pytest.approx(metrics.summarize(np.array(errors))._asdict())
    assert found["rank1_vertex_accuracy"] == 1
    assert found["rank1_probes"] == 6
    assert "rank1_cosine_accuracy" not in found


def test_the_neutral_may_have_another_name(folders):
    renamed = compare_meshes(*folders.paths, folders.labels, neutral="smile").evaluation.metrics
    usual = compare_meshes(*folders.paths, folders.labels).evaluation.metrics
    assert renamed["avd_neu"] != usual["avd_neu"]
    with raises("neutral-missing", "'calm'"):
        compare_meshes(*folders.paths, folders.labels, neutral="calm")


def test_without_neutrals_some_metrics_cannot_be(folders):
    labels = Path(folders.labels)
    labels.write_text(labels.read_text().replace(",neutral", ",calm"))
    absent = compare_meshes(*folders.paths, folders.labels).evaluation.metrics
    assert "avd_neu" not in absent
    assert "rank1_vertex_accuracy" not in absent


def test_alignment(folders, tmp_path):
    for name, vertices in folders.truth.items():
        save_mesh(tmp_path / "moved" / f"{name}.ply", vertices[:, [1, 2, 0]] + np.float32(5))
    paths = folders.paths[0], str(tmp_path / "moved")
    assert compare_meshes(*paths).evaluation.metrics["e_rec"]["mean"] > 5
    assert compare_meshes(*paths, align=True).evaluation.metrics["e_rec"]["mean"] < 1e-3


def test_two_single_meshes_need_no_common_name(tmp_path):
    mean, _ = grid_mesh()
    one, two = save_mesh(tmp_path / "a.obj", mean), save_mesh(tmp_path / "b.ply", mean + 1)
    found = compare_meshes(str(one), str(two)).evaluation.metrics
    assert found["e_rec"]["mean"] == pytest.approx(3**0.5, abs=1e-4)


def test_several_meshes_in_one_file(folders, tmp_path):
    _, triangles = grid_mesh()
    stream = io.BytesIO()
    for name in reversed(folders.predicted):  # in any order
        write_mesh(stream, Mesh(folders.predicted[name], triangles, name))
    together = tmp_path / "all.ply"
    together.write_bytes(stream.getvalue())
    found = compare_meshes(folders.paths[0], str(together), folders.labels).evaluation.metrics
    assert found == compare_meshes(*folders.paths, folders.labels).evaluation.metrics


@pytest.mark.parametrize("side", [0, 1])
def test_a_mesh_without_a_partner(folders, tmp_path, side):
    mean, _ = grid_mesh()
    save_mesh(tmp_path / ("truth", "predicted")[side] / "ann" / "extra.ply", mean)
    with raises("partner-missing", r"'ann/extra' of .*, 1 of 10 meshes"):
        compare_meshes(*folders.paths)


def test_meshes_that_do_not_fit(folders, tmp_path):
    mean, triangles = grid_mesh()
    save_mesh(tmp_path / "predicted/bob/smile.ply", mean, triangles[:, [0, 2, 1]])
    with raises("topology", "predicted mesh of 'bob/smile'"):
        compare_meshes(*folders.paths)
    save_mesh(tmp_path / "predicted/bob/smile.ply", *grid_mesh(7))
    with raises("vertex-count", "'bob/smile' has 49 vertices, expected 36"):
        compare_meshes(*folders.paths)


def test_two_meshes_of_one_name(folders, tmp_path):
    save_mesh(tmp_path / "truth/ann/smile.obj", grid_mesh()[0])
    with raises("name-duplicate", "'ann/smile'"):
        find_meshes(folders.paths[0])


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("name,subject\na,b\n", "csv-columns", "'expression'"),
        ("", "csv-columns", "'name'"),
        ("name,subject,expression\na,b\n", "csv-value", "line 2"),
        ("name,subject,expression\na,b,c\na,b,d\n", "label-conflict", "line 3: 'a'"),
    ],
)
def test_unusable_labels(tmp_path, text, code, named):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with raises(code, named):
        read_labels(str(path))


def test_labels_as_a_spreadsheet_writes_them(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\xef\xbb\xbfexpression,name,age,subject\r\nsmile,"a,b",9,ann\r\n')
    assert read_labels(str(path))["a,b"].subject == "ann"
    path.write_bytes(b"\xff\xfe\x00name")
    with raises("wrong-kind", "UTF-16; save it as UTF-8"):
        read_labels(str(path))


def test_a_mesh_without_a_label(folders, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("name,subject,expression\nann/smile,ann,smile\n")
    with raises("label-missing", "'ann/angry', 8 of 9 meshes"):
        compare_meshes(*folders.paths, str(short))


def test_what_the_reader_of_the_first_mesh_leaves_out(tmp_path):
    text = "v 0 0 0\nv 200 0 0\nv 0 200 0\nf 1 2 3\nf 1 2\n"
    paths = [tmp_path / "true.obj", tmp_path / "made.obj"]
    for path in paths:
        path.write_text(text)
    told: list[str] = []
    compare_meshes(*map(str, paths), warn=told.append)
    assert told == [f"{paths[0]}: 1 of 2 faces (f) are left out: fewer than three corners"]
