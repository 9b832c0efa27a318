"""Chat templates, rendered as the `transformers` library renders them, in a sandbox.

A template comes with a model and is foreign code. It sees plain JSON values, can change none of them, and reaches
nothing but the few functions below. The turns of its loops, its calls and the texts that it makes are bounded, so that
none of them runs for ever.
"""

import json
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hone.errors import UserError

MAX_STEPS = 1_000_000
"""Turns of loops and calls in one rendering."""
MAX_CHARACTERS = 1 << 24
"""In a prompt, and in any text on the way there."""

_CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "
_steps: ContextVar[list[int]] = ContextVar("steps")
"""How many this rendering made, in a list of one."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said, for training; here it only has to parse."""

    tags = {"generation"}  # the base class declares it so

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


class _Namespace(jinja2.utils.Namespace):
    """Without names that start with an underscore, which would reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        namespace, *given = args  # so that a template may use `self` as a name
        names = dict(*given, **kwargs)
        for name in names:
            _check_name(name)
        jinja2.utils.Namespace.__init__(namespace, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Watching(jinja2.visitor.NodeTransformer):
    """Puts the two filters below where a template loops, and where it joins texts with `~`."""

    def visit_For(self, loop: jinja2.nodes.For) -> jinja2.nodes.Node:
        self.generic_visit(loop)
        loop.iter = jinja2.nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
        return loop

    def visit_Concat(self, joined: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        self.generic_visit(joined)
        parts = jinja2.nodes.List(joined.nodes, lineno=joined.lineno)
        return jinja2.nodes.Filter(parts, "joined", [], [], None, None, lineno=joined.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """Counts what a template does, and stops one that does too much."""

    intercepted_binops = frozenset("+ * **".split())

    def __init__(self) -> None:
        extensions = [_Generation, jinja2.ext.loopcontrols]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        self.filters |= {"tojson": _tojson, "counted": _counted, "joined": _joined}
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "dict": _Dict(),
            "namespace": _Namespace,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        parsed: jinja2.nodes.Template = _Watching().visit(super()._parse(source, name, filename))
        return parsed

    def call(self, context: jinja2.runtime.Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _count()
        return _checked(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(one) if isinstance(one, str | list | tuple) else abs(one) for one in (left, right)]
        if (operator == "*" and sizes[0] * sizes[1] > MAX_CHARACTERS) or (operator == "**" and sizes[1] > 64):
            raise jinja2.exceptions.SecurityError(f"{operator} makes something larger than {MAX_CHARACTERS}")
        return _checked(super().call_binop(context, operator, left, right))


def _count() -> None:
    steps = _steps.get()
    steps[0] += 1
    if steps[0] > MAX_STEPS:
        raise jinja2.exceptions.SecurityError(f"it takes more than {MAX_STEPS} steps")


# Both look at the context so that no template's constants are worked out before it is rendered.
@jinja2.pass_context
def _counted(_: jinja2.runtime.Context, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _count()
        yield item


@jinja2.pass_context
def _joined(_: jinja2.runtime.Context, parts: list[Any]) -> str:
    return str(_checked("".join(map(str, parts))))


def _checked(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > MAX_CHARACTERS:
        raise jinja2.exceptions.SecurityError(f"it makes a text or list of more than {MAX_CHARACTERS}")
    return value


class ChatTemplate:
    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """`special_tokens`, such as `bos_token`, are variables of the template."""
        self._special_tokens = special_tokens
        try:
            self._template = _Environment().from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(f"the model's chat template cannot be read: {error}") from None

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        variables: dict[str, Any] | None = None,
        continue_last: bool = False,
    ) -> str:
        """The prompt: all messages and the opening of the assistant's next one, or, with `continue_last`, all of the
        last message but its end."""
        messages = [_shown(message) for message in messages]
        if continue_last:
            messages[-1]["content"] = messages[-1].get("content", "") + _CONTINUE
        given = {
            **self._special_tokens,
            **(variables or {}),
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": not continue_last,
        }
        try:
            text = self._rendered(given)
        except Exception as error:  # foreign code fails in any way it likes, on messages it does not know
            raise UserError(f"the model's chat template refuses these messages: {error}") from None
        return _cut(text) if continue_last else text

    def _rendered(self, given: dict[str, Any]) -> str:
        _steps.set([0])
        parts, length = [], 0
        for part in self._template.generate(given):
            length += len(part)
            if length > MAX_CHARACTERS:
                raise jinja2.exceptions.SecurityError(f"it makes a prompt of more than {MAX_CHARACTERS} characters")
            parts.append(part)
        return "".join(parts)


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: without nulls, and with its reasoning under both of the names in use."""
    message = {key: value for key, value in message.items() if value is not None}
    if "reasoning_content" in message:
        message.setdefault("thinking", message["reasoning_content"])
    return message


def _cut(text: str) -> str:
    at = text.rfind(_CONTINUE.strip())
    if at < 0:
        raise UserError("the model's chat template cannot continue a last message; end with a user's message")
    if text[at : at + len(_CONTINUE)] == _CONTINUE:
        return text[:at]
    return text[:at].rstrip()  # a template that trims what was said trimmed the mark's own blank too


class _Dict:
    """`dict` without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}; names must not start with _")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
