"""Drives a server of the Tinker protocol with the official SDK, of any version from 0.24 on."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tinker
from tinker import types

from benchmarks.peers.work import Publish, Sample, Setting, Train

SECONDS = 580.0
"""How long one answer may take: some compile for minutes when they see a new shape."""


class Client:
    def __init__(self, url: str, api_key: str, model: str, setting: Setting) -> None:
        self._service = tinker.ServiceClient(base_url=url, api_key=api_key)
        create = self._service.create_lora_training_client
        # without the output layer, which not every system can adapt
        self._tenants = [
            _resolved(create(base_model=model, rank=setting.rank, train_unembed=False)) for _ in range(setting.tenants)
        ]
        self._samplers: list[Any] = []

    def train(self, work: Train) -> None:
        futures = []
        for i, tenant in enumerate(self._tenants[: work.tenants]):
            futures += [tenant.forward_backward(_data(work.batch(i)), "cross_entropy"), tenant.optim_step(_ADAM)]
        for future in futures:
            future.result(timeout=SECONDS)

    def sample(self, work: Sample, seed: int) -> None:
        if len(self._samplers) < work.tenants:
            self._samplers = [_resolved(t.save_weights_and_get_sampling_client()) for t in self._tenants]
        params = types.SamplingParams(max_tokens=work.new, temperature=1.0, seed=seed)
        futures = [
            self._samplers[i % work.tenants].sample(
                prompt=types.ModelInput.from_ints(prompt.tolist()), num_samples=work.group, sampling_params=params
            )
            for i, prompt in enumerate(work.prompts(seed))
        ]
        drawn = [len(s.tokens) for f in futures for s in f.result(timeout=SECONDS).sequences]
        if sum(drawn) != work.tokens:
            raise RuntimeError(f"asked for {work.tokens} tokens, got {sum(drawn)}: {sorted(drawn)}")

    def publish(self, work: Publish) -> float:
        self.train(Train(1, 8))
        start = time.perf_counter()
        sampler = _resolved(self._tenants[0].save_weights_and_get_sampling_client())
        prompt = types.ModelInput.from_ints(Sample(1, 1, work.prompt, 1).prompts(0)[0].tolist())
        params = types.SamplingParams(max_tokens=1, temperature=1.0, seed=0)
        sampler.sample(prompt=prompt, num_samples=1, sampling_params=params).result(timeout=SECONDS)
        return time.perf_counter() - start


_ADAM = types.AdamParams(learning_rate=1e-5)


def _data(rows: np.ndarray) -> list[types.Datum]:
    weights = types.TensorData.from_numpy(np.ones(rows.shape[1] - 1, np.float32))
    return [
        types.Datum(
            model_input=types.ModelInput.from_ints(row[:-1].tolist()),
            loss_fn_inputs={"target_tokens": types.TensorData.from_numpy(row[1:]), "weights": weights},
        )
        for row in rows
    ]


def _resolved(client: Any) -> Any:
    """New releases of the SDK hand out futures of clients where older ones hand out the clients."""
    result: Callable[..., Any] | None = getattr(client, "result", None)
    return result(timeout=SECONDS) if result else client
