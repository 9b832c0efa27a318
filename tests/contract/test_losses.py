"""Section 12: what the losses compute, from the log-probabilities that they return, and what an optimizer step does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tinker
from tinker import types

from tests.contract.material import PROPORTIONAL_STEP, Material, datum, floats, forward, integers, logprobs

Values = np.ndarray[Any, np.dtype[np.float64]]
Loss = Callable[[Values, Values, Values, dict[str, float]], Values | float]
"""Of log-probabilities now (lp) and when they were sampled (q), advantages (a) and settings (c)."""


def cispo(lp: Values, q: Values, a: Values, c: dict[str, float]) -> Values:
    return -np.clip(np.exp(lp - q), c.get("clip_low_threshold", 0), c.get("clip_high_threshold", 4)) * lp * a


def ppo(lp: Values, q: Values, a: Values, c: dict[str, float]) -> Values:
    ratio = np.exp(lp - q)
    clipped = np.clip(ratio, c.get("clip_low_threshold", 0.8), c.get("clip_high_threshold", 1.2))
    return -np.minimum(ratio * a, clipped * a)


def gspo(lp: Values, q: Values, a: Values, c: dict[str, float]) -> Values:
    """The mask of `rewarded` leaves out every third position."""
    mask = np.arange(len(lp)) % 3 != 0
    ratio = np.exp((lp - q)[mask].mean())
    return -np.minimum(ratio * a, np.clip(ratio, c["clip_low_threshold"], c["clip_high_threshold"]) * a)


FORMULAS: dict[str, tuple[str, dict[str, float], Loss]] = {
    "importance_sampling": ("importance_sampling", {}, lambda lp, q, a, c: -np.exp(lp - q) * a),
    "ppo": ("ppo", {}, ppo),
    "ppo, wide": ("ppo", {"clip_low_threshold": 0.1, "clip_high_threshold": 3.0}, ppo),
    "cispo": ("cispo", {}, cispo),
    "cispo, narrow": ("cispo", {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}, cispo),
    "dro": ("dro", {"beta": 0.3}, lambda lp, q, a, c: -(lp * a - c["beta"] / 2 * (lp - q) ** 2)),
    "gspo": ("gspo", {"clip_low_threshold": 0.7, "clip_high_threshold": 1.05}, gspo),
}


def rewarded(tokens: list[int], number: int = 0) -> tinker.Datum:
    """Sampled some time ago, with rewards of either sign."""
    count = len(tokens) - 1
    rng = np.random.default_rng(number)
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "logprobs": floats((-1.5 + rng.normal(size=count)).tolist()),
            "advantages": floats(rng.normal(size=count).tolist()),
            "sequence_ratio_mask": floats([float(i % 3 != 0) for i in range(count)]),
        },
    )


@pytest.mark.parametrize("case", FORMULAS)
def test_the_loss_is_the_sum_of_its_formula(training: tinker.TrainingClient, material: Material, case: str) -> None:
    loss_fn, settings, formula = FORMULAS[case]
    data = [rewarded(material.sequence(number), number) for number in range(3)]
    output = training.forward_backward(data, loss_fn, settings).result()
    expected = 0.0
    for one, lp in zip(data, logprobs(output), strict=True):
        q, a = (one.loss_fn_inputs[name].to_numpy().astype(np.float64) for name in ("logprobs", "advantages"))
        expected += float(np.sum(formula(lp.double().numpy(), q, a, settings)))
    assert output.metrics["loss:sum"] == pytest.approx(expected, rel=1e-4)
    assert all(name.count(":") == 1 for name in output.metrics), "the client refuses other names"


@pytest.mark.parametrize("case", FORMULAS)
def test_every_loss_returns_the_same_log_probabilities(
    training: tinker.TrainingClient, material: Material, case: str
) -> None:
    loss_fn, settings, _ = FORMULAS[case]
    found = logprobs(training.forward([rewarded(material.sequence())], loss_fn, settings).result())
    assert found[0].tolist() == forward(training, [datum(material.sequence())]).tolist()


def test_a_small_step_lowers_the_loss_by_the_gradient(training: tinker.TrainingClient, material: Material) -> None:
    """With a large eps and no memory a step is lr / eps times the gradient, so the loss falls by that times |g|^2."""
    data, eps, wanted = [datum(material.sequence())], 1e4, 1e-2
    plain = {"beta1": 0.0, "beta2": 0.0, "eps": eps}
    training.forward_backward(data, "cross_entropy")
    metrics = training.optim_step(tinker.AdamParams(learning_rate=0.0, **plain)).result().metrics
    assert metrics is not None
    rate = eps * wanted / metrics["optimizer/grad_norm"] ** 2
    before = training.forward_backward(data, "cross_entropy").result().metrics["loss:sum"]
    training.optim_step(tinker.AdamParams(learning_rate=rate, **plain)).result()
    after = training.forward(data, "cross_entropy").result().metrics["loss:sum"]
    assert before - after == pytest.approx(wanted, rel=0.05)


# What is refused.


def test_an_unknown_loss_lists_the_known_ones(training: tinker.TrainingClient, material: Material) -> None:
    with pytest.raises(tinker.RequestFailedError, match="cross_entropy") as refusal:
        training.forward_backward([datum(material.sequence())], "crossentropy").result()  # type: ignore[arg-type]
    assert refusal.value.category == "user"


@pytest.mark.parametrize("loss_fn", ["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo"])
def test_an_unknown_setting_is_refused(training: tinker.TrainingClient, material: Material, loss_fn: Any) -> None:
    with pytest.raises(tinker.RequestFailedError, match="clip_low"):
        training.forward_backward([rewarded(material.sequence())], loss_fn, {"clip_low": 0.5}).result()


@pytest.mark.parametrize(
    ("loss_fn", "missing"),
    [
        ("cross_entropy", "target_tokens"),
        ("importance_sampling", "logprobs"),
        ("ppo", "advantages"),
        ("cispo", "target_tokens"),
        ("dro", "logprobs"),
        ("gspo", "sequence_ratio_mask"),
    ],
)
def test_a_missing_input_is_named(
    training: tinker.TrainingClient, material: Material, loss_fn: Any, missing: str
) -> None:
    one = rewarded(material.sequence())
    inputs = {name: value for name, value in one.loss_fn_inputs.items() if name != missing}
    with pytest.raises(tinker.RequestFailedError, match=missing) as refusal:
        training.forward_backward([tinker.Datum(one.model_input, inputs)], loss_fn).result()
    assert refusal.value.category == "user"


def test_only_cross_entropy_takes_several_targets(training: tinker.TrainingClient, material: Material) -> None:
    one = rewarded(material.sequence())
    twice = {
        name: tinker.TensorData.from_numpy(np.stack([value.to_numpy()] * 2, axis=1))
        for name, value in one.loss_fn_inputs.items()
    }
    with pytest.raises(tinker.RequestFailedError, match=r"\[N\]"):
        training.forward_backward([tinker.Datum(one.model_input, twice)], "ppo").result()


# 12.9 stable_reinforce


def from_samples(prompt: list[int], sampled: tinker.SampledSequence, advantage: float) -> tinker.Datum:
    assert sampled.logprobs is not None
    tokens, before = [*prompt, *sampled.tokens], [0.0] * (len(prompt) - 1)
    one = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": integers(tokens[1:]),
            "logprobs": floats([*before, *sampled.logprobs]),
            "advantages": floats([*before, *[advantage] * len(sampled.tokens)]),
        },
    )
    count, name = len(sampled.tokens), sampled.sequence_id
    return one.with_provenance(
        model_input=[
            types.PromptProvenanceSpan(sequence_id=name, length=len(prompt)),
            types.SampledProvenanceSpan(sequence_id=name, length=count - 1),
        ],
        loss_fn_inputs=[
            types.PromptProvenanceSpan(sequence_id=name, offset=1, length=len(prompt) - 1),
            types.SampledProvenanceSpan(sequence_id=name, length=count),
        ],
    )


def test_stable_reinforce_trains_on_recorded_samples(training: tinker.TrainingClient, material: Material) -> None:
    sampler = training.save_weights_and_get_sampling_client(record_stability_info=True).result()
    params = tinker.SamplingParams(max_tokens=6, seed=1, temperature=2.0)
    good, bad = sampler.sample(material.prompt(), 2, params).result().sequences
    prompt = material.question()
    data = [from_samples(prompt, good, 1.0), from_samples(prompt, bad, -1.0)]
    drifted = training.forward(data, "stable_reinforce", {"kl_coeff": 0.5}).result()
    output = training.forward_backward(data, "stable_reinforce").result()
    assert drifted.metrics["loss:sum"] > output.metrics["loss:sum"]
    assert output.metrics["stable_reinforce_substitute:mean"] == 1.0, "its formula is not public; see the decisions"
    training.optim_step(tinker.AdamParams(learning_rate=1e-3)).result()
    after = logprobs(training.forward(data, "stable_reinforce").result())
    gain = 0.0
    for one, now, was in zip(data, after, logprobs(output), strict=True):
        sampled, advantages = (one.loss_fn_inputs[name].to_torch() for name in ("logprobs", "advantages"))
        weight = (was - sampled).exp().clamp(max=2.0)
        gain += float((weight * advantages * (now - was)).sum())
    assert gain > 0, "what was rewarded became likelier"


def test_stable_reinforce_needs_to_know_the_samples(training: tinker.TrainingClient, material: Material) -> None:
    one = rewarded(material.sequence())
    with pytest.raises(tinker.RequestFailedError, match="spans") as refusal:
        training.forward_backward([one], "stable_reinforce").result()
    assert refusal.value.category == "user"


# 12.10 AdamW


@pytest.fixture
def twin(service: tinker.ServiceClient, base_model: str) -> tinker.TrainingClient:
    return service.create_lora_training_client(base_model, rank=4, seed=7).result()


def moved(training: tinker.TrainingClient, material: Material, steps: list[tinker.AdamParams]) -> list[float]:
    data = [datum(material.sequence())]
    for params in steps:
        training.forward_backward(data, "cross_entropy")
        training.optim_step(params)
    return forward(training, data).tolist()


def test_every_parameter_of_adamw_matters(service: tinker.ServiceClient, base_model: str, material: Material) -> None:
    usual = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
    changes: list[dict[str, float]] = [
        {},
        {"learning_rate": 2e-2},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"eps": 1e-1},
        {"weight_decay": 10.0},
        {"grad_clip_norm": 1e-3, "eps": 1e-1},
    ]
    results = []
    for change in changes:
        training = service.create_lora_training_client(base_model, rank=4, seed=7).result()
        # Unequal steps: Adam forgets the size of the first gradient, and much of that of equal ones.
        first, second = (tinker.AdamParams(**(usual | change)) for _ in range(2))
        results.append(tuple(moved(training, material, [first, second])))
    assert len(set(results)) == len(changes)


def test_clipping_leaves_a_small_gradient_alone_and_shrinks_a_large_one(
    training: tinker.TrainingClient, twin: tinker.TrainingClient, material: Material
) -> None:
    data = [datum(material.sequence())]
    scores = []
    for one, norm in ((training, 0.0), (twin, 1e6)):
        one.forward_backward(data, "cross_entropy")
        metrics = one.optim_step(PROPORTIONAL_STEP.model_copy(update={"grad_clip_norm": norm})).result().metrics
        scores.append(forward(one, data).tolist())
    assert scores[0] == scores[1]
    assert metrics is not None
    assert metrics["optimizer/grad_norm"] > 1e-2
    before = forward(twin, data)
    twin.forward_backward(data, "cross_entropy")
    tiny = tinker.AdamParams(learning_rate=0.02, beta1=0, beta2=0, eps=1.0, grad_clip_norm=1e-9)
    twin.optim_step(tiny).result()
    assert (forward(twin, data) - before).abs().max() < 1e-6


def test_a_learning_rate_of_zero_changes_nothing(training: tinker.TrainingClient, material: Material) -> None:
    before = forward(training, [datum(material.sequence())]).tolist()
    assert moved(training, material, [tinker.AdamParams(learning_rate=0.0)]) == before


def test_parameters_of_another_optimizer_do_not_fit(training: tinker.TrainingClient, material: Material) -> None:
    training.forward_backward([datum(material.sequence())], "cross_entropy").result()
    with pytest.raises((tinker.RequestFailedError, ValueError), match="adam"):
        training.optim_step(types.DimuonParams(learning_rate=1e-3)).result()  # type: ignore[arg-type]
    assert training.optim_step(tinker.AdamParams()).result().metrics
