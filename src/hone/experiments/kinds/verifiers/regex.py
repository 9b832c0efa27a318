"""The answer matches a regular expression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import regex
from pydantic import PositiveFloat, field_validator

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
    seconds: PositiveFloat = 2.0
    """Of processor time; a pattern that takes longer gives no verdict, which is reported."""

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        try:
            regex.compile(pattern or "")
        except regex.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return pattern


class Regex(Verifier[RegexParams]):
    """1 or 0."""

    Params = RegexParams

    def grader(self) -> Grader:
        from hone.algorithms.graders.regex import Regex as Matching

        flags = int(re.IGNORECASE) if self.params.ignore_case else 0
        return Matching(self.params.pattern, self.params.whole, flags, self.params.seconds)
