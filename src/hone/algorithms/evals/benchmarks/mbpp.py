"""Short Python programs from a sentence and tests. Austin et al. 2021 (arXiv 2108.07732), the sanitised set."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.code import UnitTests
from hone.algorithms.graders.grade import Task

ASK = "{prompt}\nYour code must pass this test:\n\n{test}\n\nAnswer with the code in one fenced block."


def read(row: Mapping[str, Any], name: str) -> Item:
    asked = str(row["prompt"])
    tests = [str(test) for test in row["test_list"]]
    program = "\n".join([*map(str, row.get("test_imports") or ()), *tests]) + "\n"
    task = Task(asked, str(row["code"]), {"tests": program})
    return Item(str(row.get("task_id", name)), question(ASK.format(prompt=asked, test=tests[0])), task)


MBPP = Source(read, UnitTests, ("google-research-datasets/mbpp", "sanitized", "test"))
