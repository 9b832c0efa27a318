"""Stage 3: four adapters learn four tasks at the same time, on one copy of the base model."""

import asyncio
import time

from hone.cli.demo.bench import Bench
from hone.cli.demo.results import StageResult
from hone.cli.demo.sft import Settings, train_on_examples
from hone.cli.demo.tasks import MANY_TASKS

FULL = Settings(steps=120, batch_size=16, learning_rate=8e-3, rank=8, examination=100)
QUICK = Settings(steps=3, batch_size=4, learning_rate=5e-3, rank=4, examination=8)


async def run(bench: Bench) -> StageResult:
    """Nothing coordinates the four: each submits its own steps, and the engine mixes them."""
    started = time.perf_counter()
    settings = QUICK if bench.quick else FULL
    adapters = await asyncio.gather(*(train_on_examples(bench, task, settings) for task in MANY_TASKS))
    return StageResult("four at once", "Four adapters at once", time.perf_counter() - started, tuple(adapters))
