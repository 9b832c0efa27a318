"""Counts requests that are under way at once."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


class UnderWay:
    """Takes as long as others need to ask, too."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0

    async def answer(self, answer: T) -> T:
        self.total += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return answer
