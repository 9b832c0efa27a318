"""Problems from a JSONL file. A row that is none is reported with file and line, and never dropped in silence."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.algorithms.graders.grade import Task
from hone.errors import UserError
from hone.storage import jsonl

SHOWN = 5
"""Rejected rows that an error names; the others are counted."""


@dataclass(frozen=True)
class RejectedRow:
    file: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.why}"


@dataclass(frozen=True)
class Problems:
    tasks: list[Task]
    rejected: list[RejectedRow]

    def all_or_error(self) -> list[Task]:
        """The tasks, if every row was one.

        Raises:
            UserError: some were not; it names the first of them and their number.
        """
        if self.rejected:
            more = len(self.rejected) - SHOWN
            lines = [str(row) for row in self.rejected[:SHOWN]] + ([f"... and {more} more"] if more > 0 else [])
            raise UserError(
                f"{len(self.rejected)} of {len(self.rejected) + len(self.tasks)} rows are no problems:\n  "
                + "\n  ".join(lines)
                + "\nmend them, or take `.tasks` to go on without them"
            )
        return self.tasks


def read_problems(
    path: Path,
    *,
    question: str = "{question}",
    gold: str = "{answer}",
    gold_after: str | None = None,
    longest_question: int | None = None,
) -> Problems:
    """One problem for each line that is not empty.

    `question` and `gold` are templates over the row's columns, such as `"{context}\\n\\n{question}"`; in a task without
    gold answers `gold` is empty. `gold_after` keeps what follows this text in the gold answer (`####` in GSM8K).
    `longest_question` is in characters. All columns are the task's facts.
    """
    tasks, rejected = [], []
    for line in jsonl.lines(path):
        try:
            tasks.append(_task(line.read(), question, gold, gold_after, longest_question))
        except jsonl.LineError as problem:
            rejected.append(RejectedRow(path, line.number, problem.why))
        except ValueError as problem:
            rejected.append(RejectedRow(path, line.number, str(problem)))
    if not tasks and not rejected:
        raise UserError(f"{path} holds no rows")
    return Problems(tasks, rejected)


def _task(row: dict[str, Any], question: str, gold: str, gold_after: str | None, longest: int | None) -> Task:
    asked, answer = _filled(question, row), _filled(gold, row)
    if not asked.strip():
        raise ValueError("has an empty question")
    if longest is not None and len(asked) > longest:
        raise ValueError(f"has a question of {len(asked)} characters; {longest} are allowed")
    if gold_after is not None and answer.strip():
        if gold_after not in answer:
            raise ValueError(f"has no {gold_after!r} in its gold answer")
        answer = answer.rsplit(gold_after, 1)[1].strip()
    if gold and not answer.strip():
        raise ValueError("has an empty gold answer")
    return Task(asked, answer, row)


def _filled(template: str, row: dict[str, Any]) -> str:
    """The template with its columns; a column that is missing or null is an error of the row."""
    wanted = {name for _, name, _, _ in string.Formatter().parse(template) if name}
    missing = sorted(name for name in wanted if row.get(name) is None)
    if missing:
        raise ValueError(f"has no {', '.join(missing)}; it has {', '.join(row) or 'no columns'}")
    return template.format_map(row)
