"""Section 7: sampling sessions, what ends a sample, what makes two samples equal, copies of a client."""

import pickle

import httpx
import numpy as np
import pytest
import tinker

from hone.client.embedded import ServerInfo
from tests.contract.material import TOLERANCE, Material, datum, forward


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


# 7.1 sampling sessions


def test_a_sampler_says_what_it_samples(
    service: tinker.ServiceClient, rest: tinker.RestClient, training: tinker.TrainingClient, base_model: str
) -> None:
    path = training.save_weights_for_sampler("told").result().path
    sampler = service.create_sampling_client(model_path=path).result()
    assert sampler.get_base_model() == base_model
    (sampler_id,) = [
        one
        for one in rest.get_session(training.model_id.split(":")[0]).result().sampler_ids
        if rest.get_sampler(one).result().model_path == path
    ]
    told = rest.get_sampler(sampler_id).result()
    assert (told.sampler_id, told.base_model) == (sampler_id, base_model)


def test_a_path_and_its_base_model_may_be_named_together(
    service: tinker.ServiceClient, training: tinker.TrainingClient, base_model: str, material: Material
) -> None:
    path = training.save_weights_for_sampler("both").result().path
    sampler = service.create_sampling_client(model_path=path, base_model=base_model).result()
    assert sampler.compute_logprobs(material.prompt()).result()[1:] == pytest.approx(
        forward(training, [datum(material.question())]).tolist(), abs=TOLERANCE
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("tinker://nobody:train:0/sampler_weights/none", "does not exist"),
        ("tinker://nobody:train:0/weights/none", "sampler_weights|does not exist"),
        ("tinker://x", "tinker://"),
    ],
)
def test_a_path_that_cannot_be_sampled_fails_at_once(service: tinker.ServiceClient, path: str, says: str) -> None:
    with pytest.raises((tinker.BadRequestError, tinker.NotFoundError), match=says):
        service.create_sampling_client(model_path=path).result()


def test_training_checkpoints_can_be_sampled_too(
    service: tinker.ServiceClient, training: tinker.TrainingClient, material: Material
) -> None:
    scores = [
        service.create_sampling_client(model_path=path).result().compute_logprobs(material.prompt()).result()
        for path in (
            training.save_state("state").result().path,
            training.save_weights_for_sampler("state").result().path,
        )
    ]
    assert scores[0] == scores[1]


def test_an_unknown_base_model_cannot_be_sampled(service: tinker.ServiceClient, base_model: str) -> None:
    with pytest.raises((tinker.BadRequestError, tinker.NotFoundError), match=base_model):
        service.create_sampling_client(base_model="nobody/nothing").result()


def test_the_client_of_a_model_samples_a_path_too(training: tinker.TrainingClient, material: Material) -> None:
    path = training.save_weights_for_sampler("own").result().path
    sampler = training.create_sampling_client(path).result()
    assert sampler.compute_logprobs(material.prompt()).result()[1:] == pytest.approx(
        forward(training, [datum(material.question())]).tolist(), abs=TOLERANCE
    )


# 7.2 requests


def test_a_repeated_request_has_the_same_names(
    wire: httpx.Client, service: tinker.ServiceClient, base_model: str, material: Material
) -> None:
    session_id = service.holder.get_session_id()
    opened = {"session_id": session_id, "sampling_session_seq_id": 10_000, "base_model": base_model}
    sampler_id = wire.post("create_sampling_session", json=opened).json()["sampling_session_id"]
    assert wire.post("create_sampling_session", json=opened).json()["sampling_session_id"] == sampler_id
    body = {
        "sampling_session_id": sampler_id,
        "seq_id": 3,
        "num_samples": 4,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": material.question()}]},
        "sampling_params": {"max_tokens": 2},
    }
    first, second = wire.post("asample", json=body).json(), wire.post("asample", json=body).json()
    assert first == second
    assert len(set(first["sample_sequence_ids"])) == 4
    other = wire.post("asample", json=body | {"num_samples": 3})
    assert other.status_code == 400, "never 409: the SDK would repeat it for minutes"


def test_prompts_may_come_in_many_pieces(base_sampler: tinker.SamplingClient, material: Material) -> None:
    tokens = material.question()
    pieces = tinker.ModelInput(chunks=[tinker.types.EncodedTextChunk(tokens=[token]) for token in tokens])
    assert base_sampler.compute_logprobs(pieces).result() == base_sampler.compute_logprobs(material.prompt()).result()


def test_a_prompt_that_does_not_fit_says_how_long_it_may_be(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    endless = tinker.ModelInput.from_ints(material.question() * 2000)
    with pytest.raises(tinker.RequestFailedError, match=r"\d+") as refusal:
        base_sampler.sample(endless, 1, tinker.SamplingParams(max_tokens=4)).result()
    assert refusal.value.category == "user"
    assert base_sampler.sample(material.prompt(), 1, tinker.SamplingParams(max_tokens=4)).result().sequences


def test_a_token_out_of_the_vocabulary_is_named(base_sampler: tinker.SamplingClient) -> None:
    with pytest.raises(tinker.RequestFailedError, match="10000000") as refusal:
        base_sampler.sample(tinker.ModelInput.from_ints([10_000_000]), 1, tinker.SamplingParams(max_tokens=1)).result()
    assert refusal.value.category == "user"


# 7.3 parameters


def test_without_a_limit_a_sample_may_fill_the_context(
    rest: tinker.RestClient, base_sampler: tinker.SamplingClient, material: Material
) -> None:
    (model,) = rest.get_server_capabilities().result().supported_models
    params = tinker.SamplingParams(stop=[], temperature=0.0)
    (sequence,) = base_sampler.sample(material.prompt(), 1, params).result().sequences
    assert model.max_context_length is not None
    assert len(sequence.tokens) == model.max_context_length - len(material.question())
    assert sequence.stop_reason == "length"


def test_the_likeliest_half_leaves_out_the_rest(base_sampler: tinker.SamplingClient, material: Material) -> None:
    params = tinker.SamplingParams(max_tokens=1, temperature=4.0, top_p=0.5, seed=1)
    prompt = material.prompt()
    drawn = base_sampler.sample(prompt, 64, params).result().sequences
    best = base_sampler.sample(prompt, 1, params, topk_sample_logprobs=1024).result().sequences[0].topk_logprobs
    assert best is not None
    kept, mass = set(), 0.0
    for token, logprob in best[0]:
        if mass < 0.5:
            kept.add(token)
            mass += float(np.exp(logprob))
    assert {one.tokens[0] for one in drawn} <= kept
    assert len({one.tokens[0] for one in drawn}) > 1


def test_several_strings_can_stop(base_sampler: tinker.SamplingClient, material: Material) -> None:
    (free,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=12, stop=[])
    text = material.tokenizer.decode(free.tokens)
    (stopped,) = draw(base_sampler, material.prompt(), temperature=0.0, max_tokens=12, stop=["never said", text[2:4]])
    assert text[2:4] in material.tokenizer.decode(stopped.tokens)
    assert len(stopped.tokens) < len(free.tokens)


def test_without_a_seed_samples_differ(base_sampler: tinker.SamplingClient, material: Material) -> None:
    tokens = [tuple(draw(base_sampler, material.prompt(), temperature=8.0, max_tokens=12)[0].tokens) for _ in range(4)]
    assert len(set(tokens)) == 4


BAD = {"temperature": -1.0, "top_p": 0.0, "top_k": -5, "max_tokens": -1}


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_setting_is_named(base_sampler: tinker.SamplingClient, material: Material, name: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=name) as refusal:
        draw(base_sampler, material.prompt(), **{name: BAD[name]})
    assert refusal.value.category == "user"


# 7.4 copies of a client


def test_a_handle_makes_a_client_with_names_of_its_own(
    base_sampler: tinker.SamplingClient, server: ServerInfo, material: Material
) -> None:
    copies = [
        base_sampler,
        tinker.SamplingClient.from_sampler_handle(base_sampler.get_sampler_handle(), api_key=server.api_key),
    ]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TINKER_API_KEY", server.api_key)
        copies.append(pickle.loads(pickle.dumps(base_sampler)))
        drawn = [draw(copy, material.prompt(), 2, seed=1) for copy in copies]
    assert len({one.sequence_id for sequences in drawn for one in sequences}) == 6
    assert len({str([list(one.tokens) for one in sequences]) for sequences in drawn}) == 1, "one seed, one answer"


def test_every_copy_that_joins_gets_another_number(wire: httpx.Client, base_sampler: tinker.SamplingClient) -> None:
    body = {"sampling_session_id": base_sampler._sampling_session_id, "type": "join_sampling_session"}
    numbers = [wire.post("join_sampling_session", json=body).json()["client_counter"] for _ in range(3)]
    assert len(set(numbers)) == 3
    assert 0 not in numbers
    assert wire.post("join_sampling_session", json=body | {"sampling_session_id": "none"}).status_code == 404


def test_images_are_refused_clearly(base_sampler: tinker.SamplingClient) -> None:
    image = tinker.types.ImageChunk(data=b"no image", format="png", expected_tokens=4)
    asset = tinker.types.ImageAssetPointerChunk(location="somewhere", format="png", expected_tokens=4)
    sound = tinker.types.DmelChunk(dmel=b"123")
    for chunk, said in ((image, "reads text only"), (asset, "fetches nothing"), (sound, "dmel")):
        with pytest.raises(tinker.RequestFailedError, match=said) as refusal:
            base_sampler.sample(tinker.ModelInput(chunks=[chunk]), 1, tinker.SamplingParams(max_tokens=1)).result()
        assert refusal.value.category == "user"
