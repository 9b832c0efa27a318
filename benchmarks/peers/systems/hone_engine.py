"""Our engine alone, called in this process: what the engine process runs, with no server, journal, HTTP or socket."""

import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.work import Publish, Sample, Setting, Train
from hone.cores import engine_threads
from hone.engine import contract as c
from hone.engine.backends.choose import choose_backend
from hone.engine.limits import Limits
from hone.engine.loop import EngineLoop
from hone.engine.models.load import load_models
from hone.engine.wire import CLOSE
from hone.memory import memory_shares
from hone.protocol.types import AdamParams, Datum, LoraConfig, SamplingParams

MODEL = "random"
SECONDS = 580.0
"""How long one piece of work may take."""
ADAM = AdamParams(learning_rate=1e-5)


class System:
    def __init__(self, model: Path, setting: Setting) -> None:
        self.pid = os.getpid()
        self.engine = Engine(model)
        self._scratch = tempfile.TemporaryDirectory(prefix="hone-engine-")
        self._versions: dict[int, str] = {}
        """By tenant, what is sampled from."""
        self._names: Iterator[int] = count()
        self.engine.ask(
            *(
                c.CreateAdapter(_adapter(i), MODEL, LoraConfig(setting.rank, seed=i, train_unembed=False))
                for i in range(setting.tenants)
            )
        )

    def train(self, work: Train) -> None:
        self.step(work)

    def sample(self, work: Sample, seed: int) -> None:
        self._publish([i for i in range(work.tenants) if i not in self._versions])
        self.draw(work, seed)

    def publish(self, work: Publish) -> float:
        self.train(Train(1, 8))
        start = time.perf_counter()
        self._publish([0])
        self.draw(Sample(1, 1, work.prompt, 1), 0)
        return time.perf_counter() - start

    def close(self) -> None:
        self.engine.close()
        self._scratch.cleanup()

    def step(self, work: Train) -> list[float]:
        """The losses of the tenants before their steps, which are taken."""
        operations: list[c.Operation] = []
        for i in range(work.tenants):
            rows = data(work.batch(i))
            operations += [c.ForwardBackward(_adapter(i), rows, "cross_entropy", {}), c.OptimStep(_adapter(i), ADAM)]
        return [done.metrics["loss:sum"] for done in self.engine.ask(*operations)[::2]]

    def draw(self, work: Sample, seed: int) -> list[tuple[int, ...]]:
        """From what is published, all the tokens that were asked for."""
        params = SamplingParams(max_tokens=work.new, temperature=1.0, stop=())
        results = self.engine.ask(
            *(
                c.Sample(MODEL, self._versions[i % work.tenants], prompt.astype(np.int32), work.group, params, seed)
                for i, prompt in enumerate(work.prompts(seed))
            )
        )
        drawn = [tuple(sequence.tokens) for result in results for sequence in result.sequences]
        if (found := sum(map(len, drawn))) != work.tokens:
            raise RuntimeError(f"asked for {work.tokens} tokens, got {found}: {sorted(map(len, drawn))}")
        return drawn

    def _publish(self, tenants: list[int]) -> None:
        replaced = [self._versions[i] for i in tenants if i in self._versions]
        self._versions |= {i: f"version{next(self._names)}" for i in tenants}
        self.engine.ask(
            *(c.Publish(_adapter(i), self._versions[i], f"{self._scratch.name}/{self._versions[i]}") for i in tenants),
            *(c.DropVersion(version) for version in replaced),
        )


class Engine:
    """Set up as `hone.engine.process` does for `hone serve` without settings; computes on a thread of its own."""

    def __init__(self, model: Path) -> None:
        threads, device = engine_threads(), c.Device()
        torch.set_num_threads(threads.math)
        backend = choose_backend(device.name, device.dtype, device.invariant)
        models = load_models([c.ModelSource(MODEL, model)], backend)
        described = [loaded.describe(name) for name, loaded in models.items()]
        shares = memory_shares(backend.memory_bytes, c.base_model_bytes(described))
        limits = Limits.within(shares, models, Limits.of_cores(threads.workers))
        self._replies: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._loop = EngineLoop(models, limits, lambda ticket, result: self._replies.put((ticket, result)))
        self._thread = threading.Thread(target=self._loop.run, name="engine", daemon=True)
        self._thread.start()

    def ask(self, *operations: c.Operation) -> list[Any]:
        """The results of operations that are handed over at once, when all are there."""
        for ticket, operation in enumerate(operations):
            self._loop.put(ticket, operation)
        replies = dict(self._replies.get(timeout=SECONDS) for _ in operations)
        for reply in replies.values():
            if isinstance(reply, Exception):
                raise reply
        return [replies[ticket] for ticket in range(len(operations))]

    def close(self) -> None:
        self._loop.put(0, CLOSE)
        self._thread.join()


def _adapter(tenant: int) -> str:
    return f"tenant{tenant}"


def data(rows: np.ndarray) -> tuple[Datum, ...]:
    """[sequences, length + 1]"""
    weights = np.ones(rows.shape[1] - 1, np.float32)
    return tuple(Datum(row[:-1].astype(np.int32), {"target_tokens": row[1:], "weights": weights}) for row in rows)
