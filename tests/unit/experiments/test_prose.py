"""What people read of a conclusion."""

import numpy as np

from hone.experiments.conclusion import conclude
from hone.experiments.records import Measurement
from tests.support.experiment_records import METRIC, World, arm, failed_arm, record


def test_the_text_says_it_all() -> None:
    world = World(np.random.default_rng(1), run_luck=0.01)
    planted = world.experiment(
        {"dpo-low": 0.55, "dpo-high": 0.65, "sft-low": 0.5},
        config={"hypothesis": {"statement": "DPO beats SFT", "better": "dpo-*"}},
    )
    experiment = planted.model_copy(update={"arms": [*planted.arms, failed_arm("grpo", "row 3 has no task")]})
    text = conclude(experiment).as_text()
    for part in (
        "Supported: DPO beats SFT",
        "By mean_reward on validation, dpo-high was better than sft-low by 0.1",
        "95% interval of the gain 0.",
        "(3 runs and 3 runs, 100 tasks; corrected for 2 candidates)",
        "Best of 3 groups: dpo-high",
        "grpo (training): row 3 has no task",
        "Used: 15,000 tokens",
        "Mend what failed 1 arm (grpo): row 3 has no task",
    ):
        assert part in text


def test_less_is_better_and_no_interval_are_said() -> None:
    arms = [arm(name, Measurement(step=1, metrics={METRIC: value})) for name, value in (("a", 0.5), ("b", 0.7))]
    text = conclude(record(arms, goal="min", config={"hypothesis": "a beats b"})).as_text()
    assert "By mean_reward (less is better) on validation, a was better than b by 0.2: 0.5 against 0.7, with no" in text
    assert "nothing bounds the effect" in text
