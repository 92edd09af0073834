"""Shards of a batch and their merge: the bytes are those of one run."""

import json
import shutil

import numpy as np
import pytest
from conftest import contents, face, save_mesh
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import face_set, write_face_set

from facedis_core.data.latents import read_latents
from facedis_core.errors import InputError, UsageError
from facedis_core.pipeline.shards import Shard, find_part, find_shards, read_label, work_id


@settings(max_examples=30)
@given(st.integers(0, 300), st.integers(1, 40))
def test_parts_are_the_whole_in_order(items, count):
    parts = [list(range(items))[Shard(number, count).part(items)] for number in range(1, count + 1)]
    assert [item for part in parts for item in part] == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "-1/4", "1", "1/4/2", "a/b", "", "1/1e3"])
def test_what_is_no_shard(text):
    with pytest.raises(UsageError) as error:
        Shard.parse(text)
    assert error.value.code == "option-value"


def test_a_part_does_not_depend_on_how_files_are_listed(faces):
    names = [str(faces / name) for name in ("cy.obj", "ann.ply", "eva grün.ply", "bob.ply")]
    parts = [
        [item.source for item in find_part(Shard(2, 3), listed).inputs.items]
        for listed in (names, names[::-1], [str(faces / "[abce]*")])
    ]
    assert parts == [[names[3]]] * 3


def test_work_is_told_by_every_fact():
    assert work_id("a", [1]) == work_id("a", [1]) != work_id("a", [2])
    work_id("caf\udce9.ply")  # a name that is not in UTF-8


def encode(call, folder, count, *numbers, options=""):
    for number in numbers or range(1, count + 1):
        line = f"fd-encode {options} faces --shard {number}/{count} -o {folder}/{number}.npy"
        assert call(line).code == 0


class TestLatents:
    @pytest.mark.parametrize("count", [1, 3, 7])  # more parts than faces
    def test_bytes_of_one_run(self, call, faces, tmp_path, count):
        (tmp_path / "parts").mkdir()
        encode(call, "parts", count)
        assert call("fd-encode faces -o one.npy").code == 0
        assert call("fd-encode --merge parts -o all.npy").code == 0
        assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()

    def test_a_part_is_an_array_like_any_other(self, call, shell, faces, tmp_path):
        encode(call, ".", 2)
        assert call("fd-encode faces -o one.npy").code == 0
        rows = [np.load(tmp_path / f"{number}.npy")["identity"] for number in (1, 2)]
        one = np.load(tmp_path / "one.npy")
        np.testing.assert_array_equal(np.concatenate(rows), one["identity"])
        # cat, for whoever needs no merge
        assert shell("cat 1.npy 2.npy > all.npy").code == 0
        names = read_latents(tmp_path / "one.npy").names
        assert read_latents(tmp_path / "all.npy").names == names

    def test_broken_files_are_those_of_one_run(self, call, faces, tmp_path):
        (faces / "bad.ply").write_bytes(b"ply\n")
        for number in (1, 2, 3):
            line = f"fd-encode faces --keep-going --failures {number}.jsonl --shard {number}/3"
            assert call(f"{line} -o {number}.npy").code in (0, 1)
        assert call("fd-encode faces --keep-going --failures one.jsonl -o one.npy").code == 1
        assert call("fd-encode --merge '[123].npy' -o all.npy").code == 0
        assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
        lists = b"".join((tmp_path / f"{number}.jsonl").read_bytes() for number in (1, 2, 3))
        assert lists == (tmp_path / "one.jsonl").read_bytes()

    def test_rows_of_a_face_set_keep_their_order(self, call, tmp_path):
        write_face_set(tmp_path / "set.safetensors", face_set())
        for number in (1, 2, 3):
            line = f"fd-encode set.safetensors --force-encode --shard {number}/3 -o {number}.npy"
            assert call(line).code == 0
        assert call("fd-encode set.safetensors --force-encode -o one.npy").code == 0
        assert call("fd-encode --merge '[123].npy' -o all.npy").code == 0
        assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


class TestRefusals:
    def test_a_part_is_missing(self, call, faces, tmp_path):
        encode(call, ".", 4, 1, 4)
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert (result.code, result.kind) == (3, "shards")
        assert "2/4, 3/4" in result.line
        assert not (tmp_path / "all.npy").exists()

    def test_a_part_is_there_twice(self, call, faces, tmp_path):
        encode(call, ".", 2)
        shutil.copy(tmp_path / "2.npy", tmp_path / "3.npy")
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert (result.code, result.kind) == (3, "shards")
        assert "2.npy and 3.npy are both shard 2/2" in result.line

    def test_a_part_that_contains_itself_twice(self, call, faces, tmp_path):
        encode(call, ".", 2)
        content = (tmp_path / "2.npy").read_bytes()
        (tmp_path / "2.npy").write_bytes(2 * content)
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert (result.code, result.kind) == (3, "damaged")
        assert result.line.startswith("fd-encode: 2.npy: holds more than its part")
        assert not (tmp_path / "all.npy").exists()

    @pytest.mark.parametrize("options", ["--units mm", "--root ."])
    def test_a_part_of_other_options(self, call, faces, tmp_path, options):
        encode(call, ".", 3, 1, 2)
        encode(call, ".", 3, 3, options=options)
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert (result.code, result.kind) == (3, "shards")
        assert result.line.startswith("fd-encode: 3.npy ")

    def test_a_part_of_another_listing(self, call, faces, tmp_path):
        encode(call, ".", 3, 1, 2)
        save_mesh(faces / "new.ply", face(9))
        encode(call, ".", 3, 3)
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert result.line.startswith("fd-encode: 3.npy ")

    def test_a_part_of_another_number(self, call, faces, tmp_path):
        encode(call, ".", 3, 1, 2)
        encode(call, ".", 4, 3)
        assert call("fd-encode --merge '?.npy' -o all.npy").line.startswith("fd-encode: 3.npy ")

    def test_a_part_of_another_version(self, call, faces, tmp_path, monkeypatch):
        encode(call, ".", 3, 1, 2)
        monkeypatch.setattr("facedis_core.pipeline.shards.__version__", "9.9")
        encode(call, ".", 3, 3)
        result = call("fd-encode --merge '?.npy' -o all.npy")
        assert result.kind == "shards" and "model or version" in result.line

    def test_a_part_that_is_cut(self, call, faces, tmp_path):
        encode(call, ".", 2)
        content = (tmp_path / "2.npy").read_bytes()
        for size in (0, 5, 60, 130, len(content) // 2, len(content) - 1):
            (tmp_path / "2.npy").write_bytes(content[:size])
            result = call("fd-encode --merge '?.npy' -o all.npy")
            assert result.code == 3 and result.line.startswith("fd-encode: 2.npy"), size
            assert not (tmp_path / "all.npy").exists()

    def test_parts_by_url(self, call, faces, tmp_path):
        storage = pytest.importorskip("fsspec").filesystem("memory")
        encode(call, "memory://parts", 2)
        assert call("fd-encode --merge memory://parts/ -o all.npy").code == 0
        assert call("fd-encode faces -o one.npy").code == 0
        assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
        storage.store["/parts/2.npy"] = storage.store["/parts/1.npy"]
        result = call("fd-encode --merge memory://parts/ -o memory://parts/all.npy")
        assert "memory://parts/2.npy are both shard 1/2" in result.line
        storage.store.clear()

    def test_no_part_at_all(self, call, faces, tmp_path):
        assert call("fd-encode faces -o one.npy").code == 0
        result = call("fd-encode --merge one.npy -o all.npy")
        assert (result.code, result.kind) == (3, "wrong-kind")
        (tmp_path / "empty").mkdir()
        assert call("fd-encode --merge empty -o all.npy").kind == "empty"
        assert read_label(str(tmp_path / "one.npy")) is None
        with pytest.raises(InputError):
            find_shards([str(tmp_path / "absent.npy")], "fd-encode --shard")

    def test_options(self, call, faces, tmp_path):
        np.save(tmp_path / "array.npy", np.stack([face(0), face(1)]))
        for words in (
            *("faces --shard 0/4", "--shard 1/2", "array.npy --shard 1/2"),
            *("faces --shard 1/2 --stream", "faces --merge parts", "--merge parts --units mm"),
            "--merge parts --shard 1/2",
        ):
            result = call(f"fd-encode {words} -o out.npy")
            assert result.code == 2, words
            assert result.line


def decode(call, words, *, to):
    for number in (1, 2, 3):
        result = call(f"fd-decode {words} --shard {number}/3 -o {to.format(number)}")
        assert result.code == 0, result.err


class TestDecoding:
    @pytest.fixture
    def latents(self, call, faces):
        assert call("fd-encode faces -o faces.npy").code == 0
        return "faces.npy"

    def test_files(self, call, latents, tmp_path):
        decode(call, f"{latents} --part full --part identity", to="'parts/{{name}}_{{part}}.ply'")
        line = f"fd-decode {latents} --part full --part identity -o 'one/{{name}}_{{part}}.ply'"
        assert call(line).code == 0
        assert contents(tmp_path / "parts") == contents(tmp_path / "one")

    def test_mesh_after_mesh(self, call, latents, tmp_path):
        parts = [call(f"fd-decode {latents} --shard {number}/3").out for number in (1, 2, 3)]
        joined = b"".join(parts)
        assert joined == call(f"fd-decode {latents} -o -").out

    def test_a_bad_row_is_named_by_its_own_part(self, call, latents, tmp_path):
        rows = np.load(tmp_path / latents)
        rows["identity"][4] = np.nan
        np.save(tmp_path / "bad.npy", rows)
        assert call("fd-decode bad.npy --shard 1/2 -o a/").code == 0
        result = call("fd-decode bad.npy --shard 2/2 -o b/ --keep-going --failures f.jsonl")
        assert result.code == 1
        assert len((tmp_path / "f.jsonl").read_text().splitlines()) == 1

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_rows_of_one_name_in_different_parts(self, call, latents, tmp_path, number):
        """The last part would replace a file of the first."""
        shutil.copy(tmp_path / latents, tmp_path / "again.npy")
        line = f"fd-decode {latents} again.npy --shard {number}/3 --force"
        result = call(f"{line} -o out/")
        assert (result.code, result.kind) == (2, "output-collision")
        assert not (tmp_path / "out").exists()
        assert call(f"{line} --npy -o {number}.npy").code == 0

    def test_several_sources_are_one_batch(self, call, latents, tmp_path):
        shutil.copy(tmp_path / latents, tmp_path / "again.npy")
        decode(call, f"{latents} again.npy --npy", to="{}.npy")
        sizes = [len(np.load(tmp_path / f"{number}.npy")) for number in (1, 2, 3)]
        assert sizes == [3, 3, 4]

    def test_options(self, call, latents):
        for words in ("--shard 1/2 --stream", "--shard 3/2", "--shard 1/2 -o a.pc2"):
            assert call(f"fd-decode {latents} {words}").code == 2


def test_what_fd_info_says_of_parts(call, faces, tmp_path):
    encode(call, ".", 7)
    empty, one = (call(f"fd-info --json {number}.npy") for number in (1, 7))
    assert (empty.code, one.code) == (0, 0), empty.err
    facts = [json.loads(result.out) for result in (empty, one)]
    assert [(fact["kind"], fact["shard"], fact["faces"]) for fact in facts] == [
        ("latents", "1/7", 0),
        ("latents", "7/7", 1),
    ]
    write_face_set(tmp_path / "set.safetensors", face_set())
    assert call("fd-metrics set.safetensors --shard 2/3 -o part.npy").code == 0
    found = json.loads(call("fd-info --json part.npy").out)
    assert (found["kind"], found["shard"]) == ("part of fd-prep or fd-metrics", "2/3")
    assert call("fd-encode part.npy -o out.npy").code == 3
