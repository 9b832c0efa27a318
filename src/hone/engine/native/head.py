"""The head of a training pass in C: `hone.engine.head.Head` with the same bits in its log-probabilities; see `head.c`.

The backward pass has sums of its own, and rows without a gradient, those of a prompt say, cost nothing there.

Legend: T rows, h hidden, V vocabulary, K targets per row, R rank.
"""

from __future__ import annotations

import ctypes
from functools import partial

import torch
from torch import Tensor

from hone.engine import wide
from hone.engine.head import CHUNK_ELEMENTS, KEEP_ELEMENTS
from hone.engine.lora.linear import Segment
from hone.engine.native.library import HeadPart, HeadPass, Projection, library
from hone.engine.native.matrices import order_of, packed_base, scales_weight, whole_panels

STEP = 8
"""Rows that stay together: as many as are multiplied at a time. A chunk of a large vocabulary has few."""
PACK, FORWARD, BACKWARD, GRADIENTS = range(4)
"""The stages, as in `head.c`."""


class NativeHead:
    """The output projection of one base model, as one adapter sees it, over the rows of one sequence pack."""

    @classmethod
    def of(cls, weight_Vh: Tensor, segment: Segment | None) -> NativeHead | None:
        """None if it cannot multiply with this adapter, which has all rows."""
        if segment is not None:
            a_Rh, b_VR = segment.weights.a, segment.weights.b[0]
            if order_of(*a_Rh.shape) is None or not scales_weight(*b_VR.shape):
                return None
        return cls(weight_Vh, segment)

    def __init__(self, weight_Vh: Tensor, segment: Segment | None) -> None:
        found = library()
        assert found is not None
        packed = packed_base(weight_Vh)
        self._library, self._held = found, (weight_Vh, packed, segment)
        self._vocabulary, self._hidden = weight_Vh.shape
        self._base = Projection(packed.matrix, weight_Vh.data_ptr())
        self._part, self._rank = HeadPart(), 0
        if segment is not None:
            self._rank, order = len(segment.weights.a), order_of(*segment.weights.a.shape)
            own = (segment.weights.a.data_ptr(), segment.weights.b[0].data_ptr())
            grads = (segment.gradients.a.data_ptr(), segment.gradients.b[0].data_ptr()) if segment.gradients else ()
            self._part = HeadPart(self._rank, order, segment.scale, *own, *grads)
        self._packed = torch.empty(found.hone_head_packed(self._rank, self._hidden, self._vocabulary))
        whole = HeadPass(0, self._hidden, self._vocabulary, 1, self._base, self._part, packed=self._packed.data_ptr())
        self._run(whole, PACK, 0, 0)
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def logprobs(self, hidden_Th: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities of `targets` [T] or [T, K], in the same shape."""
        out, rows = torch.empty(targets.shape), len(hidden_Th)
        self._kept = [] if rows * self._vocabulary <= KEEP_ELEMENTS else None
        made = None
        for chunk in self._chunks(rows):
            x_Th, goals, some = hidden_Th[chunk], targets[chunk], out[chunk]
            # what is not kept is written over by the next chunk, which is no longer
            made = self._made(len(x_Th)) if made is None or self._kept is not None else made
            head = self._pass(x_Th, goals, made, logprobs=some.data_ptr())
            self._share(head, FORWARD)
            if self._kept is not None:
                self._kept.append(made)
        return out

    def backward(self, hidden_Th: Tensor, targets: Tensor, dlogprobs: Tensor, dhidden_Th: Tensor) -> None:
        """Write d loss / d hidden into `dhidden_Th` and add the head adapter's gradients, given d loss / d
        `logprobs(...)`."""
        dlogprobs = dlogprobs.contiguous()
        made = None
        for i, chunk in enumerate(self._chunks(len(hidden_Th))):
            x_Th, goals, some, dx_Th = hidden_Th[chunk], targets[chunk], dlogprobs[chunk], dhidden_Th[chunk]
            if self._kept is not None:
                made = self._kept[i]
            elif made is None:
                made = self._made(len(x_Th))
            kept = int(self._kept is not None)
            head = self._pass(x_Th, goals, made, dlogprobs=some.data_ptr(), dx=dx_Th.data_ptr(), kept=kept)
            self._share(head, BACKWARD)
            if self._part.da:
                self._run(head, GRADIENTS, 0, 0)
        self._kept = None

    def _made(self, rows: int) -> tuple[Tensor, Tensor]:
        """The logits, and what the adapter makes of the rows, forward and backward."""
        return torch.empty(rows, whole_panels(self._vocabulary)), torch.empty(2, rows, whole_panels(self._rank))

    def _pass(self, x_Th: Tensor, goals: Tensor, made: tuple[Tensor, Tensor], **more: int) -> HeadPass:
        assert x_Th.is_contiguous()
        assert goals.is_contiguous()
        logits_TV, inner_2TR = made
        return HeadPass(
            len(x_Th),
            self._hidden,
            self._vocabulary,
            goals.numel() // len(x_Th),
            self._base,
            self._part,
            x=x_Th.data_ptr(),
            goals=goals.data_ptr(),
            logits=logits_TV.data_ptr(),
            inner=inner_2TR[0].data_ptr(),
            dinner=inner_2TR[1].data_ptr(),
            packed=self._packed.data_ptr(),
            **more,
        )

    def _share(self, head: HeadPass, stage: int) -> None:
        work = head.rows * self._vocabulary * self._hidden
        wide.share(work, head.rows, STEP, partial(self._run, head, stage))

    def _run(self, head: HeadPass, stage: int, first: int, last: int) -> None:
        size = self._rank * whole_panels(self._vocabulary) if stage == GRADIENTS else 0
        scratch = torch.empty(size)
        self._library.hone_head(ctypes.byref(head), stage, first, last, scratch.data_ptr())

    def _chunks(self, rows: int) -> list[slice]:
        size = max(1, CHUNK_ELEMENTS // self._vocabulary)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
