"""The answer is the gold answer, letter by letter."""

from __future__ import annotations

from dataclasses import dataclass

from hone.algorithms.graders.answers import marked_answer
from hone.algorithms.graders.grade import Grade, Task, verdict


@dataclass(frozen=True)
class Exact:
    """Compares the whole answer with `task.gold`; white space around and between words does not count."""

    ignore_case: bool = False
    marked: bool = False
    """Compare what is marked as the answer (boxed, after ####, ...) where something is."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        found = (marked_answer(answer) if self.marked else None) or answer
        return verdict(self._plain(found) == self._plain(task.gold), found=found[:200])

    def _plain(self, text: str) -> str:
        words = " ".join(text.split())
        return words.casefold() if self.ignore_case else words
