"""Chat templates of all sorts: which tokens are trained, and what is refused."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from hone.algorithms.renderers import RendererError, TrainOnWhat, get_renderer, recommended_renderer
from hone.algorithms.renderers.chat_template import ChatTemplate
from tests.support import conversations as c
from tests.unit.algorithms.renderers.test_templates import GLM, GLM_NAMED

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRIPS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}{% endif %}"
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
    with pytest.raises(RendererError, match=r"messages\[1\] cannot be found .* \(build_supervised_examples\)"):
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


def test_an_answer_that_does_not_go_on_from_its_prompt_is_refused_with_what_helps() -> None:
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "me"}]}
    plain, reasoned = TALK[:2], [TALK[0], thought]
    opens, closed = made(OPENS), made(OPENS, enable_thinking=False)
    for build in (opens.build_supervised_example, opens.build_supervised_examples):
        with pytest.raises(RendererError, match=r"ends in .*<think>\\n'\. If that opens a block of reasoning, give"):
            build(plain)
    assert learned(opens, reasoned, TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ["hm</think>me<|im_end|>"]
    assert learned(closed, plain, TrainOnWhat.LAST_ASSISTANT_MESSAGE) == ["me<|im_end|>"]


@pytest.mark.parametrize(
    ("name", "tokenizer", "extra"), [("deepseekv3", "deepseek_v3", ()), ("GLM-4.6", "qwen3", (*GLM, *GLM_NAMED))]
)
def test_shared_templates_that_cannot_be_trained_are_refused(name: str, tokenizer: str, extra: tuple[str, ...]) -> None:
    renderer = ChatTemplate(c.tokenizer_with(tokenizer, extra), template=c.template(name))
    with pytest.raises(
        RendererError, match=r"does not write it, .* use the renderer of the model's family, or write one"
    ):
        renderer.build_supervised_example(TALK[:2])


GEMMA = ("<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>")
COHERE = (
    *("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    *("<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
)
PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
LFM = (
    *("<|startoftext|>", "<|tool_list_start|>", "<|tool_list_end|>"),
    *("<|tool_response_start|>", "<|tool_response_end|>"),
)
UNCALLED: dict[str, Any] = {"tools": False}


@dataclass(frozen=True)
class Shared:
    """A template with the tokenizer of its family, or of another with its control tokens added."""

    tokenizer: str
    extends: bool
    """Prompts extend each other."""
    makes: dict[str, Any] = field(default_factory=dict)
    """For the conversations."""
    special: tuple[str, ...] = ()
    bos: str | None = None


SHARED = {
    "llama3": Shared("llama3", False, UNCALLED),
    "llama3_1": Shared("llama3", False, UNCALLED),
    "llama3_2": Shared("llama3", False, UNCALLED),
    "qwen2_5": Shared("qwen3", True),
    "qwen3": Shared("qwen3", False),
    "qwen3_instruct_2507": Shared("qwen3", True),
    "qwen3_5_think": Shared("qwen3", False, UNCALLED),
    "deepseek-ai-DeepSeek-V3.1": Shared("deepseek_v3", True),
    "gemma": Shared("qwen3", False, {**UNCALLED, "system": False}, GEMMA[:3], "<bos>"),
    "gemma3": Shared("qwen3", False, UNCALLED, GEMMA, "<bos>"),
    "cohere2": Shared("qwen3", True, UNCALLED, COHERE, "<BOS_TOKEN>"),
    "phi3": Shared("qwen3", True, UNCALLED, PHI),
    "phi3_5": Shared("qwen3", True, UNCALLED, PHI),
    "lfm2": Shared("qwen3", True, UNCALLED, LFM, "<|startoftext|>"),
    "lfm2_2_5": Shared("qwen3", False, UNCALLED, LFM, "<|startoftext|>"),
}


@pytest.mark.parametrize("name", SHARED)
def test_templates_of_many_families_token_by_token(name: str) -> None:
    of, source = SHARED[name], c.template(name)
    tokenizer = c.tokenizer_with(of.tokenizer, of.special, bos=of.bos) if of.special else c.tokenizer(of.tokenizer)
    renderer = ChatTemplate(tokenizer, template=source)
    assert renderer.has_extension_property == of.extends
    draw = random.Random(name)
    for _ in range(12):
        messages = c.conversation(draw, thinking="never", **of.makes)
        prompt = renderer.build_generation_prompt(messages[:-1]).to_ints()
        text = tokenizer.apply_chat_template(
            c.as_template(messages[:-1], json_arguments="deepseek" in name),
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
        )
        assert prompt == tokenizer.encode(text, add_special_tokens=False)
        example, weights = renderer.build_supervised_example(messages)
        assert example.to_ints()[: len(prompt)] == prompt
        assert weights.tolist() == [0.0] * len(prompt) + [1.0] * (example.length - len(prompt))
