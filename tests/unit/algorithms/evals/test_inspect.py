"""What inspect_ai asks of a model and what it is given, with a sampler that says what the test wants."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tinker

from hone.errors import UserError
from tests.support.chatml import END, ByteChatMl

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")

from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ContentAudio,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolCall, ToolCallError, ToolChoice, ToolFunction, ToolInfo, ToolParams

from hone.algorithms.evals.inspect_model import DEFAULT_MAX_TOKENS, UNPARSED, SamplerModel, read_message
from hone.algorithms.evals.inspect_run import InspectSettings, run_inspect_task
from hone.algorithms.evals.run import read_answers


@dataclass
class Says:
    """Answers every prompt with what `answer` makes of it."""

    answer: Callable[[str], str | list[int]]
    prompts: list[str] = field(default_factory=list)
    params: list[tinker.SamplingParams] = field(default_factory=list)

    def get_base_model(self) -> str:
        return "a/model"

    async def sample(
        self, prompt: tinker.ModelInput, count: int, params: tinker.SamplingParams
    ) -> tinker.SampleResponse:
        text = bytes(token for token in prompt.to_ints() if token < 256).decode()
        self.prompts.append(text)
        self.params.append(params)
        said = self.answer(text)
        tokens = [*said.encode(), END] if isinstance(said, str) else said
        reason = "stop" if tokens[-1] == END else "length"
        one = tinker.SampledSequence(reason, sequence_id="s", _tokens_list=tokens, _logprobs_list=[0.0] * len(tokens))
        return tinker.SampleResponse([one] * count, prompt_cache_hit_tokens=3)


TOOLS = [
    ToolInfo(name="add", description="Adds.", parameters=ToolParams()),
    ToolInfo(name="search", description="Searches.", parameters=ToolParams()),
]


def generate(
    says: Says,
    messages: Sequence[ChatMessage] = (ChatMessageUser(content="Hi?"),),
    tools: Sequence[ToolInfo] = (),
    choice: ToolChoice = "auto",
    **config: Any,
) -> ModelOutput:
    model = SamplerModel("a/model", says, ByteChatMl())  # type: ignore[arg-type]
    return asyncio.run(model.generate(list(messages), list(tools), choice, GenerateConfig(**config)))


def test_settings_reach_the_sampler_and_the_answer_comes_back() -> None:
    says = Says(lambda prompt: "Hello")
    output = generate(says, temperature=0.5, max_tokens=7, top_p=0.9, top_k=3, seed=4, num_choices=2)
    params = says.params[0]
    assert (params.temperature, params.max_tokens, params.top_p, params.top_k) == (0.5, 7, 0.9, 3)
    assert params.seed is not None
    assert [(one.message.text, one.stop_reason) for one in output.choices] == [("Hello", "stop")] * 2
    assert output.usage is not None
    prompt = len(says.prompts[0].encode()) + 3  # its control tokens
    assert (output.usage.input_tokens, output.usage.input_tokens_cache_read) == (prompt - 3, 3)
    assert (output.usage.output_tokens, output.usage.total_tokens) == (12, prompt + 12)
    generate(says)
    assert (says.params[1].temperature, says.params[1].max_tokens, says.params[1].seed) == (1, DEFAULT_MAX_TOKENS, None)


def test_what_a_sampler_does_not_have_is_refused() -> None:
    says = Says(lambda prompt: "Hello")
    with pytest.raises(UserError, match="has no frequency_penalty, logprobs"):
        generate(says, logprobs=True, frequency_penalty=0.5)
    with pytest.raises(UserError, match="holds audio"):
        read_message(ChatMessageUser(content=[ContentAudio(audio="a.mp3", format="mp3")]))


def test_why_an_answer_ended() -> None:
    assert generate(Says(lambda prompt: [*b"Hel"])).stop_reason == "max_tokens"
    assert generate(Says(lambda prompt: [*b"Hel", END, END])).stop_reason == "unknown"
    output = generate(Says(lambda prompt: "One. Two; three."), stop_seqs=[";", "Two"])
    assert (output.completion, output.stop_reason) == ("One. ", "stop")


CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def test_tools_are_offered_and_calls_read() -> None:
    says = Says(lambda prompt: f"So:{CALL}")
    output = generate(says, tools=TOOLS)
    assert "Tools: add, search" in says.prompts[0]
    (call,) = output.message.tool_calls or []
    assert (call.function, call.arguments, call.parse_error) == ("add", {"a": 1}, None)
    assert (output.completion, output.stop_reason) == ("So:", "tool_calls")
    generate(says, tools=TOOLS, choice="none")
    assert "Tools" not in says.prompts[1]
    generate(says, tools=TOOLS, choice=ToolFunction("add"))
    assert "Tools: add\n" in says.prompts[2].replace(chr(0), "")
    with pytest.raises(UserError, match="wants search to be called; the model called"):
        generate(says, tools=TOOLS, choice=ToolFunction("search"))
    with pytest.raises(UserError, match="wants a tool to be called; the model called none"):
        generate(Says(lambda prompt: "No."), tools=TOOLS, choice="any")


def test_a_call_that_cannot_be_read_is_answered_and_written_again_as_it_was() -> None:
    output = generate(Says(lambda prompt: "<tool_call>{nonsense</tool_call>"), tools=TOOLS)
    (call,) = output.message.tool_calls or []
    assert call.function == UNPARSED
    assert call.parse_error
    again = read_message(output.message)
    assert [one["raw_text"] for one in again["unparsed_tool_calls"]] == ["{nonsense</tool_call>"]


def test_messages_in_our_form() -> None:
    said = ChatMessageAssistant(
        content=[ContentReasoning(reasoning="Hm."), ContentText(text="I add.")],
        tool_calls=[ToolCall("c1", "add", {"a": "ä"})],
    )
    assert read_message(said) == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "I add."}],
        "tool_calls": [{"type": "function", "id": "c1", "function": {"name": "add", "arguments": '{"a": "ä"}'}}],
    }
    failed = ChatMessageTool(content="", tool_call_id="c1", function="add", error=ToolCallError("timeout", "too slow"))
    assert read_message(failed) == {
        "role": "tool",
        "content": "Error: too slow",
        "tool_call_id": "c1",
        "name": "add",
    }


@scorer(metrics=[accuracy()])
def says_target() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        if "nothing" in state.output.completion:
            return Score.unscored()
        return Score(value="C" if state.output.completion == target.text else "I")

    return score


@scorer(metrics={"length": [accuracy()], "letters": [accuracy()]})
def measured() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value={"length": len(state.output.completion), "letters": 1})

    return score


def test_every_failure_counts_as_one(tmp_path: Path) -> None:
    """inspect_ai's own accuracy leaves out what ended in an error: 1 of 2 here, where we count 1 of 4."""

    def answer(prompt: str) -> str:
        if "broken" in prompt:
            raise tinker.TinkerError("nobody is here")
        return "yes" if "right" in prompt else "nothing" if "unscored" in prompt else "no"

    samples = [Sample(id=word, input=word, target="yes") for word in ("right", "wrong", "broken", "unscored")]
    task = Task(dataset=samples, scorer=[says_target(), measured()], name="four")
    settings = InspectSettings(model="tinker://some/where")
    summary = run_inspect_task(task, Says(answer), ByteChatMl(), tmp_path, settings)  # type: ignore[arg-type]
    assert summary.benchmark == "four"
    assert summary.score.mean == 1 / 4
    assert summary.failures == {"error": 1, "ungraded": 1}
    (log,) = list_eval_logs(str(tmp_path / "logs"))
    results = read_eval_log(log).results
    assert results is not None
    assert results.scores[0].metrics["accuracy"].value == 1 / 2
    answers = {one.item: one for one in read_answers(tmp_path)}
    assert (answers["right"].score, answers["right"].tokens, answers["right"].text) == (1.0, 4, "yes")
    assert answers["right"].details == {
        "says_target": 1.0,
        "measured/length": 3.0,
        "measured/letters": 1.0,
        "stop_reason": "stop",
    }
    assert {name: one.mean for name, one in summary.measures.items()} == {
        "measured/length": (3 + 2) / 4,
        "measured/letters": 2 / 4,
    }
    assert "nobody is here" in answers["broken"].details["why"]  # type: ignore[index]
    assert not any(math.isnan(one.score) for one in answers.values())


WORDS = [f"word{number}" for number in range(6)]


def words() -> Task:
    return Task(dataset=[Sample(id=word, input=word, target="yes") for word in WORDS], scorer=says_target(), name="w")


def yes_or_no(prompt: str) -> str:
    return "yes" if prompt[prompt.index("word") + 4] in "024" else "no"


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    settings = InspectSettings(model="m", answers=2, concurrency=1)

    def run(says: Says, name: str, settings: InspectSettings = settings) -> Any:
        return run_inspect_task(words(), says, ByteChatMl(), tmp_path / name, settings)  # type: ignore[arg-type]

    for last in (5, 5):  # twice: what the first attempt answered is not lost by the second

        def answer(prompt: str, says_left: list[int] = [last]) -> str:  # noqa: B006 - counts over the calls
            says_left[0] -= 1
            if not says_left[0]:
                raise KeyboardInterrupt
            return yes_or_no(prompt)

        with pytest.raises(KeyboardInterrupt):
            run(Says(answer), "cut")
    with pytest.raises(UserError, match=r"cut holds results of other settings \(differing: seed\)"):
        run(Says(yes_or_no), "cut", InspectSettings(model="m", answers=2, seed=1))
    rest, whole = Says(yes_or_no), Says(yes_or_no)
    found, expected = run(rest, "cut"), run(whole, "whole")
    assert len(rest.prompts) == 12 - 4 - 4
    assert len(whole.prompts) == 12
    assert found == expected
    assert read_answers(tmp_path / "cut") == read_answers(tmp_path / "whole")
    with pytest.raises(UserError, match="holds results; give a new directory"):
        run(rest, "cut")
