"""A folder of registered meshes: patterns, labels, splits, and what is wrong with the meshes."""

import csv

import numpy as np
import pytest
from conftest import save_mesh
from synthetic import grid_mesh

from facedis_core.datasets.folder import match_files, open_folder
from facedis_core.datasets.source import open_source
from facedis_core.errors import InputError, UsageError
from facedis_core.mesh.mesh import Mesh, topology_id, write_mesh

EXPRESSIONS = ("neutral", "smile", "mouth_stretch")
PATTERN = "{subject}_{expression}.ply"


def face(subject, expression):
    """A face of its own for everybody, (36, 3) mm."""
    vertices, _ = grid_mesh()
    person = np.random.default_rng(subject).normal(0, 2, vertices.shape)
    shown = np.random.default_rng(100 + expression).normal(0, 1, vertices.shape)
    return (vertices + person + shown * (expression > 0)).astype(np.float32)


@pytest.fixture
def root(tmp_path):
    """Six people with three expressions each, in flat PLY files."""
    for s in range(6):
        for e, name in enumerate(EXPRESSIONS):
            save_mesh(tmp_path / "scans" / f"p{s}_{name}.ply", face(s, e))
    return tmp_path / "scans"


def write_csv(path, rows, columns=("file", "subject", "expression")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_labels_by_pattern(root):
    (root / "notes.txt").write_text("scanned in May")
    source = open_folder(root, pattern=PATTERN)
    labels = source.labels
    assert list(labels.subjects) == [f"p{s}" for s in range(6)]
    assert list(labels.expressions) == ["neutral", "mouth_stretch", "smile"]
    assert len(labels.names) == 18 and labels.names[0] == "p0_mouth_stretch"
    shown = [labels.expressions[e] for e in labels.expression]
    assert all(n.endswith(s) for n, s in zip(labels.names, shown, strict=True))
    assert (labels.level == (labels.expression > 0)).all()
    assert np.bincount(labels.split).tolist() == [12, 6]
    assert source.notes == [] and source.findings.unknown == ["notes.txt"]
    assert source.at_rest.sum() == 6


def test_labels_by_csv(root, tmp_path):
    rows = [
        ["p0_smile.ply", "ann", "smile", "0.5", "train"],
        ["p1_neutral.ply", "bob", "rest", "0", "test"],
        ["./p2_neutral.ply", "cy", "rest", "", "validation"],
    ]
    columns = ("file", "subject", "expression", "level", "split")
    table = write_csv(tmp_path / "labels.csv", rows, columns)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets do
    source = open_folder(root, labels=table, neutral="rest")
    labels = source.labels
    assert labels.names == ["p0_smile", "p1_neutral", "p2_neutral"]
    assert labels.level.tolist() == [0.5, 0, 0]
    assert labels.split.tolist() == [0, 1, 2]
    assert source.at_rest.tolist() == [False, True, True]
    assert source.protocol == "as labelled" and len(source.inputs["labels"]) == 12
    with pytest.raises(UsageError, match="column split; leave out --protocol"):
        open_folder(root, labels=table, neutral="rest", protocol="subjects:0.2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns of an empty file; expected file, subject, expression"),
        ("file,subject\na.ply,ann\n", "has the columns file, subject; expected"),
        ("file,subject,expression,mood\n", "mood; expected"),
        ("file,subject,expression\n", "header and no rows"),
        ("file,subject,expression\np0_smile.ply,ann\n", "line 2 has more or fewer fields"),
        ("file,subject,expression\np0_smile.ply,ann,smile,1\n", "line 2 has more or fewer"),
        ("file,subject,expression\np0_smile.ply,,smile\n", "line 2 says nothing under 'subject'"),
        ("file,subject,expression,level\np0_smile.ply,a,b,2\n", "line 2 has level '2', expected"),
        ("file,subject,expression,level\np0_smile.ply,a,b,nan\n", "line 2 has level 'nan'"),
        ("file,subject,expression,split\np0_smile.ply,a,b,dev\n", "line 2 has split 'dev'"),
        ("file,subject,expression\nno.ply,a,b\n", "lists no.ply and others, none of which is in"),
        ("file,subject,expression\np0_smile.ply,a,b\np0_smile.ply,a,c\n", "p0_smile.ply twice"),
        ("file,subject,expression\np0_smile.ply,a,b\n./p0_smile.ply,a,c\n", "ply twice"),
        ("file,subject,expression\n/p0_smile.ply,a,b\n", "line 2: .* expected a relative path"),
        ("file,subject,expression\nx/../p0_smile.ply,a,b\n", "line 2: .* without '..'"),
        ('file,subject,expression\n"p0\nsmile.ply",a,b\n', "line 3: .* has a control character"),
        (
            "file,subject,expression,split\np0_smile.ply,a,b,train\np1_smile.ply,a,b,test\n",
            "subject 'a' is in the splits train and test; a split is by subjects",
        ),
    ],
)
def test_bad_csv(root, tmp_path, text, message):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        open_folder(root, labels=table)


def test_csv_that_is_no_text(root, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        open_folder(root, labels=table)
    with pytest.raises(InputError, match="does not exist"):
        open_folder(root, labels=tmp_path / "none.csv")


def test_bad_folders_and_options(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files"):
        open_folder(tmp_path / "empty", pattern=PATTERN)
    with pytest.raises(InputError, match="is not a folder"):
        open_folder(tmp_path / "none", pattern=PATTERN)
    with pytest.raises(InputError, match=r"none of the 18 files .* p0_mouth_stretch.ply does"):
        open_folder(root, pattern="{subject}-{expression}.ply")
    with pytest.raises(UsageError, match="needs --pattern"):
        open_folder(root)
    with pytest.raises(UsageError, match="--units is 'inch', expected one of mm, cm, dm, m"):
        open_folder(root, pattern=PATTERN, units="inch")
    with pytest.raises(InputError, match="shows the expression 'calm' given as --neutral"):
        open_folder(root, pattern=PATTERN, neutral="calm")
    with pytest.raises(UsageError, match="source folder has no option --subjects; it is for ict"):
        open_source("folder", root, {"pattern": PATTERN, "subjects": 5, "seed": 0})
    with pytest.raises(UsageError, match="no source 'coma2'; choose from coma, bu3dfe"):
        open_source("coma2", root, {})


def test_two_files_of_one_name(root):
    save_mesh(root / "p0_smile.obj", face(0, 1))
    with pytest.raises(InputError, match=r"p0_smile.obj and p0_smile.ply would both be named"):
        open_folder(root, pattern="{subject}_{expression}.*")


def test_level_in_a_name(tmp_path):
    (tmp_path / "a_b_3.ply").touch()
    with pytest.raises(InputError, match=r"a_b_3.ply has level '3', expected a number"):
        match_files(tmp_path, "{subject}_{expression}_{level}.ply")


def everything(source):
    return np.arange(len(source.labels.names))


def prepared(source):
    """The preparation of a source, which must have nothing to say of it."""
    said = []
    preparation = source.preparation(everything(source), said.append)
    assert not said
    return preparation


def read(root, rows=(0,), **options):
    """Faces of some rows; what cannot be read raises."""
    source = open_folder(root, pattern=PATTERN, **options)
    block = source.reader(prepared(source), everything(source)).read(rows)
    for why in block.failures.values():
        raise why
    return block.faces


def test_units(tmp_path):
    vertices, _ = grid_mesh()
    for suffix in (".ply", ".obj"):
        save_mesh(tmp_path / f"a_neutral{suffix}", vertices / 100)
    for unit, factor in (("mm", 1), ("cm", 10), ("m", 1000), (None, 1)):
        options = {"pattern": "{subject}_{expression}.obj", "units": unit, "protocol": "subjects:0"}
        source = open_folder(tmp_path, **options)
        preparation = source.preparation(everything(source), lambda line: None)
        made = source.reader(preparation, everything(source)).read([0]).faces[0]
        np.testing.assert_allclose(made, vertices / 100 * factor, rtol=1e-6)
        assert preparation.raw_unit_mm == factor
    # A PLY of ours says that it is in millimetres.
    made = read(tmp_path, units="m", protocol="subjects:0")[0]
    np.testing.assert_allclose(made, vertices / 100, rtol=1e-6)


def test_simplification_keeps_original_vertices(root):
    pytest.importorskip("fast_simplification")
    source = open_folder(root, pattern=PATTERN, simplify=24)
    preparation = prepared(source)
    assert len(preparation.vertex_index) < 36 and len(preparation.triangles) <= 25
    assert preparation.raw_topology == topology_id(grid_mesh()[1])
    made = source.reader(preparation, everything(source)).read(range(18)).faces
    for row, name in enumerate(source.labels.names):
        subject, expression = name.split("_", 1)
        expected = face(int(subject[1:]), EXPRESSIONS.index(expression))
        np.testing.assert_array_equal(made[row], expected[preparation.vertex_index])


def with_nan(vertices, triangles):
    vertices[3, 1] = np.nan
    return vertices, triangles


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v, t: (v[:-1], t[(t < 35).all(1)]), r"p5_smile.ply has 35 vertices, expected 36"),
        (lambda v, t: (v, t[::-1]), r"p5_smile.ply has other triangles than the others"),
        (with_nan, r"p5_smile.ply.*finite"),
    ],
)
def test_meshes_that_do_not_belong(root, spoil, message):
    vertices, triangles = spoil(*grid_mesh())
    with (root / "p5_smile.ply").open("wb") as stream:
        write_mesh(stream, Mesh(vertices.astype(np.float32), triangles))
    with pytest.raises(InputError, match=message):
        read(root, range(18))


def test_a_point_cloud_is_no_face_set(tmp_path):
    save_mesh(tmp_path / "a_neutral.ply", grid_mesh()[0], np.zeros((0, 3), np.int32))
    with pytest.raises(InputError, match=r"a_neutral.ply has no triangles"):
        read(tmp_path, protocol="subjects:0")
