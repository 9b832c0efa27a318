from typing import Any

import pytest
from pydantic import ValidationError

from hone.errors import UserError
from hone.experiments.kinds.contract import Metric, NoParams, TaskScores, Verifier
from hone.experiments.registry import Registry
from tests.support.experiment_kinds import Score, ScoreParams


def registry(**built_ins: Any) -> Registry[Metric[Any]]:
    return Registry(Metric, "metric", built_ins or {"score": Score})


def other(name: str = "Other") -> Any:
    return type(name, (Score,), {"__module__": __name__})


def test_plugins_stand_beside_built_ins() -> None:
    metrics = registry()
    plugin = metrics.register("other")(other())
    assert metrics.names() == ["other", "score"]
    assert [name for name, _ in metrics] == ["other", "score"]
    assert metrics.get("other") is plugin
    assert (metrics.is_built_in("score"), metrics.is_built_in("other")) == (True, False)
    assert "other" in metrics
    assert "third" not in metrics


def test_a_name_is_given_once() -> None:
    metrics = registry()
    metrics.register("other")(other())
    metrics.register("other")(other())  # the same class: its module was read again
    with pytest.raises(UserError, match=r"two metric plugins are named 'other': .*Other and .*Third; rename one"):
        metrics.register("other")(other("Third"))
    with pytest.raises(UserError, match="two metric plugins are named 'score'"):
        metrics.register("score")(other())


def test_an_unknown_kind_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"there is no metric 'scor'; did you mean 'score'\? there are score"):
        registry().get("scor")
    with pytest.raises(UserError, match="there is no metric 'xyz'; there are score"):
        registry().make("xyz", {})


def test_params_are_checked_and_typed() -> None:
    made = registry().make("score", {"k": "3"})
    assert made.params == ScoreParams(k=3)
    assert made.task_value(TaskScores("t", [0.0, 1.0])) == 1.0
    with pytest.raises(UserError, match=r"metric 'score' cannot take its params: k: .*; q: "):
        registry().make("score", {"k": 0, "q": 1})
    with pytest.raises(ValidationError):
        registry().params("score", {"k": 0})


def test_a_class_that_does_not_keep_the_contract_is_refused() -> None:
    class Judge(Verifier[NoParams]):
        def grader(self) -> Any: ...

    class Unfinished(Metric[NoParams]):
        pass

    untyped = type("Untyped", (Score,), {"Params": dict})
    metrics: Any = registry()
    for plugin, says in (
        (Judge, "no subclass of Metric"),
        (lambda: None, "no subclass of Metric"),
        (Unfinished, "lacks task_value"),
        (untyped, "Params that are no"),
    ):
        with pytest.raises(UserError, match=says):
            metrics.register("x")(plugin)
    assert metrics.names() == ["score"]


def test_what_packages_bring_is_looked_for_before_it_is_missed() -> None:
    asked = []
    metrics: Registry[Metric[Any]] = Registry(Metric, "metric", {"score": Score}, lambda: asked.append(1))
    assert metrics.get("score") is Score
    assert asked == []
    assert "other" not in metrics
    assert asked == [1]
