"""Who is looked up among whom."""

import numpy as np
import pytest
import synthetic
from conftest import face
from raising import raises

from facedis_core.data.face_set import load_face_set
from facedis_core.data.latents import write_latents
from facedis_core.evaluate.identification import LabelSource, task_from_latents, task_from_set

NAMES = ["ann_smile", "ann_neutral", "bob_neutral", "bob_grin", "ann_neutral_2", "cy_grin"]
WHO = LabelSource(pattern="{subject}_{expression}")


@pytest.fixture
def rows(model):
    return model.encode_prepared(np.stack([face(seed) for seed in range(len(NAMES))]), NAMES)


@pytest.fixture
def saved(rows, tmp_path):
    """Write some of the rows to a file."""

    def write(name, chosen):
        path = tmp_path / name
        with path.open("wb") as stream:
            write_latents(stream, rows.take(chosen))
        return str(path)

    return write


def test_alone_the_first_neutral_of_each_person_is_the_gallery(saved, model, rows):
    found = task_from_latents(saved("all.npy", range(6)), None, model, WHO)
    assert found.gallery.names == ["ann_neutral", "bob_neutral"]
    assert found.gallery_subjects == ["ann", "bob"]
    assert found.probes.names == ["ann_smile", "bob_grin", "ann_neutral_2", "cy_grin"]
    assert found.probe_subjects == ["ann", "bob", "ann", "cy"]
    assert found.left_out == 0
    assert found.facts == {"model": model.id}
    np.testing.assert_array_equal(found.probes.identity, rows.identity[[0, 3, 4, 5]])
    grins = task_from_latents(saved("again.npy", range(6)), None, model, WHO, "grin")
    assert grins.gallery.names == ["bob_grin", "cy_grin"]


def test_what_is_in_the_gallery_itself_is_not_looked_up(saved, model, rows):
    gallery, probes = saved("some.npy", [1, 2]), saved("all.npy", range(6))
    found = task_from_latents(gallery, probes, model, WHO)
    assert found.gallery.names == ["ann_neutral", "bob_neutral"]
    assert found.probes.names == ["ann_smile", "bob_grin", "ann_neutral_2", "cy_grin"]
    assert found.left_out == 2


def test_another_face_of_the_same_name_is(model, tmp_path):
    for seed, name in enumerate(("known.npy", "asked.npy")):
        with (tmp_path / name).open("wb") as stream:
            write_latents(stream, model.encode_prepared(face(seed)[None], ["ann"]))
    who = LabelSource(pattern="{subject}")
    found = task_from_latents(str(tmp_path / "known.npy"), str(tmp_path / "asked.npy"), model, who)
    assert (found.probes.names, found.left_out) == (["ann"], 0)


def test_labels_of_a_file_need_an_expression_only_where_it_is_asked_for(tmp_path):
    (tmp_path / "who.csv").write_text("name,subject\na,Ann\nb,Bob\n")
    who = LabelSource(str(tmp_path / "who.csv"))
    assert [label.subject for label in who.of(["b", "a"], ("subject",))] == ["Bob", "Ann"]
    with raises("csv-columns", "'expression'"):
        who.of(["a"], ("subject", "expression"))
    with raises("label-missing", r"who.csv .* 'c', 1 of 2"):
        who.of(["a", "c"], ("subject",))
    (tmp_path / "who.csv").write_text("name,subject,expression\na,Ann,\n")
    assert who.of(["a"], ("subject",))[0].subject == "Ann"
    with raises("csv-value", "line 2"):
        who.of(["a"], ("subject", "expression"))


def test_patterns_that_do_not_do(saved, model):
    everybody = saved("all.npy", range(6))
    with raises("option-value", "expression"):
        task_from_latents(everybody, None, model, LabelSource(pattern="{subject}"))
    with raises("pattern-mismatch", "'ann_smile'"):
        task_from_latents(everybody, None, model, LabelSource(pattern="{subject}/{expression}"))
    with raises("neutral-missing", "'calm'"):
        task_from_latents(everybody, None, model, WHO, "calm")


def test_a_set_has_its_neutrals_in_the_gallery(model, tmp_path):
    path = synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())
    faces = load_face_set(path)
    found = task_from_set(str(path), model, "test")
    assert found.gallery_subjects == ["person7", "person8", "person9"]
    assert found.probes.names == [faces.labels.names[row] for row in range(28, 40) if row % 4]
    assert found.facts["set"] == faces.id
    np.testing.assert_array_equal(
        found.probes.identity[0], model.encode_prepared(faces.read([29])).identity[0]
    )
    neutral = synthetic.face_set(neutrals=False)
    neutral.labels.level[:] = 0.5
    path = synthetic.write_face_set(tmp_path / "none.safetensors", neutral)
    with raises("neutral-missing"):
        task_from_set(str(path), model, "test")
