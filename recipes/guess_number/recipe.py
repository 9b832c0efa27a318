"""Guess the number: several turns, one reward at the end.

The model is shown games in which half of the guesses are an expert's and the others random. Reinforcement finds out
that heeding `Higher` and `Lower` is what pays, for those who do find the number more often.
"""

from pydantic import PositiveInt

from hone.algorithms.envs.guess_number import GuessNumber
from hone.algorithms.rl import train as grpo
from recipes.episodes import Shown, episodes, held_out_episodes, reinforce, show
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting


class Config(RecipeConfig):
    shown: Shown
    grpo: grpo.GrpoConfig
    highest: PositiveInt = 20
    """The secret is a number from 0 to this one."""
    steps: PositiveInt = 30
    games_per_step: PositiveInt = 16
    group_size: PositiveInt = 8
    """Attempts at each number."""
    held_out: PositiveInt = 200


async def run(config: Config, setting: Setting) -> Outcome:
    def game(seed: int) -> GuessNumber:
        return GuessNumber(seed, highest=config.highest)

    shown = await show(config.shown, config, game, setting)
    games = episodes(
        game,
        setting,
        steps=config.steps,
        per_step=config.games_per_step,
        group_size=config.group_size,
        seed=config.seed,
    )
    played = await reinforce(
        config.grpo, config, games, held_out_episodes(game, setting, config.held_out), setting, shown
    )
    return Outcome(
        [Measure("games won", *played.before_and_after("found"))],
        played.curve("found", "games won while training"),
        str(played.last.sampler_path),
    )
