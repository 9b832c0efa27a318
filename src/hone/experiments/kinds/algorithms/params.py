"""What every built-in algorithm is told in the same words, so that one file can put several beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hone.algorithms.config import CheckpointConfig, Config, ModelConfig, OptimizerConfig

if TYPE_CHECKING:
    from hone.experiments.config import RunConfig
    from hone.experiments.kinds.contract import Training

CRASH_EVERY = 20
"""Steps between checkpoints of an arm that is measured at its end only."""
KEPT_SECONDS = 30 * 86_400
"""Lifetime of checkpoints along the way: within it an interrupted experiment has to go on. What an arm ends with never
expires."""


class TrainingParams(Config):
    """The parameters that all methods have."""

    usual_lr: ClassVar[float]
    """For LoRA on models of a few billion parameters."""
    tiny_lr: ClassVar[float]
    """For the embedded model, which is 128 wide: narrow models want more."""

    lr: PositiveFloat | None = None
    """The highest learning rate. Without it 2e-4 (SFT, off-policy and prompt distillation), 1e-5 (preferences) or 4e-5
    (reinforcement, on-policy distillation); on `hone/tiny` 5e-3, 1e-3 and 2e-3."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How it falls after the warm-up, to zero at the end unless constant."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which it rises from zero."""
    batch_size: PositiveInt = 32
    """Rows in a step."""
    epochs: PositiveInt = 1
    """Times that every row is seen."""
    max_steps: PositiveInt | None = None
    """Stops earlier than the epochs would; the schedule ends there too."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled, times the learning rate."""
    grad_clip: NonNegativeFloat = 0.0
    """Gradients longer than this are scaled down to it; 0 leaves them alone."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's memory of the gradient's mean."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Adam's memory of the gradient's square."""
    eps: PositiveFloat = 1e-8
    """Keeps Adam's division from zero."""
    concurrency: PositiveInt = 128
    """Requests for samples and scores under way at once."""

    def rate(self, model: str) -> float:
        return self.lr or (self.tiny_lr if model.startswith("hone/tiny") else self.usual_lr)

    def steps(self, rows: int, batch_size: int | None = None) -> int:
        """Of so many rows."""
        steps = -(-rows // (batch_size or self.batch_size)) * self.epochs
        return min(steps, self.max_steps or steps)

    def optimizer(self, model: str) -> OptimizerConfig:
        return OptimizerConfig(
            learning_rate=self.rate(model),
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            grad_clip_norm=self.grad_clip,
        )


class SupervisedParams(TrainingParams):
    usual_lr: ClassVar[float] = 2e-4
    tiny_lr: ClassVar[float] = 5e-3


class PreferenceParams(TrainingParams):
    usual_lr: ClassVar[float] = 1e-5
    tiny_lr: ClassVar[float] = 1e-3


class SampledParams(TrainingParams):
    """Of methods that learn from the model's own answers."""

    usual_lr: ClassVar[float] = 4e-5
    tiny_lr: ClassVar[float] = 2e-3

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up, to zero at the end unless constant."""
    max_tokens: PositiveInt = 256
    """Tokens of one answer, at most."""


def adapter(run: RunConfig) -> ModelConfig:
    """The adapter to train; the arm has filled in the model's name, and paths in place of names of experiments."""
    model = run.model
    assert model.name is not None
    return ModelConfig(
        name=model.name,
        lora_rank=model.lora_rank,
        seed=run.seed,
        train_attn=model.train_attn,
        train_mlp=model.train_mlp,
        train_unembed=model.train_unembed,
        init_from_checkpoint=model.init_from_checkpoint,
        load_checkpoint=model.load_checkpoint,
    )


def beginning(training: Training, params: TrainingParams) -> dict[str, Any]:
    """What the configurations of all loops have."""
    model = adapter(training.run)
    return {
        "model": model,
        "optimizer": params.optimizer(model.name),
        "checkpoints": CheckpointConfig(every=training.validate_every or CRASH_EVERY, ttl_seconds=KEPT_SECONDS),
        "epochs": params.epochs,
        "max_steps": params.max_steps,
        "seed": training.run.seed,
        "eval_every": training.validate_every,
    }


def shuffled(training: Training) -> bool:
    return training.run.data is None or training.run.data.shuffle


def watched(training: Training) -> dict[str, Any]:
    """What all loops are handed beside their data."""
    return {"evaluators": training.evaluators, "sinks": training.sinks, "display": training.display}
