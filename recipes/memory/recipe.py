"""How fast reward alone writes a fact into the weights: a secret number that no prompt tells.

Every episode asks for the number and pays for that number alone. A policy gradient learns about a bit from an episode
at the most, so the curve shows what that costs in practice ("LoRA Without Regret", 2025).
"""

import math
from typing import Literal

from pydantic import PositiveInt

from hone.algorithms.envs.memory import Memory
from hone.algorithms.rl import train as grpo
from recipes.episodes import Shown, episodes, held_out_episodes, reinforce, show
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting


class Config(RecipeConfig):
    shown: Shown
    grpo: grpo.GrpoConfig
    below: PositiveInt = 100
    reward: Literal["exact", "distance"] = "exact"
    """`distance` pays for near answers too, and a run may settle beside the secret, which pays almost as much."""
    steps: PositiveInt = 30
    episodes_per_step: PositiveInt = 64


async def run(config: Config, setting: Setting) -> Outcome:
    def ask(seed: int) -> Memory:
        return Memory(config.seed, below=config.below, reward=config.reward)

    shown = await show(config.shown, config, ask, setting)
    asked = episodes(
        ask, setting, steps=config.steps, per_step=1, group_size=config.episodes_per_step, seed=config.seed
    )
    # There is one question: what is measured is how often it is answered right, in answers of their own.
    told = await reinforce(config.grpo, config, asked, held_out_episodes(ask, setting, 100), setting, shown)
    curve = told.curve("correct", "answers that are the secret")
    known = next((int(step + 1) * config.episodes_per_step for step, share in curve.points if share >= 0.5), None)
    return Outcome(
        [Measure("answers that are the secret", *told.before_and_after("correct"))],
        curve,
        str(told.last.sampler_path),
        {"bits": round(math.log2(config.below), 1), "episodes until every second answer was the secret": known},
    )
