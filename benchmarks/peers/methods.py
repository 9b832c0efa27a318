"""The methods of `hone.algorithms` on another server of the protocol, SkyRL's, with the SDK that it understands.

    python -m benchmarks.peers.methods [--environments DIR]

`make peers` makes its environment first; without one there is nothing to do. Prints what was done, one JSON line each,
and ends with 1 if something was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.work import FIRST_TOKEN, Setting

ROOT = Path(__file__).parents[2]
INSIDE = "--inside"
"""Given by this program to itself in the other environment, with the model's folder."""
ADAPTERS = 8
"""One for each run, as SkyRL frees none while a session lasts."""
PROMPTS = [[FIRST_TOKEN + 3 * row + place for place in range(6)] for row in range(8)]
ANSWER = [900, 901, 902, 903]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.methods")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-peers", help="a folder for each system")
    parser.add_argument(INSIDE, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return inside(args.inside)
    python = args.environments / "skyrl" / "bin" / "python"
    if not python.exists():
        print(f"skipped: there is no {python}; `make peers` makes it")
        return 0
    from benchmarks.peers.model import write_model

    with tempfile.TemporaryDirectory(prefix="hone-peers-") as scratch:
        write_model(Path(scratch))
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TINKER_TELEMETRY": "0"}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(args.environments / "compiled")
        command = [str(python), "-m", "benchmarks.peers.methods", INSIDE, scratch]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def inside(model: Path) -> int:
    from benchmarks.peers.old_sdk import Service
    from benchmarks.peers.systems.skyrl import Server

    failed = 0
    server = Server(model, Setting(rank=8, tenants=ADAPTERS), subprocess.DEVNULL)
    try:
        service: Any = Service(server.url)
        for method in (fine_tuning, resumed_fine_tuning, grpo):
            with tempfile.TemporaryDirectory(prefix="hone-run-") as folder:
                try:
                    found = method(service, str(model), Path(folder))
                    print(json.dumps({"method": method.__name__, **found}), flush=True)
                except Exception as error:
                    failed += 1
                    problem = f"{type(error).__name__}: {error}"
                    print(json.dumps({"method": method.__name__, "failed": problem[:500]}), flush=True)
    finally:
        server.close()
    return 1 if failed else 0


def fine_tuning(service: Any, model: str, folder: Path) -> dict[str, Any]:
    rows = _fine_tune(service, model, folder)
    first, last = rows[0]["train_mean_nll"], rows[-1]["train_mean_nll"]
    # The output layer stays random, which bounds how sure the model can become: some 5 nats are left.
    assert last < 0.8 * first, f"the loss went from {first} to {last}"
    return {"steps": len(rows), "nll": [first, last]}


def resumed_fine_tuning(service: Any, model: str, folder: Path) -> dict[str, Any]:
    """Cut off after a checkpoint, it goes on near the same numbers; which bits they have is the server's affair."""
    whole = _fine_tune(service, model, folder / "whole")

    class Crash(Exception):
        pass

    class CrashAtThird:
        async def __call__(self, sampler: Any) -> Mapping[str, float]:
            raise Crash

        async def at_step(self, sampler: Any, step: int) -> Mapping[str, float]:
            if step == 4:
                raise Crash
            return {}

    try:
        _fine_tune(service, model, folder / "cut", [CrashAtThird()])
        raise AssertionError("nothing was cut off")
    except Crash:
        pass
    found = _fine_tune(service, model, folder / "cut")
    off = max(abs(one["train_mean_nll"] - other["train_mean_nll"]) for one, other in zip(whole, found, strict=True))
    assert off < 1e-3, f"after it went on a loss is off by {off}"
    return {"steps": len(found), "largest difference": off}


def _fine_tune(service: Any, model: str, folder: Path, evaluators: Sequence[Any] = ()) -> list[dict[str, Any]]:
    import tinker

    from hone.algorithms import sft
    from hone.algorithms.config import CheckpointConfig, OptimizerConfig
    from hone.algorithms.datums import supervised_datum

    examples = [
        supervised_datum(tinker.ModelInput.from_ints([*prompt, *ANSWER]), [0.0] * len(prompt) + [1.0] * len(ANSWER))
        for prompt in PROMPTS
    ]
    config = sft.SftConfig(
        model=_model(model),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        checkpoints=CheckpointConfig(every=3),
        batch_size=4,
        epochs=3,
        eval_every=2,
    )
    asyncio.run(sft.train(config, service, examples, folder, evaluators=evaluators))
    return _rows(folder)


def grpo(service: Any, model: str, folder: Path) -> dict[str, Any]:
    from hone.algorithms.config import CheckpointConfig, OptimizerConfig
    from hone.algorithms.rl.config import RolloutConfig
    from hone.algorithms.rl.train import GrpoConfig, train

    config = GrpoConfig(
        model=_model(model),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        rollouts=RolloutConfig(max_tokens=4, shared_prompts=True),
        checkpoints=CheckpointConfig(every=0),
        eval_every=0,
    )
    asyncio.run(train(config, service, _problems(lambda answer: sum(token % 2 for token in answer) / 4), folder))
    rows = _rows(folder)
    drift = max(abs(row["optim/kl_sample_train_v1"]) for row in rows)
    assert drift < 1e-2, f"sampler and trainer are {drift} nats apart"
    return {"steps": len(rows), "sequences": [row["num_datums"] for row in rows], "sampler to trainer, nats": drift}


def _problems(grade: Callable[[Sequence[int]], float]) -> Any:
    """Two groups of four answers in each of two batches."""
    import tinker

    from hone.algorithms.types import ActionExtra, Env, EnvGroupBuilder, Observation, StepResult

    class Question(Env):
        def __init__(self, prompt: list[int]) -> None:
            self._prompt = tinker.ModelInput.from_ints(prompt)

        async def initial_observation(self) -> Observation:
            return Observation(self._prompt, [0])

        async def step(self, action: list[int], *, extra: ActionExtra | None = None) -> StepResult:
            return StepResult(grade(action), True, self._prompt, [0])

    class Group(EnvGroupBuilder):
        def __init__(self, prompt: list[int]) -> None:
            self._prompt = prompt

        async def make_envs(self) -> Sequence[Env]:
            return [Question(self._prompt) for _ in range(4)]

    class Problems:
        def __len__(self) -> int:
            return 2

        def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
            return [Group(prompt) for prompt in PROMPTS[2 * index : 2 * index + 2]]

    return Problems()


def _model(name: str) -> Any:
    from hone.algorithms.config import ModelConfig

    return ModelConfig(name=name, lora_rank=8, seed=1, train_unembed=False)  # SkyRL adapts no output layer


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "progress" in row or "progress/batch" in row]


if __name__ == "__main__":
    sys.exit(main())
