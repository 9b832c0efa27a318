"""Questions to hosted models over HTTP, asked again where that helps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from hone.algorithms.config import Config
from hone.errors import UserError

if TYPE_CHECKING:
    from hone.algorithms.messages import Message

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that may be another one in a moment."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


class HostedParams(Config):
    """What hosted models have in common."""

    model: str
    """Its name there."""
    timeout: PositiveFloat = 120.0
    """Seconds that one attempt may take."""
    attempts: PositiveInt = 4
    """How often a question is asked that gets no answer."""
    options: dict[str, Any] = {}
    """Other fields of the request, such as `reasoning_effort`."""


def key_of(variable: str | None) -> str | None:
    """The key in the environment.

    Raises:
        UserError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise UserError(f"the key of the model is expected in the environment variable {variable}, which is not set")
    return key


async def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str], params: HostedParams) -> Any:
    """The answer's JSON.

    Raises:
        UserError: there was none after all attempts, or the request was refused.
    """
    import httpx

    problem = ""
    async with httpx.AsyncClient(timeout=params.timeout, headers=dict(headers)) as client:
        for attempt in range(params.attempts):
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            try:
                response = await client.post(url, json=dict(body))
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    return _json(response, url)
                problem = f"status {response.status_code}: {response.text[:300]}"
                if response.status_code not in RETRIED:
                    break
                pause = _asked_pause(response.headers.get("retry-after")) or pause
            if attempt + 1 < params.attempts:
                await asyncio.sleep(pause)
    raise UserError(f"the model {params.model} at {url} does not answer: {problem}")


def texts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Roles and texts.

    Raises:
        UserError: a message is more than a text.
    """
    from hone.algorithms.messages import parts_of, text_of

    for message in messages:
        if any(part["type"] == "image" for part in parts_of(message)) or message.get("tool_calls"):
            raise UserError("hosted models are asked in text here; this conversation has images or tool calls")
        if message["role"] == "tool":
            raise UserError("hosted models are asked in text here; this conversation has answers of tools")
    return [{"role": message["role"], "content": text_of(message)} for message in messages]


def _json(response: Any, url: str) -> Any:
    try:
        return response.json()
    except ValueError:
        raise UserError(f"{url} answers, but not in JSON: {response.text[:300]}") from None


def _asked_pause(value: str | None) -> float | None:
    try:
        return min(LONGEST_PAUSE, float(value)) if value else None
    except ValueError:
        return None  # a date; our own pause will do
