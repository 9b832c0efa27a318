"""What the server may ask of the engine, and what the engine promises. Read this first.

- Operations of one adapter take effect in the order of the `submit` calls; operations of different adapters may overlap
  and be computed together, which changes no bit of either on a CPU.
- A result arrives exactly once per submitted operation: as a value, or as an error with a category. An operation
  that fails leaves its adapter as it was, and the operations after it still run.
- When the engine process ends, every operation under way raises `EngineLostError`. The engine has then forgotten all
  adapters and versions; after `restart` the caller rebuilds them from snapshots and submits later operations again.
- On one machine the same operations in the same order give the same bits, whatever else the engine does meanwhile.
- Capturing state (`Publish`, `Snapshot`, `SaveAdapter`, `ExportAdapter`) copies it at its place in the order, then
  writes in the background. Files appear under their final names only when complete.
- Releasing what is absent is fine.
"""

from asyncio import Future
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hone.protocol.types import (
    AdamParams,
    CustomLoss,
    Datum,
    Image,
    LoraConfig,
    PlacedImage,
    PromptTargets,
    SampleResult,
    SamplingParams,
    StopReason,
)


@dataclass(frozen=True)
class ModelSource:
    """A base model to serve: the id that clients use, and the Hugging Face directory that holds it."""

    name: str
    directory: Path


@dataclass(frozen=True)
class Device:
    """What an engine computes with, as the settings HONE_DEVICE, HONE_DTYPE and HONE_INVARIANT say it."""

    name: str = "cpu"
    dtype: str = "auto"
    invariant: bool = False


@dataclass(frozen=True)
class BaseModel:
    """A frozen model that the engine has loaded."""

    name: str
    directory: str
    architecture: str
    max_context: int
    vocab_size: int
    parameters: int
    weight_bytes: int = 0
    """Of its weights in memory."""
    lora_parameters: tuple[int, int, int] = (0, 0, 0)
    """Of an adapter of rank 1: on attention, MLPs and head."""

    def adapter_parameters(self, lora: LoraConfig) -> int:
        trained = (lora.train_attn, lora.train_mlp, lora.train_unembed)
        return lora.rank * sum(n for n, flag in zip(self.lora_parameters, trained, strict=True) if flag)


def base_model_bytes(models: Iterable[BaseModel]) -> int:
    """Of all models together; one directory under several names is loaded once."""
    return sum({model.directory: model.weight_bytes for model in models}.values())


@dataclass(frozen=True)
class Share:
    """Whose an adapter is, and how much of the device its owner gets beside others: by tokens, twice for twice the
    weight. While there is work of a higher priority, that of a lower one waits."""

    tenant: str = ""
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True)
class CreateAdapter:
    """A new adapter: A drawn from the seed, B zero. The result is None. `lora.seed` must be set."""

    adapter: str
    base_model: str
    lora: LoraConfig
    share: Share = Share()


@dataclass(frozen=True)
class LoadAdapter:
    """An adapter from a directory that `SaveAdapter` or `Snapshot` wrote; replaces one of the same name.

    `with_optimizer` restores moments, step count and, from a snapshot, gradients not yet stepped on; otherwise they
    start fresh. The result is an `AdapterInfo`.
    """

    adapter: str
    base_model: str
    directory: str
    with_optimizer: bool
    share: Share = Share()


@dataclass(frozen=True)
class AdapterInfo:
    lora: LoraConfig
    parameters: int
    steps: int


@dataclass(frozen=True)
class ForwardBackward:
    """Adds the gradient of a loss to the adapter's; `forward_only` computes the same outputs and adds nothing.

    The result is a `ForwardBackwardResult`.
    """

    adapter: str
    data: tuple[Datum, ...]
    loss_fn: str
    loss_config: dict[str, float | str]
    forward_only: bool = False
    custom: CustomLoss | None = None
    """The loss, if `loss_fn` is "custom"."""


@dataclass(frozen=True)
class CheckLoss:
    """Whether a custom loss is one that this engine runs: the result is None, or the user's error."""

    loss: CustomLoss


@dataclass(frozen=True)
class CountImageTokens:
    """How many positions each image takes in the base model's input. The result is a tuple of numbers."""

    base_model: str
    images: tuple[Image, ...]


@dataclass(frozen=True)
class OptimStep:
    """One AdamW step on the gradients gathered since the last one, then clears them. The result is a dict of metrics.

    Without gathered gradients nothing changes and the metric `optimizer/skipped` is 1. Gradients that are not finite
    are cleared and the step fails as the user's: kept, they would fail every step to come.
    """

    adapter: str
    params: AdamParams


@dataclass(frozen=True)
class Snapshot:
    """Everything needed to continue the adapter, pending gradients included, on disk at `directory`. The result is
    its size in bytes."""

    adapter: str
    directory: str


@dataclass(frozen=True)
class SaveAdapter:
    """A checkpoint at `directory`, which must not exist: weights, and moments if `with_optimizer`. The result is its
    size in bytes, given once it is durable."""

    adapter: str
    directory: str
    with_optimizer: bool


@dataclass(frozen=True)
class ExportAdapter:
    """The weights for other tools at `directory`, which must not exist: PEFT's two files, and a report on how well
    transformers computes the same with them. With age recipients every file is encrypted to them and its name ends in
    `.age`; nothing is ever written in the clear. The result is its size in bytes, given once it is durable."""

    adapter: str
    directory: str
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publish:
    """An immutable copy of the adapter's weights, to sample from under the name `version`. The result is None, given
    as soon as the copy exists in memory. The copy is also written to `directory`, before any `Snapshot` submitted
    later is. If `durable`, the result is its size in bytes instead, given once it is written."""

    adapter: str
    version: str
    directory: str
    durable: bool = False


@dataclass(frozen=True)
class LoadVersion:
    """A version to sample from, out of a directory that `SaveAdapter` or `Publish` wrote. The result is None."""

    version: str
    base_model: str
    directory: str


@dataclass(frozen=True)
class DropAdapter:
    adapter: str


@dataclass(frozen=True)
class DropVersion:
    version: str


@dataclass(frozen=True)
class Sample:
    """Draw `num_samples` completions of one prompt. The result is a `SampleResult`.

    `seed` (not the one in `params`, which the server has resolved into it) fixes every draw: sample i uses stream
    (seed, i), so equal requests give equal samples under any load.
    """

    base_model: str
    version: str | None
    """None samples the base model itself."""
    prompt: np.ndarray
    """int32 [P]; `IMAGE_TOKEN` where an image is"""
    num_samples: int
    params: SamplingParams
    seed: int
    prompt_logprobs: bool = False
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: PromptTargets | None = None
    prompt_alt_tokens: int = 0
    """How many draws in the place of every prompt token after the first: at the request's temperature, from all
    tokens, from a stream of the seed that no sample uses."""
    images: tuple[PlacedImage, ...] = ()
    """Of the prompt, in the order of their places. Their log-probabilities as prompt tokens are NaN."""
    parts: bool = False
    """Also give every token as soon as it is drawn; `Engine.stream` sets this."""
    share: Share = Share()
    """Whose it is: rows and cache are shared by numbers of sequences, twice as many for twice the weight."""


@dataclass(frozen=True)
class SamplePart:
    """The newest token of sequence `index`. The parts of a sequence, in order, are what the result holds of it."""

    index: int
    token: int
    logprob: float
    topk: tuple[tuple[int, float], ...]
    """The likeliest tokens in its place, best first; empty unless `topk_sample_logprobs` asked for them."""
    stop_reason: StopReason | None
    """Set on a sequence's last part."""


AdapterOperation = (
    CreateAdapter
    | LoadAdapter
    | ForwardBackward
    | OptimStep
    | Snapshot
    | SaveAdapter
    | ExportAdapter
    | Publish
    | DropAdapter
)
Operation = AdapterOperation | LoadVersion | DropVersion | Sample | CheckLoss | CountImageTokens


class Engine(Protocol):
    """A running engine, as the server sees it. All methods belong to one asyncio event loop."""

    models: dict[str, BaseModel]
    """By name, in the order in which they were configured."""
    pid: int

    def submit(self, operation: Operation) -> "Future[Any]":
        """Hand over one operation; the future's type is that named in the operation's docstring.

        Raises nothing itself: errors arrive through the future as `UserError`, `ServerError` or `EngineLostError`.
        Cancelling the future of a `Sample` stops its generation; other operations run on.
        """
        ...

    def stream(self, operation: Sample) -> AsyncGenerator[SamplePart | SampleResult, None]:
        """What `submit` would give, after its parts as they are drawn; closing the generator stops the sampling."""
        ...

    async def compute_seconds(self) -> float:
        """How long this engine process has spent computing: what benchmarks subtract to see the service's overhead."""
        ...

    async def restart(self) -> None:
        """Start a new engine process after the old one ended; returns when it is ready."""
        ...

    async def close(self) -> None:
        """End the engine process after the writes under way; returns when it is gone."""
        ...
