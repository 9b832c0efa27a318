"""Estimators against the divergence they estimate, and every number against the cookbook's functions."""

import asyncio
from typing import Any

import numpy as np
import pytest
import tinker

from hone.algorithms.datums import Floats, PolicyDatum
from hone.algorithms.rl.config import KlPenaltyConfig
from hone.algorithms.rl.kl import discounted_sums, estimates, pre_post_kl, sample_train_kl, with_penalty
from hone.algorithms.scoring import target_logprobs
from tests.support.cookbook_types import their_datum
from tests.support.fake_tinker import MODEL, FakeService


def data(seed: int = 0) -> list[PolicyDatum]:
    """Three data of unequal lengths whose sampled tokens come in two runs."""
    draw = np.random.default_rng(seed)

    def one(length: int) -> PolicyDatum:
        tokens = draw.integers(1, 30, length + 1)
        mask_T = (np.arange(length) % 5 >= 2).astype(np.float32)
        logprobs_T = (-draw.exponential(2.0, length) * mask_T).astype(np.float32)
        advantages_T = (draw.standard_normal() * mask_T).astype(np.float32)
        datum = tinker.Datum(
            model_input=tinker.ModelInput.from_ints(tokens[:-1].tolist()),
            loss_fn_inputs={
                "target_tokens": tinker.TensorData.from_numpy(tokens[1:]),
                "logprobs": tinker.TensorData.from_numpy(logprobs_T),
                "advantages": tinker.TensorData.from_numpy(advantages_T),
            },
        )
        return PolicyDatum(datum, mask_T)

    return [one(length) for length in (5, 12, 8)]


def trained(items: list[PolicyDatum], seed: int = 1) -> list[Floats]:
    draw = np.random.default_rng(seed)
    return [
        (item.sampled_logprobs_T + 0.3 * draw.standard_normal(len(item.mask_T))).astype(np.float32) for item in items
    ]


def sampler() -> Any:
    return FakeService().create_sampling_client(base_model=MODEL).result()


def slots() -> asyncio.Semaphore:
    return asyncio.Semaphore(4)


def test_k1_and_k3_estimate_the_divergence_and_k2_is_near_it() -> None:
    draw = np.random.default_rng(0)
    q, p = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    drawn = draw.choice(3, 200_000, p=q)
    exact = float((q * np.log(q / p)).sum())
    found = estimates((np.log(q) - np.log(p))[drawn].astype(np.float32))
    assert found["v1"] == pytest.approx(exact, abs=2e-3)
    assert found["v3"] == pytest.approx(exact, abs=5e-4)
    assert found["v2"] == pytest.approx(exact, rel=0.1)
    assert np.isnan(estimates(np.zeros(0, np.float32))["v1"])


def test_drift_and_entropy_are_the_cookbooks() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("tinker_cookbook.rl.metrics")
    items = data()
    logprobs_D = trained(items)
    ours = sample_train_kl(items, logprobs_D)
    expected = theirs.compute_kl_sample_train(
        [their_datum(item) for item in items], [torch.tensor(logprobs_T) for logprobs_T in logprobs_D]
    )
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-5), name
    assert ours.keys() - expected.keys() == {"optim/kl_sample_train_v3"}


def test_drift_after_the_step_is_the_cookbooks() -> None:
    theirs = pytest.importorskip("tinker_cookbook.rl.metrics")
    items, after = data(), sampler()
    ours = asyncio.run(pre_post_kl(items, after, slots()))
    expected, _ = asyncio.run(theirs.compute_post_kl([their_datum(item) for item in items], after))
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_the_penalty_is_the_cookbooks_on_sampled_tokens(discount: float) -> None:
    theirs = pytest.importorskip("tinker_cookbook.rl.metrics")
    items, reference = data(), sampler()
    config = KlPenaltyConfig(coefficient=0.3, discount=discount)
    ours, metrics = asyncio.run(with_penalty(items, reference, config, slots()))
    changed = [their_datum(item) for item in items]
    expected, _ = asyncio.run(theirs.incorporate_kl_penalty(changed, reference, 0.3, discount))
    assert metrics["kl_policy_base"] == pytest.approx(expected["kl_policy_base"], rel=1e-5)
    for our, their in zip(ours, changed, strict=True):
        advantages_T = their.loss_fn_inputs["advantages"].to_numpy()
        np.testing.assert_allclose(our.advantages_T[our.mask_T > 0], advantages_T[our.mask_T > 0], rtol=1e-4, atol=1e-6)
        # With a discount the cookbook also puts advantages on tokens of the prompt, whose ratios mean nothing.
        assert not our.advantages_T[our.mask_T == 0].any()


def test_without_a_discount_the_penalty_adds_nothing_on_the_whole() -> None:
    items = data()
    ours, _ = asyncio.run(with_penalty(items, sampler(), KlPenaltyConfig(coefficient=2.0), slots()))
    added = [our.advantages_T - item.advantages_T for our, item in zip(ours, items, strict=True)]
    assert sum(float(terms.sum()) for terms in added) == pytest.approx(0.0, abs=1e-4)
    assert max(float(np.abs(terms).max()) for terms in added) > 0.1
    # Tokens the reference finds likelier than the sampler did gain, the others lose.
    scores = asyncio.run(target_logprobs(sampler(), [item.datum for item in items], slots()))
    drift = np.concatenate([i.sampled_logprobs_T - s for i, s in zip(items, scores, strict=True)])
    sampled = np.concatenate([item.mask_T for item in items]) > 0
    correlation = np.corrcoef(drift[sampled], np.concatenate(added)[sampled])[0, 1]
    assert correlation == pytest.approx(-1.0, abs=1e-5)


def test_no_reference_no_penalty() -> None:
    items = data()
    same, metrics = asyncio.run(with_penalty(items, None, None, slots()))
    assert same == items
    assert metrics == {}


def test_discounted_sums() -> None:
    np.testing.assert_allclose(discounted_sums(np.array([1, 2, 4], np.float32), 0.5), [3, 4, 4])
