"""Tool use: sums that are too hard without a calculator, and easy with it.

The model is shown episodes in which some moves are an expert's and the others are guesses. Reinforcement finds out
that calling and copying the result is what pays.
"""

from pydantic import PositiveInt

from hone.algorithms.envs.tool_problems import calculator_env
from hone.algorithms.rl import train as grpo
from recipes.episodes import Shown, episodes, held_out_episodes, reinforce, show
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting


class Config(RecipeConfig):
    shown: Shown
    grpo: grpo.GrpoConfig
    steps: PositiveInt = 20
    problems_per_step: PositiveInt = 8
    group_size: PositiveInt = 8
    held_out: PositiveInt = 100


async def run(config: Config, setting: Setting) -> Outcome:
    shown = await show(config.shown, config, calculator_env, setting)
    problems = episodes(
        calculator_env,
        setting,
        steps=config.steps,
        per_step=config.problems_per_step,
        group_size=config.group_size,
        seed=config.seed,
    )
    used = await reinforce(
        config.grpo, config, problems, held_out_episodes(calculator_env, setting, config.held_out), setting, shown
    )
    return Outcome(
        [
            Measure("right answers to new problems", *used.before_and_after("correct")),
            Measure("calls in an episode", *used.before_and_after("tool_calls")),
        ],
        used.curve("correct", "right answers while training"),
        str(used.last.sampler_path),
    )
