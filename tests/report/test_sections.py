"""Sections of a report: what differs between models."""

from dataclasses import replace
from types import SimpleNamespace

from synthetic import random_model

from facedis_core.data.history import HistoryStep
from facedis_core.report.sections import differing_facts


def result(**changes: object) -> SimpleNamespace:
    model = random_model(identity=3, expression=2)
    step = HistoryStep("fd-train", "0.1", {"set": "1" * 12}, {"recipe": "linear", "neutrals": True})
    return SimpleNamespace(model=replace(model, history=[step], **changes))


def test_facts_in_which_models_differ() -> None:
    one = result(recipe={"batch": 8, "epochs": 60}, metrics={"steps": 100})
    step = HistoryStep("fd-train", "0.1", {"set": "2" * 12}, {"recipe": "linear"})
    other = result(recipe={"batch": 32, "epochs": 60}, metrics={"steps": 250})
    other.model = replace(other.model, history=[step])
    assert differing_facts([one, other]) == [
        ("option neutrals", ["True", "–"]),
        ("input set", ["1" * 12, "2" * 12]),
        ("trained steps", ["100", "250"]),
        ("recipe batch", ["8", "32"]),
    ]
    assert differing_facts([one, one]) == []
    assert differing_facts([one]) == []
