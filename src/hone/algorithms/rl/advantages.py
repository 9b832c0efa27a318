"""Rewards of a group to advantages of its members, and from there to training data. Legend: `_P` problems, `_G` members
of a group, `_D` data.

Every function takes total rewards `[G]` and gives advantages `[G]`; a member's advantage goes to each token it sampled,
and the service sums over tokens. A constant factor is absorbed by Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hone.algorithms.datums import PolicyDatum, policy_datums
from hone.algorithms.types import TrajectoryGroup
from hone.errors import UserError

Rewards = npt.NDArray[np.float64]

Advantage = Literal["centred", "dr_grpo", "rloo", "group_normalised", "maxrl"]


def centred(rewards_G: Rewards) -> Rewards:
    """`R - mean(R)`: the others' mean as baseline, times (G - 1) / G.

    Also what Dr. GRPO (Liu et al. 2025, arXiv 2503.20783) asks for: neither the group's standard deviation nor the
    answer's length divides, as both favour some problems and some lengths.
    """
    return rewards_G - float(rewards_G.mean())


def rloo(rewards_G: Rewards) -> Rewards:
    """`R_i` less the mean of the others: REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740)."""
    others = len(rewards_G) - 1
    return rewards_G - (rewards_G.sum() - rewards_G) / others if others else np.zeros_like(rewards_G)


def group_normalised(rewards_G: Rewards) -> Rewards:
    """`(R - mean) / std`: GRPO (Shao et al. 2024, arXiv 2402.03300), with the sample standard deviation."""
    if len(rewards_G) < 2:
        return np.zeros_like(rewards_G)
    return (rewards_G - float(rewards_G.mean())) / (float(rewards_G.std(ddof=1)) + 1e-6)


def maxrl(rewards_G: Rewards) -> Rewards:
    """`(R - mean) / mean`, 0 where nothing succeeded: MaxRL (Tajwar et al. 2026, arXiv 2602.02710).

    In expectation the gradient of log p, p the pass rate, as the first G - 1 terms of `p' sum_k (1 - p)^k`, where the
    policy gradient is that of p: problems that are rarely solved count for more. Rewards are of success, 0 or more.
    """
    if (rewards_G < 0).any():
        raise UserError(f"'maxrl' takes rewards of 0 or more; found {rewards_G.min():g}. Shift them, or use 'centred'")
    mean = float(rewards_G.mean())
    return (rewards_G - mean) / mean if mean > 0 else np.zeros_like(rewards_G)


ESTIMATORS: dict[str, Callable[[Rewards], Rewards]] = {
    "centred": centred,
    "dr_grpo": centred,
    "rloo": rloo,
    "group_normalised": group_normalised,
    "maxrl": maxrl,
}
assert set(ESTIMATORS) == set(get_args(Advantage))


def advantages(group: TrajectoryGroup, kind: Advantage) -> Rewards:
    return ESTIMATORS[kind](np.array(group.total_rewards_G(), dtype=np.float64))


def is_constant(group: TrajectoryGroup) -> bool:
    """Whether all rewards are equal, so that none is better than another; also of a group that was lost."""
    return len(set(group.total_rewards_G())) <= 1


def training_data(
    groups_P: Sequence[TrajectoryGroup], kind: Advantage, *, remove_constant: bool, provenance: bool = False
) -> list[PolicyDatum]:
    """What the groups teach, in their order. A group carries its tags, so leaving one out moves no other's.

    Data without a token to learn (every turn masked, or nothing said) are left out: they would only cost time.
    """
    data_D: list[PolicyDatum] = []
    for group in groups_P:
        if not group.trajectories_G or (remove_constant and is_constant(group)):
            continue
        for trajectory, advantage in zip(group.trajectories_G, advantages(group, kind), strict=True):
            data = policy_datums(trajectory, float(advantage), provenance=provenance)
            data_D += [item for item in data if item.mask_T.any()]
    return data_D
