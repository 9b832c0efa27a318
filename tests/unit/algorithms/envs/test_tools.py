"""Tools do what they say and refuse the rest; an agent is told why."""

import asyncio
import math

import pytest

from hone.algorithms.envs.calculator import Calculator, calculate
from hone.algorithms.envs.python_tool import Python
from hone.algorithms.envs.search import Bm25, Document, Search
from hone.algorithms.envs.tools import ToolEnv, ToolError, calling
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.numeric import Numeric
from hone.algorithms.messages import Message, text_of


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("-2 ** 2", -4),
        ("2 ^ 10", 1024),
        ("7 / 2", 3.5),
        ("7 // 2 + 7 % 2", 4),
        ("sqrt(16) + abs(-3)", 7.0),
        ("max(1, 2, 3) - min(1, 2)", 2),
        ("2 * pi", 2 * math.pi),
        (" 12345678901234567890 * 10", 123456789012345678900),
        ("10 ** 400", 10**400),
        ("round(7 / 2) + round(2.345, 2) + round(1234, -2)", 4 + 2.35 + 1200),
    ],
)
def test_calculate(expression: str, value: float) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "2 +",
        "1 / 0",
        "__import__('os').system('true')",
        "().__class__",
        "[1, 2]",
        "'a' * 3",
        "True + 1",
        "open('x')",
        "(lambda: 1)()",
        "9 ** 9 ** 9",
        "10 ** 100000",
        "1e308 * 10",
        "(-1) ** 0.5",
        "1j",
        "(" * 300 + "1" + ")" * 300,
        "1 + " * 2000 + "1",
        "2 if 1 else 3",
        "abs(x=1)",
        "sqrt(-1)",
        "unknown + 1",
        "round(2, 1 << 60)",
        "round(5, -10000000000)",
    ],
)
def test_what_is_not_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ToolError):
        calculate(expression)


def test_bm25_against_the_formula() -> None:
    """Three texts, one query of two words, by hand."""
    documents = [Document("", "red fox"), Document("", "red red hen and cow"), Document("", "blue cow")]
    hits = {hit.document.text: hit.score for hit in Bm25(documents).search("red cow", top=3)}
    rarity = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # each word is in two of three texts

    def part(count: int, length: int) -> float:
        return rarity * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * length / 3))

    assert hits["red fox"] == pytest.approx(part(1, 2))
    assert hits["red red hen and cow"] == pytest.approx(part(2, 5) + part(1, 5))
    assert hits["blue cow"] == pytest.approx(part(1, 2))


def test_search_finds_by_words_and_says_when_there_is_nothing() -> None:
    search = Search(Bm25([Document("Paris", "Capital of France."), Document("Rome", "Capital of Italy.")]), top=1)
    assert asyncio.run(search.call({"query": "capital italy"})) == "Rome: Capital of Italy."
    assert asyncio.run(search.call({"query": "xylophone"})) == "nothing found"
    assert Bm25([]).search("x") == []


def test_python_prints_or_says_what_went_wrong() -> None:
    assert asyncio.run(Python().call({"code": "print(6 * 7)"})) == "42"
    assert asyncio.run(Python().call({"code": "x = 1"})) == "the program printed nothing"
    with pytest.raises(ToolError, match=r"exited with status 1:\n(.|\n)*ZeroDivisionError"):
        asyncio.run(Python().call({"code": "1 / 0"}))


def env(**options: int) -> ToolEnv:
    return ToolEnv(Task("What is 6 * 7?", "42"), Numeric(), [Calculator()], **options)  # type: ignore[arg-type]


async def replies(tool_env: ToolEnv, *messages: Message) -> list[Message]:
    await tool_env.initial_observation()
    for message in messages:
        step = await tool_env.step(message)
    return step.next_messages


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (calling("calculator", {"expression": "6 * 7"}), "42"),
        (calling("calculator", {"expression": "6 *"}), "error: cannot calculate"),
        (calling("calculator", {}), "error: calculator needs expression"),
        (calling("telescope", {}), "error: there is no tool 'telescope'; there are calculator"),
        (
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"type": "function", "function": {"name": "calculator", "arguments": "{"}}],
            },
            "error: the arguments of calculator are not JSON",
        ),
        (
            {"role": "assistant", "content": "", "unparsed_tool_calls": [{"raw_text": "{", "error": "not JSON"}]},
            "error: not JSON",
        ),
    ],
)
def test_every_call_is_answered(message: Message, answer: str) -> None:
    last = asyncio.run(replies(env(), message))[-1]
    assert last["role"] == "tool"
    assert text_of(last).startswith(answer)


def test_several_calls_in_one_message_are_answered_in_order() -> None:
    two = calling("calculator", {"expression": "1 + 1"})
    two["tool_calls"] = [*two["tool_calls"], *calling("calculator", {"expression": "2 + 2"})["tool_calls"]]
    two["tool_calls"][0]["id"] = "first"
    answers = asyncio.run(replies(env(), two))[-2:]
    assert [text_of(answer) for answer in answers] == ["2", "4"]
    assert answers[0]["tool_call_id"] == "first"


@pytest.mark.parametrize(("limit", "reason"), [("max_turns", "max_turns"), ("max_tool_calls", "max_tool_calls")])
def test_calling_without_end_earns_nothing(limit: str, reason: str) -> None:
    async def play() -> dict[str, float | int]:
        tool_env = env(**{limit: 2})
        await tool_env.initial_observation()
        for _ in range(10):
            step = await tool_env.step(calling("calculator", {"expression": "6 * 7"}))
            if step.episode_done:
                assert step.reward == 0.0
                return step.metrics
        raise AssertionError("it did not end")

    assert asyncio.run(play())[f"stop/{reason}"] == 1.0
