"""Reinforcement learning on sums that a program can check (GRPO).

The model knows how to subtract and gets it right every second time. Each step asks sixteen problems, samples eight
answers to each, and makes the right ones likelier than the wrong ones.
"""

from pydantic import PositiveInt

from hone.algorithms.envs.datasets import ProblemDataset
from hone.algorithms.envs.generated import Split
from hone.algorithms.graders.exact import Exact
from hone.algorithms.rl import train as grpo
from hone.algorithms.rl.held_out import HeldOutRewards
from recipes.questions import draw
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, finished, named


class Config(RecipeConfig):
    family: str = "subtract_two_digit"
    """Which problems: see `hone env list`."""
    grpo: grpo.GrpoConfig
    steps: PositiveInt = 30
    problems_per_step: PositiveInt = 16
    group_size: PositiveInt = 8
    """Answers to each problem."""
    held_out: PositiveInt = 100
    """Problems that are never trained on, two answers each."""


async def run(config: Config, setting: Setting) -> Outcome:
    training = named(config.grpo, config).model_copy(update={"eval_every": config.steps})
    problems = _problems(config, setting, "train", config.steps * config.problems_per_step, config.group_size)
    held_out = HeldOutRewards(_problems(config, setting, "held_out", config.held_out, 2), training.rollouts)
    run = setting.out / "run"
    last = finished(
        await grpo.train(
            training,
            setting.service,
            problems,
            run,
            evaluators=[held_out],
            decode=setting.tokenizer.decode,
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
    return Outcome(
        [Measure("right answers to new problems", *before_and_after(run, "env/all/correct"))],
        curve(run, "env/all/correct", "right answers while training"),
        str(last.sampler_path),
    )


def _problems(config: Config, setting: Setting, split: Split, count: int, group_size: int) -> ProblemDataset:
    tasks = draw(config.family, split, count, config.seed)
    return ProblemDataset(tasks, Exact(), setting.renderer, config.problems_per_step, group_size, config.seed)
