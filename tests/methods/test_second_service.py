"""The methods run on any service that speaks the protocol: here on the strict one in this process, whose own sums are
checked first."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker
import torch

from hone.algorithms import sft
from hone.algorithms.config import CheckpointConfig, ModelConfig, OptimizerConfig
from hone.algorithms.datums import supervised_datum
from hone.algorithms.evaluation import HeldOutNll
from hone.engine.losses import LOSSES as ENGINE_LOSSES
from hone.engine.losses.inputs import LossInputs
from tests.support.fake_model import LOSSES, Adapter, TinyModel, log_softmax
from tests.support.fake_tinker import MODEL, Crash, FakeService, FakeTokenizer, Latency, Refused, crash_at

TOKENS, TARGETS = [3, 1, 4, 1, 5], [1, 4, 1, 5, 9]


def policy_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "logprobs": -draw.exponential(1.0, 5),
        "advantages": draw.standard_normal(5),
        "weights": draw.random(5),
        "sequence_ratio_mask": np.array([0.0, 1, 1, 1, 1]),
    }


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_derivatives_are_those_of_the_engine(name: str) -> None:
    inputs = policy_inputs()
    logprobs = inputs["logprobs"] + 0.3 * np.random.default_rng(1).standard_normal(5)
    settings = {"ratio_cap": 2.0, **LOSSES[name].settings}
    value, by = LOSSES[name].compute(logprobs, inputs, settings)
    lp = torch.tensor(logprobs, dtype=torch.float32, requires_grad=True)
    tensors = {key: torch.tensor(values, dtype=torch.float32) for key, values in inputs.items()}
    reference = ENGINE_LOSSES[name](lp, LossInputs(tensors, torch.zeros(5, dtype=torch.long), 1), settings)
    reference.backward()
    assert lp.grad is not None
    assert value == pytest.approx(float(reference.detach()), rel=1e-5)
    np.testing.assert_allclose(by, lp.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_the_models_gradient_is_that_of_its_loss() -> None:
    model, draw = TinyModel(MODEL, 12), np.random.default_rng(0)
    adapter = Adapter.fresh(12)
    adapter.delta_FV += 0.1 * draw.standard_normal(adapter.delta_FV.shape)
    targets, weights = np.array(TARGETS)[:, None], draw.random((5, 1))

    def loss() -> float:
        return float(-(np.take_along_axis(model.logprobs_TV(TOKENS, adapter), targets, axis=1) * weights).sum())

    gradient = model.gradient_FV(TOKENS, adapter, targets, -weights)
    for at in [(3, 1), (1, 4), (12 + 1, 7), (5, 0)]:
        before = adapter.delta_FV[at]
        adapter.delta_FV[at] = before + 1e-6
        above = loss()
        adapter.delta_FV[at] = before - 1e-6
        assert gradient[at] == pytest.approx((above - loss()) / 2e-6, rel=1e-4, abs=1e-8)
        adapter.delta_FV[at] = before


def test_samples_follow_the_model_and_its_temperature() -> None:
    service = FakeService()
    sampler = service.create_sampling_client(base_model=MODEL).result()
    prompt = tinker.ModelInput.from_ints([3, 5])
    params = tinker.SamplingParams(max_tokens=1, temperature=2.0, seed=1)
    response = sampler.sample(prompt, 4000, params).result()
    drawn = np.bincount([sequence.tokens[0] for sequence in response.sequences], minlength=service.vocabulary) / 4000
    model = service.model(MODEL)
    expected = log_softmax(model.features_TF([3, 5])[-1:] @ model.base_FV / 2.0)[0]
    assert np.abs(drawn - np.exp(expected)).max() < 0.02
    for sequence in response.sequences[:50]:
        assert sequence.logprobs == pytest.approx([expected[sequence.tokens[0]]], abs=1e-6)
    again = sampler.sample(prompt, 4000, params).result()
    assert [s.tokens for s in again.sequences] == [s.tokens for s in response.sequences]


def test_a_prompt_is_scored_as_training_would() -> None:
    service = FakeService()
    training = service.create_lora_training_client(MODEL).result()
    output = training.forward([datum()], "cross_entropy").result()
    sampler = training.save_weights_and_get_sampling_client().result()
    scores = sampler.compute_logprobs(tinker.ModelInput.from_ints([*TOKENS, TARGETS[-1]])).result()
    assert scores[0] is None
    assert scores[1:] == pytest.approx(output.loss_fn_outputs[0]["logprobs"].tolist(), abs=1e-6)


def test_a_custom_loss_has_the_gradient_of_the_loss_it_spells_out() -> None:
    weights = torch.tensor([0.0, 1, 1, 1, 1])
    known = FakeService().create_lora_training_client(MODEL).result()
    custom = FakeService().create_lora_training_client(MODEL).result()
    first = known.forward_backward([datum()], "cross_entropy").result()
    second = custom.forward_backward_custom([datum()], lambda data, lp_D: (-(lp_D[0] * weights).sum(), {})).result()
    assert second.metrics["loss:sum"] == pytest.approx(first.metrics["loss:sum"], rel=1e-6)
    for training in (known, custom):
        training.optim_step(tinker.AdamParams(learning_rate=0.1)).result()
    assert np.abs(known.adapter.delta_FV).max() > 0.05
    np.testing.assert_allclose(known.adapter.delta_FV, custom.adapter.delta_FV, atol=1e-5)


def datum(**inputs: Any) -> tinker.Datum:
    given = {"target_tokens": np.array(TARGETS), "weights": np.array([0, 1, 1, 1, 1], dtype=np.float32)} | inputs
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(TOKENS),
        loss_fn_inputs={key: tinker.TensorData.from_numpy(v) for key, v in given.items() if v is not None},
    )


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "loss": (lambda t: t.forward_backward([datum()], "cross entropy"), "unknown"),
    "setting": (lambda t: t.forward_backward([datum()], "cross_entropy", {"beta": 1.0}), "no setting 'beta'"),
    "missing": (lambda t: t.forward_backward([datum(weights=None)], "cross_entropy"), r"lacks \['weights'\]"),
    "mask": (
        lambda t: t.forward_backward([datum(mask=np.ones(5, np.float32))], "cross_entropy"),
        r"has \['mask'\]",
    ),
    "length": (lambda t: t.forward_backward([datum(target_tokens=np.array([1]))], "cross_entropy"), "5 tokens and 1"),
    "token": (lambda t: t.forward_backward([datum(target_tokens=np.full(5, 99))], "cross_entropy"), "token 99"),
    "shape": (lambda t: t.forward_backward([datum(weights=np.ones(3, np.float32))], "cross_entropy"), "weights is"),
    "nan": (
        lambda t: t.forward_backward([datum(weights=np.full(5, np.nan, np.float32))], "cross_entropy"),
        "not finite",
    ),
    "no gradient": (lambda t: t.optim_step(tinker.AdamParams()), "without a gradient"),
    "lifetime": (lambda t: t.save_state("a", ttl_seconds=5), "between an hour"),
    "name": (lambda t: [t.save_state("a"), t.save_state("a")][1], "exists"),
    "half a step": (
        lambda t: [t.forward_backward([datum()], "cross_entropy"), t.save_state("a")][1],
        "between a gradient and its optimizer step",
    ),
    "unnamed": (
        lambda t: t.forward_backward(
            [datum(weights=None, logprobs=np.zeros(5, np.float32), advantages=np.ones(5, np.float32))],
            "stable_reinforce",
        ),
        "no provenance",
    ),
}


@pytest.mark.parametrize(("request_of", "said"), WRONG.values(), ids=WRONG)
def test_what_the_protocol_does_not_allow_is_refused(request_of: Callable[[Any], Any], said: str) -> None:
    training = FakeService().create_lora_training_client(MODEL).result()
    with pytest.raises(Refused, match=said):
        request_of(training).result()


@pytest.mark.parametrize("false", [None, "tokens", "logprobs", "sequence"])
def test_provenance_is_compared_with_what_was_sampled(false: str | None) -> None:
    service = FakeService()
    training = service.create_lora_training_client(MODEL).result()
    sampler = training.save_weights_and_get_sampling_client(record_stability_info=True).result()
    sequence = (
        sampler.sample(tinker.ModelInput.from_ints([1, 2]), 1, tinker.SamplingParams(max_tokens=3, stop=[], seed=1))
        .result()
        .sequences[0]
    )
    tokens = [1, 2, *sequence.tokens]
    if false == "tokens":
        tokens[-1] = (tokens[-1] + 1) % service.vocabulary
    name = "another" if false == "sequence" else sequence.sequence_id
    logprobs = np.array([0.0, *(sequence.logprobs or [])], np.float32) - (0.5 if false == "logprobs" else 0.0)
    prompt = partial(tinker.PromptProvenanceSpan, sequence_id=name)
    sampled = partial(tinker.SampledProvenanceSpan, sequence_id=name)
    named = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tinker.TensorData.from_numpy(np.array(tokens[1:])),
            "logprobs": tinker.TensorData.from_numpy(logprobs),
            "advantages": tinker.TensorData.from_numpy(np.array([0, 1, 1, 1], np.float32)),
        },
    ).with_provenance(
        model_input=[prompt(offset=0, length=2), sampled(length=2)],
        loss_fn_inputs=[prompt(offset=1, length=1), sampled(length=3)],
    )
    answer = training.forward_backward([named], "stable_reinforce")
    if false is None:
        assert len(answer.result().loss_fn_outputs) == 1
    else:
        with pytest.raises(Refused):
            answer.result()


def test_latency_makes_training_wait_in_line_and_samples_run_together() -> None:
    async def seconds() -> tuple[float, float]:
        service = FakeService(latency=Latency(per_sampled_token=0.01, per_trained_token=0.004))
        training = await service.create_lora_training_client(MODEL)
        sampler = await training.save_weights_and_get_sampling_client()
        clock = asyncio.get_running_loop().time
        began = clock()
        params = tinker.SamplingParams(max_tokens=5, stop=[])
        await asyncio.gather(*(sampler.sample(tinker.ModelInput.from_ints([1]), 1, params) for _ in range(6)))
        sampled = clock() - began
        began = clock()
        await asyncio.gather(*(training.forward_backward([datum()], "cross_entropy") for _ in range(3)))
        assert service.most_samples_at_once == 6
        return sampled, clock() - began

    sampled, trained = asyncio.run(seconds())
    assert 0.05 <= sampled < 6 * 0.05
    assert trained >= 3 * 5 * 0.004


def examples() -> list[tinker.Datum]:
    tokenizer = FakeTokenizer()
    rows = [(tokenizer.encode(f"{a}="), [*tokenizer.encode(a), 0]) for a in "abcdefghijkl"]
    return [supervised_datum(tinker.ModelInput.from_ints(p + r), [0.0] * len(p) + [1.0] * len(r)) for p, r in rows]


def sft_config() -> sft.SftConfig:
    return sft.SftConfig(
        model=ModelConfig(name=MODEL, lora_rank=4),
        optimizer=OptimizerConfig(learning_rate=0.1),
        checkpoints=CheckpointConfig(every=3),
        batch_size=4,
        epochs=10,
        eval_every=5,
    )


def test_supervised_fine_tuning_learns_there_and_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    service = FakeService()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    held_out = [HeldOutNll(examples()[:2])]
    asyncio.run(sft.train(sft_config(), service, examples(), whole, evaluators=held_out))
    rows = (whole / "metrics.jsonl").read_text()
    assert service.kinds()[:2] == ["create", "publish"]
    service.on_request = crash_at("optim_step", 8)
    with pytest.raises(Crash):
        asyncio.run(sft.train(sft_config(), service, examples(), cut, evaluators=held_out))
    asyncio.run(sft.train(sft_config(), service, examples(), cut, evaluators=held_out))
    assert (cut / "metrics.jsonl").read_text() == rows
    nll = [float(row.split('"train_mean_nll": ')[1].rstrip("}")) for row in rows.splitlines() if "train_mean" in row]
    assert nll[-1] < 0.2 * nll[0]


class InterruptAt:
    """A place for metrics that is interrupted while a step is logged, when the step after it is under way."""

    def __init__(self, step: int) -> None:
        self._step = step

    def log(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        if step == self._step:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        pass


def test_an_interrupt_while_a_step_is_awaited_loses_none(tmp_path: Path) -> None:
    service = FakeService()
    whole = asyncio.run(sft.train(sft_config(), service, examples(), tmp_path / "whole"))
    stopped = asyncio.run(sft.train(sft_config(), service, examples(), tmp_path / "cut", sinks=[InterruptAt(3)]))
    assert not stopped.final
    rows = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    lifetimes = [
        request.facts["ttl_seconds"]
        for request in service.requests
        if request.client == "fake:train:1" and request.kind == "save_state"
    ]
    assert lifetimes == [CheckpointConfig().ttl_seconds, None], "nobody knows when it will go on"
    assert stopped.batch == len(rows) == service.kinds("fake:train:1").count("optim_step")
    assert asyncio.run(sft.train(sft_config(), service, examples(), tmp_path / "cut")).batch == whole.batch
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
