"""Lists of what to leave out: names of faces, files and subjects."""

import pytest
import trees
from prepared import open_names, stem
from raising import raises

from facedis_core.datasets import selection
from facedis_core.datasets.selection import ExclusionList, read_exclusion, select_faces


def chosen(source, *listed):
    return select_faces(source, ExclusionList(frozenset(listed), "0" * 12))


def names_left(source, *listed):
    """Faces that are left when these are to be excluded."""
    return [source.labels.names[row] for row in chosen(source, *listed).rows]


def test_a_list_has_a_name_in_each_line(tmp_path, monkeypatch):
    path = tmp_path / "broken.txt"
    path.write_text("# broken\n 12/3_mouth_stretch \n\n13\n")
    found = read_exclusion(path)
    assert found.names == {"12/3_mouth_stretch", "13"} and len(found.id) == 12
    monkeypatch.setattr(selection, "_MOST_NAMES", 1)
    with raises("too-large"):
        read_exclusion(path)
    path.write_bytes(b"J\xfcrgen\n")
    with raises("wrong-kind"):
        read_exclusion(path)


@pytest.mark.parametrize("variant", trees.FACESCAPE_FOLDERS)
def test_one_list_fits_every_layout(variant):
    names = [
        trees.facescape_name(k, e, variant) for k in (12, 13) for e in trees.FACESCAPE_EXPRESSIONS
    ]
    gone = names.pop(4)
    source = open_names("facescape", names, protocol="subjects:0")
    listed = ["12/3_mouth_stretch", gone, "13", "700/1_neutral", "603"]
    found = chosen(source, *listed)
    assert len(found.rows) == 18 and not found.missing
    assert found.unmatched == ["603", "700/1_neutral"]
    with raises("name-unknown"):
        chosen(source, "700", "603")


@pytest.mark.parametrize("line", ["603", "603/models_reg/1_neutral.obj", "12/models_reg/2_smile"])
def test_a_list_may_name_what_is_not_there_anyway(line):
    """Such a list is passed from one to another, and everybody's copy lacks other files."""
    names = [trees.facescape_name(k, e) for k in (12, 13, 14, 603) for e in ("neutral", "smile")]
    names.remove("12/models_reg/2_smile.obj")
    source = open_names("facescape", names)
    expected = [stem(name) for name in names if name[:3] != "603" and name[:4] != "14/m"]
    assert names_left(source, line, "14") == expected
    expected.append("14/models_reg/1_neutral")
    assert names_left(source, line, "14/models_reg/2_smile.obj") == expected


@pytest.mark.parametrize("line", ["1", "12/models_reg/1_smile", "60", "3"])
def test_names_that_nothing_has(line):
    source = open_names("facescape", [trees.facescape_name(k, "neutral") for k in (12, 13)])
    with raises("name-unknown", repr(line)):
        chosen(source, line)
    with raises("name-unknown", "the list of names to exclude has none; see"):
        chosen(source)
    with raises("empty"):
        chosen(source, "12", "13")


def test_excluding_what_is_missing_makes_the_set_whole():
    scans = (("NE", 0), ("SU", 2))
    names = [trees.bu3dfe_name(s, *scan) for s in ("F0011", "M0001") for scan in scans]
    source = open_names("bu3dfe", [n for n in names if not n.startswith("M0001_SU02")])
    assert [gap.file for gap in chosen(source, stem(names[0])).missing] == ["M0001_SU02*_F3D.wrl"]
    found = chosen(source, "M0001")
    assert not found.missing and [source.labels.subject[row] for row in found.rows] == [0, 0]
