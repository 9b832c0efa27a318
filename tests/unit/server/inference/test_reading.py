from pathlib import Path
from typing import Any

import pytest

import hone
from hone.engine.contract import SamplePart
from hone.protocol.types import StopReason
from hone.server.inference.reading import Piece, Reader, ToolCall
from hone.server.inference.tokenizer import TextTokenizer

TOKENIZER = TextTokenizer(Path(hone.__file__).parent / "assets" / "tiny")


def read(reader: Reader, text: str, reason: StopReason = "stop") -> list[Piece]:
    tokens = TOKENIZER.encode(text)
    parts = [SamplePart(0, token, 0.0, (), None) for token in tokens[:-1]]
    parts.append(SamplePart(0, tokens[-1], 0.0, (), reason))
    return [piece for part in parts for piece in reader.take(part)]


def joined(pieces: list[Piece]) -> list[Any]:
    """Neighbouring texts as one; calls as their names and arguments."""
    found: list[Any] = []
    for piece in pieces:
        if isinstance(piece, ToolCall):
            found.append((piece.name, piece.arguments))
        elif found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize(
    ("text", "stops", "told", "by"),
    [
        ("one two three", ["two"], "one ", "two"),
        ("one two three", ["three", "two t"], "one ", "two t"),
        ("one two three", ["four"], "one two three", None),
        ("aaab", ["aab"], "a", "aab"),
        ("ends with th", ["the"], "ends with th", None),
        ("naïve 漢字", ["漢字"], "naïve ", "漢字"),
        ("x\n\nHuman:", ["\n\nHuman:"], "x", "\n\nHuman:"),
        ("done<|im_end|>", ["<|im_end|>"], "done", "<|im_end|>"),
        ("done<|im_end|>", ["zzz"], "done", None),
    ],
)
def test_stop_strings_are_never_told(text: str, stops: list[str], told: str, by: str | None) -> None:
    reader = Reader(TOKENIZER, stops, with_tools=True)
    assert "".join(map(str, read(reader, text))) == told
    assert reader.stopped_by == by
    assert reader.finish_reason("length", "tool_calls") == ("stop" if by and by != "<|im_end|>" else "length")


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ADD = ("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL, [ADD]),
        (f"Let me see.\n{CALL}\n{CALL}", ["Let me see.", ADD, ADD]),
        (f"{CALL} and then", [ADD, " and then"]),
        (CALL.removesuffix("</tool_call>"), [ADD]),
        ('<tool_call>{"name": "now"}</tool_call>', [("now", {})]),
        ("<tool_call>{bad}</tool_call>", ["<tool_call>{bad}</tool_call>"]),
        ('<tool_call>["add"]</tool_call>', ['<tool_call>["add"]</tool_call>']),
        ('<tool_call>{"name": "add", "arguments": "1"}', ['<tool_call>{"name": "add", "arguments": "1"}']),
        ("a <tool", ["a <tool"]),
        ("blanks at the end \n", ["blanks at the end \n"]),
    ],
)
def test_calls_are_told_whole_and_what_is_none_stays_text(text: str, expected: list[Any]) -> None:
    reader = Reader(TOKENIZER, (), with_tools=True)
    assert joined(read(reader, f"{text}<|im_end|>")) == expected
    called = any(isinstance(piece, tuple) for piece in expected)
    assert reader.finish_reason("stop", "tool_calls") == ("tool_calls" if called else "stop")
    assert reader.finish_reason("length", "tool_calls") == "length"


def test_without_tools_a_call_is_text() -> None:
    reader = Reader(TOKENIZER, (), with_tools=False)
    assert joined(read(reader, CALL)) == [CALL]


def test_arguments_keep_their_characters() -> None:
    assert ToolCall("1", "f", {"city": "Łódź"}).arguments_json == '{"city": "Łódź"}'
