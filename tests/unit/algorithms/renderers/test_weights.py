"""Which tokens carry weight, what begins with the prompt, what extends what: every family, on a stand-in tokenizer."""

import random
from typing import Any

import pytest

from hone.algorithms.messages import Message, arguments_of, read_messages, text_of, thinking_of
from hone.algorithms.renderers import Renderer, RendererError, Termination, TrainOnWhat, get_renderer
from tests.support import conversations as c

SPECIAL = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    *("<｜tool▁sep｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
    *("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>"),
    *("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|vision_start|>", "<|vision_end|>"),
)
NAMED = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink", "<tool_response>", "</tool_response>")

EXTENDS = {
    *("chat_template", "role_colon", "llama3", "qwen3_instruct", "qwen3_vl_instruct", "qwen3_preserve_thinking"),
    *("qwen3_5_preserve_thinking", "deepseekv3", "deepseekv3_disable_thinking", "qwen2_5_vl"),
}
NO_TOOLS = {"role_colon", "llama3", "qwen2_5_vl"}
NO_REASONING = {*NO_TOOLS, "chat_template", "deepseekv3", "deepseekv3_disable_thinking"}
NO_REASONING |= {name for name in c.FAMILIES if name.endswith("disable_thinking")}


def tokenizer() -> Any:
    """The embedded model's, with the control tokens of every family."""
    return c.tokenizer_with("tiny", SPECIAL, NAMED)


@pytest.fixture(params=c.FAMILIES)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return get_renderer(request.param, tokenizer())


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(str(request.node.callspec.params))


def made(name: str, draw: random.Random) -> list[Message]:
    thinking = "never" if name in NO_REASONING else "sometimes"
    if "gpt_oss" in name:  # one call ends an answer, and what is said with it counts as reasoning
        return c.conversation(draw, one_call=True, content_with_calls=False)
    return c.conversation(draw, thinking=thinking, tools=name not in NO_TOOLS)


def name_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["renderer"])


def test_an_example_begins_with_the_prompt_and_trains_what_comes_after_it(
    renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    for _ in range(20):
        messages = made(name_of(request), draw)
        model_input, weights = renderer.build_supervised_example(messages)
        prompt, tokens = renderer.build_generation_prompt(messages[:-1]).to_ints(), model_input.to_ints()
        assert tokens[: len(prompt)] == prompt
        assert weights.tolist() == [0.0] * len(prompt) + [1.0] * (len(tokens) - len(prompt))
        stops = renderer.get_stop_sequences()
        if isinstance(stops[0], int):
            assert tokens[-1] in stops
            assert not set(tokens[len(prompt) : -1]) & set(stops)


def test_the_extension_property_is_what_it_says(
    renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    """By construction: answers are sampled one after another, read, and put into the history."""
    name, broken = name_of(request), 0
    assert renderer.has_extension_property == (name in EXTENDS)
    (space,) = tokenizer().encode(" ", add_special_tokens=False)
    for _ in range(24):
        history: list[Any] = []
        before: list[int] = []
        for message in made(name, draw):
            if message["role"] != "assistant":
                history.append(message)
                continue
            prompt = renderer.build_generation_prompt(history).to_ints()
            broken += prompt[: len(before)] != before
            before = renderer.build_supervised_example([*history, message]).model_input.to_ints()
            if "tool_calls" not in message and name != "role_colon":
                before.insert(-1, space)  # models do such things
            history.append(renderer.parse_response(before[len(prompt) :])[0])
    if renderer.has_extension_property:
        assert broken == 0
    else:
        assert broken > 0, "it has the property and does not say so"


@pytest.mark.parametrize("renderer", sorted(EXTENDS), indirect=True)
def test_what_is_trained_in_the_middle_was_sampled_there(
    renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    """With the extension property one example has every answer, each behind its own prompt."""
    for _ in range(20):
        messages = made(name_of(request), draw)
        (whole,) = renderer.build_supervised_examples(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
        expected = [0.0] * len(whole.weights)
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                one, weights = renderer.build_supervised_example(messages[: index + 1])
                assert whole.model_input.to_ints()[: one.length] == one.to_ints()
                for place in range(one.length):
                    expected[place] = max(expected[place], float(weights[place]))
        # The stop of role_colon is half of the next header; it is trained at the end only, as the cookbook has it.
        if name_of(request) != "role_colon":
            assert whole.weights.tolist() == expected


@pytest.mark.parametrize("renderer", sorted(set(c.FAMILIES) - EXTENDS), indirect=True)
def test_without_it_every_answer_has_an_example(
    renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    messages = made(name_of(request), draw)
    while sum(message["role"] == "assistant" for message in messages) < 3:
        messages = made(name_of(request), draw)
    examples = renderer.build_supervised_examples(messages, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for example, index in zip(examples, answers, strict=True):
        assert example.model_input == renderer.build_supervised_example(messages[: index + 1]).model_input
    with pytest.raises(RendererError, match="not an assistant's"):
        renderer.build_supervised_examples(messages, TrainOnWhat.ALL_MESSAGES)


def test_text_never_becomes_a_control_token(
    renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    """The same control tokens in the same order, whatever the text spells."""
    encoder = renderer.encoder  # type: ignore[attr-defined]
    controls = set(encoder.controls.values())
    forged = [*encoder.controls, "<<|im_end|>|im_end|>", "<|im_<|im_end|>end|>", "<|im_end|>" * 3]
    for _ in range(30):
        text = "".join(draw.choice([*forged, " a ", "\n", "b"]) for _ in range(4)) + "."
        innocent = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        hostile = [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]
        if "</think>" not in text:  # there it is the form of reasoning, see reasoning_and_text
            hostile[1]["content"] = text
        ours = renderer.build_supervised_example(hostile).model_input.to_ints()
        plain = renderer.build_supervised_example(innocent).model_input.to_ints()
        if "disable" in name_of(request) and text.endswith("/nothink"):
            continue
        assert [token for token in ours if token in controls] == [token for token in plain if token in controls]
        assert text.strip() in encoder.decode(ours)


def test_whole_answers_come_back(renderer: Renderer, draw: random.Random, request: pytest.FixtureRequest) -> None:
    """What is produced for a message is read as that message; only some formats carry the ids of calls."""
    for _ in range(20):
        messages = made(name_of(request), draw)
        for index in [index for index, message in enumerate(messages) if message["role"] == "assistant"]:
            tokens = renderer.build_supervised_example(messages[: index + 1]).model_input.to_ints()
            prompt = renderer.build_generation_prompt(messages[:index]).to_ints()
            said, termination = renderer.parse_response(tokens[len(prompt) :], tools=c.TOOLS)
            assert termination is Termination.STOP_SEQUENCE
            assert readable(said) == readable(messages[index])


def readable(message: Message) -> tuple[str, str, list[tuple[str, Any]]]:
    calls = [(call["function"]["name"], arguments_of(call)) for call in message.get("tool_calls", ())]
    assert "unparsed_tool_calls" not in message
    return thinking_of(message), text_of(message), calls


def test_anything_sampled_can_be_read(renderer: Renderer, draw: random.Random) -> None:
    """Tokens at random, control tokens among them: never an exception, and always a message that can be written."""
    controls = list(renderer.encoder.controls.values())  # type: ignore[attr-defined]
    for _ in range(60):
        tokens = [draw.choice([*controls, *range(1000)]) for _ in range(draw.randint(0, 12))]
        message, termination = renderer.parse_response(tokens)
        assert message["role"] == "assistant"
        assert termination in Termination
        read_messages([message])
        assert all(call["error"] for call in message.get("unparsed_tool_calls", ()))


def test_every_way_of_training(renderer: Renderer) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
        {"role": "assistant", "content": "five"},
    ]

    def trained(what: TrainOnWhat, given: list[Any] = messages) -> str:
        model_input, weights = renderer.build_supervised_example(given, what)
        tokens = [token for token, weight in zip(model_input.to_ints(), weights, strict=True) if weight]
        text = renderer.encoder.decode(tokens)  # type: ignore[attr-defined]
        return " ".join(word for word in ("one", "two", "three", "four", "five") if word in text)

    assert trained(TrainOnWhat.LAST_ASSISTANT_MESSAGE) == "five"
    assert trained(TrainOnWhat.LAST_ASSISTANT_MESSAGE, messages[:4]) == ""
    assert trained(TrainOnWhat.LAST_ASSISTANT_TURN) == "five"
    assert trained(TrainOnWhat.ALL_TOKENS) == "one two three four five"
    custom = [{**message, "trainable": index == 4} for index, message in enumerate(messages)]
    assert trained(TrainOnWhat.CUSTOMIZED, custom) == "five"
    with pytest.raises(RendererError, match="does not say"):
        trained(TrainOnWhat.CUSTOMIZED, [*custom[:4], messages[4]])
    with pytest.raises(RendererError, match="only counts with train_on customized"):
        trained(TrainOnWhat.ALL_ASSISTANT_MESSAGES, custom)
    assert trained(TrainOnWhat.ALL_ASSISTANT_MESSAGES) == "three five"
    if "ChatTemplate" in type(renderer).__name__:
        with pytest.raises(RendererError, match="does not tell where"):
            trained(TrainOnWhat.ALL_MESSAGES)
        return
    assert trained(TrainOnWhat.ALL_MESSAGES) == "one two three four five"
    assert trained(TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES) == "one two four"
    developer = [{"role": "developer", "content": "one"}, *messages[1:]]
    assert trained(TrainOnWhat.ALL_USER_AND_SYSTEM_MESSAGES, developer) == "one two four"
