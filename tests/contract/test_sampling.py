"""What ends a sample, and what makes two samples equal."""

import tinker

from tests.contract.material import Material


def draw(
    sampler: tinker.SamplingClient, prompt: tinker.ModelInput, count: int = 1, **params: object
) -> list[tinker.SampledSequence]:
    settings = tinker.SamplingParams(**{"max_tokens": 8, **params})  # type: ignore[arg-type]
    return list(sampler.sample(prompt, num_samples=count, sampling_params=settings).result().sequences)


def test_samples_of_one_request_have_ids_of_their_own(base_sampler: tinker.SamplingClient, material: Material) -> None:
    sequences = draw(base_sampler, material.prompt(), 4)
    assert len({sequence.sequence_id for sequence in sequences}) == 4
    for sequence in sequences:
        assert sequence.logprobs is not None
        assert len(sequence.tokens) == len(sequence.logprobs) <= 8


def test_the_stop_token_is_the_last_token_and_nothing_else_stops(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    sequences = [s for number in range(8) for s in draw(base_sampler, material.prompt(number), 2, max_tokens=24)]
    assert any(sequence.stop_reason == "stop" for sequence in sequences)
    for sequence in sequences:
        assert (sequence.stop_reason == "stop") == (sequence.tokens[-1] == material.end_of_turn)
        assert material.end_of_turn not in sequence.tokens[:-1]
        assert sequence.stop_reason == "stop" or len(sequence.tokens) == 24


def test_an_empty_stop_list_runs_to_the_limit(base_sampler: tinker.SamplingClient, material: Material) -> None:
    for sequence in draw(base_sampler, material.prompt(), 4, max_tokens=40, stop=[]):
        assert len(sequence.tokens) == 40
        assert sequence.stop_reason == "length"


def test_any_token_can_stop(base_sampler: tinker.SamplingClient, material: Material) -> None:
    (free,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=8)
    wanted = free.tokens[0]
    (stopped,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=8, stop=[wanted])
    assert stopped.tokens == [wanted]
    assert stopped.stop_reason == "stop"


def test_a_stop_string_is_in_the_tokens_and_nothing_after_it(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    (free,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=12, stop=[])
    text = material.tokenizer.decode(free.tokens)
    wanted = text[1:3]
    (stopped,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=12, stop=wanted)
    said = material.tokenizer.decode(stopped.tokens)
    assert stopped.stop_reason == "stop"
    assert wanted in said
    assert wanted not in material.tokenizer.decode(stopped.tokens[:-1])


def test_temperature_zero_is_greedy_and_repeatable(base_sampler: tinker.SamplingClient, material: Material) -> None:
    first, second = (draw(base_sampler, material.prompt(), temperature=0.0)[0] for _ in range(2))
    assert first.tokens == second.tokens


def test_equal_seeds_give_equal_samples_under_any_load(base_sampler: tinker.SamplingClient, material: Material) -> None:
    params = tinker.SamplingParams(max_tokens=12, temperature=4.0, seed=5)
    alone = base_sampler.sample(material.prompt(), 3, params).result()
    crowd = [base_sampler.sample(material.prompt(n), 2, tinker.SamplingParams(max_tokens=20)) for n in range(16)]
    crowded = base_sampler.sample(material.prompt(), 3, params).result()
    for other in crowd:
        other.result()
    assert [s.tokens for s in alone.sequences] == [s.tokens for s in crowded.sequences]
    assert [s.logprobs for s in alone.sequences] == [s.logprobs for s in crowded.sequences]
    assert len({tuple(s.tokens) for s in alone.sequences}) > 1, "the samples of one request must differ"


def test_top_k_one_is_greedy(base_sampler: tinker.SamplingClient, material: Material) -> None:
    (greedy,) = draw(base_sampler, material.prompt(), temperature=0.0)
    (narrow,) = draw(base_sampler, material.prompt(), temperature=1.0, top_k=1)
    assert narrow.tokens == greedy.tokens


def test_five_hundred_samples_at_once(base_sampler: tinker.SamplingClient, material: Material) -> None:
    params = tinker.SamplingParams(max_tokens=4)
    waiting = [base_sampler.sample(material.prompt(number), 1, params) for number in range(500)]
    assert all(len(future.result().sequences[0].tokens) <= 4 for future in waiting)
