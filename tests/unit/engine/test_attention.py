"""Attention over packs and over the paged cache, against softmax(q k / sqrt(d)) v written out in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hone.engine.attention import (
    BLOCK,
    DecodeAttention,
    KeyValueCache,
    PackedAttention,
    PrefillAttention,
    Run,
    equal_length_runs,
)

HEADS, D = 6, 8


def full_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One sequence, [N, H, d] and [N, K, d], head by head."""
    n, heads, d = q.shape
    shared = heads // k.shape[1]
    later = torch.ones(n, n).triu(1).bool()
    out = torch.empty(n, heads, d, dtype=torch.float64)
    for h in range(heads):
        scores = q[:, h].double() @ k[:, h // shared].double().t() / d**0.5
        out[:, h] = scores.masked_fill(later, float("-inf")).softmax(-1) @ v[:, h // shared].double()
    return out.flatten(1)


def random_qkv(tokens: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(tokens, HEADS, D), torch.randn(tokens, kv_heads, D), torch.randn(tokens, kv_heads, D)


def test_neighbours_of_equal_length_share_a_run() -> None:
    assert equal_length_runs([3, 3, 5, 3]) == (Run(0, 2, 3), Run(6, 1, 5), Run(11, 1, 3))
    assert equal_length_runs([]) == ()


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_packed_sequences_attend_to_themselves_only(kv_heads: int) -> None:
    torch.manual_seed(kv_heads)
    lengths = [5, 5, 1, 33, 33, 2]
    q, k, v = random_qkv(sum(lengths), kv_heads)
    found = PackedAttention(lengths)(0, q, k, v)
    parts = zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
    wanted = torch.cat([full_attention(*part) for part in parts])
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kv_heads", [2, 6])
@pytest.mark.parametrize("lengths", [[7, 7, 12], [200], [401, 401], [530]])
def test_gradients_of_packed_attention(lengths: list[int], kv_heads: int) -> None:
    tensors = [x.requires_grad_() for x in random_qkv(sum(lengths), kv_heads)]
    dout = torch.randn(sum(lengths), HEADS * D)
    PackedAttention(lengths)(0, *tensors).backward(dout)
    wide = [x.detach().double().requires_grad_() for x in tensors]
    parts = zip(*(x.split(lengths) for x in wide), strict=True)
    torch.cat([full_attention(*part) for part in parts]).backward(dout.double())
    for ours, theirs in zip(tensors, wide, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=0, atol=2e-5)


class Pages:
    """Sequences on scattered cache pages, fed a prompt and then token by token."""

    def __init__(self, lengths: list[int], prompt: int, kv_heads: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.lengths = lengths
        per_sequence = max(-(-n // BLOCK) for n in lengths)
        blocks = 1 + len(lengths) * per_sequence
        pages = torch.randperm(blocks - 1, generator=generator) + 1
        self.pages_BN = pages.view(len(lengths), per_sequence)
        self.cache = KeyValueCache(1, blocks, kv_heads, D)
        sizes = ((HEADS, D), (kv_heads, D), (kv_heads, D))
        self.qkv = [[torch.randn(n, *s, generator=generator) for s in sizes] for n in lengths]
        q, k, v = (torch.cat([qkv[i][:prompt] for qkv in self.qkv]) for i in range(3))
        positions = torch.arange(prompt)
        slots = torch.cat([self.slots(b, positions) for b in range(len(lengths))])
        attend = PrefillAttention([prompt] * len(lengths), self.cache, slots)
        self.outputs = [[part] for part in attend(0, q, k, v).split(prompt)]
        for position in range(prompt, max(lengths)):
            self.decode(position, [b for b, n in enumerate(lengths) if position < n])

    def slots(self, b: int, positions: Tensor) -> Tensor:
        return self.pages_BN[b, positions // BLOCK] * BLOCK + positions % BLOCK

    def decode(self, position: int, rows: list[int]) -> None:
        positions = torch.full((len(rows),), position)
        slots = torch.cat([self.slots(b, positions[:1]) for b in rows])
        blocks = self.pages_BN[rows, : position // BLOCK + 1].contiguous()
        q, k, v = (torch.stack([self.qkv[b][i][position] for b in rows]) for i in range(3))
        found = DecodeAttention(self.cache, blocks, slots, positions)(0, q, k, v)
        for row, b in enumerate(rows):
            self.outputs[b].append(found[row : row + 1])


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("prompt", [1, 15, 16, 17])
def test_prefill_and_decoding_are_full_attention(prompt: int, kv_heads: int) -> None:
    pages = Pages([40, 17, 33], prompt, kv_heads)
    for qkv, parts in zip(pages.qkv, pages.outputs, strict=True):
        torch.testing.assert_close(torch.cat(parts).double(), full_attention(*qkv), rtol=0, atol=2e-6)


def decode_one(length: int, width: int, kv_heads: int, company: int, head_dim: int = D) -> Tensor:
    """The newest token of a sequence of `length`, on `width` pages, as the first of `company` sequences."""
    generator = torch.Generator().manual_seed(length)
    cache = KeyValueCache(1, 1 + width * company, kv_heads, head_dim)
    k, v = (torch.randn(length, kv_heads, head_dim, generator=generator) for _ in range(2))
    q = torch.randn(1, HEADS, head_dim, generator=generator)
    blocks = torch.arange(1, 1 + width * company).view(company, width)
    if width * BLOCK > length:  # what earlier sequences left on the pages must not matter
        cache.entries[0].copy_(torch.randn(cache.entries[0].shape) * 10)
    positions = torch.full((company,), length - 1)
    cache.store(0, BLOCK + torch.arange(length), k, v)
    rest = torch.randn(company - 1, HEADS, head_dim)
    rest_kv = torch.randn(company - 1, kv_heads, head_dim)
    positions[1:] = torch.randint(0, width * BLOCK, (company - 1,))
    slots = blocks[torch.arange(company), positions // BLOCK] * BLOCK + positions % BLOCK
    attend = DecodeAttention(cache, blocks, slots, positions)
    new_k, new_v = torch.cat([k[-1:], rest_kv]), torch.cat([v[-1:], rest_kv])
    return attend(0, torch.cat([q, rest]), new_k, new_v)[0]


@pytest.mark.parametrize(("kv_heads", "head_dim"), [(2, 8), (6, 16), (3, 32), (1, 64)])
def test_a_longer_sequence_changes_no_bit_of_its_beginning(kv_heads: int, head_dim: int) -> None:
    """What equal log-probabilities of trainer and sampler rest on."""
    torch.manual_seed(head_dim)
    q, k, v = torch.randn(1100, HEADS, head_dim), *torch.randn(2, 1100, kv_heads, head_dim)
    whole = PackedAttention([1100])(0, q, k, v)
    for length in (3, 17, 190, 200, 256, 300, 384, 400, 511, 513, 700, 900, 1040):
        found = PackedAttention([length])(0, q[:length], k[:length], v[:length])
        assert torch.equal(found, whole[:length]), f"length {length}"


@pytest.mark.parametrize(("kv_heads", "head_dim"), [(1, 8), (3, 16), (6, 20), (3, 32), (1, 64), (3, 128)])
def test_longer_and_more_neighbours_change_no_bit(kv_heads: int, head_dim: int) -> None:
    """What equal samples under any load rest on."""
    for length in (1, 5, 16, 17, 31, 64, 100, 520):
        own = -(-length // BLOCK)
        alone = decode_one(length, own, kv_heads, 1, head_dim)
        for extra, company in ((0, 2), (0, 7), (1, 2), (2, 5), (7, 2), (33, 3)):
            found = decode_one(length, own + extra, kv_heads, company, head_dim)
            assert torch.equal(found, alone), f"length {length}, {extra} pages more, beside {company - 1}"


def test_copied_block_is_an_independent_copy() -> None:
    cache = KeyValueCache(2, 4, 1, D)
    for layer in range(2):
        cache.store(layer, torch.arange(16, 32), torch.randn(16, 1, D), torch.randn(16, 1, D))
    cache.copy_block(1, 3)
    kept = [x[3].clone() for x in cache.entries]
    assert all(torch.equal(x[3], x[1]) for x in cache.entries)
    cache.store(0, torch.tensor([17]), torch.ones(1, 1, D), torch.ones(1, 1, D))
    assert all(torch.equal(x[3], k) for x, k in zip(cache.entries, kept, strict=True))


def test_slots_are_block_times_size_plus_offset() -> None:
    cache = KeyValueCache(1, 4, 1, D)
    cache.store(0, torch.tensor([2 * BLOCK + 3]), torch.ones(1, 1, D), 2 * torch.ones(1, 1, D))
    assert np.argwhere(cache.entries[0].sum((2, 3)).numpy()).tolist() == [[2, 3]]
    assert cache.entries[0][2, 3].sum(1).tolist() == [D, 2 * D]
