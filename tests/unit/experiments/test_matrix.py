from typing import Any

import pytest

from hone.experiments.config import ExperimentConfig
from hone.experiments.matrix import combinations, plan_arms
from hone.experiments.problems import ConfigError

pytestmark = pytest.mark.usefixtures("kinds")

DATA = {"source": {"kind": "listed", "params": {"path": "data/a.txt"}}}
BASE: dict[str, Any] = {"data": DATA, "algorithm": {"kind": "imitate"}, "backend": {"kind": "bench"}}
METHODS = {"algorithm.kind": ["imitate", "prefer"], "algorithm.params.lr": [1e-5, 2e-5, 1e-4]}


def plan(**values: Any) -> list[Any]:
    return plan_arms(ExperimentConfig.model_validate({"name": "e", **values}))


def swept(axes: dict[str, Any], base: dict[str, Any] | None = None, repeats: Any = None, **more: Any) -> list[Any]:
    return plan(matrix={"base_run": base or BASE, "axes": axes, **more}, repeats=repeats or {})


def names(arms: list[Any]) -> list[str]:
    return [arm.name for arm in arms]


def test_a_grid_has_every_combination_in_order() -> None:
    arms = swept(METHODS)
    assert names(arms) == [
        "imitate-lr1e-05",
        "imitate-lr2e-05",
        "imitate-lr0.0001",
        "prefer-lr1e-05",
        "prefer-lr2e-05",
        "prefer-lr0.0001",
    ]
    assert arms[4].cell == {"algorithm.kind": "prefer", "algorithm.params.lr": 2e-5}
    assert (arms[4].run.algorithm.kind, arms[4].run.algorithm.params) == ("prefer", {"lr": 2e-5})
    assert arms[4].run.name == arms[4].group == arms[4].name
    assert len({arm.config_hash for arm in arms}) == 6


def test_a_zip_takes_values_together() -> None:
    arms = swept({"algorithm.kind": ["imitate", "prefer"], "model.lora_rank": [4, 8]}, mode="zip")
    assert [tuple(arm.cell.values()) for arm in arms] == [("imitate", 4), ("prefer", 8)]
    with pytest.raises(ConfigError, match=r"same length, found algorithm.kind: 2, seed: 1"):
        swept({"algorithm.kind": ["imitate", "prefer"], "seed": [4]}, mode="zip")


def test_random_draws_without_repetition_and_more_samples_keep_the_earlier_ones() -> None:
    axes = {"algorithm.params.lr": [i * 1e-5 for i in range(1, 51)], "model.lora_rank": list(range(1, 51))}
    few, many = (set(names(swept(axes, mode="random", samples=n, seed=3))) for n in (5, 12))
    assert len(few) == 5
    assert len(many) == 12
    assert few < many
    assert set(names(swept(axes, mode="random", samples=5, seed=4))) != few
    assert names(swept(METHODS, mode="random", samples=6)) == names(swept(METHODS))


def test_random_draws_from_spaces_too_large_to_list() -> None:
    axes = {f"algorithm.params.{name}": [1 + i for i in range(1000)] for name in ("lr", "batch_size", "epochs")}
    drawn = list(zip(range(50), combinations(axes, "random", 0), strict=False))
    assert len({tuple(picks.values()) for _, picks in drawn}) == 50
    assert [*drawn[0][1]] == [*axes]


def test_random_draws_those_that_meet_the_conditions() -> None:
    axes = {"model.lora_rank": list(range(1, 101))}
    arms = swept(axes, mode="random", samples=5, where=["model.lora_rank > 90"])
    assert len(arms) == 5
    assert all(arm.run.model.lora_rank > 90 for arm in arms)
    with pytest.raises(ConfigError, match="there are only 10 combinations that meet `where`, found 11"):
        swept(axes, mode="random", samples=11, where=["model.lora_rank > 90"])


def test_conditions_see_defaults_of_plugins() -> None:
    arms = swept(
        METHODS, where=["algorithm.kind == 'imitate' or algorithm.params.beta < 0.2 and algorithm.params.lr <= 1e-5"]
    )
    assert names(arms) == ["imitate-lr1e-05", "imitate-lr2e-05", "imitate-lr0.0001", "prefer-lr1e-05"]


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ConfigError, match="make 40000 combinations"):
        swept({"seed": list(range(200)), "model.lora_rank": list(range(1, 201))})


# Repeats.


def test_repeats_share_a_group_and_count_on_from_their_seed() -> None:
    arms = swept({"algorithm.kind": ["imitate", "prefer"]}, base=BASE | {"seed": 3}, repeats={"n": 2})
    assert [(arm.name, arm.group, arm.run.seed) for arm in arms] == [
        ("imitate-s3", "imitate", 3),
        ("imitate-s4", "imitate", 4),
        ("prefer-s3", "prefer", 3),
        ("prefer-s4", "prefer", 4),
    ]
    assert [arm.run.seed for arm in plan(run=BASE, repeats={"n": 2, "base_seed": 40})] == [40, 41]


def test_an_axis_of_seeds_makes_repeats() -> None:
    arms = swept({"algorithm.kind": ["imitate", "prefer"], "seed": [5, 9]})
    assert [(arm.name, arm.group) for arm in arms] == [
        ("imitate-s5", "imitate"),
        ("imitate-s9", "imitate"),
        ("prefer-s5", "prefer"),
        ("prefer-s9", "prefer"),
    ]
    assert arms[0].cell == {"algorithm.kind": "imitate"}
    with pytest.raises(ConfigError, match="two arms are the same run"):
        swept({"seed": [5, 6]}, repeats={"n": 2})


def test_a_single_run_is_called_after_its_method() -> None:
    (arm,) = plan(run=BASE)
    assert (arm.name, arm.group, arm.cell) == ("imitate", "imitate", {})
    assert names(plan(run=BASE | {"name": "mine"}, repeats={"n": 2})) == ["mine-s0", "mine-s1"]


def test_stages_are_one_arm_for_each_repeat() -> None:
    stages = [{"name": name, "data": DATA} for name in "ab"]
    run = {name: value for name, value in BASE.items() if name != "data"}
    assert names(plan(run=run, continual={"stages": stages}, repeats={"n": 3})) == [
        "imitate-s0",
        "imitate-s1",
        "imitate-s2",
    ]


# Names.


def test_names_say_the_last_part_of_a_path_unless_the_value_speaks_for_itself() -> None:
    axes = {
        "model.name": ["Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B"],
        "data.shuffle": [True, False],
        "data.limit": [5],
        "model.renderer": [None, "qwen3"],
    }
    assert names(swept(axes))[::3] == [
        "Qwen3-8B-shuffle-true-renderer-none",
        "Qwen3-8B-shuffle-false-renderer-qwen3",
        "Qwen2.5-7B-shuffle-false-renderer-none",
    ]


def test_paths_of_files_are_shortened_while_they_tell_apart() -> None:
    assert names(swept({"data.source.params.path": ["data/a.jsonl", "data/b.jsonl"]})) == ["a", "b"]
    assert names(swept({"data.source.params.path": ["x/a.jsonl", "y/a.jsonl"]})) == ["x-a.jsonl", "y-a.jsonl"]


def test_the_same_last_part_of_two_paths_gets_the_part_before() -> None:
    arms = swept({"data.limit": [5, 6], "validation.limit": [7, 8]})
    assert names(arms)[0] == "data-limit5-validation-limit7"


def test_whole_mappings_are_numbered_and_their_values_are_in_the_cell() -> None:
    methods = [{"kind": "imitate", "params": {"lr": 1e-3}}, {"kind": "prefer"}]
    arms = swept({"algorithm": methods, "model.lora_rank": [2, 4]})
    assert names(arms)[0] == "algorithm1-lora_rank2"
    assert arms[0].cell == {"algorithm.kind": "imitate", "algorithm.params.lr": 1e-3, "model.lora_rank": 2}


def test_inner_paths_change_what_outer_ones_gave() -> None:
    arms = swept({"algorithm.params.lr": [1.0, 2.0], "algorithm": [{"kind": "imitate", "params": {"lr": 5}}]})
    assert [arm.run.algorithm.params["lr"] for arm in arms] == [1.0, 2.0]


def test_long_names_are_cut_and_stay_unique() -> None:
    renderers = [f"{'a-very-long-name-' * 6}{i}" for i in range(3)]
    found = names(swept({"model.renderer": renderers, "model.name": renderers}))
    assert len(set(found)) == 9
    assert max(map(len, found)) <= 80


def test_values_that_look_alike_in_names_stay_unique() -> None:
    found = names(swept({"model.renderer": ["a b", "a/ b", "a_b"]}))
    assert len({name.lower() for name in found}) == 3


def test_the_base_runs_name_comes_first() -> None:
    assert names(swept({"model.lora_rank": [1, 2]}, base=BASE | {"name": "mine"})) == [
        "mine-lora_rank1",
        "mine-lora_rank2",
    ]


def test_templates() -> None:
    template = "{base}_{algorithm.kind}_{algorithm.params.lr}_{model.lora_rank}"
    assert names(swept(METHODS, name_template=template))[0] == "e_imitate_1e-05_32"
    repeats = swept({"algorithm.kind": ["imitate", "prefer"]}, name_template="{algorithm.kind}", repeats={"n": 2})
    assert names(repeats) == ["imitate-s0", "imitate-s1", "prefer-s0", "prefer-s1"]
    with pytest.raises(ConfigError, match=r"there is no \{algorithm.knd\}, found .*did you mean 'algorithm.kind'"):
        swept(METHODS, name_template="{algorithm.knd}")
    with pytest.raises(ConfigError, match="two arms have the same name"):
        swept(METHODS, name_template="{algorithm.kind}-{seed}")


def test_unnamed_runs_are_called_after_what_differs() -> None:
    one = BASE | {"algorithm": {"kind": "imitate", "params": {"lr": 1e-5}}}
    arms = plan(
        runs=[
            one,
            BASE | {"algorithm": {"kind": "imitate", "params": {"lr": 1e-4}}},
            BASE | {"algorithm": {"kind": "prefer"}},
        ]
    )
    assert names(arms) == ["imitate-lr1e-05", "imitate-lr0.0001", "prefer-lr0.0001"]
    assert arms[0].cell == {"algorithm.kind": "imitate", "algorithm.params.lr": 1e-5, "algorithm.params.beta": None}
    assert names(plan(runs=[one | {"name": "a"}, BASE])) == ["a", "lr0.0001"]
    assert names(plan(runs=[one, one | {"seed": 1}])) == ["imitate-s0", "imitate-s1"]


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([{"name": "a"}, {"name": "A", "seed": 1}], "runs[1]: two arms have the same name, found 'A'"),
        (  # not repeats: they differ in more than the seed
            [{"name": "a"}, {"name": "a", "seed": 1, "model": {"lora_rank": 2}}],
            "runs[1]: two arms have the same name, found 'a'",
        ),
        ([{"name": "a/b"}], "runs[0]: an arm's name has letters"),
        ([{"name": "baseline"}], "runs[0]: the name is reserved"),
        ([{}, {}], "runs[1]: two arms are the same run"),
    ],
)
def test_names_that_cannot_be(runs: list[Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(runs=[BASE | run for run in runs])
    assert str(error.value).startswith(told)


def test_the_same_run_may_be_done_twice_under_two_names() -> None:
    first, second = plan(runs=[BASE | {"name": "a"}, BASE | {"name": "b"}])
    assert first.config_hash == second.config_hash
