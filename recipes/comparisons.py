"""What recipes on preferences share: comparisons of the model's own answers, and how it decides new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tinker

from hone.algorithms.graders.grade import Task
from hone.algorithms.preference.objectives import Judged
from hone.algorithms.preference.pairs import Pair, pair
from hone.algorithms.preference.reference import score, summed_logprobs
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.types import Observation
from recipes.questions import answer, prompt
from recipes.recipe import Setting


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, in tokens."""

    prompt: tuple[int, ...]
    better: tuple[int, ...]
    worse: tuple[int, ...]

    @property
    def pair(self) -> Pair:
        return pair(self.prompt, self.better, self.worse)

    @property
    def judged(self) -> list[Judged]:
        """As single answers, for methods that need no pairs."""
        return [Judged(self.prompt, self.better, True), Judged(self.prompt, self.worse, False)]


async def own_comparisons(
    setting: Setting, policy: Policy, tasks: Sequence[Task], attempts: int, seed: int
) -> list[Comparison]:
    """One for each question that was answered rightly and wrongly: the right answer and the first wrong one."""
    stop = setting.renderer.get_stop_sequences()

    async def of(number: int, task: Task) -> list[Comparison]:
        asked = prompt(setting, task.question)
        observation = Observation(tinker.ModelInput.from_ints(list(asked)), stop)
        given = await policy.answers(observation, attempts, sample_seed(seed, "pairs", number))
        right = answer(setting, task.question, task.gold)
        wrong = [tuple(one.tokens) for one in given if one.stop_reason == "stop" and tuple(one.tokens) != right]
        return [Comparison(asked, right, wrong[0])] if wrong and len(wrong) < len(given) else []

    found = await asyncio.gather(*(of(number, task) for number, task in enumerate(tasks)))
    return [one for comparisons in found for one in comparisons]


@dataclass(frozen=True)
class Lead:
    """An evaluator: how often, and by how much, the better answer is the likelier one."""

    pairs_P: Sequence[Pair]

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        data_D = [datum for one in self.pairs_P for datum in (one.chosen, one.rejected)]
        sums_D = summed_logprobs(data_D, await score(sampler, data_D, asyncio.Semaphore(64)))
        lead_P = sums_D[0::2] - sums_D[1::2]
        return {"lead/accuracy": float((lead_P > 0).float().mean()), "lead/margin": float(lead_P.mean())}
