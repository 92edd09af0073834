"""Which model is meant: a path, a bundled name, the environment, the default."""

import json
import os
from pathlib import Path

import pytest
from raising import raises

import facedis_core.model.bundled
from facedis_core.errors import InputError
from facedis_core.model.bundled import (
    DEFAULT_MODEL,
    list_models,
    model_id,
    resolve_model,
    weights_folder,
)
from facedis_core.model.model_file import load_model


@pytest.fixture(autouse=True)
def bundled(tmp_path, monkeypatch):
    """A bundle with the models `ict-linear`, `big` and `both`, and a folder to stand in."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("ict-linear.safetensors", "big.safetensors", "both.safetensors", "card.md"):
        (folder / name).touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FACEDIS_MODEL", raising=False)
    monkeypatch.setattr(facedis_core.model.bundled, "weights_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("source", "variable", "found"),
    [
        ("big", "", "bundle/big.safetensors"),
        (None, "", f"bundle/{DEFAULT_MODEL}.safetensors"),
        (None, "big", "bundle/big.safetensors"),
        ("ict-linear", "big", "bundle/ict-linear.safetensors"),
        # paths stay whether they exist or not, and a file goes before a bundled name
        *((path, "", path) for path in ("-", "./missing", "a/missing.safetensors", "/missing")),
        *((path, "", path) for path in ("none.safetensors", "pipe", "both", Path("both"))),
    ],
)
def test_what_a_name_means(bundled, monkeypatch, source, variable, found):
    monkeypatch.setenv("FACEDIS_MODEL", variable)
    Path("both").touch()
    os.mkfifo("pipe")
    Path("big").mkdir()  # a folder is no model
    expected = str(found).replace("bundle", str(bundled))
    assert resolve_model(source) == expected


def test_the_default_is_the_bundled_one_whatever_lies_here(bundled):
    Path("ict-linear").touch()
    assert resolve_model(None) == str(bundled / "ict-linear.safetensors")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ict-linaer", "did you mean 'ict-linear'"),
        ("zzz", "bundled: big, both, ict-linear"),
        ("", "bundled"),
        ("card", "bundled"),
        ("x" * 300, "bundled"),
        ("a\0b", "bundled"),
    ],
)
def test_unknown_names_are_refused_in_one_line(name, hint):
    with raises("model-missing", hint) as caught:
        resolve_model(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (
            "ict-linear.safetensors",
            "ict-linear",
        ),  # bundled, with its suffix
        ("weights/ict-linaer.safetensors", "ict-linear"),
        ("models/mien.safetensors", "models/mine.safetensors"),
        ("./models/mine.safetensor", "./models/mine.safetensors"),
        ("models//mime.safetensors", "models//mine.safetensors"),
        ("big.safetensor", "big"),
        ("mine.safetensor", "mine.safetensors"),
    ],
)
def test_a_file_that_is_not_there_while_one_of_almost_its_name_is(name, meant):
    Path("models").mkdir()
    Path("mine.safetensors").touch()
    Path("models/mine.safetensors").touch()
    with raises("file-missing|model-missing", "did you mean ") as caught:
        resolve_model(name)
    assert name in str(caught.value)
    assert str(caught.value).endswith(f"did you mean {meant!r}?")
    assert isinstance(caught.value, InputError) == (name.endswith("s") or "/" in name)


def write_model(path, found="a1b2c3d4e5f6", kind="facedis.model/1"):
    metadata = json.dumps({"id": found, "format": kind})
    header = json.dumps({"__metadata__": {"facedis": metadata}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def test_the_id_of_a_real_model(model_file):
    assert model_id(model_file) == load_model(model_file).id


class TestList:
    @pytest.fixture(autouse=True)
    def two(self, bundled):
        write_model(bundled / "ict-linear.safetensors")
        write_model(bundled / "big.safetensors", "ffffffffffff")
        (bundled / "both.safetensors").unlink()

    def test_the_default_is_marked(self):
        assert list_models() == [("big", "f" * 12, ""), ("ict-linear", "a1b2c3d4e5f6", "default")]

    def test_the_environment_names_the_default(self, monkeypatch):
        monkeypatch.setenv("FACEDIS_MODEL", "big")
        assert [model.default for model in list_models()] == ["default, from $FACEDIS_MODEL", ""]
        write_model(Path("mine"), "0" * 12)
        monkeypatch.setenv("FACEDIS_MODEL", "mine")
        assert list_models()[2] == ("mine", "0" * 12, "default, from $FACEDIS_MODEL")
        assert [model.default for model in list_models()[:2]] == ["", ""]
        Path("mine").rename("ict-linear")  # a file before the bundled one
        monkeypatch.setenv("FACEDIS_MODEL", "ict-linear")
        assert [model[:2] for model in list_models()[1:]] == [
            ("ict-linear", "a1b2c3d4e5f6"),
            ("ict-linear", "0" * 12),
        ]

    @pytest.mark.parametrize(
        ("content", "trouble"),
        [
            (b"", "not a whole safetensors file"),
            (b"\xff" * 200, "not a whole safetensors file"),
            (b"\x08" + bytes(7) + b"{" * 8, "not a file of facedis"),
            (b"\x02" + bytes(7) + b"{}", "not a file of facedis"),
            (b"\x04" + bytes(7) + b"null", "not a file of facedis"),
            (b"\xa0\x86\x01" + bytes(5) + b"[" * 100_000, "not a file of facedis"),
        ],
    )
    def test_a_broken_file_is_no_reason_to_fail(self, bundled, content, trouble):
        (bundled / "big.safetensors").write_bytes(content)
        assert list_models()[0] == ("big", trouble, "")
        assert list_models()[1].id == "a1b2c3d4e5f6"

    def test_other_files_of_ours_and_odd_ids(self, bundled):
        write_model(bundled / "big.safetensors", kind="facedis.faceset/1")
        assert list_models()[0].id == "not a model"
        write_model(bundled / "big.safetensors", found="a\nb")
        assert list_models()[0].id == "'a\\nb'"

    @pytest.mark.parametrize("name", ["ict-linaer", "./x.safetensors", "-", ".", "pipe", "a\nb"])
    def test_a_default_that_is_none(self, monkeypatch, name):
        os.mkfifo("pipe")  # reading it would never end
        monkeypatch.setenv("FACEDIS_MODEL", name)
        listed = list_models()[2]
        assert listed.id == "no such file, or no regular one"
        assert listed.name.isprintable()


def test_nothing_is_bundled(bundled):
    for path in bundled.glob("*.safetensors"):
        path.unlink()
    (model,) = list_models()
    assert (model.name, model.default) == ("ict-linear", "default")
    with raises("model-missing", "bundled: none"):
        resolve_model(None)


def test_the_installed_bundle_is_a_folder():
    assert weights_folder().is_dir()
