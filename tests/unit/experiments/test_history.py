"""What an agent reads before it decides the next experiment."""

import json

import numpy as np

from hone.experiments.conclusion import conclude
from hone.experiments.history import digest
from hone.experiments.records import ExperimentRecord
from tests.support.experiment_records import World, failed_arm, record


def past() -> list[ExperimentRecord]:
    world = World(np.random.default_rng(0))
    first = world.experiment(
        {"dpo": 0.8, "sft": 0.5},
        id="one",
        name="methods",
        created="2026-11-20T10:00:00Z",
        config={"hypothesis": "DPO beats SFT", "tags": ["methods"], "description": "Which method?"},
    )
    second = record([failed_arm("a")], id="two", name="broken", created="2026-11-21T10:00:00Z", status="failed")
    return [first, second]


def test_the_newest_come_first_with_what_they_showed() -> None:
    found = digest(past())
    assert [entry["id"] for entry in found] == ["two", "one"]
    entry = found[1]
    assert (entry["verdict"], entry["hypothesis"], entry["valid"]) == ("supported", "DPO beats SFT", True)
    assert entry["best"]["cell"] == {"algorithm.kind": "dpo"}
    assert entry["effect"]["low"] > 0
    assert entry["arms"] == {"all": 6, "done": 6}
    assert entry["cost"] == 1.5
    assert found[0]["failures"] == [{"arm": "a", "phase": "training", "reason": "the loss was not a number"}]
    assert not found[0]["valid"]


def test_a_recorded_conclusion_is_taken_as_it_stands() -> None:
    first = past()[0]
    kept = conclude(first).model_copy(update={"reason": "As it was said then."})
    (entry,) = digest([first.model_copy(update={"conclusion": kept.model_dump(mode="json")})])
    assert entry["reason"] == "As it was said then."


def test_it_is_plain_and_stable() -> None:
    found = digest(past())
    assert json.loads(json.dumps(found)) == found
    assert digest(reversed(past())) == found


def test_filters() -> None:
    records = past()
    assert [entry["id"] for entry in digest(records, name="methods")] == ["one"]
    assert [entry["id"] for entry in digest(records, tag="methods")] == ["one"]
    assert [entry["id"] for entry in digest(records, verdict="supported")] == ["one"]
    assert [entry["id"] for entry in digest(records, contains="WHICH method")] == ["one"]
    assert [entry["id"] for entry in digest(records, valid=False)] == ["two"]
    assert [entry["id"] for entry in digest(records, last=1)] == ["two"]
    assert digest(records, metric="nll") == []


def test_what_should_not_be_built_upon_says_so() -> None:
    first = past()[0]
    opening = {"benchmark": "t", "who": "x", "when": "y", "why": "z", "arms": [], "fingerprint": "f"}
    waived = ExperimentRecord.model_validate(first.model_dump() | {"openings": [opening | {"overlap_waiver": "names"}]})
    (entry,) = digest([waived])
    assert not entry["valid"]
    assert "waived_overlap" in entry["caveats"]
