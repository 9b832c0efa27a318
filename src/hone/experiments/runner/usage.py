"""What an arm uses: tokens counted where they are sent, in front of any service and under any algorithm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, cast

from hone.experiments.kinds.contract import Prices
from hone.experiments.records import Usage

if TYPE_CHECKING:
    import tinker

MILLION = 1_000_000
FREE, NOTHING = Prices(), Usage()


class Meter:
    """Counts on from what was used before. Answers come in threads of the SDK, so it locks."""

    def __init__(self, prices: Prices = FREE, before: Usage = NOTHING) -> None:
        self._prices, self._usage = prices, before
        self._lock = threading.Lock()

    def add(self, *, training: int = 0, prefill: int = 0, sample: int = 0, seconds: float = 0.0) -> None:
        p = self._prices
        cost = (training * p.training + prefill * p.prefill + sample * p.sample) / MILLION
        with self._lock:
            old = self._usage
            self._usage = Usage(
                training_tokens=old.training_tokens + training,
                prefill_tokens=old.prefill_tokens + prefill,
                sample_tokens=old.sample_tokens + sample,
                cost=old.cost + cost,
                seconds=old.seconds + seconds,
            )

    @property
    def usage(self) -> Usage:
        with self._lock:
            return self._usage


def tokens(usage: Usage) -> int:
    return usage.training_tokens + usage.prefill_tokens + usage.sample_tokens


def total(usages: Sequence[Usage]) -> Usage:
    return Usage(
        training_tokens=sum(one.training_tokens for one in usages),
        prefill_tokens=sum(one.prefill_tokens for one in usages),
        sample_tokens=sum(one.sample_tokens for one in usages),
        cost=sum(one.cost for one in usages),
        seconds=sum(one.seconds for one in usages),
    )


def since(later: Usage, earlier: Usage) -> Usage:
    return Usage(
        training_tokens=later.training_tokens - earlier.training_tokens,
        prefill_tokens=later.prefill_tokens - earlier.prefill_tokens,
        sample_tokens=later.sample_tokens - earlier.sample_tokens,
        cost=later.cost - earlier.cost,
        seconds=later.seconds - earlier.seconds,
    )


def metered(service: tinker.ServiceClient, meter: Meter) -> tinker.ServiceClient:
    """The same service; what goes through it is counted."""
    return cast("tinker.ServiceClient", _Service(service, meter))


def metered_sampler(sampler: tinker.SamplingClient, meter: Meter) -> tinker.SamplingClient:
    """One that comes from a metered client is counted already, and is not counted twice."""
    if isinstance(sampler, _Sampler) and sampler._meter is meter:
        return cast("tinker.SamplingClient", sampler)
    return cast("tinker.SamplingClient", _Sampler(sampler, meter))


class _Counted:
    """Stands for a client, and passes on what it does not count."""

    def __init__(self, inner: Any, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Service(_Counted):
    def create_lora_training_client(self, *args: Any, **kwargs: Any) -> Any:
        return self._training(self._inner.create_lora_training_client(*args, **kwargs))

    def create_training_client_from_state(self, *args: Any, **kwargs: Any) -> Any:
        return self._training(self._inner.create_training_client_from_state(*args, **kwargs))

    def create_training_client_from_state_with_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        return self._training(self._inner.create_training_client_from_state_with_optimizer(*args, **kwargs))

    def create_sampling_client(self, *args: Any, **kwargs: Any) -> Any:
        made = self._inner.create_sampling_client(*args, **kwargs)
        return _Then(made, lambda client: _Sampler(client, self._meter))

    def _training(self, made: Any) -> Any:
        return _Then(made, lambda client: _Training(client, self._meter))


class _Training(_Counted):
    def forward(self, data: Sequence[tinker.Datum], *args: Any, **kwargs: Any) -> Any:
        self._meter.add(prefill=_length(data))
        return self._inner.forward(data, *args, **kwargs)

    def forward_backward(self, data: Sequence[tinker.Datum], *args: Any, **kwargs: Any) -> Any:
        self._meter.add(training=_length(data))
        return self._inner.forward_backward(data, *args, **kwargs)

    def forward_backward_custom(self, data: Sequence[tinker.Datum], *args: Any, **kwargs: Any) -> Any:
        # The client scores the data, computes the loss itself, and sends them again for the gradient.
        self._meter.add(training=_length(data), prefill=_length(data))
        return self._inner.forward_backward_custom(data, *args, **kwargs)

    def save_weights_and_get_sampling_client(self, *args: Any, **kwargs: Any) -> Any:
        made = self._inner.save_weights_and_get_sampling_client(*args, **kwargs)
        return _Then(made, lambda client: _Sampler(client, self._meter))

    def create_sampling_client(self, *args: Any, **kwargs: Any) -> Any:
        made = self._inner.create_sampling_client(*args, **kwargs)
        return _Then(made, lambda client: _Sampler(client, self._meter))


class _Sampler(_Counted):
    def sample(self, prompt: tinker.ModelInput, num_samples: int, *args: Any, **kwargs: Any) -> Any:
        self._meter.add(prefill=prompt.length)
        answered = self._inner.sample(prompt, num_samples, *args, **kwargs)

        def counted(response: tinker.SampleResponse) -> tinker.SampleResponse:
            self._meter.add(sample=sum(len(sequence.tokens) for sequence in response.sequences))
            return response

        return _Then(answered, counted)

    def compute_logprobs(self, prompt: tinker.ModelInput) -> Any:
        self._meter.add(prefill=prompt.length)
        return self._inner.compute_logprobs(prompt)


class _Then:
    """A future whose value is looked at, once, when somebody asks for it. It waits as the SDK's futures do."""

    def __init__(self, inner: Any, look: Callable[[Any], Any]) -> None:
        self._inner, self._look = inner, look
        self._seen: list[Any] = []

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from self.result_async().__await__())

    async def result_async(self, timeout: float | None = None) -> Any:
        value = await self._inner if timeout is None else await self._inner.result_async(timeout)
        return self._looked(value)

    def result(self, timeout: float | None = None) -> Any:
        return self._looked(self._inner.result(timeout))

    def _looked(self, value: Any) -> Any:
        if not self._seen:
            self._seen.append(self._look(value))
        return self._seen[0]


def _length(data: Sequence[tinker.Datum]) -> int:
    return sum(datum.model_input.length for datum in data)
