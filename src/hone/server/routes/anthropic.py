"""The Anthropic-compatible API, under `/anthropic/api`: messages, and what they would cost in tokens."""

import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.engine.contract import Sample, SamplePart
from hone.errors import HoneError
from hone.protocol import anthropic
from hone.protocol.model_input import ModelInput
from hone.protocol.types import SampleResult, SamplingParams
from hone.server.access import caller_of
from hone.server.bodies import read
from hone.server.failures import anthropic_error
from hone.server.inference.events import EventStream, opened, while_connected
from hone.server.inference.generation import Target, parts_of
from hone.server.inference.reading import Piece, Reader, ToolCall
from hone.server.service import Service

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_use": "tool_use"}


async def messages(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, anthropic.Messages)
    target = await service.generation.target(body.model)
    tokenizer = await service.generation.tokenizer(target.base_model)
    operation = _operation(body, target, await _prompt(body, target, service))
    reader = Reader(tokenizer, body.stop_sequences or (), with_tools=body.shown_tools is not None)
    if body.stream:
        parts = await while_connected(request, opened(service.generation.stream(operation, caller_of(request).key.id)))
        return EventStream(_events(parts, operation, body, reader))
    result = await while_connected(request, service.generation.draw(operation, caller_of(request).key.id))
    content: list[dict[str, Any]] = []
    sampled = parts_of(0, result)
    for piece in [piece for part in sampled for piece in reader.take(part)]:
        if isinstance(piece, str) and content and content[-1]["type"] == "text":
            content[-1]["text"] += piece
        else:
            content.append(_block(piece))
    said = {"content": content, **_ending(reader, sampled[-1]), "usage": _usage(operation, result)}
    return JSONResponse(_message(body) | said)


async def count_tokens(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    body = await read(request, anthropic.CountTokens)
    target = await service.generation.target(body.model)
    return JSONResponse({"input_tokens": len((await _prompt(body, target, service)).tokens)})


async def _prompt(body: anthropic.CountTokens, target: Target, service: Service) -> ModelInput:
    return await service.generation.conversation(
        target.base_model, body.conversation(), body.images, body.shown_tools, continue_last=body.continues
    )


def _operation(body: anthropic.Messages, target: Target, prompt: ModelInput) -> Sample:
    return Sample(
        base_model=target.base_model,
        version=target.version,
        prompt=prompt.tokens,
        images=prompt.images,
        num_samples=1,
        params=SamplingParams(
            max_tokens=body.max_tokens,
            stop=tuple(body.stop_sequences) if body.stop_sequences else None,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_k=body.top_k or -1,
            top_p=body.top_p or 1.0,
        ),
        seed=secrets.randbits(63),
    )


def _message(body: anthropic.Messages) -> dict[str, Any]:
    made = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": body.model}
    return made | {"content": [], "stop_reason": None, "stop_sequence": None}


def _block(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "tool_use", "id": f"toolu_{piece.id}", "name": piece.name, "input": piece.arguments}


def _ending(reader: Reader, last: SamplePart) -> dict[str, Any]:
    found = reader.stopped_by
    reason = "stop_sequence" if found else STOP_REASONS[reader.finish_reason(last.stop_reason, "tool_use") or "stop"]
    return {"stop_reason": reason, "stop_sequence": found}


def _usage(operation: Sample, result: SampleResult | None) -> dict[str, int]:
    """Without a result, as a stream begins. What came from the cache is counted apart, not as input too."""
    cached = 0 if result is None else result.prompt_cache_hit_tokens
    return {
        "input_tokens": len(operation.prompt) - cached,
        "cache_read_input_tokens": cached,
        "output_tokens": 0 if result is None else len(result.sequences[0].tokens),
    }


async def _events(
    parts: AsyncGenerator[SamplePart | SampleResult, None], operation: Sample, body: anthropic.Messages, reader: Reader
) -> AsyncGenerator[str, None]:
    blocks = _Blocks()
    ending: dict[str, Any] = {}
    try:
        async with aclosing(parts):
            yield _event("message_start", message=_message(body) | {"usage": _usage(operation, None)})
            async for part in parts:
                if isinstance(part, SampleResult):
                    yield _event("message_delta", delta=ending, usage=_usage(operation, part))
                    break
                for piece in reader.take(part):
                    for event in blocks.add(piece):
                        yield event
                if part.stop_reason is not None:
                    ending = _ending(reader, part)
                    for event in blocks.close():
                        yield event
    except HoneError as error:
        yield _event("error", error=anthropic_error(error.category, str(error))["error"])
    else:
        yield _event("message_stop")


class _Blocks:
    """Pieces as the events of content blocks: text that goes on stays in its block."""

    def __init__(self) -> None:
        self._index = -1
        self._in_text = False

    def add(self, piece: Piece) -> list[str]:
        events: list[str] = []
        if isinstance(piece, ToolCall) or not self._in_text:
            events += self.close()
            self._index += 1
            empty: dict[str, Any] = {"text": ""} if isinstance(piece, str) else {"input": {}}
            events.append(_event("content_block_start", index=self._index, content_block=_block(piece) | empty))
            self._in_text = isinstance(piece, str)
        if isinstance(piece, str):
            delta = {"type": "text_delta", "text": piece}
            return [*events, _event("content_block_delta", index=self._index, delta=delta)]
        delta = {"type": "input_json_delta", "partial_json": piece.arguments_json}
        events.append(_event("content_block_delta", index=self._index, delta=delta))
        return [*events, _event("content_block_stop", index=self._index)]

    def close(self) -> list[str]:
        """End the text that is open."""
        was_open, self._in_text = self._in_text, False
        return [_event("content_block_stop", index=self._index)] if was_open else []


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n"


routes = [
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
