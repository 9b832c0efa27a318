"""Sampled tokens as messages: how they ended, and what was wrong with them."""

from typing import Any

import pytest

from hone.algorithms.messages import read_messages
from hone.algorithms.renderers import Renderer, Termination, get_renderer
from tests.support import conversations as c
from tests.unit.algorithms.renderers.test_weights import tokenizer

TOOLS = [{"name": "f", "parameters": {"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}}]


def renderer(name: str) -> Renderer:
    return get_renderer(name, tokenizer())


def parse(name: str, text: str, tools: Any = ()) -> tuple[dict[str, Any], Termination]:
    message, termination = renderer(name).parse_response(
        tokenizer().encode(text, add_special_tokens=False), tools=tools
    )
    return dict(message), termination


def call(arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("name", "text", "termination"),
    [
        ("qwen3", "7<|im_end|>", Termination.STOP_SEQUENCE),
        ("qwen3", "7", Termination.MALFORMED),
        ("qwen3", "", Termination.MALFORMED),
        ("qwen3", "7<|im_end|><|im_end|>", Termination.MALFORMED),
        ("qwen3", "7<|im_end|>8", Termination.MALFORMED),
        ("llama3", "7<|eot_id|>", Termination.STOP_SEQUENCE),
        ("llama3", "7<|im_end|>", Termination.EOS),  # which is this tokenizer's end token
        ("llama3", "7<|im_end|>8", Termination.MALFORMED),
        ("role_colon", " 7\n\nUser:", Termination.STOP_SEQUENCE),
        ("role_colon", " 7<|im_end|>", Termination.EOS),
        ("role_colon", " 7", Termination.MALFORMED),
        ("role_colon", " 7\n\nUser: 8\n\nUser:", Termination.MALFORMED),
        ("role_colon", " 7\n\nUser:<|im_end|>", Termination.MALFORMED),
        ("glm4_6", "\n<think></think>\n7<|user|>", Termination.STOP_SEQUENCE),
        ("chat_template", "7<|im_end|>", Termination.STOP_SEQUENCE),
        ("chat_template", "7", Termination.MALFORMED),
        ("gpt_oss_low_reasoning", "<|channel|>final<|message|>7<|return|>", Termination.STOP_SEQUENCE),
        ("gpt_oss_low_reasoning", "<|channel|>final<|message|>7", Termination.MALFORMED),
    ],
)
def test_how_an_answer_ends(name: str, text: str, termination: Termination) -> None:
    message, ending = parse(name, text)
    assert ending is termination
    assert bool(ending) == ending.is_clean == (termination is not Termination.MALFORMED)
    assert message == {"role": "assistant", "content": "7" if text else ""}


@pytest.mark.parametrize(
    ("name", "text", "thinking", "said"),
    [
        ("qwen3", "<think>\na\n</think>\n\nb", "a", "b"),
        ("qwen3", "<think>\n\n</think>\n\nb", "", "b"),
        ("qwen3", "b", "", "b"),
        ("qwen3", "<think>\na", "a", ""),
        ("qwen3", "a\n</think>\n\nb", "a", "b"),
        ("qwen3_disable_thinking", "b", "", "b"),
        ("qwen3_5", "a\n</think>\n\nb", "a", "b"),
        ("qwen3_5", "<think>\na\n</think>\n\nb", "a", "b"),
        ("qwen3_5", "a", "a", ""),
        ("qwen3_5_disable_thinking", "b", "", "b"),
        ("deepseekv3_thinking", "a</think>b", "a", "b"),
        ("deepseekv3", "b", "", "b"),
        ("kimi_k2", "<think>a</think>b", "a", "b"),
        ("glm4_5", "\n<think>a</think>\nb", "a", "b"),
        (
            *(
                "gpt_oss_low_reasoning",
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            ),
            *("a", "b"),
        ),
    ],
)
def test_reasoning_is_told_from_what_is_said(name: str, text: str, thinking: str, said: str) -> None:
    content: Any = [{"type": "thinking", "thinking": thinking}, {"type": "text", "text": said}] if thinking else said
    assert parse(name, text)[0]["content"] == content


JSON_CALLS = ["qwen3", "qwen3_instruct", "chat_template"]


@pytest.mark.parametrize("name", JSON_CALLS)
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<tool_call>\n{nothing}\n</tool_call>", "it is not JSON"),
        ("<tool_call>\n[1]\n</tool_call>", "it is not an object"),
        ('<tool_call>\n{"arguments": {}}\n</tool_call>', "it is not an object"),
        ('<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>', "a JSON list, not an object"),
        ('<tool_call>\n{"name": "f", "arguments": "{x"}\n</tool_call>', "its arguments are not JSON"),
        ('<tool_call>\n{"name": "f"', "it does not end with </tool_call>"),
    ],
)
def test_calls_that_cannot_be_read_say_why(name: str, text: str, error: str) -> None:
    message, termination = parse(name, f"so{text}<|im_end|>")
    assert termination.is_stop_sequence
    assert message["content"] == "so"
    assert "tool_calls" not in message
    (unparsed,) = message["unparsed_tool_calls"]
    assert error in unparsed["error"]
    assert unparsed["raw_text"] == text


def test_good_and_bad_calls_beside_each_other() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"a":  1}}\n</tool_call>\n<tool_call>\nx\n</tool_call> and so on'
    message, _ = parse("qwen3_instruct", f"so\n{text}<|im_end|>")
    assert message["content"] == "so"
    assert message["tool_calls"] == [call('{"a":  1}')]  # spaced as the model did
    assert [one["raw_text"] for one in message["unparsed_tool_calls"]] == ["<tool_call>\nx\n</tool_call>", " and so on"]


@pytest.mark.parametrize(
    ("inside", "arguments"),
    [
        ("<parameter=a>\n2\n</parameter>\n<parameter=n>\n2\n</parameter>", '{"a": "2", "n": 2}'),
        ("<parameter=a>\ntwo\nlines\n</parameter>", '{"a": "two\\nlines"}'),
        ("<parameter=b>\nTrue\n</parameter>\n<parameter=c>\nNone\n</parameter>", '{"b": true, "c": null}'),
        ('<parameter=b>\n{"x": [1]}\n</parameter>', '{"b": {"x": [1]}}'),
        ("", "{}"),
    ],
)
def test_tagged_calls(inside: str, arguments: str) -> None:
    """With the tool's schema, text that looks like a number stays text."""
    text = f"</think>\n\n<tool_call>\n<function=f>\n{inside}\n</function>\n</tool_call><|im_end|>"
    message, _ = parse("qwen3_5", text, TOOLS)
    assert message == {"role": "assistant", "content": "", "tool_calls": [call(arguments)]}


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("qwen3_5", "</think>\n\n<tool_call>\n{}\n</tool_call><|im_end|>", "it is not <function=NAME>"),
        (
            *("qwen3_5", "</think>\n\n<tool_call>\n<function=f>\nx\n</function>\n</tool_call><|im_end|>"),
            "what follows 0 parameters",
        ),
        ("glm4_6", "\n<think></think>\n<tool_call>f\nx</tool_call><|observation|>", "what follows 0 arguments"),
        ("glm4_6", "\n<think></think>\n<tool_call>\n</tool_call><|observation|>", "it names no function"),
        ("deepseekv3", "<｜tool▁calls▁begin｜>", "it does not end with"),
        (
            *("deepseekv3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
            "it is not <｜tool▁call▁begin｜>",
        ),
        (
            "deepseekv3",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>x<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "its arguments are not JSON",
        ),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>f<|tool_call_end|><|tool_calls_section_end|><|im_end|>",
            "it is not <|tool_call_begin|>ID",
        ),
        ("kimi_k2", "<|tool_calls_section_begin|><|im_end|>", "it does not end with"),
        ("gpt_oss_low_reasoning", " to=functions.f<|channel|>commentary json<|message|>{x<|call|>", "are not JSON"),
        (
            "gpt_oss_low_reasoning",
            " to=functions.f<|channel|>commentary json<|message|>{}",
            "does not end with <|call|>",
        ),
    ],
)
def test_every_notation_says_why(name: str, text: str, error: str) -> None:
    message, _ = parse(name, text)
    assert any(error in one["error"] for one in message["unparsed_tool_calls"])
    assert "tool_calls" not in message


def test_harmony_calls_in_both_orders() -> None:
    for header in (
        " to=functions.f<|channel|>commentary json",
        "<|channel|>commentary to=functions.f <|constrain|>json",
    ):
        message, termination = parse("gpt_oss_low_reasoning", f'{header}<|message|>{{"a": 1}}<|call|>')
        assert termination.is_stop_sequence
        assert message["tool_calls"] == [call('{"a": 1}')]


def test_kimi_names_the_tool_by_the_calls_id() -> None:
    begin, end = (
        "<|tool_calls_section_begin|><|tool_call_begin|>",
        "<|tool_call_end|><|tool_calls_section_end|><|im_end|>",
    )
    message, _ = parse("kimi_k2", f"<think></think>{begin}functions.f:3<|tool_call_argument_begin|>{{}}{end}")
    assert message["tool_calls"] == [{**call("{}"), "id": "functions.f:3"}]


def test_what_could_not_be_read_is_written_as_it_was_sampled() -> None:
    """So the next prompt still begins with this one and its answer."""
    made, user = renderer("qwen3_instruct"), {"role": "user", "content": "?"}
    sampled = tokenizer().encode("so<tool_call>\n{x\n</tool_call><|im_end|>", add_special_tokens=False)
    message, _ = made.parse_response(sampled)
    before = made.build_generation_prompt([user]).to_ints()
    after = made.build_generation_prompt([user, message, user]).to_ints()
    assert after[: len(before) + len(sampled)] == before + sampled


def test_a_cut_off_character_is_no_error() -> None:
    tokens = c.tokenizer("tiny").encode("🙂", add_special_tokens=False)
    assert len(tokens) > 1
    message, termination = get_renderer("chat_template", c.tokenizer("tiny")).parse_response(tokens[:1])
    assert termination is Termination.MALFORMED
    assert read_messages([message])
