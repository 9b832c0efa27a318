"""Tic-tac-toe by self-play: the model plays both sides, and who wins is reinforced.

It is shown how a move reads by games of random moves. Nobody tells it a good one: it meets only itself, and is measured
against a random and a perfect opponent.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import PositiveInt

from hone.algorithms.envs.games import SelfPlay
from hone.algorithms.envs.message_env import GroupBuilder
from hone.algorithms.envs.tic_tac_toe import TicTacToe, tic_tac_toe_env
from hone.algorithms.rl import train as grpo
from recipes.episodes import Shown, held_out_episodes, reinforce, show
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting

OPPONENTS: tuple[Literal["random", "perfect"], ...] = ("random", "perfect")


class Config(RecipeConfig):
    shown: Shown
    grpo: grpo.GrpoConfig
    steps: PositiveInt = 40
    matches_per_step: PositiveInt = 48
    held_out: PositiveInt = 200
    """Games against each opponent, half of them begun by it."""


@dataclass(frozen=True)
class Matches:
    """An `RLDataset` of games in which the model meets itself."""

    setting: Setting
    steps: int
    per_step: int

    def __len__(self) -> int:
        return self.steps

    def get_batch(self, index: int) -> list[SelfPlay]:
        return [SelfPlay(TicTacToe, self.setting.renderer) for _ in range(self.per_step)]


@dataclass(frozen=True)
class Opponents:
    """An `RLDataset` of games against others, each opponent under its own tag."""

    setting: Setting
    games: int

    def __len__(self) -> int:
        return len(OPPONENTS)

    def get_batch(self, index: int) -> list[GroupBuilder]:
        game = partial(tic_tac_toe_env, opponent=OPPONENTS[index])
        return held_out_episodes(game, self.setting, self.games, (OPPONENTS[index],)).get_batch(0)


async def run(config: Config, setting: Setting) -> Outcome:
    shown = await show(config.shown, config, partial(tic_tac_toe_env, opponent="random"), setting)
    matches = Matches(setting, config.steps, config.matches_per_step)
    played = await reinforce(config.grpo, config, matches, Opponents(setting, config.held_out), setting, shown)
    return Outcome(
        [
            Measure("won against a random opponent", *played.before_and_after("won", "random")),
            Measure("lost to a random opponent", *played.before_and_after("lost", "random"), higher_is_better=False),
            Measure("lost to a perfect opponent", *played.before_and_after("lost", "perfect"), higher_is_better=False),
        ],
        played.curve("illegal", "games that ended by an illegal move"),
        str(played.last.sampler_path),
    )
