"""What evaluating a loss gives."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LossValue:
    """The loss of a piece, and its gradient with respect to the log-probabilities."""

    value: float
    dlogprobs: Tensor
    metrics: dict[str, float] = field(default_factory=dict)
    """Sums over the piece's data; custom losses have them."""
