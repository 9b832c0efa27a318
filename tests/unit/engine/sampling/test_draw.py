"""Choosing tokens: the distribution, the filters, and which log-probabilities are reported."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hone.engine.sampling.draw import Draws, DrawSettings, draw, draw_settings
from hone.protocol.types import SamplingParams

V = 12
COUNT = 5000


def settings(rows: int, temperature: float = 1.0, top_k: int = -1, top_p: float = 1.0) -> DrawSettings:
    """As the sampler makes them."""
    return draw_settings([SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)] * rows)


def sweep(logits_V: Tensor, count: int = COUNT, **params: float) -> tuple[np.ndarray, Draws]:
    """How often each token comes up when the uniform numbers sweep [0, 1) evenly: inversion makes it exact."""
    uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    draws = draw(logits_V.expand(count, -1), settings(count, **params), uniforms)  # type: ignore[arg-type]
    return np.bincount(draws.tokens, minlength=len(logits_V)) / count, draws


def softmax(logits_V: Tensor, temperature: float) -> np.ndarray:
    scaled = logits_V.double().numpy() / temperature
    odds = np.exp(scaled - scaled.max())
    return np.asarray(odds / odds.sum())


@pytest.fixture
def logits_V() -> Tensor:
    return torch.randn(V, generator=torch.Generator().manual_seed(3)) * 2


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_tokens_come_up_as_often_as_they_are_likely(temperature: float, logits_V: Tensor) -> None:
    found, _ = sweep(logits_V, temperature=temperature)
    np.testing.assert_allclose(found, softmax(logits_V, temperature), atol=2 / COUNT)


def test_random_numbers_give_the_distribution_too(logits_V: Tensor) -> None:
    count = 5000
    uniforms = torch.from_numpy(np.random.default_rng(8).random(count))
    draws = draw(logits_V.expand(count, -1), settings(count), uniforms)
    expected = softmax(logits_V, 1.0) * count
    chi_square = ((np.bincount(draws.tokens, minlength=V) - expected) ** 2 / expected).sum()
    assert chi_square < 31.3  # 0.1 % point of chi-square with 11 degrees of freedom


@pytest.mark.parametrize("top_k", [1, 3, V, V + 5])
def test_top_k_leaves_the_likeliest_in_proportion(top_k: int, logits_V: Tensor) -> None:
    found, _ = sweep(logits_V, top_k=top_k)
    wanted = softmax(logits_V, 1.0)
    wanted[np.argsort(-wanted)[top_k:]] = 0
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=2 / COUNT)


@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_leaves_the_smallest_set_that_holds_it(top_p: float, logits_V: Tensor) -> None:
    found, _ = sweep(logits_V, top_p=top_p)
    wanted = softmax(logits_V, 1.0)
    order = np.argsort(-wanted)
    count = int(np.searchsorted(np.cumsum(wanted[order]), top_p)) + 1
    wanted[order[count:]] = 0
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=2 / COUNT)


def test_top_p_counts_what_top_k_left() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found, _ = sweep(logits, top_k=2, top_p=0.6)  # of the two left, the first alone holds 0.625
    np.testing.assert_allclose(found, [1, 0, 0, 0])
    found, _ = sweep(logits, top_k=2, top_p=0.7)
    np.testing.assert_allclose(found, [0.625, 0.375, 0, 0], atol=2 / COUNT)


@pytest.mark.parametrize("params", [{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.7, "top_k": 2, "top_p": 0.9}])
def test_log_probabilities_are_those_of_the_scaled_distribution_before_filters(
    params: dict[str, float], logits_V: Tensor
) -> None:
    _, draws = sweep(logits_V, count=200, **params)
    wanted = np.log(softmax(logits_V, params.get("temperature", 1.0)))
    np.testing.assert_allclose(draws.logprobs, wanted[draws.tokens], atol=1e-6)
    np.testing.assert_allclose(draws.logprobs_V(0).numpy(), wanted, atol=1e-5)


def test_greedy_takes_the_likeliest_and_reports_the_unscaled_distribution(logits_V: Tensor) -> None:
    _, draws = sweep(logits_V, count=50, temperature=0.0)
    assert set(draws.tokens) == {int(logits_V.argmax())}
    np.testing.assert_allclose(draws.logprobs, np.log(softmax(logits_V, 1.0).max()), atol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_never_draw_an_impossible_token(uniform: float) -> None:
    logits = torch.full((1, V), -math.inf)
    logits[0, 4:7] = torch.tensor([0.1, 0.2, 0.3])
    (token,) = draw(logits, settings(1), torch.tensor([uniform], dtype=torch.float64)).tokens
    assert token in (4, 5, 6)


@pytest.mark.parametrize("temperature", [1e-3, 1e-10, 1e-40, 1e-50, 1e10])
def test_any_temperature_gives_a_token_and_a_number(temperature: float, logits_V: Tensor) -> None:
    _, draws = sweep(logits_V, count=10, temperature=temperature)
    assert np.isfinite(draws.logprobs).all()
    if temperature < 1:
        assert set(draws.tokens) == {int(logits_V.argmax())}


def test_rows_do_not_depend_on_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(9, 40, generator=generator)
    params = [
        SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
        for temperature, top_k, top_p in [
            *[(1.0, -1, 1.0), (0.5, 5, 0.9), (0.0, -1, 1.0), (2.0, -1, 0.5), (1.0, 1, 1.0)],
            *[(1.0, -1, 1.0), (0.7, 7, 0.8), (1.0, -1, 0.1), (0.0, 3, 0.5)],
        ]
    ]
    uniforms = torch.rand(9, generator=generator, dtype=torch.float64)
    together = draw(logits, draw_settings(params), uniforms)
    for i in range(9):
        alone = draw(logits[i : i + 1], draw_settings(params[i : i + 1]), uniforms[i : i + 1])
        assert alone.tokens == together.tokens[i : i + 1]
        assert alone.logprobs == together.logprobs[i : i + 1]
