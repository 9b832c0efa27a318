"""Groups of one-turn episodes with given rewards."""

import tinker

from hone.algorithms.types import SampledTokens, Trajectory, TrajectoryGroup, Transition


def group(*rewards: float, tags: tuple[str, ...] = ()) -> TrajectoryGroup:
    def trajectory(index: int, reward: float) -> Trajectory:
        said = SampledTokens([10 + index % 20, 11], [-0.5, -0.25], "stop", f"s{index}")
        prompt = tinker.ModelInput.from_ints([1, 2])
        return Trajectory([Transition(prompt, said, reward)], tinker.ModelInput.empty())

    trajectories = [trajectory(index, reward) for index, reward in enumerate(rewards)]
    return TrajectoryGroup(trajectories, [0.0] * len(rewards), [{} for _ in rewards], tags)
