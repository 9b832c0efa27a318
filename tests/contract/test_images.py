"""Images through the official SDK: a small model that sees learns to tell two colours apart."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import numpy as np
import openai
import pytest
import tinker
from PIL import Image
from tinker.types import EncodedTextChunk, ImageAssetPointerChunk, ImageChunk
from transformers import AutoImageProcessor, PreTrainedTokenizerBase

from hone.client.connect import service_client
from hone.client.embedded import ServerInfo, embedded_server
from tests.contract.material import TOLERANCE, floats, integers, logprobs
from tests.support.pictures import coloured, file_of, save_seeing
from tests.support.service import window

MODEL = "seeing/qwen3-vl"
COLOURS = {"red": (200, 60, 60), "blue": (60, 60, 200)}
STEPS = 24
PER_IMAGE = 16
"""Tokens: 32 x 32 pixels, 8 x 8 for each."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    folder = tmp_path_factory.mktemp("seeing")
    models = [f"{MODEL}={save_seeing('qwen3_vl', folder / 'model')}"]
    with embedded_server(folder / "data", models=models, log=folder / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def seeing(running: ServerInfo) -> Iterator[tinker.ServiceClient]:
    with service_client(running.url, running.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def learner(seeing: tinker.ServiceClient) -> tinker.TrainingClient:
    return seeing.create_lora_training_client(MODEL, rank=8, seed=1).result()


@pytest.fixture(scope="module")
def words(learner: tinker.TrainingClient) -> PreTrainedTokenizerBase:
    return learner.get_tokenizer()


def chunk(picture: Image.Image, format: Any = "jpeg", expected_tokens: int | None = PER_IMAGE) -> ImageChunk:
    return ImageChunk(data=file_of(picture, format), format=format, expected_tokens=expected_tokens)


def question(words: PreTrainedTokenizerBase, image: ImageChunk | ImageAssetPointerChunk) -> tinker.ModelInput:
    before, after = "<|im_start|>user\n<|vision_start|>", "<|vision_end|>?<|im_end|>\n<|im_start|>assistant\n"
    chunks = [EncodedTextChunk(tokens=words.encode(before)), image, EncodedTextChunk(tokens=words.encode(after))]
    return tinker.ModelInput(chunks=chunks)


def flat(prompt: tinker.ModelInput) -> list[int | ImageChunk]:
    """However the text is cut."""
    return [part for c in prompt.chunks for part in (c.tokens if isinstance(c, EncodedTextChunk) else [c])]


def answered(words: PreTrainedTokenizerBase, image: ImageChunk, answer: str) -> tinker.Datum:
    """As the cookbook lays it out: images have target 0 and weight 0."""
    asked, said = question(words, image), words.encode(f"{answer}<|im_end|>")
    targets = [t for c in asked.chunks for t in (c.tokens if isinstance(c, EncodedTextChunk) else [0] * c.length)][1:]
    return tinker.Datum(
        model_input=asked.append(EncodedTextChunk(tokens=said[:-1])),
        loss_fn_inputs={
            "target_tokens": integers(targets + said),
            "weights": floats([0.0] * len(targets) + [1.0] * len(said)),
        },
    )


@pytest.fixture(scope="module")
def learned(learner: tinker.TrainingClient, words: PreTrainedTokenizerBase) -> list[float]:
    """The loss of every step, on new pictures each time."""
    losses = []
    for step in range(STEPS):
        data = [
            answered(words, chunk(coloured(10 * step + i, colour)), name)
            for i in range(4)
            for name, colour in COLOURS.items()
        ]
        passed = learner.forward_backward(data, "cross_entropy")
        learner.optim_step(tinker.AdamParams(learning_rate=1e-2)).result()
        losses.append(passed.result().metrics["loss:sum"])
    return losses


@pytest.fixture(scope="module")
def path(learner: tinker.TrainingClient, learned: list[float]) -> str:
    return learner.save_weights_for_sampler("colours").result().path


def test_it_learns_what_is_in_the_images(
    learner: tinker.TrainingClient, words: PreTrainedTokenizerBase, learned: list[float]
) -> None:
    assert learned[-1] < 0.02 * learned[0], learned
    for seed in range(1000, 1004):  # never trained on
        for colour in COLOURS.values():
            data = [answered(words, chunk(coloured(seed, colour)), name) for name in COLOURS]
            scores = logprobs(learner.forward(data, "cross_entropy").result())
            of_red, of_blue = (float(one[-len(name) - 1 :].sum()) for one, name in zip(scores, COLOURS, strict=True))
            assert (of_red > of_blue + 2) == (colour == COLOURS["red"])
            assert abs(of_red - of_blue) > 2


def test_it_says_what_it_sees(
    seeing: tinker.ServiceClient, words: PreTrainedTokenizerBase, path: str, learner: tinker.TrainingClient
) -> None:
    sampler = seeing.create_sampling_client(model_path=path).result()
    params = tinker.SamplingParams(max_tokens=8, temperature=0.0)
    for seed in range(1000, 1004):
        for name, colour in COLOURS.items():
            for format in ("jpeg", "png"):
                image = chunk(coloured(seed, colour), format, PER_IMAGE if seed % 2 else None)
                (drawn,) = sampler.sample(question(words, image), 1, params).result().sequences
                assert words.decode(drawn.tokens) == f"{name}<|im_end|>"
                datum = answered(words, image.model_copy(update={"expected_tokens": PER_IMAGE}), name)
                scored = logprobs(learner.forward([datum], "cross_entropy").result())[0]
                assert drawn.logprobs == pytest.approx(scored[-len(drawn.tokens) :].tolist(), abs=TOLERANCE)


def test_a_prompt_is_scored_around_its_images(
    seeing: tinker.ServiceClient, words: PreTrainedTokenizerBase, path: str
) -> None:
    sampler = seeing.create_sampling_client(model_path=path).result()
    prompt = question(words, chunk(coloured(1, COLOURS["red"])))
    scores = sampler.compute_logprobs(prompt).result()
    assert len(scores) == prompt.length
    first = prompt.chunks[0].length
    assert [score is None or np.isnan(score) for score in scores] == [
        i == 0 or first <= i < first + PER_IMAGE for i in range(prompt.length)
    ]


def test_checkpoints_with_what_was_seen_come_back(
    seeing: tinker.ServiceClient, learner: tinker.TrainingClient, words: PreTrainedTokenizerBase, learned: list[float]
) -> None:
    saved = learner.save_state("kept").result().path
    again = seeing.create_training_client_from_state(saved).result()
    data = [answered(words, chunk(coloured(2000, COLOURS["blue"])), "blue")]
    one, two = (logprobs(client.forward(data, "cross_entropy").result())[0] for client in (learner, again))
    assert one.tolist() == two.tolist()


def test_an_export_computes_the_same_in_transformers(
    running: ServerInfo, learner: tinker.TrainingClient, learned: list[float]
) -> None:
    path = learner.save_weights_external("out").result().path
    rest = tinker.RestClient(base_url=running.url, api_key=running.api_key)
    with urllib.request.urlopen(rest.get_external_weights_urls(path).result().urls["hone_export.json"]) as response:
        parity = json.loads(response.read())["parity"]
    assert parity["within_tolerance"] is True, parity
    assert parity["max_difference_nats"] > 0


PICTURE = coloured(3, COLOURS["red"])
WRONG: dict[str, tuple[ImageChunk, str]] = {
    "tokens": (chunk(PICTURE, expected_tokens=15), "expected_tokens 15; this model makes 16 of its 32 x 32 pixels"),
    "broken": (ImageChunk(data=file_of(PICTURE)[:300], format="png", expected_tokens=16), "broken png"),
    "other": (ImageChunk(data=b"GIF89a", format="png", expected_tokens=16), "is no png, 6 bytes"),
    "large": (chunk(Image.new("1", (9000, 9000)), "png"), "9000 x 9000 = 81,000,000 pixels.*up to 50,000,000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_image_that_cannot_be_used_fails_its_own_request(
    case: str, seeing: tinker.ServiceClient, words: PreTrainedTokenizerBase
) -> None:
    image, says = WRONG[case]
    training = seeing.create_lora_training_client(MODEL, rank=2).result()
    sampler = seeing.create_sampling_client(base_model=MODEL).result()
    params = tinker.SamplingParams(max_tokens=1)
    good = chunk(PICTURE)
    for ask in (
        lambda one: training.forward_backward([answered(words, one, "red")], "cross_entropy").result(),
        lambda one: sampler.sample(question(words, one), 1, params).result(),
    ):
        with pytest.raises(tinker.RequestFailedError, match=f"the image at position.*{says}") as failed:
            ask(image)
        assert failed.value.category == tinker.types.RequestErrorCategory.User
        ask(good)


def test_nothing_is_fetched(seeing: tinker.ServiceClient, words: PreTrainedTokenizerBase) -> None:
    sampler = seeing.create_sampling_client(base_model=MODEL).result()
    pointer = ImageAssetPointerChunk(format="png", location="https://example.com/a.png", expected_tokens=16)
    with pytest.raises(tinker.RequestFailedError, match="this server fetches nothing"):
        sampler.sample(question(words, pointer), 1, tinker.SamplingParams(max_tokens=1)).result()


def test_images_are_billed_by_their_tokens(running: ServerInfo, words: PreTrainedTokenizerBase) -> None:
    def amounts() -> dict[str, int]:
        bill = tinker.AdminClient(base_url=running.url, api_key=running.api_key).get_billing_usage(*window()).result()
        found: dict[str, int] = {}
        for event in bill.data:
            kind = event.event_info.type
            found[kind] = found.get(kind, 0) + getattr(event.event_info, "token_count", 0)
        return found

    image, before = chunk(coloured(5000, COLOURS["red"])), amounts()
    with service_client(running.url, running.api_key) as client:
        datum = answered(words, image, "red")
        training = client.create_lora_training_client(MODEL, rank=2).result()
        training.forward_backward([datum], "cross_entropy").result()
        prompt = question(words, image)
        sampler = client.create_sampling_client(base_model=MODEL).result()
        drawn = sampler.sample(prompt, 1, tinker.SamplingParams(max_tokens=3, stop=[])).result()
    after = amounts()
    grown = {kind: after[kind] - before.get(kind, 0) for kind in after}
    cached = drawn.prompt_cache_hit_tokens or 0
    assert grown["training"] == datum.model_input.length
    assert grown["sampling_prefill"] == prompt.length - cached
    assert grown["sampling_sample"] == 3


def data_url(image: ImageChunk) -> str:
    return f"data:image/{image.format};base64,{base64.b64encode(image.data).decode()}"


def turn(field: str, content: Any, kind: str = "image_url") -> Any:
    return {"role": "user", "content": [{"type": kind, field: content}, {"type": "text", "text": "?"}]}


def test_openai_and_anthropic_clients_show_images_too(
    running: ServerInfo, words: PreTrainedTokenizerBase, path: str
) -> None:
    chat = openai.OpenAI(base_url=f"{running.url}/oai/api/v1", api_key=running.api_key, max_retries=0)
    claude = anthropic.Anthropic(base_url=f"{running.url}/anthropic/api", api_key=running.api_key, max_retries=0)
    with chat, claude:
        for name, colour in COLOURS.items():
            for format in ("png", "jpeg"):
                image = chunk(coloured(4000, colour), format)
                prompt = question(words, image)
                said = chat.chat.completions.create(
                    model=path, messages=[turn("image_url", {"url": data_url(image)})], temperature=0, max_tokens=8
                )
                assert said.choices[0].message.content == name
                assert said.usage is not None
                assert said.usage.prompt_tokens == prompt.length
                given = base64.b64encode(image.data).decode()
                source = {"type": "base64", "media_type": f"image/{format}", "data": given}
                asked: Any = {"model": path, "messages": [turn("source", source, kind="image")]}
                assert claude.messages.count_tokens(**asked).input_tokens == prompt.length
                answer = claude.messages.create(**asked, max_tokens=8, extra_body={"temperature": 0})
                assert [block.text for block in answer.content if block.type == "text"] == [name]
        for wrong, says in {
            "https://example.com/a.png": "this server fetches nothing",
            "data:image/png;base64,AAAA": "image 0 is no png",
            "data:image/png;base64,A": "no base64",
            "data:image/gif;base64,AAAA": "allowed are png and jpeg",
        }.items():
            with pytest.raises(openai.BadRequestError, match=says):
                chat.chat.completions.create(model=path, messages=[turn("image_url", {"url": wrong})])
        url = {"type": "url", "url": "https://example.com/a.png"}
        with pytest.raises(anthropic.BadRequestError, match="this server fetches nothing"):
            claude.messages.create(model=path, messages=[turn("source", url, kind="image")], max_tokens=1)
        stray: Any = turn("image_url", {"url": data_url(chunk(PICTURE))})
        stray["content"].append({"type": "text", "text": "<|image_pad|>"})
        with pytest.raises(openai.BadRequestError, match="2 places for 1 images"):
            chat.chat.completions.create(model=path, messages=[stray])


def test_the_cookbooks_renderer_makes_what_the_model_reads(
    learner: tinker.TrainingClient, words: PreTrainedTokenizerBase, seeing: tinker.ServiceClient, path: str
) -> None:
    """Its image processor is found by the served model's name; its examples are learnt from, its prompts answered."""
    renderers = pytest.importorskip("tinker_cookbook.renderers", exc_type=ImportError)
    processing = pytest.importorskip("tinker_cookbook.image_processing_utils", exc_type=ImportError)
    common = pytest.importorskip("tinker_cookbook.supervised.common", exc_type=ImportError)
    processor = processing.get_image_processor(MODEL)
    assert isinstance(processor, type(AutoImageProcessor.from_pretrained(MODEL)))
    renderer = renderers.get_renderer("qwen3_vl_instruct", words, processor)
    training = seeing.create_training_client_from_state(learner.save_state("for-cookbook").result().path).result()
    for name, colour in COLOURS.items():
        content = [{"type": "image", "image": coloured(3000, colour)}, {"type": "text", "text": "?"}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": name}]
        prompt = renderer.build_generation_prompt(messages[:1])
        (image,) = (one for one in prompt.chunks if isinstance(one, ImageChunk))
        assert flat(prompt) == flat(question(words, image))
        datum = common.datum_from_model_input_weights(*renderer.build_supervised_example(messages))
        out = training.forward_backward([datum], "cross_entropy").result()
        assert out.metrics["loss:sum"] < 0.5
        sampler = seeing.create_sampling_client(model_path=path).result()
        params = tinker.SamplingParams(max_tokens=8, temperature=0.0, stop=renderer.get_stop_sequences())
        (drawn,) = sampler.sample(prompt, 1, params).result().sequences
        assert renderer.parse_response(drawn.tokens)[0]["content"] == name
