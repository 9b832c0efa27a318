"""A sampling client as a model of `inspect_ai` (`pip install 'hone[inspect]'`).

Programs that call `inspect_ai.eval` themselves take `inspect_model(...)` as its `model`; `inspect_run.py` does so for
`hone eval inspect`. Prompts are written and answers are read by our renderers, so a task sees what training saw.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import tinker

from hone.algorithms.messages import (
    ContentPart,
    Message,
    MessageError,
    ToolCall,
    ToolSpec,
    arguments_of,
    text_of,
    thinking_of,
)
from hone.algorithms.renderers import Renderer
from hone.algorithms.rl.policy import sample_seed
from hone.errors import UserError

try:
    from inspect_ai import model as inspect_models
    from inspect_ai import tool as inspect_tools
except ImportError:
    raise UserError("tasks of inspect_ai need `pip install 'hone[inspect]'`") from None

DEFAULT_MAX_TOKENS = 2048
"""Of one answer, where neither the task nor the caller says."""
UNPARSED = "unparsed_tool_call"
"""The function of a call that could not be read: inspect_ai answers it with the reason."""
REFUSED = (
    *("best_of", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs"),
    *("response_schema", "modalities"),
)
"""Settings that would change what is sampled or returned, and that a sampler does not have."""


def inspect_model(sampler: tinker.SamplingClient, renderer: Renderer, name: str) -> inspect_models.Model:
    """`name` is who answers, for inspect_ai's logs: a base model or a checkpoint."""
    make: Callable[..., inspect_models.ModelAPI] = _hone  # what is registered calls the class that it is given
    return inspect_models.Model(make(name, sampler, renderer), inspect_models.GenerateConfig())


class SamplerModel(inspect_models.ModelAPI):
    """What cannot be asked or sampled is an error of its sample; the SDK has tried again by then."""

    def __init__(self, name: str, sampler: tinker.SamplingClient, renderer: Renderer) -> None:
        super().__init__(name)
        self._sampler, self._renderer = sampler, renderer
        self._asked: Counter[str] = Counter()

    async def generate(
        self,
        input: list[inspect_models.ChatMessage],
        tools: list[inspect_tools.ToolInfo],
        tool_choice: inspect_tools.ToolChoice,
        config: inspect_models.GenerateConfig,
    ) -> inspect_models.ModelOutput:
        """
        Raises:
            UserError: a setting or content that cannot be honoured, or a tool that had to be called and was not.
        """
        _check(config)
        offered = _offered(tools, tool_choice)
        prompt = self._renderer.build_generation_prompt([read_message(one) for one in input], tools=offered)
        params = tinker.SamplingParams(
            max_tokens=config.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=1.0 if config.temperature is None else config.temperature,
            top_p=1.0 if config.top_p is None else config.top_p,
            top_k=-1 if config.top_k is None else config.top_k,
            stop=self._renderer.get_stop_sequences(),
            seed=self._seed(config.seed, prompt),
        )
        started = time.monotonic()
        response = await self._sampler.sample(prompt, config.num_choices or 1, params)
        choices = [
            self._choice(sequence, offered, config.stop_seqs or (), f"{len(input)}_{number}")
            for number, sequence in enumerate(response.sequences)
        ]
        _check_called(choices, tool_choice)
        sampled = sum(len(sequence.tokens) for sequence in response.sequences)
        cached = response.prompt_cache_hit_tokens
        usage = inspect_models.ModelUsage(
            input_tokens=prompt.length - cached,
            input_tokens_cache_read=cached,
            output_tokens=sampled,
            total_tokens=prompt.length + sampled,
        )
        taken = time.monotonic() - started
        return inspect_models.ModelOutput(model=self.model_name, choices=choices, usage=usage, time=taken)

    def _seed(self, seed: int | None, prompt: tinker.ModelInput) -> int | None:
        """Of one request. A prompt that is asked again, in another epoch for one, gets another answer."""
        if seed is None:
            return None
        place = hashlib.blake2b(prompt.model_dump_json().encode()).hexdigest()
        self._asked[place] += 1
        return sample_seed(seed, place, self._asked[place])

    def _choice(
        self, sequence: tinker.SampledSequence, tools: Sequence[ToolSpec], stops: Sequence[str], place: str
    ) -> inspect_models.ChatCompletionChoice:
        message, termination = self._renderer.parse_response(sequence.tokens, tools=tools)
        text, calls = text_of(message), _calls(message, place)
        reason: inspect_models.StopReason = "stop" if termination.is_clean else "unknown"
        # Formats stop at tokens of their own, and a request has either tokens or texts: what follows a text is cut off.
        cut = min((at for at in map(text.find, stops) if at >= 0), default=None)
        if cut is not None:
            text, calls, reason = text[:cut], [], "stop"
        elif sequence.stop_reason == "length":
            reason = "max_tokens"
        elif calls:
            reason = "tool_calls"
        thinking = thinking_of(message)
        content: str | list[inspect_models.Content] = text
        if thinking:
            content = [inspect_models.ContentReasoning(reasoning=thinking), inspect_models.ContentText(text=text)]
        said = inspect_models.ChatMessageAssistant(
            content=content, tool_calls=calls or None, model=self.model_name, source="generate"
        )
        return inspect_models.ChatCompletionChoice(message=said, stop_reason=reason)


@inspect_models.modelapi(name="hone")
def _hone() -> type[inspect_models.ModelAPI]:
    """Known to inspect_ai under this name: its logs write a model as `hone/NAME`."""
    return SamplerModel


def read_message(message: inspect_models.ChatMessage) -> Message:
    """inspect_ai's message in our form.

    Raises:
        UserError: content that no renderer writes, such as audio.
    """
    parts = [message.content] if isinstance(message.content, str) else message.content
    content = [_part(part) for part in parts]
    read: Message = {"role": message.role, "content": content}
    if isinstance(message.content, str):
        read["content"] = message.content
    if isinstance(message, inspect_models.ChatMessageAssistant) and message.tool_calls:
        calls = [call for call in message.tool_calls if call.function != UNPARSED]
        unparsed = [call for call in message.tool_calls if call.function == UNPARSED]
        if calls:
            read["tool_calls"] = [_call(call) for call in calls]
        if unparsed:
            read["unparsed_tool_calls"] = [
                {"raw_text": call.arguments["raw_text"], "error": call.parse_error or ""} for call in unparsed
            ]
    if isinstance(message, inspect_models.ChatMessageTool):
        if message.error is not None:
            read["content"] = f"Error: {message.error.message}"
        if message.tool_call_id is not None:
            read["tool_call_id"] = message.tool_call_id
        if message.function is not None:
            read["name"] = message.function
    return read


def _part(part: Any) -> ContentPart:
    match part:
        case str():
            return {"type": "text", "text": part}
        case inspect_models.ContentText():
            return {"type": "text", "text": part.text}
        case inspect_models.ContentReasoning():
            return {"type": "thinking", "thinking": part.reasoning}
        case inspect_models.ContentImage():
            return {"type": "image", "image": part.image}
    raise UserError(f"a message holds {part.type}; a renderer writes text, reasoning and images")


def _call(call: inspect_tools.ToolCall) -> ToolCall:
    arguments = json.dumps(call.arguments, ensure_ascii=False)  # without the spacing that the model gave them
    return {"type": "function", "id": call.id, "function": {"name": call.function, "arguments": arguments}}


def _calls(message: Message, place: str) -> list[inspect_tools.ToolCall]:
    """With names that are unique in the conversation; formats without such names have none."""
    calls: list[inspect_tools.ToolCall] = []
    for call in message.get("tool_calls", ()):
        id, function = call.get("id") or f"call_{place}_{len(calls)}", call["function"]["name"]
        try:
            calls.append(inspect_tools.ToolCall(id, function, arguments_of(call)))
        except MessageError as error:
            calls.append(inspect_tools.ToolCall(id, function, {}, parse_error=str(error)))
    for unparsed in message.get("unparsed_tool_calls", ()):
        id, raw = f"call_{place}_{len(calls)}", {"raw_text": unparsed["raw_text"]}
        calls.append(inspect_tools.ToolCall(id, UNPARSED, raw, parse_error=unparsed["error"]))
    return calls


def _offered(tools: Sequence[inspect_tools.ToolInfo], choice: inspect_tools.ToolChoice) -> list[ToolSpec]:
    if choice == "none":
        return []
    wanted = choice.name if isinstance(choice, inspect_tools.ToolFunction) else None
    return [
        {"type": "function", "function": tool.model_dump(exclude_none=True, exclude={"options"})}
        for tool in tools
        if wanted in (None, tool.name)
    ]


def _check(config: inspect_models.GenerateConfig) -> None:
    refused = [name for name in REFUSED if getattr(config, name)]
    if refused:
        raise UserError(f"a sampler has no {', '.join(refused)}; leave that setting out of the task")


def _check_called(choices: Sequence[inspect_models.ChatCompletionChoice], choice: inspect_tools.ToolChoice) -> None:
    """Nothing makes a model call a tool: if it had to and did not, that is its failure."""
    if choice in ("auto", "none"):
        return
    wanted = choice.name if isinstance(choice, inspect_tools.ToolFunction) else None
    for one in choices:
        called = [call.function for call in one.message.tool_calls or ()]
        if not called or wanted not in (None, *called):
            raise UserError(f"the task wants {wanted or 'a tool'} to be called; the model called {called or 'none'}")
