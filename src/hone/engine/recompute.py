"""What a backward pass keeps in memory, and which layers compute it again instead (Chen et al. 2016).

A layer keeps either all that its backward pass needs, or its input alone, and computes the rest again when the backward
pass reaches it: the same operations on the same numbers, so on a CPU every gradient keeps its bits. It costs one more
forward pass of the layer. So as few layers as possible do it, and those are the first ones: the backward pass comes to
them last, when what the others kept is free.

How much a layer keeps is measured when a model is loaded. That holds for every architecture, kernel and data type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from hone.engine import given
from hone.engine.head import CHUNK_ELEMENTS, KEEP_ELEMENTS

Out = TypeVar("Out", bound=Tensor | tuple[Tensor, ...])

AT_WORK = 1.5
"""What the layer that is being computed takes beside what is kept, as a part of what a layer keeps; where it is
computed by the framework."""
PROBE = 32
"""Tokens of the first of two measured passes; the second has twice as many, and the difference counts."""


def computed_again(layer: Callable[..., Out], *inputs: Tensor) -> Out:
    """`layer(*inputs)`, a tensor or some; the backward pass keeps the inputs only.

    The framework's own function for this takes seconds to import.
    """
    out: Out = _ComputedAgain.apply(layer, *inputs)  # type: ignore[no-untyped-call]
    return out


class _ComputedAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Callable[..., Any], *inputs: Tensor) -> Any:
        ctx.layer = layer
        ctx.save_for_backward(*inputs)
        return layer(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            out = ctx.layer(*inputs)
        outs = out if isinstance(out, tuple) else (out,)
        used = [(o, grad) for o, grad in zip(outs, grads, strict=True) if o.requires_grad]
        given.backward([o for o, _ in used], [grad for _, grad in used])
        return None, *(x.grad for x in inputs)


@dataclass(frozen=True)
class PassMemory:
    """What forward and backward passes of one model need."""

    layers: int
    """That can be computed again."""
    most: float
    """Bytes per token that are kept if every layer keeps everything."""
    least: float
    """The same if every layer keeps its input alone."""
    vocab_size: int
    at_work: float = AT_WORK

    def bytes(self, tokens: int, recomputed: int = 0, inner: int = 0, threads: int = 1) -> int:
        """At the most, of a pass over `tokens` in all, by so many threads. `inner` are the numbers that the adapters
        add to what is kept of all tokens and layers."""
        logits = tokens * self.vocab_size
        head = 4 * (min(logits, threads * KEEP_ELEMENTS) + 2 * min(logits, threads * CHUNK_ELEMENTS))
        layer = (tokens * (self.most - self.least) + 4 * inner) / max(1, self.layers)
        # the head is at work when all layers have kept what they keep, and the layers after it
        return round(tokens * self.least + (self.layers - recomputed) * layer + max(head, self.at_work * layer))

    def recomputed(self, tokens: int, inner: int, room: int, threads: int = 1) -> int:
        """The fewest layers to compute again so that a pass needs at most `room` bytes; all of them if it needs more
        even so."""
        return next((n for n in range(self.layers) if self.bytes(tokens, n, inner, threads) <= room), self.layers)

    def most_tokens(self, room: int, threads: int = 1) -> int:
        """Of a pass that fits into `room` bytes when all layers are computed again."""
        low, high = 0, max(0, room)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.bytes(middle, self.layers, threads=threads) <= room
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


def measure(forward: Callable[[int, int], Any], layers: int, vocab_size: int, at_work: float = AT_WORK) -> PassMemory:
    """`forward` takes a number of tokens, and how many layers to compute again."""

    def per_token(recomputed: int) -> float:
        small, large = (kept_bytes(partial(forward, tokens, recomputed)) for tokens in (PROBE, 2 * PROBE))
        return (large - small) / PROBE

    return PassMemory(layers, per_token(0), per_token(layers), vocab_size, at_work)


def kept_bytes(run: Callable[[], Any]) -> int:
    """How many bytes autograd keeps for the backward pass of `run`."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # which stays, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.enable_grad():
        run()
    return sum(storage.nbytes() for storage in storages.values())
