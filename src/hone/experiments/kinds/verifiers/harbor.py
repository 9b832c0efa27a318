"""The answer passes the tests of a task in Harbor's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hone.algorithms.config import Config
from hone.errors import UserError
from hone.experiments.harbor import judge, read_tasks
from hone.experiments.kinds.contract import Verifier

if TYPE_CHECKING:
    from hone.algorithms.graders import Grade, Grader, Task


class HarborParams(Config):
    directory: str
    """The task's directory; rows of the source `harbor` name theirs."""
    answer: Literal["script", "file"] = "script"
    """`script`: the answer's last fenced block is run in /app. `file`: the answer is the text of `file` in /app."""
    file: str = "answer.txt"
    """Its path below /app."""


class Harbor(Verifier[HarborParams]):
    """The reward that `tests/test.sh` writes in the sandbox, from 0 to 1. A task that needs a container gets none."""

    Params = HarborParams

    def grader(self) -> Grader:
        from hone.algorithms.graders import Grade, GradingError

        told = self.params
        tested = next(read_tasks(Path(told.directory)))

        async def grade(task: Task, answer: str) -> Grade:
            try:
                reward = await judge(tested, answer, form=told.answer, file=told.file)
            except UserError as error:
                raise GradingError(str(error)) from error
            return Grade(reward.value, {"tests": reward.output[-1000:]})

        return grade
