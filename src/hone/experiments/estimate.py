"""What an experiment will take, before it takes it: tokens, dollars, seconds.

Tokens that are given are counted. Tokens that will be sampled are not known, so answers count at their full length:
the estimate is what it takes at most, and `least` what it takes if every answer is empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.config import BenchmarkConfig, ValidationConfig
from hone.experiments.kinds.contract import Algorithm, Prices, RowSizes
from hone.experiments.records import Usage
from hone.experiments.runner.usage import tokens, total

MILLION = 1_000_000
CHARACTERS_PER_TOKEN = 4.0
"""Of English, about, where there is no tokenizer to ask."""
LOOKED_AT = 20
"""Earlier experiments, the newest ones."""


class ArmEstimate(Config):
    """One arm, with its validation."""

    arm: str
    rows: int
    """Training rows."""
    steps: int
    """Optimizer steps, if nothing stops it earlier."""
    most: Usage
    least: Usage
    seconds: float | None = None
    """At the speed of earlier arms; None if there were none."""


class Estimate(Config):
    """The whole."""

    arms: list[ArmEstimate] = []
    benchmarks: Usage = Usage()
    """At most."""
    most: Usage = Usage()
    least: Usage = Usage()
    seconds: float | None = None
    """With arms side by side as the file says."""
    without: list[str] = []
    """Arms that are not in it, since nothing is known of their rows."""


def usual_effort(algorithm: Algorithm[Any], rows: int, sizes: RowSizes) -> Usage:
    """Of a method whose parameters have the usual names; see `Algorithm.effort`."""
    params = algorithm.params
    batch = getattr(params, "groups_per_batch", None) or getattr(params, "batch_size", None)
    epochs = getattr(params, "epochs", 1)
    seen = min(algorithm.steps(rows) * batch, rows * epochs) if batch else rows * epochs
    longest = getattr(params, "max_tokens", None)
    if algorithm.learns_from == "task" and longest is not None:
        answers = seen * getattr(params, "group_size", 1)
        return Usage(
            training_tokens=math.ceil(answers * (sizes.prompt + longest)),
            prefill_tokens=math.ceil(answers * sizes.prompt),
            sample_tokens=answers * longest,
        )
    learned = math.ceil(seen * sizes.whole)
    # The reference's log-probabilities of both answers, once more.
    return Usage(training_tokens=learned, prefill_tokens=learned if algorithm.learns_from == "preference" else 0)


def validation_effort(config: ValidationConfig, steps: int, tasks: int, examples: int, sizes: RowSizes) -> Usage:
    """Of every measurement: before the steps that are multiples of `every`, and at the end."""
    times = 1 + (math.ceil(steps / config.every) if config.every else 0)
    return asked(tasks * times, config.samples, config.max_tokens, sizes, examples * times)


def benchmark_effort(config: BenchmarkConfig, tasks: int, sizes: RowSizes) -> Usage:
    """Of the chosen arm and the baseline."""
    return asked(tasks * (2 if config.baseline else 1), config.samples, config.max_tokens, sizes)


def asked(tasks: int, samples: int, max_tokens: int, sizes: RowSizes, examples: int = 0) -> Usage:
    """Tasks that are answered, and conversations that are scored."""
    return Usage(
        prefill_tokens=math.ceil(tasks * samples * sizes.prompt + examples * sizes.whole),
        sample_tokens=tasks * samples * max_tokens,
    )


def without_answers(usage: Usage) -> Usage:
    """What is left if every answer is empty."""
    return usage.model_copy(
        update={"sample_tokens": 0, "training_tokens": max(0, usage.training_tokens - usage.sample_tokens)}
    )


def priced(usage: Usage, prices: Prices) -> Usage:
    cost = (
        usage.training_tokens * prices.training
        + usage.prefill_tokens * prices.prefill
        + usage.sample_tokens * prices.sample
    )
    return usage.model_copy(update={"cost": cost / MILLION})


def measured_speed(output_dir: Path, model: str) -> float | None:
    """Tokens that an arm took in a second, in earlier experiments on the model; None if there are none."""
    from hone.experiments.runner.index import Index

    used: list[Usage] = []
    try:
        for _, record in zip(range(LOOKED_AT), Index(output_dir).records(), strict=False):
            used += [arm.usage for arm in record.arms if arm.config.get("model", {}).get("name") == model]
    except UserError:
        return None  # nothing was run there yet
    whole = total(used)
    return tokens(whole) / whole.seconds if tokens(whole) and whole.seconds else None


def estimate(arms: Sequence[ArmEstimate], benchmarks: Usage, concurrency: int, without: Sequence[str] = ()) -> Estimate:
    """Of all arms together."""
    known = [arm.seconds for arm in arms if arm.seconds is not None]
    side_by_side = max(1, min(concurrency, len(arms)))
    return Estimate(
        arms=list(arms),
        benchmarks=benchmarks,
        most=total([*(arm.most for arm in arms), benchmarks]),
        least=total([*(arm.least for arm in arms), without_answers(benchmarks).model_copy(update={"cost": 0.0})]),
        seconds=sum(known) / side_by_side if arms and len(known) == len(arms) else None,
        without=list(without),
    )
