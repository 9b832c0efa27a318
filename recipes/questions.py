"""What recipes on questions with one right answer share: problems, and the tokens that are asked and answered."""

from __future__ import annotations

import random

import tinker

from hone.algorithms.datums import supervised_datum
from hone.algorithms.envs.datasets import ProblemDataset
from hone.algorithms.envs.generated import FAMILIES, Split
from hone.algorithms.envs.message_env import asked, said
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.algorithms.messages import Message
from hone.algorithms.rl.config import RolloutConfig
from hone.algorithms.rl.held_out import HeldOutRewards
from hone.cli.demo.tasks import MANY_TASKS, RL_TASK, SFT_TASK
from hone.errors import UserError
from recipes.recipe import Setting

UNKNOWN = {task.name: task for task in (SFT_TASK, RL_TASK, *MANY_TASKS)}
"""The demo's tasks, in phrasings that the embedded model has never seen."""


def draw(kind: str, split: Split, count: int, seed: int) -> list[Task]:
    """Problems of a family of `hone env list` or of a task of the demo. The splits share none."""
    if kind in FAMILIES:
        drawn = [FAMILIES[kind].problem(seed * 1_000_000 + number, split) for number in range(count)]
        return [Task(problem.question, problem.answer) for problem in drawn]
    if kind not in UNKNOWN:
        raise UserError(f"there are no problems {kind!r}; there are {', '.join([*FAMILIES, *UNKNOWN])}")
    rng = random.Random(f"{kind}/{split}/{seed}")
    return [
        Task(problem.question, problem.answer) for problem in (UNKNOWN[kind].draw(rng, split) for _ in range(count))
    ]


def prompt(setting: Setting, question: str, system: str = "") -> tuple[int, ...]:
    """The tokens after which the model answers."""
    return tuple(setting.renderer.build_generation_prompt([*_told(system), asked(question)]).to_ints())


def answer(setting: Setting, question: str, text: str) -> tuple[int, ...]:
    """The tokens of an answer, up to the end of its turn."""
    whole = setting.renderer.build_supervised_example([asked(question), said(text)]).model_input.to_ints()
    return tuple(whole[len(prompt(setting, question)) :])


def example(setting: Setting, task: Task, system: str = "") -> tinker.Datum:
    """A conversation whose answer is learned."""
    turns = [*_told(system), asked(task.question), said(task.gold)]
    return supervised_datum(*setting.renderer.build_supervised_example(turns))


def right_answers(setting: Setting, tasks: list[Task], max_tokens: int, system: str = "") -> HeldOutRewards:
    """An evaluator: `env/all/correct` is the share of sampled answers that are right, one to each question."""
    dataset = ProblemDataset(
        tasks, Exact(), setting.renderer, batch_size=len(tasks), group_size=1, before=_told(system)
    )
    return HeldOutRewards(dataset, RolloutConfig(max_tokens=max_tokens))


def _told(system: str) -> list[Message]:
    return [{"role": "system", "content": system}] if system else []
