"""The losses: functions of target log-probabilities, one file each, all plain sums over positions.

A loss takes `(logprobs, inputs, settings)` and returns a scalar tensor whose gradient with respect to `logprobs`
autograd finds. Which inputs and settings each has stands in `hone.protocol.losses`. Adding one means a file, a line
here and a row there.

Legend in the formulas: lp_t log-probability of the target now, q_t at sampling time, A_t advantage, r_t = exp(lp_t -
q_t), sg stop gradient.
"""

from collections.abc import Callable

from torch import Tensor

from hone.engine.losses.cispo import cispo
from hone.engine.losses.cross_entropy import cross_entropy
from hone.engine.losses.dro import dro
from hone.engine.losses.gspo import gspo
from hone.engine.losses.importance_sampling import importance_sampling
from hone.engine.losses.inputs import LossInputs
from hone.engine.losses.ppo import ppo
from hone.engine.losses.stable_reinforce import stable_reinforce
from hone.engine.losses.value import LossValue

Loss = Callable[[Tensor, LossInputs, dict[str, float]], Tensor]

LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "importance_sampling": importance_sampling,
    "ppo": ppo,
    "cispo": cispo,
    "dro": dro,
    "gspo": gspo,
    "stable_reinforce": stable_reinforce,
}


def evaluate(
    name: str, logprobs: Tensor, inputs: LossInputs, settings: dict[str, float], want_gradient: bool
) -> LossValue:
    """The loss `name` and, if wanted, its gradient (else zeros), for log-probabilities [T] or [T, K]."""
    leaf = logprobs.detach().requires_grad_(want_gradient)
    loss = LOSSES[name](leaf, inputs, settings)
    if want_gradient:
        loss.backward()
    return LossValue(float(loss.detach()), leaf.grad if leaf.grad is not None else logprobs.new_zeros(logprobs.shape))
