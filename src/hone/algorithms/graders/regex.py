"""The answer matches a regular expression."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import regex

from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict


@dataclass(frozen=True)
class Regex:
    """Searches the answer for `pattern`, or without one for `task.facts["pattern"]`.

    Patterns are in Python's form, matched by the package `regex`, which unlike `re` can be interrupted: with repeats
    within repeats (`(a|aa)+$`) an answer of a few dozen letters would otherwise take for ever. Other threads go on
    meanwhile. One that takes longer than `seconds` is a `GradingError`: nothing is known of the answer.
    """

    pattern: str | None = None
    whole: bool = False
    """The whole answer has to match, without white space around it."""
    flags: int = 0
    """Those of `re`."""
    seconds: float = 2.0
    """Of processor time, which the process's other threads use up too; ordinary patterns take a thousandth of it."""

    async def __call__(self, task: Task, answer: str) -> Grade:
        pattern = self.pattern if self.pattern is not None else task.facts.get("pattern")
        if pattern is None:
            raise GradingError("no pattern: give Regex(pattern=...) or the task's fact `pattern`")
        try:
            wanted = regex.compile(str(pattern), _flags(self.flags))
        except regex.error as error:
            raise GradingError(f"{pattern!r} is not a regular expression: {error}") from None
        match = wanted.fullmatch if self.whole else wanted.search
        try:
            found = await asyncio.to_thread(match, answer.strip(), timeout=self.seconds, concurrent=True)
        except TimeoutError:
            raise GradingError(
                f"the pattern {pattern!r} took longer than {self.seconds:g} s on an answer of {len(answer)} characters"
                "; write it without repeats within repeats, or raise `seconds`"
            ) from None
        return verdict(found is not None, found=found.group()[:200] if found else "no match")


def _flags(flags: int) -> int:
    """The package has the flags of `re` under the same names, some with other numbers."""
    return sum(getattr(regex, str(flag.name)) for flag in re.RegexFlag(flags))
