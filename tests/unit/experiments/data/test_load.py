import itertools
import json
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.experiments.config import DataConfig
from hone.experiments.data.load import held_out_rows, load_sides, training_rows
from hone.experiments.data.parse import RowErrors
from hone.experiments.kinds.contract import RawRow, Source
from hone.experiments.kinds.plugins import sources

HOME = Path()


def raw(count, name="q"):
    return [{"prompt": f"{name}{i}", "answer": f"a{i}"} for i in range(count)]


def source(rows):
    return {"kind": "rows", "params": {"rows": rows}}


def sides(rows=None, *, own_validation=False, **config):
    given = {"source": source(rows)} if rows is not None else {}
    return load_sides(DataConfig.model_validate(given | config), HOME, own_validation=own_validation)


def prompts(rows):
    return [row.prompt[0]["content"] for row in rows]


def test_a_tenth_is_kept_for_validation_unless_there_is_other_validation_data():
    found = sides(raw(1000))
    train, validation = list(found.train), list(found.validation)
    assert len(train) + len(validation) == 1000
    assert 60 < len(validation) < 140
    assert len(list(sides(raw(50), own_validation=True).train)) == 50
    split = {"validation": 0.5}
    assert 0 < len(list(sides(raw(50), own_validation=True, split=split).train)) < 50


def test_the_test_side_cannot_be_read():
    found = sides(raw(100), split={"test": 0.5})
    for read in (iter, list, lambda side: list(side.rows("task")), lambda side: held_out_rows(side, "task")):
        with pytest.raises(UserError, match="sealed"):
            read(found.test)
    with pytest.raises(UserError, match="sealed"):
        training_rows(type(found)(found.test, found.validation, found.test), "task", seed=0)


def test_the_order_is_the_seeds_and_not_the_files():
    train = training_rows(sides(raw(100)), "task", seed=1)
    assert prompts(train) == prompts(training_rows(sides(raw(100)), "task", seed=1))
    assert prompts(train) == prompts(training_rows(sides(raw(100)[::-1]), "task", seed=1))
    other = training_rows(sides(raw(100)), "task", seed=2)
    assert prompts(other) != prompts(train)
    assert sorted(prompts(other)) == sorted(prompts(train))


def test_all_kinds_see_the_rows_in_one_order():
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "answer": "a"} for i in range(50)]
    ids = [[row.id for row in training_rows(sides(rows), kind, seed=4)] for kind in ("chat", "preference", "task")]
    assert ids[0] == ids[1] == ids[2]


def test_limits_and_the_files_order():
    unshuffled = sides(raw(100), own_validation=True, shuffle=False, limit=7)
    assert prompts(training_rows(unshuffled, "task", seed=0)) == [f"q{i}" for i in range(7)]
    assert prompts(training_rows(unshuffled, "task", seed=0, limit=2)) == ["q0", "q1"]
    everything = prompts(training_rows(sides(raw(100)), "task", seed=3))
    assert prompts(training_rows(sides(raw(100)), "task", seed=3, limit=5)) == everything[:5]
    assert prompts(training_rows(unshuffled, "task", seed=3, shuffle=True, limit=100)) != [f"q{i}" for i in range(100)]


class Endless(Source):
    def read(self, home):
        for i in itertools.count():
            yield RawRow(f"endless:{i}", {"prompt": f"q{i}", "answer": "a"})


def test_reading_goes_only_as_far_as_rows_are_asked_for():
    sources.register("endless")(Endless)
    found = sides(source={"kind": "endless"}, own_validation=True)
    assert len(list(itertools.islice(found.train, 5))) == 5
    assert len(training_rows(found, "task", seed=0, shuffle=False, limit=5)) == 5


def test_every_bad_row_is_named():
    rows = [{"prompt": "q", "answer": "a"}, {"text": "x"}, {"prompt": "q"}, {"prompt": "r", "answer": "b"}]
    with pytest.raises(RowErrors) as raised:
        training_rows(sides(rows, own_validation=True), "chat", seed=0)
    assert [error.place for error in raised.value.errors] == ["rows[1]", "rows[2]"]


def test_a_side_without_rows_is_an_error():
    with pytest.raises(UserError, match="no training rows"):
        training_rows(sides(raw(3), transforms=[{"kind": "filter", "params": {"where": "false"}}]), "task", seed=0)
    with pytest.raises(UserError, match="no rows to measure on"):
        held_out_rows(sides(raw(3), own_validation=True).validation, "task")


def test_held_out_rows_are_the_same_for_every_order_and_few_leave_when_data_grows():
    few = held_out_rows(sides(raw(2000)).validation, "task", limit=50)
    assert few == held_out_rows(sides(raw(2000)).validation, "task", limit=50)
    turned = held_out_rows(sides(raw(2000)[::-1]).validation, "task", limit=50)
    assert [row.id for row in turned] == [row.id for row in few]
    grown = held_out_rows(sides(raw(2200)).validation, "task", limit=50)
    assert len({row.id for row in few} & {row.id for row in grown}) > 35
    assert prompts(few) == prompts(held_out_rows(sides(raw(2000)).validation, "task"))[:50]


def test_equal_rows_that_are_measured_have_names_of_their_own():
    rows = held_out_rows(sides([{"prompt": "q"}] * 3, own_validation=True).train, "task")
    assert [row.id for row in rows] == [rows[0].id, f"{rows[0].id}#2", f"{rows[0].id}#3"]


def mixture(*parts, **config):
    parts = [{"source": source(raw(count, name)), "weight": weight} for name, count, weight in parts]
    return sides(mixture=parts, own_validation=True, **config)


def test_sources_are_mixed_by_weight():
    rows = prompts(training_rows(mixture(("a", 900, 3), ("b", 100, 1)), "task", seed=1))
    assert len(rows) == 1000
    assert abs(sum(prompt[0] == "a" for prompt in rows) - 750) <= 1
    small = [prompt for prompt in rows if prompt[0] == "b"]
    assert len(set(small[:100])) == 100
    assert prompts(training_rows(mixture(("a", 900, 3), ("b", 100, 1)), "task", seed=2)) != rows


def test_sources_without_shuffling_keep_their_order():
    rows = prompts(training_rows(mixture(("a", 4, 1), ("b", 4, 1), shuffle=False, limit=6), "task", seed=1))
    assert [prompt for prompt in rows if prompt[0] == "a"] == ["a0", "a1", "a2"]


def test_transforms_of_a_part_come_first_then_those_of_all():
    part = {
        "source": source(raw(5, "a")),
        "transforms": [{"kind": "limit", "params": {"rows": 2}}],
    }
    found = sides(
        mixture=[part, {"source": source(raw(5, "b"))}],
        transforms=[{"kind": "filter", "params": {"where": "not endswith(prompt, '0')"}}],
        own_validation=True,
    )
    assert [row.value["prompt"] for row in found.train] == ["a1", "b1", "b2", "b3", "b4"]
    assert [row.part for row in found.train] == [0, 1, 1, 1, 1]


def test_a_source_of_a_mixture_without_rows_is_named():
    part = {"source": source(raw(5, "a")), "transforms": [{"kind": "filter", "params": {"where": "false"}}]}
    with pytest.raises(UserError, match="source 2 of the mixture has no training rows"):
        training_rows(sides(mixture=[{"source": source(raw(5))}, part], own_validation=True), "task", seed=0)


def test_paths_begin_at_the_experiment_file(tmp_path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in raw(3)))
    config = DataConfig.model_validate({"source": {"kind": "jsonl", "params": {"path": "d.jsonl"}}})
    rows = training_rows(load_sides(config, tmp_path, own_validation=True), "task", seed=0)
    assert {row.place for row in rows} == {"d.jsonl:1", "d.jsonl:2", "d.jsonl:3"}
