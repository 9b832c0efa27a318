"""The attention kernel against plain attention in float64, and against itself in other company."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hone.engine.attention import BLOCK
from tests.unit.engine.material import relative_error

pytest.importorskip("triton")
from hone.engine.backends.kernels import attention as kernel

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = [(4, 2, 20), (4, 4, 64), (8, 1, 16), (3, 1, 32)]


def reference(q_RHd: Tensor, k_SKd: Tensor, v_SKd: Tensor) -> Tensor:
    """Of the last R of S positions, in float64, [R, H*d]."""
    rows, heads, d = q_RHd.shape
    q, k, v = q_RHd.double(), *(x.double().repeat_interleave(heads // x.shape[1], 1) for x in (k_SKd, v_SKd))
    scores = torch.einsum("rhd,shd->hrs", q, k) / math.sqrt(d)
    hidden = torch.ones(rows, len(k), dtype=torch.bool, device=q.device).triu(len(k) - rows + 1)
    return torch.einsum("hrs,shd->rhd", scores.masked_fill(hidden, -math.inf).softmax(-1), v).flatten(1)


def borders(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=device)


def ints(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)


class Paged:
    """Sequences of given lengths, whose last rows ask; their pages lie in a random order."""

    def __init__(
        self,
        lengths: Sequence[int],
        rows: Sequence[int],
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        heads, kv_heads, d = shape
        torch.manual_seed(len(lengths))
        pages = [-(-n // BLOCK) for n in lengths]
        order = (torch.randperm(sum(pages)) + 1).tolist()
        entries = torch.full(((sum(pages) + 1) * BLOCK, 2 * kv_heads, d), math.nan)
        entries[:BLOCK] = 0
        tables = torch.zeros(len(lengths), max(pages) + 2, dtype=torch.int32)
        self.q = torch.randn(sum(rows), heads, d).to(device, dtype)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for i, n in enumerate(lengths):
            mine = [order.pop() for _ in range(pages[i])]
            tables[i, : len(mine)] = torch.tensor(mine)
            slots = (torch.tensor(mine)[:, None] * BLOCK + torch.arange(BLOCK)).flatten()[:n]
            both = torch.randn(n, 2 * kv_heads, d).to(dtype)
            entries[slots] = both.float()
            self.keys.append(both[:, :kv_heads].to(device))
            self.values.append(both[:, kv_heads:].to(device))
        self.k, self.v = entries.to(device, dtype).chunk(2, dim=1)
        self.tables = tables.to(device)
        self.borders, self.rows = borders(rows, device), rows
        self.cached = ints([n - r for n, r in zip(lengths, rows, strict=True)], device)

    def run(self, most_keys: int = 0) -> Tensor:
        arguments = (self.q, self.k, self.v, self.borders, self.cached, self.tables, max(self.rows), BLOCK, most_keys)
        return kernel.attend(*arguments)

    def wanted(self) -> Tensor:
        each = zip(self.q.split(list(self.rows)), self.keys, self.values, strict=True)
        return torch.cat([reference(q, k, v) for q, k, v in each])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoding_from_pages(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
    paged = Paged((1, 16, 17, 130), (1, 1, 1, 1), shape, dtype, device)
    assert relative_error(paged.run(), paged.wanted()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_decoding_in_runs(dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SPLIT", 64)
    lengths = (1, 64, 65, 190, 128)
    paged = Paged(lengths, (1,) * len(lengths), (4, 2, 20), dtype, device)
    found = paged.run(most_keys=300)
    assert relative_error(found, paged.wanted()) < TOLERANCE[dtype]
    for i, length in enumerate(lengths):  # in other company, and with more runs at hand
        other = torch.tensor([i], device=device)
        alone = kernel.attend(
            paged.q[i : i + 1],
            paged.k,
            paged.v,
            ints([0, 1], device),
            paged.cached[other],
            paged.tables[other],
            1,
            BLOCK,
            max(length, 65) + 64 * i,
        )
        assert torch.equal(alone[0], found[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_continued_prompts_from_pages(dtype: torch.dtype, device: torch.device) -> None:
    paged = Paged((33, 20, 70), (17, 20, 1), (4, 2, 20), dtype, device)
    assert relative_error(paged.run(), paged.wanted()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed_rows_and_the_same_positions_one_by_one(dtype: torch.dtype, device: torch.device) -> None:
    torch.manual_seed(1)
    lengths, (heads, kv_heads, d) = (5, 81, 1, 30), (4, 2, 20)
    q, k, v = (torch.randn(sum(lengths), x, d).to(device, dtype) for x in (heads, kv_heads, kv_heads))
    found = kernel.attend(q, k, v, borders(lengths, device), ints([0] * 4, device), None, max(lengths))
    each = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    assert relative_error(found, torch.cat([reference(*one) for one in each])) < TOLERANCE[dtype]

    # the same from a cache: training and decoding agree to the bit
    slots = torch.arange(BLOCK, BLOCK + 81, device=device)
    entries = torch.zeros(8 * BLOCK, 2 * kv_heads, d, dtype=dtype, device=device)
    entries[slots] = torch.cat([k, v], dim=1)[5:86]
    tables = torch.arange(1, 8, dtype=torch.int32, device=device)[None]
    for position in (0, 15, 16, 63, 64, 80):
        one = q[5 + position : 6 + position]
        pages = entries.chunk(2, dim=1)
        decoded = kernel.attend(one, *pages, ints([0, 1], device), ints([position], device), tables, 1, BLOCK)
        assert torch.equal(decoded[0], found[5 + position])
