"""Games of the real TextArena, of those that need no network."""

import asyncio
import random

import pytest

from hone.algorithms.envs.games import AgainstOpponents, Game, SelfPlay
from hone.algorithms.envs.message_env import said
from hone.algorithms.envs.textarena import TextArenaGame
from hone.algorithms.types import Env, Observation, StepResult
from hone.errors import UserError
from tests.support.chatml import END, ByteChatMl

pytestmark = pytest.mark.filterwarnings("ignore")
textarena = pytest.importorskip("textarena")

RENDERER = ByteChatMl()
MOVES = ("[0]", "[3]", "[1]", "[9]", "[4]", "[2]")  # of both players; there is no 9, and the player moves again


def told_in(game: Game, moves: tuple[str, ...] = MOVES) -> list[str]:
    told = []
    for move in moves:
        assert game.to_move is not None
        told.append(game.news(game.to_move))
        game.play(move)
    assert game.to_move is None
    return told


def test_a_game_is_played_and_repeats_whatever_else_is_drawn() -> None:
    state = random.getstate()
    game = TextArenaGame("TicTacToe-v0", 2, 1)
    assert told_in(game) == told_in(TextArenaGame("TicTacToe-v0", 2, 1))
    assert game.results() == [1.0, -1.0]
    assert random.getstate() == state


@pytest.mark.parametrize("env_id", ["TicTacToe-v0", "TicTacToe-v0-raw"])
def test_a_turn_tells_what_the_conversation_does_not_have(env_id: str) -> None:
    told = told_in(TextArenaGame(env_id, 2, 1))
    first, second = "\n".join(told[0::2][:2] + told[5:]), "\n".join((told[1], told[3], told[4]))
    for whole, own, others in ((first, "[Player 0]", "[Player 1]"), (second, "[Player 1]", "[Player 0]")):
        assert whole.count("You are Player") == 1
        assert own not in whole
        assert others in whole
    assert [first.count(f"in cell {cell}.") for cell in (0, 3, 1, 4)] == [1, 1, 1, 1]
    assert [second.count(f"in cell {cell}.") for cell in (0, 3, 1, 4)] == [1, 1, 1, 0]
    assert "attempted an invalid move" in told[4]


def test_a_wrapper_that_shows_the_state_afresh_is_left_to_it() -> None:
    told = told_in(TextArenaGame("TicTacToe-v0-train", 2, 1))
    assert all("You are Player" in text for text in told)
    longest = max(len(text) for text in told)
    assert longest < 2 * len(told[0])  # no boards of the past


def test_a_wrapper_that_lists_all_messages_is_read_from_where_it_stopped() -> None:
    told = []
    game = TextArenaGame("GuessTheNumber-v0-train", 1, 1)
    for guess in range(3, 20):
        if game.to_move is None:
            break
        told.append(game.news(0))
        game.play(str(guess))
    assert ["guess the number" in text.lower() for text in told[:2]] == [True, False]
    assert told[1:3] == ["The target number is higher."] * 2


def test_an_opponent_is_told_everything_and_its_own_moves() -> None:
    told: list[str] = []

    async def opponent(text: str) -> str:
        told.append(text)
        return ("[3]", "[4]")[len(told) - 1]

    async def play() -> float:
        env = AgainstOpponents(TextArenaGame("TicTacToe-v0", 2, 0), [None, opponent])
        await env.initial_observation()
        steps = [await env.step(said(move)) for move in ("[0]", "[1]", "[2]")]
        return steps[-1].reward

    assert asyncio.run(play()) == 1.0
    assert told[1].startswith(f"{told[0]}\n[You] [3]\n[GAME] Player 1 placed")
    assert "[Player 0] [1]" in told[1]


def test_self_play() -> None:
    async def player(env: Env, moves: list[str]) -> StepResult:
        assert isinstance(await env.initial_observation(), Observation)
        for move in moves:
            step = await env.step([*move.encode(), END])
            if step.episode_done:
                return step
        raise AssertionError("the game went on")

    async def play() -> list[StepResult]:
        builder = SelfPlay(lambda: TextArenaGame("TicTacToe-v0", 2, 0), RENDERER, turn_timeout_seconds=20)
        first, second = await builder.make_envs()
        return await asyncio.gather(player(first, ["[0]", "[1]", "[2]"]), player(second, ["[3]", "[4]"]))

    assert [step.reward for step in asyncio.run(play())] == [1.0, -1.0]


def test_what_cannot_be_played_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no environment 'Nothing-v0'"):
        TextArenaGame("Nothing-v0", 2, 0)
    with pytest.raises(UserError, match="cannot start 'TicTacToe-v0' with 3 players here: AssertionError"):
        TextArenaGame("TicTacToe-v0", 3, 0)

    def without_words(env_id: str) -> None:
        raise LookupError("\n*****\n  Resource 'words' not found.\n*****")

    monkeypatch.setattr(textarena, "make", without_words)
    with pytest.raises(UserError, match=r"here: LookupError: Resource 'words' not found\.$"):
        TextArenaGame("Hangman-v0", 1, 0)


def test_a_game_that_ends_without_numbers_is_named() -> None:
    game = TextArenaGame("Countdown-v0", 1, 0)
    game.play("[nonsense]")  # it may be tried again once
    with pytest.raises(UserError, match=r"Countdown-v0 ended with rewards that are not a number for each .*Invalid"):
        game.play("[nonsense]")
