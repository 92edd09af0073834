"""Which model is meant: a path, a bundled name, the environment, the default."""

import os
from pathlib import Path

import pytest

import facedis_core.bundle
from facedis_core.bundle import DEFAULT_MODEL, resolve_model, weights_folder
from facedis_core.errors import UsageError


@pytest.fixture(autouse=True)
def bundled(tmp_path, monkeypatch):
    """A bundle with the models `ict` and `big`, and an empty folder to stand in."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("ict.safetensors", "big.safetensors", "card.md"):
        (folder / name).touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FACEDIS_MODEL", raising=False)
    monkeypatch.setattr(facedis_core.bundle, "weights_folder", lambda: folder)
    return folder


def test_names_are_those_of_the_bundle(bundled):
    assert resolve_model("big") == str(bundled / "big.safetensors")
    assert resolve_model(None) == str(bundled / f"{DEFAULT_MODEL}.safetensors")


def test_the_environment_is_the_default(bundled, monkeypatch):
    monkeypatch.setenv("FACEDIS_MODEL", "big")
    assert resolve_model(None) == str(bundled / "big.safetensors")
    assert resolve_model("ict") == str(bundled / "ict.safetensors")
    monkeypatch.setenv("FACEDIS_MODEL", "")
    assert resolve_model(None) == str(bundled / "ict.safetensors")


@pytest.mark.parametrize("path", ["-", "./missing", "a/missing.safetensors", "/missing"])
def test_paths_stay_whether_they_exist_or_not(path):
    assert resolve_model(path) == path


def test_a_file_goes_before_a_bundled_name():
    Path("big").touch()
    Path("mine.safetensors").touch()
    os.mkfifo("pipe")
    for name in ("big", "mine.safetensors", "pipe"):
        assert resolve_model(name) == name
        assert resolve_model(Path(name)) == name


def test_a_folder_does_not_hide_a_bundled_name(bundled):
    Path("ict").mkdir()
    assert resolve_model("ict") == resolve_model(None) == str(bundled / "ict.safetensors")


def test_the_default_is_the_bundled_one_whatever_lies_here(bundled):
    Path("ict").touch()
    assert resolve_model(None) == str(bundled / "ict.safetensors")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("itc", "did you mean 'ict'"),
        ("zzz", "bundled: big, ict"),
        ("card", "bundled"),
        ("x" * 300, "bundled"),
        ("a\0b", "bundled"),
    ],
)
def test_unknown_names_are_refused_in_one_line(name, hint):
    with pytest.raises(UsageError, match=f"there is no model .*{hint}") as caught:
        resolve_model(name)
    assert str(caught.value).isprintable()


def test_what_is_called_like_a_file_is_meant_as_one():
    assert resolve_model("ict.safetensors") == "ict.safetensors"


def test_an_empty_bundle_says_so(bundled):
    for path in bundled.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(UsageError, match="bundled: none"):
        resolve_model(None)


def test_the_installed_bundle_is_a_folder():
    assert weights_folder().is_dir()


def test_an_empty_name_is_none():
    with pytest.raises(UsageError, match="there is no model ''"):
        resolve_model("")
