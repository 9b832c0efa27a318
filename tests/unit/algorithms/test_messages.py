"""What people have in their files, in the one form; and what is wrong with the rest, said plainly."""

from typing import Any

import pytest
from pydantic import BaseModel

from hone.algorithms.messages import (
    MessageError,
    arguments_of,
    called_name,
    read_message,
    read_messages,
    read_tools,
    text_of,
    thinking_of,
)


class Function(BaseModel):
    name: str
    arguments: str


class Call(BaseModel):
    type: str = "function"
    id: str | None = None
    function: Function


def test_reasoning_in_a_field_of_its_own_becomes_a_part() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        message = read_message({"role": "assistant", "content": "4", name: "2+2"})
        assert message["content"] == [{"type": "thinking", "thinking": "2+2"}, {"type": "text", "text": "4"}]
        assert (thinking_of(message), text_of(message)) == ("2+2", "4")


def test_calls_may_be_pydantic_objects_or_have_arguments_as_an_object() -> None:
    objects = read_message(
        {"role": "assistant", "content": "", "tool_calls": [Call(function=Function(name="f", arguments='{"a": "é"}'))]}
    )
    plain = read_message(
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": "é"}}}]}
    )
    assert objects == plain
    assert arguments_of(plain["tool_calls"][0]) == {"a": "é"}


def test_image_urls_are_images() -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:..."}}, {"type": "text", "text": "?"}]
    message = read_message({"role": "user", "content": content})
    assert message["content"] == [{"type": "image", "image": "data:..."}, {"type": "text", "text": "?"}]


def test_what_is_read_is_read_again_as_it_is() -> None:
    call = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}], "tool_calls": [call]},
        {"role": "tool", "content": "y", "tool_call_id": "c1", "name": "f", "trainable": False},
    ]
    assert read_messages(messages) == messages
    assert read_messages(read_messages(messages)) == messages


def test_a_tools_name_is_found_by_its_call() -> None:
    calls = [{"id": id, "function": {"name": name, "arguments": {}}} for id, name in (("1", "f"), ("2", "g"))]
    messages = read_messages(
        [
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "content": "", "tool_call_id": "1"},
            {"role": "tool", "content": ""},
            {"role": "tool", "content": "", "name": "h"},
        ]
    )
    assert [called_name(messages, index) for index in (1, 2, 3)] == ["f", "g", "h"]
    assert called_name(messages[1:], 0) is None


def test_bare_tools_are_wrapped() -> None:
    bare = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert read_tools([bare]) == [{"type": "function", "function": bare}] == read_tools(read_tools([bare]))


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "is empty"),
        ("text", "must be a list"),
        ([{"content": "x"}], r"messages\[0\] has no 'role'"),
        ([{"role": "user"}], "has no 'content'"),
        ([{"role": "human", "content": "x"}], "the role 'human'; a role is one of system"),
        ([{"role": "user", "content": 3}], "content is of type int"),
        ([{"role": "user", "content": None}], "content is null"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "the type 'audio'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "no 'text'"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "text is of type int"),
        ([{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}], "only an assistant thinks"),
        ([{"role": "user", "content": "x", "tool_calls": [{"name": "f"}]}], "only an assistant calls tools"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "names no function"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": 3}]}], "arguments of f"),
        ([{"role": "user", "content": "x", "trainable": "yes"}], "trainable is 'yes'"),
        ([{"role": "assistant", "content": "x", "weight": 0}], "the weight 0; say instead"),
        ([{"role": "user", "content": "x"}, 7], r"messages\[1\] is of type int"),
    ],
)
def test_what_is_wrong_is_said(messages: Any, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        read_messages(messages)
