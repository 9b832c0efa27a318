"""Chat templates as transformers renders them, with `{% generation %}` and with texts that forge no control tokens."""

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hone.algorithms.messages import Message, ToolSpec, arguments_of, parts_of, text_of, thinking_of
from hone.algorithms.renderers.renderer import RendererError
from hone.algorithms.renderers.thinking import reasoning_and_text

# Characters that Unicode reserves for use inside of programs.
GUARD = "\ufdd0"
"""Breaks up a control token's name in what people wrote, until the rendered text has been taken apart."""
BEGIN, END = "\ufdd1", "\ufdd2"
"""Around what the template says is generated."""
PROBE = "hone-probe"


class Template:
    """A conversation in, text out. `controls` are the strings that must not come from messages."""

    def __init__(
        self, source: str, controls: Sequence[str], special: Mapping[str, str], options: Mapping[str, Any]
    ) -> None:
        self.source = source
        self._now = datetime.datetime.now()  # once, so that a conversation over midnight keeps its beginning
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_fail, strftime_now=self._now.strftime, **special)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise RendererError(f"the chat template cannot be read: line {error.lineno}: {error}") from error
        longest_first = sorted((one for one in controls if len(one) > 1), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._options = dict(options)
        self._reasoning_field = self._has_reasoning_field()

    def render(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, generation: bool) -> str:
        """Text in which `GUARD`, `BEGIN` and `END` still stand."""
        fields = {"tools": self._guarded(list(tools)) or None, "add_generation_prompt": generation, **self._options}
        try:
            told = [self._fields(one, json_calls=False) for one in messages]
            text = self._template.render(messages=told, **fields)
            if not any(_as_python(call, text) for message in told for call in message.get("tool_calls", ())):
                return text
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError) as error:
            if not any("tool_calls" in message for message in messages):
                raise RendererError(f"the chat template refuses this conversation: {error}") from error
        try:  # some templates take the arguments of calls as text only
            return self._template.render(messages=[self._fields(one, json_calls=True) for one in messages], **fields)
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError) as error:
            raise RendererError(f"the chat template refuses this conversation: {error}") from error

    def _fields(self, message: Message, *, json_calls: bool) -> dict[str, Any]:
        if any(part["type"] == "image" for part in parts_of(message)):
            raise RendererError("chat_template writes no images; qwen2_5_vl, qwen3_vl and qwen3_5 do")
        reasoning, text = thinking_of(message), text_of(message)
        if message["role"] == "assistant" and "</think>" in self.source:
            reasoning, text = reasoning_and_text(message)
        fields: dict[str, Any] = {"role": message["role"], "content": self._guarded(text)}
        if reasoning and self._reasoning_field:
            fields |= dict.fromkeys(("reasoning_content", "thinking"), self._guarded(reasoning))
        elif reasoning and "</think>" in self.source:
            fields["content"] = f"<think>\n{self._guarded(reasoning)}\n</think>\n\n{fields['content']}"
        elif reasoning:
            raise RendererError("the chat template writes no reasoning; leave the thinking parts out of the messages")
        if calls := message.get("tool_calls"):
            fields["tool_calls"] = []
            for one in calls:
                arguments = one["function"]["arguments"] if json_calls else arguments_of(one)
                function = {"name": one["function"]["name"], "arguments": arguments}
                fields["tool_calls"].append({**one, "function": self._guarded(function)})
        for name in ("tool_call_id", "name"):
            if name in message:
                fields[name] = self._guarded(message[name])
        return fields

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            if any(mark in value for mark in (GUARD, BEGIN, END)):
                raise RendererError("a message holds U+FDD0, U+FDD1 or U+FDD2, which are no characters")
            return value if self._controls is None else self._controls.sub(_guard, value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(one) for key, one in value.items()}
        return [self._guarded(one) for one in value] if isinstance(value, list) else value

    def _has_reasoning_field(self) -> bool:
        """Whether reasoning in a field of its own comes out of the template."""
        asked, said = {"role": "user", "content": "?"}, {"role": "assistant", "content": "."}
        said |= dict.fromkeys(("reasoning_content", "thinking"), PROBE)
        try:
            return PROBE in self._template.render(messages=[asked, said], **self._options)
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError):
            return False


class _Generation(jinja2.ext.Extension):
    """`{% generation %} ... {% endgeneration %}`, with which a template says what the model writes."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{BEGIN}{caller()}{END}"


def _as_python(call: Mapping[str, Any], text: str) -> bool:
    """Whether a template that takes arguments as text only has written Python for an object."""
    arguments = call["function"]["arguments"]
    return str(arguments) != _to_json(arguments) and str(arguments) in text


def _guard(control: re.Match[str]) -> str:
    return control[0][0] + GUARD + control[0][1:]


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _fail(message: str) -> None:
    raise jinja2.TemplateError(message)
