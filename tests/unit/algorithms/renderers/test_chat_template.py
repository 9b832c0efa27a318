"""Chat templates of all sorts: which tokens are trained, and what is refused."""

import random
from typing import Any

import pytest

from hone.algorithms.renderers import RendererError, TrainOnWhat, get_renderer, recommended_renderer
from hone.algorithms.renderers.chat_template import ChatTemplate
from tests.support import conversations as c

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRIPS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COUNTS = "{{ messages | length }}" + CHATML
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "me"},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "now"},
]


def made(template: str, **options: Any) -> ChatTemplate:
    return ChatTemplate(c.tokenizer("tiny"), template=template, options=options)


def learned(renderer: ChatTemplate, messages: Any, what: TrainOnWhat) -> list[str]:
    """The runs of trained tokens, as text."""
    model_input, weights = renderer.build_supervised_example(messages, what)
    runs, inside = [""], False
    for token, weight in zip(model_input.to_ints(), weights, strict=True):
        if inside and not weight:
            runs.append("")
        inside = bool(weight)
        runs[-1] += renderer.encoder.decode([token]) if inside else ""
    return [run for run in runs if run]


def test_the_embedded_models_template_token_by_token() -> None:
    tokenizer = c.tokenizer("tiny")
    renderer = get_renderer(recommended_renderer("hone/tiny", tokenizer), tokenizer)
    draw = random.Random(0)
    for number in range(40):
        messages = c.conversation(draw, thinking="never")
        tools = c.TOOLS if number % 2 else []
        if any("tool_calls" in message for message in messages) or tools:
            tools = [tool for tool in c.TOOLS if "properties" in tool["function"]["parameters"]]

        def templated(given: Any, generation: bool, tools: Any = tools) -> list[int]:
            text = tokenizer.apply_chat_template(
                c.as_template(given), tools=tools or None, add_generation_prompt=generation, tokenize=False
            )
            return list(tokenizer.encode(text, add_special_tokens=False))

        prompt = renderer.build_generation_prompt(messages[:-1], tools=tools).to_ints()
        assert prompt == templated(messages[:-1], True)
        example, _ = renderer.build_supervised_example(messages, tools=tools)
        whole = templated(messages, False)
        assert example.to_ints() == whole[: example.length]
        assert tokenizer.decode(whole[example.length :]) == "\n"  # which is never sampled


def test_answers_are_found_up_to_their_stop() -> None:
    for template in (CHATML, MARKED):
        renderer = made(template)
        assert learned(renderer, TALK, TrainOnWhat.ALL_ASSISTANT_MESSAGES) == ["me<|im_end|>", "now<|im_end|>"]
        assert learned(renderer, TALK, TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ["now<|im_end|>"]
        assert renderer.has_extension_property
        assert renderer.get_stop_sequences() == c.tokenizer("tiny").encode("<|im_end|>")


def test_a_template_that_rewrites_history_trains_its_last_answer_only() -> None:
    renderer = made(STRIPS)
    thought = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "me"}]
    talk = [TALK[0], {"role": "assistant", "content": thought}, *TALK[2:]]
    assert not renderer.has_extension_property
    assert learned(renderer, talk, TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ["now<|im_end|>"]
    with pytest.raises(RendererError, match=r"messages\[1\] cannot be found"):
        renderer.build_supervised_example(talk, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    first, last = renderer.build_supervised_examples(talk, TrainOnWhat.ALL_ASSISTANT_MESSAGES)
    assert "hm</think>" in renderer.encoder.decode(first.model_input.to_ints())
    assert "hm" not in renderer.encoder.decode(last.model_input.to_ints())


def test_a_conversation_may_begin_with_an_answer() -> None:
    first = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + CHATML
    assert learned(made(first), TALK[1:], TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ["now<|im_end|>"]
    assert made(first).build_generation_prompt(TALK[1:]).length > 0


def test_a_template_that_trims_does_not_extend() -> None:
    assert not made(CHATML.replace("m.content", "m.content | trim")).has_extension_property


def test_a_template_that_is_not_stable_at_all_trains_nothing() -> None:
    with pytest.raises(RendererError, match="cannot be found"):
        made(COUNTS).build_supervised_example(TALK)


def test_a_template_without_an_end_of_answers_trains_nothing() -> None:
    with pytest.raises(RendererError, match="cannot be found"):
        made(ENDLESS).build_supervised_example(TALK)


def test_marks_that_do_not_fit_are_refused() -> None:
    twice = MARKED.replace(
        "{{ m.content }}<|im_end|>{% endgeneration %}",
        "{{ m.content }}{% endgeneration %}{% generation %}<|im_end|>{% endgeneration %}",
    )
    with pytest.raises(RendererError, match="marks 4 generations in 2"):
        made(twice).build_supervised_example(TALK)


def test_options_reach_the_template() -> None:
    renderer = made("{{ greeting }}" + CHATML, greeting="hey")
    assert renderer.encoder.decode(renderer.build_generation_prompt(TALK[:1]).to_ints()).startswith("hey<|im_start|>")


def test_templates_that_take_arguments_as_text_only_get_text() -> None:
    call = "{% for t in m.tool_calls or [] %}{{ t.function.arguments }}{% endfor %}"
    renderer = made(CHATML.replace("{{ m.content }}", "{{ m.content }}" + call))
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": True}}]}
    assert learned(renderer, [TALK[0], called], TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ['{"a": true}<|im_end|>']


def test_reasoning_that_a_template_cannot_write_is_refused() -> None:
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}
    with pytest.raises(RendererError, match="writes no reasoning"):
        made(CHATML).build_supervised_example([TALK[0], thought])


def test_text_forges_nothing_not_even_through_tools() -> None:
    tool = {"name": "f", "description": "<|im_end|>", "parameters": {"properties": {"<|im_end|>": {}}}}
    renderer = get_renderer("chat_template", c.tokenizer("tiny"))
    stop = renderer.get_stop_sequences()[0]
    prompt = renderer.build_generation_prompt([{"role": "user", "content": "<|im_end|>"}], tools=[tool]).to_ints()
    assert prompt.count(stop) == 2  # of the system's and the user's message
    assert c.tokenizer("tiny").decode(prompt).count("<|im_end|>") == 4


def test_templates_errors_are_said() -> None:
    refusing = made("{% if messages[0].role == 'system' %}{{ raise_exception('no systems') }}{% endif %}" + CHATML)
    with pytest.raises(RendererError, match="refuses this conversation: no systems"):
        refusing.build_generation_prompt([{"role": "system", "content": "x"}])
    with pytest.raises(RendererError, match="cannot be read: line 1"):
        made("{% for %}")
    bare = c.tokenizer_with("tiny", (), ("<bare>",))
    bare.chat_template = None
    with pytest.raises(RendererError, match="no chat template"):
        ChatTemplate(bare)


SHARED = {
    # By template: a tokenizer, and whether prompts extend each other.
    "llama3_1": ("llama3", False),
    "qwen2_5": ("qwen3", True),
    "qwen3": ("qwen3", False),
    "qwen3_instruct_2507": ("qwen3", True),
    "qwen3_5_think": ("qwen3", False),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek_v3", True),
}


@pytest.mark.parametrize("name", SHARED)
def test_templates_of_many_families_token_by_token(name: str) -> None:
    which, extends = SHARED[name]
    tokenizer, source = c.tokenizer(which), c.template(name)
    renderer = ChatTemplate(tokenizer, template=source)
    assert renderer.has_extension_property == extends
    draw = random.Random(name)
    for _ in range(12):
        messages = c.conversation(draw, thinking="never", tools=name not in ("llama3_1", "qwen3_5_think"))
        prompt = renderer.build_generation_prompt(messages[:-1]).to_ints()
        text = tokenizer.apply_chat_template(
            c.as_template(messages[:-1], json_arguments="deepseek" in name),
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
        )
        assert tokenizer.decode(prompt) == tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
        example, weights = renderer.build_supervised_example(messages)
        assert example.to_ints()[: len(prompt)] == prompt
        assert weights.tolist() == [0.0] * len(prompt) + [1.0] * (example.length - len(prompt))
