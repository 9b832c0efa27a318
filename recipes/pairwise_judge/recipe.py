"""Reinforcement learning directly on a judge that says which of two answers is better.

Nobody gives a reward, and no reward model is trained: every answer to a question meets every other one before the
judge, and its reward is how it did there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import PositiveInt

from hone.algorithms.graders.judges import Judge, TinkerJudge
from hone.algorithms.graders.pairwise import Pairwise
from hone.algorithms.messages import Message, text_of
from hone.algorithms.preference.judged import JudgedPrompts, compared
from hone.algorithms.rl import train as grpo
from recipes.questions import draw, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, finished, named

CRITERIA = "The numbers of the question stand in descending order. The more of them are in their place, the better."

COMPARISON = re.compile(
    r"<question>\n(.*?)\n</question>.*?<answer_a>\n(.*?)\n</answer_a>\n\n<answer_b>\n(.*?)\n</answer_b>", re.DOTALL
)
"""In one piece, so that an answer which has the other's tags in it is read as it was given."""


class Config(RecipeConfig):
    grpo: grpo.GrpoConfig
    family: str = "sorting"
    judge: str | None = None
    """A base model, or sampler weights (`tinker://...`); without it a program judges."""
    criteria: str = CRITERIA
    """What the judge goes by."""
    steps: PositiveInt = 30
    prompts_per_step: PositiveInt = 16
    group_size: PositiveInt = 6
    """Answers to each prompt; all pairs of them are compared, each in both orders."""
    held_out: PositiveInt = 400


async def run(config: Config, setting: Setting) -> Outcome:
    training = named(config.grpo, config)
    tasks = draw(config.family, "train", config.steps * config.prompts_per_step, config.seed)
    held_out = draw(config.family, "held_out", config.held_out, config.seed)
    pairwise = Pairwise(await _judge(config, setting), config.criteria)
    prompts = JudgedPrompts(
        compared(tasks, pairwise, setting.renderer),
        setting.renderer.get_stop_sequences(),
        config.group_size,
        config.prompts_per_step,
    )
    run = setting.out / "run"
    last = finished(
        await grpo.train(
            training,
            setting.service,
            prompts,
            run,
            evaluators=[right_answers(setting, held_out, training.rollouts.max_tokens)],
            decode=setting.tokenizer.decode,
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
    return Outcome(
        [Measure("right answers to new problems", *before_and_after(run, "env/all/correct"))],
        curve(run, "test/env/all/correct", "right answers to new problems"),
        str(last.sampler_path),
    )


async def _judge(config: Config, setting: Setting) -> Judge:
    if config.judge is None:
        return SortingJudge()
    trained = config.judge.startswith("tinker://")
    sampler = await setting.service.create_sampling_client(
        model_path=config.judge if trained else None, base_model=None if trained else config.judge
    )
    return TinkerJudge(sampler, setting.renderer)


@dataclass(frozen=True)
class SortingJudge:
    """Reads what a model would be told, and counts the numbers that stand where they should."""

    async def __call__(self, messages: Sequence[Message], *, seed: int) -> str:
        told = COMPARISON.search(text_of(messages[-1]))
        assert told is not None, "a comparison has a question and two answers"
        question, *answers = told.groups()
        right = sorted(_numbers(question), reverse=True)
        a, b = (_in_place(answer, right) for answer in answers)
        return f"{a} and {b} numbers are in their place.\nVerdict: {'Tie' if a == b else 'A' if a > b else 'B'}"


def _in_place(answer: str, right: list[int]) -> int:
    """Of an answer that is no list of these numbers: none."""
    numbers = _numbers(answer)
    if answer.strip() != ", ".join(map(str, numbers)) or sorted(numbers) != sorted(right):
        return 0
    return sum(one == other for one, other in zip(numbers, right, strict=True))


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d{1,9}", text)]
