"""Games of TextArena (`pip install 'hone[textarena]'`) as games of ours.

For one player against given opponents, `AgainstOpponents(TextArenaGame("TicTacToe-v0", 2, seed), [None, opponent])`;
all players trained, `SelfPlay(lambda: TextArenaGame("TicTacToe-v0", 2, seed), renderer)`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
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
        if env_id not in textarena.envs.registration.ENV_REGISTRY:
            raise UserError(f"TextArena has no environment {env_id!r}")
        self.env_id, self.players = env_id, players
        self._random = random.Random(seed)
        try:
            self._env: Any = textarena.make(env_id)
            self._with_own_random(lambda: self._env.reset(num_players=players, seed=seed))
        except Exception as error:  # of many kinds: data, a key or a newer Python is missing, or it has other players
            raise UserError(
                f"TextArena cannot start {env_id!r} with {players} players here: {_plain(error)}"
            ) from error
        self._results: list[float] | None = None
        self._news: dict[int, str] = {}
        self._seen: dict[int, Any] = {}
        is_wrapped = isinstance(self._env, textarena.core.Wrapper)
        self._keeps_history = is_wrapped and self._env.is_wrapped_with(textarena.wrappers.LLMObservationWrapper)
        self._look()

    def rules(self, player: int) -> str:
        return ""  # the first observation has them

    def news(self, player: int) -> str:
        return self._news.pop(player, "The game is over." if self.to_move is None else "").strip()

    def play(self, text: str) -> None:
        done, _ = self._with_own_random(lambda: self._env.step(action=text))
        if done:
            self.to_move = None
            rewards, _ = self._env.close()
            try:
                self._results = [float(rewards[player]) for player in range(self.players)]
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"TextArena's {self.env_id} ended with rewards that are not a number for each player: {rewards}"
                ) from None
        else:
            self._look()

    def results(self) -> list[float]:
        assert self._results is not None, "the game is not over"
        return self._results

    def _look(self) -> None:
        player, seen = self._env.get_observation()
        self.to_move = int(player)
        self._news[self.to_move] = self._news.get(self.to_move, "") + self._new(self.to_move, seen)

    def _new(self, player: int, seen: Any) -> str:
        """What the conversation does not have yet. Most wrappers show all there was from the start, at every turn."""
        if self._keeps_history:
            messages = self._env.full_observations[player]
            known = self._seen.get(player, 0)
            self._seen[player] = len(messages)
            return self._text(player, messages[known:])
        if not isinstance(seen, str):
            return self._text(player, seen)
        known, self._seen[player] = self._seen.get(player, ""), seen
        return seen.removeprefix(known) or seen

    def _text(self, player: int, messages: Sequence[tuple[int, str, Any]]) -> str:
        """Without the player's own moves, which the conversation has as answers."""
        names = {-1: "GAME"} | self._env.state.role_mapping
        others = [(sender, text) for sender, text, _ in messages if sender != player]
        return "".join(f"\n[{names.get(sender, f'Player {sender}')}] {text}" for sender, text in others)

    def _with_own_random(self, work: Callable[[], Any]) -> Any:
        """TextArena draws from Python's global generator: each game has a stream of its own and leaves that one."""
        outside = random.getstate()
        random.setstate(self._random.getstate())
        try:
            return work()
        finally:
            self._random.setstate(random.getstate())
            random.setstate(outside)


def _plain(error: Exception) -> str:
    """On one line, without the frames that NLTK draws."""
    return f"{type(error).__name__}: {' '.join(str(error).replace('*', ' ').split())[:300]}"
