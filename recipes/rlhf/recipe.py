"""Three stages in one run: demonstrations, a reward model from comparisons, reinforcement on its rewards (RLHF).

The demonstrations answer in two forms, as people do. Comparisons say which form they would rather have; a reward model
learns to tell, and the policy learns what it likes.
"""

import asyncio
import random

from pydantic import Field, PositiveInt

from hone.algorithms.envs.message_env import asked, said
from hone.algorithms.graders.grade import Task
from hone.algorithms.preference import rlhf
from hone.algorithms.preference.reward_model import RewardHead, RewardModel
from recipes.questions import answer, draw, example, prompt, right_answers
from recipes.recipe import Measure, Outcome, RecipeConfig, Setting
from recipes.runs import curve, finished, named


class Config(RecipeConfig):
    rlhf: rlhf.RlhfConfig
    demonstrations: PositiveInt = 1000
    other_share: float = Field(default=0.5, ge=0, lt=1)
    """Of the demonstrations: those in the form that nobody prefers."""
    comparisons: PositiveInt = 400
    prompts: PositiveInt = 240
    held_out: PositiveInt = 200
    max_tokens: PositiveInt = 16


async def run(config: Config, setting: Setting) -> Outcome:
    tasks = draw("tickets", "train", config.demonstrations + config.comparisons + config.prompts, config.seed)
    shown, rest = tasks[: config.demonstrations], tasks[config.demonstrations :]
    compared, practised = rest[: config.comparisons], rest[config.comparisons :]
    held_out = draw("tickets", "held_out", config.held_out, config.seed)
    rng = random.Random(f"rlhf/{config.seed}")

    def tokens(task: Task, text: str) -> tuple[int, ...]:
        return answer(setting, task.question, text)

    demonstrations = [
        example(setting, Task(task.question, other(task.gold)) if rng.random() < config.other_share else task)
        for task in shown
    ]
    head = reward_head(setting, held_out[0])
    stages = config.rlhf.model_copy(
        update={
            "sft": named(config.rlhf.sft, config),
            "reward_model": named(config.rlhf.reward_model, config),
            "policy": named(config.rlhf.policy, config),
        }
    )
    trained = await rlhf.train(
        stages,
        setting.service,
        demonstrations,
        [
            head.pair(prompt(setting, task.question), tokens(task, task.gold), tokens(task, other(task.gold)))
            for task in compared
        ],
        [prompt(setting, task.question) for task in practised],
        head,
        setting.out,
        stop=setting.renderer.get_stop_sequences(),
        sinks=setting.sinks,
        display=setting.display,
    )
    finished(trained.policy)

    right = right_answers(setting, held_out, config.max_tokens)
    pairs = [
        (prompt(setting, task.question), tokens(task, task.gold), tokens(task, other(task.gold))) for task in held_out
    ]

    async def answered(path: str | None) -> float:
        sampler = await setting.service.create_sampling_client(model_path=path)
        return (await right(sampler))["env/all/correct"]

    async def judged(path: str | None) -> float:
        sampler = await setting.service.create_sampling_client(model_path=path)
        model = RewardModel(sampler, head)
        good_P = await asyncio.gather(*(model.reward(asked_for, good) for asked_for, good, _ in pairs))
        bad_P = await asyncio.gather(*(model.reward(asked_for, bad) for asked_for, _, bad in pairs))
        return sum(good > bad for good, bad in zip(good_P, bad_P, strict=True)) / len(pairs)

    return Outcome(
        [
            Measure(
                "right answers to new tickets in the form preferred, after the first stage and the last",
                await answered(trained.sft.sampler_path),
                await answered(trained.policy.sampler_path),
            ),
            Measure(
                "new comparisons that the reward model decides as people do",
                await judged(trained.sft.sampler_path),
                await judged(trained.reward_model.sampler_path),
            ),
        ],
        curve(setting.out / "policy", "env/all/judged", "reward of the reward model"),
        str(trained.policy.sampler_path),
    )


def other(text: str) -> str:
    """`low/billing` for `billing/low`."""
    return "/".join(reversed(text.split("/")))


def reward_head(setting: Setting, task: Task) -> RewardHead:
    """Asks after an answer whether it is good: the tokens that follow it are the same whatever was answered."""
    said_before = [*prompt(setting, task.question), *answer(setting, task.question, task.gold)]
    question = [asked(task.question), said(task.gold), asked("Is that good or bad?")]
    whole = setting.renderer.build_generation_prompt(question).to_ints()
    assert whole[: len(said_before)] == said_before, "the question follows the answer as it was sampled"
    good, bad = (setting.tokenizer.encode(word, add_special_tokens=False)[0] for word in ("good", "bad"))
    return RewardHead(tuple(whole[len(said_before) :]), good, bad)
