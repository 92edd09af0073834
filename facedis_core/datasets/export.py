"""A face set written out as meshes with a table of labels, for other methods."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import SPLITS, FaceSet, load_face_set
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.paths import check_name
from facedis_core.io.streams import check_output, open_output
from facedis_core.io.urls import refuse_url
from facedis_core.mesh.mesh import Mesh, write_mesh

FACES: Final = "faces"
LABELS: Final = "labels.csv"
REGION: Final = "region.txt"
COLUMNS: Final = ("name", "file", "subject", "expression", "level", "split")


class _OutputMesh(NamedTuple):
    """A mesh to write: its path below the folder, and its vertices (V, 3) mm."""

    path: Path
    vertices: np.ndarray


def export_face_set(
    source: str | Path,
    folder: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda steps: None,
) -> int:
    """Write a face set as binary PLY files, float32 mm as they are in the set.

    `faces/NAME.ply` are the faces, `neutrals/SUBJECT.ply` the neutrals for training, where there
    are any, and `neutrals_eval/` those for AVD_neu if they differ. `labels.csv` comes last; its
    columns suit `fd-prep folder FOLDER/faces --labels` and `fd-metrics --truth FOLDER/faces
    --labels`. `region.txt` is the mask of the region, where the set has one, for `fd-prep
    --region`.

    Args:
        source: path of the set.
        folder: is made if missing.
        force: replace existing files.
        progress: called with the number of newly written meshes.

    Returns:
        The number of faces.

    Raises:
        InputError: not a face set, a URL as the folder, or a name that cannot be a file.
        UsageError: a file exists, without `force`.
        OutputError: a file cannot be written.
    """
    refuse_url(folder)
    faces = load_face_set(source)
    labels = faces.labels
    for name in (*labels.names, *labels.subjects):
        check_name(name)
    for name in (*labels.names, *labels.subjects, *labels.expressions):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"the name {name!r} is not in UTF-8, as {LABELS} is; rename the files and "
                "prepare them again",
                ErrorCode.NAME_INVALID,
            ) from None
    table, region = folder / LABELS, folder / REGION
    texts = [table] if faces.region is None else [table, region]
    for target in (*texts, *(folder / FACES / f"{name}.ply" for name in labels.names)):
        check_output(str(target), force, parents=True, binary=target not in texts)
    for path, vertices in _meshes(faces):
        mesh = Mesh(vertices, faces.triangles, path.stem, unit_mm=1.0)
        with open_output(str(folder / path), force=force, parents=True) as stream:
            write_mesh(stream, mesh)
        progress(1)
    with open_output(str(table), force=force, parents=True, binary=False) as stream:
        stream.write(_table(faces).encode())
    if faces.region is not None:
        lines = "".join(f"{int(inside)}\n" for inside in faces.region)
        with open_output(str(region), force=force, binary=False) as stream:
            stream.write(lines.encode())
    return len(labels.names)


def _meshes(faces: FaceSet) -> Iterator[_OutputMesh]:
    """All faces, then the neutrals."""
    for row, name in enumerate(faces.labels.names):
        yield _OutputMesh(Path(FACES, f"{name}.ply"), faces.read([row])[0])
    same = np.array_equal(faces.neutrals, faces.neutrals_eval, equal_nan=True)
    kinds = {"neutrals": faces.neutrals} | ({} if same else {"neutrals_eval": faces.neutrals_eval})
    for kind, neutrals in kinds.items():
        for subject, vertices in zip(faces.labels.subjects, neutrals, strict=True):
            if np.isfinite(vertices).all():
                yield _OutputMesh(Path(kind, f"{subject}.ply"), np.asarray(vertices))


def _table(faces: FaceSet) -> str:
    """The labels of all faces as CSV."""
    text, labels = io.StringIO(newline=""), faces.labels
    split_names = {number: name for name, number in SPLITS.items()}
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = zip(
        labels.names, labels.subject, labels.expression, labels.level, labels.split, strict=True
    )
    for name, subject, expression, level, split in columns:
        subject, expression = labels.subjects[subject], labels.expressions[expression]
        file, level = f"{name}.ply", f"{level:.9g}"
        writer.writerow([name, file, subject, expression, level, split_names[int(split)]])
    return text.getvalue()
