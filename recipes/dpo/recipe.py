"""Direct preference optimisation on pairs of the model's own answers (DPO).

The model answers each question several times. Where a right and a wrong answer are among them, they are a pair, and DPO
makes the one likelier at the expense of the other.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tinker
from pydantic import PositiveInt

from hone.algorithms.graders.grade import Task
from hone.algorithms.preference import train as preference
from hone.algorithms.preference.pairs import Pair, pair
from hone.algorithms.preference.reference import score, summed_logprobs
from hone.algorithms.rl.policy import Policy, sample_seed
from hone.algorithms.types import Observation
from recipes.questions import answer, draw, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import before_and_after, curve, named


class Config(RecipeConfig):
    dpo: preference.PreferenceConfig
    family: str = "subtract_two_digit"
    questions: PositiveInt = 600
    attempts: PositiveInt = 8
    """Answers to each question, among which a pair is looked for."""
    held_out: PositiveInt = 200
    max_tokens: PositiveInt = 8


async def run(config: Config, setting: Setting) -> Outcome:
    base = await setting.service.create_sampling_client(base_model=config.model)
    policy = Policy(base, config.max_tokens)
    pairs = await own_pairs(config, setting, policy, draw(config.family, "train", config.questions, config.seed))
    held_out = draw(config.family, "held_out", config.held_out, config.seed)
    unseen = await own_pairs(config, setting, policy, held_out)
    run = setting.out / "run"
    last = await preference.train(
        named(config.dpo, config),
        setting.service,
        pairs,
        run,
        evaluators=[right_answers(setting, held_out, config.max_tokens), Lead(unseen)],
        sinks=setting.sinks(run),
        display=setting.display,
    )
    return Outcome(
        [
            Measure("right answers to new questions", *before_and_after(run, "env/all/correct")),
            Measure("new pairs whose better answer is likelier", *before_and_after(run, "lead/accuracy")),
            Measure("lead of the better answer, nats", *before_and_after(run, "lead/margin")),
        ],
        curve(run, "margin", "margin of the implicit rewards"),
        str(last.sampler_path),
        {"pairs": len(pairs)},
    )


async def own_pairs(config: Config, setting: Setting, policy: Policy, tasks: Sequence[Task]) -> list[Pair]:
    """One pair for each question that was answered rightly and wrongly: the right answer and the first wrong one."""
    stop = setting.renderer.get_stop_sequences()

    async def of(number: int, task: Task) -> list[Pair]:
        asked = prompt(setting, task.question)
        observation = Observation(tinker.ModelInput.from_ints(list(asked)), stop)
        given = await policy.answers(observation, config.attempts, sample_seed(config.seed, "pairs", number))
        right = answer(setting, task.question, task.gold)
        wrong = [one.tokens for one in given if one.stop_reason == "stop" and tuple(one.tokens) != right]
        return [pair(asked, right, wrong[0])] if wrong and len(wrong) < len(given) else []

    found = await asyncio.gather(*(of(number, task) for number, task in enumerate(tasks)))
    return [one for pairs in found for one in pairs]


@dataclass(frozen=True)
class Lead:
    """An evaluator: how often, and by how much, the better answer is the likelier one."""

    pairs_P: Sequence[Pair]

    async def __call__(self, sampler: tinker.SamplingClient) -> Mapping[str, float]:
        data_D = [datum for one in self.pairs_P for datum in (one.chosen, one.rejected)]
        sums_D = summed_logprobs(data_D, await score(sampler, data_D, asyncio.Semaphore(64)))
        lead_P = sums_D[0::2] - sums_D[1::2]
        return {"lead/accuracy": float((lead_P > 0).float().mean()), "lead/margin": float(lead_P.mean())}
