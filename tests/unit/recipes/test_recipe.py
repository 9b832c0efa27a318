"""Recipes are found, told, and refuse settings that they do not know; their results become a table."""

import json
from pathlib import Path

import pytest

from hone.algorithms.envs.datasets import EpisodeDataset
from hone.errors import UserError
from recipes import results
from recipes.episodes import HELD_OUT_SEEDS
from recipes.recipe import FOLDER, Curve, Measure, Outcome, load_recipe, names


@pytest.mark.parametrize("name", names())
def test_every_recipe_has_a_configuration_a_readme_and_a_summary(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.config.model == "hone/tiny"
    assert recipe.summary.endswith(".")
    readme = (FOLDER / name / "README.md").read_text()
    assert f"make recipe NAME={name}" in readme
    assert results.BEGIN in readme
    assert results.END in readme


MEASURED = [name for name in names() if (FOLDER / name / results.RESULTS).exists()]


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_told_is_what_was_measured(name: str) -> None:
    told = results.table(FOLDER / name / results.RESULTS)
    assert told in (FOLDER / name / "README.md").read_text()
    assert told.rstrip() in results.OVERVIEW.read_text()
    assert (FOLDER / name / results.PLOT).exists()


@pytest.mark.parametrize("name", MEASURED)
def test_every_seed_improved_what_the_recipe_is_for(name: str) -> None:
    measured = json.loads((FOLDER / name / results.RESULTS).read_text())["runs"]
    assert len(measured) >= 3
    assert all(Measure(**run["measures"][0]).gain > 0 for run in measured)


def test_settings_can_be_given() -> None:
    recipe = load_recipe("maths_rl", ["seed=3", "grpo.optimizer.learning_rate=1e-3", "steps=5"])
    assert recipe.config.seed == 3
    assert recipe.config.grpo.optimizer.learning_rate == 1e-3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=none", r"steps: Input should be a valid integer"),
        ("grpo.optimiser.learning_rate=1", r"grpo\.optimiser: Extra inputs are not permitted"),
        ("steps.more=1", r"steps\.more: steps has no settings below it"),
        ("steps", r"'steps' is no setting; write key=value"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("maths_rl", [override])


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(UserError, match=r"there is no recipe 'maths'; there are .*maths_rl"):
        load_recipe("maths")


def test_the_table_gives_the_gain_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "OVERVIEW", tmp_path / "recipes.md")
    folder = tmp_path / "maths_rl"
    folder.mkdir()
    (folder / "README.md").write_text(f"Before.\n{results.BEGIN}\nold\n{results.END}\nAfter.\n")
    runs = {
        seed: (
            Outcome(
                [Measure("right", 0.5, after), Measure("nll", 2.0, 1.0, higher_is_better=False)],
                Curve("reward", [(0.0, 0.1), (1.0, after)]),
                "tinker://x",
                {"best": after},
            ),
            30.0,
        )
        for seed, after in ((4, 0.6), (5, 0.7), (6, 0.8))
    }
    results.write_results(load_recipe("maths_rl"), runs)
    readme = (folder / "README.md").read_text()
    # Student's t with two degrees of freedom: 4.303 * 0.1 / sqrt(3) = 0.248
    assert "| right | 0.5 | 0.7 | +0.2 (-0.0484 to +0.448) |" in readme
    assert "| nll | 2 | 1 | +1 (+1 to +1) |" in readme
    assert "\nbest: 0.6, 0.7, 0.8  \n" in readme
    assert readme.startswith("Before.\n")
    assert readme.endswith("\nAfter.\n")
    assert "`hone/tiny`, seeds 4, 5, 6, 30 s each." in readme
    assert "old" not in readme
    assert "<svg" in (folder / "plot.svg").read_text()
    assert "maths_rl" in (tmp_path / "recipes.md").read_text()


def test_without_curves_the_gains_are_plotted(tmp_path: Path) -> None:
    outcomes = {
        seed: Outcome([Measure("one", 0.5, after), Measure("other", 0.5, after - 0.1)], None, "tinker://x")
        for seed, after in ((0, 0.6), (1, 0.7), (2, 0.8))
    }
    results.draw(outcomes, tmp_path / "plot.svg")
    plot = (tmp_path / "plot.svg").read_text()
    assert "<!-- one -->" in plot
    assert "<!-- other -->" in plot


def test_no_episode_to_train_on_is_one_to_measure_on() -> None:
    drawn: list[int] = []
    dataset = EpisodeDataset(drawn.append, None, 50, 20, 1)  # type: ignore[arg-type]
    for index in range(len(dataset)):
        for builder in dataset.get_batch(index):
            builder.make()
    assert len(drawn) == 1000
    assert max(drawn) < HELD_OUT_SEEDS
