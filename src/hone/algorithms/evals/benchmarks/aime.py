"""The American Invitational Mathematics Examination; answers are integers from 0 to 999."""

from collections.abc import Mapping
from typing import Any

from hone.algorithms.evals.benchmark import Item, Source, question
from hone.algorithms.graders.grade import Task
from hone.algorithms.graders.numeric import Numeric

ASK = "{problem}\n\nThink step by step. The answer is an integer from 0 to 999; end with it in \\boxed{{}}."


def read(row: Mapping[str, Any], name: str) -> Item:
    asked = str(row["problem"])
    gold = str(row["answer"])
    if not gold.strip().isdigit():
        raise ValueError(f"the answer is {gold!r}, not an integer")
    return Item(str(row.get("id", name)), question(ASK.format(problem=asked)), Task(asked, gold))


AIME = Source(read, Numeric, ("HuggingFaceH4/aime_2024", None, "train"), max_tokens=16_384)
