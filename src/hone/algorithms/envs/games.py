"""Games of several players: against an opponent of ours, or all played by the model that is trained.

The players of one match are environments of their own. Each waits in `step` until it is to move again, so all of a
match's rollouts have to be under way at the same time.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from hone.algorithms.envs.message_env import (
    Checkable,
    CutOff,
    Dialogue,
    MessageEnv,
    MessageStep,
    TokenEnv,
    TokenLimits,
    Turn,
    asked,
    said,
    stopped,
)
from hone.algorithms.messages import Message, text_of
from hone.algorithms.renderers import Renderer
from hone.algorithms.types import EndedBy, Env, EnvGroupBuilder
from hone.errors import HoneError


class IllegalMove(Exception):
    """The rules do not allow it, or it could not be read."""


class Game(ABC):
    """The state and the rules of one match, for players 0, 1, ..."""

    players: int = 2
    to_move: int | None = 0
    """Whose turn it is; None when the game is over."""

    @abstractmethod
    def rules(self, player: int) -> str:
        """What a player is told before the first move."""

    @abstractmethod
    def news(self, player: int) -> str:
        """What a player has to know to move now, or of how it ended. Asked once for each turn."""

    @abstractmethod
    def play(self, text: str) -> None:
        """The move of the player whose turn it is; `IllegalMove` leaves the state as it was."""

    @abstractmethod
    def results(self) -> list[float]:
        """Each player's reward, once the game is over."""


class SolvedGame(Game):
    """A game whose best moves are known."""

    value: float = 0.0
    """The first player's reward if both play as well as possible."""

    @abstractmethod
    def best_moves(self) -> list[str]: ...

    @abstractmethod
    def legal_moves(self) -> list[str]: ...


Opponent = Callable[[str], Awaitable[str]]
"""From the whole of what a player was told and answered so far to its next answer."""


@dataclass
class Perfect:
    """Plays one of the best moves, drawn with a seed."""

    game: SolvedGame
    rng: random.Random

    async def __call__(self, told: str) -> str:
        return self.rng.choice(self.game.best_moves())


@dataclass
class Random:
    """Plays any legal move, drawn with a seed."""

    game: SolvedGame
    rng: random.Random

    async def __call__(self, told: str) -> str:
        return self.rng.choice(self.game.legal_moves())


class AgainstOpponents(Dialogue, Checkable):
    """One player learns, the others are given. An illegal or unfinished move loses the game: -1."""

    def __init__(self, game: Game, opponents: Sequence[Opponent | None], seed: int = 0) -> None:
        """`opponents` by player; None at the place of the one who learns."""
        super().__init__()
        assert len(opponents) == game.players, "a place for every player"
        assert opponents.count(None) == 1, "one player learns"
        self.game, self._opponents = game, list(opponents)
        self.player = self._opponents.index(None)
        self._so_far: dict[int, str] = {}
        self._rng = random.Random(f"player/{seed}")
        if isinstance(game, SolvedGame):
            self.best_return = game.value if self.player == 0 else -game.value

    def opening(self) -> list[Message]:
        raise AssertionError("opponents may move first, which takes time; see initial_observation")

    async def initial_observation(self) -> list[Message]:
        await self._others_move()
        self.messages = [asked(f"{self.game.rules(self.player)}\n{self.game.news(self.player)}")]
        return list(self.messages)

    async def respond(self, message: Message) -> Turn:
        try:
            self.game.play(text_of(message))
        except IllegalMove as problem:
            return self._lost(str(problem))
        await self._others_move()
        news = [asked(self.game.news(self.player))]
        if self.game.to_move is not None:
            return Turn(news)
        result = self.game.results()[self.player]
        return Turn(news, reward=result, done=True, metrics=stopped("completed") | _outcome(result))

    async def cut_off(self, message: Message, why: CutOff) -> MessageStep:
        turn = self._lost(why)
        return MessageStep(turn.reward, True, list(self.messages), turn.metrics, turn.logs)

    async def _others_move(self) -> None:
        while self.game.to_move not in (None, self.player):
            player = self.game.to_move
            assert player is not None
            opponent = self._opponents[player]
            assert opponent is not None
            told = f"{self._so_far.get(player, self.game.rules(player))}\n{self.game.news(player)}".strip()
            move = await opponent(told)
            self._so_far[player] = f"{told}\n[You] {move}"
            self.game.play(move)

    def _lost(self, problem: str) -> Turn:
        return Turn(reward=-1.0, done=True, metrics={"illegal": 1.0} | _outcome(-1.0), logs={"problem": problem})

    async def gold_reply(self) -> Message:
        assert isinstance(self.game, SolvedGame), "this game has no known best moves"
        return said(self._rng.choice(self.game.best_moves()))

    def random_reply(self, rng: random.Random) -> Message:
        assert isinstance(self.game, SolvedGame), "this game does not list its moves"
        return said(rng.choice(self.game.legal_moves()))


class MatchAbandoned(HoneError):
    """Another player of the match failed or took too long; this one's episode has no result."""


class Match:
    """One game and its players, who take turns."""

    def __init__(self, game: Game, turn_timeout_seconds: float) -> None:
        self.game = game
        self.results: list[float] | None = None
        self.illegal: int | None = None
        self._timeout = turn_timeout_seconds
        self._abandoned = False
        self._moved = asyncio.Condition()

    async def turn_of(self, player: int) -> None:
        """Wait until it is this player's turn, or the match is over."""

        async def wait() -> None:
            async with self._moved:
                await self._moved.wait_for(
                    lambda: self._abandoned or self.results is not None or self.game.to_move == player
                )

        try:
            await asyncio.wait_for(wait(), self._timeout)
        except TimeoutError:
            await self.abandon()
        if self._abandoned:
            raise MatchAbandoned("another player of this match failed or did not move in time")

    async def play(self, player: int, text: str) -> None:
        async with self._moved:
            try:
                self.game.play(text)
            except IllegalMove:
                self._forfeit(player)
            if self.game.to_move is None and self.results is None:
                self.results = list(self.game.results())
            self._moved.notify_all()

    async def forfeit(self, player: int) -> None:
        async with self._moved:
            if self.results is None:
                self._forfeit(player)
            self._moved.notify_all()

    async def draw(self) -> None:
        """Nobody won."""
        async with self._moved:
            if self.results is None:
                self.results = [0.0] * self.game.players
            self._moved.notify_all()

    async def abandon(self) -> None:
        async with self._moved:
            self._abandoned = self.results is None
            self._moved.notify_all()

    def _forfeit(self, player: int) -> None:
        """The loss is shared out among the others, so that the rewards add up to 0."""
        others = self.game.players - 1
        self.illegal = player
        self.results = [1.0 / others] * self.game.players if others else [0.0]
        self.results[player] = -1.0


class PlayerEnv(MessageEnv):
    """A match as one of its players sees it."""

    def __init__(self, match: Match, player: int) -> None:
        self._match, self.player = match, player
        self.messages: list[Message] = []

    async def initial_observation(self) -> list[Message]:
        await self._match.turn_of(self.player)
        game = self._match.game
        self.messages = [asked(f"{game.rules(self.player)}\n{game.news(self.player)}")]
        return list(self.messages)

    async def step(self, message: Message) -> MessageStep:
        self.messages.append(message)
        if self._match.results is None:
            await self._match.play(self.player, text_of(message))
            await self._match.turn_of(self.player)
        return self._next()

    async def cut_off(self, message: Message, why: CutOff) -> MessageStep:
        await self._match.forfeit(self.player)
        return self._next()

    async def end(self, by: EndedBy) -> None:
        """A limit of the rollouts is no player's fault: a draw. After a failure the match has no result."""
        await (self._match.abandon() if by == "failure" else self._match.draw())

    def _next(self) -> MessageStep:
        results = self._match.results
        if results is None:
            self.messages.append(asked(self._match.game.news(self.player)))
            return MessageStep(0.0, False, list(self.messages))
        result = results[self.player]
        metrics = stopped("completed") | {"illegal": float(self._match.illegal == self.player)} | _outcome(result)
        return MessageStep(result, True, list(self.messages), metrics)


@dataclass(frozen=True)
class SelfPlay(EnvGroupBuilder):
    """All players of one match as a group: rewards are centred over it, so in a game of two winning is what counts."""

    make: Callable[[], Game]
    renderer: Renderer
    tags: tuple[str, ...] = ()
    limits: TokenLimits = field(default_factory=TokenLimits)
    turn_timeout_seconds: float = 600.0
    """A player who waits longer for the others gives the match up."""

    async def make_envs(self) -> Sequence[Env]:
        match = Match(self.make(), self.turn_timeout_seconds)
        return [TokenEnv(self.renderer, PlayerEnv(match, player), self.limits) for player in range(match.game.players)]

    def logging_tags(self) -> list[str]:
        return list(self.tags)


def _outcome(result: float) -> dict[str, float | int]:
    return {"won": float(result > 0), "lost": float(result < 0)}
