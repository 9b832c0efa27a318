from pathlib import Path
from typing import Any

import pytest

from hone.experiments.config import BenchmarkConfig, ValidationConfig
from hone.experiments.estimate import (
    ArmEstimate,
    benchmark_effort,
    estimate,
    measured_speed,
    priced,
    usual_effort,
    validation_effort,
    without_answers,
)
from hone.experiments.kinds.contract import Prices, RowSizes
from hone.experiments.kinds.plugins import algorithms
from hone.experiments.records import ArmRecord, ExperimentRecord, Usage

SIZES = RowSizes(prompt=10.0, whole=25.0)


def effort(kind: str, rows: int, **params: Any) -> Usage:
    return algorithms.make(kind, params).effort(rows, SIZES)


def test_learning_sees_every_row_in_every_epoch() -> None:
    assert effort("sft", 100, batch_size=32) == Usage(training_tokens=2500)
    assert effort("sft", 100, batch_size=32, epochs=3) == Usage(training_tokens=7500)
    assert effort("sft", 100, batch_size=8, max_steps=5) == Usage(training_tokens=5 * 8 * 25)


def test_preferences_are_scored_by_the_reference_too() -> None:
    assert effort("dpo", 40, batch_size=10) == Usage(training_tokens=1000, prefill_tokens=1000)


def test_answers_count_at_their_full_length() -> None:
    found = effort("grpo", 100, batch_size=10, max_steps=3, group_size=4, max_tokens=50)
    answers = 3 * 10 * 4
    assert found == Usage(training_tokens=answers * 60, prefill_tokens=answers * 10, sample_tokens=answers * 50)
    assert without_answers(found) == Usage(training_tokens=answers * 10, prefill_tokens=answers * 10)
    assert effort("grpo", 100, groups_per_batch=5, batch_size=10, max_steps=3, group_size=4).sample_tokens == 60 * 256


def test_phases_add_up() -> None:
    phases = [
        {"kind": "sft", "params": {"max_steps": 1, "batch_size": 4}},
        {"kind": "dpo", "params": {"batch_size": 4}},
    ]
    both = effort("sequence", 8, phases=phases)
    assert both == Usage(training_tokens=4 * 25 + 8 * 25, prefill_tokens=8 * 25)


def test_a_plugin_without_the_usual_parameters_sees_every_row_once() -> None:
    class Params:
        pass

    class Odd:
        params = Params()
        learns_from = "chat"

    assert usual_effort(Odd(), 7, SIZES) == Usage(training_tokens=175)  # type: ignore[arg-type]


@pytest.mark.parametrize(("every", "steps", "times"), [(10, 30, 4), (10, 31, 5), (0, 30, 1), (100, 30, 2)])
def test_validation_is_before_its_steps_and_at_the_end(every: int, steps: int, times: int) -> None:
    config = ValidationConfig(every=every, samples=2, max_tokens=50)
    found = validation_effort(config, steps, 5, 3, SIZES)
    assert found == Usage(prefill_tokens=times * (5 * 2 * 10 + 3 * 25), sample_tokens=times * 5 * 2 * 50)


def test_benchmarks_ask_the_arm_and_the_baseline() -> None:
    config = BenchmarkConfig(name="b", path="x", samples=3, max_tokens=20)
    assert benchmark_effort(config, 4, SIZES).sample_tokens == 2 * 4 * 3 * 20
    assert benchmark_effort(config.model_copy(update={"baseline": False}), 4, SIZES).sample_tokens == 4 * 3 * 20


def test_costs_are_dollars_per_million_tokens() -> None:
    usage = Usage(training_tokens=2_000_000, prefill_tokens=1_000_000, sample_tokens=500_000)
    assert priced(usage, Prices(training=1.0, prefill=0.5, sample=4.0)).cost == pytest.approx(2.0 + 0.5 + 2.0)


def test_arms_side_by_side_take_less_time() -> None:
    arms = [ArmEstimate(arm=str(i), rows=1, steps=1, most=Usage(), least=Usage(), seconds=30.0) for i in range(8)]
    assert estimate(arms, Usage(), concurrency=4).seconds == 60.0
    unknown = [*arms, ArmEstimate(arm="x", rows=1, steps=1, most=Usage(), least=Usage())]
    assert estimate(unknown, Usage(), concurrency=4).seconds is None


def test_speed_is_that_of_earlier_arms_on_the_model(tmp_path: Path) -> None:
    assert measured_speed(tmp_path / "runs", "m") is None
    arms = [
        ArmRecord(
            name=name,
            group=name,
            seed=0,
            config_hash=name,
            config={"model": {"name": model}},
            usage=Usage(training_tokens=tokens, seconds=10.0),
        )
        for name, model, tokens in (("a", "m", 1000), ("b", "m", 3000), ("c", "other", 50_000))
    ]
    record = ExperimentRecord(
        id="x-1", name="x", created="2026-01-01T00:00:00Z", status="done", config={}, config_hash="1", arms=arms
    )
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "record.json").write_text(record.model_dump_json())
    assert measured_speed(tmp_path / "runs", "m") == pytest.approx(200.0)
    assert measured_speed(tmp_path / "runs", "third") is None
