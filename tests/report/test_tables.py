"""Tables of a report: verdicts and numbers."""

from facedis_core.evaluate.metrics import BETTER
from facedis_core.evaluate.uncertainty import Difference, Interval
from facedis_core.report.tables import TERMS, Method, metric_rows


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.25, "median": 0.5, "n": 1234}


def test_every_metric_with_a_meaning_is_in_the_table() -> None:
    assert set(TERMS) == {key for key in BETTER if not key.endswith(("_probes", "_faces"))}


def difference(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high, 0.02, 7)


def test_a_verdict_where_the_paired_interval_excludes_0() -> None:
    first = Method("one", {"e_rec": summary(0.5), "rank1_cosine_accuracy": 0.5, "rank1_probes": 9})
    known = {
        "e_rec": difference(-0.2, -0.1),
        "rank1_cosine_accuracy": difference(-0.2, 0.1),
        "between_subject": difference(0.1, 0.2),
    }
    other = first._replace(
        label="two",
        metrics={**first.metrics, "between_subject": summary(1.0)},
        differences=known,
        intervals={"e_rec": Interval(0.25, 0.75)},
    )
    rows = {row.key: row.cells for row in metric_rows([first, other])}
    assert [cell.verdict for cell in rows["e_rec"]] == ["", "better"]
    assert [cell.interval for cell in rows["e_rec"]] == ["", "0.2500 to 0.7500"]
    assert [cell.verdict for cell in rows["rank1_cosine_accuracy"]] == ["", "none"]
    assert [cell.verdict for cell in rows["between_subject"]] == ["", "higher"]
    worse = other._replace(differences={"e_rec": difference(0.1, 0.2)})
    assert metric_rows([first, worse])[0].cells[1].verdict == "worse"


def test_the_mean_face_is_not_better_by_construction_but_a_model_of_that_name_may_be() -> None:
    known = {"e_dis": difference(-0.2, -0.1), "avd_neu": difference(0.1, 0.2)}
    values = {"e_dis": summary(0.0), "avd_neu": summary(1.0)}
    trivial = Method("mean_face", values, baseline=True, differences=known)
    e_dis, avd_neu = metric_rows([trivial, trivial._replace(baseline=False)])
    assert [cell.verdict for cell in e_dis.cells] == ["", "better"]
    assert [cell.verdict for cell in avd_neu.cells] == ["worse", "worse"]


def test_counts_that_differ_are_told_from_lowest_to_highest() -> None:
    few = Method("few", {"e_rec": summary(1.0) | {"n": 120}})
    (row,) = metric_rows([Method("many", {"e_rec": summary(1.0)}), few])
    assert row.counted == "120–1,234"


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
    assert [row.cells[1] for row in rows] == [("–", "", "", "", True)] * 3


def test_a_long_label_may_break_after_its_joints() -> None:
    assert Method("ridge_neutral-2/x", {}).label_pieces == ["ridge_", "neutral-", "2/", "x"]
