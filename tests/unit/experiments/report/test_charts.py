import pytest

from hone.experiments.conclusion import conclude
from hone.experiments.records import ExperimentRecord
from hone.experiments.report.charts import charts
from tests.support.experiment_records import arm, measurement, record, showcase


def titles(experiment: ExperimentRecord) -> list[str]:
    return [chart.title for chart in charts(experiment, conclude(experiment))]


def test_a_sweep_has_all_three() -> None:
    assert titles(showcase()) == ["Groups beside each other", "Learning curves", "Over algorithm.params.lr"]


def test_lines_of_a_sweep_are_the_other_axes() -> None:
    *_, over = charts(showcase(), conclude(showcase()))
    assert over.legend == ("kind dpo", "kind grpo", "kind sft")
    assert over.svg.count("<polyline") == 3


@pytest.mark.parametrize(
    ("experiment", "found"),
    [
        (record([]), []),
        (record([], metric=None), []),
        (record([arm("a", measurement([0.5]))]), []),
        (record([arm("a", measurement([0.5], step=0), measurement([0.6]))]), ["Learning curves"]),
        (record([arm(n, measurement([0.5]), cell={"k": n}) for n in "ab"]), ["Groups beside each other"]),
    ],
)
def test_charts_that_would_be_empty_are_left_out(experiment: ExperimentRecord, found: list[str]) -> None:
    assert titles(experiment) == found


def test_many_groups_are_cut_to_the_best_and_it_is_said() -> None:
    arms = [
        arm(f"a{n}", measurement([0.1] * 9, step=0), measurement([n / 100, 0.5] * 5), cell={"n": n}) for n in range(40)
    ]
    found = list(charts(record(arms), conclude(record(arms))))
    assert "The best 16 of 40." in found[0].note
    assert "The best 8 of 40." in found[1].note
    assert found[1].legend[0] == "a39"
