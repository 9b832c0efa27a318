"""The service through the official SDK: what a client waits for beyond the computing. One JSON line per metric.

    python benchmarks/server.py [--rounds 30] [--rank 32]

Starts `hone serve`, by default on the embedded model. "overhead" is the client's time minus the engine's computing time
of the same calls, which the server reports. Memory is the summed resident size of the API and the engine process. Needs
the `dev` extra.
"""

import argparse
import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import tinker
from tinker import types

from hone.client.embedded import ServerInfo, embedded_server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--model", action="append", default=[], help="as for `hone serve`")
    args = parser.parse_args()
    start = time.perf_counter()
    with embedded_server(models=args.model) as ready:
        emit("start_to_ready", "s", [time.perf_counter() - start])
        bench = Bench(ready, args)
        bench.memory("memory_idle")
        bench.overhead()
        bench.publish()
        bench.sampling()
        bench.agreement()
        bench.tenants()
        bench.memory("memory_after")


class Bench:
    def __init__(self, ready: ServerInfo, args: argparse.Namespace) -> None:
        os.environ["TINKER_TELEMETRY"] = "0"
        self.ready, self.args, self.rng = ready, args, np.random.default_rng(0)
        self.service = tinker.ServiceClient(base_url=ready.url, api_key=ready.api_key)
        self.model = ready.models[0]
        self.clients: list[tinker.TrainingClient] = []

    def client(self, i: int) -> tinker.TrainingClient:
        while len(self.clients) <= i:
            self.clients.append(self.service.create_lora_training_client(self.model, rank=self.args.rank))
        return self.clients[i]

    def overhead(self) -> None:
        """Of one forward_backward and one optim_step, submitted together, as the client sees it."""
        for sequences, length in ((1, 8), (1, 128), (16, 128)):
            data, overheads, times = self.data(sequences, length), [], []
            self.step(0, data)
            for _ in range(self.args.rounds):
                before, start = self.compute_seconds(), time.perf_counter()
                self.step(0, data)
                times.append(time.perf_counter() - start)
                overheads.append(times[-1] - (self.compute_seconds() - before))
            shape = f"{sequences}x{length}"
            emit("overhead_per_step", "ms", [1e3 * s for s in overheads], batch=shape)
            emit("train_step", "tokens/s", [sequences * length / s for s in times], batch=shape)

        passes = [
            timed(lambda: self.client(0).forward_backward(self.data(1, 8), "cross_entropy").result()) for _ in "x" * 9
        ]
        emit("forward_backward", "ms", [1e3 * s for s in passes], batch="1x8")

    def agreement(self) -> None:
        """The sampler's log-probabilities against the trainer's, of the same tokens under the same weights."""
        sampler, gaps = self.client(0).save_weights_and_get_sampling_client(), []
        for seed in range(8):
            prompt = self.prompt(32).to_ints()
            params = types.SamplingParams(max_tokens=64, seed=seed, stop=[])
            sequence = sampler.sample(types.ModelInput.from_ints(prompt), 1, params).result().sequences[0]
            tokens = prompt + list(sequence.tokens)
            inputs = {"target_tokens": np.array(tokens[1:], np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
            datum = types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
            scored = self.client(0).forward([datum], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
            gaps.append(float(np.abs(np.array(scored[len(prompt) - 1 :]) - np.array(sequence.logprobs)).max()))
        emit("sampler_trainer_gap", "nats", gaps)

    def publish(self) -> None:
        prompt, params = self.prompt(8), types.SamplingParams(max_tokens=1)
        times = []
        for _ in range(self.args.rounds):
            self.step(0, self.data(1, 8))
            start = time.perf_counter()
            self.client(0).save_weights_and_get_sampling_client().sample(prompt, 1, params).result()
            times.append(1e3 * (time.perf_counter() - start))
        emit("publish_to_first_sample", "ms", times)

    def sampling(self, new_tokens: int = 64) -> None:
        sampler = self.client(0).save_weights_and_get_sampling_client()
        params = types.SamplingParams(max_tokens=new_tokens, stop=[])
        for requests, group in ((1, 1), (8, 1), (1, 8), (8, 8), (32, 1)):
            rates = []
            for _ in range(max(3, self.args.rounds // 6)):
                prompts, start = [self.prompt(64) for _ in range(requests)], time.perf_counter()
                for future in [sampler.sample(p, group, params) for p in prompts]:
                    future.result()
                rates.append(requests * group * new_tokens / (time.perf_counter() - start))
            emit("sample", "tokens/s", rates, requests=requests, num_samples=group)

    def tenants(self) -> None:
        for tenants in (1, 4, 16):
            batches = [self.data(4, 128) for _ in range(tenants)]

            def together(batches: list[list[types.Datum]] = batches) -> None:
                for future in [f for i, data in enumerate(batches) for f in self.submit(i, data)]:
                    future.result()

            together()
            rates = [tenants * 512 / timed(together) for _ in range(max(3, self.args.rounds // 6))]
            emit("tenants", "tokens/s", rates, tenants=tenants, batch_each="4x128")
        apart = [timed(lambda i=i: self.step(i, self.data(1, 64))) for i in range(8) for _ in range(3)]  # type: ignore[misc]
        small = [self.data(1, 64) for _ in range(8)]

        def mixed() -> None:
            for future in [f for i, data in enumerate(small) for f in self.submit(i, data)]:
                future.result()

        mixed()
        gains = [8 * statistics.median(apart) / timed(mixed) for _ in range(max(3, self.args.rounds // 3))]
        emit("eight_small_tenants_together_vs_one_after_another", "ratio", gains)

    def memory(self, name: str) -> None:
        root = psutil.Process(self.ready.pid)
        total = sum(p.memory_info().rss for p in [root, *root.children(recursive=True)])
        emit(name, "MB", [total / 2**20])

    def submit(self, i: int, data: list[types.Datum]) -> list[Any]:
        client = self.client(i)
        return [client.forward_backward(data, "cross_entropy"), client.optim_step(types.AdamParams(learning_rate=1e-5))]

    def step(self, i: int, data: list[types.Datum]) -> None:
        for future in self.submit(i, data):
            future.result()

    def compute_seconds(self) -> float:
        request = urllib.request.Request(f"{self.ready.url}/api/v1/engine")
        request.add_header("X-API-Key", self.ready.api_key)
        with urllib.request.urlopen(request) as answer:
            return float(json.load(answer)["compute_seconds"])

    def prompt(self, length: int) -> types.ModelInput:
        return types.ModelInput.from_ints(self.rng.integers(10, 500, length).tolist())

    def data(self, sequences: int, length: int) -> list[types.Datum]:
        rows = self.rng.integers(10, 500, (sequences, length + 1))
        ones = np.ones(length, np.float32)
        return [
            types.Datum(
                model_input=types.ModelInput.from_ints(row[:-1].tolist()),
                loss_fn_inputs={"target_tokens": row[1:].astype(np.int64), "weights": ones},
            )
            for row in rows
        ]


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def emit(metric: str, unit: str, values: list[float], **fields: Any) -> None:
    row = {"metric": metric, "unit": unit, **fields, "median": statistics.median(values)}
    if len(values) > 1:
        row |= {"min": min(values), "max": max(values), "n": len(values)}
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
