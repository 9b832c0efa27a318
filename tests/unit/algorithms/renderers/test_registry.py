"""Renderers by name, and what cannot go together."""

import pickle
import subprocess
import sys
from typing import Any

import pytest

from hone.algorithms.renderers import (
    RENDERERS,
    RendererError,
    get_renderer,
    recommended_renderer,
    register_renderer,
)
from hone.algorithms.renderers.chat_template import ChatTemplate
from tests.support import conversations as c
from tests.unit.algorithms.renderers.test_weights import tokenizer

USER = {"role": "user", "content": "?"}
THOUGHT = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "."}]}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RendererError, match="no renderer 'qwen4'; there are chat_template, deepseekv3"):
        get_renderer("qwen4", c.tokenizer("tiny"))


def test_one_can_register_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hone.algorithms.renderers.RENDERERS", dict(RENDERERS))

    @register_renderer("mine")
    def mine(tokenizer: Any, image_processor: Any) -> ChatTemplate:
        return ChatTemplate(tokenizer, image_processor)

    assert isinstance(get_renderer("mine", c.tokenizer("tiny")), ChatTemplate)
    with pytest.raises(RendererError, match="'mine' already"):
        register_renderer("mine")(mine)


def test_a_tokenizer_of_another_family_is_refused() -> None:
    with pytest.raises(
        RendererError, match=r"Llama3 writes <\|eot_id\|>, <\|begin_of_text\|>, and the tokenizer has no"
    ):
        get_renderer("llama3", c.tokenizer("tiny"))


@pytest.mark.parametrize(
    ("model", "renderer"),
    [
        ("hone/tiny", "chat_template"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-8B-Base", "role_colon"),
        ("Qwen/Qwen3-4B-Instruct-2507:peft", "qwen3_instruct"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl_instruct"),
        ("Qwen/Qwen3.5-9B", "qwen3_5"),
        ("meta-llama/Llama-3.1-8B", "role_colon"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("zai-org/GLM-4.6", "glm4_6"),
        ("somebody/something", "chat_template"),
    ],
)
def test_what_is_recommended(model: str, renderer: str) -> None:
    assert recommended_renderer(model, c.tokenizer("tiny")) == renderer


def test_without_a_chat_template_it_is_role_colon() -> None:
    assert recommended_renderer("somebody/something", None) == "role_colon"


@pytest.mark.parametrize("name", [name for name in c.FAMILIES if "disable" in name or name == "deepseekv3"])
def test_reasoning_is_not_trained_where_the_prompt_forbids_it(name: str) -> None:
    renderer = get_renderer(name, tokenizer())
    with pytest.raises(RendererError, match="tells the model not to think"):
        renderer.build_supervised_example([USER, THOUGHT])
    renderer.build_generation_prompt([USER, THOUGHT, USER])  # as history it is fine


@pytest.mark.parametrize("name", ["role_colon", "llama3", "qwen2_5_vl"])
def test_tools_are_refused_where_there_is_no_notation(name: str) -> None:
    renderer = get_renderer(name, tokenizer())
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    with pytest.raises(RendererError, match="writes no tools"):
        renderer.build_generation_prompt([USER], tools=c.TOOLS)
    with pytest.raises(RendererError, match="writes no tool calls"):
        renderer.build_supervised_example([USER, called])


@pytest.mark.parametrize("name", [name for name in c.FAMILIES if name not in ("role_colon", "chat_template")])
def test_developers_speak_as_the_system_does(name: str) -> None:
    renderer = get_renderer(name, tokenizer())
    prompts = [
        renderer.build_generation_prompt([{"role": role, "content": "Be terse."}, USER], tools=tools)
        for role in ("system", "developer")
        for tools in ([], c.TOOLS if name not in ("llama3", "qwen2_5_vl") else [])
    ]
    assert prompts[:2] == prompts[2:]


def test_a_prefill_begins_the_answer() -> None:
    renderer = get_renderer("qwen3", tokenizer())
    bare = renderer.build_generation_prompt([USER]).to_ints()
    begun = renderer.build_generation_prompt([USER], prefill="<think>\nSo").to_ints()
    assert begun == bare + tokenizer().encode("<think>\nSo", add_special_tokens=False)


def test_reasoning_inside_of_text_is_reasoning() -> None:
    """As many files have it, and as templates read it."""
    renderer = get_renderer("qwen3", tokenizer())
    inside = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n."}
    assert (
        renderer.build_supervised_example([USER, inside]).model_input
        == renderer.build_supervised_example([USER, THOUGHT]).model_input
    )


@pytest.mark.parametrize("name", ["chat_template", "qwen3", "gpt_oss_low_reasoning"])
def test_renderers_can_be_pickled(name: str) -> None:
    """For rollouts in other processes."""
    renderer = get_renderer(name, tokenizer())
    copy = pickle.loads(pickle.dumps(renderer))
    assert copy.build_generation_prompt([USER]) == renderer.build_generation_prompt([USER])


def test_renderers_bring_no_torch_of_their_own() -> None:
    """What the SDK imports is its own affair: here it is kept from finding torch."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import hone.algorithms.renderers, hone.algorithms.data.rows\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
