"""Which losses exist, what each needs and what can be set: the facts that server and engine share.

The formulas live in `hone.engine.losses`, one file each.
"""

from dataclasses import dataclass

import numpy as np

from hone.errors import UserError
from hone.protocol.model_input import text_of
from hone.protocol.types import Datum


@dataclass(frozen=True)
class LossSpec:
    """One row of the table: required inputs, and the config keys with their defaults."""

    inputs: tuple[str, ...]
    config: dict[str, float]
    multi_target: bool = False
    """Whether `target_tokens` may be [N, K]."""


_POLICY_INPUTS = ("target_tokens", "logprobs", "advantages")

LOSSES: dict[str, LossSpec] = {
    "cross_entropy": LossSpec(("target_tokens", "weights"), {}, multi_target=True),
    "importance_sampling": LossSpec(_POLICY_INPUTS, {}),
    "ppo": LossSpec(_POLICY_INPUTS, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
    "cispo": LossSpec(_POLICY_INPUTS, {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0}),
    "dro": LossSpec(_POLICY_INPUTS, {"beta": 0.05}),
    "gspo": LossSpec(
        (*_POLICY_INPUTS, "sequence_ratio_mask"), {"clip_low_threshold": 1 - 3e-4, "clip_high_threshold": 1 + 4e-4}
    ),
    "stable_reinforce": LossSpec(_POLICY_INPUTS, {"ratio_cap": 2.0, "kl_coeff": 0.0}),
}


def loss_settings(loss_fn: str, given: dict[str, float | str]) -> dict[str, float]:
    """The complete configuration of a loss: the defaults, overridden by what was `given`."""
    spec = LOSSES.get(loss_fn)
    if spec is None:
        raise UserError(f"loss_fn {loss_fn!r} is unknown; this server has {', '.join(sorted(LOSSES))}")
    settings = dict(spec.config)
    for key, value in given.items():
        if key not in spec.config:
            known = ", ".join(spec.config) or "no settings"
            raise UserError(f"loss_fn_config key {key!r} is unknown to {loss_fn!r}; it has {known}")
        if isinstance(value, str) or not np.isfinite(value):
            raise UserError(f"loss_fn_config[{key!r}] of {loss_fn!r} must be a finite number, found {value!r}")
        settings[key] = float(value)
    return settings


def check_datum(loss_fn: str, datum: Datum, index: int, vocab_size: int) -> None:
    """Raise `UserError`, naming datum and field, unless `datum` is what `loss_fn` needs."""
    spec, where = LOSSES[loss_fn], f"data[{index}]"
    for name in spec.inputs:
        if name not in datum.loss_inputs:
            found = ", ".join(sorted(datum.loss_inputs)) or "none"
            raise UserError(
                f"{where}.loss_fn_inputs lacks {name!r}; {loss_fn!r} needs {', '.join(spec.inputs)}, found {found}"
            )
    targets = check_targets(datum, where, vocab_size)
    if targets.ndim not in ((1, 2) if spec.multi_target else (1,)):
        allowed = "[N] or [N, K]" if spec.multi_target else "[N]"
        raise UserError(f"{where}.target_tokens must have shape {allowed} for {loss_fn!r}, found {list(targets.shape)}")
    for name in spec.inputs[1:]:
        values = datum.loss_inputs[name]
        if values.shape != targets.shape:
            shape, needed = list(values.shape), list(targets.shape)
            raise UserError(f"{where}.{name} has shape {shape}; it must equal that of target_tokens, {needed}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}.{name} holds a value that is not finite (NonFiniteInTensor); remove NaN and inf")


def check_targets(datum: Datum, where: str, vocab_size: int) -> np.ndarray:
    """The targets of a datum, [N] or [N, K], which every loss has: one row for each token, all in the vocabulary."""
    _check_tokens(text_of(datum.tokens, datum.images), f"{where}.model_input", vocab_size)
    if not len(datum.tokens):
        raise UserError(f"{where}.model_input is empty; a datum needs at least one token")
    targets = datum.loss_inputs.get("target_tokens")
    if targets is None or targets.ndim not in (1, 2):
        found = "nothing" if targets is None else f"shape {list(targets.shape)}"
        raise UserError(f"{where}.target_tokens must have shape [N] or [N, K], found {found}")
    if len(targets) != len(datum.tokens):
        raise UserError(
            f"{where}.target_tokens has {len(targets)} rows but model_input has {len(datum.tokens)} tokens; "
            "they must be equal, because position i of the input predicts target i"
        )
    _check_tokens(targets, f"{where}.target_tokens", vocab_size)
    return targets


def _check_tokens(tokens: np.ndarray, where: str, vocab_size: int) -> None:
    if tokens.dtype.kind != "i":
        raise UserError(f"{where} must hold integers, found {tokens.dtype}")
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocab_size):
        bad = tokens[(tokens < 0) | (tokens >= vocab_size)].flat[0]
        raise UserError(f"{where} holds token {bad}; this model's vocabulary is 0..{vocab_size - 1}")
