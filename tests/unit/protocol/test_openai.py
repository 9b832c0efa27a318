from typing import Any

import pytest

from hone.errors import UserError
from hone.protocol.openai import ChatCompletion, Completion
from hone.protocol.requests import parse

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chat(**fields: Any) -> ChatCompletion:
    return parse(ChatCompletion, CHAT | fields)


def test_messages_become_what_templates_expect() -> None:
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}]
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    odd = {"id": "d", "type": "function", "function": {"name": "add", "arguments": "{a"}}
    body = chat(
        messages=[
            {"role": "developer", "content": parts},
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call, odd]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ]
    )
    assert [message.to_template() for message in body.messages] == [
        {"role": "system", "content": "Be brief"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
                {"id": "d", "type": "function", "function": {"name": "add", "arguments": "{a"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]


def test_fields_that_clients_always_send_are_fine() -> None:
    neutral = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "store": False,
        "user": "u",
        "metadata": {"a": "b"},
        "stop": None,
        "n": None,
        "tools": None,
    }
    assert chat(**neutral).shown_tools is None
    assert chat(stop="x").stop == ["x"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"min_p": 1}, "min_p is not supported by this server"),
        ({"frequency_penalty": 1}, "frequency_penalty: is not supported"),
        ({"logprobs": False, "top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"stop": [""]}, "stop"),
        ({"n": 129}, "n: .*128"),
        ({"temperature": float("nan")}, "finite"),
        ({"tools": [{"type": "web_search"}]}, "'web_search'; this server knows 'function'"),
        ({"tools": [{"type": "function", "function": {}}]}, "name"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'input_audio'.*text only"),
        ({"messages": [{"role": "user", "content": "x", "weight": 1}]}, "weight is not supported"),
    ],
)
def test_what_has_no_effect_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        chat(**fields)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_all_shapes_of_prompts(prompt: Any, prompts: Any) -> None:
    assert parse(Completion, {"model": "m", "prompt": prompt}).prompts == prompts


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": []}, "empty list"),
        ({"prompt": ["a", "b"], "stream": True}, "one prompt"),
        ({"prompt": "a", "stream": True, "echo": True}, "no echo"),
        ({"prompt": "a", "max_tokens": 0}, "needs echo"),
        ({"prompt": "a", "best_of": 2}, "best_of: is not supported"),
    ],
)
def test_completions_that_cannot_be_served(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(Completion, {"model": "m"} | fields)
