"""ShareGPT's form of a conversation as everybody else's.

{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}], "system"?, "tools"?}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hone.algorithms.messages import MessageError

COLUMN = "conversations"
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""Who speaks, by `from`. The value of a `function_call` is JSON: `{"name", "arguments"}`, or a list of them."""
MEDIA = ("images", "videos", "audios")


def is_sharegpt(row: Mapping[str, Any]) -> bool:
    return COLUMN in row and "messages" not in row


def with_messages(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with `messages` in place of `conversations` and `system`, and with its tools read; the rest as it is.

    Raises:
        MessageError: it is not of this form.
    """
    turns = row[COLUMN]
    if isinstance(turns, str | Mapping) or not isinstance(turns, Sequence):
        raise MessageError(f"{COLUMN} is of type {type(turns).__name__}; it must be a list of turns")
    for name in MEDIA:
        if row.get(name):
            raise MessageError(f"it has {name} beside {COLUMN}; write them as parts of `messages`")
    messages = [_message(turn, f"{COLUMN}[{index}]") for index, turn in enumerate(turns)]
    system = row.get("system")
    if isinstance(system, str) and system.strip():
        messages.insert(0, {"role": "system", "content": system})
    rest = {name: value for name, value in row.items() if name not in (COLUMN, "system", "tools")}
    return {"messages": messages, "tools": _tools(row.get("tools")), **rest}


def _message(turn: object, where: str) -> Mapping[str, Any]:
    if not isinstance(turn, Mapping):
        raise MessageError(f"{where} is of type {type(turn).__name__}; it must be an object with from and value")
    if "from" not in turn and "role" in turn:
        return turn  # the column's name is all that such files have of ShareGPT
    for name in ("from", "value"):
        if not isinstance(turn.get(name), str):
            has = ", ".join(map(repr, turn)) or "no fields at all"
            raise MessageError(f"{where} has no text {name!r}; it has {has}")
    speaker, said = turn["from"], turn["value"]
    if speaker not in ROLES:
        raise MessageError(f"{where} is from {speaker!r}; a turn is from one of {', '.join(ROLES)}")
    rest = {name: value for name, value in turn.items() if name not in ("from", "value")}
    if speaker == "function_call":
        return {**rest, "role": "assistant", "content": "", "tool_calls": _json(said, f"{where}.value")}
    return {**rest, "role": ROLES[speaker], "content": said}


def _tools(value: object) -> object:
    """Often a list written as JSON within the row's own."""
    if isinstance(value, str):
        return _json(value, "tools") if value.strip() else None
    return value


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise MessageError(f"{where} is not JSON: {error}") from None
