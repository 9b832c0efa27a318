"""What recipes do alike with a method's run: tell it the recipe's model and seed, and read its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from hone.algorithms import sft
from hone.algorithms.distill import on_policy
from hone.algorithms.evaluation import Evaluator
from hone.algorithms.preference import train as preference
from hone.algorithms.rl import asynchronous, streaming
from hone.algorithms.rl import train as grpo
from hone.algorithms.run_directory import Checkpoint, read_metrics
from hone.errors import UserError
from recipes.recipe import Curve, RecipeConfig, Setting

Method = TypeVar(
    "Method",
    sft.SftConfig,
    grpo.GrpoConfig,
    streaming.StreamingConfig,
    asynchronous.AsynchronousConfig,
    preference.PreferenceConfig,
    on_policy.OnPolicyConfig,
)


def named(config: Method, recipe: RecipeConfig, begin_from: Checkpoint | None = None) -> Method:
    """For the recipe's model and seed, beginning with the weights of `begin_from`."""
    changes: dict[str, object] = {"name": recipe.model, "seed": recipe.seed}
    if begin_from is not None:
        changes["init_from_checkpoint"] = begin_from.state_path
    return config.model_copy(update={"model": config.model.model_copy(update=changes), "seed": recipe.seed})


def finished(last: Checkpoint) -> Checkpoint:
    """`last`, if the training came to its end. What was interrupted has no result, and nothing may build on it."""
    if not last.final:
        raise UserError(f"stopped before its end, at step {last.batch}; the same command with the same --out goes on")
    return last


async def fine_tune(
    config: sft.SftConfig,
    recipe: RecipeConfig,
    setting: Setting,
    examples: Sequence[Any],
    run: Path,
    *,
    evaluators: Sequence[Evaluator] = (),
    prepare: sft.Prepare = sft.as_they_are,
) -> Checkpoint:
    """Supervised fine-tuning in the directory `run`, to its end."""
    last = await sft.train(
        named(config, recipe),
        setting.service,
        examples,
        run,
        prepare=prepare,
        evaluators=evaluators,
        sinks=setting.sinks(run),
        display=setting.display,
    )
    return finished(last)


def before_and_after(run: Path, metric: str) -> tuple[float, float]:
    """A held-out measure before the first step and after the last."""
    key = f"test/{metric}"
    values = [row[key] for row in read_metrics(run) if key in row]
    if len(values) < 2 or values[-1] is None:
        raise UserError(f"{run} has no {key} at its end; does `eval_every` switch evaluations off, or did it diverge?")
    return values[0], values[-1]


def curve(run: Path, metric: str, name: str) -> Curve:
    return Curve(name, [(float(row["step"]), row[metric]) for row in read_metrics(run) if metric in row])
