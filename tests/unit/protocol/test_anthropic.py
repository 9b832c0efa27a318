from typing import Any

import pytest

from hone.errors import UserError
from hone.protocol.anthropic import Messages
from hone.protocol.requests import parse

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}


def body(**fields: Any) -> Messages:
    return parse(Messages, ASKED | fields)


def test_a_conversation_becomes_what_templates_expect() -> None:
    text = {"type": "text", "text": "Let me add.", "cache_control": {"type": "ephemeral"}}
    used = {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}}
    results = [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "1"}], "is_error": False},
        {"type": "tool_result", "tool_use_id": "u"},
    ]
    asked = body(
        system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}],
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [text, used]},
            {"role": "user", "content": [*results, {"type": "text", "text": "And?"}]},
        ],
        tools=[{"name": "add", "description": "Adds", "input_schema": {"type": "object"}}],
    )
    call = {"id": "t", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert asked.conversation() == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me add.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t", "content": "1"},
        {"role": "tool", "tool_call_id": "u", "content": ""},
        {"role": "user", "content": "And?"},
    ]
    function = {"name": "add", "description": "Adds", "parameters": {"type": "object"}}
    assert asked.shown_tools == [{"type": "function", "function": function}]
    assert not asked.continues
    assert body(messages=[*ASKED["messages"], {"role": "assistant", "content": "I"}]).continues


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"min_p": 1}, "min_p is not supported"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "'document'.*text only"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "'text'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]}]}, "'y' is not supported"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t"}]}]}, "needs 'name' as str"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": 3}]}]},
            "must be a text",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        body(**fields)
