"""Environments cross between tinker-cookbook and here, in both directions, and are rewarded the same."""

import asyncio
from typing import Any

import pytest
import tinker

from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.cookbook import BuilderFromCookbook, BuilderToCookbook, FromCookbook, to_cookbook
from hone.algorithms.envs.message_env import GroupBuilder, TokenEnv, TokenLimits
from hone.algorithms.types import EnvGroupBuilder, Observation, PromptTooLong, SampledTokens, Trajectory, Transition
from tests.support.chatml import END, ByteChatMl

theirs = pytest.importorskip("tinker_cookbook.rl.types")
RENDERER = ByteChatMl()


class TheirEnv(theirs.Env):  # type: ignore[misc, name-defined]
    """Says `n`, wants `n + 1`, twice."""

    def __init__(self, number: int, too_long: bool = False) -> None:
        self.number, self.too_long, self.turns = number, too_long, 0

    async def initial_observation(self) -> Any:
        if self.too_long:
            return theirs.InitialObservationOverflow(-0.5, {"stop/max_tokens": 1.0}, {"why": "long"})
        return tinker.ModelInput.from_ints([self.number]), [END]

    async def step(self, action: list[int], *, extra: Any = None) -> Any:
        right = action[0] == self.number + 1
        self.turns += 1
        return theirs.StepResult(
            reward=float(right),
            episode_done=self.turns == 2,
            next_observation=tinker.ModelInput.from_ints([self.number, *action]),
            next_stop_condition=[END],
            metrics={"right": float(right)},
        )


class TheirBuilder(theirs.EnvGroupBuilder):  # type: ignore[misc, name-defined]
    cleaned = False

    async def make_envs(self) -> list[TheirEnv]:
        return [TheirEnv(5), TheirEnv(6)]

    async def compute_group_rewards(self, trajectory_group: list[Any], env_group: Any) -> list[tuple[float, Any]]:
        assert [env.number for env in env_group] == [5, 6]
        return [
            (float(sum(len(t.ac.tokens) for t in one.transitions)), {"last": one.transitions[-1].episode_done})
            for one in trajectory_group
        ]

    async def cleanup(self) -> None:
        self.cleaned = True

    def logging_tags(self) -> list[str]:
        return ["count"]


async def rollout(env: Any, actions: list[list[int]]) -> Trajectory:
    prompt, _ = await env.initial_observation()
    transitions = []
    for action in actions:
        step = await env.step(action)
        transitions.append(
            Transition(prompt, SampledTokens(action, [-1.0] * len(action), "stop"), step.reward, step.metrics)
        )
        prompt = step.next_observation
    assert step.episode_done
    return Trajectory(transitions, prompt)


def test_one_of_theirs_runs_here() -> None:
    trajectory = asyncio.run(rollout(FromCookbook(TheirEnv(5)), [[6, END], [9, END]]))
    assert [transition.reward for transition in trajectory.transitions] == [1.0, 0.0]
    assert trajectory.transitions[0].metrics == {"right": 1.0}
    assert trajectory.transitions[1].observation.to_ints() == [5, 6, END]


def test_a_prompt_that_is_too_long_stays_one() -> None:
    found = asyncio.run(FromCookbook(TheirEnv(5, too_long=True)).initial_observation())
    assert found == PromptTooLong(-0.5, {"stop/max_tokens": 1.0}, {"why": "long"})
    env = TokenEnv(RENDERER, ENVIRONMENTS["guess_number"].make(0), TokenLimits(max_trajectory_tokens=5))
    back = asyncio.run(to_cookbook(env).initial_observation())
    assert isinstance(back, theirs.InitialObservationOverflow)
    assert back.reward == -0.1


def test_a_builder_of_theirs_runs_here_with_its_group_rewards() -> None:
    async def run() -> Any:
        inner = TheirBuilder()
        builder = BuilderFromCookbook(inner)
        envs = await builder.make_envs()
        trajectories = [await rollout(env, [[6, END], [9, END]]) for env in envs]
        rewards = await builder.compute_group_rewards(trajectories, envs)
        await builder.cleanup()
        return rewards, builder.logging_tags(), inner.cleaned

    assert asyncio.run(run()) == ([(4.0, {"last": True}), (4.0, {"last": True})], ["count"], True)


def test_their_loop_runs_ours_to_the_best_return() -> None:
    completers = pytest.importorskip("tinker_cookbook.completers")
    rollouts = pytest.importorskip("tinker_cookbook.rl.rollouts")

    for name in ("guess_number", "calculator", "subtract_two_digit"):
        inner = ENVIRONMENTS[name].make(3)

        class Gold(completers.TokenCompleter):  # type: ignore[misc, name-defined]
            async def __call__(self, model_input: Any, stop: Any, *, max_tokens: int | None = None) -> Any:
                assert stop == [END]
                tokens = RENDERER.answer_tokens(await inner.gold_reply())  # noqa: B023 - used within the loop's turn
                return completers.TokensWithLogprobs(tokens, [-1.0] * len(tokens))

        env = to_cookbook(TokenEnv(RENDERER, inner))
        assert isinstance(env, theirs.Env)
        trajectory = asyncio.run(rollouts.do_single_rollout(Gold(), env))
        assert sum(transition.reward for transition in trajectory.transitions) == pytest.approx(1.0)


def test_a_builder_of_ours_runs_there() -> None:
    class Compared(GroupBuilder):
        async def compute_group_rewards(self, trajectory_group: Any, env_group: Any) -> Any:
            assert all(isinstance(one, Trajectory) for one in trajectory_group)
            assert all(isinstance(env, TokenEnv) for env in env_group)
            return [(float(len(one.transitions)), {}) for one in trajectory_group]

    async def run() -> Any:
        builder = to_cookbook(Compared(lambda: ENVIRONMENTS["guess_number"].make(0), RENDERER, 2, ("guess",)))
        assert isinstance(builder, BuilderToCookbook)
        assert isinstance(builder, theirs.EnvGroupBuilder)
        envs = await builder.make_envs()
        assert len(envs) == 2
        tokens = SampledTokens([*b"5", END], [-1.0, -1.0], "stop")
        completers = pytest.importorskip("tinker_cookbook.completers")
        said = completers.TokensWithLogprobs(tokens.tokens, tokens.logprobs)
        one = theirs.Transition(tinker.ModelInput.empty(), said, 0.0, True)
        group = [
            theirs.Trajectory([one], tinker.ModelInput.empty()),
            theirs.Trajectory([one, one], tinker.ModelInput.empty()),
        ]
        await builder.cleanup()
        return await builder.compute_group_rewards(group, envs), builder.logging_tags()

    assert asyncio.run(run()) == ([(1.0, {}), (2.0, {})], ["guess"])


def test_the_shapes_are_the_same() -> None:
    """Observations are pairs there and here."""
    assert isinstance(Observation(tinker.ModelInput.empty(), [END]), tuple)
    assert issubclass(BuilderFromCookbook, EnvGroupBuilder)
