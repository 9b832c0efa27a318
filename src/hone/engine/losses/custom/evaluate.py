"""The value and gradient of a custom loss, datum by datum: so they depend on nothing beside it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hone.engine.losses.custom.graph import rebuild
from hone.engine.losses.value import LossValue
from hone.errors import UserError
from hone.protocol.losses import check_targets
from hone.protocol.types import CustomLoss, Datum


def evaluate_custom(loss: CustomLoss, logprobs: Tensor, data: Sequence[Datum], want_gradient: bool) -> LossValue:
    """The sum over `data`, whose log-probabilities [T] or [T, K] follow each other, and sums of the metrics."""
    graph = rebuild(loss)
    total, sums = 0.0, dict.fromkeys(graph.metrics, 0.0)
    gradient = logprobs.new_zeros(logprobs.shape)
    start = 0
    for datum in data:
        rows = slice(start, start + len(datum.tokens))
        start = rows.stop
        leaf = logprobs[rows].detach().clone().requires_grad_(want_gradient)
        inputs = [_tensor(datum.loss_inputs[name], rank) for name, rank in loss.inputs[1:]]
        with torch.set_grad_enabled(want_gradient):
            value, metrics = graph.run([leaf, *inputs])
        if want_gradient and value.requires_grad:
            (gradient[rows],) = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)
        total += float(value.detach())
        for key, metric in metrics.items():
            sums[key] += float(metric.detach())
    return LossValue(total, gradient, sums)


def check_custom_datum(loss: CustomLoss, datum: Datum, index: int, vocab_size: int) -> None:
    """Raise `UserError`, naming datum and field, unless `datum` has what the loss takes, in the ranks it declared."""
    where = f"data[{index}]"
    check_targets(datum, where, vocab_size)
    for name, rank in (("target_tokens", loss.inputs[0][1]), *loss.inputs[1:]):
        if name not in datum.loss_inputs:
            raise UserError(f"{where}.loss_fn_inputs lacks {name!r}, which custom loss {loss.name!r} takes")
        values = datum.loss_inputs[name]
        if values.ndim != rank and not (rank == 0 and values.size == 1):
            raise UserError(f"{where}.{name} has rank {values.ndim}; custom loss {loss.name!r} declared rank {rank}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{where}.{name} holds a value that is not finite (NonFiniteInTensor); remove NaN and inf")


def _tensor(values: np.ndarray, rank: int) -> Tensor:
    tensor = torch.from_numpy(np.array(values))  # a copy: what came over the wire is read-only
    return tensor.reshape(()) if rank == 0 else tensor
