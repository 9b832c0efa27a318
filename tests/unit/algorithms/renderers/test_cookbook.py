"""Token by token and weight by weight as tinker-cookbook renders, where the two mean to agree.

Where they do not, the conversations avoid it: docs/design/decisions/0028 has the list and the reasons.
"""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from hone.algorithms.messages import Message
from hone.algorithms.renderers import RENDERERS, TrainOnWhat, get_renderer, recommended_renderer
from tests.support import conversations as c
from tests.unit.algorithms.renderers.test_templates import kimi

PLAIN = {"thinking": "never", "tools": False}
EVERY = [what for what in TrainOnWhat if what is not TrainOnWhat.CUSTOMIZED]
LAST = [TrainOnWhat.LAST_ASSISTANT_MESSAGE, TrainOnWhat.LAST_ASSISTANT_TURN]
SAID = [*LAST, TrainOnWhat.ALL_ASSISTANT_MESSAGES, TrainOnWhat.ALL_TOKENS]

CASES: list[tuple[str, Callable[[], Any], dict[str, Any], list[TrainOnWhat]]] = [
    ("role_colon", lambda: c.tokenizer("qwen3"), PLAIN, EVERY),
    ("llama3", lambda: c.tokenizer("llama3"), {**PLAIN, "ragged": False}, EVERY),
    ("qwen3", lambda: c.tokenizer("qwen3"), {"tools": False, "ragged": False}, EVERY),
    ("qwen3_disable_thinking", lambda: c.tokenizer("qwen3"), {**PLAIN, "ragged": False}, LAST),
    ("qwen3_instruct", lambda: c.tokenizer("qwen3"), {**PLAIN, "ragged": False}, EVERY),
    ("qwen3_5", lambda: c.tokenizer("qwen3"), {"tools": False}, LAST),
    ("qwen3_5_preserve_thinking", lambda: c.tokenizer("qwen3"), {"thinking": "always", "tools": False}, LAST),
    ("qwen3_5_disable_thinking", lambda: c.tokenizer("qwen3"), {**PLAIN, "ragged": False}, LAST),
    ("deepseekv3", lambda: c.tokenizer("deepseek_v3"), {**PLAIN, "empty": False}, EVERY),
    ("kimi_k2", kimi, {"tools": False}, SAID),
    ("kimi_k2", kimi, {"one_call": True, "ragged": False}, LAST),
    (
        "qwen3_instruct",
        lambda: c.tokenizer("qwen3"),
        {"thinking": "never", "ragged": False, "one_call": True, "ascii_calls": True},
        EVERY,
    ),
    ("gpt_oss_medium_reasoning", lambda: c.tokenizer("gpt_oss"), PLAIN, SAID),
    ("gpt_oss_no_sysprompt", lambda: c.tokenizer("gpt_oss"), PLAIN, EVERY),
]


def as_theirs(message: Message) -> dict[str, Any]:
    """Their tool calls are objects."""
    from tinker_cookbook.renderers import ToolCall

    calls = [ToolCall.model_validate(call) for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls} if calls else dict(message)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "tokenizer", "makes", "trains"), CASES, ids=[case[0] for case in CASES])
def test_renders_and_weighs_as_the_cookbook_does(
    name: str, tokenizer: Callable[[], Any], makes: dict[str, Any], trains: list[TrainOnWhat]
) -> None:
    theirs = pytest.importorskip("tinker_cookbook.renderers")
    try:
        other = theirs.get_renderer(name, tokenizer())
    except ModuleNotFoundError as error:
        pytest.skip(f"the cookbook is here without {error.name}")
    renderer = get_renderer(name, tokenizer())
    assert renderer.get_stop_sequences() == other.get_stop_sequences()
    draw = random.Random(name)
    for number in range(24):
        messages = c.conversation(draw, **makes)
        same = [as_theirs(message) for message in messages]
        prompt = renderer.build_generation_prompt(messages[:-1]).to_ints()
        assert prompt == other.build_generation_prompt(same[:-1]).to_ints()
        what = trains[number % len(trains)]
        model_input, weights = renderer.build_supervised_example(messages, what)
        their_input, their_weights = other.build_supervised_example(same, theirs.TrainOnWhat(what.value))
        assert model_input.to_ints() == their_input.to_ints()
        # Nothing predicts the first token.
        assert weights[1:].tolist() == their_weights[1:].tolist(), what


def test_recommends_what_the_cookbook_recommends() -> None:
    """For every model that it lists, as far as the family is here."""
    theirs = pytest.importorskip("tinker_cookbook.model_info")
    tables = [getattr(theirs, name)() for name in dir(theirs) if re.fullmatch(r"get_\w+_info", name)]
    models = [(f"{about.organization}/{model}", about) for table in tables for model, about in table.items()]
    ours = {
        name: about.recommended_renderers[0] for name, about in models if about.recommended_renderers[0] in RENDERERS
    }
    assert len(ours) > 20
    assert {name: recommended_renderer(name, None) for name in ours} == ours
