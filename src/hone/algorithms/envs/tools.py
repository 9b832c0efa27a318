"""An agent with tools: it calls them as often as it needs and then answers."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from hone.algorithms.envs.message_env import Checkable, Dialogue, Turn, asked, said, stopped
from hone.algorithms.graders.grade import Grader, Task
from hone.algorithms.messages import Message, MessageError, ToolCall, ToolSpec, arguments_of, text_of
from hone.algorithms.types import Metrics


class ToolError(Exception):
    """A call that cannot be done; the agent is told why."""


class Tool(ABC):
    """Something that can be called by name with named arguments."""

    spec: ToolSpec

    @abstractmethod
    async def call(self, arguments: dict[str, Any]) -> str:
        """Arguments have been checked for presence. `ToolError` is for the agent to read."""

    @property
    def name(self) -> str:
        return str(self.spec["function"]["name"])


def tool_spec(name: str, description: str, **parameters: str) -> ToolSpec:
    """A tool whose parameters are all texts, described in a few words each."""
    properties = {parameter: {"type": "string", "description": text} for parameter, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


class ToolEnv(Dialogue, Checkable):
    """Reward is the grader's score of the first message without a call; 0 if there is none within the limits."""

    def __init__(
        self,
        task: Task,
        grader: Grader,
        tools: Sequence[Tool],
        *,
        before: Sequence[Message] = (),
        max_turns: int = 8,
        max_tool_calls: int = 16,
        gold_calls: Sequence[tuple[str, dict[str, Any]]] = (),
        guess: Callable[[random.Random], str] = lambda rng: str(rng.randrange(1000)),
    ) -> None:
        super().__init__()
        self._tools = {tool.name: tool for tool in tools}
        self.tools = [tool.spec for tool in tools]
        self.task, self._grader, self._before = task, grader, list(before)
        self._max_turns, self._max_tool_calls = max_turns, max_tool_calls
        self._gold_calls, self._guess = list(gold_calls), guess
        self._turns = self._calls = self._failed = 0

    def opening(self) -> list[Message]:
        return [*self._before, asked(self.task.question)]

    async def respond(self, message: Message) -> Turn:
        self._turns += 1
        calls, unreadable = message.get("tool_calls", []), message.get("unparsed_tool_calls", [])
        if not calls and not unreadable:
            grade = await self._grader(self.task, text_of(message))
            logs = {"gold": self.task.gold, "answer": text_of(message), **grade.details}
            metrics = self._metrics("completed") | {"correct": grade.score}
            return Turn(reward=grade.score, done=True, metrics=metrics, logs=logs)
        answers = [await self._call(call) for call in calls]
        answers += [_tool_message("", None, f"error: {call['error']}") for call in unreadable]
        self._calls += len(answers)
        self._failed += sum(text_of(answer).startswith("error: ") for answer in answers)
        if self._calls > self._max_tool_calls:
            return Turn(done=True, metrics=self._metrics("max_tool_calls") | {"correct": 0.0})
        if self._turns >= self._max_turns:
            return Turn(done=True, metrics=self._metrics("max_turns") | {"correct": 0.0})
        return Turn(answers)

    async def _call(self, call: ToolCall) -> Message:
        name = call["function"]["name"]
        try:
            text = await self._result(name, call)
        except (ToolError, MessageError) as error:
            text = f"error: {error}"
        return _tool_message(name, call.get("id"), text)

    async def _result(self, name: str, call: ToolCall) -> str:
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {name!r}; there are {', '.join(self._tools)}")
        arguments = arguments_of(call)
        missing = [key for key in tool.spec["function"]["parameters"]["required"] if key not in arguments]
        if missing:
            raise ToolError(f"{name} needs {', '.join(missing)}")
        return await tool.call(arguments)

    def _metrics(self, reason: str) -> Metrics:
        return stopped(reason) | {"turns": self._turns, "tool_calls": self._calls, "failed_tool_calls": self._failed}

    async def gold_reply(self) -> Message:
        if self._turns < len(self._gold_calls):
            name, arguments = self._gold_calls[self._turns]
            return calling(name, arguments)
        return said(self.task.gold)

    def random_reply(self, rng: random.Random) -> Message:
        return said(self._guess(rng))


def calling(name: str, arguments: dict[str, Any]) -> Message:
    """An assistant's message that calls one tool."""
    call: ToolCall = {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _tool_message(name: str, call_id: str | None, text: str) -> Message:
    message: Message = {"role": "tool", "content": text}
    if name:
        message["name"] = name
    if call_id is not None:
        message["tool_call_id"] = call_id
    return message
