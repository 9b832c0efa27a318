"""Rows of a preference file (`data.rows.read_preferences`) as what the objectives learn from.

Ties teach none of them: they are left out and counted. A row that the renderer cannot write, or that is too long, is a
problem with its file and line, beside those that the file had already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import tinker

from hone.algorithms.data.rows import Preference, Problem, ProblemKind, Rows
from hone.algorithms.datums import supervised_datum
from hone.algorithms.messages import Message, read_tools
from hone.algorithms.preference.objectives import Judged
from hone.algorithms.preference.pairs import Pair
from hone.algorithms.preference.reward_model import RewardHead
from hone.algorithms.renderers import Renderer, SupervisedExample, TrainOnWhat
from hone.errors import UserError

ExampleT = TypeVar("ExampleT")


@dataclass(frozen=True)
class Comparisons(Rows[ExampleT]):
    """`rows` are examples, in the order of the file."""

    ties: int = 0
    """Rows of the file in which neither answer is better."""

    def checked(self) -> list[ExampleT]:
        if self.ties and not self.rows and not self.problems:
            raise UserError(f"{self.path} has nothing to learn from: all of its {self.ties} rows are ties")
        return super().checked()


def pairs(read: Rows[Preference], renderer: Renderer, *, max_length: int | None = None) -> Comparisons[Pair]:
    """For DPO, IPO, SimPO and ORPO. Answers may be of several messages, of which the assistant's count.

    `max_length` is in tokens, of the prompt and one answer.
    """

    def of_row(row: Preference) -> list[Pair]:
        chosen, rejected = (_rendered(row, answer, renderer, max_length) for answer in (row.chosen, row.rejected))
        return [Pair(_datum(chosen), _datum(rejected))]

    return _examples(read, of_row)


def judged(read: Rows[Preference], renderer: Renderer, *, max_length: int | None = None) -> Comparisons[Judged]:
    """For KTO: of each row the chosen answer is desirable, and the rejected one is not."""

    def of_row(row: Preference) -> list[Judged]:
        prompt, chosen, rejected = _tokens(row, renderer, max_length)
        return [Judged(prompt, chosen, True), Judged(prompt, rejected, False)]

    return _examples(read, of_row)


def reward_pairs(
    read: Rows[Preference], renderer: Renderer, head: RewardHead, *, max_length: int | None = None
) -> Comparisons[Pair]:
    """For a reward model; its question counts for the length."""
    room = None if max_length is None else max_length - len(head.question)
    return _examples(read, lambda row: [head.pair(*_tokens(row, renderer, room))])


class _TooLong(UserError):
    pass


def _examples(read: Rows[Preference], of_row: Callable[[Preference], list[ExampleT]]) -> Comparisons[ExampleT]:
    examples: list[ExampleT] = []
    problems = list(read.problems)
    for row in read.rows:
        if row.tie:
            continue
        try:
            examples += of_row(row)
        except UserError as error:
            kind: ProblemKind = "too long" if isinstance(error, _TooLong) else "bad content"
            problems.append(Problem(read.path, row.line, kind, str(error)))
    problems.sort(key=lambda problem: problem.line)
    return Comparisons(read.path, examples, problems, sum(row.tie for row in read.rows))


def _rendered(
    row: Preference, answer: Sequence[Message], renderer: Renderer, max_length: int | None
) -> SupervisedExample:
    """The prompt with one answer, weighted on what the model would say of it."""
    messages = [{**message, "trainable": False} for message in row.prompt]
    messages += [{**message, "trainable": message["role"] == "assistant"} for message in answer]
    tools = read_tools(row.extra.get("tools"))
    example = renderer.build_supervised_example(messages, TrainOnWhat.CUSTOMIZED, tools=tools)
    if max_length is not None and len(example.weights) > max_length:
        which = "chosen" if answer is row.chosen else "rejected"
        raise _TooLong(
            f"the prompt and the {which} answer have {len(example.weights)} tokens; {max_length} are allowed"
        )
    return example


def _datum(example: SupervisedExample) -> tinker.Datum:
    return supervised_datum(example.model_input, example.weights, mean=False)


def _tokens(row: Preference, renderer: Renderer, max_length: int | None) -> tuple[list[int], list[int], list[int]]:
    """The prompt and both answers, for what takes an answer whole."""
    prompt = renderer.build_generation_prompt(row.prompt, tools=read_tools(row.extra.get("tools")))
    answers = []
    for messages in (row.chosen, row.rejected):
        example = _rendered(row, messages, renderer, max_length)
        if any(not isinstance(chunk, tinker.EncodedTextChunk) for chunk in example.model_input.chunks):
            raise UserError("it has an image; answers judged one by one are text")
        tokens = example.model_input.to_ints()
        if tokens[: prompt.length] != prompt.to_ints() or not example.weights[prompt.length :].all():
            raise UserError(
                f"an answer of {len(messages)} messages is not all the model's own words after the prompt; "
                "answers judged one by one are one message"
            )
        answers.append(tokens[prompt.length :])
    return prompt.to_ints(), answers[0], answers[1]
