"""What `hone eval` does beside evaluating; evaluations themselves are in tests/methods."""

import math

import pytest
from huggingface_hub import constants, is_offline_mode

from hone.algorithms.evals.statistics import Estimate
from hone.cli.eval import _between, _task_arg, _without_hub
from hone.errors import UserError


def test_tokenizers_are_not_looked_up_on_a_hub_and_benchmarks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with _without_hub():
        assert is_offline_mode()
    assert not is_offline_mode()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with _without_hub():
        assert not is_offline_mode(), "who says so wants the hub asked"


def test_arguments_of_tasks_are_yaml() -> None:
    assert _task_arg("count=3") == ("count", 3)
    assert _task_arg("name=a=b") == ("name", "a=b")
    assert _task_arg("on=[a, b]") == ("on", ["a", "b"])
    for text in ("count", "=3"):
        with pytest.raises(UserError, match="is not NAME=VALUE"):
            _task_arg(text)
    with pytest.raises(UserError, match="not YAML"):
        _task_arg("a=[")


def test_bounds_are_told_where_there_are_any() -> None:
    assert _between(Estimate(0.5, 0.25, 0.75, 9)) == "between 25.0% and 75.0%"
    assert _between(Estimate(0.0, -0.1, 0.1, 9), "+") == "between -10.0% and +10.0%"
    assert _between(Estimate(0.5, -math.inf, math.inf, 1)) == "without bounds: its items are of one cluster"
