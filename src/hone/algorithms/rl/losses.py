"""The losses a policy can be trained with: their settings, and what each needs beside tokens, log-probabilities and
advantages.

The service computes them; all are plain sums over tokens. With `lp` the log-probability now, `q` when sampled,
`r = exp(lp - q)` and `A` the advantage of a token:
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import tinker
from pydantic import Field

from hone.algorithms.config import Config
from hone.algorithms.datums import PolicyDatum
from hone.errors import UserError


class PolicyLoss(Config):
    """What the losses share. A setting of `None` is left to the service."""

    @property
    def settings(self) -> dict[str, float]:
        """What is sent as `loss_fn_config`."""
        return self.model_dump(exclude={"type"}, exclude_none=True)

    @property
    def needs_provenance(self) -> bool:
        """Whether samplers must record, and data name, which sequence each token came from."""
        return False

    def prepare(self, data_D: Sequence[PolicyDatum]) -> list[tinker.Datum]:
        """The data with the inputs of this loss."""
        return [item.datum for item in data_D]


class ImportanceSampling(PolicyLoss):
    """`-r A`: the policy gradient, unbiased while sampler and trainer are near each other."""

    type: Literal["importance_sampling"] = "importance_sampling"


class Ppo(PolicyLoss):
    """`-min(r A, clip(r) A)`: no reward for moving a token further than the clip (Schulman et al. 2017, arXiv
    1707.06347). The thresholds bound the ratio itself."""

    type: Literal["ppo"] = "ppo"
    clip_low_threshold: float = 0.8
    clip_high_threshold: float = 1.2


class Cispo(PolicyLoss):
    """`-sg(clip(r)) lp A`: every token keeps a gradient, with a bounded weight (MiniMax-M1, 2025, arXiv 2506.13585)."""

    type: Literal["cispo"] = "cispo"
    clip_low_threshold: float = 0.0
    clip_high_threshold: float = 4.0


class Dro(PolicyLoss):
    """`-(lp A - beta/2 (lp - q)^2)`: pulled back by a square (Richemond et al. 2024, arXiv 2405.19107)."""

    type: Literal["dro"] = "dro"
    beta: float = 0.05


class Gspo(PolicyLoss):
    """PPO's clip on one ratio per sequence, the geometric mean over its sampled tokens (Zheng et al. 2025, arXiv
    2507.18071). A sequence is a datum: an episode whose history was rewritten has several."""

    type: Literal["gspo"] = "gspo"
    clip_low_threshold: float = 1 - 3e-4
    clip_high_threshold: float = 1 + 4e-4

    def prepare(self, data_D: Sequence[PolicyDatum]) -> list[tinker.Datum]:
        return [
            tinker.Datum(
                model_input=item.datum.model_input,
                loss_fn_inputs={
                    **item.datum.loss_fn_inputs,
                    "sequence_ratio_mask": tinker.TensorData.from_numpy(item.mask_T),
                },
            )
            for item in data_D
        ]


class StableReinforce(PolicyLoss):
    """For samples of older weights or another sampler. Its formula belongs to the hosted service; servers of others
    compute a substitute. It needs to know which sampling request every token came from."""

    type: Literal["stable_reinforce"] = "stable_reinforce"
    kl_coeff: float | None = None

    @property
    def needs_provenance(self) -> bool:
        return True

    def prepare(self, data_D: Sequence[PolicyDatum]) -> list[tinker.Datum]:
        for item in data_D:
            if item.datum.loss_fn_input_spans is None:
                raise UserError(
                    "the loss 'stable_reinforce' needs to know where each token was sampled, and a datum does not say; "
                    "every action needs the `sequence_id` that the service gave it, or choose the loss 'cispo'"
                )
        return [item.datum for item in data_D]


Loss = Annotated[
    ImportanceSampling | Ppo | Cispo | Dro | Gspo | StableReinforce,
    Field(discriminator="type"),
]
