"""The answer matches a regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict


@dataclass(frozen=True)
class Regex:
    """Searches the answer for `pattern`, or without one for `task.facts["pattern"]`.

    Python's engine has no time limit: a pattern with nested repeats can take for ever on a hostile answer, so answers
    are cut at `longest` characters.
    """

    pattern: str | None = None
    whole: bool = False
    """The whole answer has to match, without white space around it."""
    flags: int = 0
    longest: int = 20_000

    async def __call__(self, task: Task, answer: str) -> Grade:
        pattern = self.pattern if self.pattern is not None else task.facts.get("pattern")
        try:
            wanted = re.compile(str(pattern if pattern is not None else ""), self.flags)
        except re.error as error:
            raise GradingError(f"{pattern!r} is not a regular expression: {error}") from None
        if pattern is None:
            raise GradingError("no pattern: give Regex(pattern=...) or the task's fact `pattern`")
        text = answer.strip()[: self.longest]
        found = wanted.fullmatch(text) if self.whole else wanted.search(text)
        return verdict(found is not None, found=found.group()[:200] if found else "no match")
