"""Tasks of `verifiers` (its `verifiers.v1`, 0.4 and later; `pip install 'hone[verifiers]'`) as environments of ours:
`[VerifiersTask(task) for task in taskset.take(100)]`.

A task asks, the model answers once, and the task's own rewards judge the conversation. What needs more than that
(tools, containers, a harness that drives an agent) is refused by name: verifiers runs those itself, against the
OpenAI-compatible route of a server.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from hone.algorithms.envs.message_env import Dialogue, Turn, stopped
from hone.algorithms.messages import Message, read_message, text_of
from hone.algorithms.types import Metrics
from hone.errors import UserError


class VerifiersTask(Dialogue):
    """One task. The reward is the sum of the task's weighted rewards; its metrics keep their names."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self._vf, self._task = _verifiers(), task
        problem = _unsupported(task, self._vf.Task)
        if problem:
            raise UserError(f"the task {type(task).__name__} {problem}; run it with verifiers itself, against a server")

    def opening(self) -> list[Message]:
        data = self._task.data
        system: list[Message] = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        if isinstance(data.prompt, str):
            return [*system, {"role": "user", "content": data.prompt}]
        return [*system, *(read_message(message.model_dump(exclude_none=True)) for message in data.prompt)]

    async def respond(self, message: Message) -> Turn:
        trace = self._trace()
        async with asyncio.timeout(self._task.data.timeout.scoring):
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


def _unsupported(task: Any, base: Any) -> str | None:
    """Why a task is more than a question and its rewards; what needs a container is left out in silence by `score`."""
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
    if data.skills:
        return "has skills"
    for prepared in ("setup", "finalize"):
        if getattr(type(task), prepared) is not getattr(base, prepared):
            return f"has a {prepared}, which works in a container"
    rewards, metrics, judges = task.hooks("reward"), task.hooks("metric"), task.plugged_judges()
    for kind, name, judged in [
        *(("reward", judged.__name__, judged) for judged in rewards),
        *(("metric", judged.__name__, judged) for judged in metrics),
        *(("judge", judge.reward_name, judge.score) for judge in judges),
    ]:
        if _needs_container(judged):
            return f"has the {kind} {name}, which looks into a container"
    if not rewards and not judges:
        return "has no rewards of its own: its environment gives them"
    return None


def _needs_container(judged: Callable[..., Any]) -> bool:
    runtime = inspect.signature(judged).parameters.get("runtime")
    return runtime is not None and runtime.default is inspect.Parameter.empty


def _verifiers() -> Any:
    try:
        import verifiers.v1
    except ImportError:
        raise UserError("verifiers 0.4 or later is not installed; pip install 'hone[verifiers]'") from None
    return verifiers.v1
