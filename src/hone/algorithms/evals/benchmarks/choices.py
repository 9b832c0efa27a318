"""Questions with lettered choices."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hone.algorithms.graders.answers import marked_answer
from hone.algorithms.graders.grade import Grade, Task, verdict

LETTER = re.compile(r"\(?\b([A-Z])\b\)?")


@dataclass(frozen=True)
class Choice:
    """The letter that is marked as the answer ("Answer: B"), or all that the answer says, is the gold letter.

    A letter somewhere in running text is no choice: "A good question" does not choose A.
    """

    async def __call__(self, task: Task, answer: str) -> Grade:
        marked = marked_answer(answer)
        found = LETTER.match((answer if marked is None else marked).strip().strip("*$ "))
        whole = marked is not None or len(answer.strip().strip("*$ ().")) <= 1
        letter = found.group(1) if found and whole else "none"
        return verdict(letter == task.gold.strip("() "), found=letter)
