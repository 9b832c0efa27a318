"""A model behind an endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from hone.errors import UserError
from hone.experiments.kinds.contract import Inference
from hone.experiments.kinds.inference.http import HostedParams, key_of, post, texts

if TYPE_CHECKING:
    from hone.algorithms.messages import Message


class OpenAIParams(HostedParams):
    base_url: str = "https://api.openai.com/v1"
    """Up to and with `/v1`."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The environment variable with the key; null where none is needed."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the most tokens of an answer."""
    send: list[Literal["temperature", "seed"]] = ["temperature", "seed"]
    """What is said of sampling; some models refuse one or both."""


class OpenAI(Inference[OpenAIParams]):
    Params = OpenAIParams

    async def generate(self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int) -> str:
        told = self.params
        sampling = {"temperature": temperature, "seed": seed}
        body: dict[str, Any] = {
            "model": told.model,
            "messages": texts(messages),
            told.limit_name: max_tokens,
            **{name: sampling[name] for name in told.send},
            **told.options,
        }
        key = key_of(told.api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{told.base_url.rstrip('/')}/chat/completions"
        answer = await post(url, body, headers, told)
        try:
            return str(answer["choices"][0]["message"]["content"] or "")
        except (LookupError, TypeError):
            raise UserError(f"{url} answers in an unknown form: {str(answer)[:300]}") from None
