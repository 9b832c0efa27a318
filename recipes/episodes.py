"""What recipes on environments share: teach the form of an answer by play that is shown, then reinforce.

The embedded model has never seen these environments. From random weights of its own it would not once answer in a form
that they read, and a reward that never comes teaches nothing; larger models can go without the first part.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tinker

from hone.algorithms import sft
from hone.algorithms.config import Config
from hone.algorithms.datums import supervised_datum
from hone.algorithms.envs.datasets import EpisodeDataset
from hone.algorithms.envs.message_env import Checkable, MessageEnv
from hone.algorithms.renderers import TrainOnWhat
from hone.algorithms.rl import train as grpo
from hone.algorithms.rl.held_out import HeldOutRewards
from hone.algorithms.run_directory import Checkpoint, read_metrics
from hone.algorithms.types import RLDataset
from recipes.recipe import Curve, RecipeConfig, Setting
from recipes.runs import fine_tune, finished, named

HELD_OUT_SEEDS = 2**31
"""Episodes from here on are for measuring: `EpisodeDataset` draws those to train on below."""


class Shown(Config):
    """Episodes whose play is learned by example."""

    episodes: int = 300
    expert_share: float = 0.0
    """Of the moves that an expert makes; the others are legal and random."""
    sft: sft.SftConfig


@dataclass(frozen=True)
class Reinforced:
    last: Checkpoint
    run: Path

    def before_and_after(self, metric: str, tag: str = "all") -> tuple[float, float]:
        """Of the held-out episodes. What none of them reported is 0, for it happened to none."""
        key = f"test/env/{tag}/"
        found = [row.get(key + metric, 0.0) for row in read_metrics(self.run) if key + "total_episodes" in row]
        return found[0], found[-1]

    def curve(self, metric: str, name: str) -> Curve:
        key = f"env/all/{metric}"
        rows = [row for row in read_metrics(self.run) if "env/all/total_episodes" in row]
        return Curve(name, [(float(row["step"]), row.get(key, 0.0)) for row in rows])


async def show(config: Shown, recipe: RecipeConfig, make: Callable[[int], Checkable], setting: Setting) -> Checkpoint:
    """Teach the form, and as much of the game as `expert_share` gives away."""
    examples: list[tinker.Datum] = []
    for seed in range(config.episodes):
        env, rng = make(seed), random.Random(f"{recipe.seed}/{seed}")
        messages = await env.initial_observation()
        done = False
        while not done:
            expert = rng.random() < config.expert_share
            step = await env.step(await env.gold_reply() if expert else env.random_reply(rng))
            messages, done = step.next_messages, step.episode_done
        last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
        played = setting.renderer.build_supervised_examples(
            messages[: last + 1], TrainOnWhat.ALL_ASSISTANT_MESSAGES, tools=env.tools
        )
        examples += [supervised_datum(*example) for example in played]
    run = setting.out / "shown"
    return await fine_tune(config.sft, recipe, setting, examples, run)


async def reinforce(
    config: grpo.GrpoConfig,
    recipe: RecipeConfig,
    problems: RLDataset,
    held_out: RLDataset,
    setting: Setting,
    begin_from: Checkpoint | None = None,
) -> Reinforced:
    """Measured on `held_out` before the first step and after the last."""
    config = named(config, recipe, begin_from).model_copy(update={"eval_every": len(problems)})
    run = setting.out / "reinforced"
    last = finished(
        await grpo.train(
            config,
            setting.service,
            problems,
            run,
            evaluators=[HeldOutRewards(held_out, config.rollouts)],
            decode=setting.tokenizer.decode,
            sinks=setting.sinks(run),
            display=setting.display,
        )
    )
    return Reinforced(last, run)


def episodes(
    make: Callable[[int], MessageEnv], setting: Setting, *, steps: int, per_step: int, group_size: int, seed: int
) -> EpisodeDataset:
    return EpisodeDataset(make, setting.renderer, steps, per_step, group_size, seed)


def held_out_episodes(
    make: Callable[[int], MessageEnv], setting: Setting, count: int, tags: tuple[str, ...] = ()
) -> EpisodeDataset:
    """The same ones whatever the recipe's seed, one attempt at each."""
    return EpisodeDataset(lambda seed: make(HELD_OUT_SEEDS + seed), setting.renderer, 1, count, 1, tags=tags)
