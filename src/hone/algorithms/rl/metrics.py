"""What a step's episodes were like: rewards, lengths, ends, failures, under names that `tinker-cookbook` users know.

    env/all/reward/total            mean reward of an episode; also reward/std
    env/all/by_group/frac_mixed     groups whose rewards differ; frac_all_good, frac_all_bad: groups that agree
    env/all/ac_tokens_per_turn      sampled tokens; ob_tokens_per_turn, turns_per_episode, total_*
    env/all/stop/<reason>           share of episodes that ended so
    env/all/<metric>                the environment's own
    env/<tag>/...                   the same for the groups of a tag, if tags tell groups apart
    rollout_errors/<kind>           failures of this step; total, groups_skipped

Legend: `_P` problems, `_G` members of a group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from hone.algorithms.types import Metrics, Trajectory, TrajectoryGroup

GOOD = 0.5
"""A group whose rewards are all equal is good from here on."""


def episode_metrics(groups_P: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Of all groups of a step, those without differing rewards included; lost groups count as failures only."""
    kept_P = [group for group in groups_P if group.trajectories_G]
    tagged: dict[str, list[TrajectoryGroup]] = defaultdict(list)
    for group in kept_P:
        for tag in group.tags:
            tagged[tag].append(group)
    found: dict[str, float] = {}
    if any(len(groups) < len(kept_P) for groups in tagged.values()):
        for tag, groups in tagged.items():
            found |= {f"env/{tag}/{name}": value for name, value in _of(groups).items()}
    found |= {f"env/all/{name}": value for name, value in _of(kept_P).items()}
    return found | _failures(groups_P)


def _of(groups_P: Sequence[TrajectoryGroup]) -> dict[str, float]:
    trajectories = [trajectory for group in groups_P for trajectory in group.trajectories_G]
    turns = [transition for trajectory in trajectories for transition in trajectory.transitions]
    rewards = [reward for group in groups_P for reward in group.total_rewards_G()]
    sampled = sum(len(turn.action.tokens) for turn in turns)
    observed = sum(turn.observation.length for turn in turns)
    return {
        "ac_tokens_per_turn": _ratio(sampled, len(turns)),
        "ob_tokens_per_turn": _ratio(observed, len(turns)),
        "turns_per_episode": _ratio(len(turns), len(trajectories)),
        "total_episodes": len(trajectories),
        "total_turns": len(turns),
        "total_ac_tokens": sampled,
        "total_ob_tokens": observed,
        "total_cached_ob_tokens": sum(turn.action.prompt_cache_hit_tokens for turn in turns),
        "reward/total": float(np.mean(rewards)) if rewards else 0.0,
        "reward/std": float(np.std(rewards)) if rewards else 0.0,
        **environment_means(groups_P),
        **_stops(trajectories),  # of every episode, as the shares of reasons add up to 1
        **_by_group(groups_P),
    }


def environment_means(groups_P: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """The environments' own metrics, each episode counting the same.

    An episode's value is the mean over its turns, and the group's rewards, that report it. Where an environment reports
    a metric only sometimes, as "this went wrong: 1", its other episodes count as 0: the mean of such a metric is the
    share of episodes. Environments are told apart by their groups' tags; those that never report it are left out.
    """
    episodes = Counter[tuple[str, ...]]()
    sums: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for group in groups_P:
        episodes[group.tags] += len(group.trajectories_G)
        for trajectory, metrics in zip(group.trajectories_G, group.metrics_G, strict=True):
            for name, value in _episode_values(trajectory, metrics).items():
                sums[name][group.tags] += value  # type: ignore[assignment]
    return {
        name: sum(by_kind.values()) / sum(episodes[tags] for tags in by_kind) for name, by_kind in sorted(sums.items())
    }


def _episode_values(trajectory: Trajectory, group_metrics: Metrics) -> dict[str, float]:
    reported: dict[str, list[float]] = defaultdict(list)
    for metrics in (*(transition.metrics for transition in trajectory.transitions), group_metrics):
        for name, value in metrics.items():
            reported[name].append(float(value))
    return {name: sum(values) / len(values) for name, values in reported.items()}


def _stops(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    reasons = Counter(trajectory.stop_reason for trajectory in trajectories if trajectory.stop_reason)
    return {f"stop/{reason}": count / len(trajectories) for reason, count in sorted(reasons.items())}


def _by_group(groups_P: Sequence[TrajectoryGroup]) -> Mapping[str, float]:
    mixed = good = 0
    for group in groups_P:
        rewards_G = group.total_rewards_G()
        if len(set(rewards_G)) > 1:
            mixed += 1
        elif rewards_G[0] >= GOOD:
            good += 1
    return {
        "by_group/frac_mixed": _ratio(mixed, len(groups_P)),
        "by_group/frac_all_good": _ratio(good, len(groups_P)),
        "by_group/frac_all_bad": _ratio(len(groups_P) - mixed - good, len(groups_P)),
    }


def _failures(groups_P: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Nothing while nothing fails."""
    kinds = Counter(failure.kind for group in groups_P for failure in group.failures)
    lost = sum(not group.trajectories_G for group in groups_P)
    if not kinds and not lost:
        return {}
    counts = {f"rollout_errors/{kind}": float(count) for kind, count in sorted(kinds.items())}
    return counts | {"rollout_errors/total": float(kinds.total()), "rollout_errors/groups_skipped": float(lost)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
