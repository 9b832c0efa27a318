"""Kills the engine, the API process, or both at random moments of training runs, and shows that nothing is lost.

    python benchmarks/faults.py [--kills 100] [--seed 0] [--steps 300] [--only sft rl durability]

Each workload runs through the official SDK with the same seeds: once undisturbed, then again while a second thread ends
processes with SIGKILL and starts the server again on the same port and data directory, until there were enough kills.
One JSON line per workload says how many there were, whether any client call failed, whether losses, samples, final
weights and moments are the same bits, whether the journal holds every operation once, and how long it took until the
server computed again and until the client had a new result. `durability` then compares the time of a step with that on
a server that keeps nothing. Exits 1 unless everything is equal. Needs the `dev` extra.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tinker
from tinker import types

KEY = "tml-faults"


RESUME_SECONDS = 60.0
"""How long a new result may take before the next kill comes anyway."""


class Target:
    """A server whose processes may die; it always comes back at the same address with the same data."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.environment = os.environ | environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()
        self.progress = threading.Event()
        """Set whenever the client has a new result."""

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "hone.cli.main", "serve", "--json", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--api-key", KEY]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the server did not start again on {self.data_dir}")
        return process

    def kill(self, victim: str) -> None:
        """End `engine`, `api` or `both`; returns when the server computes again."""
        engines = psutil.Process(self.process.pid).children()
        if victim != "api":
            for engine in engines:
                with contextlib.suppress(psutil.NoSuchProcess):
                    engine.send_signal(signal.SIGKILL)
        if victim != "engine":
            self.process.kill()
            self.process.wait()
            while any(map(alive, engines)):  # an engine ends when its server does
                time.sleep(0.02)
            self.process = self._start()
        while not self._computes():
            time.sleep(0.02)

    def _computes(self) -> bool:
        request = urllib.request.Request(f"{self.url}/api/v1/engine", headers={"X-API-Key": KEY})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def alive(process: psutil.Process) -> bool:
    """Whoever inherits an orphan may take its time to bury it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Killer(threading.Thread):
    """Kills at random moments until the work is done; now and then again before it has gone on."""

    def __init__(self, target: Target, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.target, self.rng, self.done = target, rng, threading.Event()
        self.kills: list[str] = []
        self.recovered: list[float] = []
        """Seconds until the server computed again, one for each kill."""
        self.resumed: list[float] = []
        """Seconds until the client had a new result, where that was waited for."""

    def run(self) -> None:
        while not self.done.wait(self.rng.uniform(0.1, 1.5)):
            self.kills.append(self.rng.choice(["engine", "api", "both"]))
            started = time.monotonic()
            self.target.kill(self.kills[-1])
            self.recovered.append(time.monotonic() - started)
            self.target.progress.clear()
            if self.rng.random() < 0.75:
                self.wait_for_a_result(started)

    def wait_for_a_result(self, killed: float) -> None:
        while not self.done.is_set() and time.monotonic() < killed + RESUME_SECONDS:
            if self.target.progress.wait(0.05):
                self.resumed.append(time.monotonic() - killed)
                return


# --- workloads: everything that a run computed, as values that can be compared --------------------------------------


def sft(target: Target, steps: int) -> list[Any]:
    """Pipelined supervised steps; gradient and update are sent before either is awaited."""
    rng, seen = np.random.default_rng(0), []
    with tinker.ServiceClient(base_url=target.url, api_key=KEY) as service:
        client = service.create_lora_training_client("hone/tiny", rank=8, seed=1).result()
        pending: list[Any] = []
        for _ in range(steps):
            data = [datum(rng.integers(10, 500, int(rng.integers(5, 60)))) for _ in range(4)]
            pending += [client.forward_backward(data, "cross_entropy")]
            pending += [client.optim_step(types.AdamParams(learning_rate=1e-3))]
            while len(pending) > 8:
                seen.append(digest(target, pending.pop(0).result()))
        seen += [digest(target, future.result()) for future in pending]
        seen.append(final_state(target, client.save_state("final").result().path))
    return [*seen, journal(target)]


def rl(target: Target, steps: int) -> list[Any]:
    """Sample from the newest weights, reward even tokens, step: on-policy reinforcement learning in small."""
    rng, seen = np.random.default_rng(0), []
    with tinker.ServiceClient(base_url=target.url, api_key=KEY) as service:
        client = service.create_lora_training_client("hone/tiny", rank=8, seed=1).result()
        for step in range(steps):
            sampler = client.save_weights_and_get_sampling_client().result()
            prompt = rng.integers(10, 500, 12).tolist()
            params = types.SamplingParams(max_tokens=12, seed=step, stop=[])
            futures = [sampler.sample(types.ModelInput.from_ints([*prompt, i]), 4, params) for i in range(10, 13)]
            data = []
            for i, future in enumerate(futures):
                answer = future.result()
                target.progress.set()
                for sequence in answer.sequences:
                    seen.append((list(sequence.tokens), list(sequence.logprobs or [])))
                    data.append(rewarded([*prompt, 10 + i], sequence))
            gradient = client.forward_backward(data, "importance_sampling")
            update = client.optim_step(types.AdamParams(learning_rate=1e-3))
            seen += [digest(target, gradient.result()), digest(target, update.result())]
        seen.append(final_state(target, client.save_state("final").result().path))
    return [*seen, journal(target)]


WORKLOADS: dict[str, Callable[[Target, int], list[Any]]] = {"sft": sft, "rl": rl}


def datum(tokens: np.ndarray) -> types.Datum:
    inputs = {"target_tokens": tokens[1:].astype(np.int64), "weights": np.ones(len(tokens) - 1, np.float32)}
    return types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1].tolist()), loss_fn_inputs=inputs)


def rewarded(prompt: list[int], sequence: types.SampledSequence) -> types.Datum:
    tokens, quiet = [*prompt, *sequence.tokens], [0.0] * (len(prompt) - 1)
    advantage = float(np.mean([1.0 if token % 2 == 0 else -1.0 for token in sequence.tokens]))
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": np.array(tokens[1:], np.int64),
            "logprobs": np.array(quiet + list(sequence.logprobs or []), np.float32),
            "advantages": np.array(quiet + [advantage] * len(sequence.tokens), np.float32),
        },
    )


def digest(target: Target, result: Any) -> str:
    """Losses, log-probabilities and metrics of one result, to the last bit."""
    target.progress.set()
    metrics = {name: value for name, value in result.metrics.items() if not name.startswith("engine/")}  # times
    content = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode())
    for output in getattr(result, "loss_fn_outputs", []):
        content.update(np.asarray(output["logprobs"].data, np.float32).tobytes())
    return content.hexdigest()


def final_state(target: Target, path: str) -> tuple[str, int]:
    """Weights and moments as they lie on disk, and how many steps made them."""
    run, kind, name = path.removeprefix("tinker://").split("/")
    (directory,) = (target.data_dir / "checkpoints" / run / kind).glob(f"{name}@*")
    files = [directory / "adapter_model.safetensors", directory / "optimizer.safetensors"]
    steps = json.loads((directory / "hone.json").read_text())["steps"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(), steps


def journal(target: Target) -> list[tuple[Any, ...]]:
    """How many operations of each kind there are, how many were answered, and how many numbers are missing."""
    query = """SELECT kind, count(*), sum(finished_at IS NOT NULL), sum(failed), count(*) - count(DISTINCT request_id),
        sum(seq_id > 0 AND NOT EXISTS (SELECT 1 FROM operations before
            WHERE before.lane = operations.lane AND before.seq_id = operations.seq_id - 1))
        FROM operations GROUP BY kind ORDER BY kind"""
    with contextlib.closing(sqlite3.connect(target.data_dir / "hone.sqlite")) as records:
        return records.execute(query).fetchall()


# --- the experiment -------------------------------------------------------------------------------------------------


def undisturbed(name: str, steps: int, root: Path) -> list[Any]:
    target = Target(root / f"{name}-calm")
    try:
        return WORKLOADS[name](target, steps)
    finally:
        target.stop()


def disturbed(name: str, steps: int, root: Path, rng: random.Random) -> tuple[list[Any] | str, Killer]:
    target = Target(root / f"{name}-{rng.randrange(10**9)}")
    killer = Killer(target, rng)
    killer.start()
    try:
        return WORKLOADS[name](target, steps), killer
    except Exception as error:
        return f"{type(error).__name__}: {error}", killer
    finally:
        killer.done.set()
        killer.join()
        target.stop()


def faults(name: str, kills: int, steps: int, root: Path, rng: random.Random) -> dict[str, Any]:
    """One workload, disturbed until there were enough kills."""
    expected, runs = undisturbed(name, steps, root), 0
    victims, recovered, resumed, errors, equal = [], [], [], [], 0
    while len(victims) < kills:
        seen, killer = disturbed(name, steps, root, rng)
        runs += 1
        victims += killer.kills
        recovered += killer.recovered
        resumed += killer.resumed
        errors += [seen] if isinstance(seen, str) else []
        equal += seen == expected
    return {
        "workload": name,
        "kills": {victim: victims.count(victim) for victim in sorted(set(victims))},
        "runs": runs,
        "identical_runs": equal,
        "client_errors": errors,
        "computes_again_s": spread(recovered),
        "client_has_result_s": spread(resumed),
        "journal": expected[-1],
    }


def spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    chosen = {"median": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}
    return {key: round(value, 2) for key, value in chosen.items()}


KEEPS_NOTHING = {
    "HONE_DATABASE_URL": "sqlite:///file:journal?mode=memory&cache=shared&uri=true",
    "HONE_SNAPSHOT_OPERATIONS": str(10**9),
    "HONE_SNAPSHOT_BYTES": str(10**15),
    "HONE_SNAPSHOT_SECONDS": str(10**9),
    "HONE_IDLE_SECONDS": str(10**9),
}


def durability(steps: int, root: Path) -> dict[str, Any]:
    """The time of a step with journal and snapshots on disk and without, step by step in turn, so that whatever else
    the machine does meets both."""
    row: dict[str, Any] = {"workload": "durability", "steps": steps}
    kept, lost = Target(root / "kept"), Target(root / "lost", **KEEPS_NOTHING)
    rng = np.random.default_rng(0)
    try:
        with contextlib.ExitStack() as clients:
            trainings = []
            for target in (kept, lost):
                service = clients.enter_context(tinker.ServiceClient(base_url=target.url, api_key=KEY))
                trainings.append(service.create_lora_training_client("hone/tiny", rank=32, seed=1).result())
            for data_count, tokens in ((4, 32), (16, 128)):
                data = [datum(rng.integers(10, 500, tokens + 1)) for _ in range(data_count)]
                seconds: list[list[float]] = [[], []]
                for step in range(steps):
                    for which in (0, 1) if step % 2 else (1, 0):
                        seconds[which].append(timed_step(trainings[which], data))
                with_it, without = (statistics.median(some[5:]) for some in seconds)
                row[f"{data_count * tokens}_tokens"] = {
                    "step_ms": round(1000 * with_it, 2),
                    "step_ms_keeping_nothing": round(1000 * without, 2),
                    "cost_percent": round(100 * (with_it / without - 1), 2),
                    "cost_percent_of_means": round(100 * (sum(seconds[0][5:]) / sum(seconds[1][5:]) - 1), 2),
                }
    finally:
        kept.stop()
        lost.stop()
    return row


def timed_step(training: tinker.TrainingClient, data: list[types.Datum]) -> float:
    started = time.perf_counter()
    gradient = training.forward_backward(data, "cross_entropy")
    update = training.optim_step(types.AdamParams(learning_rate=1e-3))
    gradient.result()
    update.result()
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100, help="of each workload, at least")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[*WORKLOADS, "durability"], default=[*WORKLOADS, "durability"])
    args = parser.parse_args()
    os.environ |= {"TINKER_TELEMETRY": "0", "HONE_PUBLISH_TOKENIZERS": "0"}
    rng, all_equal = random.Random(args.seed), True
    with tempfile.TemporaryDirectory() as root:
        for name in args.only:
            if name == "durability":
                row = durability(args.steps, Path(root))
            else:
                row = faults(name, args.kills, args.steps, Path(root), rng)
                all_equal &= row["identical_runs"] == row["runs"]
            print(json.dumps(row), flush=True)
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
