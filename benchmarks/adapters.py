"""Adapters by the thousand, trained and sampled in turn through the official SDK. One JSON line per metric.

    python benchmarks/adapters.py [--adapters 1000] [--at-once 8] [--resident PART] [--versions N]

Starts `hone serve` on the embedded model. First every adapter, of ranks 1 to 32, is made, trained a step, published and
sampled from; then all of them once more, in the same order. Each must have gone on where it was, and each version must
draw what it drew before. Memory is the summed resident size of the API and the engine process, the largest seen;
`ratio` compares it with what both held when they had served one adapter, plus 12 bytes for each parameter of the
others: weights and two moments.
With `--resident` only this part of all adapters may be in the engine's memory, with `--versions` so many versions.
Needs the `dev` extra.
"""

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import tinker
from server import emit
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from hone.engine.lora.layout import LoraLayout
from hone.engine.models.config import read_config
from hone.protocol.types import LoraConfig

EMBEDDED = Path(__file__).parents[1] / "src/hone/assets/tiny"
RANKS = (1, 4, 8, 16, 32)
STEP = types.AdamParams(learning_rate=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8, help="adapters that have work at the same time")
    parser.add_argument("--resident", type=float, default=0.0, help="part of all adapters; 0: the server's own choice")
    parser.add_argument("--versions", type=int, default=0, help="in memory; 0: the server's own choice")
    args = parser.parse_args()
    config = read_config(EMBEDDED)
    sizes = [LoraLayout(config, LoraConfig(RANKS[i % len(RANKS)], 0)).size for i in range(args.adapters)]
    settings = {}
    if args.resident:
        settings["HONE_ADAPTER_BYTES"] = str(round(args.resident * 16 * sum(sizes)))
    if args.versions:
        settings["HONE_LOADED_VERSIONS"] = str(args.versions)
    with embedded_server(settings=settings) as ready, service_client(ready.url, ready.api_key) as service:
        Crowd(ready, service, args).run(12 * sum(sizes))


class Crowd:
    def __init__(self, ready: ServerInfo, service: tinker.ServiceClient, args: argparse.Namespace) -> None:
        self.model, self.service, self.args = ready.models[0], service, args
        self.processes = [psutil.Process(ready.pid), *psutil.Process(ready.pid).children(recursive=True)]
        self.clients: dict[int, tinker.TrainingClient] = {}
        self.samplers: dict[int, tinker.SamplingClient] = {}
        self.drawn: dict[int, list[int]] = {}
        self.most = 0.0

    def run(self, state: int) -> None:
        self.first(self.args.adapters)
        before, over = self.resident(), threading.Event()
        watcher = threading.Thread(target=self.watch, args=(over,))
        watcher.start()
        try:
            for turn in range(2):
                start = time.perf_counter()
                with ThreadPoolExecutor(self.args.at_once) as pool:
                    list(pool.map(self.first if turn == 0 else self.again, range(self.args.adapters)))
                seconds = time.perf_counter() - start
                emit("adapters", "ms each", [1e3 * seconds / self.args.adapters], turn=turn, seconds=seconds)
                ratio = self.most * 2**20 / (before * 2**20 + state)
                server, engine = (process.memory_info().rss / 2**20 for process in self.processes)
                parts = {"state": state / 2**20, "server": server, "engine": engine}
                emit("memory", "MB", [self.most], turn=turn, before=before, ratio=ratio, **parts)
        finally:
            over.set()
            watcher.join()

    def first(self, i: int) -> None:
        client = self.service.create_lora_training_client(self.model, rank=RANKS[i % len(RANKS)], seed=i).result()
        self.clients[i] = client
        assert self.step(i) == 1
        self.samplers[i] = client.save_weights_and_get_sampling_client().result()
        self.drawn[i] = self.sample(i)

    def again(self, i: int) -> None:
        assert self.step(i) == 2, "it did not go on where it was"
        assert self.sample(i) == self.drawn[i], "the version is another one"

    def step(self, i: int) -> int:
        rng = np.random.default_rng(i)
        row, ones = rng.integers(10, 500, 65), np.ones(64, np.float32)
        inputs = {
            "target_tokens": types.TensorData.from_numpy(row[1:]),
            "weights": types.TensorData.from_numpy(ones),
        }
        datum = types.Datum(model_input=types.ModelInput.from_ints(row[:-1].tolist()), loss_fn_inputs=inputs)
        gradient = self.clients[i].forward_backward([datum], "cross_entropy")
        taken = self.clients[i].optim_step(STEP).result()
        gradient.result()
        assert taken.metrics is not None
        return round(taken.metrics["optimizer/steps"])

    def sample(self, i: int) -> list[int]:
        prompt = types.ModelInput.from_ints(np.random.default_rng(i).integers(10, 500, 16).tolist())
        params = types.SamplingParams(max_tokens=4, stop=[], seed=i)
        return list(self.samplers[i].sample(prompt, 1, params).result().sequences[0].tokens)

    def watch(self, over: threading.Event) -> None:
        while not over.wait(0.2):
            self.most = max(self.most, self.resident())

    def resident(self) -> float:
        """MB"""
        return sum(float(process.memory_info().rss) for process in self.processes) / 2**20


if __name__ == "__main__":
    main()
