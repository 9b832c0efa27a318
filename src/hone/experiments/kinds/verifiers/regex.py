"""The answer matches a regular expression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import field_validator

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class RegexParams(Config):
    pattern: str | None = None
    """In Python's form; without it the row's column `pattern`."""
    whole: bool = False
    """The whole answer has to match, without white space around it."""
    ignore_case: bool = False
    """Capitals and small letters are the same."""

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return pattern


class Regex(Verifier[RegexParams]):
    """1 or 0."""

    Params = RegexParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import regex

        flags = int(re.IGNORECASE) if self.params.ignore_case else 0
        return regex.Regex(self.params.pattern, self.params.whole, flags)
