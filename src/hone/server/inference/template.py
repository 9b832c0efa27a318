"""Chat templates, rendered as the `transformers` library renders them, in a sandbox.

A template comes with a model and is foreign code. It sees plain JSON values, can change none of them, and reaches
nothing but the few functions below.
"""

import json
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hone.errors import UserError

_CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said, for training; here it only has to parse."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares it so

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


class ChatTemplate:
    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """`special_tokens`, such as `bos_token`, are variables of the template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        environment.globals["dict"] = _Dict()
        environment.globals["namespace"] = _Namespace
        self._special_tokens = special_tokens
        try:
            self._template = environment.from_string(source)
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
            text = self._template.render(given)
        except Exception as error:  # foreign code fails in any way it likes, on messages it does not know
            raise UserError(f"the model's chat template refuses these messages: {error}") from None
        return _cut(text) if continue_last else text


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
