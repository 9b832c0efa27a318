"""The stages in their order."""

import time

from hone.cli.demo import many, rl, sft
from hone.cli.demo.bench import Bench
from hone.cli.demo.results import DemoResult, StageResult

STAGES = {
    "1. Supervised fine-tuning: a task the base model cannot do": sft.run,
    "2. Reinforcement learning: a task it does sometimes, and a verifier": rl.run,
    "3. Four adapters at once, each on a task of its own": many.run,
}


async def run_all(bench: Bench) -> DemoResult:
    """A stage that fails ends the demo: its error is the result."""
    started = time.perf_counter()
    results: list[StageResult] = []
    for title, run in STAGES.items():
        bench.display.say(f"\n{title}")
        results.append(await run(bench))
        for adapter in results[-1].adapters:
            before, after = adapter.before.accuracy, adapter.after.accuracy
            bench.display.say(
                f"  {adapter.task}: {100 * before:.0f} % -> {100 * after:.0f} % of held-out problems right"
            )
    return DemoResult(bench.base_model, str(bench.data_dir), time.perf_counter() - started, tuple(results))
