"""Tasks of `verifiers` (its `verifiers.v1`, 0.4 and later; `pip install 'hone[verifiers]'`) as environments of ours:
`[VerifiersTask(task) for task in taskset.take(100)]`.

A task asks, the model answers once, and the task's own rewards judge the conversation. What needs more than that
(tools, containers, a harness that drives an agent) is refused by name: verifiers runs those itself, against the
OpenAI-compatible route of a server.
"""

from __future__ import annotations

import inspect
from typing import Any

from hone.algorithms.envs.message_env import Dialogue, Turn, stopped
from hone.algorithms.messages import Message, read_message, text_of
from hone.algorithms.types import Metrics
from hone.errors import UserError


class VerifiersTask(Dialogue):
    """One task. The reward is the sum of the task's weighted rewards; its metrics keep their names."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        problem = _unsupported(task)
        if problem:
            raise UserError(f"the task {type(task).__name__} {problem}; run it with verifiers itself, against a server")
        self._vf, self._task = _verifiers(), task

    def opening(self) -> list[Message]:
        data = self._task.data
        system: list[Message] = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        if isinstance(data.prompt, str):
            return [*system, {"role": "user", "content": data.prompt}]
        return [*system, *(read_message(message.model_dump(exclude_none=True)) for message in data.prompt)]

    async def respond(self, message: Message) -> Turn:
        trace = self._trace()
        await self._task.score(trace)
        metrics: Metrics = {name: float(value) for name, value in trace.metrics.items() if value is not None}
        rewards = {name: float(reward.value) for name, reward in trace.rewards.items() if reward is not None}
        return Turn(reward=float(trace.reward), done=True, metrics=stopped("completed") | metrics | rewards)

    def _trace(self) -> Any:
        """The conversation so far as verifiers keeps it: each message a node after the one before."""
        vf, task = self._vf, self._task
        made = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
        nodes = [
            vf.MessageNode(
                parent=place - 1 if place else None,
                message=made[message["role"]](content=text_of(message)),
                sampled=place == len(self.messages) - 1,
            )
            for place, message in enumerate(self.messages)
        ]
        recorded = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        return vf.Trace(
            task=recorded, agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=nodes, is_completed=True, ok=True
        )


def _unsupported(task: Any) -> str | None:
    """Why a task is more than a question and its rewards."""
    data = task.data
    if data.prompt is None:
        return "has no prompt: a user is to open the conversation"
    if not isinstance(data.prompt, str) and any(
        message.role not in ("system", "user", "assistant") for message in data.prompt
    ):
        return "has tool messages in its prompt"
    if task.NEEDS_CONTAINER or data.image:
        return "needs a container"
    if task.toolsets(task.config):
        return "has tools"
    for kind in ("reward", "metric"):
        for judged in task.hooks(kind):
            runtime = inspect.signature(judged).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                return f"has the {kind} {judged.__name__}, which looks into a container"
    return None


def _verifiers() -> Any:
    try:
        import verifiers.v1
    except ImportError:
        raise UserError("verifiers 0.4 or later is not installed; pip install 'hone[verifiers]'") from None
    return verifiers.v1
