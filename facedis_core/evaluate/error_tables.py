"""Tables of errors in detail: by mesh, by subject and by expression."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedis_core.evaluate.comparison import Method
from facedis_core.evaluate.tables import Table, Value


@dataclass(frozen=True)
class FaceNames:
    """Names of n measured faces, and of the labels of an evaluation.

    Attributes:
        names: name of each face.
        subjects: names by subject label.
        expressions: names by expression label.
        expression: (n,) expression label of each face.
    """

    names: Sequence[str]
    subjects: Sequence[str]
    expressions: Sequence[str]
    expression: np.ndarray


def by_mesh(methods: Sequence[Method], names: FaceNames) -> Table:
    """Errors of each mesh; of several methods, one after the other."""
    subject = methods[0].evaluation.subjects[methods[0].evaluation.subject]
    labels = [
        [name, names.subjects[person], names.expressions[kind]]
        for name, person, kind in zip(names.names, subject, names.expression, strict=True)
    ]
    return _table(
        methods, ["name", "subject", "expression"], labels, lambda m: m.evaluation.per_mesh
    )


def by_subject(methods: Sequence[Method], names: FaceNames) -> Table:
    """Errors of each subject: spreads, and means over its faces."""
    first = methods[0].evaluation
    labels: list[list[Value]] = [
        [names.subjects[person], int((first.subject == place).sum())]
        for place, person in enumerate(first.subjects)
    ]

    def values(method: Method) -> Mapping[str, np.ndarray]:
        found = method.evaluation
        means = _means(found.per_mesh, found.subject, len(found.subjects))
        return means | found.per_subject

    return _table(methods, ["subject", "faces"], labels, values)


def by_expression(methods: Sequence[Method], names: FaceNames) -> Table:
    """Errors of each expression: spreads, and means over its faces."""
    shown, place = np.unique(names.expression, return_inverse=True)
    labels: list[list[Value]] = [
        [names.expressions[kind], int((place == number).sum())] for number, kind in enumerate(shown)
    ]

    def values(method: Method) -> Mapping[str, np.ndarray]:
        found = method.evaluation
        return _means(found.per_mesh, place, len(shown)) | found.per_expression

    return _table(methods, ["expression", "faces"], labels, values)


def _means(
    per_mesh: Mapping[str, np.ndarray], group: np.ndarray, groups: int
) -> dict[str, np.ndarray]:
    """Mean of each value over the faces of each group (n,), NaN where no face has one."""
    means = {}
    for key, values in per_mesh.items():
        known = np.isfinite(values)
        counts = np.bincount(group[known], minlength=groups)
        sums = np.bincount(group[known], values[known], groups)
        means[key] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _table(
    methods: Sequence[Method],
    columns: Sequence[str],
    labels: Sequence[Sequence[Value]],
    values: Callable[[Method], Mapping[str, np.ndarray]],
) -> Table:
    """Labels and values; with several methods the first column names the method."""
    found = {method.name: values(method) for method in methods}
    keys = list(dict.fromkeys(key for known in found.values() for key in known))
    rows: list[Sequence[Value]] = []
    for name, known in found.items():
        unknown = np.full(len(labels), np.nan)
        cells = zip(*(known.get(key, unknown).tolist() for key in keys), strict=True)
        first = [name] if len(methods) > 1 else []
        rows += [[*first, *label, *cell] for label, cell in zip(labels, cells, strict=True)]
    return Table([*(["model"] if len(methods) > 1 else []), *columns, *keys], rows)
