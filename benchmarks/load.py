"""The service under load, through the official SDK and over plain HTTP. One JSON line per metric.

    python benchmarks/load.py [--samples 2000] [--tenants 64] [--soak SECONDS]

Starts `hone serve` on the embedded model. Times of requests are those of single HTTP calls: "accept" until a sample is
in the journal, "long_poll" from asking for its result until it came, at a fixed number of clients. Memory is the summed
resident size of the API and the engine process. `--soak` mixes training, sampling, saving and deleting for so long and
says every minute how much memory that takes. Needs the `dev` extra.
"""

import argparse
import asyncio
import itertools
import statistics
import threading
import time

import httpx
import psutil
import tinker
from server import Bench, emit, timed
from tinker import types

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server

CLIENTS = 32
"""Plain HTTP clients at once."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--tenants", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1 << 20, help="of the large batch; 0: leave it out")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--model", action="append", default=[], help="as for `hone serve`")
    args = parser.parse_args()
    with embedded_server(models=args.model) as ready:
        load = Load(ready, args)
        load.memory("memory_idle")
        asyncio.run(load.requests(load.sampling_session()))
        load.samples()
        load.tenants()
        load.large_batch()
        load.memory("memory_after")
        if args.soak:
            load.soak(args.soak)


class Load(Bench):
    def __init__(self, ready: ServerInfo, args: argparse.Namespace) -> None:
        super().__init__(ready, args)
        self.api = psutil.Process(ready.pid)

    def sampling_session(self) -> str:
        sampler = self.service.create_sampling_client(base_model=self.model).result()
        return sampler._sampling_session_id

    async def requests(self, session: str) -> None:
        """Samples of one token, each submitted and fetched by one of a few plain clients."""
        numbers = itertools.count(10**6)
        accepts, polls = [], []

        async def client(http: httpx.AsyncClient) -> None:
            for _ in range(self.args.samples // CLIENTS):
                prompt = {"chunks": [{"type": "encoded_text", "tokens": self.rng.integers(10, 500, 16).tolist()}]}
                body = {
                    "sampling_session_id": session,
                    "seq_id": next(numbers),
                    "num_samples": 1,
                    "prompt": prompt,
                    "sampling_params": {"max_tokens": 1},
                }
                start = time.perf_counter()
                answer = await http.post("asample", json=body)
                answer.raise_for_status()
                accepts.append(time.perf_counter() - start)
                start = time.perf_counter()
                result = await http.post("retrieve_future", json={"request_id": answer.json()["request_id"]})
                result.raise_for_status()
                polls.append(time.perf_counter() - start)

        base = f"{self.ready.url}/api/v1/"
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        async with httpx.AsyncClient(
            base_url=base, headers={"X-API-Key": self.ready.api_key}, limits=limits, timeout=120
        ) as http:
            start = time.perf_counter()
            await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
            rate = 2 * len(accepts) / (time.perf_counter() - start)
        emit("requests", "1/s", [rate], clients=CLIENTS)
        for name, seconds in (("accept", accepts), ("long_poll", polls)):
            quantiles = statistics.quantiles(seconds, n=20)
            emit(name, "ms", [1e3 * s for s in seconds], clients=CLIENTS, p95=1e3 * quantiles[18])

    def samples(self) -> None:
        """All in flight together."""
        sampler = self.client(0).save_weights_and_get_sampling_client()
        params = types.SamplingParams(max_tokens=16, stop=[])
        prompts = [self.prompt(32) for _ in range(self.args.samples)]

        def all_at_once() -> None:
            for future in [sampler.sample(prompt, 1, params) for prompt in prompts]:
                assert len(future.result().sequences[0].tokens) == 16

        seconds = timed(all_at_once)
        emit("concurrent_samples", "1/s", [len(prompts) / seconds], samples=len(prompts), seconds=seconds)

    def tenants(self) -> None:
        """A step of every tenant, all submitted at once."""
        batches = [self.data(4, 128) for _ in range(self.args.tenants)]

        def together() -> None:
            for future in [f for i, data in enumerate(batches) for f in self.submit(i, data)]:
                future.result()

        together()
        emit(
            "tenants_at_once",
            "tokens/s",
            [len(batches) * 512 / timed(together) for _ in range(5)],
            tenants=len(batches),
            batch_each="4x128",
        )

    def large_batch(self) -> None:
        """The server's own computing time until a batch of many tokens is accepted, and until it is answered."""
        if not self.args.tokens:
            return
        data = self.data(self.args.tokens // 512, 512)
        accepted, start, before = threading.Event(), time.perf_counter(), self.api_seconds()
        marks: list[float] = []

        def watch() -> None:
            """Admission is over when the server's own clock stands still: from there on only the engine computes."""
            last = before
            while not accepted.is_set():
                time.sleep(0.5)
                now = self.api_seconds()
                if now > before + 0.02 and now - last < 0.01:
                    marks.append(now - before)
                    return
                last = now

        watcher = threading.Thread(target=watch)
        future = self.client(0).forward_backward(data, "cross_entropy")
        watcher.start()
        future.result()
        accepted.set()
        watcher.join()
        emit(
            "large_batch_admitted",
            "s of CPU",
            [marks[0] if marks else self.api_seconds() - before],
            tokens=self.args.tokens,
        )
        emit("large_batch_answered", "s of CPU", [self.api_seconds() - before], seconds=time.perf_counter() - start)
        self.client(0).optim_step(types.AdamParams(learning_rate=1e-5)).result()

    def soak(self, seconds: float) -> None:
        """What a server does all day: clients come, train, sample, save, delete and go."""
        end, minute, sizes, rounds = time.monotonic() + seconds, time.monotonic() + 60, [self.resident()], 0
        while time.monotonic() < end:
            with service_client(self.ready.url, self.ready.api_key) as service:
                self.one_client(service)
            rounds += 1
            if time.monotonic() > minute:
                minute += 60
                sizes.append(self.resident())
                emit("soak_memory", "MB", [sizes[-1]], rounds=rounds)
        half = sizes[len(sizes) // 2 :]
        emit("soak_memory_second_half", "MB", half, growth=half[-1] - half[0], rounds=rounds)

    def one_client(self, service: tinker.ServiceClient) -> None:
        client = service.create_lora_training_client(self.model, rank=self.args.rank).result()
        params = types.SamplingParams(max_tokens=16, stop=[])
        for _ in range(5):
            gradient = client.forward_backward(self.data(4, 128), "cross_entropy")
            client.optim_step(types.AdamParams(learning_rate=1e-4)).result()
            gradient.result()
            sampler = client.save_weights_and_get_sampling_client().result()
            for future in [sampler.sample(self.prompt(32), 4, params) for _ in range(8)]:
                future.result()
        rest = tinker.RestClient(base_url=self.ready.url, api_key=self.ready.api_key)
        rest.delete_checkpoint_from_tinker_path(client.save_state("soak").result().path).result()

    def api_seconds(self) -> float:
        times = self.api.cpu_times()
        return float(times.user + times.system)

    def resident(self) -> float:
        return float(sum(p.memory_info().rss for p in [self.api, *self.api.children(recursive=True)])) / 2**20


if __name__ == "__main__":
    main()
