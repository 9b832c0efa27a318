"""Samplers, requests and their results, for the sampler's tests."""

from typing import Any

import numpy as np

from hone.engine.attention import BLOCK, KeyValueCache
from hone.engine.contract import Sample
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.sampler import Sampler
from hone.engine.sampling.version import AdapterVersion
from hone.protocol.types import SampleResult, SamplingParams
from tests.unit.engine.material import VOCAB


def sampler_of(model: LoadedModel, rows: int = 16, cache_tokens: int = 4096, prefill: int = 256) -> Sampler:
    config = model.config
    block_bytes = KeyValueCache.block_bytes(config.layers, config.kv_heads, config.head_dim)
    return Sampler(model, rows, cache_tokens // BLOCK * block_bytes, prefill)


def free_blocks(sampler: Sampler) -> int:
    return sampler._pool.free  # the sampler shows nobody else


def prompt(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, length).astype(np.int32)


def request(
    prompt_T: np.ndarray, version: str | None = None, samples: int = 1, seed: int = 0, max_tokens: int = 12, **more: Any
) -> Sample:
    params = {k: more.pop(k) for k in ("temperature", "top_k", "top_p") if k in more}
    stop = more.pop("stop", ())
    return Sample(
        "base", version, prompt_T, samples, SamplingParams(max_tokens=max_tokens, stop=stop, **params), seed, **more
    )


Asked = tuple[Sample, AdapterVersion | None]


def run(sampler: Sampler, asked: list[Asked], joining_every: int = 0) -> dict[int, SampleResult]:
    """All results by place in `asked`; with `joining_every`, one more request joins after so many steps."""
    results: dict[int, SampleResult] = {}
    waiting = list(enumerate(asked))
    for steps in range(20000):
        if waiting and (not joining_every or steps % joining_every == 0):
            for ticket, (op, version) in waiting[: 1 if joining_every else None]:
                sampler.add(ticket, op, version)
            waiting = waiting[1:] if joining_every else []
        for ticket, result in sampler.step():
            assert ticket not in results
            results[ticket] = result
        if not sampler and not waiting:
            return results
    raise AssertionError(f"no end in sight: {sorted(results)} of {len(asked)} finished")


def one(sampler: Sampler, op: Sample, version: AdapterVersion | None = None) -> SampleResult:
    return run(sampler, [(op, version)])[0]


def assert_equal(found: SampleResult, wanted: SampleResult) -> None:
    assert len(found.sequences) == len(wanted.sequences)
    for a, b in zip(found.sequences, wanted.sequences, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)
        assert a.stop_reason == b.stop_reason
