"""Kills the engine, the API process, or both at random moments of training runs, and shows that nothing is lost.

    python benchmarks/faults.py [--kills 40] [--seed 0] [--steps 60] [--only sft rl]

Each workload runs twice through the official SDK with the same seeds: once undisturbed, once while a second thread ends
processes with SIGKILL and starts the server again on the same port and data directory. One JSON line per workload says
how many kills there were, whether any client call failed, whether losses, samples and final weights are the same bits,
and how long the server took to answer again. Exits 1 unless everything is equal. Needs the `dev` extra.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
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


class Target:
    """A server whose processes may die; it always comes back at the same address with the same data."""

    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "hone.cli.main", "serve", "--json", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--api-key", KEY]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the server did not start again on {self.data_dir}")
        return process

    def kill(self, victim: str) -> float:
        """End `engine`, `api` or `both`; returns the seconds until the server computes again."""
        started = time.monotonic()
        engines = psutil.Process(self.process.pid).children()
        if victim != "api":
            for engine in engines:
                with contextlib.suppress(psutil.NoSuchProcess):
                    engine.send_signal(signal.SIGKILL)
        if victim != "engine":
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(engines, timeout=30)  # an engine ends when its server does
            self.process = self._start()
        while not self._computes():
            time.sleep(0.05)
        return time.monotonic() - started

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


class Killer(threading.Thread):
    """Kills at random moments until `enough` is set or the work is done."""

    def __init__(self, target: Target, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.target, self.rng, self.done = target, rng, threading.Event()
        self.kills: list[str] = []
        self.recoveries: list[float] = []

    def run(self) -> None:
        while not self.done.wait(self.rng.uniform(0.2, 2.0)):
            victim = self.rng.choice(["engine", "api", "both"])
            self.kills.append(victim)
            self.recoveries.append(self.target.kill(victim))


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
                seen.append(digest(pending.pop(0).result()))
        seen += [digest(future.result()) for future in pending]
        seen.append(weights_digest(target, client.save_state("final").result().path))
    return seen


def rl(target: Target, steps: int) -> list[Any]:
    """Sample from the newest weights, reward even tokens, step: on-policy reinforcement learning in small."""
    rng, seen = np.random.default_rng(0), []
    with tinker.ServiceClient(base_url=target.url, api_key=KEY) as service:
        client = service.create_lora_training_client("hone/tiny", rank=8, seed=1).result()
        for step in range(steps):
            sampler = client.save_weights_and_get_sampling_client()
            prompt = rng.integers(10, 500, 12).tolist()
            params = types.SamplingParams(max_tokens=12, seed=step, stop=[])
            futures = [sampler.sample(types.ModelInput.from_ints([*prompt, i]), 4, params) for i in range(10, 13)]
            data = []
            for i, future in enumerate(futures):
                for sequence in future.result().sequences:
                    seen.append((list(sequence.tokens), list(sequence.logprobs or [])))
                    data.append(rewarded([*prompt, 10 + i], sequence))
            gradient = client.forward_backward(data, "importance_sampling")
            update = client.optim_step(types.AdamParams(learning_rate=1e-3))
            seen += [digest(gradient.result()), digest(update.result())]
        seen.append(weights_digest(target, client.save_state("final").result().path))
    return seen


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


def digest(result: Any) -> str:
    """Losses, log-probabilities and metrics of one result, to the last bit."""
    content = hashlib.sha256(json.dumps(result.metrics, sort_keys=True).encode())
    for output in getattr(result, "loss_fn_outputs", []):
        content.update(np.asarray(output["logprobs"].data, np.float32).tobytes())
    return content.hexdigest()


def weights_digest(target: Target, path: str) -> str:
    """Weights and moments as they lie on disk."""
    run, kind, name = path.removeprefix("tinker://").split("/")
    (directory,) = (target.data_dir / "checkpoints" / run / kind).glob(f"{name}@*")
    files = [directory / "adapter_model.safetensors", directory / "optimizer.safetensors"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40, help="of each workload, at least")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS))
    args = parser.parse_args()
    os.environ |= {"TINKER_TELEMETRY": "0", "HONE_PUBLISH_TOKENIZERS": "0"}
    rng, all_equal = random.Random(args.seed), True
    with tempfile.TemporaryDirectory() as root:
        for name in args.only:
            expected = undisturbed(name, args.steps, Path(root))
            kills, recoveries, errors, equal, runs = 0, [], [], 0, 0
            while kills < args.kills:
                seen, killer = disturbed(name, args.steps, Path(root), rng)
                kills, runs = kills + len(killer.kills), runs + 1
                recoveries += killer.recoveries
                if isinstance(seen, str):
                    errors.append(seen)
                equal += seen == expected
            all_equal &= equal == runs
            row = {"workload": name, "kills": kills, "runs": runs, "bit_identical_runs": equal, "client_errors": errors}
            row |= {
                "recovery_s_median": round(statistics.median(recoveries), 2),
                "recovery_s_max": round(max(recoveries), 2),
            }
            print(json.dumps(row), flush=True)
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
