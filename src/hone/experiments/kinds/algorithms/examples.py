"""Standard rows in tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hone.errors import UserError
from hone.experiments.data.rows import ChatRow, PreferenceRow, StandardRow, TaskRow

if TYPE_CHECKING:
    import tinker

    from hone.algorithms.data.cut import CutRow
    from hone.algorithms.graders.grade import Task
    from hone.algorithms.messages import Message
    from hone.algorithms.renderers import Renderer, TrainOnWhat


@contextmanager
def naming(row: StandardRow) -> Iterator[None]:
    """What goes wrong with a row says which one it is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{row.place}: {error}") from error


def chat_datums(
    renderer: Renderer, row: ChatRow, train_on: TrainOnWhat, max_length: int | None = None
) -> list[tinker.Datum]:
    """One, or one for each answer if the format rewrites what was said before."""
    from hone.algorithms.datums import supervised_datum

    with naming(row):
        examples = renderer.build_supervised_examples(row.messages, train_on, tools=row.tools)
        return [supervised_datum(*example, max_length=max_length) for example in examples]


def cut_rows(renderer: Renderer, rows: Sequence[ChatRow], train_on: TrainOnWhat, max_length: int) -> list[CutRow]:
    """The rows that `chat_datums` does not learn to their end."""
    from hone.algorithms.data.cut import cut_row

    found = []
    for row in rows:
        with naming(row):
            examples = renderer.build_supervised_examples(row.messages, train_on, tools=row.tools)
            found.append(cut_row(examples, row.place, max_length))
    return [row for row in found if row is not None]


def prompt_and_answer(
    renderer: Renderer, prompt: Sequence[Message], answer: Sequence[Message], row: StandardRow
) -> tuple[list[int], list[int]]:
    """Tokens up to the first that the model would have to produce, and from there to the last one."""
    from hone.algorithms.renderers import TrainOnWhat

    with naming(row):
        tools = row.tools if isinstance(row, ChatRow) else ()
        sequence, weights = renderer.build_supervised_example(
            [*prompt, *answer], TrainOnWhat.LAST_ASSISTANT_TURN, tools=tools
        )
        learned = weights.nonzero()[0]
        if not len(learned):
            raise UserError("the answer has no tokens to learn")
        tokens = sequence.to_ints()
        return tokens[: learned[0]], tokens[learned[0] : learned[-1] + 1]


def prompt_tokens(renderer: Renderer, row: TaskRow, before: Sequence[Message] = ()) -> list[int]:
    with naming(row):
        return renderer.build_generation_prompt([*before, *row.prompt]).to_ints()


def untied(row: PreferenceRow) -> PreferenceRow:
    if row.tie:
        raise UserError(f"{row.place} is a tie, and this method learns which answer is better; filter ties out")
    return row


def graded_task(row: TaskRow) -> Task:
    """As a grader wants it."""
    from hone.algorithms.graders.grade import Task
    from hone.algorithms.messages import text_of

    return Task(text_of(row.prompt[-1]), row.gold, row.facts)
