"""Every recipe runs from its first step to its last measure; shortened, so nothing is asked of the numbers."""

from pathlib import Path

import pytest

from hone.client.embedded import ServerInfo
from recipes.__main__ import once
from recipes.recipe import load_recipe, names

SHOWN = ["shown.episodes=4", "shown.sft.epochs=1"]
SHORT = {
    "guess_number": [*SHOWN, "steps=1", "games_per_step=2", "group_size=2", "held_out=2"],
    "memory": [*SHOWN, "steps=2", "episodes_per_step=4"],
    "maths_rl": ["steps=2", "problems_per_step=2", "group_size=2", "held_out=4"],
}


def test_every_recipe_is_run_here() -> None:
    assert set(SHORT) == set(names())


@pytest.mark.parametrize("name", SHORT)
def test_it_runs(name: str, server: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_API_KEY", server.api_key)
    outcome, _ = once(load_recipe(name, [f"base_url={server.url}", *SHORT[name]]), tmp_path)
    assert outcome.checkpoint.startswith("tinker://")
    assert outcome.curve.points
    assert all(measure.before >= 0 and measure.after >= 0 for measure in outcome.measures)
