"""Measures a sampling client on held-out problems."""

import asyncio
from collections.abc import Sequence

import tinker

from hone.cli.demo.chat import Chat
from hone.cli.demo.results import Answer, Comparison, Score
from hone.cli.demo.tasks import Problem

EXAMPLES = 4
"""How many problems the report shows with the answers before and after."""


async def examine(sampler: tinker.SamplingClient, chat: Chat, problems: Sequence[Problem]) -> list[Answer]:
    """One sampled answer to each problem, all asked at once."""
    return await asyncio.gather(*(_ask(sampler, chat, problem) for problem in problems))


def score(answers: Sequence[Answer]) -> Score:
    return Score(sum(answer.right for answer in answers), len(answers))


def compare(before: Sequence[Answer], after: Sequence[Answer]) -> tuple[Comparison, ...]:
    """The first few problems, whatever became of them."""
    pairs = list(zip(before, after, strict=True))[:EXAMPLES]
    return tuple(Comparison(old.question, old.expected, old.said, new.said) for old, new in pairs)


async def _ask(sampler: tinker.SamplingClient, chat: Chat, problem: Problem) -> Answer:
    prompt = tinker.ModelInput.from_ints(chat.prompt(problem.question))
    response = await sampler.sample(prompt, num_samples=1, sampling_params=chat.sampling_params())
    said = chat.text(response.sequences[0].tokens)
    return Answer(problem.question, problem.answer, said, problem.solved_by(said))
