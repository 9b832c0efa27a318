"""Multiple-choice questions of 57 subjects. Hendrycks et al. 2020 (arXiv 2009.03300)."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.evals.benchmarks.choices import Choice
from hone.algorithms.graders.grade import Task

ASK = "{question}\n\n{choices}\n\nThink if you need to, and end with one line: Answer: and the letter."
LETTERS = "ABCDEFGHIJ"


def read(row: Mapping[str, Any], name: str) -> Item:
    choices = [str(choice) for choice in row["choices"]]
    gold = row["answer"]
    letter = LETTERS[gold] if isinstance(gold, int) else str(gold)
    if letter not in LETTERS[: len(choices)]:
        raise ValueError(f"the answer {gold!r} is none of {len(choices)} choices")
    listed = "\n".join(f"{LETTERS[number]}. {choice}" for number, choice in enumerate(choices))
    asked, subject = str(row["question"]), str(row["subject"])
    return Item(f"{subject}/{name}", question(ASK.format(question=asked, choices=listed)), Task(asked, letter), subject)


MMLU = Source(read, Choice, ("cais/mmlu", "all", "test"), subset="subject")
