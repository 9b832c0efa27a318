"""Stage 2: reinforcement learning with a verifier. No example answers: it tries, and right answers are reinforced.

Group-relative advantages (GRPO without the division by the standard deviation): an answer counts by how much its reward
exceeds the mean of the other answers to the same problem.

Suffixes: `_P` problems of a step, `_G` answers in a group, `_D` training items.
"""

import asyncio
import random
import time
from dataclasses import dataclass

import tinker

from hone.cli.demo.bench import Bench
from hone.cli.demo.chat import Chat, policy_datum
from hone.cli.demo.evaluate import compare, examine, score
from hone.cli.demo.results import AdapterResult, Measure, StageResult
from hone.cli.demo.tasks import RL_TASK, Task


@dataclass(frozen=True)
class Settings:
    steps: int
    problems: int
    """Per step; the update is the mean direction over all of them."""
    group_size: int
    """Answers per problem. A problem whose answers are all right or all wrong teaches nothing in that step."""
    learning_rate: float
    """At the first step; falls linearly to zero."""
    rank: int
    examination: int
    """Held-out problems asked before and after."""


FULL = Settings(steps=60, problems=16, group_size=12, learning_rate=4e-3, rank=16, examination=200)
QUICK = Settings(steps=2, problems=4, group_size=4, learning_rate=2e-3, rank=8, examination=16)


async def run(bench: Bench) -> StageResult:
    started = time.perf_counter()
    adapter = await train_on_rewards(bench, RL_TASK, QUICK if bench.quick else FULL)
    return StageResult("RL", "Reinforcement learning", time.perf_counter() - started, (adapter,))


async def train_on_rewards(bench: Bench, task: Task, settings: Settings) -> AdapterResult:
    training = await bench.client.create_lora_training_client(bench.base_model, rank=settings.rank, seed=0)
    chat = Chat(training.get_tokenizer())
    examination = task.examination(settings.examination)
    sampler = await training.save_weights_and_get_sampling_client()
    answers_before = await examine(sampler, chat, examination)

    rng = random.Random(f"training data of {task.name}")
    curve: list[Measure] = []
    tokens_trained = tokens_sampled = 0
    started = time.perf_counter()
    with bench.display.bar(task.name, settings.steps) as advance:
        for step in range(settings.steps):
            problems_P = [task.draw(rng, "train") for _ in range(settings.problems)]
            prompts_P = [chat.prompt(problem.question) for problem in problems_P]
            responses_P = await asyncio.gather(
                *(
                    sampler.sample(
                        tinker.ModelInput.from_ints(prompt),
                        num_samples=settings.group_size,
                        sampling_params=chat.sampling_params(),
                    )
                    for prompt in prompts_P
                )
            )
            rewards: list[float] = []
            data_D: list[tinker.Datum] = []
            for problem, prompt, response in zip(problems_P, prompts_P, responses_P, strict=True):
                rewards_G = [float(problem.solved_by(chat.text(answer.tokens))) for answer in response.sequences]
                mean = sum(rewards_G) / len(rewards_G)
                rewards += rewards_G
                tokens_sampled += sum(len(answer.tokens) for answer in response.sequences)
                if min(rewards_G) < max(rewards_G):
                    data_D += [
                        policy_datum(prompt, answer, reward - mean)
                        for answer, reward in zip(response.sequences, rewards_G, strict=True)
                    ]
            if data_D:
                learning_rate = settings.learning_rate * (1 - step / settings.steps)
                # Both are sent before either is awaited, and the new weights are asked for right behind them.
                gradient = training.forward_backward(data_D, "importance_sampling")
                update = training.optim_step(tinker.AdamParams(learning_rate=learning_rate))
                published = training.save_weights_and_get_sampling_client()
                await gradient
                await update
                sampler = await published
                tokens_trained += sum(datum.model_input.length for datum in data_D)
            reward = sum(rewards) / len(rewards)
            seconds = time.perf_counter() - started
            curve.append(Measure(step, reward, seconds))
            advance(f"reward {reward:.2f}  {(tokens_trained + tokens_sampled) / seconds:,.0f} tokens/s")

    train_seconds = time.perf_counter() - started
    saved = await training.save_weights_for_sampler("demo")
    trained = await bench.client.create_sampling_client(model_path=saved.path)
    answers_after = await examine(trained, chat, examination)
    return AdapterResult(
        task=task.name,
        summary=task.summary,
        before=score(answers_before),
        after=score(answers_after),
        measures="reward",
        curve=tuple(curve),
        train_seconds=train_seconds,
        tokens_trained=tokens_trained,
        tokens_sampled=tokens_sampled,
        checkpoint=saved.path,
        directory=bench.directory_of(saved.path),
        examples=compare(answers_before, answers_after),
    )
