"""Answers to one question, rewarded by how they do against each other before a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hone.algorithms.envs.message_env import CutOff, Dialogue, MessageStep, TokenEnv, TokenLimits, Turn, asked, stopped
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.pairwise import Pairwise, tournament
from hone.algorithms.messages import Message, text_of
from hone.algorithms.renderers import Renderer
from hone.algorithms.types import Env, EnvGroupBuilder, Metrics, Trajectory


class AnswerEnv(Dialogue):
    """Takes one answer and keeps it. An answer that did not end costs 1, as in `tinker-cookbook`."""

    def __init__(self, task: Task, before: Sequence[Message] = ()) -> None:
        super().__init__()
        self.answer = ""
        self._task, self._before = task, list(before)

    def opening(self) -> list[Message]:
        return [*self._before, asked(self._task.question)]

    async def respond(self, message: Message) -> Turn:
        self.answer = text_of(message)
        return Turn(done=True, metrics=stopped("completed") | {"format": 1.0})

    async def cut_off(self, message: Message, why: CutOff) -> MessageStep:
        self.answer = text_of(message)
        return MessageStep(-1.0, True, [*self.messages, message], {"format": 0.0})


@dataclass(frozen=True)
class JudgedGroup(EnvGroupBuilder):
    """Every answer of the group is compared with every other; its mean result, from -1 to 1, is its reward."""

    task: Task
    pairwise: Pairwise
    renderer: Renderer
    group_size: int
    before: tuple[Message, ...] = ()
    tags: tuple[str, ...] = ("judged",)
    limits: TokenLimits = field(default_factory=TokenLimits)

    async def make_envs(self) -> Sequence[Env]:
        return [TokenEnv(self.renderer, AnswerEnv(self.task, self.before), self.limits) for _ in range(self.group_size)]

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        answers_G = [
            env.env.answer for env in env_group if isinstance(env, TokenEnv) and isinstance(env.env, AnswerEnv)
        ]
        assert len(answers_G) == len(trajectory_group), "the group is of our own making"
        return await tournament(self.pairwise, self.task, answers_G)

    def logging_tags(self) -> list[str]:
        return list(self.tags)
