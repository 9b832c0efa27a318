"""Stage 1: supervised fine-tuning. An adapter learns from examples what the base model cannot do."""

import random
import time
from dataclasses import dataclass

import tinker

from hone.cli.demo.bench import Bench
from hone.cli.demo.chat import Chat, supervised_datum
from hone.cli.demo.evaluate import compare, examine, score
from hone.cli.demo.results import AdapterResult, Measure, StageResult
from hone.cli.demo.tasks import SFT_TASK, Task


@dataclass(frozen=True)
class Settings:
    steps: int
    batch_size: int
    learning_rate: float
    """At the first step; falls linearly to zero."""
    rank: int
    examination: int
    """Held-out problems asked before and after."""


FULL = Settings(steps=140, batch_size=32, learning_rate=1e-2, rank=16, examination=200)
QUICK = Settings(steps=4, batch_size=8, learning_rate=5e-3, rank=8, examination=16)


async def run(bench: Bench) -> StageResult:
    started = time.perf_counter()
    adapter = await train_on_examples(bench, SFT_TASK, QUICK if bench.quick else FULL)
    return StageResult("SFT", "Supervised fine-tuning", time.perf_counter() - started, (adapter,))


async def train_on_examples(bench: Bench, task: Task, settings: Settings) -> AdapterResult:
    training = await bench.client.create_lora_training_client(bench.base_model, rank=settings.rank, seed=0)
    chat = Chat(training.get_tokenizer())
    examination = task.examination(settings.examination)
    untrained = await training.save_weights_and_get_sampling_client()
    answers_before = await examine(untrained, chat, examination)

    rng = random.Random(f"training data of {task.name}")
    curve: list[Measure] = []
    tokens = 0
    started = time.perf_counter()
    with bench.display.bar(task.name, settings.steps) as advance:
        for step in range(settings.steps):
            problems_D = [task.draw(rng, "train") for _ in range(settings.batch_size)]
            answers_D = [chat.answer(problem.answer) for problem in problems_D]
            data_D = [
                supervised_datum(chat.prompt(problem.question), answer)
                for problem, answer in zip(problems_D, answers_D, strict=True)
            ]
            learning_rate = settings.learning_rate * (1 - step / settings.steps)
            # Both are sent before either is awaited, so the engine never waits for us between them.
            gradient = training.forward_backward(data_D, "cross_entropy")
            update = training.optim_step(tinker.AdamParams(learning_rate=learning_rate))
            loss = (await gradient).metrics["loss:sum"] / sum(map(len, answers_D))
            await update
            tokens += sum(datum.model_input.length for datum in data_D)
            seconds = time.perf_counter() - started
            curve.append(Measure(step, loss, seconds))
            advance(f"loss {loss:.3f}  {tokens / seconds:,.0f} tokens/s")

    train_seconds = time.perf_counter() - started
    saved = await training.save_weights_for_sampler("demo")
    trained = await bench.client.create_sampling_client(model_path=saved.path)
    answers_after = await examine(trained, chat, examination)
    return AdapterResult(
        task=task.name,
        summary=task.summary,
        before=score(answers_before),
        after=score(answers_after),
        measures="loss",
        curve=tuple(curve),
        train_seconds=train_seconds,
        tokens_trained=tokens,
        tokens_sampled=0,
        checkpoint=saved.path,
        directory=bench.directory_of(saved.path),
        examples=compare(answers_before, answers_after),
    )
