"""Sizes by the number of cores: with more, each has as much to do in a pass as with two."""

from types import SimpleNamespace
from typing import Any

import pytest

from hone.engine.limits import LEAST_TOKENS, MOST_TOKENS, Limits
from hone.engine.recompute import PassMemory
from hone.memory import memory_shares

GIB = 1 << 30


@pytest.mark.parametrize(("cores", "tokens", "rows"), [(1, 2048, 64), (2, 2048, 64), (4, 4096, 64), (16, 8192, 256)])
def test_cores(cores: int, tokens: int, rows: int) -> None:
    limits = Limits.of_cores(cores)
    assert (limits.training_threads, limits.micro_batch_tokens, limits.sample_rows) == (cores, tokens, rows)


def test_many_threads_hold_more_logits_at_once() -> None:
    shares = memory_shares(GIB, 0)
    memory = PassMemory(layers=4, most=50_000.0, least=5_000.0, vocab_size=100_000)
    model: dict[str, Any] = {"large": SimpleNamespace(memory=memory)}
    one, many = (Limits.within(shares, model, Limits(MOST_TOKENS, n)).micro_batch_tokens for n in (1, 16))
    assert LEAST_TOKENS < many < one < MOST_TOKENS
    for tokens, threads in ((one, 1), (many, 16)):
        assert memory.bytes(tokens, 4, threads=threads) <= shares.passes < memory.bytes(tokens + 1, 4, threads=threads)
