"""Tables of a report: best methods and numbers."""

from facedis_core.evaluate.metrics import BETTER
from facedis_core.report.tables import TERMS, Method, best_methods, metric_rows


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.25, "median": 0.5, "n": 1234}


def test_every_metric_with_a_meaning_is_in_the_table() -> None:
    assert set(TERMS) == {key for key in BETTER if not key.endswith(("_probes", "_faces"))}


def test_best_is_lower_or_higher_and_may_be_shared() -> None:
    one = Method("one", {"e_rec": summary(0.5), "rank1_cosine_accuracy": 0.5})
    two = Method("two", {"e_rec": summary(0.50001), "rank1_cosine_accuracy": 0.75})
    three = Method("three", {"e_rec": summary(0.6)}, baseline=True)
    assert best_methods("e_rec", [one, two, three]) == {0, 1}
    assert best_methods("rank1_cosine_accuracy", [one, two, three]) == {1}
    assert best_methods("e_rec", [one]) == set()


def test_the_mean_face_is_never_best_but_a_model_of_that_name_may_be() -> None:
    trivial = Method("mean_face", {"e_dis": summary(0.0)}, baseline=True)
    model = Method("model", {"e_dis": summary(0.1)})
    other = Method("other", {"e_dis": summary(0.2)}, baseline=True)
    assert best_methods("e_dis", [model, trivial, other]) == {0}
    assert best_methods("e_dis", [trivial._replace(baseline=False), model]) == {0}


def test_a_model_named_as_a_baseline_does_not_share_its_place() -> None:
    methods = [
        Method("pca", {"e_rec": summary(2.0)}),
        Method("other", {"e_rec": summary(1.0)}),
        Method("pca", {"e_rec": summary(0.5)}, baseline=True),
    ]
    assert best_methods("e_rec", methods) == {2}
    (row,) = metric_rows(methods)
    assert [cell.best for cell in row.cells] == [False, False, True]


def test_counts_that_differ_are_told_from_lowest_to_highest() -> None:
    few = Method("few", {"e_rec": summary(1.0) | {"n": 120}})
    (row,) = metric_rows([Method("many", {"e_rec": summary(1.0)}), few])
    assert row.counted == "120–1,234"


def test_what_has_no_better_direction_has_no_best() -> None:
    methods = [Method(name, {"between_subject": summary(k)}) for k, name in enumerate("ab")]
    assert best_methods("between_subject", methods) == set()


def test_cells_hold_the_numbers() -> None:
    metrics = {
        "e_rec": summary(1.23456),
        "rank1_vertex_accuracy": 0.875,
        "rank1_probes": 99,
        "expression_chance": 0.05,
        "expression_faces": 77,
    }
    rows = metric_rows([Method("a", metrics), Method("empty", {}, baseline=True)])
    assert [row.key for row in rows] == ["e_rec", "rank1_vertex_accuracy", "expression_chance"]
    assert [row.counted for row in rows] == ["1,234", "99", "77"]
    assert [row.cells[0].mean for row in rows] == ["1.2346", "0.8750", "0.0500"]
    assert [row.cells[0].spread for row in rows] == ["± 0.250 · 0.500", "", ""]
    assert [row.cells[1] for row in rows] == [("–", "", False, True)] * 3


def test_a_long_label_may_break_after_its_joints() -> None:
    assert Method("ridge_neutral-2/x", {}).label_pieces == ["ridge_", "neutral-", "2/", "x"]
