"""The answer is a program that passes tests."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

from hone.algorithms.graders.answers import last_code
from hone.algorithms.graders.grade import Grade, GradingError, Task, verdict
from hone.algorithms.sandbox import Limits, run_python

HARNESS = """\
import sys
def _run():
    import json
    given = json.loads(sys.stdin.readline())
    space = {"__name__": "__main__"}
    exec(compile(given["answer"], "answer.py", "exec"), space)
    exec(compile(given["tests"], "tests.py", "exec"), space)
    sys.__stdout__.write("\\n" + given["passed"])
    sys.__stdout__.flush()
_run()
"""


@dataclass(frozen=True)
class UnitTests:
    """Runs the last fenced block of the answer, then `task.facts["tests"]` in the same namespace, in the sandbox.

    Tests are Python that raises where something is wrong. `task.facts["prefix"]` is put before the answer's code:
    the imports or the head of a function that the question gave. An answer that ends the process before the tests
    have run has not passed: passing is shown by a word that is drawn for each run. The answer runs beside the tests,
    so one that was written to deceive them (by redefining what they compare with, or by searching Python's frames
    for the word) can do so; sandboxing protects the machine, not the score.
    """

    limits: Limits = field(default_factory=Limits)

    async def __call__(self, task: Task, answer: str) -> Grade:
        tests = task.facts.get("tests")
        if not isinstance(tests, str) or not tests.strip():
            raise GradingError("no tests: the task's fact `tests` has to be Python code")
        passed = secrets.token_hex(16)
        given = {"answer": task.facts.get("prefix", "") + last_code(answer), "tests": tests, "passed": passed}
        outcome = await run_python(HARNESS, stdin=json.dumps(given) + "\n", limits=self.limits)
        right = outcome.ok and outcome.stdout.endswith(passed)
        problem = outcome.stderr.strip().rsplit("\n", 1)[-1] if outcome.stderr else ""
        return verdict(right, ended=outcome.describe(), problem=problem[:300], seconds=round(outcome.seconds, 3))
