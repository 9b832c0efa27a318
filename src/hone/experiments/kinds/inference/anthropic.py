"""A model behind an endpoint that speaks Anthropic's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hone.errors import UserError
from hone.experiments.kinds.contract import Inference
from hone.experiments.kinds.inference.http import HostedParams, key_of, post, texts

if TYPE_CHECKING:
    from hone.algorithms.messages import Message

VERSION = "2023-06-01"


class AnthropicParams(HostedParams):
    base_url: str = "https://api.anthropic.com"
    """Without `/v1`."""
    api_key_env: str | None = "ANTHROPIC_API_KEY"
    """The environment variable with the key; null where none is needed."""


class Anthropic(Inference[AnthropicParams]):
    """It takes no seed: at a temperature above 0 the same question may get another answer."""

    Params = AnthropicParams

    async def generate(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> str:
        told = self.params
        said = texts(messages)
        system = "\n\n".join(one["content"] for one in said if one["role"] in ("system", "developer"))
        body: dict[str, Any] = {
            "model": told.model,
            "messages": [one for one in said if one["role"] not in ("system", "developer")],
            "max_tokens": max_tokens,
            "temperature": min(1.0, temperature),  # its highest
            **({"system": system} if system else {}),
            **told.options,
        }
        key = key_of(told.api_key_env)
        headers = {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}
        url = f"{told.base_url.rstrip('/')}/v1/messages"
        answer = await post(url, body, headers, told)
        try:
            return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
        except (LookupError, TypeError):
            raise UserError(f"{url} answers in an unknown form: {str(answer)[:300]}") from None
