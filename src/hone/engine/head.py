"""Log-probabilities of target tokens, and their gradient, without ever holding all `[tokens, vocab]` logits.

Every loss of the protocol is a function of these log-probabilities alone. So the head runs in two passes over chunks of
rows: forward gives them; backward takes d loss / d log-probability, recomputes the chunk's logits and forms the
gradients of hidden states and head adapter.

Legend: T rows, h hidden, V vocabulary, K targets per row, R rank.
"""

import torch
from torch import Tensor

from hone.engine import rowwise, wide
from hone.engine.lora.batch import LoraBatch
from hone.engine.lora.linear import Segment

CHUNK_ELEMENTS = 4 * 1024 * 1024
"""Logits held at once, in elements; 16 MB stays near the caches and costs nothing in speed."""
KEEP_ELEMENTS = 16 * 1024 * 1024
"""Up to here the logits of a piece are kept for the backward pass instead of computed again."""


def capped(logits_TV: Tensor, cap: float) -> Tensor:
    """Some models keep logits z between bounds, by cap tanh(z / cap); a cap of 0 leaves them as they are."""
    return torch.tanh(logits_TV / cap) * cap if cap else logits_TV


class Head:
    """The output projection of one base model, as one adapter sees it, over the rows of one sequence pack.

    `room` says how many times more logits than on a CPU may be held at once.
    """

    def __init__(self, weight_Vh: Tensor, lora: LoraBatch, cap: float = 0.0, room: int = 1) -> None:
        self._weight, self._cap, self._room = weight_Vh, cap, room
        self._lora = lora
        self._kept: list[Tensor] | None = None

    def logits(self, hidden_Th: Tensor) -> Tensor:
        """[T, V]; for callers that know T to be small."""
        return capped(self._lora.project("head", hidden_Th, self._weight), self._cap)

    def logprobs(self, hidden_Th: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities of `targets` [T] or [T, K], in the same shape."""
        out = torch.empty(targets.shape, dtype=torch.float32, device=hidden_Th.device)
        keep = hidden_Th.shape[0] * self._weight.shape[0] <= KEEP_ELEMENTS * self._room and not self._cap
        self._kept = [] if keep else None
        for rows in self._chunks(len(hidden_Th)):
            logp_TV = torch.log_softmax(self.logits(hidden_Th[rows]).float(), dim=-1)
            chosen = logp_TV.gather(1, targets[rows].view(len(logp_TV), -1))
            out[rows] = chosen.view(targets[rows].shape)
            if self._kept is not None:
                self._kept.append(logp_TV)
        return out

    def backward(self, hidden_Th: Tensor, targets: Tensor, dlogprobs: Tensor, dhidden_Th: Tensor) -> None:
        """Write d loss / d hidden into `dhidden_Th` and add the head adapter's gradients, given d loss / d
        `logprobs(...)`."""
        for i, rows in enumerate(self._chunks(len(hidden_Th))):
            hidden, goal = hidden_Th[rows], targets[rows].view(len(hidden_Th[rows]), -1)
            d_TK = dlogprobs[rows].view(goal.shape)
            logits_TV = self._kept[i] if self._kept else self.logits(hidden).float()
            logp_TV = logits_TV if self._kept else torch.log_softmax(logits_TV, dim=-1)
            # d logp[target] / d logits = onehot(target) - softmax
            dlogits_TV = logp_TV.exp_().mul_(-d_TK.sum(dim=1, keepdim=True))
            dlogits_TV.scatter_add_(1, goal, d_TK)
            if self._cap:  # nothing is kept then
                dlogits_TV.mul_(1 - (logits_TV / self._cap) ** 2)
            dlogits_TV = dlogits_TV.to(hidden.dtype)
            wide.product(dlogits_TV, self._weight, dhidden_Th[rows])
            for adapter in self._lora.segments("head"):
                _adapter_backward(adapter, hidden, dlogits_TV, dhidden_Th[rows])
        self._kept = None

    def _chunks(self, rows: int) -> list[slice]:
        size = max(1, CHUNK_ELEMENTS * self._room // self._weight.shape[0])
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _adapter_backward(adapter: Segment, hidden_Th: Tensor, dlogits_TV: Tensor, dhidden_Th: Tensor) -> None:
    a_Rh, b_VR = adapter.weights.a, adapter.weights.b[0]
    dinner_TR = dlogits_TV @ b_VR
    if adapter.gradients is not None:
        inner_TR = hidden_Th @ a_Rh.t()
        rowwise.accumulate(adapter.gradients.b[0], dlogits_TV, inner_TR, adapter.scale)
        rowwise.accumulate(adapter.gradients.a, dinner_TR, hidden_Th, adapter.scale)
    dhidden_Th.addmm_(dinner_TR, a_Rh, alpha=adapter.scale)
