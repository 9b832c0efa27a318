"""Sampled tokens in the shapes of OpenAI's answers, whole or as they come."""

from collections.abc import Iterable
from typing import Any, Protocol

from hone.engine.contract import Sample, SamplePart
from hone.protocol import openai
from hone.protocol.types import SampleResult, TopkLogprobs
from hone.server.inference.generation import parts_of
from hone.server.inference.reading import Piece, Reader, ToolCall
from hone.server.inference.tokenizer import TextTokenizer

Choice = dict[str, Any]

LOWEST_LOGPROB = -9999.0
"""JSON has no infinity; OpenAI writes this."""


class Writer(Protocol):
    def opening(self) -> list[Choice]:
        """What a stream starts with."""
        ...

    def delta(self, part: SamplePart) -> list[Choice]:
        """What a stream goes on with."""
        ...

    def whole(self, operation: Sample, result: SampleResult) -> list[Choice]: ...


class ChatWriter:
    def __init__(self, tokenizer: TextTokenizer, body: openai.ChatCompletion) -> None:
        self._tokenizer = tokenizer
        self._with_logprobs = bool(body.logprobs)
        with_tools = body.shown_tools is not None
        self._readers = [Reader(tokenizer, body.stop or (), with_tools) for _ in range(body.n or 1)]
        self._calls = [0] * len(self._readers)

    def opening(self) -> list[Choice]:
        return [_delta(index, {"role": "assistant", "content": ""}) for index in range(len(self._readers))]

    def delta(self, part: SamplePart) -> list[Choice]:
        choices = [_delta(part.index, self._piece(part.index, piece)) for piece in self._read(part)]
        if self._with_logprobs:
            choices = choices or [_delta(part.index, {})]
            choices[0]["logprobs"] = {"content": [self._logprob(part)], "refusal": None}
        if part.stop_reason is not None:
            choices.append(_delta(part.index, {}) | {"finish_reason": self._finish_reason(part)})
        return choices

    def whole(self, operation: Sample, result: SampleResult) -> list[Choice]:
        return [self._choice(index, parts_of(index, result)) for index in range(len(self._readers))]

    def _choice(self, index: int, parts: list[SamplePart]) -> Choice:
        pieces = [piece for part in parts for piece in self._read(part)]
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls := [_tool_call(piece) for piece in pieces if isinstance(piece, ToolCall)]:
            message |= {"content": text or None, "tool_calls": calls}
        logprobs = [self._logprob(part) for part in parts] if self._with_logprobs else None
        return {
            "index": index,
            "message": message,
            "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
            "finish_reason": self._finish_reason(parts[-1]),
        }

    def _read(self, part: SamplePart) -> list[Piece]:
        return self._readers[part.index].take(part)

    def _piece(self, index: int, piece: Piece) -> dict[str, Any]:
        if isinstance(piece, str):
            return {"content": piece}
        self._calls[index] += 1
        return {"tool_calls": [{"index": self._calls[index] - 1, **_tool_call(piece)}]}

    def _finish_reason(self, part: SamplePart) -> str | None:
        return self._readers[part.index].finish_reason(part.stop_reason, "tool_calls")

    def _logprob(self, part: SamplePart) -> dict[str, Any]:
        top = [self._entry(token, logprob) for token, logprob in part.topk]
        return {**self._entry(part.token, part.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        content = self._tokenizer.token_bytes(token)
        text = content.decode("utf-8", "replace")
        return {"token": text, "logprob": max(logprob, LOWEST_LOGPROB), "bytes": list(content)}


class CompletionWriter:
    def __init__(self, tokenizer: TextTokenizer, body: openai.Completion, prompt: str | None) -> None:
        """`prompt` stands before every text of a whole answer, if it is given."""
        self._tokenizer, self._prompt = tokenizer, prompt
        self._with_logprobs = body.logprobs is not None
        self._readers = [Reader(tokenizer, body.stop or (), with_tools=False) for _ in range(body.n or 1)]
        self._offsets = [0] * len(self._readers)

    def opening(self) -> list[Choice]:
        return []

    def delta(self, part: SamplePart) -> list[Choice]:
        text = self._text([part])
        if not text and part.stop_reason is None and not self._with_logprobs:
            return []
        return [self._choice(part.index, text, [part])]

    def whole(self, operation: Sample, result: SampleResult) -> list[Choice]:
        asked = [] if self._prompt is None else _prompt_parts(operation, result)
        choices = []
        for index in range(len(self._readers)):
            parts = parts_of(index, result)
            choices.append(self._choice(index, (self._prompt or "") + self._text(parts), [*asked, *parts]))
        return choices

    def _text(self, parts: Iterable[SamplePart]) -> str:
        return "".join(str(piece) for part in parts for piece in self._readers[part.index].take(part))

    def _choice(self, index: int, text: str, parts: list[SamplePart]) -> Choice:
        reason = self._readers[index].finish_reason(parts[-1].stop_reason, "stop") if parts else "length"
        logprobs = self._logprobs(index, parts) if self._with_logprobs else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, index: int, parts: list[SamplePart]) -> dict[str, list[Any]]:
        tokens = [self._written(part.token) for part in parts]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [_logprob(part.logprob) for part in parts],
            "top_logprobs": [
                {self._written(token): _logprob(logprob) for token, logprob in part.topk} or None for part in parts
            ],
            "text_offset": offsets,
        }

    def _written(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")


def _delta(index: int, delta: dict[str, Any]) -> Choice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": f"call_{call.id}", "type": "function", "function": function}


def _prompt_parts(operation: Sample, result: SampleResult) -> list[SamplePart]:
    """The prompt as if it had been sampled; nothing predicts its first token."""
    logprobs = result.prompt_logprobs
    rows = _rows(result.topk_prompt_logprobs)
    return [
        SamplePart(
            0, token, float("nan") if logprobs is None else float(logprobs[i]), rows[i] if i and rows else (), None
        )
        for i, token in enumerate(operation.prompt.tolist())
    ]


def _rows(topk: TopkLogprobs | None) -> list[tuple[tuple[int, float], ...]]:
    if topk is None:
        return []
    return [tuple(zip(*row, strict=True)) for row in zip(topk.token_ids.tolist(), topk.logprobs.tolist(), strict=True)]


def _logprob(value: float) -> float | None:
    return None if value != value else max(value, LOWEST_LOGPROB)
