"""The experiments among the recipes can be run as they stand."""

from pathlib import Path

import pytest

from hone.experiments.loading import load_experiment
from hone.experiments.matrix import plan_arms
from hone.experiments.runner.rows import Rows

FILES = sorted((Path(__file__).parents[3] / "recipes" / "experiments").glob("*/experiment.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_it_loads_and_its_rows_are_of_use(file: Path) -> None:
    loaded = load_experiment(file)
    arms = plan_arms(loaded.config)
    rows = Rows(loaded.home)
    for arm in arms[:1]:
        assert len(rows.training(arm.run, "chat")) > 100
        measured = rows.measured(arm.run)
        assert max(len(measured.examples), len(measured.tasks), len(measured.pairs)) > 50


def test_the_sweep_has_twelve_groups_of_three_seeds() -> None:
    (file,) = [one for one in FILES if one.parent.name == "learning_rate"]
    arms = plan_arms(load_experiment(file).config)
    assert (len(arms), len({arm.group for arm in arms})) == (36, 12)
