"""Graders accept what is right in its many spellings and reject what comes near."""

import asyncio
import json
import re
import time
from typing import Any

import pytest

from hone.algorithms.graders import Grade, Grader, GradingError, Task
from hone.algorithms.graders.answers import boxed, last_code, marked_answer
from hone.algorithms.graders.code import UnitTests
from hone.algorithms.graders.composite import AllOf, Weighted
from hone.algorithms.graders.exact import Exact
from hone.algorithms.graders.json_schema import JsonSchema
from hone.algorithms.graders.maths import Maths
from hone.algorithms.graders.numeric import Numeric, find_number
from hone.algorithms.graders.regex import Regex
from hone.algorithms.sandbox import Limits
from hone.errors import UserError


def grade(grader: Grader, gold: str, answer: str, **facts: Any) -> Grade:
    return asyncio.run(grader(Task("?", gold, facts), answer))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} and then \boxed{x_{1}}", "x_{1}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox {7}", "7"),
        (r"cut off \boxed{12", None),
        ("thinking\n#### 1,234", "1,234"),
        ("<answer> blue </answer>", "blue"),
        ("First I thought the answer is 4. The answer is 5.", "5"),
        ("**Final Answer:** 12 dollars\nbye", "12 dollars"),
        ("The answer is: 3.5.", "3.5"),
        ("The answer:\n$\\frac{1}{2}$", "$\\frac{1}{2}$"),
        ("I do not know.", None),
    ],
)
def test_where_an_answer_is_marked(text: str, answer: str | None) -> None:
    assert marked_answer(text) == answer


def test_every_balanced_box_is_found() -> None:
    assert list(boxed(r"\boxed{a} \boxed{b{c}d} \boxed{e")) == ["a", "b{c}d"]


def test_the_last_block_of_code_is_the_answer() -> None:
    assert last_code("text\n```python\na = 1\n```\nmore\n```\nb = 2\n```\n") == "b = 2\n"
    assert last_code("a = 1") == "a = 1"


@pytest.mark.parametrize(
    ("grader", "gold", "answer", "right"),
    [
        (Exact(), "a b", " a   b\n", True),
        (Exact(), "a b", "a B", False),
        (Exact(ignore_case=True), "a b", "A B", True),
        (Exact(), "", "x", False),
        (Exact(marked=True), "blue", "It is <answer>blue</answer>", True),
        (Exact(marked=True), "blue", "blue", True),
        (Exact(marked=True), "blue", "blue or <answer>red</answer>", False),
    ],
)
def test_exact(grader: Exact, gold: str, answer: str, right: bool) -> None:
    assert grade(grader, gold, answer).right is right


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.5", 1234.5),
        ("It costs $80,000.", 80000),
        ("\\$80{,}000", 80000),
        ("-3", -3),
        ("−3", -3),
        ("- 3", -3),
        ("$-3$", -3),
        ("-$3", -3),
        ("10-3", 3),  # a difference, not a sign
        ("10 - 3", 3),
        ("10 - 3 = - 7", -7),
        ("x = -0.5", -0.5),
        ("3/4", 0.75),
        ("1 1/2", 1.5),
        (r"\frac{3}{4}", 0.75),
        (r"-\dfrac{3}{4}", -0.75),
        (r"2\frac{1}{2}", 2.5),
        ("1.5e3", 1500),
        ("2E-2", 0.02),
        ("12 345", 12345),
        (".5", 0.5),
        ("1,2,3", 3),  # a list
        ("3 dogs and 18 cats", 18),
        (r"3 + 4 = \boxed{7} apples in 2 bags", 7),
        ("#### 18", 18),
        ("The answer is 18 dollars for 3 days.", 18),
        ("2024.", 2024),
    ],
)
def test_numbers_are_read(text: str, value: float) -> None:
    found = find_number(text)
    assert found is not None
    assert float(found.value) == pytest.approx(value)


@pytest.mark.parametrize("text", ["none", "", r"\boxed{unknown}, though 7 was near", "1/0"])
def test_what_is_no_number(text: str) -> None:
    assert find_number(text) is None


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("18", "18", True),
        ("18", "18.0000", True),
        ("18", "18.1", False),
        ("18", "-18", False),
        ("18", "180", False),
        ("18", "1.8e1", True),
        ("1000000", "1000001", False),
        ("1000000000", "1000000001", True),  # within a millionth of what was asked for
        ("0", "0.0000001", True),
        ("0", "0.001", False),
        ("50", "50%", True),
        ("0.5", "50 %", True),
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("50%", "5%", False),
        ("50%", "50%", True),
        ("0.5", "0.5%", True),  # the sign as a unit
        ("1/3", "0.3333333", True),
        ("1/3", "0.333", False),
        ("18", "18 or 19", False),
        ("18", "no idea", False),
        ("18", "1e999", False),
        ("18", "1" * 500, False),
        ("18", "1" * 5000, False),
    ],
)
def test_numeric(gold: str, answer: str, right: bool) -> None:
    assert grade(Numeric(), gold, answer).right is right


def test_a_gold_answer_without_a_number_is_the_tasks_fault() -> None:
    with pytest.raises(GradingError, match="holds no number"):
        grade(Numeric(), "blue", "3")


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", r"so the result is $\boxed{\dfrac12}$", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^2+2x+1", "(x+1)^2 + x", False),
        ("(1,2)", "(2,1)", False),
        ("[1,2)", "(1,2)", False),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"\{1,2\}", r"\{2,1,3\}", False),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        (r"2\sqrt{3}", r"\sqrt{13}", False),
        (r"\pi", "3.14", False),
        (r"\frac{\pi}{2}", r"90^\circ", False),
        (r"(-\infty,3)", r"(-\infty,3]", False),
        ("6+9i", "6-9i", False),
        ("p - q", "q - p", False),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"\text{Evelyn}", "Evelin", False),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False),
        ("x=5", "5", True),
        ("70,000", "70000", True),
        (r"10,\!080", r"\boxed{10,080\,}", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}2)", True),
        ("52_8", "52_{8}", True),
        ("52_8", "52_9", False),
        ("52_8", "53_8", False),
        ("2", "2.001", False),
        ("7", "", False),
        ("7", r"It may be 8, so \boxed{8} and not 7", False),
    ],
)
def test_maths(gold: str, answer: str, right: bool) -> None:
    pytest.importorskip("math_verify")
    assert grade(Maths(), gold, answer).right is right


def test_an_expression_that_takes_too_long_is_wrong_and_harms_nothing() -> None:
    pytest.importorskip("math_verify")
    grade(Maths(), "2", "4/2")  # the process is there
    found = grade(Maths(seconds=0.5), "7", "9^{9^{9^{9}}} - 9^{9^{9^{8}}}")
    assert found.score == 0
    assert grade(Maths(), "2", "4/2").right


@pytest.mark.parametrize(
    ("grader", "answer", "right"),
    [
        (Regex(r"\bcolou?r\b"), "a color!", True),
        (Regex(r"\bcolou?r\b"), "colors", False),
        (Regex(r"\d+", whole=True), " 12 ", True),
        (Regex(r"\d+", whole=True), "12 a", False),
        (Regex(r"^\w+$", flags=re.ASCII), "é", False),
        (Regex(r"^B.C$", flags=re.IGNORECASE | re.DOTALL | re.MULTILINE), "a\nb\nc", True),
        (Regex(r"x$"), "y" * 30_000 + "x", True),
        (Regex(), "yes", True),
        (Regex(), "no", False),
    ],
)
def test_regex(grader: Regex, answer: str, right: bool) -> None:
    assert grade(grader, "", answer, pattern="^yes$").right is right


def test_a_pattern_that_is_none_or_missing_is_said() -> None:
    with pytest.raises(GradingError, match="not a regular expression"):
        grade(Regex("("), "", "x")
    with pytest.raises(GradingError, match="no pattern"):
        grade(Regex(), "", "x")


def test_a_pattern_that_takes_too_long_is_stopped_and_holds_up_nobody() -> None:
    async def both() -> tuple[BaseException, float]:
        slow = asyncio.create_task(Regex(r"(a|aa)+$", seconds=0.5)(Task("?"), "a" * 5000 + "!"))  # type: ignore[arg-type]
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        waited = time.perf_counter() - began
        with pytest.raises(GradingError) as failure:
            await slow
        return failure.value, waited

    failure, waited = asyncio.run(both())
    assert str(failure).startswith("the pattern '(a|aa)+$' took longer than 0.5 s on an answer of 5001 characters")
    assert waited < 0.4


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("", '{"name": "Ada", "age": 36}', True),
        ("", 'Here:\n```json\n{"name": "Ada"}\n```', True),
        ("", '{"name": "Ada", "age": -1}', False),
        ("", '{"name": "Ada", "age": "36"}', False),
        ("", '{"age": 36}', False),
        ("", '{"name": "Ada", "town": "x"}', False),
        ("", '{"name": "Ada"', False),
        ("", '{"name": "Ada"} and more', False),
        ("", '{"name": NaN}', False),
        ("", '{"name": "Ada", "name": "Bob"}', False),
        ("", "[" * 100_000, False),
        ('{"age": 36, "name": "Ada"}', '{"name": "Ada", "age": 36}', True),
        ('{"age": 36, "name": "Ada"}', '{"name": "Ada", "age": 36.0}', True),
        ('{"age": 36, "name": "Ada"}', '{"name": "Ada", "age": 37}', False),
        ('{"age": 36, "name": "Ada"}', '{"name": "Ada"}', False),
    ],
)
def test_json_schema(gold: str, answer: str, right: bool) -> None:
    assert grade(JsonSchema(PERSON), gold, answer).right is right
    assert grade(JsonSchema(), gold, answer, schema=PERSON).right is right


def test_true_is_not_one_in_json() -> None:
    assert not grade(JsonSchema({}), "1", "true").right
    assert grade(JsonSchema({}), "[1.0]", "[1]").right


def test_a_schema_that_is_none_or_missing_is_said() -> None:
    with pytest.raises(GradingError, match="not a JSON schema"):
        grade(JsonSchema({"type": "person"}), "", "{}")
    with pytest.raises(GradingError, match="no schema"):
        grade(JsonSchema(), "", "{}")


TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("def add(a, b):\n    return a + b", True),
        ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", True),
        ("def add(a, b):\n    print('hello')\n    return b + a", True),
        ("def add(a, b):\n    return a - b", False),
        ("def add(a, b):\n    return 5", False),
        ("def add(a, b): return a +", False),
        ("", False),
        # It has not passed if the tests never ran.
        ("import sys; sys.exit(0)", False),
        ("import os; os._exit(0)", False),
        ("raise SystemExit", False),
        ("def add(a, b):\n    import os\n    os._exit(0)", False),
        ("import sys\nsys.stdout = None\ndef add(a, b):\n    return a - b", False),
        ("while True: pass", False),
    ],
)
def test_code(answer: str, right: bool) -> None:
    assert grade(UnitTests(Limits(wall_seconds=2.0)), "", answer, tests=TESTS).right is right


def test_code_says_what_went_wrong() -> None:
    found = grade(UnitTests(), "", "def add(a, b):\n    return a - b", tests=TESTS)
    assert found.details["problem"] == "AssertionError"
    assert found.details["ended"] == "exited with status 1"
    with pytest.raises(GradingError, match="no tests"):
        grade(UnitTests(), "", "pass")


def test_composites() -> None:
    parts = {"number": (Numeric(), 3.0), "short": (Regex(r".{0,5}", whole=True), 1.0)}
    assert grade(Weighted(parts), "7", "7").score == 1.0
    found = grade(Weighted(parts), "7", "It is 7")
    assert found.score == pytest.approx(0.75)
    assert found.details["number"] == 1.0
    assert found.details["short"] == 0.0
    assert grade(Weighted(parts), "7", "8").score == pytest.approx(0.25)
    both = AllOf({name: grader for name, (grader, _) in parts.items()})
    assert grade(both, "7", "7").right
    assert grade(both, "7", "It is 7").score == 0.0
    for weights in ({}, {"a": (Exact(), 0.0)}, {"a": (Exact(), -1.0), "b": (Exact(), 2.0)}):
        with pytest.raises(UserError, match="weights of graders"):
            Weighted(weights)


def test_details_are_plain() -> None:
    """Logs are written as JSON."""
    json.dumps(dict(grade(Weighted({"a": (Numeric(), 1.0)}), "7", "8").details))
