"""Each verifier grades as its grader does, with the parameters that a file can give."""

import asyncio

import pytest

from hone.algorithms.graders import GradingError, Task
from hone.errors import UserError
from hone.experiments.kinds import plugins
from hone.experiments.kinds.contract import Inference


def score(kind, answer, gold="", params=None, **facts):
    grader = plugins.verifiers.make(kind, params or {}).grader()
    return asyncio.run(grader(Task("q", gold, facts), answer)).score


SCHEMA = {"type": "object", "required": ["a"]}
TESTS = "assert add(2, 3) == 5"
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"


@pytest.mark.parametrize(
    ("kind", "params", "gold", "facts", "right", "wrong"),
    [
        ("exact", {}, "Ada Moss", {}, " Ada  Moss ", "ada moss"),
        ("exact", {"ignore_case": True}, "Ada Moss", {}, "ada moss", "ada"),
        ("exact", {"marked": True}, "7", {}, r"so \boxed{7}", r"7 \boxed{8}"),
        ("contains", {}, "Ada Moss", {}, "it was ADA\nMOSS.", "Ada Mosses"),
        ("contains", {"ignore_case": False}, "Ada", {}, "by Ada", "by ada"),
        ("contains", {"whole_words": False}, "art", {}, "party", "pary"),
        ("contains", {"text": "C++ (11)"}, "", {}, "in C++ (11)!", "in C++"),
        ("regex", {"pattern": "^a+$", "ignore_case": True}, "", {}, "AAA", "AB"),
        ("regex", {"whole": True}, "", {"pattern": "[0-9]+"}, " 12 ", "a 12"),
        ("numeric", {"tolerance": 0.1}, "100", {}, "about 105", "120"),
        ("json_schema", {"form": SCHEMA}, "", {}, '{"a": 1}', "{}"),
        ("json_schema", {}, "", {"schema": SCHEMA}, '```json\n{"a": 1}\n```', "a"),
        ("code", {"seconds": 20, "memory_mib": 256}, "", {"tests": TESTS}, RIGHT, "def add(a, b): return a"),
        (
            "composite",
            {"parts": [{"verifier": {"kind": "exact"}}, {"verifier": {"kind": "contains"}}], "mode": "all"},
            "yes",
            {},
            "yes",
            "yes, I think",
        ),
    ],
)
def test_right_and_wrong(kind, params, gold, facts, right, wrong):
    assert score(kind, right, gold, params, **facts) == 1.0
    assert score(kind, wrong, gold, params, **facts) == 0.0


def test_maths():
    pytest.importorskip("math_verify")
    assert score("maths", r"\boxed{\frac{2}{4}}", "1/2", {"seconds": 60}) == 1.0


def test_a_weighted_composite():
    parts = [{"verifier": {"kind": "exact"}, "weight": 3}, {"verifier": {"kind": "contains"}, "weight": 1}]
    assert score("composite", "yes, I think", "yes", {"parts": parts}) == 0.25


ASKED = []


class Scripted(Inference):
    """Says what its class was told to."""

    says = "Score: 7"

    async def generate(self, messages, *, max_tokens, temperature, seed):
        ASKED.append((messages[-1]["content"], max_tokens, temperature, seed))
        if self.says == "down":
            raise UserError("no connection")
        return self.says


@pytest.fixture(autouse=True)
def scripted():
    plugins.inference.register("scripted")(Scripted)
    ASKED.clear()
    yield
    plugins.inference._plugins.pop("scripted")


def test_a_rubric_asks_the_model_of_the_file(monkeypatch):
    params = {"judge": {"kind": "scripted"}, "criteria": "short", "max_tokens": 9}
    assert score("rubric", "an answer", "gold", params) == 0.7
    assert score("rubric", "an answer", "gold", params | {"points": 7}) == 1.0
    text, max_tokens, temperature, seed = ASKED[0]
    assert (max_tokens, temperature, seed) == (9, 0.0, 0)
    assert "an answer" in text
    assert "short" in text


def test_a_judge_compares_with_the_gold_answer_in_both_orders(monkeypatch):
    monkeypatch.setattr(Scripted, "says", "Verdict: A")
    params = {"judge": {"kind": "scripted"}}
    assert score("judge", "an answer", "gold", params, rubric="short") == 0.5
    assert len(ASKED) == 2
    monkeypatch.setattr(Scripted, "says", "Verdict: Tie")
    assert score("judge", "an answer", "gold", params, rubric="short") == 0.5


def test_a_judge_without_a_verdict_is_no_grade(monkeypatch):
    params = {"judge": {"kind": "scripted"}, "criteria": "short", "attempts": 3}
    monkeypatch.setattr(Scripted, "says", "well")
    with pytest.raises(GradingError, match="no verdict in 3 attempts"):
        score("rubric", "an answer", "gold", params)
    assert [one[2:] for one in ASKED] == [(0.0, 0), (0.7, 1), (0.7, 2)]
    monkeypatch.setattr(Scripted, "says", "down")
    with pytest.raises(GradingError, match="the judge does not answer: no connection"):
        score("rubric", "an answer", "gold", params)


@pytest.mark.parametrize(
    ("kind", "params", "problem"),
    [
        ("regex", {"pattern": "("}, "not a regular expression"),
        ("exact", {"ignorecase": True}, "ignorecase"),
        ("composite", {"parts": []}, "at least 1 item"),
        ("composite", {"parts": [{"verifier": {"kind": "exact"}}] * 2}, "give `name` where kinds repeat"),
        ("composite", {"parts": [{"verifier": {"kind": "exact"}, "weight": 0}]}, "not all 0"),
        ("rubric", {}, "judge"),
    ],
)
def test_params_are_checked_before_anything_is_graded(kind, params, problem):
    with pytest.raises(UserError, match=problem):
        plugins.verifiers.make(kind, params)
