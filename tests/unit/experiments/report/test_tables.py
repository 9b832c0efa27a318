import pytest

from hone.experiments.conclusion import conclude
from hone.experiments.report.tables import arm_rows, differing, forgetting
from tests.support.experiment_records import arm, failed_arm, measurement, record, showcase


def test_arms_stand_by_the_rank_of_their_group_and_failed_ones_last() -> None:
    arms = [failed_arm("x"), arm("low", measurement([0.2] * 9)), arm("high", measurement([0.7] * 9))]
    rows = arm_rows(record(arms), conclude(record(arms)))
    assert [(row.arm.name, row.rank) for row in rows] == [("high", 1), ("low", 2), ("x", None)]
    assert [row.value for row in rows] == [pytest.approx(0.7), pytest.approx(0.2), None]
    assert rows[0].tokens == 1500


def test_what_a_task_cost_is_told_where_prices_are_known() -> None:
    rows = arm_rows(showcase(), conclude(showcase()))
    assert rows[0].cost_per_task == pytest.approx(0.02 / 60)


def test_only_what_differs_between_groups_is_listed() -> None:
    same = {"model": {"name": "hone/tiny"}, "seed": 1}
    arms = [
        arm("a", measurement([1.0]), config=same | {"algorithm": {"kind": "sft"}}, cell={"algorithm.kind": "sft"}),
        arm("b", measurement([1.0]), config=same | {"seed": 2, "algorithm": {"kind": "dpo", "params": {"beta": 0.1}}}),
    ]
    assert differing(record(arms)) == (
        ["algorithm.kind", "algorithm.params.beta"],
        [("a", ["sft", ""]), ("b", ["dpo", "0.1"])],
    )


def test_the_forgetting_matrix_tells_the_change_since_each_stage_was_learned() -> None:
    (matrix,) = forgetting(showcase())
    assert matrix.stages == ("dates", "home", "orders")
    rows = dict(matrix.rows)
    assert [cell.change for cell in rows["start"]] == [None, None, None]
    assert [cell.change for cell in rows["dates"]] == [None, None, None]
    assert rows["orders"][0].change == pytest.approx(0.7 - 0.9)
    assert (rows["dates"][0].shade, rows["start"][0].shade) == (10, 0)


def test_where_less_is_better_a_lower_value_is_a_good_change() -> None:
    (matrix,) = forgetting(showcase().model_copy(update={"goal": "min"}))
    assert dict(matrix.rows)["orders"][0].change == pytest.approx(0.2)
