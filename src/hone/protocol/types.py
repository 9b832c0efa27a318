"""What the protocol's requests carry, as frozen dataclasses over NumPy arrays.

Shape legend: N tokens of one datum, K targets per token, P tokens of a prompt.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np

StopReason = Literal["stop", "length"]

MASKED_LOGPROB = -99999.0
"""In a top-k cell that was not computed, beside token 0."""

IMAGE_TOKEN = -1
"""Stands in a model input where an image is, once for each position that it takes."""

ImageFormat = Literal["png", "jpeg"]
IMAGE_FORMATS: tuple[str, ...] = get_args(ImageFormat)


@dataclass(frozen=True)
class LoraConfig:
    """Which LoRA adapter to make; at least one of the three `train_*` flags is true."""

    rank: int = 32
    seed: int | None = None
    """Fixes the initial weights. None: the server draws one and records it, so that a replay gives the same adapter."""
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


@dataclass(frozen=True)
class AdamParams:
    """One step of AdamW; every value may change from step to step."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0
    """Largest L2 norm of the whole gradient; 0 turns clipping off."""


@dataclass(frozen=True)
class CustomLoss:
    """A loss that a client traced. Plain data: what it may contain is decided where it is rebuilt, in the engine."""

    name: str
    inputs: tuple[tuple[str, int], ...]
    """Name and rank, `logprobs` first: 0 a number, 1 [N], 2 [N, K]."""
    graph: str
    """The client's torch.fx graph, as JSON."""


@dataclass(frozen=True)
class ProvenanceSpan:
    """A run of tokens that came from a recorded sample: its prompt or its sampled tokens."""

    source: Literal["prompt", "sampled"]
    sequence_id: str
    offset: int
    length: int


@dataclass(frozen=True)
class Image:
    """A picture as the client sent it."""

    data: bytes
    format: ImageFormat

    @cached_property
    def digest(self) -> bytes:
        """What tells it from all others."""
        return hashlib.sha256(self.format.encode() + b"\0" + self.data).digest()


@dataclass(frozen=True)
class PlacedImage:
    """An image at the positions `start:start + length` of a model input."""

    start: int
    length: int
    image: Image

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Datum:
    """One training sequence: position i of `tokens` predicts `loss_inputs["target_tokens"][i]`."""

    tokens: np.ndarray
    """int32 [N]; `IMAGE_TOKEN` where an image is"""
    loss_inputs: dict[str, np.ndarray]
    """int64 or float32, [N] or [N, K]; sparse tensors arrive here already dense."""
    model_input_spans: tuple[ProvenanceSpan, ...] = ()
    loss_input_spans: tuple[ProvenanceSpan, ...] = ()
    images: tuple[PlacedImage, ...] = ()
    """In the order of their places."""


@dataclass(frozen=True)
class SamplingParams:
    max_tokens: int | None = None
    """None: up to the end of the context window, which ends longer ones too."""
    seed: int | None = None
    stop: tuple[str, ...] | tuple[int, ...] | None = None
    """None stops at the model's end-of-sequence tokens; an empty tuple stops at nothing but `max_tokens`."""
    temperature: float = 1.0
    """0 is greedy."""
    top_k: int = -1
    """-1 is off."""
    top_p: float = 1.0


@dataclass(frozen=True)
class TopkLogprobs:
    """The k likeliest tokens of each position, best first."""

    token_ids: np.ndarray
    """int32 [positions, k]"""
    logprobs: np.ndarray
    """float32 [positions, k]; -99999.0 marks a cell that was not computed (the first prompt position)."""


@dataclass(frozen=True)
class PromptTargets:
    """Tokens to score in the place of prompt tokens, as a flat list of cells."""

    rows: np.ndarray
    """int64 [cells]; row i scores in the place of prompt token i + 1"""
    tokens: np.ndarray
    """int64 [cells]; -1 asks for nothing"""


@dataclass(frozen=True)
class PromptAltTokens:
    """Independent draws in the place of every prompt token after the first."""

    tokens: np.ndarray
    """int32 [P - 1, k]"""
    logprobs: np.ndarray
    """float32 [P - 1, k], of the model itself: as for prompt tokens, whatever the temperature of the draws"""


@dataclass(frozen=True)
class SampledSequence:
    tokens: np.ndarray
    """int32 [n], the token that ended the sequence included"""
    logprobs: np.ndarray
    """float32 [n], of the temperature-scaled distribution before top-k and top-p"""
    stop_reason: StopReason
    topk: TopkLogprobs | None = None


@dataclass(frozen=True)
class SampleResult:
    sequences: tuple[SampledSequence, ...]
    prompt_logprobs: np.ndarray | None = None
    """float32 [P], NaN where not computed (always at position 0)"""
    topk_prompt_logprobs: TopkLogprobs | None = None
    prompt_cache_hit_tokens: int = 0
    target_prompt_logprobs: np.ndarray | None = None
    """float32 [cells], 0.0 where nothing was asked"""
    prompt_alt_tokens: PromptAltTokens | None = None


@dataclass(frozen=True)
class ForwardBackwardResult:
    logprobs: tuple[np.ndarray, ...]
    """per datum, float32, the shape of its `target_tokens`"""
    metrics: dict[str, float] = field(default_factory=dict)
    """names end in one of the suffixes that the client reduces by, such as `loss:sum`"""
