"""Runs a recipe as its users do, in a process of its own, and reads what it left behind."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COOKBOOK = "tinker_cookbook"
PROGRAMS = Path(__file__).parent / "programs"

GONE = "(most recent call first):\n  <no Python frame>"
"""How the fault handler describes an interpreter that has run everything and is being taken down."""

ON_POLICY_V1, ON_POLICY_V2 = 2e-3, 1e-4
"""How far the trainer may be from the sampler that holds the same weights, in nats per token and nats squared."""


class RecipeFailed(Exception):
    pass


@dataclass(frozen=True)
class Recipes:
    """Where recipes run: `root` holds models and data, `out` what they write."""

    root: Path
    out: Path
    url: str
    api_key: str
    seconds: float
    """A recipe that takes longer hangs."""
    aborts: list[str] = field(default_factory=list)
    """Modules that had ended when a thread of the SDK's HTTP library, which outlives the interpreter, aborted them."""

    def run(self, module: str, *arguments: str, stdin: str = "") -> str:
        """Run a module of the cookbook, or one of our programs (`*.py`); returns what it printed."""
        code, printed = self.attempt(module, *arguments, stdin=stdin)
        if code:
            raise RecipeFailed(f"{module} ended with {code}: " + " | ".join(printed.strip().splitlines()[-6:]))
        return printed

    def attempt(self, module: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """As `run`, for what must fail: also returns the exit code."""
        target = [str(PROGRAMS / module)] if module.endswith(".py") else ["-m", f"{COOKBOOK}.{module}"]
        command = [sys.executable, *target, *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            printed, _ = process.communicate(stdin, timeout=self.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
            raise RecipeFailed(f"{module} still ran after {self.seconds:.0f} s: {printed[-400:]}") from None
        finally:
            process.kill()
        (self.out / "last.log").write_text(printed)
        if process.returncode == -signal.SIGABRT and GONE in printed:
            self.aborts.append(module)  # the exit code that was meant is lost
            return int("Traceback (most recent call last)" in printed), printed
        return process.returncode, printed

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name != "TINKER_PROJECT_ID"}
        return ours | {
            "HOME": str(self.root / "home"),  # some look for their data there
            "PYTHONPATH": os.pathsep.join([str(PROGRAMS), *filter(None, [ours.get("PYTHONPATH")])]),
            "HF_HUB_OFFLINE": "1",
            "LIBC_FATAL_STDERR_": "1",  # what the C library says when a process aborts goes where the rest goes
            "PYTHONFAULTHANDLER": "1",
            "HF_DATASETS_CACHE": str(self.out / "datasets"),
            "PYTHONWARNINGS": "ignore",
            "TINKER_API_KEY": self.api_key,
            "TINKER_BASE_URL": self.url,
            "TINKER_COOKBOOK_RUNS_DIR": str(self.out / "runs"),
            "TINKER_TELEMETRY": "0",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def log(self, name: str) -> Path:
        """A folder for one run; it does not exist yet, so no recipe asks what to do with it."""
        return self.out / name


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RecipeFailed(otherwise)


def rows(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]


def column(log: Path, name: str, count: int | None = None) -> list[float]:
    """The values of a metric, `count` of them and all finite."""
    values = [float(row[name]) for row in rows(log) if name in row]
    expect(bool(values), f"no {name!r} among {sorted({key for row in rows(log) for key in row})}")
    expect(count in (None, len(values)), f"{len(values)} values of {name!r}, not {count}")
    expect(all(map(math.isfinite, values)), f"{name!r} is not finite: {values}")
    return values


def checkpoints(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (log / "checkpoints.jsonl").read_text().splitlines()]


def falls(name: str, values: Sequence[float], to: float) -> dict[str, float]:
    """The metric must end below `to` times its start; returns both ends for the report."""
    expect(
        values[-1] < to * values[0], f"{name} fell from {values[0]:.4g} to {values[-1]:.4g} only: not to {to:g} of it"
    )
    return {f"{name} first": values[0], f"{name} last": values[-1]}


def on_policy(log: Path, steps: int) -> dict[str, float]:
    """Every step trained on what the same weights had sampled, so the divergence is rounding."""
    v1, v2 = column(log, "optim/kl_sample_train_v1", steps), column(log, "optim/kl_sample_train_v2", steps)
    expect(max(map(abs, v1)) < ON_POLICY_V1, f"sampler and trainer differ by {v1} nats per token")
    expect(max(map(abs, v2)) < ON_POLICY_V2, f"sampler and trainer differ by {v2} nats squared per token")
    return {"kl": max(map(abs, v1)), "reward": column(log, "env/all/reward/total", steps)[-1]}
