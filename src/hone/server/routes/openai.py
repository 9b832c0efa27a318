"""The OpenAI-compatible API, under `/oai/api/v1`: completions, chat completions, models.

`logprobs` cover every token that was drawn, the one that ended the sequence included; so do the counts in `usage`.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hone.engine.contract import Sample, SamplePart
from hone.errors import HoneError
from hone.protocol import openai
from hone.protocol.model_input import ModelInput
from hone.protocol.types import SampleResult, SamplingParams
from hone.server.access import caller_of, visible_projects
from hone.server.bodies import read
from hone.server.failures import openai_error
from hone.server.inference.choices import ChatWriter, Choice, CompletionWriter, Writer
from hone.server.inference.events import EventStream, opened, while_connected
from hone.server.inference.generation import Target, without_tokens
from hone.server.service import Service

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's own default of the older route; chat goes on to the end of the context."""
LISTED_CHECKPOINTS = 1000


async def completions(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, openai.Completion)
    target = await service.generation.target(body.model)
    tokenizer = await service.generation.tokenizer(target.base_model)
    max_tokens = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    choices: list[Choice] = []
    operations: list[Sample] = []
    results: list[SampleResult] = []
    for prompt in body.prompts:
        tokens = await asyncio.to_thread(tokenizer.encode, prompt) if isinstance(prompt, str) else prompt
        # the engine always draws one token, also where only the prompt was asked for
        given = ModelInput(np.asarray(tokens, np.int32), ())
        operation = _operation(body, target, given, max(1, max_tokens), body.logprobs, score_prompt=bool(body.echo))
        if body.stream:
            return await _streamed(request, operation, "text_completion", body, CompletionWriter(tokenizer, body, None))
        result = await while_connected(request, service.generation.draw(operation, caller_of(request).key.id))
        result = result if max_tokens else without_tokens(result)
        shown = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        writer = CompletionWriter(tokenizer, body, shown if body.echo else None)
        choices += [choice | {"index": len(choices) + i} for i, choice in enumerate(writer.whole(operation, result))]
        operations.append(operation)
        results.append(result)
    return JSONResponse(_head("text_completion", body) | {"choices": choices, "usage": _usage(operations, results)})


async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    body = await read(request, openai.ChatCompletion)
    target = await service.generation.target(body.model)
    tokenizer = await service.generation.tokenizer(target.base_model)
    messages = [message.to_template() for message in body.messages]
    prompt = await service.generation.conversation(
        target.base_model, messages, body.images, body.shown_tools, body.chat_template_kwargs
    )
    operation = _operation(body, target, prompt, body.max_completion_tokens or body.max_tokens, body.top_logprobs)
    writer = ChatWriter(tokenizer, body)
    if body.stream:
        return await _streamed(request, operation, "chat.completion.chunk", body, writer)
    result = await while_connected(request, service.generation.draw(operation, caller_of(request).key.id))
    usage = _usage([operation], [result])
    choices = writer.whole(operation, result)
    return JSONResponse(_head("chat.completion", body) | {"choices": choices, "usage": usage})


async def list_models(request: Request) -> JSONResponse:
    """Base models, then sampler checkpoints, newest first."""
    service: Service = request.app.state.service
    caller = caller_of(request)
    page, _ = await service.store.checkpoints(None, 0, LISTED_CHECKPOINTS, visible_projects(request))
    names = [name for name in service.models if caller.may_use(name)]
    paths = [found for found in page if found.path.kind == "sampler_weights" and found.base_model in names]
    models = [_model(name, 0) for name in names]
    models += [_model(str(found.path), int(found.created_at)) for found in paths]
    return JSONResponse({"object": "list", "data": models})


async def show_model(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    name = request.path_params["model"]
    await service.access.check_fields(caller_of(request), {"model": name})
    await service.generation.target(name)
    return JSONResponse(_model(name, 0))


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "hone"}


def _operation(
    body: openai.Completing,
    target: Target,
    prompt: ModelInput,
    max_tokens: int | None,
    top_logprobs: int | None,
    score_prompt: bool = False,
) -> Sample:
    return Sample(
        base_model=target.base_model,
        version=target.version,
        prompt=prompt.tokens,
        images=prompt.images,
        num_samples=body.n or 1,
        params=SamplingParams(
            max_tokens=max_tokens,
            stop=tuple(body.stop) if body.stop else None,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_k=body.top_k or -1,
            top_p=body.top_p or 1.0,
        ),
        seed=secrets.randbits(63) if body.seed is None else body.seed % 2**63,
        prompt_logprobs=score_prompt and top_logprobs is not None,
        topk_prompt_logprobs=(top_logprobs or 0) if score_prompt else 0,
        topk_sample_logprobs=top_logprobs or 0,
    )


def _head(kind: str, body: openai.Completing) -> dict[str, Any]:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    made = f"{prefix}-{secrets.token_hex(12)}"
    return {"id": made, "object": kind, "created": int(time.time()), "model": body.model}


def _usage(operations: list[Sample], results: list[SampleResult]) -> dict[str, Any]:
    asked = sum(len(operation.prompt) for operation in operations)
    said = sum(len(sequence.tokens) for result in results for sequence in result.sequences)
    cached = sum(result.prompt_cache_hit_tokens for result in results)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


async def _streamed(
    request: Request, operation: Sample, kind: str, body: openai.Completing, writer: Writer
) -> Response:
    """A mistake in the request is still answered by a status: the stream opens with the first token."""
    service: Service = request.app.state.service
    parts = await while_connected(request, opened(service.generation.stream(operation, caller_of(request).key.id)))
    return EventStream(_events(parts, operation, _head(kind, body), body, writer))


async def _events(
    parts: AsyncGenerator[SamplePart | SampleResult, None],
    operation: Sample,
    head: dict[str, Any],
    body: openai.Completing,
    writer: Writer,
) -> AsyncGenerator[str, None]:
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    head |= {"usage": None} if with_usage else {}
    try:
        async with aclosing(parts):
            for choice in writer.opening():
                yield _event(head | {"choices": [choice]})
            async for part in parts:
                if isinstance(part, SamplePart):
                    for choice in writer.delta(part):
                        yield _event(head | {"choices": [choice]})
                elif with_usage:
                    yield _event(head | {"choices": [], "usage": _usage([operation], [part])})
    except HoneError as error:
        yield _event(openai_error(error.category, str(error)))
    else:
        yield "data: [DONE]\n\n"


def _event(fields: dict[str, Any]) -> str:
    return f"data: {json.dumps(fields, ensure_ascii=False)}\n\n"


routes = [
    Route("/completions", completions, methods=["POST"]),
    Route("/chat/completions", chat_completions, methods=["POST"]),
    Route("/models", list_models),
    Route("/models/{model:path}", show_model),
]
