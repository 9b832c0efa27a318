"""Section 7.3: log-probabilities. Sampler and trainer speak of the same distribution."""

import itertools

import pytest
import tinker
import torch

from tests.contract.material import STEP, TOLERANCE, Material, datum, forward


@pytest.fixture(scope="module")
def moved(service: tinker.ServiceClient, base_model: str, material: Material) -> tinker.TrainingClient:
    """An adapter away from its start: a fresh one changes nothing and would hide a forgotten adapter."""
    training = service.create_lora_training_client(base_model, rank=8, seed=3).result()
    for number in range(3):
        training.forward_backward([datum(material.sequence(number))], "cross_entropy")
        training.optim_step(STEP).result()
    return training


def test_sampled_prompt_and_trainer_logprobs_agree(moved: tinker.TrainingClient, material: Material) -> None:
    sampler = moved.save_weights_and_get_sampling_client().result()
    prompt = material.prompt(11)
    response = sampler.sample(
        prompt,
        num_samples=4,
        sampling_params=tinker.SamplingParams(max_tokens=6, temperature=1.0),
        include_prompt_logprobs=True,
    ).result()
    assert response.prompt_logprobs is not None
    assert response.prompt_logprobs[0] is None
    assert len(response.prompt_logprobs) == prompt.length
    for sequence in response.sequences:
        assert sequence.logprobs is not None
        whole = [*prompt.to_ints(), *sequence.tokens]
        scored = sampler.compute_logprobs(tinker.ModelInput.from_ints(whole)).result()
        trained = forward(moved, [datum(whole)]).tolist()
        assert scored[0] is None
        assert scored[1:] == pytest.approx(trained, abs=TOLERANCE)
        assert sequence.logprobs == pytest.approx(scored[prompt.length :], abs=TOLERANCE)
        assert response.prompt_logprobs[1:] == pytest.approx(scored[1 : prompt.length], abs=TOLERANCE)


def test_sampled_logprobs_are_of_the_temperature_scaled_distribution(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    """Scaling by 1/T divides the difference between two tokens' log-probabilities by T, whatever the normaliser."""
    temperature = 4.0
    prompt = material.question()
    params = tinker.SamplingParams(max_tokens=1, temperature=temperature, seed=0)
    drawn = base_sampler.sample(tinker.ModelInput.from_ints(prompt), 32, params).result()
    at_temperature = {sequence.tokens[0]: sequence.logprobs[0] for sequence in drawn.sequences if sequence.logprobs}
    assert len(at_temperature) > 2, "too few different tokens to compare"
    at_one = {
        token: base_sampler.compute_logprobs(tinker.ModelInput.from_ints([*prompt, token])).result()[-1]
        for token in at_temperature
    }
    for one, other in itertools.combinations(at_temperature, 2):
        expected = (at_one[one] - at_one[other]) / temperature
        assert at_temperature[one] - at_temperature[other] == pytest.approx(expected, abs=1e-4)


def test_top_k_prompt_logprobs_are_sorted_and_hold_the_best_token(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    prompt = material.prompt()
    response = base_sampler.sample(
        prompt,
        num_samples=1,
        sampling_params=tinker.SamplingParams(max_tokens=1),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=5,
    ).result()
    assert response.topk_prompt_logprobs is not None
    assert response.prompt_logprobs is not None
    assert response.topk_prompt_logprobs[0] is None
    rows = zip(response.topk_prompt_logprobs[1:], response.prompt_logprobs[1:], prompt.to_ints()[1:], strict=True)
    for best, logprob, token in rows:
        assert best is not None
        values = [value for _, value in best]
        assert len(best) == 5
        assert values == sorted(values, reverse=True)
        assert dict(best).get(token, logprob) == pytest.approx(logprob, abs=TOLERANCE)
        assert logprob <= values[0] + TOLERANCE


def test_a_whole_distribution_sums_to_one(base_sampler: tinker.SamplingClient, material: Material) -> None:
    """Rows that only pad the vocabulary are part of the softmax in sampler and trainer alike, so nothing is lost."""
    k = 200
    response = base_sampler.sample(
        material.prompt(), 1, tinker.SamplingParams(max_tokens=1), topk_prompt_logprobs=k
    ).result()
    assert response.topk_prompt_logprobs is not None
    row = response.topk_prompt_logprobs[-1]
    assert row is not None
    total = torch.tensor([value for _, value in row], dtype=torch.float64).exp().sum().item()
    assert 0.9 < total <= 1.0 + 1e-5
