"""What asynchronous sampling and streaming minibatches are worth: the three loops in turn on the same problems.

    python benchmarks/rl.py                # a real server and the embedded model, which share this machine
    python benchmarks/rl.py --simulated    # sampler and trainer as machines of their own, with simulated seconds

Episodes are dialogues that differ in length by far: most take one or two turns, one group in eight 6 to 12 (simulated:
1 to 4, and 20 to 40). In the task `dialogues` the model is all that takes time. In `tools` the environment also waits
before each reply, as agents wait for what they call, 100 to 300 ms by chance; no processor works meanwhile. Every loop
samples the same problems with the same seeds, at a learning rate that leaves the episodes as they are; the loops take
turns for `--rounds` rounds, after a short run that does not count. One JSON line per metric, over the rounds:

- `throughput`: tokens trained, by the seconds of the whole run, from its call to its last checkpoint.
- `throughput_ratio`: of a loop to `train` in the same round.
- `hidden`, of `streaming`: the share of the trainer's seconds that passed while episodes were still sampled:
  1 - (seconds that its steps waited for their update after their last episode) / (seconds that the steps of `train`
  did in the same round, where nothing is sampled meanwhile).
- `saved`, of `streaming`: (seconds that its run was shorter than that of `train`) / (those same seconds of `train`).
  Where sampler and trainer share processors, what is hidden also slows down what hides it; this is what remains.
- `waiting`, of `train`: the share of its seconds in which its longest episodes waited for tools. So much would be left
  if models took no time.
- `busy`: the share of the machine's processor seconds that were used, by anybody. In `train` it bounds what another
  order of the same work can gain.
- `staleness`: steps between a group's weights and those that learn from it, in the mean of a run, and at most.

Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import tinker

from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.rl import asynchronous, streaming, train
from hone.algorithms.rl.asynchronous import AsynchronousConfig
from hone.algorithms.rl.config import RlConfig, RolloutConfig, TranscriptConfig
from hone.algorithms.rl.streaming import StreamingConfig
from hone.algorithms.rl.train import GrpoConfig
from hone.algorithms.types import ActionExtra, EnvGroupBuilder, StepResult
from hone.client.connect import connect

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' service and environments

from benchmarks.server import emit
from tests.support.fake_tinker import MODEL, FakeService, Latency
from tests.support.rl_tasks import Dialogue, Group, Problems

FASTEST_TOOL, SLOWEST_TOOL = 0.1, 0.3
"""Seconds."""


@dataclass
class WithTool(Dialogue):
    """Each reply takes its time."""

    seconds: Sequence[float] = ()
    """By turn."""

    async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
        await asyncio.sleep(self.seconds[self.taken])
        return await super().step(action, extra=extra)


@dataclass
class Task:
    """Dialogues whose lengths are drawn by their place in the dataset."""

    name: str
    prompt: list[int]
    reply: list[int]
    wanted: int
    steps: int
    groups: int
    members: int
    tokens: int
    """Of an answer, at most."""
    short: tuple[int, int]
    long: tuple[int, int]
    """Turns."""
    context: int
    tools: bool

    def problems(self, steps: int) -> Problems:
        return Problems(steps, lambda step: [self._builder(step, place) for place in range(self.groups)])

    def longest_wait(self, step: int) -> float:
        return max(sum(self._waits(step, place)) for place in range(self.groups))

    def _builder(self, step: int, place: int) -> EnvGroupBuilder:
        waits = self._waits(step, place)
        kind = (self.prompt, self.reply, self.wanted, len(waits))
        return Group(lambda: [WithTool(*kind, seconds=waits) for _ in range(self.members)])

    def _waits(self, step: int, place: int) -> list[float]:
        draw = random.Random(step * 1000 + place)
        turns = draw.randint(*(self.long if draw.random() < 1 / 8 else self.short))
        return [draw.uniform(FASTEST_TOOL, SLOWEST_TOOL) if self.tools else 0.0 for _ in range(turns)]


@dataclass
class Loop:
    name: str
    train: Callable[..., Any]
    config: type[RlConfig]
    fields: dict[str, Any] = field(default_factory=dict)


SYNCHRONOUS = Loop("train", train.train, GrpoConfig)
STREAMING = Loop("streaming", streaming.train, StreamingConfig, {"groups_per_minibatch": 1})
LOOPS = (
    SYNCHRONOUS,
    STREAMING,
    Loop("asynchronous K=1", asynchronous.train, AsynchronousConfig, {"max_steps_off_policy": 1}),
    Loop("asynchronous K=2", asynchronous.train, AsynchronousConfig, {"max_steps_off_policy": 2}),
)


@dataclass
class Run:
    seconds: float
    busy: float
    rows: list[dict[str, Any]]

    def total(self, name: str) -> float:
        return sum(row.get(name, 0.0) for row in self.rows)

    def told(self) -> str:
        waited = (f"{name} {self.total(f'time/{name}'):.2f}" for name in ("sampling", "training"))
        return f"{self.seconds:.2f} s: {', '.join(waited)}; {self.total('num_loss_tokens'):.0f} tokens"

    @property
    def throughput(self) -> float:
        return self.total("num_loss_tokens") / self.seconds


def run(loop: Loop, service: Any, model: str, task: Task, steps: int) -> Run:
    config = loop.config(
        model=ModelConfig(name=model, lora_rank=8, seed=1),
        optimizer=OptimizerConfig(learning_rate=1e-6),  # the episodes are to stay as they are
        rollouts=RolloutConfig(
            max_tokens=task.tokens, context_limit=task.context, concurrency=1024, shared_prompts=True
        ),
        checkpoints=CheckpointConfig(every=0),
        transcripts=TranscriptConfig(every=0),
        eval_every=0,
        remove_constant_groups=False,
        **loop.fields,
    )
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), psutil.cpu_times()
        asyncio.run(loop.train(config, service, task.problems(steps), Path(folder)))
        seconds, after = time.perf_counter() - began, psutil.cpu_times()
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    used = [getattr(after, name) - getattr(before, name) for name in ("user", "nice", "system")]
    return Run(seconds, sum(used) / (seconds * (psutil.cpu_count() or 1)), rows)


def compare(service: Any, model: str, task: Task, rounds: int, *, warm_up: bool) -> None:
    found: dict[str, list[Run]] = defaultdict(list)
    if warm_up:
        run(STREAMING, service, model, task, 1)
    for turn in range(rounds):
        for loop in (*LOOPS[turn % len(LOOPS) :], *LOOPS[: turn % len(LOOPS)]):
            found[loop.name].append(run(loop, service, model, task, task.steps))
            print(f"{task.name} {turn} {loop.name} {found[loop.name][-1].told()}", file=sys.stderr, flush=True)

    base = found[SYNCHRONOUS.name]
    for loop in LOOPS:
        runs, where = found[loop.name], {"task": task.name, "loop": loop.name}
        emit("throughput", "tokens/s", [one.throughput for one in runs], **where)
        emit("busy", "share", [one.busy for one in runs], **where)
        for name in ("sampling", "training"):
            emit(f"waited_for_{name}", "s", [one.total(f"time/{name}") for one in runs], **where)
        if loop is SYNCHRONOUS:
            waited = sum(task.longest_wait(step) for step in range(task.steps))
            emit("waiting", "share", [waited / one.seconds for one in runs], **where)
            continue
        pairs = list(zip(runs, base, strict=True))
        emit("throughput_ratio", "x", [one.throughput / other.throughput for one, other in pairs], **where)
        if loop is STREAMING:
            trainer = [other.total("time/training") for other in base]
            shares = [1 - one.total("time/training") / whole for one, whole in zip(runs, trainer, strict=True)]
            emit("hidden", "share", shares, **where)
            shorter = [other.seconds - one.seconds for one, other in pairs]
            emit("saved", "share", [less / whole for less, whole in zip(shorter, trainer, strict=True)], **where)
        else:
            means = [one.total("async/staleness_mean") / len(one.rows) for one in runs]
            emit("staleness", "steps", means, **where, most=max(row["async/staleness_max"] for row in runs[0].rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true", help="on machines that are not there")
    parser.add_argument("--task", choices=("dialogues", "tools"), action="append", help="default: both")
    parser.add_argument("--steps", type=int, help="of a run (default: 4, simulated 10)")
    parser.add_argument("--rounds", type=int, help="(default: 3, simulated 1)")
    arguments = parser.parse_args()
    if arguments.simulated:
        # Long enough that the processor time of the simulation itself does not count: a step's longest episode takes
        # two seconds and a half, its training one.
        latency = Latency(per_sampled_token=8e-3, per_trained_token=3e-4, per_step=5e-3)
        shape = {"groups": 32, "members": 2, "tokens": 8, "short": (1, 4), "long": (20, 40), "context": 2048}
        task = Task("simulated", [1, 2], [3], 5, arguments.steps or 10, tools=False, **shape)
        compare(FakeService(context_length=2048, latency=latency), MODEL, task, arguments.rounds or 1, warm_up=False)
        return
    with connect("embedded") as service:
        for name in arguments.task or ("dialogues", "tools"):
            task = embedded_task(service, name, arguments.steps or 4)
            compare(service, "hone/tiny", task, arguments.rounds or 3, warm_up=True)


def embedded_task(service: tinker.ServiceClient, name: str, steps: int) -> Task:
    tokenizer = service.create_lora_training_client("hone/tiny", rank=1).result().get_tokenizer()
    turn = [{"role": "user", "content": "Write a story about a cat."}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    reply = tokenizer.encode(" and", add_special_tokens=False)
    shape = {"groups": 32, "members": 2, "tokens": 24, "short": (1, 2), "long": (6, 12), "context": 512}
    return Task(name, prompt, reply, reply[0], steps, tools=name == "tools", **shape)


if __name__ == "__main__":
    main()
