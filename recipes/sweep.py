"""What studies share: the same training with one setting changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import tinker
from pydantic import PositiveInt

from hone.algorithms import sft
from hone.algorithms.envs.generated import Split
from hone.algorithms.evaluation import HeldOutNll
from hone.algorithms.run_directory import read_metrics
from hone.cli.demo.tasks import MANY_TASKS, SFT_TASK
from recipes.questions import draw, example
from recipes.recipe import RecipeConfig, Setting
from recipes.runs import fine_tune

KINDS = [task.name for task in (SFT_TASK, *MANY_TASKS)]


class StudyConfig(RecipeConfig):
    sft: sft.SftConfig
    examples: PositiveInt = 200
    """Of each of the five tasks that are taught at once."""
    held_out: PositiveInt = 40
    """Of each task."""


@dataclass(frozen=True)
class Trained:
    before: float
    after: float
    """Loss on held-out examples, in nats a token; infinite if the training diverged."""
    checkpoint: str


async def train_each(
    config: StudyConfig, setting: Setting, changes: Mapping[float, sft.SftConfig]
) -> dict[float, Trained]:
    """Every configuration on the same examples in the same order, by the value that it stands for."""
    shown = _examples(setting, "train", config.examples, config.seed)
    held_out = _examples(setting, "held_out", config.held_out, config.seed)

    trained: dict[float, Trained] = {}
    for value, changed in changes.items():
        run = setting.out / f"{value:g}"
        last = await fine_tune(changed, config, setting, shown, run, evaluators=[HeldOutNll(held_out)])
        losses = [row["test/nll"] for row in read_metrics(run) if "test/nll" in row]
        after = losses[-1] if losses[-1] is not None else math.inf
        trained[value] = Trained(losses[0], after, str(last.sampler_path))
    return trained


def _examples(setting: Setting, split: Split, count: int, seed: int) -> list[tinker.Datum]:
    return [example(setting, task) for kind in KINDS for task in draw(kind, split, count, seed)]


def finite(trained: Mapping[float, Trained]) -> list[tuple[float, float]]:
    return [(value, one.after) for value, one in trained.items() if math.isfinite(one.after)]
