"""The answer has the gold answer in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict


@dataclass(frozen=True)
class Contains:
    """Looks for `text`, else for `task.gold`; white space between words does not count."""

    text: str | None = None
    ignore_case: bool = True
    whole_words: bool = True
    """`art` does not stand in `party`."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        wanted = self._plain(self.text if self.text is not None else task.gold)
        if not wanted:
            raise GradingError("nothing to look for: give Contains(text=...) or the task a gold answer")
        pattern = rf"(?<!\w){re.escape(wanted)}(?!\w)" if self.whole_words else re.escape(wanted)
        return verdict(re.search(pattern, self._plain(answer)) is not None, wanted=wanted[:200])

    def _plain(self, text: str) -> str:
        words = " ".join(text.split())
        return words.casefold() if self.ignore_case else words
