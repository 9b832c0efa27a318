"""Section 14.2: the official `anthropic` package against the embedded model."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from hone.client.embedded import ServerInfo
from tests.contract.conftest import TURN

TOOLS: Any = [{"name": "add", "input_schema": {"type": "object", "properties": {"a": {}, "b": {}}}}]
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def client(server: ServerInfo) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{server.url}/anthropic/api", api_key=server.api_key, max_retries=0) as made:
        yield made


def ask(client: anthropic.Anthropic, model: str, **fields: Any) -> Any:
    asked = {"model": model, "max_tokens": 20, "messages": TURN, "extra_body": GREEDY}
    return client.messages.create(**(asked | fields))


def test_a_message(client: anthropic.Anthropic, base_model: str) -> None:
    answer = ask(client, base_model)
    assert [block.text for block in answer.content] == ["7"]
    assert (answer.stop_reason, answer.stop_sequence, answer.usage.output_tokens) == ("end_turn", None, 2)
    counted = client.messages.count_tokens(model=base_model, messages=TURN)
    assert counted.input_tokens == everything(answer.usage)


def everything(usage: Any) -> int:
    """The tokens of the prompt, which are counted apart if they came from the cache."""
    return usage.input_tokens + usage.cache_read_input_tokens


def test_a_stream_says_what_the_whole_answer_says(client: anthropic.Anthropic, base_model: str) -> None:
    asked: Any = {"model": base_model, "max_tokens": 20, "messages": TURN, "extra_body": GREEDY}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert [block.text for block in final.content] == [block.text for block in whole.content]
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.usage.cache_read_input_tokens > 0, "the first answer left the prompt in the cache"
    assert everything(final.usage) == everything(whole.usage)
    assert (events[0], events[-1]) == ("message_start", "message_stop")


def test_every_sampler_checkpoint_is_a_model(client: anthropic.Anthropic, base_model: str, blue: str) -> None:
    for model in (blue, f"{base_model};{blue}"):
        assert [block.text for block in ask(client, model).content] == ["blue"]
        assert client.messages.count_tokens(model=model, messages=TURN).input_tokens
        with client.messages.stream(model=model, max_tokens=20, messages=TURN, extra_body=GREEDY) as stream:
            assert stream.get_final_text() == "blue"


def test_limits_stop_sequences_and_a_beginning(client: anthropic.Anthropic, base_model: str) -> None:
    assert ask(client, base_model, max_tokens=1).stop_reason == "max_tokens"
    begun = [*TURN, {"role": "assistant", "content": "I think the answer is"}]
    assert client.messages.count_tokens(model=base_model, messages=begun).input_tokens > 19
    stopped = ask(client, base_model, stop_sequences=["7"])
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content) == ("stop_sequence", "7", [])


def test_system_tools_and_results_reach_the_template(client: anthropic.Anthropic, base_model: str) -> None:
    def count(**fields: Any) -> int:
        return client.messages.count_tokens(**({"model": base_model, "messages": TURN} | fields)).input_tokens

    assert count(system="Be brief.") == count(system=[{"type": "text", "text": "Be brief."}]) > count()
    assert count(tools=TOOLS) > count()
    assert count(tools=TOOLS, tool_choice={"type": "none"}) == count()
    used = {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 3, "b": 4}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "7"}]}
    history = [*TURN, {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    assert count(messages=history, tools=TOOLS) > count(tools=TOOLS)


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, "hold 1 images, and hone/tiny reads text only"),
    "unknown field": ({"extra_body": {"min_p": 0.1}}, "min_p is not supported"),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    "forced tool": ({"tools": TOOLS, "tool_choice": {"type": "any"}}, "tool_choice"),
    "hosted tool": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused(client: anthropic.Anthropic, base_model: str, case: str) -> None:
    fields, says = REFUSED[case]
    with pytest.raises(anthropic.BadRequestError, match=says) as caught:
        ask(client, base_model, **fields)
    assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


def test_unknown_models_and_wrong_keys(server: ServerInfo, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="not served here"):
        ask(client, "nobody/nothing")
    with (
        anthropic.Anthropic(base_url=f"{server.url}/anthropic/api", api_key="tml-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="API key"),
    ):
        ask(stranger, "hone/tiny")
