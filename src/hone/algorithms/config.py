"""What every method's configuration shares: strict, JSON in and out, each field documented where it stands."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class Config(BaseModel):
    """A frozen set of values. An unknown key is an error, and the docstring under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class ModelConfig(Config):
    """The adapter to train."""

    name: str
    """The base model's id, as the server lists it."""
    lora_rank: PositiveInt = 32
    """Size of the adapter; more learns more and costs more memory."""
    seed: int | None = None
    """Draws the adapter's first weights; without it one is drawn, and noted in the run's directory."""
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = True
    init_from_checkpoint: str | None = None
    """Weights to begin with (`tinker://...`), with a fresh optimizer."""
    load_checkpoint: str | None = None
    """Weights to go on with (`tinker://...`), and the optimizer that was saved with them."""


class OptimizerConfig(Config):
    """AdamW and its learning rate over time."""

    learning_rate: float | None = Field(default=None, gt=0)
    """The highest learning rate; without it the advice of `hone.algorithms.learning_rate` for the model."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How it falls after the warm-up, to zero at the end unless constant."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which it rises from zero."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled, times the learning rate."""
    grad_clip_norm: float = 0.0
    """Gradients longer than this are scaled down to it; 0 leaves them alone."""


class CheckpointConfig(Config):
    """When a run is written down, so that it can go on after anything."""

    every: NonNegativeInt = 20
    """Steps between saves; 0 saves at the end only."""
    ttl_seconds: PositiveInt | None = 604_800
    """Lifetime of all but the final checkpoint and that of an interrupt (Ctrl-C): a run that was killed has to be
    started again within it."""


class TrainingConfig(Config):
    """What every loop's configuration has."""

    model: ModelConfig
    checkpoints: CheckpointConfig = CheckpointConfig()
