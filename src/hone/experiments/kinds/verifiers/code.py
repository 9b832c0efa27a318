"""The answer is a program that passes tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveFloat, PositiveInt

from hone.algorithms.config import Config
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grader


class CodeParams(Config):
    seconds: PositiveFloat = 10.0
    """From start to end, Python's own start included."""
    memory_mib: PositiveInt = 512
    """Address space of each process."""
    processes: PositiveInt = 16
    """Threads and processes of one program, at most."""


class Code(Verifier[CodeParams]):
    """1 or 0: runs the last fenced block of the answer and then the row's column `tests`, Python that raises where
    something is wrong, in the sandbox. The column `prefix` is put before the answer's code."""

    Params = CodeParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import code
        from hone.algorithms.sandbox import Limits

        told = self.params
        return code.UnitTests(
            Limits(
                wall_seconds=told.seconds,
                cpu_seconds=max(1, round(told.seconds)),
                memory_bytes=told.memory_mib * 2**20,
                processes=told.processes,
            )
        )
