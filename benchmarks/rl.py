"""What asynchronous sampling and streaming minibatches are worth: seconds of the three loops on the same problems.

    python benchmarks/rl.py                # where sampler and trainer are machines of their own, with simulated seconds
    python benchmarks/rl.py --embedded     # the embedded model, where they share two cores

One JSON line per loop. Episodes differ in length by far: most take a few turns, one group in eight ten times as many.

`throughput` is tokens trained per second, `against_train` its ratio to the synchronous loop. `hidden` is the part of
the trainer's seconds that passed while episodes were still sampled: 1 - (seconds a step waited for its update after its
last episode) / (seconds its update takes when nothing is sampled), the latter from the synchronous loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.rl import asynchronous, streaming, train
from hone.algorithms.rl.asynchronous import AsynchronousConfig
from hone.algorithms.rl.config import RlConfig, RolloutConfig, TranscriptConfig
from hone.algorithms.rl.streaming import StreamingConfig
from hone.algorithms.rl.train import GrpoConfig
from hone.algorithms.types import EnvGroupBuilder
from hone.client.connect import connect

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' service and environments

from tests.support.fake_tinker import MODEL, FakeService, Latency
from tests.support.rl_tasks import Dialogue, Group, Problems

GROUPS, MEMBERS = 32, 2
SHORT_TURNS, LONG_TURNS = (1, 4), (20, 40)
TOKENS = 8


def uneven(steps: int, prompt: list[int], reply: list[int], wanted: int, scale: int = 1) -> Problems:
    """Dialogues of a few turns, and one in eight of many; the lengths are drawn by the place in the dataset."""

    def turns(index: int, place: int) -> int:
        draw = random.Random(index * 1000 + place)
        low, high = LONG_TURNS if draw.random() < 1 / 8 else SHORT_TURNS
        return max(1, draw.randint(low, high) // scale)

    def builder(index: int, place: int) -> Group:
        length = turns(index, place)
        return Group(lambda: [Dialogue(prompt, reply, wanted, length) for _ in range(MEMBERS)])

    def batch(index: int) -> list[EnvGroupBuilder]:
        return [builder(index, place) for place in range(GROUPS)]

    return Problems(steps, batch)


LOOPS: Sequence[tuple[str, Callable[..., Any], type[RlConfig], dict[str, Any]]] = (
    ("train", train.train, GrpoConfig, {}),
    ("streaming", streaming.train, StreamingConfig, {"groups_per_minibatch": 1}),
    ("asynchronous K=1", asynchronous.train, AsynchronousConfig, {"max_steps_off_policy": 1}),
    ("asynchronous K=2", asynchronous.train, AsynchronousConfig, {"max_steps_off_policy": 2}),
)


def measured(service: Any, model: str, dataset: Problems, context: int) -> None:
    baseline: dict[str, float] = {}
    for name, loop, kind, fields in LOOPS:
        config = kind(
            model=ModelConfig(name=model, lora_rank=8, seed=1),
            optimizer=OptimizerConfig(learning_rate=1e-6),  # the episodes are to stay as they are
            rollouts=RolloutConfig(max_tokens=TOKENS, context_limit=context, concurrency=1024),
            checkpoints=CheckpointConfig(every=0),
            transcripts=TranscriptConfig(every=0),
            eval_every=0,
            remove_constant_groups=False,
            **fields,
        )
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            asyncio.run(loop(config, service, dataset, Path(folder)))
            seconds = time.perf_counter() - began
            rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        waited = sum(row["time/training"] for row in rows)
        found: dict[str, Any] = {
            "loop": name,
            "seconds": round(seconds, 2),
            "sampling": round(sum(row["time/sampling"] for row in rows), 2),
            "training": round(waited, 2),
            "tokens": sum(row["num_loss_tokens"] for row in rows),
        }
        found["throughput"] = round(found["tokens"] / seconds)
        baseline = baseline or {"throughput": found["throughput"], "training": waited}
        found["against_train"] = round(found["throughput"] / baseline["throughput"], 2)
        if name == "streaming":
            found["hidden"] = round(1 - waited / baseline["training"], 2)
        if "async/staleness_mean" in rows[0]:
            found["stale_mean"] = round(sum(row["async/staleness_mean"] for row in rows) / len(rows), 2)
            found["stale_max"] = max(row["async/staleness_max"] for row in rows)
        print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedded", action="store_true", help="the embedded model on this machine")
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.embedded:
        with connect() as service:
            embedded(service, arguments.steps)
        return
    # Long enough that the processor time of the simulation itself does not count: a step's longest episode takes two
    # seconds and a half, its training one.
    latency = Latency(per_sampled_token=8e-3, per_trained_token=3e-4, per_step=5e-3)
    service = FakeService(context_length=2048, latency=latency)
    measured(service, MODEL, uneven(arguments.steps, [1, 2], [3], wanted=5), context=2048)


def embedded(service: tinker.ServiceClient, steps: int) -> None:
    training = service.create_lora_training_client("hone/tiny", rank=1).result()
    tokenizer = training.get_tokenizer()
    turn = [{"role": "user", "content": "Write a story about a cat."}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    reply = tokenizer.encode(" and", add_special_tokens=False)
    measured(service, "hone/tiny", uneven(steps, prompt, reply, wanted=reply[0], scale=2), context=512)


if __name__ == "__main__":
    main()
