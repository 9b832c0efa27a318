"""Python functions from their docstrings, checked by tests. Chen et al. 2021 (arXiv 2107.03374)."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.code import UnitTests
from hone.algorithms.graders.grade import Task

ASK = "Complete this Python function. Answer with the whole function in one fenced block.\n\n```python\n{prompt}```"


def read(row: Mapping[str, Any], name: str) -> Item:
    """The head of the question goes before the answer, so that its imports and helpers are there."""
    prompt, function = str(row["prompt"]), str(row["entry_point"])
    tests = f"{row['test']}\ncheck({function})\n"
    # A function without a body in the prompt: `pass` closes it, and the answer defines it again.
    prefix = f"{prompt}    pass\n\n"
    task = Task(prompt, prompt + str(row["canonical_solution"]), {"tests": tests, "prefix": prefix})
    return Item(str(row["task_id"]), question(ASK.format(prompt=prompt)), task)


HUMANEVAL = Source(read, UnitTests, ("openai/openai_humaneval", None, "test"))
