import itertools
from statistics import fmean

import pytest

from hone.errors import UserError
from hone.experiments.config import Spec
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import TaskScores
from hone.experiments.kinds.metrics import METRICS, metric_name, metric_spec
from hone.experiments.loading import experiment_from


def value(metric, *values):
    spec = metric_spec(metric)
    return plugins.metrics.make(spec.kind, spec.params).task_value(TaskScores("t", list(values)))


def test_mean_reward_counts_failures_as_the_zeros_they_are():
    assert value("mean_reward", 1.0, 0.0, 0.5, 0.5) == 0.5


def test_pass_rate():
    assert value("pass_rate", 1.0, 0.9, 0.0, 1.0) == 0.5
    assert value(Spec(kind="pass_rate", params={"threshold": 0.9}), 1.0, 0.9, 0.0, 1.0) == 0.75


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_pass_at_k_is_the_share_of_all_choices_of_k_answers_with_one_that_passes(k):
    answers = [1.0, 0.0, 0.0, 1.0, 0.2, 0.0, 0.99]
    expected = fmean(max(chosen) >= 1.0 for chosen in itertools.combinations(answers, k))
    assert value(f"pass@{k}", *answers) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_with_a_threshold_and_with_too_few_answers():
    assert value(Spec(kind="pass@k", params={"k": 2, "threshold": 0.5}), 0.5, 0.0) == 1.0
    with pytest.raises(UserError, match="pass@4 needs 4 answers or more to each task; there are 3"):
        value("pass@4", 1, 1, 1)


def test_likelihoods():
    assert value("nll", 1.25) == 1.25
    assert [value("preference_accuracy", *pair) for pair in ((-1, -2), (-2, -1), (-1, -1))] == [1.0, 0.0, 0.5]
    with pytest.raises(UserError, match="two likelihoods"):
        value("preference_accuracy", 1.0)


def test_which_direction_is_better_and_what_is_measured():
    assert {name: (metric.goal, metric.measures) for name, metric in METRICS.items()} == {
        "mean_reward": ("max", "answers"),
        "pass_rate": ("max", "answers"),
        "pass@k": ("max", "answers"),
        "nll": ("min", "likelihood"),
        "preference_accuracy": ("max", "preferences"),
    }


@pytest.mark.parametrize(
    ("metric", "spec", "name"),
    [
        ("pass@4", Spec(kind="pass@k", params={"k": 4}), "pass@4"),
        ("pass@k", Spec(kind="pass@k"), "pass@1"),
        ("nll", Spec(kind="nll"), "nll"),
        (Spec(kind="pass@k", params={"k": 2, "threshold": 0.5}), None, "pass@2(threshold=0.5)"),
        (Spec(kind="pass_rate", params={"threshold": 0.5}), None, "pass_rate(threshold=0.5)"),
        ("mine@4", Spec(kind="mine@4"), "mine@4"),
    ],
)
def test_short_names(metric, spec, name):
    assert metric_spec(metric) == (spec or metric)
    assert metric_name(metric) == name


def test_short_names_in_an_experiment_file(tmp_path):
    rows = [{"prompt": "q", "answer": "a", "verifier": "exact"}]
    run = {
        "data": {"source": {"kind": "rows", "params": {"rows": rows}}},
        "validation": {"metrics": ["pass@4", "nll"], "samples": 4},
    }
    loaded = experiment_from({"name": "x", "run": run}, tmp_path)
    assert loaded.config.run.validation.metrics[0] == "pass@4"
    full = loaded.resolved["run"]["validation"]["metrics"]
    assert full[0] == {"kind": "pass@k", "params": {"k": 4, "threshold": 1.0}}
    run["validation"]["metrics"] = ["pass@0"]
    with pytest.raises(UserError, match=r"validation\.metrics\[0\].*"):
        experiment_from({"name": "x", "run": run}, tmp_path)
