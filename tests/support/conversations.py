"""Tokenizers, chat templates and made-up conversations for the renderers' tests."""

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken

from hone.algorithms.messages import Message, arguments_of, read_messages, text_of, thinking_of
from hone.algorithms.renderers import RENDERERS

SHARED = Path(__file__).parents[3] / "shared"
TINY = Path(__file__).parents[2] / "src/hone/assets/tiny"

FAMILIES = sorted(name for name, factory in RENDERERS.items() if factory.__module__.startswith("hone."))
"""Our renderers. Other tests, collected before, may have registered a stand-in."""

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds «two» numbers",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "number", "description": "the first"}, "b": {"type": "integer"}},
                "required": ["a"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "note",
            "description": "Writes it down",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "enum": ["x", "y"], "default": "x"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "box": {"type": "object", "properties": {"w": {"type": "number"}, "h": {"type": "number"}}},
                    "urgent": {"type": "boolean", "default": False},
                    "size": {"type": ["number", "string"], "description": "how big"},
                    "one": {"oneOf": [{"type": "string", "description": "s", "default": "a"}, {"type": "integer"}]},
                    "two": {"oneOf": [{"type": "string"}, {"type": "object"}], "default": "b"},
                    "names": {"type": "array", "items": {"type": "string"}, "nullable": True},
                    "boxes": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                    "any": {"type": "array"},
                    "free": {"type": "object"},
                    "maybe": {"type": "string", "nullable": True},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object"}}},
]

WORDS = (
    'hello the quick answer is 42 1234567 3.14 naïve Ωmega 你好，世界 🙂 été x=y; {curly} [square] <angle> "quoted" '
    "it's end. User: a/b#c $5 -- don't def f(x): SHOUT ß 漢字 مرحبا"
).split()
SPACES = (" ", " ", " ", " ", "\n", "\n\n", "  ", "\t", ", ")


def needs(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


@functools.cache
def tokenizer(name: str) -> Any:
    """Of the shared folder; "tiny" is the embedded model's, and is always here."""
    folder = TINY if name == "tiny" else needs(SHARED / "tokenizers" / name)
    return transformers.AutoTokenizer.from_pretrained(folder)


@functools.cache
def tokenizer_with(name: str, special: tuple[str, ...], named: tuple[str, ...] = (), bos: str | None = None) -> Any:
    """A tokenizer that stands in for another family's: its control tokens are added."""
    folder = TINY if name == "tiny" else needs(SHARED / "tokenizers" / name)
    made = transformers.AutoTokenizer.from_pretrained(folder)
    made.add_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in named])
    if bos is not None:
        made.bos_token = bos
    return made


def template(name: str) -> str:
    return needs(SHARED / "chat_templates" / f"{name}.jinja").read_text()


def text(draw: random.Random, *, ragged: bool = False, most: int = 8) -> str:
    """Nothing, or some words; with `ragged` also spaces at both ends."""
    words = [draw.choice(WORDS) for _ in range(draw.randint(0, most))]
    inside = "".join(word + draw.choice(SPACES) for word in words)
    return draw.choice(("", " ", "\n", "\n\n", "  ")) + inside if ragged else inside.strip()


def conversation(
    draw: random.Random,
    *,
    thinking: str = "sometimes",
    tools: bool = True,
    system: bool = True,
    ragged: bool = True,
    most_turns: int = 3,
    content_with_calls: bool = True,
    one_call: bool = False,
    ascii_calls: bool = False,
    empty: bool = True,
) -> list[Message]:
    """Ends with an assistant's answer. `thinking`: never, sometimes, always. What assistants say is never ragged."""

    def answer(**fields: Any) -> dict[str, Any]:
        said: list[dict[str, Any]] = [{"type": "text", "text": text(draw) or ("" if empty else "yes")}]
        if thinking == "always" or (thinking == "sometimes" and draw.random() < 0.5):
            said.insert(0, {"type": "thinking", "thinking": text(draw) or "hm"})
        content: Any = said if len(said) > 1 else said[0]["text"]
        return {"role": "assistant", "content": content, **fields}

    messages: list[dict[str, Any]] = []
    if system and draw.random() < 0.5:
        messages.append({"role": "system", "content": text(draw, ragged=ragged) + "be terse"})
    for _ in range(draw.randint(1, most_turns)):
        messages.append({"role": "user", "content": text(draw, ragged=ragged)})
        while tools and draw.random() < 0.4:
            calls = [_call(draw, number, ascii_calls) for number in range(1 if one_call else draw.choice((1, 1, 2)))]
            called = answer(tool_calls=calls)
            if not content_with_calls:
                parts = called["content"] if isinstance(called["content"], list) else []
                called["content"] = parts[:1]  # at most the reasoning
            messages.append(called)
            messages += [
                {
                    "role": "tool",
                    "content": text(draw, ragged=ragged),
                    "name": call["function"]["name"],
                    "tool_call_id": call["id"],
                }
                for call in calls
            ]
        messages.append(answer())
    return read_messages(messages)


def _call(draw: random.Random, number: int, ascii: bool) -> dict[str, Any]:
    name, arguments = draw.choice(
        [
            ("add", {"a": draw.randint(-5, 99), "b": 0.5}),
            ("note", {"text": "x" if ascii else text(draw), "tags": ["e" if ascii else "é"], "box": {"w": 1}}),
            ("now", {}),
        ]
    )
    id = f"functions.{name}:{number}"
    return {
        "type": "function",
        "id": id,
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }


def as_template(messages: Sequence[Message], *, json_arguments: bool = False) -> list[dict[str, Any]]:
    """As chat templates take them: reasoning in fields of its own, arguments as objects or as JSON."""
    written = []
    for message in messages:
        fields: dict[str, Any] = {key: value for key, value in message.items() if key != "content"}
        fields["content"] = text_of(message)
        if thought := thinking_of(message):
            fields |= {"reasoning_content": thought, "thinking": thought}
        if "tool_calls" in message:
            fields["tool_calls"] = [
                {
                    **call,
                    "function": call["function"]
                    if json_arguments
                    else {**call["function"], "arguments": arguments_of(call)},
                }
                for call in message["tool_calls"]
            ]
        written.append(fields)
    return written
