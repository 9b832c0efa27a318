"""Against `transformers`, whose rendering is the one that models were trained with."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import hone
from hone.errors import UserError
from hone.server.inference.template import ChatTemplate
from hone.server.inference.tokenizer import TextTokenizer

TINY = Path(hone.__file__).parent / "assets" / "tiny"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now> in a city, naïvely",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": {"city": "Łódź"}}}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [{"role": "user", "content": "Hi"}],
    "system": [{"role": "system", "content": "Be <brief>."}, {"role": "user", "content": "Hi"}],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello\n"},
        {"role": "user", "content": "æ 漢"},
    ],
    "call": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "c"},
    ],
}

# What other families' templates use: loop controls, namespaces, generation blocks, the date's function, JSON, macros.
RICH = """{%- macro show(text) %}[{{ text | trim }}]{% endmacro -%}
{{- bos_token }}
{%- set seen = namespace(count=0, last='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- set seen.count = seen.count + 1 %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ show(message.content or '') }}{% endgeneration %}
    {%- else %}
        {{- message.role + ': ' + show(message.content) }}
    {%- endif %}
    {%- if message.tool_calls is defined %}{{ message.tool_calls | tojson(indent=2) }}{% endif %}
{%- endfor %}
{{ tools | tojson if tools else 'no tools' }} {{ seen.count }} {{ strftime_now('%Y') | length }} {{ dict(a=1) }}
{% if add_generation_prompt %}assistant:{% endif %}{{ flavour | default('plain') }}"""


@pytest.fixture(scope="module")
def reference() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompts_are_those_of_transformers(
    reference: PreTrainedTokenizerBase, name: str, tools: list[dict[str, Any]] | None
) -> None:
    expected = reference.apply_chat_template(
        CONVERSATIONS[name], tools=tools, add_generation_prompt=True, return_dict=False
    )
    assert TextTokenizer(TINY).encode_chat(CONVERSATIONS[name], tools) == expected


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_templates_render_as_transformers_renders_them(
    reference: PreTrainedTokenizerBase, name: str, tools: list[dict[str, Any]] | None
) -> None:
    ours = ChatTemplate(RICH, {"bos_token": "<s>"}).render(CONVERSATIONS[name], tools, {"flavour": "mint"})
    theirs = reference.apply_chat_template(
        CONVERSATIONS[name],
        tools=tools,
        add_generation_prompt=True,
        tokenize=False,
        chat_template=RICH,
        bos_token="<s>",
        flavour="mint",
    )
    assert ours == theirs


@pytest.mark.parametrize("said", ["The answer is", "The answer is ", "The answer is\n", " "])
@pytest.mark.parametrize("content", ["message.content", "message.content | trim"])
def test_a_last_message_is_continued_as_transformers_does(
    reference: PreTrainedTokenizerBase, said: str, content: str
) -> None:
    source = "{% for message in messages %}<{{ message.role }}>{{ " + content + " }}<end>{% endfor %}"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": said}]
    theirs = reference.apply_chat_template(messages, tokenize=False, chat_template=source, continue_final_message=True)
    assert ChatTemplate(source, {}).render(messages, continue_last=True) == theirs
    assert messages[-1]["content"] == said


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append({}) }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ dict.__class__.__init__.__globals__ }}",
        "{% set n = namespace(__class__=1) %}",
        "{{ ('%s' | format(1)).__class__.__mro__ }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set s = 'x' * 99999999999 %}",
        "{{ 9 ** 999999 }}",
        "{% set s = 'x' * 16000000 %}{{ s }}{{ s }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('only pairs') }}",
        "{{ messages[0].content.wrong.deep }}",
    ],
)
def test_a_template_reaches_nothing_and_its_failure_is_the_users(source: str) -> None:
    with pytest.raises(UserError, match="chat template refuses"):
        ChatTemplate(source, {}).render([{"role": "user", "content": "Hi"}])


def test_a_broken_template_says_so() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        ChatTemplate("{% if %}", {})


def test_a_template_that_drops_the_last_message_cannot_continue_it() -> None:
    with pytest.raises(UserError, match="cannot continue"):
        ChatTemplate("{{ messages[0].content }}", {}).render(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], continue_last=True
        )
