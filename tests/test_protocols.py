"""Who is trained on and who is tested on: every protocol against a loop, and its errors."""

import csv
import hashlib
import json

import numpy as np
import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st
from prepared import news, prepare

from facedis_core.data.face_set import divides_people, load_face_set
from facedis_core.datasets.protocols import People, Published, by_subjects, make_split
from facedis_core.errors import InputError, UsageError

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
        with pytest.raises(InputError, match="leave none for training"):
            make_split(f"subjects:{part}", people, **options)
        return
    split = make_split(f"subjects:{part}", people, **options)
    found = by_person(split, people)
    expected = (subjects - tested - validated, tested, validated)
    assert tuple(found.count(code) for code in (TRAIN, TEST, VALIDATION)) == expected
    assert not divides_people(split.text) and split.inputs == {}


def test_the_seed_draws_other_people():
    people = crowd(40)
    drawn = [tuple(by_person(make_split("subjects:0.5", people, seed=s), people)) for s in range(5)]
    assert len(set(drawn)) == 5
    again = by_person(make_split("subjects:0.5", people, seed=3), people)
    assert tuple(again) == drawn[3]


def test_a_validation_part_leaves_the_test_part():
    people = crowd(40)
    plain = make_split("subjects:0.3", people, seed=1)
    divided = make_split("subjects:0.3", people, seed=1, validation=0.5)
    assert np.array_equal(plain.split == TEST, divided.split == TEST)
    assert (divided.split == VALIDATION).any()


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


@pytest.mark.parametrize("folds", [1, 2, 3, 7, 12])
def test_folds_are_every_nth_subject(folds):
    people = crowd(12)
    seen = []
    for fold in range(1, folds + 1):
        if folds == 1:
            with pytest.raises(InputError, match="leave none for training"):
                make_split("identity-fold:1/1", people)
            return
        split = make_split(f"identity-fold:{fold}/{folds}", people)
        tested = [s for s, code in enumerate(by_person(split, people)) if code == TEST]
        assert tested == [s for s in range(12) if s % folds == fold - 1]
        assert split.text == f"identity fold {fold} of {folds}" and not divides_people(split.text)
        seen += tested
    assert sorted(seen) == list(range(12))


def test_a_fold_with_validation():
    people = crowd(12)
    split = make_split("identity-fold:12/12", people, validation=0.2)
    found = by_person(split, people)
    assert found[11] == TEST and found.count(TEST) == 1 and found.count(VALIDATION) == 2


def test_published_frames_divide_people():
    people = crowd(4, faces=5)
    test = np.arange(20) < 3

    def published(people):
        return Published("frames, the first", test)

    split = make_split("paper", people, published)
    assert np.array_equal(split.split, np.where(test, TEST, TRAIN)) and divides_people(split.text)
    for validation in (0.0, 0.2):
        with pytest.raises(UsageError, match="--validation takes a part of the subjects, but the"):
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
    ("text", "message"),
    [
        ("", "has the columns of an empty file; expected subject and split, or name and split"),
        ("subject,part\np0,test\n", "has the columns subject, part; expected"),
        ("subject,name,split\n", "has the columns subject, name, split; expected"),
        ("subject,split\np0,train\np1\n", "line 3 has more or fewer fields than the header"),
        ("subject,split\np0,train,x\n", "line 2 has more or fewer fields than the header"),
        ("subject,split\np0,train\np1,dev\n", "line 3 has split 'dev', expected one of train, te"),
        ("subject,split\np0,1\n", "line 2 has split '1', expected"),
        ("subject,split\np0,train\np0,test\n", "line 3 gives 'p0' a second split; expected one"),
        ("subject,split\np0,train\np1,test\n", "does not list the subject 'p2'; every one needs"),
        ("subject,split\np0,train\np9,test\n", "lists the subject 'p9', which is not in the data"),
        ("name,split\np0,train\n", "lists the name 'p0', which is not in the data"),
        ("subject,split\n", "does not list the subject 'p0'"),
        ("subject,split\np0,test\np1,test\np2,validation\n", "leaves none of 3 subjects for trai"),
        ('subject,split\n"p0,train\n', "is not a CSV file in UTF-8"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        make_split(f"file:{path}", crowd(3))
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist; expected a file"):
        make_split(f"file:{tmp_path / 'none.csv'}", crowd())
    with pytest.raises(InputError, match="is a folder; expected a file"):
        make_split(f"file:{tmp_path}", crowd())
    (tmp_path / "latin.csv").write_bytes("subject,split\nJürgen,test\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        make_split(f"file:{tmp_path / 'latin.csv'}", crowd())


def test_a_file_leaves_no_say_to_validation(tmp_path):
    path = write(tmp_path / "a.csv", ("subject", "split"), *[(f"p{s}", "train") for s in range(10)])
    with pytest.raises(UsageError, match=r"--validation takes .*subjects of a file.* leave it out"):
        make_split(f"file:{path}", crowd(), validation=0.1)


@pytest.mark.parametrize(
    ("protocol", "kind", "message"),
    [
        (
            "",
            UsageError,
            "--protocol is '', expected paper, subjects:PART, identity-fold:K/N or fi",
        ),
        ("papers", UsageError, "--protocol is 'papers', expected paper"),
        ("paper:2", UsageError, "--protocol is 'paper:2', expected paper"),
        ("file", UsageError, "--protocol is 'file', expected"),
        ("file:", UsageError, "--protocol is 'file:', expected"),
        ("paper", UsageError, "this source has no published split; expected subjects:PART"),
        ("subjects", UsageError, "expected a part of the subjects from 0 to below 1"),
        ("subjects:", UsageError, "expected a part of the subjects"),
        ("subjects:1", UsageError, "subjects:1: expected a part"),
        ("subjects:-0.1", UsageError, "expected a part"),
        ("subjects:30%", UsageError, "subjects:30%: expected a part"),
        ("subjects:nan", UsageError, "expected a part"),
        ("subjects:inf", UsageError, "expected a part"),
        ("subjects:0.99", InputError, "10 subjects split into 10 for test .* leave none for train"),
        ("identity-fold", UsageError, "expected K/N with K from 1 to N, such as 3/12"),
        ("identity-fold:3", UsageError, "identity-fold:3: expected K/N"),
        ("identity-fold:0/3", UsageError, "expected K/N"),
        ("identity-fold:4/3", UsageError, "expected K/N"),
        ("identity-fold:-1/3", UsageError, "expected K/N"),
        ("identity-fold:1/0", UsageError, "expected K/N"),
        ("identity-fold:1/3/5", UsageError, "expected K/N"),
        ("identity-fold:1.5/3", UsageError, "expected K/N"),
        ("identity-fold:1/11", InputError, "10 subjects cannot be split into 11 folds; ask for f"),
    ],
)
def test_protocols_that_there_are_not(protocol, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make_split(protocol, crowd())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("part", [1.0, -0.1, float("nan")])
def test_validation_parts_that_there_are_not(part):
    with pytest.raises(UsageError, match="expected a part of the subjects from 0 to below 1"):
        make_split("subjects:0.3", crowd(), validation=part)


class TestInAShell:
    @pytest.fixture
    def data(self, tmp_path):
        """Eleven people of FaceWarehouse, each of them only a name."""
        names = [trees.facewarehouse_name(t, s) for t in (*range(1, 11), 141) for s in (0, 1)]
        trees.touch(tmp_path / "data", names)
        return tmp_path / "data"

    def subjects(self, done):
        assert done.code == 0, done.err
        lines = [line.split("\t") for line in done.out.decode().splitlines()]
        return {line[1]: [int(n) for n in line[3:]] for line in lines if line[0] == "subject"}

    def test_leave_one_out_goes_in_natural_order(self, call, data):
        found = self.subjects(
            call("fd-prep facewarehouse data --dry-run --protocol identity-fold:3/11")
        )
        assert [name for name, (_, test, _) in found.items() if test] == ["Tester_3"]

    def test_a_file_from_a_pipe(self, call, data):
        lines = "".join(
            f"Tester_{t},{'test' if t == 5 else 'validation' if t == 6 else 'train'}\n"
            for t in (*range(1, 11), 141)
        )
        table = f"subject,split\n{lines}".encode()
        found = self.subjects(
            call("fd-prep facewarehouse data --dry-run --protocol file:-", stdin=table)
        )
        assert found["Tester_5"] == [0, 2, 0] and found["Tester_6"] == [0, 0, 2]
        assert sum(train for train, _, _ in found.values()) == 18

    @pytest.mark.parametrize(
        ("options", "code", "message"),
        [
            ("--protocol leave-one-out", 2, "expected paper, subjects:PART, identity-fold:K/N or"),
            ("--protocol identity-fold:12/12", 3, "11 subjects cannot be split into 12 folds"),
        ],
    )
    def test_errors_are_one_line(self, call, data, options, code, message):
        done = call(f"fd-prep facewarehouse data -o set.safetensors {options}")
        assert done.code == code and message in done.line and done.out == b""


def test_history_names_no_path(call, tmp_path):
    trees.facewarehouse(tmp_path / "data", testers=(1, 2), shapes=(0,))
    path = write(
        tmp_path / "mine.csv", ("subject", "split"), ("Tester_1", "train"), ("Tester_2", "test")
    )
    done = call(
        f"fd-prep facewarehouse {tmp_path}/data --units dm --protocol file:{path} -o a.safetensors"
    )
    assert (done.code, news(done)) == (0, "")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert str(tmp_path).encode() not in content and b"mine.csv" not in content
    made = load_face_set(tmp_path / "a.safetensors")
    (entry,) = made.history
    assert entry.options["protocol"] == "file"
    assert entry.inputs == {"protocol": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}
    assert made.protocol == "subjects of a file" and made.labels.split.tolist() == [TRAIN, TEST]
    report = json.loads((tmp_path / "a.report.json").read_text())
    assert report["protocol"] == "subjects of a file"


def test_history_tells_parts_and_seeds_apart(tmp_path):
    trees.facewarehouse(tmp_path / "data", testers=(1, 2), shapes=(0,))
    entries = []
    for k, options in enumerate(
        ({"protocol": "subjects:0.5"}, {"protocol": "identity-fold:2/2", "seed": 4})
    ):
        target = tmp_path / f"{k}.safetensors"
        prepare("facewarehouse", tmp_path / "data", target, **options)
        entries.append(load_face_set(target).history[0].options)
    assert entries[0]["protocol"] == "subjects:0.5"
    assert (entries[1]["protocol"], entries[1]["seed"]) == ("identity-fold:2/2", 4)
