"""`tinker` 0.24 with the surface of 0.38, as far as `hone.algorithms` uses it: servers that speak no later protocol are
trained on through it. Import it before anything of `hone.algorithms`.

What 0.24 lacks is left out (names of sampled sequences, counts of cached tokens) or made: futures of clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import tinker

for name in ("PromptProvenanceSpan", "SampledProvenanceSpan"):
    if not hasattr(tinker, name):
        setattr(tinker, name, type(name, (), {}))


class Service:
    """Stands where a `tinker.ServiceClient` of 0.38 is expected."""

    def __init__(self, url: str) -> None:
        self._old: Any = tinker.ServiceClient(base_url=url, api_key="tml-none")

    def create_lora_training_client(self, base_model: str, **settings: Any) -> Awaitable[Training]:
        return _started(self._old.create_lora_training_client_async(base_model, **settings), Training)

    def create_training_client_from_state(self, path: str) -> Awaitable[Training]:
        return _started(self._old.create_training_client_from_state_async(path), Training)

    def create_training_client_from_state_with_optimizer(self, path: str) -> Awaitable[Training]:
        return _started(self._old.create_training_client_from_state_with_optimizer_async(path), Training)

    def create_sampling_client(self, **which: Any) -> Awaitable[Sampling]:
        return _started(self._old.create_sampling_client_async(**which), Sampling)


class Training:
    def __init__(self, old: Any) -> None:
        self._old = old

    def forward_backward(self, data: Sequence[Any], loss: str, settings: Any = None) -> Awaitable[Any]:
        return _future(self._old.forward_backward(list(data), loss, settings))

    def forward_backward_custom(self, data: Sequence[Any], loss: Callable[..., Any]) -> Awaitable[Any]:
        return _future(self._old.forward_backward_custom(list(data), loss))

    def optim_step(self, adam: Any) -> Awaitable[Any]:
        return _future(self._old.optim_step(adam))

    def save_state(self, name: str, ttl_seconds: int | None = None) -> Awaitable[Any]:
        return _future(self._old.save_state(name, ttl_seconds=ttl_seconds))

    def save_weights_for_sampler(self, name: str, ttl_seconds: int | None = None) -> Awaitable[Any]:
        return _future(self._old.save_weights_for_sampler(name, ttl_seconds=ttl_seconds))

    def save_weights_and_get_sampling_client(self, record_stability_info: bool = False) -> Awaitable[Sampling]:
        assert not record_stability_info, "0.24 names no sequences"
        return _started(self._old.save_weights_and_get_sampling_client_async(), Sampling)


class Sampling:
    def __init__(self, old: Any) -> None:
        self._old = old

    async def sample(self, prompt: Any, num_samples: int, sampling_params: Any) -> Any:
        response = await _future(self._old.sample(prompt, num_samples, sampling_params))
        sequences = [
            SimpleNamespace(tokens=one.tokens, logprobs=one.logprobs, stop_reason=one.stop_reason, sequence_id=None)
            for one in response.sequences
        ]
        return SimpleNamespace(sequences=sequences, prompt_cache_hit_tokens=0)

    async def compute_logprobs(self, prompt: Any) -> list[float | None]:
        scores: list[float | None] = await _future(self._old.compute_logprobs(prompt))
        # SkyRL leaves out the first token, which nothing predicts; others give None for it.
        return [None, *scores] if len(scores) == prompt.length - 1 else scores


def _future(old: Any) -> Awaitable[Any]:
    """The request is sent already; some releases give futures of threads, which nobody can await."""
    return old if hasattr(old, "__await__") else asyncio.wrap_future(old)


def _started(work: Coroutine[Any, Any, Any], wrap: Callable[[Any], Any]) -> Awaitable[Any]:
    async def wrapped() -> Any:
        return wrap(await work)

    return asyncio.ensure_future(wrapped())
