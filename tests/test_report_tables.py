"""The table of metrics: who is best, and that no number is lost."""

import re

from facedis_core.metrics import BETTER
from facedis_core.report_tables import TERMS, Column, best, meanings, scoreboard


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.25, "median": 0.5, "n": 1234}


def test_every_metric_with_a_meaning_is_in_the_table() -> None:
    assert set(TERMS) == {key for key in BETTER if not key.endswith(("_probes", "_faces"))}


def test_best_is_lower_or_higher_and_may_be_shared() -> None:
    one = Column("one", {"e_rec": summary(0.5), "rank1_cosine_accuracy": 0.5})
    two = Column("two", {"e_rec": summary(0.50001), "rank1_cosine_accuracy": 0.75})
    three = Column("three", {"e_rec": summary(0.6)}, baseline=True)
    assert best("e_rec", [one, two, three]) == {0, 1}
    assert best("rank1_cosine_accuracy", [one, two, three]) == {1}
    assert best("e_rec", [one]) == set()


def test_the_mean_face_is_never_best_but_a_model_of_that_name_may_be() -> None:
    trivial = Column("mean_face", {"e_dis": summary(0.0)}, baseline=True)
    model = Column("model", {"e_dis": summary(0.1)})
    other = Column("other", {"e_dis": summary(0.2)}, baseline=True)
    assert best("e_dis", [model, trivial, other]) == {0}
    assert best("e_dis", [trivial._replace(baseline=False), model]) == {0}


def test_a_model_named_as_a_baseline_does_not_share_its_place() -> None:
    columns = [
        Column("pca", {"e_rec": summary(2.0)}),
        Column("other", {"e_rec": summary(1.0)}),
        Column("pca", {"e_rec": summary(0.5)}, baseline=True),
    ]
    assert best("e_rec", columns) == {2}
    assert str(scoreboard(columns)).count("<strong>") == 1


def test_counts_that_differ_are_told_from_lowest_to_highest() -> None:
    few = Column("few", {"e_rec": summary(1.0) | {"n": 120}})
    assert ">120–1,234</td>" in scoreboard([Column("many", {"e_rec": summary(1.0)}), few])


def test_what_has_no_better_direction_has_no_best() -> None:
    columns = [Column(name, {"between_subject": summary(k)}) for k, name in enumerate("ab")]
    assert best("between_subject", columns) == set()


def test_cells_hold_the_numbers() -> None:
    metrics = {
        "e_rec": summary(1.23456),
        "rank1_vertex_accuracy": 0.875,
        "rank1_probes": 99,
        "expression_chance": 0.05,
        "expression_faces": 77,
    }
    table = scoreboard([Column("a_<b>", metrics), Column("empty", {}, baseline=True)])
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", table))
    for part in ("1.2346", "± 0.250 · 0.500", "1,234", "0.8750", "99", "0.0500", "77", "–"):
        assert part in words, part
    assert "a_<wbr>&lt;b&gt;" in table
    assert table.count('scope="row"') == 3
    assert "avd_neu" not in meanings([Column("a", metrics)])
    assert "e_rec" in meanings([Column("a", metrics)])
