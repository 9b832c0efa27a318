"""A small cache under random load: every block accounted for, nobody waits forever, and the same bits as alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hone.engine.attention import BLOCK, PackedAttention
from hone.engine.contract import Sample, Share
from hone.engine.lora.batch import LoraBatch
from hone.engine.models.load import LoadedModel
from hone.engine.sampling.sampler import Sampler
from hone.protocol.types import SampleResult, SamplingParams
from tests.unit.engine.sampling.material import assert_equal, free_blocks, one, prompt, request, run, sampler_of


@pytest.fixture
def small(qwen3: LoadedModel) -> Sampler:
    return sampler_of(qwen3, rows=8, cache_tokens=10 * BLOCK)


def test_when_the_cache_is_full_the_youngest_waits_and_nobody_draws_anything_else(
    small: Sampler, qwen3: LoadedModel
) -> None:
    asked = [request(prompt(i, 10 + 9 * i), samples=1 + i % 2, seed=i, max_tokens=60) for i in range(5)]
    results = run(small, [(op, None) for op in asked])
    assert small.preemptions
    for i, op in enumerate(asked):
        assert_equal(results[i], one(sampler_of(qwen3), op))
    assert free_blocks(small) == small._pool.size


def test_the_oldest_is_never_preempted(small: Sampler) -> None:
    for i in range(6):
        small.add(i, request(prompt(i, 20), seed=i, max_tokens=100), None)
    steps = 0
    while not (done := small.step()):
        steps += 1
    assert [ticket for ticket, _ in done] == [0]
    assert steps < 110
    assert small.preemptions


def test_a_group_larger_than_the_cache_is_served(qwen3: LoadedModel) -> None:
    op = request(prompt(1, 37), samples=12, max_tokens=50, prompt_logprobs=True)
    sampler = sampler_of(qwen3, cache_tokens=8 * BLOCK)
    found, wanted = one(sampler, op), one(sampler_of(qwen3), op)
    assert_equal(found, wanted)
    assert found.prompt_cache_hit_tokens == 0, "what a request computed itself was not cached for it"
    assert found.prompt_logprobs is not None
    np.testing.assert_array_equal(found.prompt_logprobs, wanted.prompt_logprobs)


def test_the_parts_of_a_preempted_sequence_come_once(small: Sampler) -> None:
    asked = [request(prompt(i, 20), seed=i, max_tokens=100, parts=True) for i in range(4)]
    for i, op in enumerate(asked):
        small.add(i, op, None)
    parts: dict[int, list[int]] = {i: [] for i in range(4)}
    results: dict[int, SampleResult] = {}
    while small:
        results.update(small.step())
        for ticket, part in small.take_parts():
            parts[ticket].append(part.token)
    assert small.preemptions
    for i, result in results.items():
        np.testing.assert_array_equal(parts[i], result.sequences[0].tokens)


class Uncached:
    """Computes every sequence from its beginning, as models of transformers do that cannot go on from a cache."""

    def __init__(self, model: LoadedModel) -> None:
        decoder = model.decoder
        self._forward, self.weights, self.backend = decoder.forward, decoder.weights, decoder.backend

    def forward(
        self, tokens_T: Tensor, positions_T: Tensor, attend: Any, lora: LoraBatch, pictured: Sequence[Any]
    ) -> Tensor:
        assert not pictured
        starts = [*(positions_T == 0).nonzero()[:, 0].tolist(), len(positions_T)]
        lengths = [stop - start for start, stop in pairwise(starts)]
        return self._forward(tokens_T, positions_T, PackedAttention(lengths), lora)


def test_models_without_a_cache_are_preempted_too(qwen3: LoadedModel) -> None:
    decoder: Any = Uncached(qwen3)
    model = replace(qwen3, decoder=decoder, config=replace(qwen3.config, cached=False))
    sampler = sampler_of(model, rows=4, cache_tokens=6 * BLOCK)
    asked = [request(prompt(i, 20), seed=i, samples=2, max_tokens=50) for i in range(3)]
    results = run(sampler, [(op, None) for op in asked])
    assert sampler.preemptions
    assert sampler.prefilled_tokens == 60, "preempted sequences and further samples compute no prompt"
    for i, op in enumerate(asked):
        for found, wanted in zip(results[i].sequences, one(sampler_of(qwen3), op).sequences, strict=True):
            np.testing.assert_array_equal(found.tokens, wanted.tokens)


# --- random load -----------------------------------------------------------------------------------------------------

ROOTS = 3
"""Prompts begin with one of so many texts, so that many share blocks."""

KIND = st.tuples(
    st.integers(0, ROOTS - 1),
    st.integers(1, 90),  # prompt tokens
    st.integers(0, 40),  # of them, its own
    st.integers(1, 4),  # samples
    st.integers(1, 40),  # new tokens
    st.booleans(),  # prompt scored
    st.sampled_from(["", "", "a", "b"]),  # tenant
)


def operation(kind: tuple[int, int, int, int, int, bool, str]) -> Sample:
    root, length, own, samples, max_tokens, scored, tenant = kind
    tokens = prompt(root, 90)[:length].copy()
    tokens[max(0, length - own) :] = prompt(length, own)[: min(own, length)]
    params = SamplingParams(max_tokens=max_tokens, stop=())
    return Sample("base", None, tokens, samples, params, length, prompt_logprobs=scored, share=Share(tenant, 1.0))


def check_blocks(sampler: Sampler) -> None:
    """Each block has as many users as hold it; who share one have the same tokens up to its end, all of them fed."""
    pool, users = sampler._pool, Counter[int]()
    meanings: dict[int, set[bytes]] = {}
    for holder in sampler._holders():
        tokens = holder.fed_tokens() if hasattr(holder, "fed_tokens") else holder.tokens
        assert len(set(holder.blocks)) == len(holder.blocks)
        users.update(holder.blocks)
        for i, block in enumerate(holder.blocks):
            meanings.setdefault(block, set()).add(tokens[: (i + 1) * BLOCK].tobytes())
    assert users == Counter({block: n for block, n in enumerate(pool._users) if n})
    assert pool.free == pool.size - len(users)
    assert 0 not in users
    for block, n in users.items():
        assert n == 1 or (len(meanings[block]) == 1 and len(next(iter(meanings[block]))) % (4 * BLOCK) == 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_arrivals_and_cancellations(data: st.DataObject, qwen3: LoadedModel) -> None:
    wanted = cache(lambda kind: one(sampler_of(qwen3, cache_tokens=1024, prefill=4096), operation(kind)))
    sampler = sampler_of(
        qwen3,
        rows=data.draw(st.integers(1, 6), label="rows"),
        cache_tokens=data.draw(st.integers(9, 24), label="blocks") * BLOCK,
        prefill=data.draw(st.sampled_from([16, 40, 256]), label="prefill"),
    )
    asked, results, cancelled = {}, {}, set()
    arrivals = data.draw(
        st.lists(st.tuples(st.integers(0, 12), KIND, st.integers(0, 9)), max_size=10), label="arrivals"
    )
    for ticket, (pause, kind, doomed) in enumerate(arrivals):
        sampler.add(ticket, operation(kind), None)
        asked[ticket] = kind
        for _ in range(pause):
            results.update(sampler.step())
            check_blocks(sampler)
        if doomed == 0:
            cancelled.add(victim := ticket // 2)
            sampler.cancel(victim)
            check_blocks(sampler)
    steps = 0
    while sampler:
        results.update(sampler.step())
        check_blocks(sampler)
        steps += 1
        assert steps < 3000, "no end in sight"
    assert set(results) | cancelled == set(asked)
    assert sampler._pool.free == sampler._pool.size
    for ticket, result in results.items():
        alone = wanted(asked[ticket])
        assert_equal(result, alone)
        if result.prompt_logprobs is not None:
            np.testing.assert_array_equal(result.prompt_logprobs, alone.prompt_logprobs)
