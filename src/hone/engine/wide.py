"""Large products of one thread on several cores: each worker computes some of the rows, the columns or the heads.

For what cannot be dealt out by sequences: one long sequence, a long prompt. Any four rows and any 64 columns of a
product have the bits that they have in the whole, with a math library of one thread, and a head of attention knows
nothing of the others; `tests/unit/engine/test_wide.py` holds this against the library that is installed. So the number
of workers changes no bit. What is small stays where it is: handing work over costs some 50 microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from hone.engine.workers import Workers

LEAST_WORK = 1 << 23
"""Multiplications in a part: some 0.2 ms."""
STEP = 64
"""Rows or columns that stay together."""

_this_thread = threading.local()


@contextmanager
def helped_by(workers: Workers) -> Iterator[None]:
    """Within the block, this thread has the workers' help; it asks for it while they have nothing else to do."""
    _this_thread.workers = workers if workers.count > 1 else None
    try:
        yield
    finally:
        _this_thread.workers = None


def helps(rows: int, columns: int, inner: int) -> bool:
    """Whether a product of this size would be divided."""
    workers: Workers | None = getattr(_this_thread, "workers", None)
    return workers is not None and rows * columns * inner // LEAST_WORK > 1


def parts_of(work: int) -> int:
    """Into how many parts this many multiplications would be divided."""
    workers = _free_workers()
    return 1 if workers is None else max(1, min(workers.count, work // LEAST_WORK))


def share(work: int, size: int, step: int, task: Callable[[int, int], None]) -> None:
    """`task(start, stop)` for all of `range(size)`, divided between whole steps."""
    count = min(parts_of(work), size // step)
    if count < 2:
        task(0, size)
        return
    _this_thread.workers.help([partial(task, a, b) for a, b in pairwise(_edges(size, count, step))])


def alternate(work: int, task: Callable[[int, int], None]) -> None:
    """`task(first, step)` for every first below step, at the same time."""
    count = parts_of(work)
    if count < 2:
        task(0, 1)
        return
    _this_thread.workers.help([partial(task, first, count) for first in range(count)])


def product(x_TI: Tensor, weight_IO: Tensor, out_TO: Tensor | None = None) -> Tensor:
    """x @ weight, [T, O]; into `out_TO` if there is one."""
    workers, (rows, columns) = _helpers(x_TI), (x_TI.shape[0], weight_IO.shape[1])
    parts = 1
    if workers is not None:
        parts = min(workers.count, rows * columns * x_TI.shape[1] // LEAST_WORK, max(rows, columns) // STEP)
    if workers is None or parts < 2:
        return torch.mm(x_TI, weight_IO) if out_TO is None else torch.mm(x_TI, weight_IO, out=out_TO)
    out = x_TI.new_empty(rows, columns) if out_TO is None else out_TO
    edges = _edges(max(rows, columns), parts)
    if rows >= columns:
        tasks = [partial(torch.mm, x_TI[a:b], weight_IO, out=out[a:b]) for a, b in pairwise(edges)]
    else:
        tasks = [partial(torch.mm, x_TI, weight_IO[:, a:b], out=out[:, a:b]) for a, b in pairwise(edges)]
    _help(workers, tasks)
    return out


def by_heads(attention: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """`attention(*inputs)`, where the second axis of all inputs and outputs are heads; where there are fewer key than
    query heads, `inputs[1]` are keys."""
    queries, keys = inputs[0], inputs[1]
    workers = _helpers(queries)
    parts = 1
    if workers is not None:
        parts = min(workers.count, keys.shape[1], queries.numel() * keys.shape[2] // LEAST_WORK)
    if workers is None or parts < 2:
        return attention(*inputs)
    edges = [keys.shape[1] * part // parts for part in range(parts + 1)]
    found: list[tuple[Tensor, ...]] = [()] * parts

    def one(part: int) -> None:
        some = []
        for x in inputs:
            heads = x.shape[1] // keys.shape[1]
            some.append(x[:, edges[part] * heads : edges[part + 1] * heads])
        found[part] = attention(*some)

    _help(workers, [partial(one, part) for part in range(parts)])
    return tuple(torch.cat(x, dim=1) for x in zip(*found, strict=True))


def _helpers(x: Tensor) -> Workers | None:
    """Whoever may help with `x`."""
    return _free_workers() if x.device.type == "cpu" else None


def _free_workers() -> Workers | None:
    """Nobody where autograd watches, or the math library has threads of its own."""
    workers: Workers | None = getattr(_this_thread, "workers", None)
    return None if workers is None or torch.is_grad_enabled() or torch.get_num_threads() > 1 else workers


def _edges(size: int, parts: int, step: int = STEP) -> list[int]:
    """Of `parts` about equal parts; the last is never smaller than a step."""
    return [size // step * part // parts * step for part in range(parts)] + [size]


def _help(workers: Workers, tasks: Sequence[Callable[[], object]]) -> None:
    # the modes belong to threads, and what one makes in inference another may change in inference only
    inference = torch.is_inference_mode_enabled()

    def run(task: Callable[[], object]) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            task()

    workers.help([partial(run, task) for task in tasks])
