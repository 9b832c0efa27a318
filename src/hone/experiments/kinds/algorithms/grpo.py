"""Reinforcement learning on verified answers: GRPO and its family."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hone.experiments.data.rows import TaskRow
from hone.experiments.kinds.algorithms.params import SampledParams, beginning, shuffled, watched
from hone.experiments.kinds.contract import Algorithm, Training

if TYPE_CHECKING:
    from hone.algorithms.run_directory import Checkpoint
    from hone.algorithms.types import EnvGroupBuilder

LossName = Literal["importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce"]
CLIPPED = ("ppo", "cispo", "gspo")


class GrpoParams(SampledParams):
    group_size: PositiveInt = 8
    """Answers to each task; they are compared with each other."""
    groups_per_batch: PositiveInt | None = None
    """Tasks in a step; without it `batch_size`."""
    temperature: NonNegativeFloat = 1.0
    """Of the answers; only 1 is on-policy."""
    advantage: Literal["centred", "dr_grpo", "rloo", "group_normalised", "maxrl"] = "centred"
    """How the rewards of a group become advantages."""
    loss: LossName = "importance_sampling"
    """How advantages become a gradient."""
    clip_low: PositiveFloat | None = None
    """Lowest ratio of new to old probability that counts, of `ppo`, `cispo` and `gspo`; without it the loss's own."""
    clip_high: PositiveFloat | None = None
    """The highest one."""
    kl: NonNegativeFloat = 0.0
    """Advantage taken per nat that the policy moves away from the base model."""
    format_weight: NonNegativeFloat = Field(default=0.1, le=1)
    """Reward taken from an answer that did not end."""
    remove_constant_groups: bool = True
    """Leaves out tasks whose answers all got the same reward."""
    num_substeps: PositiveInt = 1
    """Optimizer steps on parts of a batch. From the second on choose `ppo` or another loss that bounds the ratio."""
    mode: Literal["sync", "streaming", "async"] = "sync"
    """`sync` samples, then learns. `streaming` learns of complete groups while others are sampled. `async` also begins
    the next steps' groups, with older weights."""
    max_steps_off_policy: NonNegativeInt = 1
    """Of `async`: how old weights may be."""

    @model_validator(mode="after")
    def _fits(self) -> GrpoParams:
        if self.loss not in CLIPPED and (self.clip_low or self.clip_high):
            raise ValueError(f"the loss {self.loss!r} has no clip; {', '.join(CLIPPED)} have")
        if self.mode == "streaming" and self.kl:
            raise ValueError("`kl` needs the whole batch; `mode: streaming` has it in parts. Choose `sync` or `async`")
        return self


class Grpo(Algorithm[GrpoParams]):
    """Shao et al. 2024 (arXiv 2402.03300), without a critic."""

    Params = GrpoParams
    learns_from = "task"
    needs_graders = True

    def steps(self, rows: int) -> int:
        return self.params.steps(rows, self.params.groups_per_batch)

    async def train(self, training: Training) -> Checkpoint:
        from hone.algorithms.rl.config import KlPenaltyConfig, RolloutConfig

        params = self.params
        dataset = GradedTasks(training, params)
        rollouts = RolloutConfig(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            concurrency=params.concurrency,
            shared_prompts=True,
        )
        told = {
            **beginning(training, params),
            "epochs": 1,  # the dataset counts them, for an order of its own in each
            "rollouts": rollouts,
            "loss": _loss(params),
            "advantage": params.advantage,
            "remove_constant_groups": params.remove_constant_groups,
            "num_substeps": params.num_substeps,
        }
        near = KlPenaltyConfig(coefficient=params.kl) if params.kl else None
        handed: dict[str, Any] = {"decode": training.tokenizer.decode, **watched(training)}
        match params.mode:
            case "sync":
                from hone.algorithms.rl import train as sync

                config = sync.GrpoConfig(**told, kl_penalty=near)
                return await sync.train(config, training.service, dataset, training.run_dir, **handed)
            case "streaming":
                from hone.algorithms.rl import streaming

                streamed = streaming.StreamingConfig(**told, order="dataset")
                return await streaming.train(streamed, training.service, dataset, training.run_dir, **handed)
            case "async":
                from hone.algorithms.rl import asynchronous

                ahead = asynchronous.AsynchronousConfig(
                    **told, max_steps_off_policy=params.max_steps_off_policy, kl_penalty=near
                )
                return await asynchronous.train(ahead, training.service, dataset, training.run_dir, **handed)


def _loss(params: GrpoParams) -> Any:
    from hone.algorithms.rl import losses

    clips = {"clip_low_threshold": params.clip_low, "clip_high_threshold": params.clip_high}
    given = {name: value for name, value in clips.items() if value is not None}
    kinds = {
        "importance_sampling": losses.ImportanceSampling,
        "ppo": losses.Ppo,
        "cispo": losses.Cispo,
        "dro": losses.Dro,
        "gspo": losses.Gspo,
        "stable_reinforce": losses.StableReinforce,
    }
    return kinds[params.loss](**given)


class GradedTasks:
    """Task rows in batches, each graded by its own verifier: a `types.RLDataset`."""

    def __init__(self, training: Training, params: GrpoParams) -> None:
        from hone.algorithms.data_order import DataOrder

        self._training, self._params = training, params
        self._order = DataOrder(
            len(training.rows),
            params.groups_per_batch or params.batch_size,
            params.epochs,
            training.run.seed,
            shuffled(training),
        )

    def __len__(self) -> int:
        return self._order.steps

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        from hone.algorithms.envs.message_env import GroupBuilder
        from hone.algorithms.envs.problems import ProblemEnv
        from hone.experiments.kinds.algorithms.examples import graded_task

        def builder(index: int) -> EnvGroupBuilder:
            row = self._training.rows[index]
            assert isinstance(row, TaskRow)
            make = partial(
                ProblemEnv,
                graded_task(row),
                self._training.graders[index],
                prompt=row.prompt,
                format_coef=self._params.format_weight,
            )
            return GroupBuilder(make, self._training.renderer, self._params.group_size, ("tasks",))

        return [builder(row) for row in self._order.batch(index)]
