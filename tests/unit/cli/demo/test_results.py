import pytest

from hone.cli.demo.results import AdapterResult, DemoResult, Measure, Score, StageResult


def adapter(task: str, seconds: float) -> AdapterResult:
    return AdapterResult(
        task=task,
        summary=f"does {task}",
        before=Score(1, 10),
        after=Score(9, 10),
        measures="loss",
        curve=(Measure(0, 2.0, 0.1), Measure(1, 1.0, 0.2)),
        train_seconds=seconds,
        tokens_trained=900,
        tokens_sampled=100,
        checkpoint=f"tinker://s:train:0/sampler_weights/{task}",
        directory=f"/data/{task}",
        examples=(),
    )


def demo() -> DemoResult:
    many = StageResult("many", "Many", 9.0, (adapter("a", 2.0), adapter("b", 4.0)))
    return DemoResult("hone/tiny", "/data", 12.0, (StageResult("sft", "SFT", 3.0, (adapter("c", 1.0),)), many))


def test_rates_follow_from_the_counts() -> None:
    result = demo()
    assert result.stages[0].tokens_per_second == 1000
    assert result.stages[1].tokens_per_second == 2000 / 4.0
    assert result.tokens_trained == 2700
    assert result.tokens_sampled == 300


def test_json_holds_fields_and_rates() -> None:
    result = demo().as_json()
    stage = result["stages"][1]
    assert stage["tokens_per_second"] == 500
    assert [one["before"]["accuracy"] for one in stage["adapters"]] == [0.1, 0.1]
    assert stage["adapters"][0]["curve"][1] == {"step": 1, "value": 1.0, "seconds": 0.2}


def test_the_margin_is_that_of_agresti_and_coull() -> None:
    assert Score(50, 100).margin == pytest.approx(0.096, abs=1e-3)
    assert Score(0, 100).margin == pytest.approx(0.0264, abs=1e-3)
