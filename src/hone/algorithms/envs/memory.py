"""How fast can reward write a fact into the weights? A number that no prompt tells, the same for the whole run.

Schulman et al., "LoRA Without Regret" (2025), argue that a policy gradient learns about one bit from an episode. A
number below N is log2(N) bits, so a run shows how many episodes a bit took.
"""

from __future__ import annotations

import random
import re
from typing import Literal

from hone.algorithms.envs.message_env import Checkable, Dialogue, Turn, asked, said
from hone.algorithms.messages import Message, text_of


class Memory(Dialogue, Checkable):
    """Reward is 1 for the number; with `reward="distance"` a near one earns in proportion."""

    def __init__(self, secret_seed: int, *, below: int = 100, reward: Literal["exact", "distance"] = "exact") -> None:
        super().__init__()
        self._secret = random.Random(f"memory/{secret_seed}").randrange(below)
        self._below, self._reward = below, reward

    def opening(self) -> list[Message]:
        return [asked(f"What is the secret number below {self._below}? Answer with a number only.")]

    async def respond(self, message: Message) -> Turn:
        found = re.fullmatch(r"\W*(\d{1,9})\W*", text_of(message))
        guess = int(found.group(1)) if found else None
        exact = float(guess == self._secret)
        reward = exact
        if self._reward == "distance" and guess is not None and guess < self._below:
            reward = 1.0 - abs(guess - self._secret) / self._below
        return Turn(reward=reward, done=True, metrics={"correct": exact, "format": float(guess is not None)})

    async def gold_reply(self) -> Message:
        return said(str(self._secret))

    def random_reply(self, rng: random.Random) -> Message:
        return said(str(rng.randrange(self._below)))
