"""One sample request and its sequences, from arrival to result."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from hone.engine.contract import Sample, SamplePart, Share
from hone.engine.models.load import LoadedModel
from hone.engine.models.vision import check_images
from hone.engine.sampling.prompt import PromptScores
from hone.engine.sampling.stops import StopRule
from hone.engine.sampling.version import AdapterVersion
from hone.errors import UserError
from hone.protocol.model_input import text_of
from hone.protocol.types import SampledSequence, SampleResult, StopReason, TopkLogprobs


@dataclass(eq=False)
class SampleRequest:
    """What the sampler holds of one `Sample` operation."""

    ticket: int
    number: int
    """By arrival."""
    operation: Sample
    version: AdapterVersion | None
    stop: StopRule
    max_tokens: int
    waiting: list[int]
    """Indices of the samples that have not started, next one last."""
    cached: int | None = None
    """Prompt tokens that an earlier sequence left in the cache; None until the prompt's turn comes."""
    first_logits_1V: Tensor | None = None
    """Logits after the prompt, from which every sample draws its first token."""
    scores: PromptScores | None = None
    """Of the prompt's own tokens and positions, where they were asked for."""
    finished: dict[int, SampledSequence] = field(default_factory=dict)

    @property
    def prompt_length(self) -> int:
        return len(self.operation.prompt)

    @property
    def weights(self) -> str:
        """Names what the keys and values of its tokens depend on."""
        return self.operation.version or ""

    @property
    def complete(self) -> bool:
        return len(self.finished) == self.operation.num_samples

    def result(self) -> SampleResult:
        return SampleResult(
            sequences=tuple(self.finished[i] for i in range(self.operation.num_samples)),
            prompt_cache_hit_tokens=self.cached or 0,
            **(self.scores.fields() if self.scores else {}),
        )


@dataclass(eq=False)
class RunningSequence:
    """One sample while it is being generated."""

    request: SampleRequest
    index: int
    blocks: list[int]
    """What the cache has of it; none while it is preempted."""
    uniforms: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    topk: list[tuple[list[int], list[float]]] = field(default_factory=list)

    @property
    def age(self) -> tuple[int, int]:
        """Older is smaller."""
        return self.request.number, self.index

    @property
    def share(self) -> Share:
        return self.request.operation.share

    @property
    def position(self) -> int:
        """Of the newest token, which has not been fed to the model yet."""
        return self.request.prompt_length + len(self.tokens) - 1

    def fed_tokens(self) -> np.ndarray:
        """What the model was given, prompt included: all but the newest token."""
        return self.all_tokens()[:-1]

    def all_tokens(self) -> np.ndarray:
        """Of prompt and sample so far."""
        return np.concatenate([self.request.operation.prompt, np.array(self.tokens, np.int32)])

    def stop_reason(self) -> StopReason | None:
        if self.request.stop.ends(self.tokens):
            return "stop"
        return "length" if len(self.tokens) >= self.request.max_tokens else None

    def newest(self, reason: StopReason | None) -> SamplePart:
        """The token just drawn, with the precision that the result will have."""
        topk: tuple[tuple[int, float], ...] = ()
        if self.request.operation.topk_sample_logprobs:
            ids, logprobs = self.topk[-1]
            topk = tuple(zip(ids, np.array(logprobs, np.float32).tolist(), strict=True))
        return SamplePart(self.index, self.tokens[-1], float(np.float32(self.logprobs[-1])), topk, reason)

    def finish(self, reason: StopReason) -> None:
        k = self.request.operation.topk_sample_logprobs
        topk = None
        if k:
            ids = np.array([row[0] for row in self.topk], np.int32).reshape(-1, k)
            topk = TopkLogprobs(ids, np.array([row[1] for row in self.topk], np.float32).reshape(-1, k))
        self.request.finished[self.index] = SampledSequence(
            np.array(self.tokens, np.int32), np.array(self.logprobs, np.float32), reason, topk
        )


def check_sample(op: Sample, model: LoadedModel, capacity: int) -> int:
    """`UserError` unless the request can be served; returns the most tokens that each sample may have.

    `capacity` is the number of tokens that the cache holds at all.
    """
    params, config = op.params, model.config
    if not len(op.prompt):
        raise UserError("prompt is empty; it needs at least one token")
    text = text_of(op.prompt, op.images)
    wrong = text[(text < 0) | (text >= config.vocab_size)]
    if len(wrong):
        raise UserError(f"prompt holds token {wrong[0]}; this model's vocabulary is 0..{config.vocab_size - 1}")
    if params.max_tokens is not None and params.max_tokens < 1:
        raise UserError(f"max_tokens must be at least 1, found {params.max_tokens}")
    found, limit = len(op.prompt), min(config.max_context, capacity)
    room = limit - found
    if room < 1 and capacity < config.max_context:
        raise UserError(
            f"prompt has {found} tokens; with at least one new token it must fit this server's key-value cache of "
            f"{capacity} tokens: shorten it, or raise HONE_CACHE_BYTES"
        )
    if room < 1:
        raise UserError(
            f"prompt has {found} tokens; with at least one new token it must fit the context of {limit} tokens"
        )
    # a limit, not a wish: what ends at the context's border has stop reason "length", as at max_tokens
    max_tokens = room if params.max_tokens is None else min(params.max_tokens, room)
    if op.num_samples < 1:
        raise UserError(f"num_samples must be at least 1, found {op.num_samples}")
    if not np.isfinite(params.temperature) or params.temperature < 0:
        raise UserError(f"temperature must be a finite number of at least 0, found {params.temperature}")
    if not 0 < params.top_p <= 1:
        raise UserError(f"top_p must be above 0 and at most 1, found {params.top_p}")
    if "" in (params.stop or ()):
        raise UserError("stop holds an empty string, which would end every sequence at once; remove it")
    if params.top_k < 1 and params.top_k != -1:
        raise UserError(f"top_k must be -1 (off) or at least 1, found {params.top_k}")
    for name, k in (
        ("topk_prompt_logprobs", op.topk_prompt_logprobs),
        ("topk_sample_logprobs", op.topk_sample_logprobs),
    ):
        if not 0 <= k <= config.vocab_size:
            raise UserError(f"{name} must be between 0 and the vocabulary's {config.vocab_size}, found {k}")
    if op.target_prompt_logprobs is not None:
        tokens = op.target_prompt_logprobs.tokens
        wrong = tokens[(tokens < -1) | (tokens >= config.vocab_size)]
        if len(wrong):
            raise UserError(
                f"target_prompt_logprobs holds token {wrong[0]}; this model's vocabulary is "
                f"0..{config.vocab_size - 1}, and -1 asks for nothing"
            )
    check_images(op.images, model.vision, "prompt")
    return max_tokens
