"""Games: rules, self-play between environments that wait for each other, and what happens when one of them fails."""

import asyncio

import pytest

from hone.algorithms.envs.games import MatchAbandoned, SelfPlay
from hone.algorithms.envs.guess_number import GuessNumber
from hone.algorithms.envs.memory import Memory
from hone.algorithms.envs.message_env import said
from hone.algorithms.envs.tic_tac_toe import TicTacToe, tic_tac_toe_env, value
from hone.algorithms.envs.twenty_questions import WORDS, ByModel, TwentyQuestions, known_question, read_words
from hone.algorithms.types import Env, Observation, StepResult
from hone.errors import UserError
from tests.support.chatml import END, ByteChatMl

RENDERER = ByteChatMl()


def tokens(text: str) -> list[int]:
    return [*text.encode(), END]


async def player(env: Env, moves: list[str]) -> StepResult:
    assert isinstance(await env.initial_observation(), Observation)
    for move in moves:
        step = await env.step(tokens(move))
        if step.episode_done:
            return step
    raise AssertionError("the game went on")


async def match(first: list[str], second: list[str]) -> list[StepResult]:
    envs = await SelfPlay(TicTacToe, RENDERER, turn_timeout_seconds=20).make_envs()
    return await asyncio.gather(*(player(env, moves) for env, moves in zip(envs, (first, second), strict=True)))


def test_the_winner_of_self_play_is_paid_by_the_loser() -> None:
    won, lost = asyncio.run(match(["1", "2", "3"], ["4", "5", "6"]))
    assert (won.reward, lost.reward) == (1.0, -1.0)
    assert won.metrics["won"] == 1.0
    assert lost.metrics["lost"] == 1.0


def test_a_draw_is_nothing_for_both() -> None:
    ended = asyncio.run(match(["5", "3", "2", "4", "9"], ["1", "7", "8", "6"]))
    assert [step.reward for step in ended] == [0.0, 0.0]


@pytest.mark.parametrize("move", ["1", "0", "ten", ""])
def test_an_illegal_move_loses(move: str) -> None:
    other, mover = asyncio.run(match(["1", "2", "3"], [move]))
    assert (other.reward, mover.reward) == (1.0, -1.0)
    assert mover.metrics["illegal"] == 1.0
    assert other.metrics["illegal"] == 0.0


def test_a_move_that_does_not_end_loses() -> None:
    async def play() -> tuple[StepResult, StepResult]:
        first, second = await SelfPlay(TicTacToe, RENDERER).make_envs()

        async def cut_off() -> StepResult:
            await second.initial_observation()
            return await second.step([*b"4"], extra={"stop_reason": "length"})

        return await asyncio.gather(player(first, ["1", "2"]), cut_off())

    won, lost = asyncio.run(play())
    assert (won.reward, lost.reward) == (1.0, -1.0)
    assert lost.metrics["stop/max_tokens"] == 1.0


def test_a_player_whose_opponent_never_moves_gives_up() -> None:
    async def play() -> None:
        first, _ = await SelfPlay(TicTacToe, RENDERER, turn_timeout_seconds=0.2).make_envs()
        await player(first, ["1", "2"])

    with pytest.raises(MatchAbandoned):
        asyncio.run(play())


def test_tic_tac_toe_is_a_draw_and_perfect_play_never_loses() -> None:
    assert value("." * 9) == 0

    async def play(seed: int) -> float:
        env = tic_tac_toe_env(seed, opponent="random")
        await env.initial_observation()
        while True:
            step = await env.step(await env.gold_reply())
            if step.episode_done:
                return step.reward

    results = [asyncio.run(play(seed)) for seed in range(20)]
    assert min(results) >= 0
    assert sum(results) > 10


def test_guessing_is_answered() -> None:
    async def play() -> list[str]:
        env = GuessNumber(1)
        await env.initial_observation()
        secret = env._secret
        return [
            str((await env.step(said(text))).next_messages[-1]["content"])
            for text in (str(secret - 1), str(secret + 1), "a number", f"{secret}.")
        ]

    assert asyncio.run(play()) == ["Higher.", "Lower.", "Answer with a number only.", "Right."]


@pytest.mark.parametrize(
    ("question", "word", "answer"),
    [
        ("Is it an animal?", "dog", True),
        ("is it a kind of  animal", "chair", False),
        ("Is it a dog?", "dog", True),
        ("Does it start with the letter D?", "dog", True),
        ("Does the word begin with d", "cat", False),
        ("Does it end with 'g'?", "dog", True),
        ("Does it contain the letter o?", "cat", False),
        ("Does it have more than 3 letters?", "dog", False),
        ("Does it have fewer than 4 letters?", "dog", True),
    ],
)
def test_questions_are_understood(question: str, word: str, answer: bool) -> None:
    known = known_question(question, WORDS)
    assert known is not None
    assert known(word) is answer


@pytest.mark.parametrize("question", ["", "Is it big?", "What is it?", "dog", "Does it contain the letter ab?"])
def test_other_questions_are_not(question: str) -> None:
    assert known_question(question, WORDS) is None


@pytest.mark.parametrize(("reply", "text"), [("Yes.", "Yes."), ("no", "No."), ("Maybe", "I cannot answer that.")])
def test_a_model_can_answer(reply: str, text: str) -> None:
    class Judge:
        async def __call__(self, messages: object, *, seed: int) -> str:
            return reply

    async def play() -> str:
        env = TwentyQuestions(0, answerer=ByModel(Judge()))
        await env.initial_observation()
        return str((await env.step(said("Is it big?"))).next_messages[-1]["content"])

    assert asyncio.run(play()).startswith(text)


def test_words_come_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "words.jsonl"
    path.write_text('{"word": "Oak", "category": "tree"}\n{"word": "elm", "category": "tree"}\n')
    assert read_words(path) == {"tree": ["oak", "elm"]}
    path.write_text('{"word": "Oak", "category": "tree"}\n{"word": "elm"}\n')
    with pytest.raises(UserError, match=r"words.jsonl:2 has to be like"):
        read_words(path)
    path.write_text('{"word": "\u2028Oak", "category": "tree"}\n\n{"word": \n')
    with pytest.raises(UserError, match=r"words.jsonl:3 is not JSON \(Expecting value at column 9\)"):
        read_words(path)
    with pytest.raises(UserError, match=r"nowhere.jsonl cannot be read: No such file"):
        read_words(tmp_path / "nowhere.jsonl")


def test_the_memory_test_tells_its_secret_to_nobody() -> None:
    async def play(env: Memory, text: str) -> float:
        await env.initial_observation()
        return (await env.step(said(text))).reward

    openings = {str(Memory(seed).opening()) for seed in range(50)}
    assert len(openings) == 1
    secret = asyncio.run(Memory(3).gold_reply())["content"]
    assert asyncio.run(play(Memory(3), str(secret))) == 1.0
    assert asyncio.run(play(Memory(3), str((int(str(secret)) + 1) % 100))) == 0.0
    near = asyncio.run(play(Memory(3, reward="distance"), str(int(str(secret)) - 1)))
    assert near == pytest.approx(0.99)
    assert asyncio.run(play(Memory(3, reward="distance"), "no number")) == 0.0
