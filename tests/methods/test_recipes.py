"""Every recipe runs from its first step to its last measure; shortened, so nothing is asked of the numbers."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from hone.algorithms import sinks
from hone.client.embedded import ServerInfo
from recipes.__main__ import once
from recipes.recipe import load_recipe, names

SHOWN = ["shown.episodes=4", "shown.sft.epochs=1"]
SHORT = {
    "chat_sft": ["conversations=8", "sft.epochs=1", "held_out=4"],
    "dpo": ["questions=8", "dpo.epochs=1", "held_out=12"],
    "distillation_methods": ["shown=8", "answered=8", "questions=2", "held_out=2", "on_policy.group_size=2"],
    "guess_number": [*SHOWN, "steps=1", "games_per_step=2", "group_size=2", "held_out=2"],
    "learning_rate_sweep": ["examples=2", "held_out=2", "rates=[1e-3]"],
    "lora_rank": ["examples=2", "held_out=2", "ranks=[1,2]"],
    "maths_rl": ["steps=2", "problems_per_step=2", "group_size=2", "held_out=4"],
    "memory": [*SHOWN, "steps=2", "episodes_per_step=4"],
    "on_policy_distillation": ["questions=4", "held_out=4", "distillation.epochs=1", "distillation.group_size=2"],
    "pairwise_judge": ["steps=1", "prompts_per_step=2", "group_size=2", "held_out=2"],
    "preference_methods": ["questions=8", "held_out=12", "preference.epochs=1"],
    "prompt_distillation": ["shown=4", "texts=8", "held_out=4", "teacher.epochs=1", "sft.epochs=1"],
    "rl_methods": ["steps=1", "problems_per_step=2", "group_size=2", "held_out=2"],
    "rlhf": ["demonstrations=8", "comparisons=8", "prompts=2", "held_out=4", "rlhf.group_size=2"],
    "tic_tac_toe": [*SHOWN, "steps=1", "matches_per_step=2", "held_out=2"],
    "tool_use": [*SHOWN, "steps=1", "problems_per_step=2", "group_size=2", "held_out=2"],
    "twenty_questions": [*SHOWN, "steps=1", "games_per_step=2", "group_size=2", "held_out=2"],
}


class Collected:
    """A sink that keeps the steps."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.steps: list[int] = []
        self.closed = False

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True


def test_every_recipe_is_run_here() -> None:
    assert set(SHORT) == set(names())


@pytest.mark.parametrize("name", SHORT)
def test_it_runs(name: str, server: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Collected] = []

    def open_sinks(names: str, run_dir: Path, project: str, config: object) -> list[Collected]:
        opened.append(Collected(run_dir))
        return [opened[-1]]

    monkeypatch.setattr(sinks, "open_sinks", open_sinks)
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    outcome, _ = once(load_recipe(name, [f"base_url={server.url}", *SHORT[name]]), tmp_path)
    assert outcome.checkpoint.startswith("tinker://")
    assert outcome.curve is None or outcome.curve.points
    assert all(math.isfinite(number) for measure in outcome.measures for number in (measure.before, measure.after))
    assert {sink.run_dir for sink in opened} == {file.parent for file in tmp_path.rglob("metrics.jsonl")}
    assert all(sink.steps and sink.closed for sink in opened)
