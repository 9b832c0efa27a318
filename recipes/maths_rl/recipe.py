"""Reinforcement learning on sums that a program can check (GRPO).

The model knows how to subtract and gets it right every second time. Each step asks sixteen problems, samples eight
answers to each, and makes the right ones likelier than the wrong ones.
"""

from pydantic import PositiveInt

from hone.algorithms.envs.datasets import ProblemDataset
from hone.algorithms.envs.generated import FAMILIES, Split
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.algorithms.rl import train as grpo
from hone.algorithms.rl.held_out import HeldOutRewards
from hone.algorithms.run_directory import read_metrics
from recipes.recipe import Curve, Measure, Outcome, RecipeConfig, Setting

MEASURE = "test/env/all/correct"


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
    training = config.grpo.model_copy(
        update={
            "model": config.grpo.model.model_copy(update={"name": config.model, "seed": config.seed}),
            "seed": config.seed,
            "eval_every": config.steps,
        }
    )
    problems = _problems(config, setting, "train", config.steps * config.problems_per_step, config.group_size)
    held_out = HeldOutRewards(_problems(config, setting, "held_out", config.held_out, 2), training.rollouts)
    last = await grpo.train(
        training,
        setting.service,
        problems,
        setting.out / "run",
        evaluators=[held_out],
        decode=setting.tokenizer.decode,
        display=setting.display,
    )
    rows = read_metrics(setting.out / "run")
    before, *_, after = [row[MEASURE] for row in rows if MEASURE in row]
    curve = [(float(row["step"]), row["env/all/correct"]) for row in rows if "env/all/correct" in row]
    return Outcome(
        [Measure("right answers to new problems", before, after)],
        Curve("right answers while training", curve),
        str(last.sampler_path),
    )


def _problems(config: Config, setting: Setting, split: Split, count: int, group_size: int) -> ProblemDataset:
    drawn = [FAMILIES[config.family].problem(config.seed * 1_000_000 + number, split) for number in range(count)]
    return ProblemDataset(
        [Task(problem.question, problem.answer) for problem in drawn],
        Exact(),
        setting.renderer,
        config.problems_per_step,
        group_size,
        config.seed,
    )
