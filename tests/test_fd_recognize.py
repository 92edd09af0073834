"""fd-recognize as a user runs it, on small real files."""

import json

import numpy as np
import pytest
import synthetic
from conftest import face

from facedis_core.data.face_set import load_face_set
from facedis_core.data.latents import write_latents
from facedis_core.evaluate import evaluation
from facedis_core.evaluate.prediction import model_predictor

KEYS = [
    "rank1_cosine_accuracy",
    "auc_cosine",
    "eer_cosine",
    "rank1_vertex_accuracy",
    "auc_vertex",
    "eer_vertex",
    "gallery",
    "gallery_subjects",
    "probes",
    "probes_in_gallery",
    "probes_not_enrolled",
    "genuine_pairs",
    "impostor_pairs",
]
PATTERN = "--pattern '{subject}/{expression}'"


@pytest.fixture
def face_set(tmp_path):
    """`set.safetensors`: 10 people x 4 expressions, the last 3 people are test."""
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


@pytest.fixture
def latents(face_set, model, tmp_path):
    """All 40 faces in `all.npy`, the neutrals in `neutrals.npy`, the others in `others.npy`."""
    faces = load_face_set(face_set)
    rows = model.encode_prepared(np.asarray(faces.vertices), list(faces.labels.names))
    at_rest = np.arange(40) % 4 == 0
    for name, chosen in (("all", at_rest >= 0), ("neutrals", at_rest), ("others", ~at_rest)):
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, rows.take(np.flatnonzero(chosen)))
    return rows


def report(result):
    assert result.code == 0, result.err
    assert not result.err
    return json.loads(result.out)


@pytest.mark.parametrize("split", ["test", "all"])
def test_a_set_as_the_metrics_have_it(call, face_set, model, split):
    found = report(call(f"fd-recognize set.safetensors --split {split} --json"))
    faces = load_face_set(face_set)
    rows = faces.rows(1 if split == "test" else None)
    predict = model_predictor(model)
    expected = evaluation.evaluate_face_set(predict, faces, rows).metrics
    for key in ("rank1_cosine_accuracy", "rank1_vertex_accuracy"):
        assert found["model"][key] == expected[key]
    assert found["model"]["probes"] == expected["rank1_probes"]
    people = 3 if split == "test" else 10
    assert found["model"]["genuine_pairs"] == 3 * people
    assert found["model"]["impostor_pairs"] == 3 * people * (people - 1)
    facts = found["provenance"]
    assert (facts["model"], facts["set"], facts["split"]) == (model.id, faces.id, split)
    assert (facts["faces"], facts["subjects"]) == (4 * people, people)


def test_json(call, face_set):
    found = report(call("fd-recognize set.safetensors --json"))["model"]
    assert list(found) == KEYS  # of three people everybody is among the nearest five
    more = report(call("fd-recognize set.safetensors --json --split all --ranks 9,2,1,10"))["model"]
    ranks = [more[f"rank{k}_vertex_accuracy"] for k in (1, 2, 9)]
    assert ranks == sorted(ranks)
    assert "rank10_vertex_accuracy" not in more


def test_latents_say_what_their_set_says(call, latents, face_set):
    of_set = report(call("fd-recognize set.safetensors --split all --json"))["model"]
    two = report(call(f"fd-recognize neutrals.npy others.npy {PATTERN} --json"))
    assert two["model"] == of_set
    assert set(two["provenance"]) == {"version", "model"}
    one = report(call(f"fd-recognize all.npy {PATTERN} --json"))
    assert one == two
    both = report(call(f"fd-recognize neutrals.npy all.npy {PATTERN} --json"))
    assert both["model"] == of_set | {"probes_in_gallery": 10}
    piped = call("fd-recognize - --split all --json", stdin=face_set.read_bytes())
    assert report(piped)["model"] == of_set


@pytest.mark.parametrize("piped", ["neutrals.npy", "others.npy"])
def test_either_may_be_standard_input(call, latents, tmp_path, piped):
    line = f"fd-recognize neutrals.npy others.npy {PATTERN} --json"
    by_name = call(line)
    assert by_name.code == 0
    by_pipe = call(line.replace(piped, "-"), stdin=(tmp_path / piped).read_bytes())
    assert by_pipe.out == by_name.out


def test_labels_of_a_file(call, latents, tmp_path):
    lines = [f"{name},{name.split('/')[0]}" for name in latents.names]
    (tmp_path / "who.csv").write_text("\n".join(["name,subject", *lines]))
    line = "fd-recognize neutrals.npy others.npy --json"
    assert call(f"{line} --labels who.csv").out == call(f"{line} {PATTERN}").out
    piped = (tmp_path / "who.csv").read_bytes()
    assert call(f"{line} --labels -", stdin=piped).out == call(f"{line} {PATTERN}").out
    alone = call("fd-recognize all.npy --labels who.csv")
    assert (alone.code, alone.kind) == (3, "csv-columns")


def test_people_whom_nobody_knows(call, latents, model, tmp_path):
    strangers = model.encode_prepared(np.stack([face(1), face(2)]), ["eve/neutral", "mallory/grin"])
    with (tmp_path / "strangers.npy").open("wb") as stream:
        write_latents(stream, strangers)
    others, unknown = ((tmp_path / f"{name}.npy").read_bytes() for name in ("others", "strangers"))
    line = f"fd-recognize neutrals.npy - {PATTERN} --json"
    known = report(call(line, stdin=others))["model"]
    found = report(call(line, stdin=others + unknown))["model"]
    assert (found["probes"], found["probes_not_enrolled"]) == (32, 2)
    assert found["rank1_cosine_accuracy"] == known["rank1_cosine_accuracy"]
    assert found["impostor_pairs"] == known["impostor_pairs"] + 20
    assert found["genuine_pairs"] == known["genuine_pairs"]
    assert found["auc_cosine"] != known["auc_cosine"]
    alone = call(line, stdin=unknown)
    assert (alone.code, alone.kind) == (3, "gallery")
    assert "a probe is of 'eve'" in alone.line


def test_several_faces_of_a_person(call, latents):
    found = report(call(f"fd-recognize others.npy neutrals.npy {PATTERN} --json"))["model"]
    assert (found["gallery"], found["gallery_subjects"], found["probes"]) == (30, 10, 10)
    assert (found["genuine_pairs"], found["impostor_pairs"]) == (30, 270)


def test_table(call, latents):
    result = call("fd-recognize set.safetensors --split all")
    found = report(call("fd-recognize set.safetensors --split all --json"))["model"]
    text = result.out.decode()
    assert (result.code, result.err) == (0, "")
    for row, key in (("rank 1", "rank1_{}_accuracy"), ("rank 5", "rank5_{}_accuracy")):
        values = [f"{found[key.format(name)]:.4f}" for name in ("cosine", "vertex")]
        (line,) = [line for line in text.splitlines() if f" {row} " in line]
        assert [word for word in line.split() if word[0].isdigit() and "." in word] == values
    assert "impostor pairs 270\n" in text
    assert "\x1b" not in text


def test_checks(call, face_set):
    line = "fd-recognize set.safetensors --json"
    assert call(f"{line} --check 'auc_cosine>=0' --check 'probes==9'").code == 0
    result = call(f"{line} --check 'auc_vertex>1' --check 'rank5_cosine_accuracy>=0'")
    assert result.code == 1
    assert "2 of 2 checks failed: auc_vertex is " in result.line
    assert "rank5_cosine_accuracy was not measured" in result.line  # only 3 people
    assert json.loads(result.out)["model"]["probes"] == 9
    slip = call("fd-recognize missing.safetensors --check 'auc_cosin>=1'")
    assert (slip.kind, "did you mean 'auc_cosine'?" in slip.line) == ("option-value", True)
    other = call("fd-recognize missing.safetensors --check 'rank2_cosine_accuracy>=1'")
    assert (other.code, other.kind) == (2, "option-value")


def test_output_file(call, face_set, tmp_path):
    line = "fd-recognize set.safetensors --json -o out.json"
    assert call(line).code == 0
    assert json.loads((tmp_path / "out.json").read_text())["model"]["probes"] == 9
    again = call(line)
    assert (again.code, again.kind) == (2, "output-exists")
    assert call(f"{line} --force").code == 0


def test_latents_of_another_model(call, latents, model, other_model_file):
    result = call(f"fd-recognize all.npy {PATTERN} -m {other_model_file}")
    assert (result.code, result.kind) == (3, "wrong-model")
    assert model.id in result.line


def test_a_face_that_cannot_be_computed_is_named(call, latents, tmp_path):
    rows = latents.take([0, 1, 4, 5])
    rows.identity[1] = 3e38
    with (tmp_path / "huge.npy").open("wb") as stream:
        write_latents(stream, rows)
    result = call(f"fd-recognize huge.npy {PATTERN}")
    assert (result.code, result.kind) == (3, "not-finite")
    assert "'person0/expression1': latents too large for a face" in result.line
    decoded = call("fd-decode huge.npy --npy -o out.npy")
    assert (decoded.code, decoded.line.partition(": ")[2]) == (3, result.line.partition(": ")[2])
    assert not (tmp_path / "out.npy").exists()


def test_a_model_of_other_faces(call, tmp_path):
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(size=7))
    result = call("fd-recognize set.safetensors -o out.txt")
    assert (result.code, result.kind) == (3, "topology")


@pytest.mark.parametrize(
    ("line", "code", "kind", "words"),
    [
        ("", 2, "arguments", "GALLERY"),
        ("all.npy", 2, "option-missing", "--labels CSV"),
        ("neutrals.npy others.npy", 2, "option-missing", "--labels CSV"),
        (f"- - {PATTERN}", 2, "same-file", "standard input (-)"),
        (f"all.npy {PATTERN} --labels x.csv", 2, "option-conflict", "--labels and --pattern"),
        (f"all.npy all.npy {PATTERN} --neutral calm", 2, "option-conflict", "--neutral chooses"),
        (f"all.npy {PATTERN} --split all", 2, "option-conflict", "--split is for a face set"),
        ("set.safetensors --neutral calm", 2, "option-conflict", "--neutral is for latents"),
        ("set.safetensors --ranks 0", 2, "option-value", "--ranks '0'"),
        ("set.safetensors --ranks 1,two", 2, "option-value", "--ranks"),
        ("set.safetensors --ranks ''", 2, "option-value", "--ranks"),
        (f"set.safetensors {PATTERN}", 3, "wrong-kind", "expected latents"),
        (f"all.npy all.npy {PATTERN}", 3, "gallery", "all 40 faces"),
        (f"neutrals.npy {PATTERN}", 3, "gallery", "all 10 faces"),
        (f"all.npy {PATTERN} --neutral calm", 3, "neutral-missing", "'calm'"),
        ("all.npy --pattern '{subject}'", 2, "option-value", "where the expression is"),
        ("neutrals.npy others.npy --pattern '{subject}'", 3, "pattern-mismatch", "'{subject}'"),
        ("neutrals.npy others.npy --pattern '*/{subject}'", 3, "gallery", "none of the 30 probes"),
        ("set.safetensors --split validation", 3, "split-empty", "validation"),
        (f"missing.npy {PATTERN}", 3, "file-missing", "missing.npy"),
        ("set.safetensors -o missing/out", 4, "output-unwritable", "missing"),
    ],
)
def test_what_is_refused(call, latents, line, code, kind, words):
    result = call(f"fd-recognize {line}")
    assert (result.code, result.kind) == (code, kind), result.err
    assert words in result.line
    assert not result.out


def test_one_person_cannot_be_mistaken(call, latents, tmp_path):
    (tmp_path / "who.csv").write_text(
        "\n".join(["name,subject", *(f"{name},ann" for name in latents.names)])
    )
    result = call("fd-recognize neutrals.npy others.npy --labels who.csv")
    assert (result.code, result.kind) == (3, "gallery")
    assert "all of 'ann'" in result.line
