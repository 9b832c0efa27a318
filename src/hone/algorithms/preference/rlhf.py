"""RLHF in three stages: demonstrations, a reward model from comparisons, reinforcement learning on its rewards.

Ouyang et al. 2022 (arXiv 2203.02155), with GRPO in place of PPO. Each stage has its own directory in the run's and goes
on where it stopped:

    sft/            the policy learns from demonstrations
    reward_model/   another adapter, begun from those weights, learns which answers people prefer
    policy/         the policy learns what the reward model likes, held near the weights of the first stage
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tinker
from pydantic import NonNegativeFloat, PositiveInt

from hone.algorithms import sft
from hone.algorithms.config import Config
from hone.algorithms.preference import train as preference
from hone.algorithms.preference.judged import JudgedPrompts, rewarded
from hone.algorithms.preference.pairs import Pair
from hone.algorithms.preference.reward_model import RewardHead, RewardModel
from hone.algorithms.rl import train as grpo
from hone.algorithms.rl.config import KlPenaltyConfig
from hone.algorithms.run_directory import Checkpoint, MetricSink
from hone.algorithms.types import StopCondition
from hone.errors import UserError
from hone.observe.progress import Display, silent


class RlhfConfig(Config):
    sft: sft.SftConfig
    reward_model: preference.PreferenceConfig
    """Its objective is a reward model's; its adapter begins with the weights of the first stage."""
    policy: grpo.GrpoConfig
    """Its adapter begins with the weights of the first stage."""
    group_size: PositiveInt = 8
    """Answers to each prompt."""
    prompts_per_step: PositiveInt = 8
    kl_coefficient: NonNegativeFloat = 0.05
    """Advantage taken per nat that the policy moves away from the first stage; 0 lets it go where it likes."""


@dataclass(frozen=True)
class RlhfResult:
    sft: Checkpoint
    reward_model: Checkpoint
    policy: Checkpoint


async def train(
    config: RlhfConfig,
    service: tinker.ServiceClient,
    demonstrations: Sequence[tinker.Datum],
    comparisons: Sequence[Pair],
    prompts: Sequence[Sequence[int]],
    head: RewardHead,
    run_dir: Path,
    *,
    stop: StopCondition,
    hidden_size: int | None = None,
    sinks: Callable[[Path], Sequence[MetricSink]] = lambda stage_dir: (),
    display: Display = silent,
) -> RlhfResult:
    """`comparisons` are made by `head.pair`; `prompts` are what the last stage answers, in tokens.

    `sinks` opens those of one stage, by its directory: each stage closes its own, and counts its steps from 0.
    """
    if config.reward_model.objective.kind != "bradley_terry":
        raise UserError(
            f"reward_model.objective.kind is {config.reward_model.objective.kind!r}; a reward model learns by "
            "'bradley_terry'"
        )
    if not prompts:
        raise UserError("there is nothing to answer: `prompts` is empty")

    def stage(name: str) -> dict[str, Any]:
        folder = run_dir / name
        return {"run_dir": folder, "sinks": sinks(folder), "hidden_size": hidden_size, "display": display}

    first = await sft.train(config.sft, service, demonstrations, **stage("sft"))
    if not first.final:
        raise UserError("the first stage was stopped; run again to go on with it")

    rewarding = _begun_from(config.reward_model, first)
    second = await preference.train(rewarding, service, comparisons, **stage("reward_model"))
    if not second.final:
        raise UserError("the reward model was stopped; run again to go on with it")
    reward_sampler: tinker.SamplingClient = await service.create_sampling_client(model_path=second.sampler_path)
    reward_model = RewardModel(reward_sampler, head, config.policy.rollouts.concurrency)

    acting = _begun_from(config.policy, first)
    if config.kl_coefficient:
        near = KlPenaltyConfig(coefficient=config.kl_coefficient, reference=first.sampler_path)
        acting = acting.model_copy(update={"kl_penalty": near})
    dataset = JudgedPrompts(rewarded(prompts, reward_model), stop, config.group_size, config.prompts_per_step)
    third = await grpo.train(acting, service, dataset, **stage("policy"))
    return RlhfResult(first, second, third)


Stage = TypeVar("Stage", preference.PreferenceConfig, grpo.GrpoConfig)


def _begun_from(config: Stage, checkpoint: Checkpoint) -> Stage:
    model = config.model.model_copy(update={"init_from_checkpoint": checkpoint.state_path})
    return config.model_copy(update={"model": model})
