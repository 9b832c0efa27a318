"""Find a secret number by asking whether it is higher or lower."""

from __future__ import annotations

import random
import re

from hone.algorithms.envs.message_env import Checkable, Dialogue, Turn, asked, said, stopped
from hone.algorithms.messages import Message, text_of


class GuessNumber(Dialogue, Checkable):
    """Reward 1 for the number within `max_turns` guesses, which halving is sure to reach by default."""

    def __init__(self, seed: int, *, highest: int = 100, max_turns: int | None = None) -> None:
        super().__init__()
        self._secret = random.Random(f"guess_number/{seed}").randint(0, highest)
        self._highest = highest
        self._max_turns = max_turns or (highest + 1).bit_length()
        self._low, self._high = 0, highest
        self._turns = 0

    def opening(self) -> list[Message]:
        return [asked(f"Guess my number from 0 to {self._highest}. Answer with a number only.")]

    async def respond(self, message: Message) -> Turn:
        self._turns += 1
        found = re.fullmatch(r"\W*(\d{1,9})\W*", text_of(message))
        guess = int(found.group(1)) if found else None
        if guess == self._secret:
            return Turn([asked("Right.")], 1.0, True, stopped("completed") | {"turns": self._turns, "found": 1.0})
        if self._turns >= self._max_turns:
            return Turn([], 0.0, True, stopped("max_turns") | {"turns": self._turns, "found": 0.0})
        if guess is None:
            return Turn([asked("Answer with a number only.")])
        if guess < self._secret:
            self._low = max(self._low, guess + 1)
            return Turn([asked("Higher.")])
        self._high = min(self._high, guess - 1)
        return Turn([asked("Lower.")])

    async def gold_reply(self) -> Message:
        return said(str((self._low + self._high) // 2))

    def random_reply(self, rng: random.Random) -> Message:
        return said(str(rng.randint(0, self._highest)))
