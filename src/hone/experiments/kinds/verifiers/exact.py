"""The answer is the gold answer, word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class ExactParams(Config):
    ignore_case: bool = False
    """Capitals and small letters are the same."""
    marked: bool = False
    """Compare what is marked as the answer (boxed, after ####, ...) where something is."""


class Exact(Verifier[ExactParams]):
    """1 or 0; white space around and between words does not count."""

    Params = ExactParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import exact

        return exact.Exact(self.params.ignore_case, self.params.marked)
