"""Train/test splits: every protocol against a loop, and its errors."""

import csv
import hashlib

import numpy as np
import pytest
import trees
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared import prepare, write_scans
from raising import raises

from facedis_core.data.face_set import divides_people
from facedis_core.datasets.protocols import People, Published, by_subjects, make_split

TRAIN, TEST, VALIDATION = 0, 1, 2


def crowd(subjects=10, faces=3):
    """Faces of all subjects in turn, so that nobody's lie together."""
    subject = np.tile(np.arange(subjects, dtype=np.int32), faces)
    people = [f"p{s}" for s in range(subjects)]
    names = [f"{people[s]}/face{k}" for k, s in enumerate(subject)]
    return People(names, people, subject)


def by_person(split, people):
    """The one split of each subject; fails where someone is in two."""
    found = {}
    for subject, code in zip(people.subject.tolist(), split.split.tolist(), strict=True):
        assert found.setdefault(subject, code) == code
    return [found[subject] for subject in range(len(people.subjects))]


@settings(max_examples=30)
@given(
    subjects=st.integers(1, 60),
    part=st.floats(0, 0.95),
    validation=st.none() | st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
def test_a_part_of_the_subjects(subjects, part, validation, seed):
    people = crowd(subjects)
    tested = round(part * subjects)
    validated = round((validation or 0) * (subjects - tested))
    options = {"validation": validation, "seed": seed}
    if subjects - tested - validated < 1:
        with raises("split-empty"):
            make_split(f"subjects:{part}", people, **options)
        return
    split = make_split(f"subjects:{part}", people, **options)
    found = by_person(split, people)
    expected = (subjects - tested - validated, tested, validated)
    assert tuple(found.count(code) for code in (TRAIN, TEST, VALIDATION)) == expected
    assert not divides_people(split.text) and split.inputs == {}
    plain = make_split(f"subjects:{part}", people, seed=seed)
    assert np.array_equal(plain.split == TEST, split.split == TEST)


def test_the_seed_draws_other_people():
    people = crowd(40)
    drawn = [make_split("subjects:0.5", people, seed=s).split.tobytes() for s in (0, 1, 2, 1)]
    assert len(set(drawn)) == 3 and drawn[3] == drawn[1]


def test_without_a_protocol():
    people = crowd(10)
    usual = make_split(None, people, seed=2)
    assert np.array_equal(usual.split, make_split("subjects:0.3", people, seed=2).split)

    def published(people):
        return by_subjects("as the paper does", ["p3", "p7", "nobody"], people)

    for protocol in (None, "paper"):
        split = make_split(protocol, people, published, seed=2)
        assert split.text == "as the paper does"
        assert [s for s, code in enumerate(by_person(split, people)) if code == TEST] == [3, 7]
    split = make_split("paper", people, published, validation=0.25)
    assert sorted(by_person(split, people)) == [TRAIN] * 6 + [TEST] * 2 + [VALIDATION] * 2


@pytest.mark.parametrize("folds", [2, 7, 12])
def test_folds_are_every_nth_subject(folds):
    people = crowd(12)
    seen = []
    for fold in range(1, folds + 1):
        split = make_split(f"identity-fold:{fold}/{folds}", people)
        tested = [s for s, code in enumerate(by_person(split, people)) if code == TEST]
        assert tested == [s for s in range(12) if s % folds == fold - 1]
        assert split.text == f"identity fold {fold} of {folds}" and not divides_people(split.text)
        seen += tested
    assert sorted(seen) == list(range(12))
    found = by_person(make_split("identity-fold:2/2", people, validation=0.5), people)
    assert found[1::2] == [TEST] * 6 and found.count(VALIDATION) == 3


def test_published_frames_divide_people():
    people = crowd(4, faces=5)
    test = np.arange(20) < 3

    def published(people):
        return Published("frames, the first", test)

    split = make_split("paper", people, published)
    assert np.array_equal(split.split, np.where(test, TEST, TRAIN)) and divides_people(split.text)
    for validation in (0.0, 0.2):
        with raises("option-conflict", "--validation"):
            make_split("paper", people, published, validation=validation)


def write(path, *rows, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


WORDS = {"train": TRAIN, "test": TEST, "validation": VALIDATION}


def test_a_file_of_subjects(tmp_path):
    people = crowd(5)
    chosen = ["train", "test", "validation", "train", "test"]
    rows = [(split, f"p{s}") for s, split in reversed(list(enumerate(chosen)))]
    path = write(tmp_path / "a.csv", ("split", "subject"), *rows, rows[0])  # one of them twice
    split = make_split(f"file:{path}", people)
    assert by_person(split, people) == [WORDS[word] for word in chosen]
    assert split.text == "subjects of a file" and not divides_people(split.text)
    assert split.inputs == {"protocol": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}
    with raises("option-conflict", "--validation"):
        make_split(f"file:{path}", people, validation=0.1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_faces(tmp_path, encoding):
    people = crowd(3, faces=4)
    random = np.random.default_rng(0)
    chosen = random.choice(list(WORDS), 12)
    rows = [(f" {name} ", f"{word} ") for name, word in zip(people.names, chosen, strict=True)]
    path = write(tmp_path / "a b,c.csv", ("name", "split"), *rows, encoding=encoding)
    split = make_split(f"file:{path}", people)
    assert split.split.tolist() == [WORDS[word] for word in chosen]
    assert split.text == "faces of a file" and divides_people(split.text)


def test_a_file_of_faces_may_keep_people_together(tmp_path):
    people = crowd(3, faces=4)
    rows = [(name, "test" if name[1] == "1" else "train") for name in people.names]
    split = make_split(f"file:{write(tmp_path / 'a.csv', ('name', 'split'), *rows)}", people)
    assert by_person(split, people) == [TRAIN, TEST, TRAIN]
    assert not divides_people(split.text)


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("", "csv-columns", "expected subject and split"),
        ("subject,name,split\n", "csv-columns", "subject, name, split"),
        ("subject,split\np0,train\np1\n", "csv-syntax", "line 3"),
        ("subject,split\np0,train\np1,dev\n", "csv-value", "line 3 .*'dev'"),
        ("subject,split\np0,train\np0,test\n", "label-conflict", "line 3 .*'p0'"),
        ("subject,split\np0,train\np1,test\n", "label-missing", "'p2'"),
        ("subject,split\np0,train\np9,test\n", "name-unknown", "'p9'"),
        ("name,split\np0,train\n", "name-unknown", "'p0'"),
        ("subject,split\np0,test\np1,test\np2,validation\n", "split-empty", "3 subjects"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, code, place):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with raises(code, place):
        make_split(f"file:{path}", crowd(3))


@pytest.mark.parametrize(
    ("code", "protocols"),
    [
        ("option-value", ["papers", "paper:2", "file:"]),
        ("option-value", ["subjects", "subjects:1", "subjects:-0.1", "subjects:nan"]),
        ("option-value", ["identity-fold:3", "identity-fold:0/3", "identity-fold:4/3"]),
        ("option-conflict", ["paper"]),  # the data set has no published split
        ("split-empty", ["subjects:0.99", "identity-fold:1/1"]),
        ("too-few-faces", ["identity-fold:1/11"]),
    ],
)
def test_protocols_that_there_are_not(code, protocols):
    for protocol in protocols:
        with raises(code):
            make_split(protocol, crowd())


@pytest.mark.parametrize("part", [1.0, -0.1, float("nan")])
def test_validation_parts_that_there_are_not(part):
    with raises("option-value", "--validation"):
        make_split("subjects:0.3", crowd(), validation=part)


def test_protocols_in_the_command(call, tmp_path):
    """Subjects in natural order, and a split from standard input."""
    testers = (*range(1, 11), 141)
    trees.touch(
        tmp_path / "data", [trees.facewarehouse_name(t, s) for t in testers for s in (0, 1)]
    )

    def subjects(protocol, stdin=b""):
        done = call(f"fd-prep facewarehouse data --dry-run --protocol {protocol}", stdin=stdin)
        lines = [line.split("\t") for line in done.out.decode().splitlines()]
        return {line[1]: [int(n) for n in line[3:]] for line in lines if line[0] == "subject"}

    found = subjects("identity-fold:3/11")
    assert [name for name, (_, test, _) in found.items() if test] == ["Tester_3"]
    words = {5: "test", 6: "validation"}
    table = ["subject,split", *(f"Tester_{t},{words.get(t, 'train')}" for t in testers)]
    found = subjects("file:-", "\n".join(table).encode())
    assert found["Tester_5"] == [0, 2, 0] and found["Tester_6"] == [0, 0, 2]
    assert sum(train for train, _, _ in found.values()) == 18


def test_history_tells_protocols_and_seeds_apart_and_names_no_path(tmp_path):
    root = write_scans(tmp_path / "data")
    rows = [(f"p{s}", "test" if s % 2 else "train") for s in range(6)]
    path = write(tmp_path / "mine.csv", ("subject", "split"), *rows)
    target = tmp_path / "set.safetensors"
    for protocol, told in (("subjects:0.5", None), ("identity-fold:2/2", None), ("file:", "file")):
        given = f"file:{path}" if told else protocol
        options = {"pattern": "{subject}_{expression}.ply", "seed": 4, "protocol": given}
        made = prepare("folder", root, target, **options)
        stored = made.set.history[0]
        assert (stored.options["protocol"], stored.options["seed"]) == (told or protocol, 4)
    assert stored.inputs == {"protocol": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}
    assert made.set.protocol == made.report.protocol == "subjects of a file"
    assert str(tmp_path).encode() not in target.read_bytes()
    assert b"mine.csv" not in target.read_bytes()
