"""A question, one answer, a grader."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hone.algorithms.envs.message_env import Checkable, CutOff, Dialogue, MessageStep, Turn, asked, said
from hone.algorithms.graders.grade import Grader, Task
from hone.algorithms.messages import Message, text_of


class ProblemEnv(Dialogue, Checkable):
    """Reward is `score + format_coef * (format - 1)`: the grader's score, less a little for an answer in a wrong form.

    An answer has the wrong form if it did not end or if `check_format` says so. The coefficient is that of
    `tinker-cookbook`. The question is asked after the messages `before` it; a `prompt` is asked in place of both.
    """

    def __init__(
        self,
        task: Task,
        grader: Grader,
        *,
        before: Sequence[Message] = (),
        prompt: Sequence[Message] = (),
        check_format: Callable[[str], bool] = bool,
        format_coef: float = 0.1,
        guess: Callable[[random.Random], str] = lambda rng: str(rng.randrange(1000)),
    ) -> None:
        super().__init__()
        self.task, self._grader = task, grader
        self._opening = list(prompt) or [*before, asked(task.question)]
        self._check_format, self._format_coef, self._guess = check_format, format_coef, guess

    def opening(self) -> list[Message]:
        return list(self._opening)

    async def respond(self, message: Message) -> Turn:
        text = text_of(message)
        return await self._graded(text, well_formed=self._check_format(text))

    async def cut_off(self, message: Message, why: CutOff) -> MessageStep:
        turn = await self._graded(text_of(message), well_formed=False)
        return MessageStep(turn.reward, True, [*self.messages, message], turn.metrics, turn.logs)

    async def _graded(self, text: str, *, well_formed: bool) -> Turn:
        grade = await self._grader(self.task, text)
        reward = grade.score + self._format_coef * (well_formed - 1)
        metrics = {"correct": grade.score, "format": float(well_formed)}
        logs = {"gold": self.task.gold, "answer": text, **grade.details}
        return Turn(reward=reward, done=True, metrics=metrics, logs=logs)

    async def gold_reply(self) -> Message:
        return said(self.task.gold)

    def random_reply(self, rng: random.Random) -> Message:
        return said(self._guess(rng))
