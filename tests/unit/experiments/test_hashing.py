from typing import Any

import pytest

from hone.experiments.config import ExperimentConfig
from hone.experiments.hashing import arm_hash, content_hash, experiment_hash, resolved

pytestmark = pytest.mark.usefixtures("kinds")

VALUES: dict[str, Any] = {
    "name": "x",
    "run": {
        "data": {"source": {"kind": "listed", "params": {"path": "a"}}},
        "algorithm": {"kind": "imitate", "params": {"lr": 1e-5}},
        "backend": {"kind": "bench"},
    },
}


def with_run(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate(VALUES | {"run": VALUES["run"] | changes})


def with_top(**changes: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate(VALUES | changes)


def of_arm(config: ExperimentConfig) -> str:
    assert config.run is not None
    return arm_hash(config, config.run)


def test_a_hash_is_of_content_not_of_order() -> None:
    assert content_hash({"a": 1, "b": [1.0, None]}) == content_hash({"b": [1.0, None], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})
    assert content_hash({"a": "é"}) == "b3a092a6af48807f"  # the same on every machine and in every version


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": {"lora_rank": 8}},
        {"model": {"name": "m"}},
        {"data": {"source": {"kind": "listed", "params": {"path": "b"}}}},
        {"data": VALUES["run"]["data"] | {"shuffle": False}},
        {"algorithm": {"kind": "prefer", "params": {"lr": 1e-5}}},
        {"algorithm": {"kind": "imitate", "params": {"lr": 2e-5}}},
        {"backend": {"kind": "bench", "params": {"precision": "bfloat16"}}},
        {"validation": {"every": 5}},
        {"validation": {"metrics": [{"kind": "score", "params": {"k": 2}}]}},
        {"stop": {"patience": 3}},
    ],
)
def test_whatever_the_numbers_come_from_changes_both_hashes(change: dict[str, Any]) -> None:
    assert of_arm(with_run(**change)) != of_arm(with_run())
    assert experiment_hash(with_run(**change)) != experiment_hash(with_run())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"tags": ["x"]},
        {"algorithm": {"kind": "imitate", "params": {"lr": "1e-5", "batch_size": 8}}},
        {"backend": {"kind": "bench", "params": {"base_url": "http://127.0.0.1:1", "api_key_env": "OTHER"}}},
        {"model": {}},
    ],
)
def test_names_connections_and_written_defaults_change_no_arm(change: dict[str, Any]) -> None:
    assert of_arm(with_run(**change)) == of_arm(with_run())


@pytest.mark.parametrize(
    "change",
    [
        {"description": "d"},
        {"tags": ["t"]},
        {"output_dir": "elsewhere"},
        {"report": {"html": False}},
        {"concurrency": 1},
        {"budget": {"tokens": 5}},
        {"parent_experiment": "p"},
        {"stores": [{"kind": "any"}]},
        {"run": VALUES["run"] | {"tags": ["t"]}},
        {"run": VALUES["run"] | {"backend": {"kind": "bench", "params": {"base_url": "http://127.0.0.1:1"}}}},
    ],
)
def test_what_changes_no_number_changes_no_experiment(change: dict[str, Any]) -> None:
    assert experiment_hash(with_top(**change)) == experiment_hash(with_top())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "y"},
        {"hypothesis": "x beats y"},
        {"repeats": {"n": 2}},
        {"selection": {"metric": "score"}},
        {"benchmarks": [{"name": "b", "path": "x"}]},
    ],
)
def test_what_is_asked_and_concluded_changes_the_experiment_and_no_arm(change: dict[str, Any]) -> None:
    assert experiment_hash(with_top(**change)) != experiment_hash(with_top())
    assert of_arm(with_top(**change)) == of_arm(with_top())


def test_what_arms_are_chosen_by_counts_where_it_decides_what_is_kept_or_when_to_stop() -> None:
    for settled in (
        {"validation": {"keep": "best"}},
        {"stop": {"patience": 2}},
        {"stop": {"halving": {"rungs": [10]}}},
    ):
        run = VALUES["run"] | settled
        assert of_arm(with_top(run=run, selection={"metric": "a"})) != of_arm(
            with_top(run=run, selection={"metric": "b"})
        )


def test_stages_count() -> None:
    run = {name: value for name, value in VALUES["run"].items() if name != "data"}
    stages = [{"name": name, "data": VALUES["run"]["data"]} for name in "ab"]
    one = with_top(run=run, continual={"stages": stages})
    other = with_top(run=run, continual={"stages": [stages[0], stages[1] | {"replay": 0.1}]})
    assert of_arm(one) != of_arm(other)


def test_resolving_does_not_change_the_experiment() -> None:
    config = with_run()
    values = resolved(config)
    assert values["run"]["algorithm"]["params"]["batch_size"] == 8
    assert experiment_hash(ExperimentConfig.model_validate(values)) == experiment_hash(config)
