"""Games of TextArena (`pip install 'hone[textarena]'`) as games of ours.

For one player against given opponents, `AgainstOpponents(TextArenaGame("TicTacToe-v0", 2, seed), [None, opponent])`;
all players trained, `SelfPlay(lambda: TextArenaGame("TicTacToe-v0", 2, seed), renderer)`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hone.algorithms.envs.games import Game
from hone.errors import UserError


class TextArenaGame(Game):
    """Any environment of TextArena by its id. It judges moves itself, so none is illegal to us."""

    def __init__(self, env_id: str, players: int, seed: int) -> None:
        try:
            import textarena
        except ImportError:
            raise UserError("TextArena is not installed; pip install 'hone[textarena]'") from None
        self.players = players
        self._random = random.Random(seed)
        try:
            self._env: Any = textarena.make(env_id)
        except ValueError as error:
            raise UserError(f"TextArena has no environment {env_id!r}: {error}") from None
        self._with_own_random(lambda: self._env.reset(num_players=players, seed=seed))
        self._results: list[float] | None = None
        self._news: dict[int, str] = {}
        self._look()

    def rules(self, player: int) -> str:
        return ""  # the first observation has them

    def news(self, player: int) -> str:
        return self._news.pop(player, "The game is over." if self.to_move is None else "").strip()

    def play(self, text: str) -> None:
        done, _ = self._with_own_random(lambda: self._env.step(action=text))
        if done:
            rewards, _ = self._env.close()
            self._results = [float(rewards[player]) for player in range(self.players)]
            self.to_move = None
        else:
            self._look()

    def results(self) -> list[float]:
        assert self._results is not None, "the game is not over"
        return self._results

    def _look(self) -> None:
        player, seen = self._env.get_observation()
        self.to_move = int(player)
        self._news[self.to_move] = self._news.get(self.to_move, "") + _text(seen)

    def _with_own_random(self, work: Callable[[], Any]) -> Any:
        """TextArena draws from Python's global generator: each game has a stream of its own and leaves that one."""
        outside = random.getstate()
        random.setstate(self._random.getstate())
        try:
            return work()
        finally:
            self._random.setstate(random.getstate())
            random.setstate(outside)


def _text(seen: Any) -> str:
    """Wrapped environments give text, raw ones a list of messages."""
    return seen if isinstance(seen, str) else "\n".join(str(message) for _, message, _ in seen)
