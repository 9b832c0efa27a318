"""The gold answer stands in the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class ContainsParams(Config):
    text: str | None = None
    """What has to stand there; without it the gold answer."""
    ignore_case: bool = True
    """Capitals and small letters are the same."""
    whole_words: bool = True
    """`art` does not stand in `party`."""


class Contains(Verifier[ContainsParams]):
    """1 or 0; white space between words does not count."""

    Params = ContainsParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import contains

        return contains.Contains(self.params.text, self.params.ignore_case, self.params.whole_words)
