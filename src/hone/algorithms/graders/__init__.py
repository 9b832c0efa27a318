"""Graders: `grade = await grader(task, answer)`, a score from 0 to 1 and why.

    grade.py        Task, Grade, Grader: read this first
    answers.py      where in a text the answer stands
    exact.py, contains.py, numeric.py, maths.py, regex.py, json_schema.py, code.py
    judges.py       models that judge; rubric.py and pairwise.py ask them
    composite.py    several graders in one

Adding one is a file and a line here.
"""

from collections.abc import Callable

from hone.algorithms.graders.code import UnitTests
from hone.algorithms.graders.composite import AllOf, Weighted
from hone.algorithms.graders.contains import Contains
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.grade import Grade, Grader, GradingError, Task
from hone.algorithms.graders.json_schema import JsonSchema
from hone.algorithms.graders.maths import Maths
from hone.algorithms.graders.numeric import Numeric
from hone.algorithms.graders.pairwise import Pairwise
from hone.algorithms.graders.regex import Regex
from hone.algorithms.graders.rubric import Rubric

__all__ = ["GRADERS", "Grade", "Grader", "GradingError", "Task"]

GRADERS: dict[str, Callable[..., Grader]] = {
    "exact": Exact,
    "contains": Contains,
    "numeric": Numeric,
    "maths": Maths,
    "code": UnitTests,
    "regex": Regex,
    "json_schema": JsonSchema,
    "rubric": Rubric,
    "pairwise": Pairwise,
    "weighted": Weighted,
    "all_of": AllOf,
}
"""By name, for configurations; each is called with its settings."""
