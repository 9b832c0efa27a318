"""What the caller got wrong is said through the future, with the category `user`, and the next request works."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tinker

from hone.client.embedded import ServerInfo
from tests.contract.material import Material, datum, floats, forward, integers

BAD_TOKEN = 10_000_000


def wrong_token(tokens: list[int]) -> tinker.Datum:
    return datum([*tokens[:3], BAD_TOKEN, *tokens[3:]])


def wrong_length(tokens: list[int]) -> tinker.Datum:
    inputs = {"target_tokens": integers(tokens[2:]), "weights": floats([1.0] * (len(tokens) - 2))}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def missing_targets(tokens: list[int]) -> tinker.Datum:
    inputs = {"weights": floats([1.0] * (len(tokens) - 1))}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


def not_finite(tokens: list[int]) -> tinker.Datum:
    return datum(tokens, [float("nan")] * (len(tokens) - 1))


SOUND = tinker.types.DmelChunk(dmel=bytes([0, 2, 1, 4]) + bytes(4))  # dtype, two sizes, the values
PICTURE = tinker.types.ImageChunk(data=b"...", format="png", expected_tokens=1)


def with_chunk(chunk: tinker.types.ModelInputChunk, tokens: list[int]) -> tinker.Datum:
    good = datum(tokens)  # one position gives way to the chunk
    head = tinker.types.EncodedTextChunk(tokens=tokens[:-2])
    return tinker.Datum(model_input=tinker.ModelInput(chunks=[head, chunk]), loss_fn_inputs=good.loss_fn_inputs)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (wrong_token, str(BAD_TOKEN)),
        (wrong_length, "target_tokens"),
        (missing_targets, "target_tokens"),
        (not_finite, "weights"),
        (partial(with_chunk, SOUND), r"data\[1\]\.model_input\.chunks\[1\] is of kind 'dmel'.*read text only"),
        (partial(with_chunk, PICTURE), r"data\[1\]\.model_input\.chunks\[1\] is of kind 'image'.*read text only"),
    ],
)
def test_a_bad_datum_names_its_field(
    training: tinker.TrainingClient, material: Material, spoil: Callable[[list[int]], tinker.Datum], named: str
) -> None:
    tokens = material.sequence()
    with pytest.raises(tinker.RequestFailedError, match=named) as refusal:
        training.forward_backward([datum(tokens), spoil(tokens)], "cross_entropy").result()
    assert refusal.value.category == "user"
    assert np.isfinite(forward(training, [datum(tokens)]).numpy()).all()


def test_a_failed_gradient_leaves_the_adapter_alone(training: tinker.TrainingClient, material: Material) -> None:
    good = [datum(material.sequence())]
    before = forward(training, good)
    with pytest.raises(tinker.RequestFailedError):
        training.forward_backward([wrong_token(material.sequence())], "cross_entropy").result()
    training.optim_step(tinker.AdamParams(learning_rate=0.1)).result()
    assert (forward(training, good) == before).all()


def test_an_unknown_loss_lists_the_known_ones(training: tinker.TrainingClient, material: Material) -> None:
    with pytest.raises(tinker.RequestFailedError, match="cross_entropy") as refusal:
        training.forward_backward([datum(material.sequence())], "crossentropy").result()  # type: ignore[arg-type]
    assert refusal.value.category == "user"


def test_an_unknown_setting_of_a_loss_is_refused(training: tinker.TrainingClient, material: Material) -> None:
    with pytest.raises(tinker.RequestFailedError, match="clip_low"):
        training.forward_backward([datum(material.sequence())], "cross_entropy", {"clip_low": 0.5}).result()


def test_an_unknown_base_model_lists_the_served_ones(service: tinker.ServiceClient, base_model: str) -> None:
    with pytest.raises((tinker.RequestFailedError, tinker.APIStatusError), match=base_model):
        service.create_lora_training_client("nobody/nothing", rank=4).result()


def test_a_prompt_that_does_not_fit_says_how_long_it_may_be(
    base_sampler: tinker.SamplingClient, material: Material
) -> None:
    endless = tinker.ModelInput.from_ints(material.question() * 2000)
    with pytest.raises((tinker.RequestFailedError, tinker.APIStatusError), match=r"\d+"):
        base_sampler.sample(endless, 1, tinker.SamplingParams(max_tokens=4)).result()
    assert base_sampler.sample(material.prompt(), 1, tinker.SamplingParams(max_tokens=4)).result().sequences


@pytest.mark.parametrize("chunk", [SOUND, PICTURE])
def test_a_prompt_with_more_than_text_is_refused(
    base_sampler: tinker.SamplingClient, material: Material, chunk: tinker.types.ModelInputChunk
) -> None:
    spoken = tinker.ModelInput(chunks=[*material.prompt().chunks, chunk])
    with pytest.raises(tinker.RequestFailedError, match="read text only") as refusal:
        base_sampler.sample(spoken, 1, tinker.SamplingParams(max_tokens=4)).result(timeout=30)
    assert refusal.value.category == "user"


def test_a_wrong_key_is_refused(server: ServerInfo) -> None:
    with pytest.raises(tinker.AuthenticationError):
        tinker.RestClient(base_url=server.url, api_key="tml-nobody-has-this-one")


def test_an_unknown_checkpoint_is_refused(service: tinker.ServiceClient) -> None:
    with pytest.raises((tinker.RequestFailedError, tinker.APIStatusError, ValueError)):
        service.create_sampling_client(model_path="tinker://nobody:train:0/sampler_weights/none").result()
