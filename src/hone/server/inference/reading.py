"""Reads what a model says, token by token: text up to a stop string, and calls of tools.

A streamed answer and a whole one come through here in the same way, so they say the same.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hone.engine.contract import SamplePart
from hone.protocol.types import StopReason
from hone.server.inference.tokenizer import Detokenizer, TextTokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)


Piece = str | ToolCall


class Reader:
    """One sequence. What it has told so far is never taken back, so it holds back what may become a stop string."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str], with_tools: bool) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = _StopStrings(stops)
        self._calls = _ToolCalls() if with_tools else None
        self._last = -1
        self.called = False

    @property
    def stopped_by(self) -> str | None:
        """The stop string that was found; nothing is read after it."""
        if self._stops.found is None and self._last in self._tokenizer.unspoken:
            written = self._tokenizer.decode([self._last])  # a special token may be a stop string too
            return written if written in self._stops.strings else None
        return self._stops.found

    def take(self, part: SamplePart) -> list[Piece]:
        """What the part adds; the last one adds everything that was held back."""
        self._last = part.token
        pieces = self._sort(self._stops.add(self._detokenizer.add(part.token)))
        return pieces if part.stop_reason is None else pieces + self._close()

    def finish_reason(self, reason: StopReason | None, called: str) -> str | None:
        """`called` if the sequence ended by itself after calling tools."""
        if reason is None:
            return None
        if self._stops.found is not None:
            reason = "stop"
        return called if self.called and reason == "stop" else reason

    def _close(self) -> list[Piece]:
        pieces = self._sort(self._stops.add(self._detokenizer.close()))
        pieces += self._sort(self._stops.close())
        if self._calls is not None:
            pieces += self._calls.close()
            self.called = self._calls.called
        return pieces

    def _sort(self, text: str) -> list[Piece]:
        if self._calls is None:
            return [text] if text else []
        pieces = self._calls.add(text)
        self.called = self._calls.called
        return pieces


class _StopStrings:
    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.found: str | None = None
        self._held = ""

    def add(self, text: str) -> str:
        if self.found is not None:
            return ""
        held = self._held + text
        places = [(place, stop) for stop in self.strings if (place := held.find(stop)) >= 0]
        if places:
            place, self.found = min(places)
            return held[:place]
        keep = max((_overlap(held, stop) for stop in self.strings), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def close(self) -> str:
        return "" if self.found is not None else self._held


class _ToolCalls:
    """Calls are JSON between two marks; blanks around them belong to nobody. What cannot be read stays text."""

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self.called = False

    def add(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        self._held += text
        while (at := self._held.find(CLOSE if self._inside else OPEN)) >= 0:
            before, self._held = self._held[:at], self._held[at + len(CLOSE if self._inside else OPEN) :]
            if self._inside:
                pieces.append(self._call(before) or f"{OPEN}{before}{CLOSE}")
            elif before.rstrip():
                pieces.append(before.rstrip())
            self._inside = not self._inside
        if not self._inside:
            sure = self._held[: len(self._held) - _overlap(self._held, OPEN)].rstrip()
            self._held = self._held[len(sure) :]
            pieces += [sure] if sure else []
        return pieces

    def close(self) -> list[Piece]:
        if self._inside:
            return [self._call(self._held) or f"{OPEN}{self._held}"]
        return [self._held] if self._held and not (self.called and self._held.isspace()) else []

    def _call(self, text: str) -> ToolCall | None:
        try:
            said = json.loads(text)
        except ValueError:
            return None
        if not isinstance(said, dict) or not isinstance(said.get("name"), str):
            return None
        arguments = said.get("arguments", said.get("parameters", {}))
        if not isinstance(arguments, dict):
            return None
        self.called = True
        return ToolCall(secrets.token_hex(12), said["name"], arguments)


def _overlap(text: str, mark: str) -> int:
    """How many of the last characters of `text` could be the beginning of `mark`."""
    longest = min(len(text), len(mark) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(mark[:size])), 0)
