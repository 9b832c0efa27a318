"""Graders on published data sets: every gold answer is right, its neighbours are wrong."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.graders import Grader, Task
from hone.algorithms.graders.code import UnitTests
from hone.algorithms.graders.maths import Maths
from hone.algorithms.graders.numeric import Numeric

SHARED = Path(os.environ.get("TEST_SHARED", Path(__file__).parents[5] / "shared"))


def rows(name: str) -> list[dict[str, Any]]:
    path = SHARED / "data" / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judged(grader: Grader, cases: list[tuple[Task, str]]) -> list[bool]:
    async def all_of_them() -> list[bool]:
        calls: list[Awaitable[Any]] = [grader(task, answer) for task, answer in cases]
        return [grade.right for grade in await asyncio.gather(*calls)]

    return asyncio.run(all_of_them())


def wrong(grader: Grader, cases: list[tuple[Task, str]], expected: bool) -> list[tuple[str, str]]:
    found = judged(grader, cases)
    return [(task.gold, answer) for (task, answer), right in zip(cases, found, strict=True) if right is not expected]


def final(row: dict[str, Any]) -> str:
    return str(row["answer"]).rsplit("####", 1)[-1].strip()


@pytest.mark.parametrize("name", ["gsm8k_test", "gsm8k_train", "svamp", "aime2024", "amc2023"])
@pytest.mark.parametrize(
    "written", [str, lambda gold: f"So the answer is {gold}.", lambda gold: rf"$\boxed{{{gold}}}$"]
)
def test_numeric_golds(name: str, written: Callable[[str], str]) -> None:
    golds = [final(row) for row in rows(name)]
    assert wrong(Numeric(), [(Task("", gold), written(gold)) for gold in golds], expected=True) == []
    near = [f"{float(gold.replace(',', '')) + 1:g}" for gold in golds if abs(float(gold.replace(",", ""))) < 1e5]
    small = [gold for gold in golds if abs(float(gold.replace(",", ""))) < 1e5]
    cases = [(Task("", gold), written(other)) for gold, other in zip(small, near, strict=True)]
    assert wrong(Numeric(), cases, expected=False) == []


def test_whole_solutions_of_gsm8k() -> None:
    cases = [(Task("", final(row)), row["answer"]) for row in rows("gsm8k_test")]
    assert wrong(Numeric(), cases, expected=True) == []


def test_maths_golds() -> None:
    pytest.importorskip("math_verify")
    found = rows("math500")
    # The answers themselves, and as they stand in whole solutions.
    assert wrong(Maths(), [(Task("", row["answer"]), row["answer"]) for row in found], expected=True) == []
    assert wrong(Maths(), [(Task("", row["answer"]), row["solution"]) for row in found], expected=True) == []


def test_maths_golds_against_the_library_and_against_each_other() -> None:
    """An answer written in another way is right; the answer to another problem is wrong unless it is the same."""
    pytest.importorskip("math_verify")
    found = [row["answer"] for row in rows("math500")][::5]
    # Spelling that changes nothing, but no longer equal letter by letter: this goes through sympy.
    spelt = [(Task("", gold), rf"$\boxed{{\left({gold}\right)}}$") for gold in found if gold.isalnum()]
    assert len(spelt) > 30
    assert wrong(Maths(), spelt, expected=True) == []
    others = found[1:] + found[:1]
    pairs = [(gold, other) for gold, other in zip(found, others, strict=True) if gold != other]
    assert wrong(Maths(), [(Task("", gold), other) for gold, other in pairs], expected=False) == []


def human_eval(row: dict[str, Any]) -> Task:
    return Task(
        row["prompt"],
        row["canonical_solution"],
        {"prefix": row["prompt"], "tests": f"{row['test']}\ncheck({row['entry_point']})"},
    )


def mbpp(row: dict[str, Any]) -> Task:
    return Task(row["prompt"], row["code"], {"tests": "\n".join([*row["test_imports"], *row["test_list"]])})


@pytest.mark.parametrize(("name", "task", "every"), [("humaneval", human_eval, 8), ("mbpp_sanitized_test", mbpp, 12)])
def test_code_golds(name: str, task: Callable[[dict[str, Any]], Task], every: int) -> None:
    tasks = [task(row) for row in rows(name)[::every]]
    assert wrong(UnitTests(), [(one, one.gold) for one in tasks], expected=True) == []
    assert wrong(UnitTests(), [(one, "    return None\n") for one in tasks], expected=False) == []
