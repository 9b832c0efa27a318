"""Experiments whose truth is planted; the right verdict has to come out."""

import json
from typing import Any

import numpy as np
import pytest

from hone.experiments.conclusion import Conclusion, conclude, recorded
from hone.experiments.records import BenchmarkResult, ExperimentRecord, Measurement, Usage
from tests.support.experiment_records import METRIC, World, arm, failed_arm, measurement, record

CLAIM = "DPO beats SFT"


def planted(
    draw: np.random.Generator, gain: float, *, runs: int = 3, margin: float = 0.0, goal: str = "max"
) -> ExperimentRecord:
    """Two methods at two rates each. The best of one side is better than the best of the other by `gain`."""
    world = World(draw, tasks=100, run_luck=0.01)
    sign = 1 if goal == "max" else -1
    truths = {"dpo-low": 0.5 + gain - 0.1, "dpo-high": 0.5 + gain, "sft-low": 0.5, "sft-high": 0.42}
    arms = []
    for name, truth in truths.items():
        kind, rate = name.split("-")
        cell = {"algorithm.kind": kind, "algorithm.params.lr": {"low": 1e-5, "high": 2e-5}[rate]}
        arms += world.group(name, sign * truth, runs, cell=cell)
    hypothesis = {
        "statement": CLAIM,
        "better": {"algorithm.kind": "dpo"},
        "than": {"algorithm.kind": "sft"},
        "margin": margin,
    }
    return record(arms, goal=goal, config={"hypothesis": hypothesis})


@pytest.mark.parametrize(
    ("gain", "options", "right"),
    [
        (0.15, {}, {"supported"}),
        (-0.15, {}, {"refuted"}),
        (0.15, {"goal": "min"}, {"supported"}),
        (-0.15, {"goal": "min"}, {"refuted"}),
        (0.002, {"runs": 2}, {"inconclusive"}),
        (0.002, {"runs": 5, "margin": 0.1}, {"refuted"}),
        (0.25, {"runs": 5, "margin": 0.1}, {"supported"}),
        (0.1, {"margin": 0.1}, {"inconclusive"}),
    ],
)
def test_planted_truths_are_found(gain: float, options: dict[str, Any], right: set[str]) -> None:
    """Twenty experiments of each kind, eight kinds: 19 of 20 right at least, and over all of them 95 %."""
    draw = np.random.default_rng(7)
    verdicts = [conclude(planted(draw, gain, **options)).verdict for _ in range(20)]
    assert sum(verdict in right for verdict in verdicts) >= 19


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_nothing_is_seldom_supported(runs: int) -> None:
    """No difference between the sides; 100 experiments. With one run a side, the luck of runs is left out of the
    world too: a single run cannot show it, and the conclusion says so."""
    draw, supported, refuted = np.random.default_rng(runs), 0, 0
    for _ in range(100):
        world = World(draw, tasks=60, run_luck=0.0 if runs == 1 else 0.03)
        found = conclude(world.experiment({"dpo": 0.5, "sft": 0.5}, runs, config={"hypothesis": CLAIM}))
        supported += found.verdict == "supported"
        refuted += found.verdict == "refuted"
        assert ("one_run" in {one.kind for one in found.caveats}) == (runs == 1)
    assert supported / 100 <= 0.05
    assert refuted / 100 <= 0.05


def test_two_of_each_that_are_alike_are_not_told_apart_by_choosing_the_best() -> None:
    draw, decided = np.random.default_rng(4), 0
    for _ in range(60):
        truths = {"dpo-low": 0.5, "dpo-high": 0.5, "sft-low": 0.5, "sft-high": 0.5}
        hypothesis = {"statement": CLAIM, "better": "dpo-*", "than": "sft-*"}
        experiment = World(draw, tasks=60).experiment(truths, config={"hypothesis": hypothesis})
        decided += conclude(experiment).verdict != "inconclusive"
    assert decided / 60 <= 0.05


def test_one_run_that_is_luckier_than_tasks_can_show_comes_with_the_caveat_and_the_advice() -> None:
    world = World(np.random.default_rng(0), run_luck=0.1)
    found = conclude(world.experiment({"dpo": 0.5, "sft": 0.5}, 1, config={"hypothesis": CLAIM}))
    assert "one_run" in {one.kind for one in found.caveats}
    assert "not the luck of training" in found.as_text()


def test_a_conclusion_holds_what_it_compares() -> None:
    found = conclude(planted(np.random.default_rng(1), 0.15))
    assert found.better is not None
    assert found.than is not None
    assert found.interval is not None
    assert (found.better.best, found.than.best) == ("dpo-high", "sft-low")
    assert found.better.groups == ["dpo-low", "dpo-high"]
    assert found.better.arms == ["dpo-high-s0", "dpo-high-s1", "dpo-high-s2"]
    assert found.effect == pytest.approx(found.better.value - found.than.value)
    assert found.interval.low is not None
    assert 0 < found.interval.low < 0.15 < (found.interval.high or 0)
    assert (found.candidates, found.level, found.tasks, found.runs) == (2, 0.95, 100, [3, 3])
    assert found.p is not None
    assert found.p < 0.05
    assert "multiple_comparisons" in {one.kind for one in found.caveats}
    assert found.best is not None
    assert found.best.group == "dpo-high"
    assert found.ranking[0].group == "dpo-high"


def test_it_survives_json() -> None:
    for runs in (1, 3):
        found = conclude(planted(np.random.default_rng(2), 0.1, runs=runs))
        assert Conclusion.model_validate(json.loads(found.model_dump_json())) == found
    alone = conclude(record([arm("dpo", Measurement(step=1, metrics={METRIC: 0.5}))]))
    assert Conclusion.model_validate(json.loads(alone.model_dump_json())) == alone


def test_a_recorded_conclusion_is_read_and_one_of_another_version_is_drawn_anew() -> None:
    experiment = planted(np.random.default_rng(2), 0.1)
    kept = conclude(experiment).model_copy(update={"reason": "As it was said then."})
    values = kept.model_dump(mode="json")
    assert recorded(experiment.model_copy(update={"conclusion": values})) == kept
    assert recorded(experiment.model_copy(update={"conclusion": values | {"old": 1}})) == conclude(experiment)
    assert recorded(experiment) == conclude(experiment)


def test_the_same_record_gives_the_same_conclusion() -> None:
    experiment = planted(np.random.default_rng(3), 0.05)
    assert conclude(experiment) == conclude(ExperimentRecord.model_validate_json(experiment.model_dump_json()))


def test_without_a_hypothesis_the_best_is_still_found() -> None:
    found = conclude(World(np.random.default_rng(4)).experiment({"a": 0.5, "b": 0.8}))
    assert found.verdict == "none"
    assert found.best is not None
    assert found.best.group == "b"
    assert found.than is not None
    assert found.than.best == "a"
    assert found.as_text().startswith("No hypothesis.")


@pytest.mark.parametrize("hypothesis", ["more data helps", {"statement": "it is so", "better": "orpo-*"}])
def test_a_hypothesis_that_is_not_understood_is_inconclusive_and_says_how_to_write_it(hypothesis: Any) -> None:
    experiment = World(np.random.default_rng(4)).experiment({"a": 0.5, "b": 0.8}, config={"hypothesis": hypothesis})
    found = conclude(experiment)
    assert found.verdict == "inconclusive"
    assert "The hypothesis was not judged" in found.reason
    assert any(one.kind == "hypothesis" and "better: {algorithm.kind: dpo}" in one.text for one in found.next)


def before_and_after(truth: float, *, start: float = 0.4, runs: int = 3, **more: Any) -> ExperimentRecord:
    world = World(np.random.default_rng(5))
    rows = zip(world.scores(start, runs), world.scores(truth, runs), strict=True)
    arms = [
        arm(
            f"sft-s{seed}",
            measurement(a, step=0),
            measurement(b),
            group="sft",
            seed=seed,
            cell={"algorithm.kind": "sft"},
        )
        for seed, (a, b) in enumerate(rows)
    ]
    return record(arms, **({"config": {"hypothesis": "SFT beats the baseline"}} | more))


def test_the_baseline_is_what_was_measured_before_the_first_step() -> None:
    found = conclude(before_and_after(0.7))
    assert found.than is not None
    assert (found.verdict, found.than.best) == ("supported", "baseline")
    assert found.than.value == pytest.approx(0.4, abs=0.1)
    assert "than the model without training by" in found.as_text()
    assert conclude(before_and_after(0.1)).verdict == "refuted"


def sealed_result(subject: str, value: float) -> BenchmarkResult:
    scores = value + np.random.default_rng(6).normal(0, 0.1, 60)
    return BenchmarkResult(benchmark="sealed", subject=subject, measurement=measurement(scores, step=10))


def test_a_sealed_test_that_shows_the_opposite_takes_support_back() -> None:
    experiment = before_and_after(0.7)
    served = conclude(experiment).best
    assert served is not None
    contrary = experiment.model_copy(
        update={"benchmarks": [sealed_result(served.arm, 0.2), sealed_result("baseline", 0.4)]}
    )
    found = conclude(contrary)
    assert found.verdict == "inconclusive"
    assert "test_disagrees" in {one.kind for one in found.caveats}
    assert found.tests[0].gain == pytest.approx(-0.2)
    agreeing = experiment.model_copy(
        update={"benchmarks": [sealed_result(served.arm, 0.6), sealed_result("baseline", 0.4)]}
    )
    assert conclude(agreeing).verdict == "supported"
    assert "Test sealed, sft-s" in conclude(agreeing).as_text()


def test_what_a_test_took_is_told_by_task() -> None:
    experiment = before_and_after(0.7)
    result = sealed_result("baseline", 0.4)
    took = result.measurement.model_copy(
        update={"usage": Usage(prefill_tokens=600, sample_tokens=300, seconds=6, cost=3)}
    )
    found = conclude(experiment.model_copy(update={"benchmarks": [result.model_copy(update={"measurement": took})]}))
    (test,) = found.tests
    assert (test.tokens_per_task, test.seconds_per_task, test.cost_per_task) == (15, 0.1, 0.05)
    assert "on 60 tasks (15 tokens and 0.1 s each for $0.05)" in found.as_text()


def test_without_a_first_measurement_the_tested_baseline_decides() -> None:
    world = World(np.random.default_rng(5))
    config = {"hypothesis": "sft beats the baseline"}
    experiment = world.experiment({"sft": 0.6}, 1, config=config)
    assert "was not measured" in conclude(experiment).reason
    both = experiment.model_copy(update={"benchmarks": [sealed_result("sft", 0.6), sealed_result("baseline", 0.4)]})
    found = conclude(both)
    assert (found.verdict, found.evidence) == ("supported", "test")


def test_a_side_that_failed_makes_it_inconclusive_with_the_reason() -> None:
    arms = [arm("sft", measurement([0.5] * 30)), failed_arm("dpo", "rows have no second answer")]
    found = conclude(record(arms, config={"hypothesis": CLAIM}))
    assert found.verdict == "inconclusive"
    assert "No arm on the better side of the hypothesis has a result (dpo: failed: rows have no second" in found.reason
    assert [one.arm for one in found.failures] == ["dpo"]


def test_all_failed_and_no_metric_have_conclusions_too() -> None:
    found = conclude(record([failed_arm("a"), failed_arm("b")], config={"hypothesis": CLAIM}))
    assert (found.verdict, found.best, len(found.failures)) == ("inconclusive", None, 2)
    assert conclude(record([], metric=None)).verdict == "none"
    assert "There is nothing to compare" in found.as_text()


def test_usage_is_the_sum_of_arms_and_tests() -> None:
    experiment = World(np.random.default_rng(4)).experiment({"a": 0.5, "b": 0.8})
    assert conclude(experiment).usage.training_tokens == 6000
    assert conclude(experiment).usage.cost == pytest.approx(1.5)


def test_no_interval_of_a_share_goes_beyond_one() -> None:
    found = record([arm("a", measurement([0.0] + [1.0] * 11))])
    free, bounded = conclude(found), conclude(found.model_copy(update={"bounds": {METRIC: (0.0, 1.0)}}))
    assert free.best is not None
    assert free.best.interval.high is not None
    assert free.best.interval.high > 1
    assert bounded.best is not None
    assert bounded.best.interval.high == bounded.ranking[0].interval.high == 1
    assert bounded.best.interval.low == free.best.interval.low
