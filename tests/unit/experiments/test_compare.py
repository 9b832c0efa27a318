"""Differences by dotted path, metrics on shared tasks."""

import numpy as np
import pytest
from scipy import stats

from hone.errors import UserError
from hone.experiments.compare import changes, diff, flatten
from tests.support.experiment_records import METRIC, World, arm, failed_arm, measurement, record


def test_only_what_differs_is_told_by_dotted_path() -> None:
    a = {
        "algorithm": {"kind": "sft", "params": {"lr": 1e-5}},
        "tags": ["x"],
        "data": {"transforms": [{"kind": "chat"}]},
    }
    b = {
        "algorithm": {"kind": "sft", "params": {"lr": 2e-5, "epochs": 2}},
        "tags": ["x", "y"],
        "data": {"transforms": []},
    }
    assert [(one.path, one.a, one.b, one.only) for one in changes(a, b)] == [
        ("algorithm.params.epochs", None, 2, "b"),
        ("algorithm.params.lr", 1e-5, 2e-5, None),
        ("data.transforms", None, [], "b"),
        ("data.transforms.0.kind", "chat", None, "a"),
        ("tags", ["x"], ["x", "y"], None),
    ]
    assert changes(a, a) == []
    assert dict(flatten({"a": {}, "b": None})) == {"a": {}, "b": None}


def test_arms_are_compared_task_by_task() -> None:
    draw = np.random.default_rng(0)
    ease = draw.normal(0.5, 0.2, 50)
    first, second = ease + draw.normal(0, 0.01, 50), ease + 0.02 + draw.normal(0, 0.01, 50)
    found = diff(arm("a", measurement(first), seed=1), arm("b", measurement(second), seed=2))
    (metric,) = found.metrics
    assert metric.metric == METRIC
    assert metric.difference == pytest.approx(float((second - first).mean()))
    assert metric.p == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-3)
    assert (metric.tasks, metric.paired) == (50, True)
    assert [one.path for one in found.config] == ["seed"]
    assert "mean_reward: " in found.as_text()
    assert "seed: 1 -> 2" in found.as_text()


def test_experiments_are_compared_by_their_best_groups_with_data_and_code() -> None:
    world = World(np.random.default_rng(1))
    one = world.experiment({"a": 0.5, "b": 0.6}, code={"hone": "1"}, data_fingerprints={"train": "x"})
    other = world.experiment({"a": 0.8, "b": 0.2}, code={"hone": "2"}, data_fingerprints={"train": "x"}, id="later")
    found = diff(one, other)
    assert found.metrics[0].difference == pytest.approx(0.2, abs=0.06)
    assert [(change.path, change.a, change.b) for change in found.code] == [("hone", "1", "2")]
    assert found.data == []
    assert found.usage_a.training_tokens == 6000
    arms = diff(one.arms[0], other.arms[0], of=(one, other))
    assert [change.path for change in arms.code] == ["hone"]


def test_what_has_no_result_is_compared_by_its_configuration() -> None:
    found = diff(arm("a", measurement([0.5])), failed_arm("b"))
    assert found.metrics == []
    assert "no metric that both have" in found.as_text()
    assert diff(record([failed_arm("a")]), record([], metric=None)).metrics == []


def test_an_arm_and_an_experiment_are_two_things() -> None:
    with pytest.raises(UserError, match="give two arms, or two experiments"):
        diff(arm("a"), record([]))


def test_one_number_a_side_has_no_interval() -> None:
    found = diff(arm("a", measurement([0.5])), arm("b", measurement([0.7])))
    assert (found.metrics[0].low, found.metrics[0].p) == (None, 1)
    assert found.model_dump_json()
