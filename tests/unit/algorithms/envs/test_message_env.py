"""From messages to tokens: what was sampled is kept, limits end an episode, and rewards are what they should be."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import tinker
from transformers import AutoTokenizer

import hone
from hone.algorithms.datums import policy_datums
from hone.algorithms.envs.built_in import ENVIRONMENTS
from hone.algorithms.envs.guess_number import GuessNumber
from hone.algorithms.envs.message_env import Checkable, Dialogue, GroupBuilder, TokenEnv, TokenLimits
from hone.algorithms.envs.problems import ProblemEnv
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Task
from hone.algorithms.messages import Message, ToolSpec
from hone.algorithms.renderers import Renderer, get_renderer
from hone.algorithms.types import Observation, PromptTooLong, SampledTokens, StepResult, Trajectory, Transition
from tests.support.chatml import END, ByteChatMl

RENDERER = ByteChatMl()


def sampled(renderer: Renderer, messages: list[Message], answer: Message, tools: Sequence[ToolSpec]) -> list[int]:
    """The tokens with which a model says `answer`: what a training example has after the prompt."""
    if isinstance(renderer, ByteChatMl):
        return renderer.answer_tokens(answer)
    prompt = renderer.build_generation_prompt(messages, tools=tools)
    example = renderer.build_supervised_example([*messages, answer], tools=tools).model_input
    return example.to_ints()[prompt.length :]


async def rollout(renderer: Renderer, inner: Checkable) -> Trajectory:
    env = TokenEnv(renderer, inner)
    found = await env.initial_observation()
    assert isinstance(found, Observation)
    prompt, transitions = found.prompt, []
    while True:
        assert isinstance(inner, Dialogue)
        tokens = sampled(renderer, inner.messages, await inner.gold_reply(), inner.tools)
        step = await env.step(tokens)
        action = SampledTokens(tokens, [-1.0] * len(tokens), "stop")
        transitions.append(Transition(prompt, action, step.reward, step.metrics, step.logs))
        prompt = step.next_observation
        if step.episode_done:
            return Trajectory(transitions, prompt)


@pytest.fixture(scope="module")
def tiny() -> Renderer:
    """The embedded model's own format."""
    folder = Path(hone.__file__).parent / "assets" / "tiny"
    return get_renderer("qwen3_instruct", AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("own", [True, False])
def test_every_environment_runs_in_tokens_and_is_one_datum(name: str, own: bool, tiny: Renderer) -> None:
    inner = ENVIRONMENTS[name].make(3)
    trajectory = asyncio.run(rollout(RENDERER if own else tiny, inner))
    total = sum(transition.reward for transition in trajectory.transitions)
    assert total == pytest.approx(inner.best_return)
    assert len(policy_datums(trajectory, 1.0)) == 1


def test_what_was_sampled_is_kept_where_rendering_it_again_would_change_it() -> None:
    """Bytes that are no text come back as replacement characters; the next prompt has the bytes."""
    env = TokenEnv(RENDERER, GuessNumber(1))
    first = asyncio.run(env.initial_observation())
    assert isinstance(first, Observation)
    sampled = [0xFF, *b"50", END]
    step = asyncio.run(env.step(sampled))
    assert step.next_observation.to_ints()[: first.prompt.length + len(sampled)] == first.prompt.to_ints() + sampled
    tail = step.next_observation.to_ints()[first.prompt.length + len(sampled) :]
    assert bytes(token for token in tail if token < 256) == b"\nuser\nHigher.\nassistant\n"


class Forgetful(ByteChatMl):
    has_extension_property = False


def test_a_format_that_rewrites_its_history_is_rendered_anew() -> None:
    env = TokenEnv(Forgetful(), GuessNumber(1))
    asyncio.run(env.initial_observation())
    step = asyncio.run(env.step([0xFF, *b"50", END]))
    assert 0xFF not in step.next_observation.to_ints()


def problem() -> ProblemEnv:
    return ProblemEnv(Task("1 + 1?", "2"), Exact(), check_format=lambda text: not text.startswith(" "))


async def answered(tokens: list[int], stop_reason: str = "stop") -> StepResult:
    env = TokenEnv(RENDERER, problem())
    await env.initial_observation()
    return await env.step(tokens, extra={"stop_reason": stop_reason})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("text", "reward", "correct", "well_formed"),
    [("2", 1.0, 1.0, 1.0), ("3", 0.0, 0.0, 1.0), (" 2", 0.9, 1.0, 0.0), (" 3", -0.1, 0.0, 0.0)],
)
def test_a_problem_rewards_answer_and_form(text: str, reward: float, correct: float, well_formed: float) -> None:
    step = asyncio.run(answered([*text.encode(), END]))
    assert step.reward == pytest.approx(reward)
    assert step.episode_done
    assert step.metrics["correct"] == correct
    assert step.metrics["format"] == well_formed


@pytest.mark.parametrize(("stop_reason", "why"), [("stop", "parse_error"), ("length", "max_tokens")])
def test_an_answer_that_did_not_end_has_the_wrong_form(stop_reason: str, why: str) -> None:
    step = asyncio.run(answered([*b"2"], stop_reason))
    assert step.reward == pytest.approx(0.9)
    assert step.metrics[f"stop/{why}"] == 1.0


def test_elsewhere_it_costs_what_the_limits_say() -> None:
    async def ended(tokens: list[int], stop_reason: str) -> StepResult:
        env = TokenEnv(RENDERER, GuessNumber(1))
        await env.initial_observation()
        return await env.step(tokens, extra={"stop_reason": stop_reason})  # type: ignore[typeddict-item]

    assert asyncio.run(ended([*b"50"], "stop")).reward == -1.0
    assert asyncio.run(ended([*b"50", END, END], "stop")).metrics["parse_error"] == 1.0
    assert asyncio.run(ended([*b"50"], "length")).reward == -0.1


def test_a_conversation_without_room_for_an_answer_ends() -> None:
    async def play() -> StepResult:
        env = TokenEnv(RENDERER, GuessNumber(1), TokenLimits(max_trajectory_tokens=130, max_generation_tokens=10))
        assert isinstance(await env.initial_observation(), Observation)
        for guess in (0, 1, 2, 3):
            step = await env.step([*str(guess).encode(), END])
            if step.episode_done:
                return step
        raise AssertionError("it did not end")

    step = asyncio.run(play())
    assert step.metrics["stop/context_overflow"] == 1.0
    assert step.reward == -0.1


def test_a_prompt_that_is_too_long_is_never_sampled() -> None:
    env = TokenEnv(RENDERER, problem(), TokenLimits(max_trajectory_tokens=30, max_generation_tokens=10))
    found = asyncio.run(env.initial_observation())
    assert isinstance(found, PromptTooLong)
    assert found.reward == -0.1
    assert "max_trajectory_tokens=30" in str(found.logs["prompt_too_long"])


def test_a_group_starts_from_one_state() -> None:
    builder = GroupBuilder(lambda: ENVIRONMENTS["guess_number"].make(7), RENDERER, group_size=3, tags=("guess",))

    async def prompts() -> list[tinker.ModelInput]:
        found = [await env.initial_observation() for env in await builder.make_envs()]
        return [one.prompt for one in found if isinstance(one, Observation)]

    first, second, third = asyncio.run(prompts())
    assert first.to_ints() == second.to_ints() == third.to_ints()
    assert builder.logging_tags() == ["guess"]


def test_random_replies_are_well_formed() -> None:
    """A random player of the self check is understood: it loses by what it says, not by how."""
    for name in ("guess_number", "tic_tac_toe", "twenty_questions"):
        env = ENVIRONMENTS[name].make(0)
        asyncio.run(env.initial_observation())
        step = asyncio.run(env.step(env.random_reply(random.Random(0))))
        assert "illegal" not in step.metrics
