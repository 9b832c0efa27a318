"""The published advice, and schedules against their closed forms."""

import json
import math
from pathlib import Path

import pytest

from hone.algorithms.config import OptimizerConfig
from hone.algorithms.learning_rate import get_lr, rate_at, recommended_lr
from hone.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("model", "width", "expected"),
    [
        ("meta-llama/Llama-3.1-8B", 4096, 2.856e-4),
        ("meta-llama/Llama-3.2-1B", 2048, 4.91e-4),
        ("Qwen/Qwen3-8B", 4096, 4.73e-4),
    ],
)
def test_the_advice_is_the_published_one(model: str, width: int, expected: float) -> None:
    assert recommended_lr(model, width) == pytest.approx(expected, rel=2e-3)


def test_other_families_must_say_it_themselves() -> None:
    with pytest.raises(UserError, match=r"no learning rate is published for 'hone/tiny'.*llama, qwen"):
        recommended_lr("hone/tiny", 128)


def test_a_models_name_is_enough_where_its_width_is_known() -> None:
    assert get_lr("meta-llama/Llama-3.1-8B") == pytest.approx(2.856e-4, rel=2e-4)
    assert get_lr("Qwen/Qwen3-30B-A3B-Instruct-2507") == recommended_lr("qwen", 2048)
    with pytest.raises(UserError, match=r"width of 'acme/tiny' is not known here; give `learning_rate`"):
        get_lr("acme/tiny")


def test_the_advice_for_the_embedded_model_is_near_what_a_sweep_of_other_tasks_finds() -> None:
    results = json.loads((ROOT / "recipes" / "learning_rate_sweep" / "results.json").read_text())
    for run in results["runs"]:
        assert 0.5 <= run["facts"]["best rate"] / get_lr("hone/tiny") <= 2


def test_widths_are_those_that_the_cookbook_knows() -> None:
    theirs = pytest.importorskip("tinker_cookbook.hyperparam_utils")
    llamas = "3.2-3B 3.1-70B 3.3-70B-Instruct".split()
    qwens = "3-32B 3-8B-Base 3-4B-Instruct-2507 3-235B-A22B-Instruct-2507 3-VL-235B-A22B-Instruct".split()
    qwens += "3.5-9B-Base 3.5-397B-A17B 3.6-27B 3.6-35B-A3B".split()
    named = [*(f"meta-llama/Llama-{name}" for name in llamas), *(f"Qwen/Qwen{name}" for name in qwens)]
    for name in named:
        assert get_lr(name) == pytest.approx(theirs.get_lr(name), rel=1e-9), name


def test_linear_and_cosine_fall_as_their_formulas_say() -> None:
    for step in range(10):
        assert rate_at(OptimizerConfig(schedule="constant"), 2.0, step, 10) == 2.0
        assert rate_at(OptimizerConfig(schedule="linear"), 2.0, step, 10) == pytest.approx(2.0 * (1 - step / 10))
        cosine = 0.5 * (1 + math.cos(math.pi * step / 10))
        assert rate_at(OptimizerConfig(schedule="cosine"), 2.0, step, 10) == pytest.approx(2.0 * cosine)


def test_warm_up_rises_to_the_highest_rate_and_the_fall_begins_there() -> None:
    config = OptimizerConfig(schedule="linear", warmup_steps=4)
    rates = [rate_at(config, 1.0, step, 8) for step in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25])
