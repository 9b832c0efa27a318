"""Section 14.2: the official `openai` package against the embedded model."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import tinker
from transformers import PreTrainedTokenizerBase

from hone.client.embedded import ServerInfo
from tests.contract.conftest import TURN

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
        },
    }
]


@pytest.fixture(scope="module")
def client(server: ServerInfo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/oai/api/v1", api_key=server.api_key, max_retries=0) as made:
        yield made


def chat(client: openai.OpenAI, model: str, **fields: Any) -> Any:
    return client.chat.completions.create(**({"model": model, "messages": TURN, "temperature": 0} | fields))


def test_a_chat_is_what_the_sdk_samples(
    client: openai.OpenAI, base_model: str, base_sampler: tinker.SamplingClient, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt = tokenizer.apply_chat_template(TURN, add_generation_prompt=True, return_dict=False)
    params = tinker.SamplingParams(max_tokens=30, temperature=1.0, seed=5)
    expected = base_sampler.sample(tinker.ModelInput.from_ints(prompt), 3, params).result().sequences
    answer = chat(client, base_model, temperature=1.0, seed=5, n=3, max_completion_tokens=30, logprobs=True)
    for choice, sequence in zip(answer.choices, expected, strict=True):
        assert choice.message.content == tokenizer.decode(sequence.tokens, skip_special_tokens=True)
        assert choice.finish_reason == sequence.stop_reason
        assert [entry.logprob for entry in choice.logprobs.content] == pytest.approx(sequence.logprobs)
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == sum(len(sequence.tokens) for sequence in expected)


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, base_model: str) -> None:
    asked = {"seed": 3, "temperature": 1.2, "n": 2, "max_tokens": 25, "logprobs": True, "top_logprobs": 2}
    whole = chat(client, base_model, **asked)
    texts, entries, reasons, usage = {0: "", 1: ""}, {0: [], 1: []}, {}, None
    for chunk in chat(client, base_model, **asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            entries[choice.index] += choice.logprobs.content if choice.logprobs else []
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    for choice in whole.choices:
        assert texts[choice.index] == choice.message.content
        assert entries[choice.index] == choice.logprobs.content
        assert reasons[choice.index] == choice.finish_reason
    assert usage.prompt_tokens_details.cached_tokens > 0, "the first answer left the prompt in the cache"
    counts = [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for u in (usage, whole.usage)]
    assert counts[0] == counts[1]


def test_every_sampler_checkpoint_is_a_model(client: openai.OpenAI, base_model: str, blue: str) -> None:
    assert chat(client, base_model).choices[0].message.content == "7"
    for model in (blue, f"{base_model};{blue}"):
        assert chat(client, model).choices[0].message.content == "blue"
        assert client.models.retrieve(model).id == model
    assert {base_model, blue} <= {model.id for model in client.models.list()}


def test_stop_strings_are_cut(client: openai.OpenAI, base_model: str) -> None:
    asked = {"model": base_model, "prompt": "Hello", "temperature": 0, "max_tokens": 30}
    full = client.completions.create(**asked).choices[0].text
    stop = full[3:5]
    cut = client.completions.create(**asked, stop=[stop])
    assert cut.choices[0].text == full[: full.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = client.completions.create(**asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == cut.choices[0].text


def test_completions_take_texts_and_tokens(
    client: openai.OpenAI, base_model: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = ["One day", "The"]
    asked = {"model": base_model, "seed": 1, "max_tokens": 6, "n": 2}
    by_text = client.completions.create(prompt=texts, **asked).choices
    by_tokens = client.completions.create(prompt=[tokenizer.encode(text) for text in texts], **asked).choices
    assert [choice.index for choice in by_text] == [0, 1, 2, 3]
    assert [choice.text for choice in by_text] == [choice.text for choice in by_tokens]


def test_echo_scores_the_prompt(
    client: openai.OpenAI, base_model: str, base_sampler: tinker.SamplingClient, tokenizer: PreTrainedTokenizerBase
) -> None:
    """What evaluation harnesses ask for: no new tokens, the prompt's own log-probabilities."""
    text = "naïve 漢字 text"
    tokens = tokenizer.encode(text)
    expected = base_sampler.compute_logprobs(tinker.ModelInput.from_ints(tokens)).result()
    answer = client.completions.create(model=base_model, prompt=text, max_tokens=0, echo=True, logprobs=1)
    (choice,) = answer.choices
    assert choice.text == text
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(expected[1:])
    assert answer.usage.completion_tokens == 0


def test_tools_reach_the_template_and_calls_come_back(client: openai.OpenAI, base_model: str) -> None:
    plain = chat(client, base_model, max_tokens=1).usage.prompt_tokens
    assert chat(client, base_model, max_tokens=1, tools=TOOLS).usage.prompt_tokens > plain
    assert chat(client, base_model, max_tokens=1, tools=TOOLS, tool_choice="none").usage.prompt_tokens == plain
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    history = [*TURN, {"role": "assistant", "content": None, "tool_calls": [call]}]
    answered = [*history, {"role": "tool", "tool_call_id": "c", "content": "3"}]
    assert chat(client, base_model, messages=answered, tools=TOOLS, max_tokens=2).choices


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, "hold 1 images, and hone/tiny reads text only"),
    "unknown field": ({"extra_body": {"min_p": 0.1}}, "min_p is not supported"),
    "penalty": ({"frequency_penalty": 0.5}, "frequency_penalty: is not supported"),
    "json mode": ({"response_format": {"type": "json_object"}}, "response_format: is not supported"),
    "forced tool": ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice: is not supported"),
    "too many logprobs": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "no messages": ({"messages": []}, "messages"),
    "no room": ({"messages": [{"role": "user", "content": "word " * 9000}]}, "context of"),
    "no room, streamed": ({"messages": [{"role": "user", "content": "word " * 9000}], "stream": True}, "context of"),
    "template variable": ({"extra_body": {"chat_template_kwargs": {"messages": []}}}, "set by the request"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused(client: openai.OpenAI, base_model: str, case: str) -> None:
    fields, says = REFUSED[case]
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        chat(client, base_model, **fields)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("model", ["nobody/nothing", "tinker://none:train:0/sampler_weights/x", "x;y"])
def test_unknown_models(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError):
        chat(client, model)


def test_a_wrong_key(server: ServerInfo) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/oai/api/v1", api_key="tml-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="API key"),
    ):
        client.models.list()
