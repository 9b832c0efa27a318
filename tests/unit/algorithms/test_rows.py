"""Files with training data: every line is a row or a problem."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.algorithms.data.rows import (
    MAX_SHOWN,
    DataError,
    read_conversations,
    read_preferences,
    read_prompts,
)
from hone.errors import UserError

TALK = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_conversations(path: Path) -> None:
    tool = {"name": "f", "parameters": {}}
    read = read_conversations(write(path, {"messages": TALK}, "", {"messages": TALK, "tools": [tool]}))
    assert [(row.line, row.messages, len(row.tools)) for row in read.checked()] == [(1, TALK, 0), (3, TALK, 1)]


def test_every_bad_row_is_named_with_its_line(path: Path) -> None:
    write(
        *(path, {"messages": TALK}, '{"messages": [', [1], {"text": "x"}, {"messages": TALK, "id": 1}),
        *({"messages": []}, {"messages": [{"content": "x"}]}, "", {"messages": TALK}),
    )
    with path.open("ab") as file:
        file.write(b'\n{"messages": "\xff"}\n')
    read = read_conversations(path)
    assert [row.line for row in read.rows] == [1, 9]
    assert [(problem.line, problem.kind) for problem in read.problems] == [
        *((2, "broken JSON"), (3, "not an object"), (4, "wrong columns"), (5, "mixed columns")),
        *((6, "bad content"), (7, "bad content"), (10, "broken JSON")),
    ]
    assert str(read.problems[5]) == f"{path}:7: bad content: messages[0] has no 'role'; it has 'content'"
    with pytest.raises(DataError, match="7 rows cannot be used") as error:
        read.checked()
    assert error.value.problems == read.problems


def test_an_error_does_not_list_a_thousand_rows(path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)1000 rows cannot be used.*and 980 more") as error:
        read_conversations(write(path, *["x"] * 1000)).checked()
    assert str(error.value).count("\n") == MAX_SHOWN + 1


def test_files_that_are_not_there_or_empty(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_conversations(path)
    path.write_text("\n\n")
    with pytest.raises(UserError, match="has no rows"):
        read_conversations(path).checked()


def test_preferences_as_text_and_as_messages(path: Path) -> None:
    expected = ([TALK[0]], [TALK[1]], [{"role": "assistant", "content": "no"}])
    text = {"prompt": "?", "chosen": "!", "rejected": "no", "source": "me"}
    spelt = {"prompt": [TALK[0]], "chosen": [TALK[1]], "rejected": TALK[:1] + expected[2], "source": "me"}
    rows = read_preferences(write(path, text, spelt)).checked()
    assert [(row.prompt, row.chosen, row.rejected) for row in rows] == [expected, expected]
    assert rows[0].extra == {"source": "me"}


def test_comparisons_of_the_cookbook(path: Path) -> None:
    a, b = [{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]
    comparison = {"prompt_conversation": [TALK[0]], "completion_A": a, "completion_B": b}
    rows = [{"comparison": comparison, "label": label} for label in ("A", "B", "Tie", "C")]
    read = read_preferences(write(path, *rows))
    assert [(row.chosen, row.rejected, row.tie) for row in read.rows] == [(a, b, False), (b, a, False), (a, b, True)]
    assert [str(problem.text) for problem in read.problems] == ["label is 'C'; it must be A, B or Tie"]


def test_preferences_that_are_none(path: Path) -> None:
    rows = [
        {"prompt": "?", "chosen": "!", "rejected": [TALK[0]]},
        {"comparison": {"completion_A": []}, "label": "A"},
        {"prompt": "?", "chosen": "!"},
    ]
    kinds = [problem.kind for problem in read_preferences(write(path, *rows)).problems]
    assert kinds == ["bad content", "mixed columns", "wrong columns"]


def test_prompts(path: Path) -> None:
    rows = [{"prompt": "?", "answer": "4"}, {"prompt": TALK[:1], "answer": "5"}, {"prompt": TALK, "answer": "6"}]
    read = read_prompts(write(path, *rows))
    assert [(row.messages, row.extra) for row in read.rows] == [([TALK[0]], {"answer": n}) for n in "45"]
    assert "a prompt ends with what is to be answered" in read.problems[0].text
    assert read_prompts(write(path, {"messages": TALK[:1]})).checked()[0].messages == TALK[:1]


def turn(speaker: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value, **more}


def test_sharegpt(path: Path) -> None:
    tool = {"name": "f", "parameters": {}}
    call = turn("function_call", json.dumps({"name": "f", "arguments": {"x": 1}}))
    rows = [
        {"conversations": [turn("human", "?"), turn("gpt", "!")], "id": 1},
        {"conversations": [turn("system", "s"), turn("user", "?"), call, turn("observation", "1"), turn("gpt", "!")]},
        {"conversations": TALK, "system": "", "tools": ""},
        {"conversations": [turn("human", "?"), turn("gpt", "!")], "system": "s", "tools": json.dumps([tool])},
    ]
    first, *others = [read_conversations(write(path, row)).checked()[0] for row in rows]
    assert (first.messages, first.tools, first.extra) == (TALK, [], {"id": 1})
    called = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    assert others[0].messages == [
        *({"role": "system", "content": "s"}, TALK[0]),
        *({"role": "assistant", "content": "", "tool_calls": [called]}, {"role": "tool", "content": "1"}, TALK[1]),
    ]
    assert others[1].messages == TALK
    assert others[2].messages == [{"role": "system", "content": "s"}, *TALK]
    assert others[2].tools == [{"type": "function", "function": tool}]


def test_sharegpt_that_is_none(path: Path) -> None:
    good = [turn("human", "?"), turn("gpt", "!")]
    rows = [
        good,
        [turn("narrator", "?")],
        [turn("human", None)],
        ["?"],
        [],
        [turn("function_call", "f(1)")],
        [turn("gpt", "!", weight=0)],
        "?",
    ]
    read = read_conversations(write(path, *({"conversations": one} for one in rows)))
    assert [row.line for row in read.rows] == [1]
    known = "system, human, user, gpt, chatgpt, assistant, function_call, tool, observation, function_response"
    assert str(read.problems[0]) == (
        f"{path}:2: bad content: conversations[0] is from 'narrator'; a turn is from one of {known}"
    )
    assert [problem.text.partition(";")[0].partition(":")[0] for problem in read.problems[1:]] == [
        "conversations[0] has no text 'value'",
        "conversations[0] is of type str",
        "messages is empty",
        "conversations[0].value is not JSON",
        "messages[0] has the weight 0",
        "conversations is of type str",
    ]
    read = read_conversations(write(path, {"conversations": good, "images": ["a.png"]}))
    assert "it has images beside conversations" in read.problems[0].text
