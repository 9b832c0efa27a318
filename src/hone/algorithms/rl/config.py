"""What the loops of reinforcement learning are told."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hone.algorithms.config import Config, OptimizerConfig, TrainingConfig
from hone.algorithms.rl.advantages import Advantage
from hone.algorithms.rl.losses import ImportanceSampling, Loss


class RolloutConfig(Config):
    """How episodes are sampled, and how many of them may fail."""

    max_tokens: PositiveInt = 512
    """Tokens of one answer, at most."""
    temperature: NonNegativeFloat = 1.0
    """Of training and of evaluation. Samples come with their log-probabilities at this temperature, and the trainer
    computes those of temperature 1: only 1 is on-policy."""
    context_limit: PositiveInt | None = None
    """Tokens of prompt and answer together; an episode that reaches it ends there. Without it the server decides."""
    max_turns: PositiveInt | None = None
    """An episode that has not ended after so many turns is ended."""
    timeout_seconds: PositiveFloat | None = None
    """An episode that takes longer, waiting for its turn to sample included, has failed."""
    concurrency: PositiveInt = 256
    """Sampling requests under way at once. More keep a large server busy; fewer are kinder to a small one."""
    shared_prompts: bool = False
    """Asks for the first answers of a whole group in one request. Faster where all members see the same prompt; not for
    games, in which one member waits for the move of another."""
    tolerated_failures: float = Field(default=0.5, ge=0, le=1)
    """The share of a group's episodes that may fail. Beyond it, or with fewer than two left, the group is lost."""
    tolerated_groups: float = Field(default=0.5, ge=0, le=1)
    """The share of a step's groups that may be lost. Beyond it the run stops, with the reason of the first failure."""


class KlPenaltyConfig(Config):
    """Keeps the policy near another: advantages fall where it has moved away."""

    coefficient: PositiveFloat
    """Advantage taken per nat."""
    discount: float = Field(default=0.0, ge=0, le=1)
    """Above 0, a token also answers for the drift of the tokens after it, discounted by this much per token."""
    reference: str | None = None
    """Sampler weights (`tinker://...`) to stay near; without it, the base model."""


class TranscriptConfig(Config):
    """Which episodes are written down for people to read."""

    every: NonNegativeInt = 1
    """Steps between transcripts; 0 for none."""
    groups: PositiveInt = 4
    """Groups of a step, from its first."""
    characters: PositiveInt = 2000
    """Of one text; longer ones lose their middle."""
    kilobytes: PositiveInt = 256
    """Of one step's file; what does not fit is counted."""


class RlConfig(TrainingConfig):
    optimizer: OptimizerConfig = OptimizerConfig()
    rollouts: RolloutConfig = RolloutConfig()
    loss: Loss = ImportanceSampling()
    advantage: Advantage = "centred"
    """How the rewards of a group become advantages."""
    remove_constant_groups: bool = True
    """Leaves out groups whose rewards are all equal: they teach nothing. Metrics still count them."""
    num_substeps: PositiveInt = 1
    """Optimizer steps on the parts of a batch. From the second on the samples are of older weights: choose `ppo` or
    another loss that bounds the ratio."""
    post_kl: bool = False
    """Also measures how far the step moved the policy, by scoring the batch once more."""
    transcripts: TranscriptConfig = TranscriptConfig()
    epochs: PositiveInt = 1
    """Passes over the dataset."""
    max_steps: PositiveInt | None = None
    """Stops earlier than the epochs would; the schedule ends there too."""
    eval_every: NonNegativeInt = 20
    """Steps between evaluations, which see the weights before the step; 0 for none."""
    seed: int = 0
    """Every sample's seed comes from it and from the sample's place in the run."""

    def steps(self, batches: int) -> int:
        """Of a dataset of so many batches."""
        return min(batches * self.epochs, self.max_steps or batches * self.epochs)
