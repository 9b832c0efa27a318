"""A run of reinforcement learning as a program of its own, so that it can be killed.

python -m tests.support.killed_run URL KEY streaming|asynchronous FOLDER
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.rl import asynchronous, streaming
from hone.algorithms.rl.asynchronous import AsynchronousConfig
from hone.algorithms.rl.config import RlConfig, RolloutConfig
from hone.algorithms.rl.streaming import StreamingConfig
from hone.algorithms.types import ActionExtra, EnvGroupBuilder, StepResult
from hone.client.connect import service_client
from tests.support.rl_tasks import Group, Problems, Question

STEPS, GROUPS = 6, 4
LOOPS: dict[str, tuple[Callable[..., Any], type[RlConfig], dict[str, Any]]] = {
    "streaming": (streaming.train, StreamingConfig, {"order": "dataset", "groups_per_minibatch": 1}),
    "asynchronous": (asynchronous.train, AsynchronousConfig, {"max_steps_off_policy": 2}),
}


@dataclass
class Waiting(Question):
    seconds: float = 0.0

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        await asyncio.sleep(self.seconds)
        return await super().step(action, extra=extra)


def problems() -> Problems:
    """One problem in eight takes twenty times as long as the others."""

    def builder(number: int) -> Group:
        seconds = 0.6 if number % 8 == 5 else 0.03
        return Group(lambda: [Waiting([40 + number, 41, 42], lambda said: sum(said) % 7 / 7, seconds=seconds)] * 4)

    def batch(index: int) -> list[EnvGroupBuilder]:
        return [builder(index * GROUPS + place) for place in range(GROUPS)]

    return Problems(STEPS, batch)


def run(name: str, service: tinker.ServiceClient, folder: Path) -> None:
    loop, kind, fields = LOOPS[name]
    config = kind(
        model=ModelConfig(name="hone/tiny", lora_rank=4, seed=1),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        rollouts=RolloutConfig(max_tokens=8),
        checkpoints=CheckpointConfig(every=2),
        eval_every=0,
        remove_constant_groups=False,
        **fields,
    )
    asyncio.run(loop(config, service, problems(), folder))


if __name__ == "__main__":
    url, key, name, folder = sys.argv[1:]
    with service_client(url, key) as service:
        run(name, service, Path(folder))
