"""Tokens are counted where they are sent."""

import asyncio

import pytest
import tinker

from hone.algorithms.datums import supervised_datum
from hone.experiments.kinds.contract import Prices
from hone.experiments.records import Usage
from hone.experiments.runner.usage import Meter, metered, metered_sampler, since, tokens, total
from tests.support.fake_tinker import MODEL, FakeService

PROMPT = tinker.ModelInput.from_ints([1, 2, 3])


async def work(service: tinker.ServiceClient) -> None:
    training = await service.create_lora_training_client(MODEL, rank=4)
    data = [supervised_datum(tinker.ModelInput.from_ints([1, 2, 3, 4, 5]), [0, 1, 1, 1, 1])] * 2
    gradient, update = training.forward_backward(data, "cross_entropy"), training.optim_step(tinker.AdamParams())
    await gradient
    await update
    sampler = await training.save_weights_and_get_sampling_client()
    params = tinker.SamplingParams(max_tokens=4, seed=1, stop=[])
    await sampler.sample(PROMPT, 5, params)
    base = service.create_sampling_client(base_model=MODEL).result()
    base.sample(PROMPT, num_samples=1, sampling_params=params).result()
    await base.compute_logprobs(PROMPT)


def test_every_token_that_passes_is_counted_and_priced() -> None:
    meter = Meter(Prices(training=3.0, prefill=1.0, sample=2.0), Usage(training_tokens=100, cost=1.0, seconds=7.0))
    service = FakeService()
    asyncio.run(work(metered(service, meter)))  # type: ignore[arg-type]
    used = since(meter.usage, Usage(training_tokens=100, cost=1.0, seconds=7.0))
    assert (used.training_tokens, used.prefill_tokens, used.sample_tokens) == (2 * 4, 3 + 3 + 3, 5 * 4 + 4)
    assert used.cost == pytest.approx((8 * 3.0 + 9 * 1.0 + 24 * 2.0) / 1e6)
    assert service.kinds()[0] == "create"


def test_a_sampler_of_a_metered_client_is_not_counted_twice() -> None:
    async def ask(service: tinker.ServiceClient, meter: Meter) -> None:
        training = await service.create_lora_training_client(MODEL, rank=4)
        sampler = metered_sampler(await training.save_weights_and_get_sampling_client(), meter)
        await sampler.sample(PROMPT, 1, tinker.SamplingParams(max_tokens=4, seed=1, stop=[]))

    meter, other = Meter(), Meter()
    asyncio.run(ask(metered(FakeService(), meter), meter))  # type: ignore[arg-type]
    assert (meter.usage.prefill_tokens, meter.usage.sample_tokens) == (3, 4)
    asyncio.run(ask(metered(FakeService(), meter), other))  # type: ignore[arg-type]
    assert other.usage.prefill_tokens == 3


def test_usages_add_up() -> None:
    one = Usage(training_tokens=1, prefill_tokens=2, sample_tokens=3, cost=0.5, seconds=1.0)
    assert tokens(total([one, one])) == 12
    assert total([]) == Usage()


def test_a_custom_loss_counts_both_of_its_passes() -> None:
    class Training:
        def forward_backward_custom(self, data: object, loss: object) -> str:
            return "future"

    class Service:
        def create_lora_training_client(self, model: str) -> object:
            class Future:
                def result(self, timeout: float | None = None) -> Training:
                    return Training()

            return Future()

    meter = Meter()
    data = [supervised_datum(tinker.ModelInput.from_ints([1, 2, 3]), [0, 1, 1])]
    client = metered(Service(), meter).create_lora_training_client(MODEL).result()  # type: ignore[arg-type]
    assert client.forward_backward_custom(data, None) == "future"  # type: ignore[arg-type, comparison-overlap]
    assert (meter.usage.training_tokens, meter.usage.prefill_tokens) == (2, 2)
